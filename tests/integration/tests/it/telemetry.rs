//! Metrics and log lines at an OpenTelemetry collector. Ours: the original sends spans alone.

mod collector;

use std::time::{Duration, Instant};

use http::Method;
use pillion_testkit::{Sidecar, SidecarOptions, eventually};

use crate::fixture::unique;
use collector::Collector;

const ANY_PORT: &str = "127.0.0.1:0";

fn options(id: &str, address: &str, protocol: &str) -> SidecarOptions {
    SidecarOptions::new(id)
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))
        .environment("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .environment("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k")
}

fn asked_for(options: SidecarOptions) -> SidecarOptions {
    options
        .environment("OTEL_METRICS_EXPORTER", "otlp")
        .environment("OTEL_LOGS_EXPORTER", "otlp")
        .flag("--enable-api-logging")
}

async fn call(sidecar: &Sidecar) {
    let reply = sidecar.send(Method::GET, "/v1.0/metadata", &[], "").await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn metrics_and_log_lines_go_over_grpc_and_http() {
    for (http2, protocol) in [(true, "grpc"), (false, "http/protobuf")] {
        let collector = Collector::start(http2, ANY_PORT).await;
        let id = unique("observed");
        let sidecar = asked_for(options(&id, &collector.address, protocol))
            .environment("OTEL_METRIC_EXPORT_INTERVAL", "100")
            .environment("OTEL_BLRP_SCHEDULE_DELAY", "50")
            .flag("--enable-metrics=false")
            .start()
            .await
            .unwrap();
        call(&sidecar).await;
        let count = |wanted: u64| {
            move |point: &collector::Point| {
                point.metric == "dapr_http_server_request_count"
                    && point.labels.get("path").is_some_and(|path| path == "/v1.0/metadata")
                    && point.value == wanted
            }
        };
        let first = collector.point("the first count", count(1)).await;
        assert_eq!((first.service.as_str(), first.temporality), (id.as_str(), 2));
        for (label, value) in [("app_id", id.as_str()), ("method", "GET"), ("status", "200")] {
            assert_eq!(first.labels.get(label).map(String::as_str), Some(value), "{first:?}");
        }
        call(&sidecar).await;
        let second = collector.point("a count since the start", count(2)).await;
        assert_eq!((second.start, &second.labels), (first.start, &first.labels));
        let latency = collector.point("a latency", |point| point.metric == "dapr_http_server_latency").await;
        assert_eq!((latency.bounds.len(), latency.bounds[0], latency.buckets.len()), (34, 1.0, 35));
        assert_eq!(latency.buckets.iter().sum::<u64>(), latency.value);
        let processor = collector.point("the process", |point| point.metric == "process_cpu_seconds_total").await;
        assert_eq!((&processor.service, processor.temporality, processor.labels.len()), (&id, 2, 0));

        let method = |line: &collector::Line| line.attributes.get("method").cloned().unwrap_or_default();
        let is_call = |line: &collector::Line| method(line) == "GET /v1.0/metadata";
        let line = collector.line("the line of a call", is_call).await;
        assert_eq!((line.scope.as_str(), line.severity, &line.service), ("dapr.runtime.http-info", 9, &id));
        assert_eq!(line.body, "HTTP API Called");
        sidecar.wait_for_log("HTTP API Called").await; // it is there too
        let ready = collector.line("the line of the start", |line| line.body.starts_with("dapr initialized")).await;
        assert_eq!((ready.scope.as_str(), ready.severity), ("dapr.runtime", 9));
    }
}

#[tokio::test]
async fn what_is_left_is_sent_when_the_sidecar_stops() {
    let collector = Collector::start(true, ANY_PORT).await;
    let sidecar = asked_for(options(&unique("stopped"), &collector.address, "grpc"))
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "60000")
        .start()
        .await
        .unwrap();
    call(&sidecar).await;
    assert!(collector.points().is_empty() && collector.lines().is_empty(), "it is not time yet");
    let _ = sidecar.stop().await; // how it ends is not the question here
    let metrics = collector.points();
    assert!(metrics.iter().any(|point| point.metric == "dapr_http_server_request_count"), "{metrics:?}");
    let lines = collector.lines();
    for body in ["HTTP API Called", "Dapr is shutting down"] {
        assert!(lines.iter().any(|line| line.body == body), "{body}: {lines:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_one_warning_each_and_no_call() {
    let address = Collector::free_address();
    let sidecar = asked_for(options(&unique("alone"), &address, "http/protobuf"))
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "100")
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "50")
        .environment("OTEL_BLRP_MAX_QUEUE_SIZE", "20")
        .start()
        .await
        .unwrap();
    let begun = Instant::now();
    for _ in 0..200 {
        call(&sidecar).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "calls do not wait: {:?}", begun.elapsed());
    for what in ["metrics", "log lines"] {
        let warning = format!("{what} cannot be sent to");
        sidecar.wait_for_log(&warning).await;
    }
    let collector = Collector::start(false, &address).await;
    collector.point("what was counted meanwhile", |point| point.value >= 200).await;
    collector.line("a line", |_| true).await;
    eventually("both are well again", Duration::from_secs(20), || async {
        let log = sidecar.log();
        let lost = log.lines().find(|line| line.contains("log lines are sent to") && line.contains("again"));
        let lost = lost.filter(|_| log.contains("metrics are sent to"))?;
        assert!(!lost.contains(" 0 were lost"), "a queue of 20 cannot keep 200: {lost}");
        Some(())
    })
    .await;
    let log = sidecar.log();
    for what in ["metrics", "log lines"] {
        let warning = format!("{what} cannot be sent to");
        assert_eq!(log.matches(&warning).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn nothing_is_sent_that_nobody_asked_for() {
    let collector = Collector::start(false, ANY_PORT).await;
    let sidecar = options(&unique("quiet"), &collector.address, "http/protobuf")
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .start()
        .await
        .unwrap();
    call(&sidecar).await;
    let _ = sidecar.stop().await; // as above
    assert!(collector.points().is_empty() && collector.lines().is_empty());
}
