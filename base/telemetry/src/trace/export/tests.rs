use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use pillion_core::log::{Level, LogOptions, Logger};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::otlp_messages::ExportTraceServiceRequest;
use super::{ExporterSettings, stdout, zipkin};
use crate::export::{BatchSettings, OtlpProtocol, OtlpSettings, Resource, Trust};
use crate::trace::{
    AttributeValue, Attributes, DAPR_SCOPE, SpanEvent, SpanKind, SpanRecord, SpanStatus, TraceContext, Tracer,
    TracerSettings, WORKFLOW_SCOPE,
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn logger(&self) -> Logger {
        let text = String::new;
        let options =
            LogOptions { level: Level::Info, as_json: false, app_id: text(), instance: text(), version: text() };
        Logger::new(options, Box::new(self.clone()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

fn record() -> SpanRecord {
    let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
    let mut attributes = Attributes::default();
    attributes.set("net.peer.name", &AttributeValue::Text("b".to_owned()));
    attributes.set("n", &AttributeValue::Integer(3));
    attributes.set("l", &AttributeValue::Texts(vec!["x".to_owned()]));
    SpanRecord {
        context: TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8], flags: 1 },
        parent: Some([0xef; 8]),
        trace_state: String::new(),
        name: "CallLocal/b/m".to_owned(),
        kind: SpanKind::Client,
        scope: DAPR_SCOPE,
        start,
        end: start + Duration::from_micros(250),
        attributes,
        events: vec![SpanEvent { time: start, name: Cow::Borrowed("Resumed"), attributes: Vec::new() }],
        status: SpanStatus::Error("Code(404): Not Found".to_owned()),
    }
}

fn resource() -> Resource {
    Resource { attributes: vec![("service.name".to_owned(), "a".to_owned())] }
}

fn encoded(spans: &[SpanRecord]) -> Vec<u8> {
    let (encoder, mut page) = (zipkin::ZipkinEncoder::new(&resource()), Vec::new());
    spans.iter().for_each(|span| encoder.write(&mut page, span));
    zipkin::body(page).to_vec()
}

#[test]
fn zipkin_gets_spans_as_they_are_written_or_with_escapes() {
    let mut attributes = Attributes::default();
    attributes.set("net.peer.name", &AttributeValue::Text("b".to_owned()));
    let plain = SpanRecord { attributes: attributes.clone(), status: SpanStatus::Unset, ..record() };
    attributes.set("service.name", &AttributeValue::Text("quo\"te\n".to_owned()));
    let escaped = SpanRecord { attributes, name: "a\\b".to_owned(), ..plain.clone() };
    let json: Value = serde_json::from_slice(&encoded(&[plain, escaped])).unwrap();
    let common = json!({"net.peer.name": "b", "otel.scope.name": "dapr-diagnostics", "service.name": "a"});
    assert_eq!(json[0]["tags"], common);
    assert_eq!(json[0]["remoteEndpoint"]["serviceName"], "b");
    assert_eq!(json[1]["name"], "a\\b");
    assert_eq!(json[1]["tags"]["service.name"], "quo\"te\n", "the span's own one counts");
    assert_eq!(json[1]["tags"].as_object().unwrap().len(), 3);
}

#[test]
fn zipkin_gets_its_json() {
    let json: Value = serde_json::from_slice(&encoded(&[record()])).unwrap();
    let wanted = json!([{
        "traceId": "ab".repeat(16), "id": "cd".repeat(8), "parentId": "ef".repeat(8), "kind": "CLIENT",
        "name": "CallLocal/b/m", "timestamp": 1_500_000, "duration": 250,
        "localEndpoint": {"serviceName": "a"}, "remoteEndpoint": {"serviceName": "b"},
        "annotations": [{"timestamp": 1_500_000, "value": "Resumed"}],
        "tags": {
            "service.name": "a", "net.peer.name": "b", "n": "3", "l": "[\"x\"]", "otel.scope.name": "dapr-diagnostics",
            "otel.status_code": "ERROR", "error": "Code(404): Not Found",
        },
    }]);
    assert_eq!(json, wanted);
    let root = SpanRecord {
        parent: None,
        kind: SpanKind::Internal,
        status: SpanStatus::Unset,
        events: Vec::new(),
        end: record().start,
        ..record()
    };
    let json: Value = serde_json::from_slice(&encoded(&[root])).unwrap();
    let keys = ["parentId", "kind", "annotations", "remoteEndpoint"];
    assert!(keys.iter().all(|key| json[0].get(key).is_none()), "{json}");
    assert_eq!(json[0]["duration"], 1, "Zipkin takes no spans of no duration");
}

#[test]
fn the_log_gets_a_line() {
    let (trace, span, parent) = ("ab".repeat(16), "cd".repeat(8), "ef".repeat(8));
    let wanted = format!(
        "[CallLocal/b/m] Trace: {trace} Span: {parent}/{span} Time: [1970-01-01T00:00:01.5Z ->  1970-01-01T00:00:01.50025Z] Annotations: [Resumed]"
    );
    assert_eq!(stdout::line(&record()), wanted);
}

/// A collector over HTTP/1.1 or HTTP/2 that passes on what it gets; the gRPC status is sent as trailers.
async fn collector(http2: bool, status: u16) -> (String, mpsc::UnboundedReceiver<(String, HeaderMap, Bytes)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = sender.send((parts.uri.path().to_owned(), parts.headers, body));
                    let trailers = HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        http::HeaderValue::from_static("0"),
                    )]);
                    let body = Full::new(Bytes::from_static(&[0; 5]));
                    let body = if http2 {
                        body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed()
                    } else {
                        Full::new(Bytes::new()).boxed()
                    };
                    Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
                }
            });
            let io = TokioIo::new(stream);
            if http2 {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(io, service));
            } else {
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        }
    });
    (address, receiver)
}

