//! Reads the manifests of a sidecar and reports every problem at once.

use std::collections::{BTreeMap, HashMap};

use pillion_contract::Registry;
use pillion_core::log::Logger;
use pillion_invocation::endpoint::{Endpoint, EndpointTls};
use pillion_resources::types::{Configuration, HttpEndpoint, OtherResource};
use pillion_resources::{LoadOptions, Loaded, Severity, load_configuration, load_directories};
use pillion_runtime::app_channel::TlsClient;

use crate::components::ComponentHost;
use crate::environment::Environment;
use crate::options::Options;

/// Reads the Configuration files.
///
/// # Errors
/// The findings that make a start impossible, one per line.
pub(crate) fn configuration(
    options: &Options,
    environment: &Environment,
    log: &Logger,
) -> Result<Configuration, String> {
    if options.configurations.is_empty() {
        log.info("loading default configuration");
    } else {
        let files: Vec<String> = options.configurations.iter().map(|file| file.display().to_string()).collect();
        log.info(format_args!("loading configuration from {}", files.join(", ")));
    }
    let lookup = |name: &str| environment.get(name).map(str::to_owned);
    let (configuration, findings) = load_configuration(&options.configurations, &lookup).map_err(|findings| {
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!("error loading configuration: {}", texts.join("\n"))
    })?;
    for finding in findings {
        log.warn(finding);
    }
    tell_features(&configuration, log);
    Ok(configuration)
}

pub(crate) fn tell_features(configuration: &Configuration, log: &Logger) {
    let enabled: Vec<&str> =
        configuration.features.iter().filter(|(_, enabled)| **enabled).map(|(name, _)| name.as_str()).collect();
    if !enabled.is_empty() {
        log.info(format_args!("Enabled features: {}", enabled.join(" ")));
    }
}

/// Reads the resource directories.
///
/// # Errors
/// The text of a missing directory or of duplicate names.
pub(crate) fn manifests(
    options: &Options,
    environment: &Environment,
    registry: &Registry,
    log: &Logger,
) -> Result<Loaded, String> {
    accepted(load_directories(&options.resource_paths, &load_options(options, environment, registry)), log)
}

/// Tells of what was found in the resources.
///
/// # Errors
/// As [`manifests`].
pub(crate) fn accepted(loaded: Loaded, log: &Logger) -> Result<Loaded, String> {
    for finding in &loaded.findings {
        match finding.severity {
            Severity::Error => log.error(finding),
            Severity::Warning => log.warn(finding),
        }
    }
    if !loaded.unreadable.is_empty() {
        return Err(format!("failed to load components: {}", loaded.unreadable.join("\n")));
    }
    for kind in ["Component", "HTTPEndpoint"] {
        if let Some(texts) = loaded.duplicates_of(kind) {
            let what =
                if kind == "Component" { "failed to load components" } else { "failed to load resources from disk" };
            return Err(format!("{what}: {texts}"));
        }
    }
    for OtherResource { kind, name, origin, .. } in &loaded.others {
        log.debug(format_args!(
            "{}:{}: {kind} {name} is read and not used by this version",
            origin.file.display(),
            origin.line
        ));
    }
    Ok(loaded)
}

/// Which manifests are meant for this sidecar.
pub(crate) fn load_options(options: &Options, environment: &Environment, registry: &Registry) -> LoadOptions {
    LoadOptions {
        app_id: Some(options.app_id.clone()),
        namespace: environment.non_empty("NAMESPACE").map(str::to_owned),
        known_types: registry.types().into_iter().map(str::to_owned).collect(),
    }
}

/// The HTTPEndpoint resources with their secrets; one that lacks a secret is left out and logged.
pub(crate) async fn endpoints(
    resources: &[HttpEndpoint],
    host: &ComponentHost,
    log: &Logger,
) -> HashMap<String, Endpoint> {
    let mut endpoints = HashMap::new();
    for resource in resources {
        match endpoint(resource, host).await {
            Ok(endpoint) => {
                endpoints.insert(resource.name.clone(), endpoint);
                log.info(format_args!("HTTPEndpoint loaded: {}", resource.name));
            }
            Err(problem) => log.error(format_args!(
                "HTTPEndpoint {} is not loaded: {}:{problem}",
                resource.name,
                resource.origin.file.display()
            )),
        }
    }
    endpoints
}

/// Names of the secrets an endpoint refers to.
pub(crate) fn endpoint_secrets(resource: &HttpEndpoint) -> Vec<String> {
    let items = resource.headers.iter().chain(&resource.client_tls);
    let mut names: Vec<String> = items.filter_map(|item| Some(item.secret_key_ref.as_ref()?.0.clone())).collect();
    names.sort();
    names.dedup();
    names
}

async fn endpoint(resource: &HttpEndpoint, host: &ComponentHost) -> Result<Endpoint, String> {
    let secrets = host.secrets(resource.secret_store.as_deref(), &endpoint_secrets(resource)).await?;
    let mut headers = Vec::with_capacity(resource.headers.len());
    for item in &resource.headers {
        headers.push((item.name.clone(), host.value(item, &secrets)?));
    }
    let mut documents = BTreeMap::new();
    for item in &resource.client_tls {
        documents.insert(item.name.as_str(), host.value(item, &secrets)?);
    }
    let tls = client_tls(resource, documents).await?.map(|client| EndpointTls { name: resource.name.clone(), client });
    Ok(Endpoint { base_url: resource.base_url.clone(), headers, tls })
}

/// The TLS settings that `spec.clientTLS` asks for; rustls never renegotiates, which is what `RenegotiateNever`, the default, says.
async fn client_tls(resource: &HttpEndpoint, documents: BTreeMap<&str, String>) -> Result<Option<TlsClient>, String> {
    let Some(line) = resource.client_tls.first().map(|item| item.line) else { return Ok(None) };
    if let Some(other) = documents.get("renegotiation").filter(|value| *value != "RenegotiateNever") {
        return Err(format!(
            "{line}: spec.clientTLS.renegotiation: {other:?} is not supported: expected RenegotiateNever"
        ));
    }
    let text = |name: &str| documents.get(name).filter(|text| !text.is_empty()).cloned();
    let (root_ca, certificate, private_key) = (text("rootCA"), text("certificate"), text("privateKey"));
    let make = move || TlsClient::new(root_ca.as_deref(), certificate.as_deref().zip(private_key.as_deref()));
    let made = tokio::task::spawn_blocking(make).await.map_err(|error| format!("{line}: spec.clientTLS: {error}"))?;
    made.map(Some).map_err(|problem| format!("{line}: spec.clientTLS.{problem}"))
}
