//! The simple building blocks: one module each, with requests and answers that know nothing of HTTP or gRPC.
//!
//! *Job:* what a block does between a front and its components: names, scopes, keys, errors. *Neighbours:* `api` calls
//! these modules, they call `Arc<dyn Trait>` of `contract`. *Invariant:* errors are rows of the table in `core`.

pub mod bindings;
pub mod outbox;
pub mod pubsub;
mod retired;
pub mod secrets;
pub mod state;

pub use retired::Retired;
