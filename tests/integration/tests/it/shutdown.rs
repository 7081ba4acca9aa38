//! Ways to end a sidecar.

use std::time::Duration;

use http::Method;
use pillion_testkit::{Answer, FakeApp, ResourceDir, Sidecar, SidecarOptions};
use rustix::process::{Pid, Signal, kill_process};

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

/// An app whose call under way takes long, and the sidecar in front of it, which was told to end.
async fn ending_with_a_call(name: &str, flag: &str) -> (FakeApp, Sidecar) {
    let app = FakeApp::start(|request, _| match request.path.as_str() {
        "/slow" => Answer::text("done").after(Duration::from_secs(30)),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let id = unique(name);
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).flag(flag).start().await.unwrap();
    let (port, path) = (sidecar.http, format!("/v1.0/invoke/{id}/method/slow"));
    tokio::spawn(async move { pillion_testkit::request(port, Method::GET, &path, &[], "").await });
    app.wait_for("/slow", 1).await;
    signal(&sidecar, Signal::TERM);
    sidecar.wait_for_log("Dapr is shutting down").await;
    (app, sidecar)
}

fn signal(sidecar: &Sidecar, name: Signal) {
    let pid = i32::try_from(sidecar.pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, name).unwrap();
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let (_app, mut sidecar) = ending_with_a_call("stop", "--dapr-graceful-shutdown-seconds=60").await;
        // A hangup meanwhile is none.
        signal(&sidecar, Signal::HUP);
        assert!(sidecar.wait_for_exit(Duration::from_millis(500)).await.is_none(), "the call is waited for");
        signal(&sidecar, second);
        let status = sidecar.wait_for_exit(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.code(), Some(1), "{}", sidecar.log());
    }
}

#[tokio::test]
async fn work_that_takes_too_long_is_cut_off_with_code_1() {
    let (_app, mut sidecar) = ending_with_a_call("stop", "--dapr-graceful-shutdown-seconds=1").await;
    let status = sidecar.wait_for_exit(Duration::from_secs(10)).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", sidecar.log());
    assert!(sidecar.log().contains("Graceful shutdown timeout exceeded, forcing shutdown"), "{}", sidecar.log());
}

#[tokio::test]
async fn the_api_ends_it_while_it_reloads() {
    for pause in [0, 5, 20, 80] {
        let mut sidecar = SidecarOptions::new(&unique("stop")).start().await.unwrap();
        sidecar.hang_up();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let reply = sidecar.send(Method::POST, "/v1.0/shutdown", &[], "").await.unwrap();
        assert_eq!(reply.status, 204);
        let status = sidecar.wait_for_exit(Duration::from_secs(20)).await.expect("the request is not lost");
        assert_eq!(status.code(), Some(0), "{}", sidecar.log());
    }
}
