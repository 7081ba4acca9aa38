//! HTTP/2 for gRPC: what the front, the app channel and the connections between sidecars have in common.

pub mod alive;
pub mod stream;
