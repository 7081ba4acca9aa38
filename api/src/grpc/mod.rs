//! The gRPC front: translation between gRPC messages and the building blocks, nothing else.
//!
//! Neighbours: `pillion_proto` has the messages and server traits, the blocks do the work, `sidecar` makes a [`GrpcApi`]
//! and a [`GrpcFront`] and hands over listeners. Invariant: [`status`] is the only place where an
//! [`ApiError`](pillion_core::error::ApiError) becomes a gRPC status.

mod absent;
mod activity;
mod bindings;
mod dapr;
mod front;
mod invoke;
mod metadata;
mod observe;
mod publish;
mod reword;
mod rules;
mod secrets;
mod serve;
mod spans;
mod state;
pub mod status;
mod subscribe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use pillion_building_blocks::bindings::OutputBindings;
use pillion_building_blocks::pubsub::{PubSubs, Subscriptions};
use pillion_building_blocks::secrets::SecretStores;
use pillion_building_blocks::state::StateStores;
use pillion_invocation::Invoker;

use crate::runtime_info::RuntimeInfo;

pub use front::{FrontOptions, GrpcFront};
pub use rules::ApiRules;

/// The blocks behind the public gRPC API. Its calls are the methods of the service `Dapr` that are built; the others
/// answer `UNIMPLEMENTED` and name themselves.
pub struct GrpcApi {
    /// Health, metadata, shutdown.
    pub info: Arc<dyn RuntimeInfo>,
    /// Service invocation.
    pub invoker: Arc<Invoker>,
    /// State stores.
    pub state: Arc<StateStores>,
    /// Secret stores.
    pub secrets: Arc<SecretStores>,
    /// Publishing.
    pub pubsub: Arc<PubSubs>,
    /// Output bindings.
    pub bindings: Arc<OutputBindings>,
    /// Streaming subscriptions.
    pub subscriptions: Arc<Subscriptions>,
    /// `--max-body-size` in bytes, the limit of what is read of an app's answer; 0 = no limit.
    pub max_body_bytes: usize,
}
