//! A fake OTLP collector over gRPC: keeps the spans it gets, with the headers they came with.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::eventually;

/// A span as a collector sees it; ids in hex, empty where there is none.
#[derive(Clone, Debug)]
pub struct CollectedSpan {
    /// Name.
    pub name: String,
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub id: String,
    /// Id of the span above.
    pub parent: String,
    /// Kind, by the number of the protocol: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Attributes that are texts.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the sender.
    pub resource: BTreeMap<String, String>,
    /// What the status says of a failure; `None` when it says nothing.
    pub failure: Option<String>,
    /// Instrumentation scope.
    pub scope: String,
    /// Headers of the export.
    pub headers: HeaderMap,
}

/// A running collector; it stops when dropped.
pub struct OtlpCollector {
    port: u16,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    server: JoinHandle<()>,
}

impl OtlpCollector {
    /// Starts a collector.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| answer(request, kept.clone()));
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { port, spans, server })
    }

    /// Where to send spans, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What has come so far.
    #[must_use]
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first span of a name and service.
    pub async fn wait_for(&self, service: &str, name: &str) -> CollectedSpan {
        let wanted = |span: &CollectedSpan| {
            span.name == name && span.resource.get("service.name").is_some_and(|found| found == service)
        };
        let what = format!("the span {name} of {service}");
        eventually(&what, Duration::from_secs(10), || async { self.spans().into_iter().find(wanted) }).await
    }
}

impl Drop for OtlpCollector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<CollectedSpan>>>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = ExportRequest::decode(body.get(5..).unwrap_or_default()).unwrap_or_default();
    let known = parts.uri.path() == "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    if known {
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend(collected(message, &parts.headers));
    }
    let code = HeaderValue::from_static(if known { "0" } else { "12" });
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code)]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn collected(message: ExportRequest, headers: &HeaderMap) -> Vec<CollectedSpan> {
    let mut found = Vec::new();
    for resource in message.resource_spans {
        let about = texts(resource.resource.unwrap_or_default().attributes);
        for scope in resource.scope_spans {
            let name = scope.scope.unwrap_or_default().name;
            found.extend(scope.spans.into_iter().map(|span| CollectedSpan {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                attributes: texts(span.attributes),
                resource: about.clone(),
                failure: span.status.filter(|status| status.code == 2).map(|status| status.message),
                scope: name.clone(),
                headers: headers.clone(),
            }));
        }
    }
    found
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default().text)).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
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
    #[prost(string, tag = "1")]
    text: String,
}
