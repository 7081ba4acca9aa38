//! Service invocation: from an app id to the app behind another sidecar, and the other way round.
//!
//! *Job:* resolve, connect, apply policies, stream ([`outbound`]); accept calls of other sidecars ([`inbound`]); pass gRPC
//! calls of any service through ([`Invoker::proxy`]).
//! *Neighbours:* `api` calls [`Invoker`]; `runtime` gives the app channel. *Invariant:* bodies stream; what is read into
//! memory is limited and only read when a retry may need it.

pub mod access;
mod dialing;
mod direct;
pub mod endpoint;
pub mod inbound;
mod lingering;
pub mod outbound;
mod peer;
mod policy;
mod proxy;
mod rotation;
mod shortcut;
mod spans;
mod stream;
mod wire;

pub use access::AccessControl;
pub use inbound::InternalServer;
pub use outbound::{Invoker, InvokerOptions};
pub use peer::{PeerError, PeerPool};
pub use policy::InvokeError;
pub use shortcut::Shortcut;
