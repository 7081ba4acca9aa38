//! The fronts: HTTP and gRPC, translation only.
//!
//! *Job:* turn wire requests into calls of the blocks and their answers, and [`pillion_core::error::ApiError`], into wire
//! bytes. *Neighbours:* `sidecar` constructs and serves the fronts. *Invariant:* no behaviour of a block lives here, and
//! nowhere else is an error given an HTTP or gRPC form.

mod absent;
mod accept;
mod error_labels;
#[cfg(test)]
mod error_rows;
pub mod grpc;
pub mod http;
pub mod runtime_info;
mod token;
