//! Components that run WebAssembly: `middleware.http.wasm`.
//!
//! *Job:* host guests of the http-wasm handler ABI. *Neighbours:* `contract` and `core` only. *Invariant:* a guest cannot hold
//! a thread of the sidecar: it runs in slices of fuel with a yield between them, and its memory, output and time have limits.
//!
//! Reading order: [`metadata`] and [`fetch`] find the module, [`module`] compiles and checks it, [`guest`] is one instance and
//! drives its calls, [`exchange`] and [`draft`] are what a call may see and change, [`host`] and [`wasi`] are the functions a guest imports,
//! [`middleware`] puts them together.

mod body;
mod draft;
mod exchange;
mod fetch;
mod guest;
mod host;
mod memory;
mod metadata;
mod middleware;
mod module;
mod wasi;

#[cfg(test)]
mod tests;

use pillion_contract::Registry;

pub use middleware::create;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_middleware("middleware.http.wasm", create);
}
