//! Components that decide with Open Policy Agent policies: `middleware.http.opa`.
//!
//! *Job:* ask a Rego policy about each request. *Neighbours:* `contract` and `core` only; the language is the crate `regorus`.
//! *Invariant:* what goes wrong in a policy is a refusal, never a pass.
//!
//! Reading order: [`metadata`], [`policy`] compiles and evaluates, [`input`] is what a policy sees of a request, [`verdict`] what
//! it may answer, [`jwt`] a function that policies use and `regorus` lacks, [`middleware`] puts them together.

mod input;
mod jwt;
mod metadata;
mod middleware;
mod policy;
mod verdict;

#[cfg(test)]
mod tests;

use pillion_contract::Registry;

pub use middleware::create;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_middleware("middleware.http.opa", create);
}
