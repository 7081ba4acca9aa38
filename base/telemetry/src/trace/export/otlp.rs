//! Spans as messages of the OpenTelemetry protocol.

use super::otlp_messages::{
    EventMessage, ExportTraceServiceRequest, ResourceSpans, ScopeSpans, SpanMessage, StatusMessage,
};
use crate::export::{AnyValue, ArrayValue, KeyValue, Resource, SCHEMA, Scope, Value, nanoseconds, text_value};
use crate::trace::attributes::Kind;
use crate::trace::span::{AttributeValue, SpanKind, SpanRecord, SpanStatus};

const ERROR: i32 = 2;

/// The batch as a message, grouped by scope.
pub(super) fn to_request(batch: &[Box<SpanRecord>], resource: &Resource) -> ExportTraceServiceRequest {
    let mut scopes: Vec<(&str, Vec<SpanMessage>)> = Vec::new();
    for span in batch {
        let message = to_message(span);
        match scopes.iter_mut().find(|(name, _)| *name == span.scope) {
            Some((_, spans)) => spans.push(message),
            None => scopes.push((span.scope, vec![message])),
        }
    }
    let scope_spans = scopes
        .into_iter()
        .map(|(name, spans)| ScopeSpans { scope: Some(Scope { name: name.to_owned() }), spans })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.message()),
            scope_spans,
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn to_message(span: &SpanRecord) -> SpanMessage {
    SpanMessage {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        },
        start_time_unix_nano: nanoseconds(span.start),
        end_time_unix_nano: nanoseconds(span.end),
        attributes: span
            .attributes
            .iter()
            .map(|(key, kind, value)| KeyValue { key: key.to_owned(), value: Some(to_value(kind, value)) })
            .collect(),
        events: span
            .events
            .iter()
            .map(|event| EventMessage {
                time_unix_nano: nanoseconds(event.time),
                name: event.name.to_string(),
                attributes: event
                    .attributes
                    .iter()
                    .map(|(key, value)| KeyValue { key: key.to_string(), value: Some(event_value(value)) })
                    .collect(),
            })
            .collect(),
        status: Some(match &span.status {
            SpanStatus::Unset => StatusMessage::default(),
            SpanStatus::Error(reason) => StatusMessage { message: reason.clone(), code: ERROR },
        }),
        flags: u32::from(span.context.flags),
    }
}

/// Values are kept as text.
fn to_value(kind: Kind, value: &str) -> AnyValue {
    match kind {
        Kind::Text => text_value(value.to_owned()),
        Kind::Integer => AnyValue { value: value.parse().ok().map(Value::Integer) },
        Kind::Texts => array(&serde_json::from_str::<Vec<String>>(value).unwrap_or_default()), // written by serde_json
    }
}

fn event_value(value: &AttributeValue) -> AnyValue {
    match value {
        AttributeValue::Text(value) => text_value(value.clone()),
        AttributeValue::Integer(number) => AnyValue { value: Some(Value::Integer(*number)) },
        AttributeValue::Texts(texts) => array(texts),
    }
}

fn array(texts: &[String]) -> AnyValue {
    let values = texts.iter().map(|text| text_value(text.clone())).collect();
    AnyValue { value: Some(Value::Array(ArrayValue { values })) }
}
