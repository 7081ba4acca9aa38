//! Zipkin's spans API, version 2, as JSON.
//!
//! *Source:* the Zipkin v2 API; names of tags as OpenTelemetry's mapping to Zipkin has them. *Invariant:* a span is written
//! straight into the page that is sent, where it ends: this is done for every recorded span, so what does not change is written
//! once, and the attributes are JSON already.

use std::time::SystemTime;

use bytes::Bytes;

use super::SpanRecord;
use crate::export::{Resource, since_epoch};
use crate::text::{hex_pair, is_plain};
use crate::trace::span::{SpanKind, SpanStatus};

/// Attributes that name the other side, the best first.
const PEERS: [&str; 3] = ["peer.service", "net.peer.name", "server.address"];

/// Writes spans of one sidecar.
#[derive(Debug)]
pub(in crate::trace) struct ZipkinEncoder {
    /// `,"key":"value"` of each attribute of the sidecar, with its key.
    tags: Vec<(String, Vec<u8>)>,
    /// `,"localEndpoint":{…}`.
    local: Vec<u8>,
}

/// The page as the API takes it.
pub(super) fn body(mut page: Vec<u8>) -> Bytes {
    if page.is_empty() {
        page.push(b'[');
    }
    page.push(b']');
    page.into()
}

impl ZipkinEncoder {
    pub(super) fn new(resource: &Resource) -> Self {
        let tags = resource.attributes.iter().map(|(key, value)| {
            let mut out = Vec::new();
            tag(&mut out, key, value);
            (key.clone(), out)
        });
        let (tags, mut local) = (tags.collect(), Vec::new());
        endpoint(&mut local, ",\"localEndpoint\":{\"serviceName\":", resource.service_name());
        Self { tags, local }
    }

    /// Puts a span at the end of a page.
    pub(super) fn write(&self, out: &mut Vec<u8>, span: &SpanRecord) {
        put(out, if out.is_empty() { "[{\"traceId\":\"" } else { ",{\"traceId\":\"" });
        id(out, &span.context.trace_id);
        put(out, "\",\"id\":\"");
        id(out, &span.context.span_id);
        if let Some(parent) = &span.parent {
            put(out, "\",\"parentId\":\"");
            id(out, parent);
        }
        put(
            out,
            match span.kind {
                SpanKind::Internal => "\",\"name\":",
                SpanKind::Server => "\",\"kind\":\"SERVER\",\"name\":",
                SpanKind::Client => "\",\"kind\":\"CLIENT\",\"name\":",
                SpanKind::Producer => "\",\"kind\":\"PRODUCER\",\"name\":",
                SpanKind::Consumer => "\",\"kind\":\"CONSUMER\",\"name\":",
            },
        );
        text(out, &span.name);
        let (start, end) = (microseconds(span.start), microseconds(span.end));
        put(out, ",\"timestamp\":");
        number(out, start);
        put(out, ",\"duration\":");
        number(out, end.saturating_sub(start).max(1)); // Zipkin takes no spans of no duration
        out.extend_from_slice(&self.local);
        if let Some(peer) = remote(span) {
            endpoint(out, ",\"remoteEndpoint\":{\"serviceName\":", peer);
        }
        for (index, event) in span.events.iter().enumerate() {
            put(out, if index == 0 { ",\"annotations\":[" } else { "," });
            put(out, "{\"timestamp\":");
            number(out, microseconds(event.time));
            put(out, ",\"value\":");
            text(out, &event.name);
            put(out, if index + 1 == span.events.len() { "}]" } else { "}" });
        }
        self.write_tags(out, span);
        put(out, "}}");
    }

    fn write_tags(&self, out: &mut Vec<u8>, span: &SpanRecord) {
        put(out, ",\"tags\":{\"otel.scope.name\":");
        text(out, span.scope);
        match span.attributes.json() {
            Some(json) => put(out, json),
            None => span.attributes.iter().for_each(|(key, _, value)| tag(out, key, value)),
        }
        if let SpanStatus::Error(reason) = &span.status {
            tag(out, "otel.status_code", "ERROR");
            tag(out, "error", if reason.is_empty() { "true" } else { reason });
        }
        for (key, tag) in &self.tags {
            if span.attributes.get(key).is_none() {
                out.extend_from_slice(tag);
            }
        }
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn tag(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(b',');
    text(out, key);
    out.push(b':');
    text(out, value);
}

/// `begin` names it.
fn endpoint(out: &mut Vec<u8>, begin: &str, service: &str) {
    put(out, begin);
    text(out, service);
    out.push(b'}');
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

fn id<const LENGTH: usize>(out: &mut Vec<u8>, id: &[u8; LENGTH]) {
    out.extend_from_slice(id.map(hex_pair).as_flattened());
}

fn number(out: &mut Vec<u8>, number: u64) {
    put(out, itoa::Buffer::new().format(number));
}

/// A JSON string; most need no escape.
fn text(out: &mut Vec<u8>, text: &str) {
    if !is_plain(text.as_bytes()) {
        let _ = serde_json::to_writer(out, text); // writing text to memory cannot fail
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}
