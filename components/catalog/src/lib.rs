//! The table of all component types this binary carries.
//!
//! *Job:* call each implementation crate's `register`. *Neighbours:* the binary calls [`registry`] and hands the value to
//! the sidecar, which never names an implementation crate. *Invariant:* no type is registered twice.

use pillion_contract::Registry;

/// All component types, ready to be handed to a sidecar.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    pillion_builtin::register(&mut registry);
    pillion_sql::register(&mut registry);
    #[cfg(feature = "opa")]
    pillion_opa::register(&mut registry);
    #[cfg(feature = "wasm")]
    pillion_wasm::register(&mut registry);
    pillion_http::register(&mut registry);
    pillion_names::register(&mut registry);
    pillion_pluggable::register(&mut registry);
    registry
}
