//! Pluggable components: other processes that serve `state`, `pubsub`, `secretstores` or `bindings` over gRPC on a Unix socket.
//!
//! *Job:* at the start of a sidecar find the sockets, ask each what it serves, and make a factory for each. *Neighbours:*
//! `contract` for the traits, `proto` for the protocol (`dapr.proto.components.v1`). *Invariant:* a component talks over one
//! connection of its own, which is made anew when it breaks, and every call carries the component's name.
//!
//! *Source:* spec components.md §5.2.

mod bindings;
mod connection;
mod discovery;
mod pubsub;
mod reflection;
mod secrets;
mod state;
mod status;
mod stream;

use pillion_contract::Registry;

pub use bindings::{PluggableInput, PluggableOutput};
pub use discovery::discover;
pub use pubsub::PluggablePubSub;
pub use secrets::PluggableSecrets;
pub use state::PluggableState;

/// Adds the search for sockets; the types are known when it has run.
pub fn register(registry: &mut Registry) {
    registry.register_discovery(discover);
}
