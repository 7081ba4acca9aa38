//! Zipkin's spans API, version 2, as JSON.
//!
//! *Source:* the Zipkin v2 API; names of tags as OpenTelemetry's mapping to Zipkin has them. *Invariant:* a batch is written
//! straight into one buffer: this is done for every recorded span.

use std::time::SystemTime;

use super::{DIGITS, SpanRecord};
use crate::export::{Resource, since_epoch};
use crate::trace::span::{SpanKind, SpanStatus};

/// Attributes that name the other side, the best first.
const PEERS: [&str; 3] = ["peer.service", "net.peer.name", "server.address"];
/// About what a span of a service invocation takes.
const SPAN_BYTES: usize = 768;

/// Writes spans of one sidecar.
pub(super) struct ZipkinEncoder {
    /// `"key":"value"` of each attribute of the sidecar, with its key.
    tags: Vec<(String, Vec<u8>)>,
    /// `"localEndpoint":{…}`.
    local: Vec<u8>,
}

impl ZipkinEncoder {
    pub(super) fn new(resource: &Resource) -> Self {
        let tags = resource.attributes.iter().map(|(key, value)| {
            let mut tag = Vec::new();
            text(&mut tag, key);
            tag.push(b':');
            text(&mut tag, value);
            (key.clone(), tag)
        });
        let tags = tags.collect();
        Self { tags, local: endpoint("localEndpoint", resource.service_name()) }
    }

    /// The batch as the API takes it.
    pub(super) fn encode(&self, batch: &[Box<SpanRecord>]) -> Vec<u8> {
        let mut out = Vec::with_capacity(batch.len() * SPAN_BYTES + 2);
        out.push(b'[');
        for (index, span) in batch.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.span(&mut out, span);
        }
        out.push(b']');
        out
    }

    fn span(&self, out: &mut Vec<u8>, span: &SpanRecord) {
        let put = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
        put(out, "{\"traceId\":");
        id(out, &span.context.trace_id);
        put(out, ",\"id\":");
        id(out, &span.context.span_id);
        if let Some(parent) = &span.parent {
            put(out, ",\"parentId\":");
            id(out, parent);
        }
        put(
            out,
            match span.kind {
                SpanKind::Internal => "",
                SpanKind::Server => ",\"kind\":\"SERVER\"",
                SpanKind::Client => ",\"kind\":\"CLIENT\"",
                SpanKind::Producer => ",\"kind\":\"PRODUCER\"",
                SpanKind::Consumer => ",\"kind\":\"CONSUMER\"",
            },
        );
        put(out, ",\"name\":");
        text(out, &span.name);
        let (start, end) = (microseconds(span.start), microseconds(span.end));
        put(out, ",\"timestamp\":");
        number(out, start);
        put(out, ",\"duration\":");
        number(out, end.saturating_sub(start).max(1)); // Zipkin takes no spans of no duration
        out.push(b',');
        out.extend_from_slice(&self.local);
        if let Some(peer) = remote(span) {
            out.push(b',');
            out.extend_from_slice(&endpoint("remoteEndpoint", peer));
        }
        for (index, event) in span.events.iter().enumerate() {
            put(out, if index == 0 { ",\"annotations\":[" } else { "," });
            put(out, "{\"timestamp\":");
            number(out, microseconds(event.time));
            put(out, ",\"value\":");
            text(out, &event.name);
            put(out, if index + 1 == span.events.len() { "}]" } else { "}" });
        }
        self.tags(out, span);
        out.push(b'}');
    }

    fn tags(&self, out: &mut Vec<u8>, span: &SpanRecord) {
        out.extend_from_slice(b",\"tags\":{\"otel.scope.name\":");
        text(out, span.scope);
        let mut tag = |key: &str, value: &str| {
            out.push(b',');
            text(out, key);
            out.push(b':');
            text(out, value);
        };
        for (key, _, value) in span.attributes.iter() {
            tag(key, value);
        }
        if let SpanStatus::Error(reason) = &span.status {
            tag("otel.status_code", "ERROR");
            tag("error", if reason.is_empty() { "true" } else { reason });
        }
        for (key, tag) in &self.tags {
            if span.attributes.get(key).is_none() {
                out.push(b',');
                out.extend_from_slice(tag);
            }
        }
        out.push(b'}');
    }
}

fn endpoint(name: &str, service: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + service.len() + 24);
    text(&mut out, name);
    out.extend_from_slice(b":{\"serviceName\":");
    text(&mut out, service);
    out.push(b'}');
    out
}

fn remote(span: &SpanRecord) -> Option<&str> {
    if !matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
        return None;
    }
    PEERS.iter().find_map(|name| span.attributes.get(name))
}

fn microseconds(time: SystemTime) -> u64 {
    u64::try_from(since_epoch(time).as_micros()).unwrap_or(u64::MAX)
}

fn id(out: &mut Vec<u8>, id: &[u8]) {
    out.push(b'"');
    for byte in id {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 || start == digits.len() {
        start -= 1;
        digits[start] = DIGITS[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}

/// A JSON string; most need no escape.
fn text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let _ = serde_json::to_writer(out, text); // writing text to memory cannot fail
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}
