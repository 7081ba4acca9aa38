//! What all blocks share: message and body types, the app channel, resiliency.
//!
//! *Job:* talk to the app and apply policies; no building block of its own. *Neighbours:* blocks above use it; it sees
//! components only through `contract`. *Invariant:* nothing here knows of HTTP routes or rpc names of the public API.

pub mod app_channel;
pub mod body;
pub mod grpc_meter;
pub mod http1;
pub mod http2;
pub mod loops;
pub mod message;
pub mod pipeline;
pub mod resiliency;
pub mod socket;
pub mod succession;
