//! Delivery over the app channel: `POST /<path>` for HTTP apps, `OnTopicEvent` for gRPC apps.
//!
//! *Source:* spec app_channel.md §4.2 for requests, answers and texts.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_core::log::Logger;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_runtime::app_channel::{AppChannel, GrpcChannel, HttpChannel, to_metadata};
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, InvokeRequest};
use pillion_telemetry::trace::{Started, Tracer};
use prost_types::value::Kind;
use serde_json::Value;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::bulk::BulkEvent;
use super::bulk_sink::{deliver_grpc, deliver_http};
use super::content_type::{CLOUD_EVENT, is_cloud_event, is_json, is_text};
use super::delivery::{DeliveryFailure, DeliveryResult, DeliverySink, Event};
use super::envelope::CloudEvent;
use super::trace::{self, TraceContext};

/// The largest answer of an app that is read, in bytes.
pub(super) const ANSWER_LIMIT: usize = 4 * 1024 * 1024;
/// Attributes that have fields of their own in `TopicEventRequest`.
const OWN_FIELDS: [&str; 7] = ["id", "source", "datacontenttype", "type", "specversion", "data", "data_base64"];

/// The sink of an app channel; `tracer` starts the spans of deliveries.
pub fn app_sink(channel: AppChannel, tracer: &Tracer, log: &Logger) -> Arc<dyn DeliverySink> {
    let log = log.scope("dapr.runtime.processor.subscription");
    match channel {
        AppChannel::Http(channel) => Arc::new(HttpSink { channel, tracer: tracer.clone(), log }),
        AppChannel::Grpc(channel) => Arc::new(GrpcSink { channel, tracer: tracer.clone(), log }),
    }
}

/// Delivers to an HTTP app.
pub struct HttpSink {
    channel: Arc<HttpChannel>,
    tracer: Tracer,
    log: Logger,
}

#[async_trait]
impl DeliverySink for HttpSink {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        let Started { context, span } = trace::start(&self.tracer, &event.topic, event.trace());
        let mut headers = headers(event, context);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CLOUD_EVENT));
        let (method, query) = event.path.split_once('?').unwrap_or((&event.path, ""));
        let request = InvokeRequest {
            method: method.to_owned(),
            verb: Method::POST,
            query: query.to_owned(),
            headers,
            body: Body::full(event.data.clone()),
            data_type_url: String::new(),
        };
        let response = match self.channel.invoke(request).await {
            Ok(response) => response,
            Err(error) => {
                let message = format!("error returned from app channel while sending pub/sub event to app: {error}");
                trace::end(span, Some(&message));
                return DeliveryResult::Retry(DeliveryFailure { message, status: None });
            }
        };
        let status = match response.status {
            AppStatus::Http(code) => code,
            AppStatus::Grpc(_) => 500, // an HTTP channel never answers so
        };
        trace::end_http(span, status);
        let body = response.body.collect(ANSWER_LIMIT).await.unwrap_or_default();
        self.judge(event, status, &body)
    }

    async fn deliver_bulk(&self, bulk: &BulkEvent) -> Vec<DeliveryResult> {
        deliver_http(&self.channel, &self.tracer, &self.log, bulk).await
    }
}

impl HttpSink {
    fn judge(&self, event: &Event, status: u16, body: &[u8]) -> DeliveryResult {
        let id = event.attribute("id");
        let retry = |message: String, status: Option<u16>| {
            DeliveryResult::Retry(DeliveryFailure { message, status: status.map(i32::from) })
        };
        match status {
            200..=299 => match answered_status(body).as_deref() {
                None | Some("" | "SUCCESS") => DeliveryResult::Success,
                Some("RETRY") => {
                    retry(format!("RETRY status returned from app while processing pub/sub event {id}"), None)
                }
                Some("DROP") => {
                    self.log.warn(format_args!("DROP status returned from app while processing pub/sub event {id}"));
                    DeliveryResult::Drop
                }
                Some(other) => retry(
                    format!("unknown status returned from app while processing pub/sub event {id}, status: {other}"),
                    None,
                ),
            },
            404 => {
                self.log.error(format_args!(
                    "non-retriable error returned from app while processing pub/sub event {id}: {}. status code returned: {status}",
                    String::from_utf8_lossy(body)
                ));
                DeliveryResult::Untaken
            }
            _ => {
                let message = format!(
                    "retriable error returned from app while processing pub/sub event {id}, topic: {}, body: {}. status code returned: {status}",
                    event.attribute("topic"),
                    String::from_utf8_lossy(body)
                );
                retry(message, Some(status))
            }
        }
    }
}