/// A tracer whose workers run until the token is cancelled.
fn start(
    exporter: ExporterSettings,
    log: &Logger,
    queue_max: usize,
) -> (Tracer, CancellationToken, Vec<tokio::task::JoinHandle<()>>) {
    let settings = TracerSettings {
        sampling_rate: "1".to_owned(),
        exporters: vec![exporter],
        resource: resource(),
        batch: BatchSettings { queue_max, delay: Duration::from_millis(20), ..BatchSettings::default() },
    };
    let (tracer, workers) = Tracer::new(settings, log).unwrap();
    let cancel = CancellationToken::new();
    let tasks = workers.into_iter().map(|worker| tokio::spawn(worker.run(cancel.clone()))).collect();
    (tracer, cancel, tasks)
}

fn otlp(endpoint: String, protocol: OtlpProtocol) -> ExporterSettings {
    ExporterSettings::Otlp(OtlpSettings {
        endpoint,
        protocol,
        secure: false,
        trust: Trust::System,
        headers: vec![("x-api-key".to_owned(), "k".to_owned())],
        timeout: None,
    })
}

#[tokio::test]
async fn otlp_goes_over_grpc_and_http() {
    for (protocol, path, content_type) in [
        (OtlpProtocol::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc"),
        (OtlpProtocol::Http, "/v1/traces", "application/x-protobuf"),
    ] {
        let grpc = protocol == OtlpProtocol::Grpc;
        let (address, mut received) = collector(grpc, 200).await;
        let lines = Lines::default();
        let (tracer, cancel, tasks) = start(otlp(address, protocol), &lines.logger(), 100);
        for _ in 0..2 {
            // The second one on the kept connection.
            tracer.record(record());
            tracer.record(SpanRecord { scope: WORKFLOW_SCOPE, kind: SpanKind::Server, parent: None, ..record() });
            let (got, headers, body) = received.recv().await.unwrap();
            assert_eq!(
                (got.as_str(), &headers["content-type"], &headers["x-api-key"]),
                (path, &content_type.parse().unwrap(), &"k".parse().unwrap())
            );
            let message = ExportTraceServiceRequest::decode(if grpc { body.slice(5..) } else { body }).unwrap();
            let resource = &message.resource_spans[0];
            assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
            let scopes: Vec<&str> =
                resource.scope_spans.iter().map(|spans| spans.scope.as_ref().unwrap().name.as_str()).collect();
            assert_eq!(scopes, [DAPR_SCOPE, WORKFLOW_SCOPE]);
            let span = &resource.scope_spans[0].spans[0];
            assert_eq!((span.name.as_str(), span.kind, span.flags), ("CallLocal/b/m", 3, 1));
            assert_eq!((span.trace_id.as_slice(), span.parent_span_id.as_slice()), (&[0xab; 16][..], &[0xef; 8][..]));
            assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 250_000);
            assert_eq!(span.status.as_ref().unwrap().code, 2);
            assert_eq!(resource.scope_spans[1].spans[0].parent_span_id, b"");
        }
        cancel.cancel();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(!lines.text().contains("warning"), "{}", lines.text());
    }
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end() {
    let (address, mut received) = collector(false, 202).await;
    let endpoint = format!("http://{address}/api/v2/spans");
    let settings = ExporterSettings::Zipkin { endpoint };
    let (tracer, cancel, tasks) = start(settings, &Logger::silent(), 100);
    let span = tracer.start(SpanKind::Server, None, || "late".to_owned()).span.unwrap();
    drop(span);
    cancel.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    let (path, headers, body) = received.recv().await.unwrap();
    assert_eq!((path.as_str(), &headers["content-type"]), ("/api/v2/spans", &"application/json".parse().unwrap()));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()[0]["name"], "late");
}

#[tokio::test]
async fn a_collector_that_is_down_costs_a_warning_and_a_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let lines = Lines::default();
    let (tracer, cancel, tasks) = start(otlp(address, OtlpProtocol::Grpc), &lines.logger(), 10);
    for _ in 0..100 {
        tracer.record(record());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(800)).await; // the second attempt
    cancel.cancel();
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(4), task).await.unwrap().unwrap();
    }
    let text = lines.text();
    assert_eq!(text.matches("spans cannot be sent to").count(), 1, "{text}");
}

#[tokio::test]
async fn a_refused_batch_is_not_sent_again() {
    let (address, mut received) = collector(false, 400).await;
    let lines = Lines::default();
    let (tracer, _cancel, _tasks) = start(otlp(address, OtlpProtocol::Http), &lines.logger(), 10);
    tracer.record(record());
    received.recv().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(received.try_recv().is_err());
    assert!(lines.text().contains("it answered with status 400"), "{}", lines.text());
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    for (settings, text) in [
        (ExporterSettings::Zipkin { endpoint: "zipkin:9411".to_owned() }, "invalid zipkin endpointAddress"),
        (otlp("a b".to_owned(), OtlpProtocol::Grpc), "invalid otel endpointAddress"),
    ] {
        let batch = BatchSettings::default();
        let refused = super::ExportWorker::new(settings, &Arc::new(resource()), batch, &Logger::silent());
        assert!(refused.err().unwrap().contains(text));
    }
}
