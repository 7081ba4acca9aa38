//! A fake OpenTelemetry collector for metrics and log lines, over gRPC and over HTTP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pillion_testkit::eventually;
use prost::Message as _;
use tokio::net::TcpListener;

/// One data point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) metric: String,
    pub(crate) service: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// A sum's value or a histogram's count.
    pub(crate) value: u64,
    pub(crate) bounds: Vec<f64>,
    pub(crate) buckets: Vec<u64>,
    pub(crate) start: u64,
    /// 2 = cumulative.
    pub(crate) temporality: i32,
}

/// One log line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) service: String,
    pub(crate) scope: String,
    pub(crate) severity: i32,
    pub(crate) body: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) trace: Vec<u8>,
}

type Requests = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// Keeps what it gets.
pub(crate) struct Collector {
    pub(crate) address: String,
    requests: Requests,
    http2: bool,
}

impl Collector {
    /// One that speaks gRPC, or HTTP/1.1; at an address of its own or at `address`.
    pub(crate) async fn start(http2: bool, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Requests::default();
        let kept = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| answer(request, kept.clone()));
                let io = TokioIo::new(stream);
                if http2 {
                    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
                } else {
                    tokio::spawn(http1::Builder::new().serve_connection(io, service));
                }
            }
        });
        Self { address, requests, http2 }
    }

    /// An address where nobody listens for now.
    pub(crate) fn free_address() -> String {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    /// Bodies that came to one of the paths, with a header of theirs.
    fn bodies(&self, signal: &str) -> Vec<Bytes> {
        let path = match (self.http2, signal) {
            (false, _) => format!("/v1/{signal}"),
            (true, "metrics") => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned(),
            (true, _) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned(),
        };
        let requests = self.requests.lock().unwrap();
        let fitting = requests.iter().filter(|(found, headers, _)| {
            let kind = if self.http2 { "application/grpc" } else { "application/x-protobuf" };
            *found == path && headers["content-type"] == kind && headers["x-key"] == "k"
        });
        fitting.map(|(_, _, body)| if self.http2 { body.slice(5..) } else { body.clone() }).collect()
    }

    /// All data points that came, the oldest first.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.bodies("metrics").into_iter().flat_map(|body| points(&Export::decode(body).unwrap())).collect()
    }

    /// All log lines that came.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.bodies("logs").into_iter().flat_map(|body| lines(&ExportLogs::decode(body).unwrap())).collect()
    }

    /// Waits for a data point.
    pub(crate) async fn point(&self, what: &str, wanted: impl Fn(&Point) -> bool) -> Point {
        eventually(what, Duration::from_secs(20), || async { self.points().into_iter().find(&wanted) }).await
    }

    /// Waits for a log line.
    pub(crate) async fn line(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        eventually(what, Duration::from_secs(20), || async { self.lines().into_iter().find(&wanted) }).await
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Requests,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let grpc = request.version() == http::Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    kept.lock().unwrap().push((parts.uri.path().to_owned(), parts.headers, body));
    if !grpc {
        return Ok(Response::new(Full::new(Bytes::new()).boxed()));
    }
    let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([status]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = pair.value.clone().unwrap_or_default();
        let number = value.integer.map(|number| number.to_string()).unwrap_or_default();
        (pair.key.clone(), value.text.unwrap_or(number))
    };
    attributes.iter().map(text).collect()
}

fn service(resource: Option<&Resource>) -> String {
    resource.and_then(|resource| texts(&resource.attributes).remove("service.name")).unwrap_or_default()
}

fn points(export: &Export) -> Vec<Point> {
    let mut found = Vec::new();
    for resource in &export.resources {
        let service = service(resource.resource.as_ref());
        for metric in resource.scopes.iter().flat_map(|scope| &scope.metrics) {
            let point = |attributes: &[KeyValue], start: u64, value: u64, temporality: i32| Point {
                metric: metric.name.clone(),
                service: service.clone(),
                labels: texts(attributes),
                value,
                bounds: Vec::new(),
                buckets: Vec::new(),
                start,
                temporality,
            };
            let sum = metric.sum.iter().flat_map(|sum| {
                sum.points.iter().map(|found| {
                    let value = u64::try_from(found.as_int).unwrap();
                    point(&found.attributes, found.start, value, sum.temporality)
                })
            });
            found.extend(sum);
            let histogram = metric.histogram.iter().flat_map(|histogram| {
                histogram.points.iter().map(|found| Point {
                    bounds: found.bounds.clone(),
                    buckets: found.buckets.clone(),
                    ..point(&found.attributes, found.start, found.count, histogram.temporality)
                })
            });
            found.extend(histogram);
        }
    }
    found
}

fn lines(export: &ExportLogs) -> Vec<Line> {
    let mut found = Vec::new();
    for resource in &export.resources {
        for scope in &resource.scopes {
            found.extend(scope.records.iter().map(|record| Line {
                service: service(resource.resource.as_ref()),
                scope: scope.scope.clone().unwrap_or_default().name,
                severity: record.severity,
                body: record.body.clone().unwrap_or_default().text.unwrap_or_default(),
                attributes: texts(&record.attributes),
                trace: record.trace_id.clone(),
            }));
        }
    }
    found
}

// The messages, written down a second time so that the tests do not believe what they test.

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "7")]
    sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(sfixed64, tag = "6")]
    as_int: i64,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(fixed64, repeated, tag = "6")]
    buckets: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    bounds: Vec<f64>,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportLogs {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogRecord {
    #[prost(int32, tag = "2")]
    severity: i32,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    integer: Option<i64>,
}
