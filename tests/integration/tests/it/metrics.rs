//! Prometheus metrics: names, labels and values as dashboards and alerts know them.

use std::time::Duration;

use http::{Method, StatusCode};
use pillion_testkit::{Answer, FakeApp, ResourceDir, Sidecar, SidecarOptions, eventually, request};

use crate::fixture::{PUBSUB, STATE, unique};

/// Everything the sidecar tells.
async fn scrape(sidecar: &Sidecar) -> String {
    let reply = request(sidecar.metrics, Method::GET, "/metrics", &[], "").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"), "{}", reply.header("content-type"));
    reply.text()
}

/// Waits until the line `series value` is told; `series` is written without the label `app_id`, which is added.
async fn told(sidecar: &Sidecar, series: &str, value: &str) {
    let (name, labels) = series.split_once('{').unwrap();
    let own = format!("app_id=\"{}\"", sidecar.app_id());
    let matches = |line: &str| {
        let Some((told, number)) = line.rsplit_once(' ') else { return false };
        let Some((told_name, told_labels)) = told.split_once('{') else { return false };
        told_name == name && number == value && sorted(told_labels) == sorted(&format!("{own},{labels}"))
    };
    eventually(&format!("{series} {value}"), Duration::from_secs(10), || async {
        scrape(sidecar).await.lines().any(matches).then_some(())
    })
    .await;
}

fn sorted(labels: &str) -> Vec<&str> {
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    labels.sort_unstable();
    labels
}

/// A sidecar with an app, a state store and this `spec.metrics`.
async fn with_settings(settings: &str) -> (ResourceDir, FakeApp, Sidecar) {
    let app = FakeApp::start(|_, _| Answer::text("ok")).await.unwrap();
    let configuration = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{metrics: {settings}}}\n"
    );
    let dir = ResourceDir::new().unwrap().with("state.yaml", STATE).unwrap();
    let dir = dir.with("pubsub.yaml", PUBSUB).unwrap();
    let settings = ResourceDir::new().unwrap().with("c.yaml", &configuration).unwrap();
    let sidecar = SidecarOptions::new(&unique("metrics"))
        .app_port(app.port())
        .resources(dir.path())
        .configuration(&settings.path().join("c.yaml"))
        .start()
        .await
        .unwrap();
    (dir, app, sidecar)
}

