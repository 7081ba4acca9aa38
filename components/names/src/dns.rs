//! `nameresolution.kubernetes` and `nameresolution.dns`: an app is a DNS name made from its id and namespace.
//!
//! *Job:* makes the name, looks it up, answers with all its addresses. *Neighbours:* `template` makes names, `client` asks one
//! DNS server where `server` names it; without, the system's resolver is asked. *Invariant:* an app that was found is looked up
//! again at most every [`KEEP_FOR`].
//!
//! *Source:* components-contrib nameresolution/kubernetes, and nameresolution/dns of its older versions; the cache of the
//! original's runtime for resolvers with several addresses. `server` is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};

use crate::answers::Answers;
use crate::join_host_port;
use client::{DnsClient, Found};
use template::Template;

mod client;
mod message;
mod template;

/// How long the addresses of an app are used, when the DNS server does not want less. *Source:* `resolverCacheTTL`.
const KEEP_FOR: Duration = Duration::from_secs(20);
/// *Source:* the original's `DefaultClusterDomain`.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The component; see the module text.
pub struct DnsResolver {
    template: Template,
    lookup: Lookup,
    answers: Answers,
    /// The internal port of this sidecar; all sidecars of a cluster use the same.
    port: AtomicU16,
}

enum Lookup {
    /// As the system is set up.
    System,
    /// By asking these servers.
    Servers(DnsClient),
}

/// Makes `nameresolution.kubernetes`: fields `clusterDomain`, `template`, `server`.
///
/// # Errors
/// `InvalidRequest` for a template or server that cannot be read.
pub async fn create_kubernetes(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let domain = context.metadata.first_of(&["clusterDomain"]).unwrap_or(CLUSTER_DOMAIN);
    make(&context, &format!("{{{{.ID}}}}-dapr.{{{{.Namespace}}}}.svc.{domain}:{{{{.Port}}}}"))
}

/// Makes `nameresolution.dns`: fields `template`, `server`.
///
/// # Errors
/// As [`create_kubernetes`].
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    make(&context, "{{.ID}}-dapr.{{.Namespace}}.svc:{{.Port}}")
}

fn make(context: &InitContext, default: &str) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let invalid = |problem: String| ComponentError::new(ErrorKind::InvalidRequest, problem);
    let template = context.metadata.first_of(&["template"]).unwrap_or(default);
    let lookup = match context.metadata.first_of(&["server", "servers"]) {
        Some(servers) => Lookup::Servers(DnsClient::new(servers).map_err(invalid)?),
        None => Lookup::System,
    };
    Ok(Arc::new(DnsResolver {
        template: Template::parse(template).map_err(invalid)?,
        lookup,
        answers: Answers::new(KEEP_FOR),
        port: AtomicU16::new(0),
    }))
}

impl DnsResolver {
    /// The addresses behind a name, and how long they may be used.
    async fn look_up(&self, host: &str) -> Result<Found, ComponentError> {
        if let Ok(address) = host.parse() {
            return Ok(Found { addresses: vec![address], keep_for: KEEP_FOR });
        }
        match &self.lookup {
            Lookup::Servers(client) => client.look_up(host).await,
            Lookup::System => {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| {
                    let message = format!(
                        "failed to resolve address for '{host}': {error} (asked the DNS of this system; check that the app is deployed, its namespace, and that the name exists)"
                    );
                    ComponentError::new(ErrorKind::NotFound, message)
                })?;
                let mut addresses = Vec::new();
                for address in found.map(|address| address.ip()) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                Ok(Found { addresses, keep_for: KEEP_FOR })
            }
        }
    }
}

#[async_trait]
impl NameResolver for DnsResolver {
    /// Nothing is announced: whoever runs the cluster has made the names.
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        self.port.store(registration.internal_port, Ordering::Relaxed);
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some(addresses) = self.answers.get(request) {
            return Ok(addresses);
        }
        let own_port = self.port.load(Ordering::Relaxed);
        let name = self.template.fill(request, own_port);
        let (host, port) = split(&name, own_port);
        let found = self.look_up(host).await.inspect_err(|_| self.answers.forget(request))?;
        let addresses: Vec<String> =
            found.addresses.iter().map(|address| join_host_port(&address.to_string(), port)).collect();
        self.answers.put_for(request, &addresses, found.keep_for);
        Ok(addresses)
    }

    fn report_failure(&self, request: &ResolveRequest, _address: &str) {
        self.answers.forget(request);
    }
}

/// Host and port of a name; one without a port gets the own one.
fn split(name: &str, own_port: u16) -> (&str, u16) {
    let is_bracketed = |host: &str| host.starts_with('[') && host.ends_with(']');
    let (host, port) = match name.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if is_bracketed(host) || !host.contains(':') => (host, port),
        _ => (name, own_port),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(test)]
mod tests;
