//! Delivery of events over the app channel: `POST /<route>` for HTTP apps, `OnBindingEvent` for gRPC apps.
//!
//! *Source:* spec app_channel.md §4 and §5 for requests, answers and texts; metrics.md §5.3 for the span. *Invariant:* each attempt runs
//! under the inbound policy of the component as it is at that moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_contract::{BindingEvent, BindingReply};
use pillion_core::log::Logger;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_runtime::app_channel::{AppChannel, GrpcChannel, HttpChannel, add_binary_trace};
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, InvokeRequest};
use pillion_runtime::resiliency::{self, ComponentKind, Failure, FailureClass, Policies, PolicyError};
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::{
    Span, SpanKind, Started, TRACE_PARENT, TRACE_STATE, TraceContext, Tracer, http_failure,
};
use tonic::metadata::MetadataMap;

use super::answer::Followers;
use super::output::OutputBindings;
use crate::state::StateStores;

/// The largest answer of an app that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
const ON_BINDING_EVENT: &str = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent";
const GRPC_TRACE: &str = "grpc-trace-bin";

/// Takes events.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Delivers one event of the binding `name`, whose route is `route`, with all attempts its policy allows.
    async fn deliver(&self, name: &str, route: &str, event: BindingEvent) -> BindingReply;
}

/// What [`AppSink`] is made of.
pub struct AppSinkParts {
    /// The app.
    pub channel: AppChannel,
    /// Policies of components.
    pub policies: Arc<Policies>,
    /// Bindings a gRPC app may name in its answer.
    pub outputs: Arc<OutputBindings>,
    /// Stores a gRPC app may name in its answer.
    pub states: Arc<StateStores>,
    /// Starts the spans of deliveries.
    pub tracer: Tracer,
    /// Records gRPC deliveries, which count as calls that were served.
    pub metrics: Metrics,
    /// Where to log.
    pub log: Logger,
}

/// The sink of an app channel.
pub struct AppSink {
    channel: AppChannel,
    policies: Arc<Policies>,
    followers: Followers,
    tracer: Tracer,
    metrics: Metrics,
}

impl AppSink {
    /// Puts it together.
    pub fn new(parts: AppSinkParts) -> Self {
        let AppSinkParts { channel, policies, outputs, states, tracer, metrics, log } = parts;
        let log = log.scope("dapr.runtime.processor.binding");
        Self { channel, policies, followers: Followers { outputs, states, log }, tracer, metrics }
    }
}

#[async_trait]
impl EventSink for AppSink {
    async fn deliver(&self, name: &str, route: &str, event: BindingEvent) -> BindingReply {
        let parent = parent(&event.metadata);
        let Started { context, span } = self.tracer.start(SpanKind::Client, parent, || format!("bindings/{name}"));
        // Without spans of its own the sidecar passes the trace on as it came.
        let context = context.or(parent);
        match &self.channel {
            AppChannel::Http(channel) => self.deliver_http(channel, (name, route), event, context, span).await,
            AppChannel::Grpc(channel) => self.deliver_grpc(channel, name, event, context, span).await,
        }
    }
}

impl AppSink {
    async fn deliver_http(
        &self,
        channel: &HttpChannel,
        (name, route): (&str, &str),
        event: BindingEvent,
        context: Option<TraceContext>,
        span: Option<Span>,
    ) -> BindingReply {
        let headers = headers(&event.metadata, context);
        let (method, query) = route.split_once('?').unwrap_or((route, ""));
        let attempt = |_| {
            let request = InvokeRequest {
                method: method.to_owned(),
                verb: Method::POST,
                query: query.to_owned(),
                headers: headers.clone(),
                body: Body::full(event.data.clone()),
                data_type_url: String::new(),
            };
            async move {
                let response = channel.invoke(request).await.map_err(|error| Attempt::Lost(error.to_string()))?;
                let status = match response.status {
                    AppStatus::Http(status) => status,
                    AppStatus::Grpc(_) => 500, // an HTTP channel never answers so
                };
                // Read at once: the next attempt must not wait for a connection this one holds.
                let body = response.body.collect(ANSWER_LIMIT).await;
                let body = body.map_err(|error| format!("failed to read response body: {error}"));
                if status == 200 { Ok((status, body)) } else { Err(Attempt::Status(status, body)) }
            }
        };
        let policy = self.policies.component_inbound(name, ComponentKind::Binding);
        let result = resiliency::run(policy.as_deref(), attempt).await;
        let (status, body) = match result {
            Ok(answer) => answer,
            Err(PolicyError::Operation(Attempt::Status(status, body))) => (status, body),
            Err(error) => {
                let text = format!("error invoking app: {error}");
                end_span(span, name, &format!("POST /{name}"), Some(text.clone()));
                return Err(text);
            }
        };
        end_span(span, name, &format!("POST /{name}"), http_failure(status));
        if !(200..=299).contains(&status) {
            let body = body.unwrap_or_default();
            let body = String::from_utf8_lossy(&body);
            return Err(format!("fails to send binding event to http app channel, status code: {status} body: {body}"));
        }
        body
    }

