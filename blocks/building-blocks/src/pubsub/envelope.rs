//! CloudEvents: made on publish, filled in, expired.
//!
//! *Source:* spec app_channel.md §4.1. Numbers keep their text because the workspace builds `serde_json` with
//! `arbitrary_precision`; keys are sorted, as the original writes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pillion_core::duration;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::content_type::{OCTET_STREAM, is_binary, is_cloud_event, is_cloud_event_protobuf, is_json};

/// A CloudEvent as JSON object.
pub type CloudEvent = Map<String, Value>;

const DEFAULT_TYPE: &str = "com.dapr.event.sent";
const DEFAULT_SOURCE: &str = "Dapr";
const SPEC_VERSION: &str = "1.0";
/// Room for all fields but the data.
const FIELDS_BYTES: usize = 640;

/// What an envelope is made of.
pub(super) struct EnvelopeRequest<'a> {
    pub(super) app_id: &'a str,
    pub(super) pubsub_name: &'a str,
    pub(super) topic: &'a str,
    pub(super) content_type: &'a str,
    pub(super) data: &'a [u8],
    pub(super) trace_parent: &'a str,
    pub(super) trace_state: &'a str,
    pub(super) metadata: &'a BTreeMap<String, String>,
}

/// The event of an outbox, of which the topic is not known yet. *Source:* `NewCloudEventsEnvelope` of components-contrib.
pub(crate) fn without_topic(id: &str, source: &str, pubsub_name: &str, content_type: &str, data: &[u8]) -> CloudEvent {
    let content_type = or_default(content_type, "text/plain");
    let (field, payload) = payload(content_type, data);
    let mut event = CloudEvent::new();
    event.insert(field.to_owned(), payload);
    for (name, value) in [
        ("datacontenttype", content_type),
        ("id", id),
        ("pubsubname", pubsub_name),
        ("source", or_default(source, DEFAULT_SOURCE)),
        ("specversion", SPEC_VERSION),
        ("time", &now()),
        ("topic", ""),
        ("type", DEFAULT_TYPE),
    ] {
        event.insert(name.to_owned(), value.into());
    }
    event
}

/// The field of a payload and its value, as [`write_payload`] writes them.
fn payload(content_type: &str, data: &[u8]) -> (&'static str, Value) {
    if is_json(content_type)
        && let Some(Ok(value)) = first_json(data)
    {
        return ("data", value);
    }
    if is_binary(content_type) || is_cloud_event_protobuf(content_type, data) {
        return ("data_base64", STANDARD.encode(data).into());
    }
    ("data", String::from_utf8_lossy(data).into())
}

/// Wraps a payload, or completes one that is a CloudEvent already; `expires`: a time to live in the metadata is written into
/// the event, for brokers that know none.
///
/// # Errors
/// The payload says it is a CloudEvent and is not a JSON object.
pub(super) fn envelope(request: &EnvelopeRequest<'_>, expires: bool) -> Result<Vec<u8>, String> {
    let expiration = if expires { expiration(request.metadata) } else { None };
    if !is_cloud_event(request.content_type) {
        return wrap(request, expiration).map_err(|error| error.to_string());
    }
    let mut event = complete(request)?;
    if let Some(expiration) = expiration {
        event.insert("expiration".to_owned(), expiration.into());
    }
    serde_json::to_vec(&event).map_err(|error| error.to_string())
}

fn complete(request: &EnvelopeRequest<'_>) -> Result<CloudEvent, String> {
    let mut event: CloudEvent = match first_json(request.data) {
        Some(Ok(Value::Object(event))) => event,
        Some(Ok(_)) => return Err("the event is not a JSON object".to_owned()),
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("the event is empty".to_owned()),
    };
    if !event.contains_key("time") {
        event.insert("time".to_owned(), now().into());
    }
    if !event.contains_key("traceid") {
        event.insert("traceid".to_owned(), request.trace_parent.into());
        event.insert("traceparent".to_owned(), request.trace_parent.into());
    }
    if !event.contains_key("tracestate") {
        event.insert("tracestate".to_owned(), request.trace_state.into());
    }
    event.insert("topic".to_owned(), request.topic.into());
    event.insert("pubsubname".to_owned(), request.pubsub_name.into());
    for (name, default) in [("source", DEFAULT_SOURCE), ("type", DEFAULT_TYPE), ("specversion", SPEC_VERSION)] {
        if event.get(name).is_none_or(Value::is_null) {
            event.insert(name.to_owned(), default.into());
        }
    }
    Ok(event)
}

