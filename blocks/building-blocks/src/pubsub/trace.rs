//! The trace of an event: read from its attributes, handed to the app, told as the span of its delivery.
//!
//! *Source:* spec app_channel.md §9 and metrics.md §5.3. *Invariant:* a text that is not a trace context counts as an empty one,
//! all zeros, unless spans are recorded: then the delivery begins a new trace.

use pillion_telemetry::trace::{Span, SpanKind, Started, Tracer, http_failure};
use serde_json::Value;

use super::envelope::CloudEvent;

pub use pillion_telemetry::trace::TraceContext;

/// The context an event carries in `traceparent`, or in `traceid` as old publishers wrote it; `None` when it has neither or the
/// value is no text.
pub(super) fn of_event(event: &CloudEvent) -> Option<TraceContext> {
    let field = |name: &str| event.get(name).filter(|value| !value.is_null());
    let text = field("traceparent").or_else(|| field("traceid")).and_then(Value::as_str)?;
    Some(TraceContext::parse(text).unwrap_or_default())
}

/// Starts the span of a delivery; `context` is the event's. An event without any has no span.
pub(super) fn start(tracer: &Tracer, topic: &str, context: Option<TraceContext>) -> Started {
    let Some(context) = context.filter(|_| tracer.is_on()) else { return Started { context, span: None } };
    let parent = Some(context).filter(|context| *context != TraceContext::default());
    let Started { context, span } = tracer.start(SpanKind::Client, parent, || format!("pubsub/{topic}"));
    let span = span.map(|mut span| {
        span.set("messaging.system", "pubsub");
        span.set("messaging.destination.name", topic);
        span
    });
    Started { context, span }
}

/// Ends a delivery an HTTP app answered with this status.
pub(super) fn end_http(span: Option<Span>, status: u16) {
    if let (Some(mut span), Some(reason)) = (span, http_failure(status)) {
        span.fail(reason);
    }
}

/// Ends a delivery that failed for this reason, if there is one.
pub(super) fn end(span: Option<Span>, failure: Option<&str>) {
    if let (Some(mut span), Some(reason)) = (span, failure) {
        span.fail(reason);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_carries_its_context_under_two_names() {
        const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";
        for (event, found) in [
            (json!({"traceparent": GOOD}), TraceContext::parse(GOOD)),
            (json!({"traceid": GOOD}), TraceContext::parse(GOOD)),
            (json!({"traceid": "x"}), Some(TraceContext::default())),
            (json!({"traceparent": null, "id": "1"}), None),
            (json!({"traceparent": 1}), None),
        ] {
            assert_eq!(of_event(event.as_object().unwrap()), found, "{event}");
        }
    }
}
