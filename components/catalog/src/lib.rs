//! The table of all component types this binary carries.
//!
//! *Job:* call each implementation crate's `register`. *Neighbours:* the binary calls [`registry`] and hands the value to
//! the sidecar, which never names an implementation crate. *Invariant:* no type is registered twice. Each crate but `builtin` is a
//! cargo feature, all on by default.

use pillion_contract::Registry;

/// All component types, ready to be handed to a sidecar.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    pillion_builtin::register(&mut registry);
    #[cfg(feature = "bindings")]
    pillion_bindings::register(&mut registry);
    #[cfg(feature = "sql")]
    pillion_sql::register(&mut registry);
    #[cfg(feature = "opa")]
    pillion_opa::register(&mut registry);
    #[cfg(feature = "wasm")]
    pillion_wasm::register(&mut registry);
    #[cfg(feature = "http")]
    pillion_http::register(&mut registry);
    #[cfg(feature = "names")]
    pillion_names::register(&mut registry);
    #[cfg(feature = "pluggable")]
    pillion_pluggable::register(&mut registry);
    registry
}
