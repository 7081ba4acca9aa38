//! Retries, timeouts and circuit breakers on the way to an application.

use std::time::{Duration, Instant};

use http::StatusCode;
use pillion_testkit::{Answer, FakeApp, ResourceDir, SidecarOptions};

use crate::fixture::unique;

/// A Resiliency resource whose policies hold for `app_id`.
fn policies(app_id: &str, target: &str) -> String {
    format!(
        "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {{name: it}}
spec:
  policies:
    timeouts: {{quick: 300ms}}
    retries:
      three: {{policy: constant, duration: 10ms, maxRetries: 3}}
    circuitBreakers:
      touchy: {{maxRequests: 1, timeout: 60s, trip: consecutiveFailures >= 2}}
  targets:
    apps:
      {app_id}: {{{target}}}
"
    )
}

#[tokio::test]
async fn a_failing_call_is_retried() {
    let app = FakeApp::start(|_, before| match before {
        0..2 => Answer::status(StatusCode::SERVICE_UNAVAILABLE),
        _ => Answer::text("at last"),
    });
    let app = app.await.unwrap();
    let id = unique("retry");
    let dir = ResourceDir::new().unwrap().with("r.yaml", &policies(&id, "retry: three")).unwrap();
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let reply = sidecar.post(&format!("/v1.0/invoke/{id}/method/x"), r#"{"same":"body"}"#).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "at last".to_owned()));
    let tries = app.requests("/x");
    assert_eq!(tries.len(), 3);
    assert!(tries.iter().all(|request| request.body == r#"{"same":"body"}"#), "{tries:?}");
}

#[tokio::test]
async fn retries_end_with_the_last_answer() {
    let app = FakeApp::start(|_, _| Answer::text("no").with_status(StatusCode::SERVICE_UNAVAILABLE)).await.unwrap();
    let id = unique("retry");
    let dir = ResourceDir::new().unwrap().with("r.yaml", &policies(&id, "retry: three")).unwrap();
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let reply = sidecar.get(&format!("/v1.0/invoke/{id}/method/x")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text()), (503, "no".to_owned()));
    assert_eq!(app.requests("/x").len(), 4);
}

#[tokio::test]
async fn a_slow_call_is_given_up() {
    let app = FakeApp::start(|_, _| Answer::text("late").after(Duration::from_secs(5))).await.unwrap();
    let id = unique("timeout");
    let dir = ResourceDir::new().unwrap().with("r.yaml", &policies(&id, "timeout: quick")).unwrap();
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let start = Instant::now();
    let reply = sidecar.get(&format!("/v1.0/invoke/{id}/method/x")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.error_code()), (500, "ERR_DIRECT_INVOKE".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_breaker_that_tripped_lets_nothing_through() {
    let app = FakeApp::start(|_, _| Answer::status(StatusCode::INTERNAL_SERVER_ERROR)).await.unwrap();
    let id = unique("breaker");
    let dir = ResourceDir::new().unwrap().with("r.yaml", &policies(&id, "circuitBreaker: touchy")).unwrap();
    let sidecar = SidecarOptions::new(&id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let path = format!("/v1.0/invoke/{id}/method/x");
    for _ in 0..2 {
        assert_eq!(sidecar.get(&path).await.unwrap().status, 500);
    }
    let refused = sidecar.get(&path).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.error_code()), (500, "ERR_DIRECT_INVOKE".to_owned()));
    assert!(refused.text().contains("circuit breaker is open"), "{}", refused.text());
    assert_eq!(app.requests("/x").len(), 2);
}
