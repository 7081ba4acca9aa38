//! Components on SQLite.

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(_registry: &mut Registry) {}
