//! CloudEvents: made on publish, filled in, expired.
//!
//! *Source:* spec app_channel.md §4.1. Numbers keep their text because the workspace builds `serde_json` with
//! `arbitrary_precision`; keys are sorted, as the original writes them.

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

/// Wraps a payload, or completes one that is a CloudEvent already.
///
/// # Errors
/// The payload says it is a CloudEvent and is not a JSON object.
pub(super) fn envelope(request: &EnvelopeRequest<'_>) -> Result<CloudEvent, String> {
    if is_cloud_event(request.content_type) { complete(request) } else { Ok(wrap(request)) }
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

fn wrap(request: &EnvelopeRequest<'_>) -> CloudEvent {
    let overridden = |name: &str| {
        let key = |(key, _): &(&String, &String)| {
            key.strip_prefix_ignoring_case("cloudevent.").is_some_and(|rest| rest.eq_ignore_ascii_case(name))
        };
        request.metadata.iter().find(key).map(|(_, value)| value.as_str())
    };
    let or_default = |value: &str, default: &str| if value.is_empty() { default.to_owned() } else { value.to_owned() };
    let trace_parent = overridden("traceparent")
        .filter(|value| !value.is_empty())
        .or_else(|| overridden("traceid"))
        .unwrap_or(request.trace_parent);
    let id = overridden("id").filter(|id| !id.is_empty()).map_or_else(new_id, str::to_owned);
    let content_type = or_default(request.content_type, "text/plain");
    let (data_field, data) = payload(&content_type, request.data);
    let mut event = CloudEvent::new();
    let mut set = |name: &str, value: Value| event.insert(name.to_owned(), value);
    set("id", id.into());
    set("specversion", SPEC_VERSION.into());
    set("source", or_default(overridden("source").unwrap_or(request.app_id), DEFAULT_SOURCE).into());
    set("type", or_default(overridden("type").unwrap_or_default(), DEFAULT_TYPE).into());
    set("topic", request.topic.into());
    set("pubsubname", request.pubsub_name.into());
    set("traceid", trace_parent.into());
    set("traceparent", trace_parent.into());
    set("tracestate", overridden("tracestate").unwrap_or(request.trace_state).into());
    set("time", now().into());
    set(data_field, data);
    if let Some(subject) = overridden("subject").filter(|subject| !subject.is_empty()) {
        set("subject", subject.into());
    }
    set("datacontenttype", content_type.into());
    event
}

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

/// Writes `expiration` for brokers without a time to live of their own.
pub(super) fn apply_ttl(event: &mut CloudEvent, metadata: &BTreeMap<String, String>) {
    let Some(ttl) = ttl(metadata) else { return };
    let expiration =
        OffsetDateTime::now_utc().saturating_add(time::Duration::try_from(ttl).unwrap_or(time::Duration::MAX));
    event.insert("expiration".to_owned(), format(expiration).into());
}

/// `ttl` or `ttlInSeconds` in any case: a Go duration or whole seconds above zero; anything else is ignored.
fn ttl(metadata: &BTreeMap<String, String>) -> Option<Duration> {
    let find = |name: &str| {
        metadata
            .iter()
            .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let text = find("ttl").or_else(|| find("ttlInSeconds"))?;
    match text.parse::<u64>() {
        Ok(seconds) => (seconds > 0).then(|| Duration::from_secs(seconds)),
        Err(_) => duration::parse_go(text).ok(),
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
