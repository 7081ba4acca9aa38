//! Sidecar and application may start in any order.

use http::Method;
use pillion_testkit::{Answer, FakeApp, ResourceDir, SidecarOptions, request, reserve};

use crate::fixture::{STATE, unique};

#[tokio::test]
async fn the_application_may_come_later() {
    let port = reserve().unwrap();
    let number = port.port();
    let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let id = unique("late");
    port.release();
    let mut sidecar = SidecarOptions::new(&id).app_port(number).resources(dir.path()).spawn().unwrap();
    sidecar.wait_for_log(&format!("waiting on port {number}")).await;
    let early = request(sidecar.http, Method::GET, "/v1.0/healthz", &[], "").await;
    assert!(early.is_err() || early.unwrap().status == 500);
    let _app = FakeApp::listen(number, |_, _| Answer::text("here")).await.unwrap();
    sidecar.wait_until_ready().await;
    assert_eq!(sidecar.get(&format!("/v1.0/invoke/{id}/method/x")).await.unwrap().text(), "here");
}

#[tokio::test]
async fn the_application_is_asked_for_its_configuration_once() {
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let id = unique("late");
    let _sidecar = SidecarOptions::new(&id).app_port(app.port()).start().await.unwrap();
    let asked = app.wait_for("/dapr/config", 1).await;
    assert_eq!((asked.len(), asked[0].header("dapr-app-id")), (1, id.as_str()));
}

#[tokio::test]
async fn the_token_of_the_application_is_sent_along() {
    let app = FakeApp::start(|_, _| Answer::default()).await.unwrap();
    let id = unique("token");
    let sidecar = SidecarOptions::new(&id)
        .app_port(app.port())
        .environment("APP_API_TOKEN", "secret-word")
        .start()
        .await
        .unwrap();
    sidecar.get(&format!("/v1.0/invoke/{id}/method/x")).await.unwrap();
    assert_eq!(app.requests("/x")[0].header("dapr-api-token"), "secret-word");
}
