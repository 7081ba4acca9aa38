//! Probes of the application's health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use pillion_testkit::{Answer, FakeApp, SidecarOptions, eventually};

use crate::fixture::unique;

#[tokio::test]
async fn an_unhealthy_application_gets_no_calls() {
    let healthy = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&healthy);
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/ready" if !seen.load(Ordering::Relaxed) => Answer::status(StatusCode::SERVICE_UNAVAILABLE),
        _ => Answer::text("here"),
    });
    let app = app.await.unwrap();
    let id = unique("health");
    let options = SidecarOptions::new(&id).app_port(app.port()).flag("--enable-app-health-check=true");
    let options = options.flag("--app-health-check-path=/ready").flag("--app-health-probe-interval=1");
    let sidecar =
        options.flag("--app-health-probe-timeout=500").flag("--app-health-threshold=1").start().await.unwrap();
    let path = format!("/v1.0/invoke/{id}/method/x");
    let answers = |status: u16| {
        let (sidecar, path) = (&sidecar, &path);
        async move {
            let what = format!("calls to be answered with {status}");
            eventually(&what, Duration::from_secs(10), || async {
                let reply = sidecar.get(path).await.unwrap();
                (reply.status.as_u16() == status).then_some(reply)
            })
            .await
        }
    };
    answers(200).await;
    healthy.store(false, Ordering::Relaxed);
    let refused = answers(500).await;
    assert!(refused.text().contains("app is not in a healthy state"), "{}", refused.text());
    healthy.store(true, Ordering::Relaxed);
    answers(200).await;
}
