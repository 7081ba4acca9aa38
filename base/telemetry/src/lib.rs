//! What a sidecar tells about itself: Prometheus metrics and W3C trace context.
//!
//! Every registry is a value handed in by whoever starts the sidecar; nothing here is global, so one process may host many.

pub mod metrics;
pub mod trace;
