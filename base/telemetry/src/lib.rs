//! What a sidecar tells about itself: metrics, spans and log lines, for Prometheus, OpenTelemetry and Zipkin.
//!
//! Every registry is a value handed in by whoever starts the sidecar; nothing here is global, so one process may host many.

pub mod export;
pub mod logs;
pub mod metrics;
pub mod trace;

mod text;
