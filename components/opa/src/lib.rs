//! Components that decide with Open Policy Agent policies: `middleware.http.opa`.
//!
//! *Job:* ask a Rego policy about each request. *Neighbours:* `contract`, and of the base crates `core`, `security` (keys) and
//! `http-client` (`http.send`); the language is the crate `regorus`.
//! *Invariant:* what goes wrong in a policy is a refusal, never a pass.
//!
//! Reading order: [`metadata`], [`policy`] compiles and evaluates, [`input`] is what a policy sees of a request, [`verdict`] what
//! it may answer, [`middleware`] puts them together. What `regorus` lacks: [`functions`] is the list, [`digest`], [`x509`] and
//! [`jwt`] have them; [`send`] is `http.send`.

mod digest;
mod functions;
mod input;
mod jwt;
mod metadata;
mod middleware;
mod policy;
mod send;
mod verdict;
mod x509;

#[cfg(test)]
mod tests;

use pillion_contract::Registry;

pub use middleware::create;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_middleware("middleware.http.opa", create);
}
