//! Chooses and opens the name resolver.

use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, Metadata, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use pillion_resources::types::Configuration;

use crate::components::ComponentHost;
use crate::options::Options;

/// What is used when the Configuration names none: works on one machine without multicast and without a server.
const DEFAULT: &str = "local";

/// Makes the resolver and announces this sidecar. A problem is logged and leaves a resolver that repeats it on every call:
/// an app that calls nobody is not kept from running.
pub(super) async fn open(
    options: &Options,
    configuration: &Configuration,
    host: &ComponentHost,
    host_address: &str,
    internal_port: u16,
    log: &Logger,
) -> Arc<dyn NameResolver> {
    let spec = configuration.name_resolution.as_ref();
    let name = spec.map(|spec| spec.component.as_str()).filter(|name| !name.is_empty()).unwrap_or(DEFAULT);
    let settings = spec.map_or_else(Metadata::default, |spec| settings(&spec.configuration));
    let version = spec.map_or("", |spec| spec.version.as_str());
    match make(name, version, settings, options, host, host_address, internal_port).await {
        Ok(resolver) => {
            log.info(format_args!("Initialized name resolution to {name}"));
            resolver
        }
        Err(problem) => {
            log.error(&problem);
            if let Some(metrics) = host.metrics.service() {
                metrics.component_failed("nameResolution", "init", name);
            }
            Arc::new(Broken(problem))
        }
    }
}

async fn make(
    name: &str,
    version: &str,
    settings: Metadata,
    options: &Options,
    host: &ComponentHost,
    host_address: &str,
    internal_port: u16,
) -> Result<Arc<dyn NameResolver>, String> {
    let component_type = format!("nameresolution.{name}");
    let failed = |problem: &dyn std::fmt::Display| {
        format!("[INIT_COMPONENT_FAILURE]: initialization error occurred for nr ({component_type}/v1): {problem}")
    };
    let factory = host.registry.name_resolution(&component_type).ok_or_else(|| {
        let types = host.registry.types();
        let known: Vec<&str> = types.into_iter().filter_map(|name| name.strip_prefix("nameresolution.")).collect();
        failed(&format!(
            "couldn't find name resolver {component_type}/v1; spec.nameResolution.component can be {}",
            known.join(", ")
        ))
    })?;
    let version = first_version(version).ok_or_else(|| {
        failed(&format!(
            "couldn't find name resolver {component_type}/{version}; spec.nameResolution.version can be v1"
        ))
    })?;
    let context = InitContext {
        name: name.to_owned(),
        component_type: component_type.clone(),
        version: version.to_owned(),
        metadata: settings,
        app_id: host.app_id.clone(),
        namespace: host.namespace.clone(),
        data_dir: host.data_dir.clone(),
        log: host.log.scope("dapr.contrib"),
        cancel: host.cancel.child_token(),
    };
    let resolver = factory(context).await.map_err(|error| failed(&error))?;
    let listen = options.internal_listen_address.as_str();
    let address = match listen {
        "127.0.0.1" | "localhost" | "[::1]" | "::1" => listen,
        // Peers of the local resolver are on this machine, so the way over the network card is a detour.
        "" | "0.0.0.0" | "::" | "[::]" if name == DEFAULT => "127.0.0.1",
        "" | "0.0.0.0" | "::" | "[::]" => host_address,
        other => other,
    };
    let registration = Registration {
        app_id: host.app_id.clone(),
        namespace: host.namespace.clone(),
        host: address.trim_start_matches('[').trim_end_matches(']').to_owned(),
        internal_port,
        http_port: options.http_port,
    };
    resolver.register(registration).await.map_err(|error| failed(&error))?;
    Ok(resolver)
}

/// The version that is asked for; every resolver has its first one only. *Source:* which names the original takes for that.
fn first_version(version: &str) -> Option<&'static str> {
    ["", "v0", "v1"].iter().any(|first| version.eq_ignore_ascii_case(first)).then_some("v1")
}

/// The free-form settings as metadata; nested values keep their JSON text.
fn settings(configuration: &serde_json::Value) -> Metadata {
    let pairs = configuration.as_object().into_iter().flatten().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), text)
    });
    Metadata::new(pairs)
}

/// Stands in for a resolver that could not be opened.
struct Broken(String);

#[async_trait]
impl NameResolver for Broken {
    async fn register(&self, _: Registration) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn resolve(&self, _: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        Err(ComponentError::new(ErrorKind::Unavailable, format!("name resolution did not start: {}", self.0)))
    }
}