/// Writes the event without making a tree of it first; the order of the fields is that of a sorted map.
fn wrap(request: &EnvelopeRequest<'_>, expiration: Option<String>) -> serde_json::Result<Vec<u8>> {
    let overridden = |name: &str| {
        let key = |(key, _): &(&String, &String)| {
            key.strip_prefix_ignoring_case("cloudevent.").is_some_and(|rest| rest.eq_ignore_ascii_case(name))
        };
        request.metadata.iter().find(key).map(|(_, value)| value.as_str())
    };
    let given = |name: &str| overridden(name).filter(|value| !value.is_empty());
    let trace_parent = given("traceparent").or_else(|| overridden("traceid")).unwrap_or(request.trace_parent);
    let content_type = or_default(request.content_type, "text/plain");
    let id = given("id").map_or_else(|| Cow::Owned(new_id()), Cow::Borrowed);
    let mut out = Vec::with_capacity(request.data.len() + FIELDS_BYTES);
    out.push(b'{');
    write_payload(&mut out, content_type, request.data)?;
    let mut field = |name: &str, value: &str| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        serde_json::to_writer(&mut out, value)
    };
    field("datacontenttype", content_type)?;
    if let Some(expiration) = expiration {
        field("expiration", &expiration)?;
    }
    field("id", &id)?;
    field("pubsubname", request.pubsub_name)?;
    field("source", or_default(overridden("source").unwrap_or(request.app_id), DEFAULT_SOURCE))?;
    field("specversion", SPEC_VERSION)?;
    if let Some(subject) = given("subject") {
        field("subject", subject)?;
    }
    field("time", &now())?;
    field("topic", request.topic)?;
    field("traceid", trace_parent)?;
    field("traceparent", trace_parent)?;
    field("tracestate", overridden("tracestate").unwrap_or(request.trace_state))?;
    field("type", or_default(overridden("type").unwrap_or_default(), DEFAULT_TYPE))?;
    out.push(b'}');
    Ok(out)
}

fn or_default<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn write_payload(out: &mut Vec<u8>, content_type: &str, data: &[u8]) -> serde_json::Result<()> {
    if is_json(content_type)
        && let Some(Ok(value)) = first_json(data)
    {
        out.extend_from_slice(b"\"data\":");
        return serde_json::to_writer(out, &value);
    }
    if is_binary(content_type) || is_cloud_event_protobuf(content_type, data) {
        out.extend_from_slice(b"\"data_base64\":");
        return serde_json::to_writer(out, &STANDARD.encode(data));
    }
    out.extend_from_slice(b"\"data\":");
    serde_json::to_writer(out, &String::from_utf8_lossy(data))
}

/// The first JSON value of the bytes; what follows it is ignored, as the original's decoder does.
fn first_json(data: &[u8]) -> Option<serde_json::Result<Value>> {
    serde_json::Deserializer::from_slice(data).into_iter().next()
}

/// The event that stands for a raw message on the subscriber's side.
pub(super) fn from_raw(data: &[u8], topic: &str, pubsub_name: &str) -> CloudEvent {
    [
        ("id", new_id()),
        ("specversion", SPEC_VERSION.to_owned()),
        ("datacontenttype", OCTET_STREAM.to_owned()),
        ("source", DEFAULT_SOURCE.to_owned()),
        ("type", DEFAULT_TYPE.to_owned()),
        ("topic", topic.to_owned()),
        ("pubsubname", pubsub_name.to_owned()),
        ("data_base64", STANDARD.encode(data)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Value::String(value)))
    .collect()
}

/// When an event ends, if the metadata has a time to live.
fn expiration(metadata: &BTreeMap<String, String>) -> Option<String> {
    let ttl = time::Duration::try_from(ttl(metadata)?).unwrap_or(time::Duration::MAX);
    Some(format(OffsetDateTime::now_utc().saturating_add(ttl)))
}

/// `ttl` or `ttlInSeconds` in any case: a Go duration, one below zero counting as none, or whole seconds above zero;
/// anything else is ignored. A bare `0` is a Go duration: such an event has expired when it comes.
fn ttl(metadata: &BTreeMap<String, String>) -> Option<Duration> {
    let find = |name: &str| {
        metadata
            .iter()
            .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let text = find("ttl").or_else(|| find("ttlInSeconds"))?;
    match duration::parse_go(text) {
        Ok(duration) => Some(duration),
        Err(_) if text.strip_prefix('-').is_some_and(|rest| duration::parse_go(rest).is_ok()) => Some(Duration::ZERO),
        Err(_) => text.parse::<u64>().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs),
    }
}

/// Whether the event's `expiration` has passed; one that is not a time never passes.
pub(super) fn has_expired(event: &CloudEvent) -> bool {
    let Some(text) = event.get("expiration").and_then(Value::as_str) else { return false };
    OffsetDateTime::parse(text, &Rfc3339).is_ok_and(|expiration| expiration < OffsetDateTime::now_utc())
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

fn now() -> String {
    format(OffsetDateTime::now_utc())
}

fn format(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

trait StripPrefixIgnoringCase {
    fn strip_prefix_ignoring_case(&self, prefix: &str) -> Option<&str>;
}

impl StripPrefixIgnoringCase for String {
    fn strip_prefix_ignoring_case(&self, prefix: &str) -> Option<&str> {
        let (start, rest) = self.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    }
}
