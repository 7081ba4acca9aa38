//! Bulk delivery over the app channel: one `POST /<path>` for HTTP apps, `OnBulkTopicEvent` for gRPC apps.
//!
//! *Source:* spec app_channel.md §4.3 for requests, answers and texts. *Invariant:* an event the app's answer does not
//! mention was not processed.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_core::log::Logger;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_alpha_client::AppCallbackAlphaClient;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_proto::runtime::v1::topic_event_bulk_request_entry::Event as EntryEvent;
use pillion_proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use pillion_runtime::app_channel::{GrpcChannel, HttpChannel, to_metadata};
use pillion_runtime::body::Body;
use pillion_runtime::message::{AppStatus, InvokeRequest};
use pillion_telemetry::trace::{Span, Started, Tracer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonic::{Code, Status};

use super::bulk::{BulkEvent, BulkItem};
use super::content_type::{CLOUD_EVENT, OCTET_STREAM};
use super::delivery::{DeliveryFailure, DeliveryResult};
use super::sink::{ANSWER_LIMIT, add_binary_trace, attribute, event_data, extensions};
use super::trace::{self, TraceContext};

const EVENT_TYPE: &str = "com.dapr.event.sent.bulk";

#[derive(Serialize)]
struct EnvelopeJson<'a> {
    entries: Vec<EntryJson<'a>>,
    id: &'a str,
    metadata: &'a BTreeMap<String, String>,
    pubsubname: &'a str,
    topic: &'a str,
    #[serde(rename = "type")]
    event_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson<'a> {
    entry_id: &'a str,
    event: EventJson<'a>,
    metadata: &'a BTreeMap<String, String>,
    content_type: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum EventJson<'a> {
    Event(&'a serde_json::Map<String, Value>),
    Base64(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AnswerJson {
    statuses: Option<Vec<StatusJson>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusJson {
    entry_id: String,
    status: String,
}

/// Delivers a batch to an HTTP app.
pub(super) async fn deliver_http(
    channel: &HttpChannel,
    tracer: &Tracer,
    log: &Logger,
    bulk: &BulkEvent,
) -> Vec<DeliveryResult> {
    let body = match serde_json::to_vec(&envelope_json(bulk)) {
        Ok(body) => body,
        Err(error) => return all(bulk, &failed(format!("the bulk envelope cannot be written: {error}"))),
    };
    let Trace { context, spans } = start(tracer, bulk);
    let mut headers = headers(bulk, context);
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (method, query) = bulk.path.split_once('?').unwrap_or((&bulk.path, ""));
    let request = InvokeRequest {
        method: method.to_owned(),
        verb: Method::POST,
        query: query.to_owned(),
        headers,
        body: Body::full(body),
        data_type_url: String::new(),
    };
    let response = match channel.invoke(request).await {
        Ok(response) => response,
        Err(error) => {
            let message = format!("error from app channel while sending pub/sub event to app: {error}");
            spans.into_iter().for_each(|span| trace::end(Some(span), Some(&message)));
            return all(bulk, &failed(message));
        }
    };
    let status = match response.status {
        AppStatus::Http(code) => code,
        AppStatus::Grpc(_) => 500, // an HTTP channel never answers so
    };
    spans.into_iter().for_each(|span| trace::end_http(Some(span), status));
    let answer = response.body.collect(ANSWER_LIMIT).await.map_err(|error| error.to_string());
    match status {
        200..=299 => match answer.and_then(|body| parse_answer(&body)) {
            Ok(statuses) => judge(log, bulk, statuses),
            Err(error) => all(bulk, &failed(format!("failed unmarshalling app response for bulk subscribe: {error}"))),
        },
        404 => {
            log.error(format_args!("non-retriable error returned from app while processing bulk pub/sub event. status code returned: {status}"));
            all(bulk, &DeliveryResult::Success)
        }
        _ => all(
            bulk,
            &failed(format!(
                "retriable error returned from app while processing bulk pub/sub event, topic: {}. status code returned: {status}",
                bulk.topic
            )),
        ),
    }
}

/// Delivers a batch to a gRPC app; one that knows only the older service gets it there.
pub(super) async fn deliver_grpc(
    channel: &GrpcChannel,
    tracer: &Tracer,
    log: &Logger,
    bulk: &BulkEvent,
) -> Vec<DeliveryResult> {
    let (message, unreadable) = envelope_proto(bulk);
    let mut results = if message.entries.is_empty() {
        all(bulk, &DeliveryResult::Success)
    } else {
        call_grpc(channel, tracer, log, bulk, message).await
    };
    for (index, problem) in unreadable {
        if let Some(result) = results.get_mut(index) {
            *result = failed(problem);
        }
    }
    results
}

async fn call_grpc(
    channel: &GrpcChannel,
    tracer: &Tracer,
    log: &Logger,
    bulk: &BulkEvent,
    message: pb::TopicEventBulkRequest,
) -> Vec<DeliveryResult> {
    let Trace { context, spans } = start(tracer, bulk);
    let request = || {
        let mut request = tonic::Request::new(message.clone());
        *request.metadata_mut() = to_metadata(&headers(bulk, context));
        add_binary_trace(request.metadata_mut(), context);
        channel.add_token(request.metadata_mut());
        request
    };
    let mut answer = AppCallbackClient::new(channel.callbacks()).on_bulk_topic_event(request()).await;
    if let Err(status) = &answer
        && status.code() == Code::Unimplemented
    {
        log.warn(format_args!("falling back to OnBulkTopicEventAlpha1 due to unimplemented error: {status}"));
        answer = alpha(channel, request()).await;
    }
    let failure = answer.as_ref().err().map(Status::message);
    spans.into_iter().for_each(|span| trace::end(Some(span), failure));
    match answer {
        Ok(answer) => judge(
            log,
            bulk,
            answer.into_inner().statuses.into_iter().map(|entry| (entry.entry_id, of_proto(entry.status))).collect(),
        ),
        Err(status) if status.code() == Code::Unimplemented => {
            log.warn(format_args!(
                "non-retriable error returned from app while processing bulk pub/sub event: {status}"
            ));
            all(bulk, &DeliveryResult::Success)
        }
        Err(status) => {
            let message = format!("error returned from app while processing bulk pub/sub event: {}", status.message());
            all(bulk, &DeliveryResult::Retry(DeliveryFailure { message, status: Some(status.code() as i32) }))
        }
    }
}

#[expect(deprecated, reason = "apps with older SDKs have only this service")]
async fn alpha(
    channel: &GrpcChannel,
    request: tonic::Request<pb::TopicEventBulkRequest>,
) -> Result<tonic::Response<pb::TopicEventBulkResponse>, Status> {
    AppCallbackAlphaClient::new(channel.callbacks()).on_bulk_topic_event_alpha1(request).await
}

/// What an app said of an event.
enum Answer {
    Success,
    Retry,
    Drop,
    Unknown(String),
}

fn of_proto(status: i32) -> Answer {
    match TopicEventResponseStatus::try_from(status) {
        Ok(TopicEventResponseStatus::Success) => Answer::Success,
        Ok(TopicEventResponseStatus::Retry) => Answer::Retry,
        Ok(TopicEventResponseStatus::Drop) => Answer::Drop,
        Err(_) => Answer::Unknown(status.to_string()),
    }
}

/// The statuses of an HTTP app; what follows the first JSON value is ignored, as the original's decoder does.
fn parse_answer(body: &[u8]) -> Result<Vec<(String, Answer)>, String> {
    let first = pillion_core::json::first_of::<AnswerJson>(body);
    let answer = first.ok_or_else(|| "the body is empty".to_owned())?.map_err(|error| error.to_string())?;
    let read = |entry: StatusJson| {
        let answer = match entry.status.as_str() {
            "SUCCESS" => Answer::Success,
            "" | "RETRY" => Answer::Retry,
            "DROP" => Answer::Drop,
            other => Answer::Unknown(other.to_owned()),
        };
        (entry.entry_id, answer)
    };
    Ok(answer.statuses.unwrap_or_default().into_iter().map(read).collect())
}

fn judge(log: &Logger, bulk: &BulkEvent, statuses: Vec<(String, Answer)>) -> Vec<DeliveryResult> {
    let mut answers: HashMap<String, Answer> = HashMap::new();
    for (id, answer) in statuses {
        if bulk.items.iter().any(|item| item.entry_id == id) {
            answers.insert(id, answer);
        } else {
            log.warn(format_args!("invalid entry id received from app while processing pub/sub event {id}"));
        }
    }
    let result = |item: &BulkItem| {
        let id = &item.entry_id;
        match answers.get(id) {
            Some(Answer::Success) => DeliveryResult::Success,
            Some(Answer::Drop) => {
                log.warn(format_args!(
                    "DROP status returned from app while processing pub/sub event for entry id: {id}"
                ));
                DeliveryResult::Drop
            }
            Some(Answer::Retry) => {
                failed(format!("RETRY required while processing bulk subscribe event for entry id: {id}"))
            }
            Some(Answer::Unknown(status)) => {
                failed(format!("unknown status returned from app while processing bulk subscribe event {id}: {status}"))
            }
            None => failed(format!(
                "response not received, RETRY required while processing bulk subscribe event for entry id: {id}"
            )),
        }
    };
    bulk.items.iter().map(|item| result(item)).collect()
}

fn failed(message: String) -> DeliveryResult {
    DeliveryResult::Retry(DeliveryFailure { message, status: None })
}

fn all(bulk: &BulkEvent, result: &DeliveryResult) -> Vec<DeliveryResult> {
    vec![result.clone(); bulk.items.len()]
}

/// The trace of a call: its context, and one span for each event that has a trace.
struct Trace {
    context: Option<TraceContext>,
    spans: Vec<Span>,
}

/// The context of the call is that of the last event that has one. *Source:* the original starts the spans in order, each in the
/// place of the one before.
fn start(tracer: &Tracer, bulk: &BulkEvent) -> Trace {
    let mut trace = Trace { context: None, spans: Vec::new() };
    for item in bulk.items.iter().filter(|item| item.raw.is_none()) {
        let Started { context, span } = trace::start(tracer, &bulk.topic, trace::of_event(&item.cloud_event));
        trace.context = context.or(trace.context);
        trace.spans.extend(span);
    }
    trace
}

fn headers(bulk: &BulkEvent, context: Option<TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let trace_parent = context.map(|context| ("traceparent", context.to_string()));
    let metadata = bulk.metadata.iter().map(|(key, value)| (key.as_str(), value.clone()));
    for (key, value) in metadata.chain(trace_parent) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    headers
}

fn envelope_json(bulk: &BulkEvent) -> EnvelopeJson<'_> {
    let entries = bulk.items.iter().map(|item| {
        let (event, default_type) = match &item.raw {
            Some(data) => (EventJson::Base64(STANDARD.encode(data)), OCTET_STREAM),
            None => (EventJson::Event(&item.cloud_event), CLOUD_EVENT),
        };
        EntryJson {
            entry_id: &item.entry_id,
            event,
            metadata: &item.metadata,
            content_type: item.content_type.as_deref().unwrap_or(default_type),
        }
    });
    EnvelopeJson {
        entries: entries.collect(),
        id: &bulk.id,
        metadata: &bulk.metadata,
        pubsubname: &bulk.pubsub_name,
        topic: &bulk.topic,
        event_type: EVENT_TYPE,
    }
}

/// The message, and which events cannot be part of it.
fn envelope_proto(bulk: &BulkEvent) -> (pb::TopicEventBulkRequest, Vec<(usize, String)>) {
    let mut entries = Vec::with_capacity(bulk.items.len());
    let mut unreadable = Vec::new();
    for (index, item) in bulk.items.iter().enumerate() {
        let event = match &item.raw {
            Some(data) => Ok(EntryEvent::Bytes(data.clone())),
            None => event_proto(item).map(EntryEvent::CloudEvent),
        };
        match event {
            Ok(event) => entries.push(pb::TopicEventBulkRequestEntry {
                entry_id: item.entry_id.clone(),
                content_type: item.content_type.clone().unwrap_or_default(),
                metadata: item.metadata.clone().into_iter().collect(),
                event: Some(event),
            }),
            Err(problem) => unreadable.push((index, problem)),
        }
    }
    let message = pb::TopicEventBulkRequest {
        id: bulk.id.clone(),
        entries,
        metadata: bulk.metadata.clone().into_iter().collect(),
        topic: bulk.topic.clone(),
        pubsub_name: bulk.pubsub_name.clone(),
        r#type: EVENT_TYPE.to_owned(),
        path: bulk.path.clone(),
    };
    (message, unreadable)
}

fn event_proto(item: &BulkItem) -> Result<pb::TopicEventCeRequest, String> {
    let event = &item.cloud_event;
    let text = |name: &str| attribute(event, name).to_owned();
    let data_content_type = text("datacontenttype");
    Ok(pb::TopicEventCeRequest {
        id: text("id"),
        source: text("source"),
        r#type: text("type"),
        spec_version: text("specversion"),
        data: event_data(event, &data_content_type)?,
        data_content_type,
        extensions: Some(extensions(event)),
    })
}

#[cfg(test)]
mod tests;
