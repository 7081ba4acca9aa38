//! Distributed tracing of one sidecar: W3C trace context, spans, sampling and export.
//!
//! *Job:* read and write trace context in its text and binary form, decide what is recorded, and send finished spans to Zipkin,
//! OTLP or the log. *Neighbours:* the fronts and blocks start spans with a [`Tracer`] they are given; `sidecar` makes it and runs
//! its [`ExportWorker`]s. *Invariant:* a span exists only when it is sampled, ending one never waits, and a collector that does
//! not answer costs no more than a bounded queue and one warning.

mod attributes;
mod baggage;
mod context;
mod export;
mod ids;
mod sampler;
mod span;
mod tracer;

pub use attributes::Attributes;
pub use baggage::{BaggageError, check_baggage};
pub use context::{
    BAGGAGE, GRPC_TRACE_BIN, NO_CONTEXT, TRACE_PARENT, TRACE_STATE, TraceContext, context_of_headers, forget_state,
};
pub use export::{ExportWorker, ExporterSettings};
pub use sampler::{DEFAULT_RATE, Sampler, sampling_rate};
pub use span::{
    AttributeValue, DAPR_SCOPE, Span, SpanEvent, SpanKind, SpanRecord, SpanStatus, WORKFLOW_SCOPE, http_failure,
};
pub use tracer::{Started, Tracer, TracerSettings};
