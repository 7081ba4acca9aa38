//! Spans as lines in the log. *Source:* spec metrics.md §5.1 "stdout format".

use std::time::SystemTime;

use pillion_core::log::Logger;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::hex;
use crate::trace::span::SpanRecord;

pub(super) struct StdoutExporter {
    log: Logger,
}

impl StdoutExporter {
    pub(super) fn new(log: &Logger) -> Self {
        Self { log: log.scope("dapr.runtime.trace") }
    }

    pub(super) fn export(&self, batch: &[Box<SpanRecord>]) {
        for span in batch {
            self.log.info(line(span));
        }
    }
}

pub(super) fn line(span: &SpanRecord) -> String {
    let events: Vec<&str> = span.events.iter().map(|event| event.name.as_ref()).collect();
    format!(
        "[{}] Trace: {} Span: {}/{} Time: [{} ->  {}] Annotations: [{}]",
        span.name,
        hex(&span.context.trace_id),
        hex(&span.parent.unwrap_or_default()),
        hex(&span.context.span_id),
        shown(span.start),
        shown(span.end),
        events.join(" ")
    )
}

fn shown(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