#[tokio::test]
async fn calls_are_counted_by_path_in_high_cardinality() {
    let (_dir, _app, sidecar) = with_settings("{enabled: true}").await;
    let own = format!("/v1.0/invoke/{}/method/orders/7", sidecar.app_id());
    assert_eq!(sidecar.get(&own).await.unwrap().status, 200);
    assert_eq!(sidecar.post("/v1.0/state/mystore", r#"[{"key":"a","value":1}]"#).await.unwrap().status, 204);
    assert_eq!(sidecar.get("/v1.0/state/mystore/a").await.unwrap().status, 200);
    for (labels, value) in [
        (format!("method=\"GET\",path=\"{own}\",status=\"200\""), "1"),
        ("method=\"POST\",path=\"/v1.0/state/mystore\",status=\"204\"".to_owned(), "1"),
        ("method=\"GET\",path=\"/v1.0/state/mystore\",status=\"200\"".to_owned(), "1"),
    ] {
        for name in ["request_count", "response_count", "latency_count"] {
            told(&sidecar, &format!("dapr_http_server_{name}{{{labels}}}"), value).await;
        }
    }
    for (series, value) in [
        ("dapr_http_client_completed_count{method=\"GET\",path=\"/orders/7\",status=\"200\"}", "1"),
        ("dapr_http_client_completed_count{method=\"GET\",path=\"/dapr/config\",status=\"200\"}", "1"),
        ("dapr_component_state_count{component=\"mystore\",namespace=\"\",operation=\"set\",success=\"true\"}", "1"),
        ("dapr_component_state_count{component=\"mystore\",namespace=\"\",operation=\"get\",success=\"true\"}", "1"),
        ("dapr_runtime_component_init_total{component=\"state.in-memory\"}", "1"),
        (
            "dapr_http_server_latency_bucket{method=\"POST\",path=\"/v1.0/state/mystore\",status=\"204\",le=\"100000\"}",
            "1",
        ),
    ] {
        told(&sidecar, series, value).await;
    }
    let text = scrape(&sidecar).await;
    assert!(text.contains("# TYPE dapr_http_server_latency histogram\n"), "{text}");
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
    assert!(!text.contains("dapr_error_code_total"), "not asked for: {text}");
}

#[tokio::test]
async fn low_cardinality_has_no_paths_but_those_it_is_given() {
    let settings = "{http: {increasedCardinality: false, pathMatching: ['/orders/{id}'], excludeVerbs: true}, \
                    latencyDistributionBuckets: [5, 50], recordErrorCodes: true}";
    let (_dir, _app, sidecar) = with_settings(settings).await;
    let own = sidecar.app_id().to_owned();
    for path in ["orders/1", "orders/2", "items/1"] {
        assert_eq!(sidecar.get(&format!("/v1.0/invoke/{own}/method/{path}")).await.unwrap().status, 200);
    }
    assert_eq!(sidecar.get("/v1.0/state/other/a").await.unwrap().status, 400);
    for (series, value) in [
        (
            "dapr_http_server_request_count{method=\"\",path=\"/v1.0/invoke/{app_id}/method/orders/{id}\",status=\"200\"}",
            "2",
        ),
        ("dapr_http_server_request_count{method=\"\",path=\"\",status=\"200\"}", "1"),
        ("dapr_http_client_completed_count{method=\"\",path=\"/dapr/config\",status=\"200\"}", "1"),
        ("dapr_http_server_latency_bucket{method=\"\",path=\"\",status=\"200\",le=\"50\"}", "1"),
        ("dapr_error_code_total{category=\"state\",error_code=\"ERR_STATE_STORE_NOT_FOUND\"}", "1"),
    ] {
        told(&sidecar, series, value).await;
    }
    let text = scrape(&sidecar).await;
    assert!(!text.contains("dapr_http_server_response_count"), "{text}");
    assert!(!text.contains("le=\"10\""), "{text}");
}

#[tokio::test]
async fn publishing_and_delivery_are_counted() {
    let subscription = r#"[{"pubsubname":"mypub","topic":"orders","route":"/orders"},
        {"pubsubname":"mypub","topic":"lost","route":"/nobody"}]"#;
    let app = FakeApp::start(move |request, _| match request.path.as_str() {
        "/dapr/subscribe" => Answer::text(subscription),
        "/orders" => Answer::text(""),
        _ => Answer::status(StatusCode::NOT_FOUND),
    })
    .await
    .unwrap();
    let dir = ResourceDir::new().unwrap().with("pubsub.yaml", PUBSUB).unwrap();
    let sidecar =
        SidecarOptions::new(&unique("metrics")).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    assert_eq!(sidecar.post("/v1.0/publish/mypub/orders", "{}").await.unwrap().status, 204);
    app.wait_for("/orders", 1).await;
    let labels = "component=\"mypub\",namespace=\"\"";
    told(&sidecar, &format!("dapr_component_pubsub_egress_count{{{labels},success=\"true\",topic=\"orders\"}}"), "1")
        .await;
    let delivered = format!("{labels},process_status=\"success\",status=\"success\",topic=\"orders\"");
    told(&sidecar, &format!("dapr_component_pubsub_ingress_count{{{delivered}}}"), "1").await;
    told(&sidecar, &format!("dapr_component_pubsub_ingress_latencies_count{{{delivered}}}"), "1").await;
    assert_eq!(sidecar.post("/v1.0/publish/mypub/lost", "{}").await.unwrap().status, 204);
    let dropped = format!("{labels},process_status=\"drop\",status=\"drop\",topic=\"lost\"");
    told(&sidecar, &format!("dapr_component_pubsub_ingress_count{{{dropped}}}"), "1").await;
}

#[tokio::test]
async fn calls_between_apps_are_counted_on_both_sides() {
    let app = FakeApp::start(|_, _| Answer::status(StatusCode::ACCEPTED)).await.unwrap();
    let callee = SidecarOptions::new(&unique("callee")).app_port(app.port()).start().await.unwrap();
    let caller = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let path = format!("/v1.0/invoke/{}/method/orders", callee.app_id());
    assert_eq!(caller.get(&path).await.unwrap().status, 202);
    let (from, to) = (caller.app_id(), callee.app_id());
    let prefix = "dapr_runtime_service_invocation";
    told(&caller, &format!("{prefix}_req_sent_total{{dst_app_id=\"{to}\",type=\"unary\"}}"), "1").await;
    told(&caller, &format!("{prefix}_res_recv_total{{src_app_id=\"{to}\",status=\"202\",type=\"unary\"}}"), "1").await;
    told(&callee, &format!("{prefix}_req_recv_total{{src_app_id=\"{from}\"}}"), "1").await;
    told(&callee, &format!("{prefix}_res_sent_total{{dst_app_id=\"{from}\",status=\"202\"}}"), "1").await;
}

#[tokio::test]
async fn policies_are_counted() {
    let resiliency = "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: rules}
spec:
  policies:
    retries: {twice: {policy: constant, duration: 1ms, maxRetries: 2}}
    circuitBreakers: {fuse: {maxRequests: 1, timeout: 30s, trip: consecutiveFailures > 1}}
  targets: {apps: {APP: {retry: twice, circuitBreaker: fuse}}}
";
    let app = FakeApp::start(|_, _| Answer::status(StatusCode::SERVICE_UNAVAILABLE)).await.unwrap();
    let app_id = unique("metrics");
    let dir = ResourceDir::new().unwrap().with("r.yaml", &resiliency.replace("APP", &app_id)).unwrap();
    let sidecar = SidecarOptions::new(&app_id).app_port(app.port()).resources(dir.path()).start().await.unwrap();
    let path = format!("/v1.0/invoke/{app_id}/method/orders");
    assert!(!sidecar.get(&path).await.unwrap().status.is_success());
    let text = scrape(&sidecar).await;
    assert!(text.contains("dapr_resiliency_loaded{"), "{text}");
    let line = |metric: &str, policy: &str, status: &str, value: &str| {
        let found = text.lines().any(|line| {
            line.starts_with(&format!("{metric}{{"))
                && line.contains(&format!("policy=\"{policy}\""))
                && line.contains(&format!("status=\"{status}\""))
                && line.contains(&format!("target=\"app_{app_id}\""))
                && line.contains("flow_direction=\"outbound\"")
                && line.ends_with(&format!(" {value}"))
        });
        assert!(found, "{metric} {policy} {status} {value} in:\n{text}");
    };
    line("dapr_resiliency_count", "retry", "", "1");
    line("dapr_resiliency_count", "circuitbreaker", "closed", "1");
    line("dapr_resiliency_activations_total", "retry", "", "1");
    line("dapr_resiliency_activations_total", "circuitbreaker", "open", "1");
}

#[tokio::test]
async fn nothing_is_recorded_when_the_configuration_says_so() {
    let (_dir, _app, sidecar) = with_settings("{enabled: false}").await;
    sidecar.get("/v1.0/state/mystore/a").await.unwrap();
    let text = scrape(&sidecar).await;
    assert!(!text.contains("dapr_"), "{text}");
}
