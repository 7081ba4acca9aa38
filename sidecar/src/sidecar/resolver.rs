//! Chooses and opens the name resolver.

use std::sync::Arc;

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, Metadata, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use pillion_resources::types::{Configuration, NameResolution};
use tokio_util::sync::CancellationToken;

use crate::components::ComponentHost;
use crate::options::{Mode, Options};

/// What is used when the Configuration names none: works on one machine without multicast and without a server, and meets
/// the original's default, mDNS, on a network.
const DEFAULT: &str = "local";
/// The same for a sidecar in Kubernetes. *Source:* the original.
const DEFAULT_IN_KUBERNETES: &str = "kubernetes";

/// The resolver of a sidecar.
pub(super) struct OpenResolver {
    pub(super) resolver: Arc<dyn NameResolver>,
    settings: Option<NameResolution>,
    /// Of its background work; not that of the sidecar, which may hand it on.
    cancel: CancellationToken,
}

impl OpenResolver {
    /// Withdraws the name and ends.
    pub(super) async fn close(&self, log: &Logger) {
        if let Err(error) = self.resolver.close().await {
            log.warn(format_args!("the name of this app could not be withdrawn: {error}"));
        }
        self.cancel.cancel();
    }
}

/// Opens the resolver, or takes over the one of the sidecar before, so that the app can be found without a break.
pub(super) async fn open_or_take_over(
    before: Option<&OpenResolver>,
    options: &Options,
    configuration: &Configuration,
    host: &ComponentHost,
    (host_address, internal_port): (&str, u16),
    log: &Logger,
) -> OpenResolver {
    let settings = configuration.name_resolution.clone();
    if let Some(before) = before {
        if before.settings == settings {
            return OpenResolver { resolver: before.resolver.clone(), settings, cancel: before.cancel.clone() };
        }
        before.close(log).await;
    }
    let cancel = CancellationToken::new();
    let resolver = open(options, configuration, host, (host_address, internal_port), &cancel, log).await;
    OpenResolver { resolver, settings, cancel }
}

/// Makes the resolver and announces this sidecar. A problem is logged and leaves a resolver that repeats it on every call:
/// an app that calls nobody is not kept from running.
async fn open(
    options: &Options,
    configuration: &Configuration,
    host: &ComponentHost,
    addresses: (&str, u16),
    cancel: &CancellationToken,
    log: &Logger,
) -> Arc<dyn NameResolver> {
    let spec = configuration.name_resolution.as_ref();
    let name = spec.map(|spec| spec.component.as_str()).filter(|name| !name.is_empty());
    let name = name.unwrap_or(match options.mode {
        Mode::Standalone => DEFAULT,
        Mode::Kubernetes => DEFAULT_IN_KUBERNETES,
    });
    let settings = spec.map_or_else(Metadata::default, |spec| settings(&spec.configuration));
    let version = spec.map_or("", |spec| spec.version.as_str());
    match make(name, (version, settings), options, host, addresses, cancel).await {
        Ok(resolver) => {
            log.info(format_args!("Initialized name resolution to {name}"));
            resolver
        }
        Err(problem) => {
            log.error(&problem);
            host.board.unhealthy(
                "nameResolution",
                name,
                "it did not start, so that no other app can be called and none finds this one",
                problem.clone(),
                "correct spec.nameResolution of the Configuration and restart the sidecar",
            );
            if let Some(metrics) = host.metrics.service() {
                metrics.component_failed("nameResolution", "init", name);
            }
            Arc::new(Broken(problem))
        }
    }
}

async fn make(
    name: &str,
    (version, settings): (&str, Metadata),
    options: &Options,
    host: &ComponentHost,
    (host_address, internal_port): (&str, u16),
    cancel: &CancellationToken,
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
        cancel: cancel.clone(),
    };
    let resolver = factory(context).await.map_err(|error| failed(&error))?;
    let listen = options.internal_listen_address.as_str();
    let (address, local_address) = match listen {
        // Peers on this machine need no way over the network card.
        "" | "0.0.0.0" | "::" | "[::]" => (host_address, "127.0.0.1"),
        one => (one, one),
    };
    let bare = |address: &str| address.trim_start_matches('[').trim_end_matches(']').to_owned();
    let registration = Registration {
        app_id: host.app_id.clone(),
        namespace: host.namespace.clone(),
        host: bare(address),
        local_host: bare(local_address),
        internal_port,
        http_port: options.http_port,
        app_port: options.app_port,
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
