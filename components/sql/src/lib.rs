//! Components on SQLite: `state.sqlite` (also `state.sqlite3`), `nameresolution.sqlite` and `pubsub.embedded`.
//!
//! *Job:* one file per component type with a `create` that the registry calls; what they share is in `metadata`,
//! `connection`, `migrations` and `database`. *Neighbours:* `contract` and `core` only. *Invariant:* SQLite never runs on
//! an async thread.

mod connection;
mod database;
mod metadata;
mod migrations;
pub mod name_sqlite;
pub mod pubsub_embedded;
pub mod state_sqlite;

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_state("state.sqlite", state_sqlite::create);
    registry.register_state("state.sqlite3", state_sqlite::create);
    registry.register_name_resolution("nameresolution.sqlite", name_sqlite::create);
    registry.register_pubsub("pubsub.embedded", pubsub_embedded::create);
}

#[cfg(test)]
mod tests {
    use pillion_contract::{InitContext, Metadata};
    use pillion_core::log::Logger;

    /// A context as the sidecar would pass it.
    pub(crate) fn context(component_type: &str, metadata: &[(&str, &str)]) -> InitContext {
        InitContext {
            name: "test".into(),
            component_type: component_type.into(),
            version: "v1".into(),
            metadata: Metadata::new(metadata.iter().copied()),
            app_id: "test-app".into(),
            namespace: "default".into(),
            data_dir: std::env::temp_dir().join(format!("pillion-sql-{}", std::process::id())),
            log: Logger::silent(),
            cancel: tokio_util::sync::CancellationToken::new(),
        }
    }
}
