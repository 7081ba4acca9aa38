//! A span while it is recorded, and what is left of it for the exporters.
//!
//! *Invariant:* a [`Span`] that is dropped has ended: a call whose caller went away is told of too.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::context::TraceContext;
use super::tracer::Queues;

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
    /// Attributes; no key twice.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
    /// Events.
    pub events: Vec<SpanEvent>,
    /// How it ended.
    pub status: SpanStatus,
}

/// A span under way; ends with [`Self::end`] or when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    record: SpanRecord,
    queues: Arc<Queues>,
}

impl Span {
    pub(super) fn new(record: SpanRecord, queues: Arc<Queues>) -> Self {
        Self(Some(Box::new(Open { record, queues })))
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
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        let Some(open) = &mut self.0 else { return };
        if value.is_empty() {
            return;
        }
        let attributes = &mut open.record.attributes;
        let value = AttributeValue::Text(value);
        match attributes.iter_mut().find(|(existing, _)| *existing == key) {
            Some(attribute) => attribute.1 = value,
            None => attributes.push((key, value)),
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
            let Open { mut record, queues } = *open;
            record.end = SystemTime::now();
            queues.push(record);
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
