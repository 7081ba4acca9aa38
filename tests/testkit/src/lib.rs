//! What black-box tests need: a sidecar as a process, a fake application, resource files, and a plain HTTP client.
//!
//! Neighbours: `tests/integration` is the only user. Of the product it uses the wire messages alone: a test sees a sidecar only
//! through its ports, its log and its exit code, so that the same test runs against any binary with the same wire.
//!
//! Invariant: every port comes from the operating system, and every process that was started is ended when its handle drops.

mod app;
mod binary;
mod client;
mod collector;
mod eventually;
mod grpc_app;
mod pluggable;
mod ports;
mod resources;
mod sidecar;

pub use app::{Answer, FakeApp, Recorded};
pub use binary::{Binary, BinaryError};
pub use client::{Reply, chunked, request};
pub use collector::{CollectedSpan, OtlpCollector};
pub use eventually::eventually;
pub use grpc_app::GrpcApp;
pub use pluggable::{PluggableCall, PluggableKind, PluggableServer, status_with};
pub use ports::{Reserved, reserve};
pub use resources::ResourceDir;
pub use sidecar::{Sidecar, SidecarOptions, StopError};
