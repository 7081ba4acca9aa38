//! `--dapr-block-shutdown-duration`: the end waits while the app is healthy, messages do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use pillion_contract::Registry;
use pillion_core::log::Logger;
use pillion_sidecar::{Command, Environment, Sidecar};
use pillion_testkit::{Answer, FakeApp, eventually, request, reserve};

const PUBSUB: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: bus
spec:
  type: pubsub.in-memory
  version: v1
";

/// A sidecar with an in-memory broker for the app on `app_port`, and its HTTP port.
async fn start(data: &std::path::Path, app_port: u16) -> (Sidecar, u16) {
    let [http, grpc, internal, metrics] = [reserve(), reserve(), reserve(), reserve()].map(Result::unwrap);
    let port = http.port();
    let resources = data.join("resources");
    std::fs::create_dir_all(&resources).expect("a new directory");
    std::fs::write(resources.join("bus.yaml"), PUBSUB).expect("a new file");
    let arguments = [
        "--app-id=blocked".to_owned(),
        format!("--app-port={app_port}"),
        "--enable-app-health-check=true".to_owned(),
        "--app-health-probe-interval=1".to_owned(),
        "--app-health-threshold=1".to_owned(),
        format!("--resources-path={}", resources.display()),
        format!("--dapr-http-port={}", http.port()),
        format!("--dapr-grpc-port={}", grpc.port()),
        format!("--dapr-internal-grpc-port={}", internal.port()),
        format!("--metrics-port={}", metrics.port()),
        "--dapr-listen-addresses=127.0.0.1".to_owned(),
    ];
    [http, grpc, internal, metrics].into_iter().for_each(pillion_testkit::Reserved::release);
    let environment = Environment::default().with("DAPR_RUNTIME_PATH", &data.to_string_lossy());
    let Ok(Command::Run(options)) = Command::parse(&arguments, &environment) else { panic!("{arguments:?}") };
    let mut registry = Registry::default();
    pillion_builtin::register(&mut registry);
    (Sidecar::start(*options, environment, registry, Logger::silent()).await.expect("a sidecar"), port)
}

async fn publish(port: u16) {
    let reply = request(port, Method::POST, "/v1.0/publish/bus/orders", &[], "x").await.expect("the API answers");
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
}

#[tokio::test]
async fn the_end_waits_until_the_app_is_unhealthy_and_messages_stop_at_once() {
    let healthy = Arc::new(AtomicBool::new(true));
    let state = healthy.clone();
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/dapr/subscribe" => {
            Answer::json(&serde_json::json!([{"pubsubname": "bus", "topic": "orders", "route": "/orders"}]))
        }
        "/healthz" if !state.load(Ordering::Relaxed) => Answer::status(StatusCode::SERVICE_UNAVAILABLE),
        _ => Answer::default(),
    });
    let app = app.await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let (sidecar, port) = start(data.path(), app.port()).await;
    eventually("a first message", Duration::from_secs(10), || async {
        publish(port).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        (!app.requests("/orders").is_empty()).then_some(())
    })
    .await;

    let delivered = app.requests("/orders").len();
    let probes = app.requests("/healthz").len();
    let end = async {
        sidecar.block(Duration::from_secs(60)).await;
        let blocked = Instant::now();
        sidecar.stop().await.unwrap();
        assert!(blocked.elapsed() < Duration::from_secs(2), "nothing is under way");
    };
    let watch = async {
        app.wait_for("/healthz", probes + 2).await;
        publish(port).await; // the APIs still answer
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(app.requests("/orders").len(), delivered);
        healthy.store(false, Ordering::Relaxed);
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(end, watch) })
        .await
        .expect("an unhealthy app ends the wait");
}

#[tokio::test]
async fn an_app_that_never_came_does_not_block() {
    let data = tempfile::tempdir().unwrap();
    let nobody = reserve().unwrap();
    let (sidecar, _) = start(data.path(), nobody.port()).await;
    tokio::time::timeout(Duration::from_secs(5), sidecar.block(Duration::from_secs(60)))
        .await
        .expect("it counts as unhealthy");
    sidecar.stop().await.unwrap();
}
