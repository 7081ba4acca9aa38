//! Bindings written here: `bindings.cron`, `bindings.http` and `bindings.localstorage`.
//!
//! *Job:* one module per component type, each with a `create` that the registry calls. *Neighbours:* `contract` has the traits;
//! the block of bindings works with what comes and goes. *Invariant:* no statics; two components share nothing.

pub mod cron;
pub mod http;
pub mod local_storage;

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_input_binding("bindings.cron", cron::create);
    registry.register_output_binding("bindings.http", http::create);
    registry.register_output_binding("bindings.localstorage", local_storage::create);
}
