//! Components that need no client library: `state.in-memory`, `pubsub.in-memory`, `secretstores.local.file`,
//! `secretstores.local.env`, `nameresolution.local`, `nameresolution.mdns`.
//!
//! *Job:* one file per component type, each with a `create` that the registry calls. *Neighbours:* `contract` and `core`
//! only. *Invariant:* no statics; two sidecars in one process share nothing but what their metadata or `data_dir` names.

mod like;
pub mod name_local;
pub mod name_mdns;
pub mod pubsub_in_memory;
pub mod secrets_env;
pub mod secrets_file;
pub mod state_in_memory;

use pillion_contract::Registry;

/// Adds every component type of this crate.
pub fn register(registry: &mut Registry) {
    registry.register_state("state.in-memory", state_in_memory::create);
    registry.register_pubsub("pubsub.in-memory", pubsub_in_memory::create);
    registry.register_secrets("secretstores.local.file", secrets_file::create);
    registry.register_secrets("secretstores.local.env", secrets_env::create);
    registry.register_name_resolution("nameresolution.local", name_local::create);
    registry.register_name_resolution("nameresolution.mdns", name_mdns::create);
}

#[cfg(test)]
mod tests {
    use pillion_contract::{InitContext, Metadata};
    use pillion_core::log::Logger;

    /// A context as the sidecar would pass it, with data under a directory of this process.
    pub(crate) fn context(component_type: &str, metadata: &[(&str, &str)]) -> InitContext {
        InitContext {
            name: "test".into(),
            component_type: component_type.into(),
            version: "v1".into(),
            metadata: Metadata::new(metadata.iter().copied()),
            app_id: "test-app".into(),
            namespace: "default".into(),
            data_dir: std::env::temp_dir().join(format!("pillion-builtin-{}", std::process::id())),
            log: Logger::silent(),
            cancel: tokio_util::sync::CancellationToken::new(),
        }
    }
}
