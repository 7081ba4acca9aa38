//! Ways to end a sidecar.

use std::time::Duration;

use http::Method;
use pillion_testkit::{Answer, FakeApp, ResourceDir, SidecarOptions};

use crate::fixture::{PUBSUB, STATE, unique};

#[tokio::test]
async fn an_interrupt_ends_with_code_0() {
    let dir = ResourceDir::new().unwrap().with("all.yaml", &format!("{STATE}---{PUBSUB}")).unwrap();
    let sidecar = SidecarOptions::new(&unique("stop")).resources(dir.path()).start().await.unwrap();
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupt_while_the_application_is_awaited_ends_with_code_0() {
    let port = pillion_testkit::reserve().unwrap();
    let number = port.port();
    port.release();
    let sidecar = SidecarOptions::new(&unique("stop")).app_port(number).spawn().unwrap();
    sidecar.wait_for_log(&format!("waiting on port {number}")).await;
    sidecar.stop().await.unwrap();
}

#[tokio::test]
async fn the_api_ends_it_gracefully() {
    let mut sidecar = SidecarOptions::new(&unique("stop")).start().await.unwrap();
    let reply = sidecar.send(Method::POST, "/v1.0/shutdown", &[], "").await.unwrap();
    assert_eq!(reply.status, 204);
    let status = sidecar.wait_for_exit(Duration::from_secs(20)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", sidecar.log());
}

#[tokio::test]
async fn the_api_ends_it_by_force_with_code_1() {
    let mut sidecar = SidecarOptions::new(&unique("stop")).start().await.unwrap();
    let reply = sidecar.send(Method::POST, "/v1.0/shutdown", &[("dapr-force-shutdown", "true")], "").await.unwrap();
    assert_eq!(reply.status, 204);
    let status = sidecar.wait_for_exit(Duration::from_secs(10)).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", sidecar.log());
}

#[tokio::test]
async fn a_call_in_flight_is_finished_first() {
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/slow" => Answer::text("done").after(Duration::from_secs(2)),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let id = unique("stop");
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).start().await.unwrap();
    let (port, path) = (sidecar.http, format!("/v1.0/invoke/{id}/method/slow"));
    let call = tokio::spawn(async move { pillion_testkit::request(port, Method::GET, &path, &[], "").await });
    app.wait_for("/slow", 1).await;
    sidecar.stop().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().text(), "done");
}