/// The `status` of an answer; `None` when the body is empty or not such an object.
fn answered_status(body: &[u8]) -> Option<String> {
    let first = serde_json::Deserializer::from_slice(body).into_iter::<Value>().next()?.ok()?;
    match first.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case("status"))?.1 {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// Message metadata and the context of the delivery as headers; what cannot be a header is left out.
fn headers(event: &Event, context: Option<TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(event.metadata.len() + 3);
    let trace_parent = context.map(|context| context.to_string());
    let trace_state = Some(event.attribute("tracestate")).filter(|state| !state.is_empty());
    let trace = [("traceparent", trace_parent.as_deref()), ("tracestate", trace_state)];
    let metadata = event.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in metadata.chain(trace.into_iter().filter_map(|(key, value)| Some((key, value?)))) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers.remove(http::header::CONTENT_LENGTH);
    headers.remove(http::header::CONTENT_TYPE);
    headers
}

/// Delivers to a gRPC app.
pub struct GrpcSink {
    channel: Arc<GrpcChannel>,
    tracer: Tracer,
    log: Logger,
}

#[async_trait]
impl DeliverySink for GrpcSink {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        let id = event.attribute("id");
        let retry = |message: String, status: Option<i32>| DeliveryResult::Retry(DeliveryFailure { message, status });
        let message = match topic_event(event) {
            Ok(message) => message,
            Err(problem) => {
                return retry(format!("error returned from app while processing pub/sub event: {problem}"), None);
            }
        };
        let Started { context, span } = trace::start(&self.tracer, &event.topic, event.trace());
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = to_metadata(&headers(event, context));
        add_binary_trace(request.metadata_mut(), context);
        self.channel.add_token(request.metadata_mut());
        let answer = AppCallbackClient::new(self.channel.callbacks()).on_topic_event(request).await;
        trace::end(span, answer.as_ref().err().map(tonic::Status::message));
        match answer {
            Ok(answer) => self.judge(id, answer.into_inner().status),
            Err(status) if status.code() == Code::Unimplemented => {
                self.log.warn(format_args!(
                    "non-retriable error returned from app while processing pub/sub event {id}: {status}"
                ));
                DeliveryResult::Ignored
            }
            Err(status) => {
                let code = status.code() as i32;
                retry(
                    format!("error returned from app while processing pub/sub event {id}: {}", status.message()),
                    Some(code),
                )
            }
        }
    }

    async fn deliver_bulk(&self, bulk: &BulkEvent) -> Vec<DeliveryResult> {
        deliver_grpc(&self.channel, &self.tracer, &self.log, bulk).await
    }
}

impl GrpcSink {
    fn judge(&self, id: &str, status: i32) -> DeliveryResult {
        if status == pb::topic_event_response::TopicEventResponseStatus::Drop as i32 {
            self.log.warn(format_args!("DROP status returned from app while processing pub/sub event {id}"));
        }
        from_status(id, status)
    }
}

/// gRPC apps get the trace in binary form too.
pub(super) fn add_binary_trace(metadata: &mut MetadataMap, trace: Option<TraceContext>) {
    if let Some(context) = trace {
        metadata.insert_bin("grpc-trace-bin", MetadataValue::from_bytes(&context.to_binary()));
    }
}

/// What a `TopicEventResponse.status` means.
pub(super) fn from_status(id: &str, status: i32) -> DeliveryResult {
    use pb::topic_event_response::TopicEventResponseStatus as Status;
    let retry = |message: String| DeliveryResult::Retry(DeliveryFailure { message, status: None });
    match Status::try_from(status) {
        Ok(Status::Success) => DeliveryResult::Success,
        Ok(Status::Drop) => DeliveryResult::Drop,
        Ok(Status::Retry) => retry(format!("RETRY status returned from app while processing pub/sub event {id}")),
        Err(_) => {
            retry(format!("unknown status returned from app while processing pub/sub event {id}, status: {status}"))
        }
    }
}

/// The event as gRPC message.
///
/// # Errors
/// Its data has not the form its content type announces.
pub(super) fn topic_event(event: &Event) -> Result<pb::TopicEventRequest, String> {
    let text = |name: &str| event.attribute(name).to_owned();
    let data_content_type = text("datacontenttype");
    Ok(pb::TopicEventRequest {
        id: text("id"),
        source: text("source"),
        r#type: text("type"),
        spec_version: text("specversion"),
        data: event_data(&event.cloud_event, &data_content_type)?,
        data_content_type,
        topic: event.topic.clone(),
        pubsub_name: event.pubsub_name.clone(),
        path: event.path.clone(),
        extensions: Some(extensions(&event.cloud_event)),
    })
}

/// A string attribute; empty when it is absent or not a string.
pub(super) fn attribute<'a>(event: &'a CloudEvent, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The attributes without fields of their own.
pub(super) fn extensions(event: &CloudEvent) -> prost_types::Struct {
    let extensions = event.iter().filter(|(key, _)| !OWN_FIELDS.contains(&key.as_str()));
    prost_types::Struct { fields: extensions.map(|(key, value)| (key.clone(), to_proto(value))).collect() }
}

/// The data as bytes.
///
/// # Errors
/// It has not the form its content type announces.
pub(super) fn event_data(event: &CloudEvent, content_type: &str) -> Result<Bytes, String> {
    const UNEXPECTED: &str = "unexpected data type encountered in envelope";
    let field = |name: &str| event.get(name).filter(|value| !value.is_null());
    if let Some(encoded) = field("data_base64") {
        let text = encoded.as_str().ok_or(UNEXPECTED)?;
        return STANDARD.decode(text).map(Bytes::from).map_err(|error| error.to_string());
    }
    let Some(data) = field("data") else { return Ok(Bytes::new()) };
    if is_text(content_type) {
        return data.as_str().map(|text| Bytes::copy_from_slice(text.as_bytes())).ok_or_else(|| UNEXPECTED.to_owned());
    }
    if is_json(content_type) || is_cloud_event(content_type) {
        return serde_json::to_vec(data).map(Bytes::from).map_err(|error| error.to_string());
    }
    Ok(Bytes::new())
}

fn to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(to_proto).collect() }),
        Value::Object(map) => Kind::StructValue(prost_types::Struct {
            fields: map.iter().map(|(key, value)| (key.clone(), to_proto(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
