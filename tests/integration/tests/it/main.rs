//! Black-box tests of the sidecar over HTTP, one binary, modules named as the building blocks they test.
//!
//! The binary under test is the one `PILLION_BIN` names, else the workspace's debug build. Every test holds for any
//! sidecar with the same wire; where ours promises more, the test says so and asks for the binary first.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests panic with the place that failed")]

mod absent;
mod access_control;
mod app_health;
mod bindings;
mod doctor;
mod errors;
mod faults;
mod fixture;
mod grpc;
mod grpc_app;
mod grpc_proxy;
mod grpc_wire;
mod h2c;
mod healthz;
mod hot_reload;
mod hot_reload_load;
mod invocation;
mod kubernetes;
mod lifecycle;
mod metadata;
mod metrics;
mod middleware;
mod mtls;
mod name_resolution;
mod outbox;
mod pluggable;
mod ports;
mod pubsub;
mod resiliency;
mod resources;
mod secret;
mod sentry;
mod sentry_kubernetes;
mod serviceinvocation;
mod shutdown;
mod startup;
mod state;
mod state_encryption;
mod telemetry;
mod tracing;
mod wire;
