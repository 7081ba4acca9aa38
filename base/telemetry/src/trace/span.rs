//! A span while it is recorded, and what is left of it for the exporters.
//!
//! *Invariant:* a [`Span`] that is dropped has ended: a call whose caller went away is told of too.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::attributes::Attributes;
use super::context::TraceContext;
use super::export::Outlets;

/// Instrumentation scope of the sidecar's own spans. *Source:* spec metrics.md §5.1.
pub const DAPR_SCOPE: &str = "dapr-diagnostics";
/// Instrumentation scope of workflow spans.
pub const WORKFLOW_SCOPE: &str = "durabletask";

/// What a span is in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work inside.
    Internal,
    /// Answers a call.
    Server,
    /// Makes a call.
    Client,
    /// Sends a message.
    Producer,
    /// Takes a message.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// Number.
    Integer(i64),
    /// Texts.
    Texts(Vec<String>),
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// When.
    pub time: SystemTime,
    /// What.
    pub name: Cow<'static, str>,
    /// More about it.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing is said; success leaves it so.
    #[default]
    Unset,
    /// It failed, for this reason.
    Error(String),
}

/// Everything an exporter tells of a span.
#[derive(Clone, Debug)]
pub struct SpanRecord {
    /// Its context.
    pub context: TraceContext,
    /// Id of the span above it; `None` at the root.
    pub parent: Option<[u8; 8]>,
    /// `tracestate` of its context; empty when there is none.
    pub trace_state: String,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: SpanKind,
    /// Which part of the program made it.
    pub scope: &'static str,
    /// Begin.
    pub start: SystemTime,
    /// End.
    pub end: SystemTime,
    /// Attributes.
    pub attributes: Attributes,
    /// Events.
    pub events: Vec<SpanEvent>,
    /// How it ended.
    pub status: SpanStatus,
}

/// A span under way; ends with [`Self::end`] or when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    record: Box<SpanRecord>,
    outlets: Arc<Outlets>,
}

impl Span {
    pub(super) fn new(record: Box<SpanRecord>, outlets: Arc<Outlets>) -> Self {
        Self(Some(Open { record, outlets }))
    }

    /// The context that is passed on to whoever is called.
    pub fn context(&self) -> TraceContext {
        self.0.as_ref().map(|open| open.record.context).unwrap_or_default()
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: String) {
        if let Some(open) = &mut self.0 {
            open.record.name = name;
        }
    }

    /// Keeps the `tracestate` of the caller.
    pub fn set_state(&mut self, state: &str) {
        if let Some(open) = &mut self.0 {
            state.clone_into(&mut open.record.trace_state);
        }
    }

    /// Sets an attribute; the last value of a key counts, an empty one is left out.
    pub fn set(&mut self, key: &str, value: impl AsRef<str>) {
        if let Some(open) = &mut self.0 {
            open.record.attributes.set_text(key, |out| out.push_str(value.as_ref()));
        }
    }

    /// As [`Self::set`], for a text in parts.
    pub fn set_parts(&mut self, key: &str, parts: &[&str]) {
        if let Some(open) = &mut self.0 {
            open.record.attributes.set_text(key, |out| out.extend(parts.iter().copied()));
        }
    }

    /// As [`Self::set`], for the text of a number.
    pub fn set_number(&mut self, key: &str, number: impl Into<u64>) {
        if let Some(open) = &mut self.0 {
            open.record.attributes.set_number(key, number.into());
        }
    }

    /// As [`Self::set`], for the text of an address.
    pub fn set_address(&mut self, key: &str, address: IpAddr) {
        if let Some(open) = &mut self.0 {
            open.record.attributes.set_address(key, address);
        }
    }

    /// Says that it failed.
    pub fn fail(&mut self, reason: impl Into<String>) {
        if let Some(open) = &mut self.0 {
            open.record.status = SpanStatus::Error(reason.into());
        }
    }

    /// Ends it now.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let Open { mut record, outlets } = open;
            record.end = SystemTime::now();
            outlets.take(record);
        }
    }
}

/// What an HTTP status says of a span; `None` below 400. *Source:* spec metrics.md §5.4.
pub fn http_failure(code: u16) -> Option<String> {
    if code < 400 {
        return None;
    }
    let text = http::StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown");
    Some(format!("Code({code}): {text}"))
}
