//! HTTP/2 for gRPC: what the front, the app channel and the connections between sidecars have in common.

pub mod alive;
pub mod stream;

/// What may be sent to us on a stream before any of it is used.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection together.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
