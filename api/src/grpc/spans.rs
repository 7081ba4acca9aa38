//! The span of a call on the gRPC API, its trace context and baggage.
//!
//! *Source:* spec metrics.md §5. *Neighbours:* `front` starts a [`CallTrace`] behind the token and finishes it with the answer;
//! the methods of `dapr` tell what a call is about with [`describe`]. *Invariant:* a call that is not sampled gets a context and
//! nothing more; the token of the API is never an attribute.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use pillion_proto::runtime::v1 as pb;
use pillion_runtime::message::{CALLEE_APP_ID, DAPR_API_TOKEN, DAPR_APP_ID};
use pillion_telemetry::trace::{
    BAGGAGE, GRPC_TRACE_BIN, NO_CONTEXT, Span, SpanKind, Started, TRACE_PARENT, TraceContext, Tracer, check_baggage,
    context_of_headers,
};
use tonic::Status;
use tonic::body::Body;

const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";

/// The span of a call, for those who know more about it.
#[derive(Clone)]
struct SpanHandle(Arc<Mutex<Span>>);

/// What an answer gets of the call's trace.
#[derive(Default)]
pub(super) struct CallTrace {
    span: Option<SpanHandle>,
    binary: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
}

impl CallTrace {
    /// Starts the span of a call and puts its context where the handlers, or the app a foreign call is for, find it.
    ///
    /// # Errors
    /// Baggage that is none.
    pub(super) fn start<B>(tracer: &Tracer, app_id: &str, request: &mut Request<B>) -> Result<Self, Status> {
        if tracer.is_off() {
            return Ok(Self::default());
        }
        let baggage = baggage(request.headers())?;
        let path = request.uri().path();
        let own = path.starts_with("/dapr.proto.runtime.") || path.starts_with("/TaskHubSidecarService/");
        let answers_here = path != INVOKE_SERVICE && own;
        let parent = context_of_headers(request.headers());
        let kind = kind(path, own, app_id, request.headers());
        let Started { context, span } = tracer.start(kind, parent, || path.to_owned());
        let span = span.map(|mut span| {
            if own {
                span.set("dapr.protocol", "grpc");
                span.set("dapr.api", path);
            }
            describe_metadata(&mut span, request.headers());
            SpanHandle(Arc::new(Mutex::new(span)))
        });
        let is_invoke = path == INVOKE_SERVICE;
        put_context(request.headers_mut(), context, own, is_invoke);
        if let Some(span) = &span {
            request.extensions_mut().insert(span.clone());
        }
        let binary = context.filter(|_| answers_here).map(TraceContext::to_binary_value);
        Ok(Self { span, binary, baggage })
    }

    /// Adds the context to the answer; the span ends with it.
    pub(super) fn finish(self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        if let Some(binary) = self.binary {
            headers.insert(GRPC_TRACE_BIN, binary);
        }
        if let Some(baggage) = self.baggage {
            headers.insert(BAGGAGE, baggage);
        }
        let Some(span) = self.span else { return response };
        note_status(&span, headers);
        response.map(|inner| Body::new(SpanBody { inner, span: Some(span) }))
    }
}

/// Calls of the own services are the caller's; a foreign call is the server's part when it is for the own app.
fn kind(path: &str, own: bool, app_id: &str, headers: &HeaderMap) -> SpanKind {
    let for_own_app = || headers.get(CALLEE_APP_ID).or_else(|| headers.get(DAPR_APP_ID)).is_some_and(|id| id == app_id);
    if path.starts_with("/TaskHubSidecarService/") || (!own && for_own_app()) {
        SpanKind::Server
    } else {
        SpanKind::Client
    }
}

/// Handlers read the text form; an app gets both.
fn put_context(headers: &mut HeaderMap, context: Option<TraceContext>, own: bool, is_invoke: bool) {
    match context {
        Some(context) => {
            headers.insert(TRACE_PARENT, context.to_value());
            if own {
                headers.remove(GRPC_TRACE_BIN);
            } else {
                headers.insert(GRPC_TRACE_BIN, context.to_binary_value());
            }
        }
        None if is_invoke => {
            headers.insert(TRACE_PARENT, NO_CONTEXT);
        }
        None => {}
    }
}