    async fn deliver_grpc(
        &self,
        channel: &GrpcChannel,
        name: &str,
        event: BindingEvent,
        context: Option<TraceContext>,
        span: Option<Span>,
    ) -> BindingReply {
        let metadata = metadata(&event.metadata, context, channel);
        let message = pb::BindingEventRequest {
            name: name.to_owned(),
            data: event.data,
            metadata: event.metadata.into_iter().collect(),
        };
        let sent_bytes = message.data.len() as u64;
        let started = self.metrics.grpc().map(|metrics| (metrics, Instant::now()));
        let attempt = |_| {
            let mut request = tonic::Request::new(message.clone());
            *request.metadata_mut() = metadata.clone();
            let mut client = AppCallbackClient::new(channel.callbacks()).max_decoding_message_size(ANSWER_LIMIT);
            async move { client.on_binding_event(request).await.map_err(Refusal) }
        };
        let policy = self.policies.component_inbound(name, ComponentKind::Binding);
        let result = resiliency::run(policy.as_deref(), attempt).await;
        if let Some((metrics, started)) = started {
            let (code, bytes) = match &result {
                Ok(answer) => (0, answer.get_ref().data.len() as u64),
                Err(PolicyError::Operation(refusal)) => (refusal.0.code() as i32, 0),
                Err(_) => (tonic::Code::Unknown as i32, 0),
            };
            metrics.served(ON_BINDING_EVENT, code, (sent_bytes, bytes), started.elapsed());
        }
        end_span(span, name, ON_BINDING_EVENT, result.as_ref().err().map(ToString::to_string));
        let answer = result.map_err(|error| format!("error invoking app: {error}"))?.into_inner();
        let data = answer.data.clone();
        if !answer.to.is_empty() || !answer.states.is_empty() {
            self.followers.follow(answer).await;
        }
        Ok(data)
    }
}

/// How one attempt over HTTP ended without a 200.
enum Attempt {
    /// The app did not answer.
    Lost(String),
    /// Another status, with the body.
    Status(u16, Result<Bytes, String>),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(text) => f.write_str(text),
            Self::Status(status, _) => write!(f, "error sending binding event to application, status {status}"),
        }
    }
}

impl Failure for Attempt {
    fn class(&self) -> FailureClass {
        match self {
            Self::Lost(_) => FailureClass::Retriable,
            Self::Status(status, _) => FailureClass::Status(i32::from(*status)),
        }
    }
}

/// How one attempt over gRPC failed.
#[derive(Debug)]
struct Refusal(tonic::Status);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = pillion_core::error::GrpcCode::from_number(self.0.code() as i32);
        write!(f, "rpc error: code = {} desc = {}", code.go_name(), self.0.message())
    }
}

impl Failure for Refusal {
    fn class(&self) -> FailureClass {
        FailureClass::Status(self.0.code() as i32)
    }
}

/// The trace an event carries; the binary form counts before the text.
fn parent(metadata: &BTreeMap<String, String>) -> Option<TraceContext> {
    match metadata.get(GRPC_TRACE) {
        Some(binary) => TraceContext::from_binary(binary.as_bytes()),
        None => metadata.get(TRACE_PARENT.as_str()).and_then(|text| TraceContext::parse(text)),
    }
}

/// Metadata of an event and its trace as headers; what cannot be a header is left out.
fn headers(metadata: &BTreeMap<String, String>, context: Option<TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(metadata.len() + 2);
    for (name, value) in metadata.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(GRPC_TRACE)) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    match context {
        Some(context) => drop(headers.insert(TRACE_PARENT, context.to_value())),
        None => drop(headers.remove(TRACE_PARENT)),
    }
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// The trace in both forms, and the token of the app.
fn metadata(event: &BTreeMap<String, String>, context: Option<TraceContext>, channel: &GrpcChannel) -> MetadataMap {
    let mut headers = HeaderMap::new();
    if let Some(context) = context {
        headers.insert(TRACE_PARENT, context.to_value());
        if let Some(state) = event.get(TRACE_STATE.as_str()).and_then(|state| HeaderValue::from_str(state).ok()) {
            headers.insert(TRACE_STATE, state);
        }
    }
    let mut metadata = MetadataMap::from_headers(headers);
    add_binary_trace(&mut metadata);
    channel.add_token(&mut metadata);
    metadata
}

fn end_span(span: Option<Span>, name: &str, call: &str, failure: Option<String>) {
    let Some(mut span) = span else { return };
    span.set("db.name", name);
    span.set("db.system", "bindings");
    span.set("db.connection_string", call);
    span.set("rpc.service", "Dapr");
    if let Some(reason) = failure {
        span.fail(reason);
    }
}