fn baggage(headers: &HeaderMap) -> Result<Option<HeaderValue>, Status> {
    let values: Vec<&[u8]> = headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes).collect();
    if values.is_empty() {
        return Ok(None);
    }
    let joined = values.join(&b","[..]);
    check_baggage(&joined).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(HeaderValue::from_bytes(&joined).ok())
}

fn describe_metadata(span: &mut Span, headers: &HeaderMap) {
    for (name, value) in headers {
        let name = name.as_str();
        if name.starts_with("dapr-") && !name.ends_with("-bin") && name != DAPR_API_TOKEN {
            span.set(name, String::from_utf8_lossy(value.as_bytes()));
        }
    }
}

fn note_status(span: &SpanHandle, headers: &HeaderMap) {
    let Some(code) = headers.get(Status::GRPC_STATUS) else { return };
    if code != "0" {
        let message = headers.get(Status::GRPC_MESSAGE).map(HeaderValue::as_bytes).unwrap_or_default();
        let message = percent_encoding::percent_decode(message).decode_utf8_lossy();
        span.0.lock().fail(message);
    }
}

/// The body of an answer; its trailers say how the call went.
struct SpanBody {
    inner: Body,
    span: Option<SpanHandle>,
}

impl HttpBody for SpanBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(span) = self.span.take()
                {
                    note_status(&span, trailers);
                }
            }
            Some(Err(status)) => {
                if let Some(span) = self.span.take() {
                    span.0.lock().fail(status.message());
                }
            }
            None => self.span = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A message that tells what its call is about.
pub(super) trait Described {
    /// Sets the attributes, and the name where it is not that of the method; `method` is the whole one.
    fn describe(&self, method: &str, span: &mut Span);
}

/// Tells the span of a call, if there is one, what the call is about.
pub(super) fn describe<T: Described>(request: &tonic::Request<T>, method: &'static str) {
    if let Some(span) = request.extensions().get::<SpanHandle>() {
        let method = format!("/dapr.proto.runtime.v1.Dapr/{method}");
        request.get_ref().describe(&method, &mut span.0.lock());
    }
}

fn describe_store(span: &mut Span, system: &'static str, name: &str, method: &str) {
    span.set("rpc.service", "Dapr");
    span.set("db.system", system);
    span.set("db.connection_string", system);
    span.set("db.statement", method);
    span.set("db.name", name);
}

fn describe_topic(span: &mut Span, topic: &str) {
    span.set("rpc.service", "Dapr");
    span.set("messaging.system", "pubsub");
    span.set("messaging.destination.name", topic);
}

impl Described for pb::InvokeServiceRequest {
    fn describe(&self, _method: &str, span: &mut Span) {
        let method = self.message.as_ref().map_or("", |message| message.method.as_str());
        span.set("rpc.service", "ServiceInvocation");
        span.set("net.peer.name", self.id.as_str());
        span.rename(["CallLocal/", &self.id, "/", method].concat());
    }
}

impl Described for pb::PublishEventRequest {
    fn describe(&self, _method: &str, span: &mut Span) {
        describe_topic(span, &self.topic);
    }
}

impl Described for pb::BulkPublishRequest {
    fn describe(&self, _method: &str, span: &mut Span) {
        describe_topic(span, &self.topic);
    }
}

impl Described for pb::GetStateRequest {
    fn describe(&self, method: &str, span: &mut Span) {
        describe_store(span, "state", &self.store_name, method);
    }
}

impl Described for pb::SaveStateRequest {
    fn describe(&self, method: &str, span: &mut Span) {
        describe_store(span, "state", &self.store_name, method);
    }
}

impl Described for pb::DeleteStateRequest {
    fn describe(&self, method: &str, span: &mut Span) {
        describe_store(span, "state", &self.store_name, method);
    }
}

impl Described for pb::GetSecretRequest {
    fn describe(&self, method: &str, span: &mut Span) {
        describe_store(span, "secrets", &self.store_name, method);
    }
}

impl Described for pb::InvokeBindingRequest {
    fn describe(&self, method: &str, span: &mut Span) {
        describe_store(span, "bindings", &self.name, method);
    }
}
