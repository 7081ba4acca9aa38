//! Who may call what of this app: `spec.accessControl` of the Configuration.
//!
//! *Job:* [`AccessControl`] is asked for every call of another sidecar, and for gRPC calls that an app passes to itself.
//! *Neighbours:* [`crate::inbound`] and [`crate::proxy`] ask after they have cleaned the operation and before anything of the
//! app is touched; the sidecar compiles it once. *Invariant:* the identity of a caller is that of its certificate and nothing
//! a caller writes; without mutual TLS nobody has one and the default action decides. *Source:* spec internals.md §5.8.

mod caller;
mod rules;
mod trie;

use std::fmt;

use pillion_core::error::GrpcCode;
use pillion_core::log::Logger;
use pillion_resources::AccessControlSpec;
use pillion_security::SpiffeId;
use pillion_telemetry::metrics::{AccessDecision, Metrics};

use crate::peer::PeerError;
pub(crate) use caller::correct_caller;
use rules::{DecidedBy, Rules};

/// How an operation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// By name, through the service of the sidecars; with the verb, if there is one.
    Method(Option<&'a str>),
    /// As a gRPC service of the app.
    Service,
}

/// Compiled access rules of one app. Cheap to ask.
#[derive(Debug)]
pub struct AccessControl {
    rules: Rules,
    is_http: bool,
    metrics: Metrics,
    log: Logger,
}

/// A specification that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAccessControl {
    without_trust_domain: Vec<String>,
    without_namespace: Vec<String>,
    without_app_id: bool,
}

impl InvalidAccessControl {
    fn is_none(&self) -> bool {
        self.without_trust_domain.is_empty() && self.without_namespace.is_empty() && !self.without_app_id
    }
}

impl fmt::Display for InvalidAccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid access control spec. missing trustdomain for apps: [{}], missing namespace for apps: [{}], missing app name on at least one of the app policies: {}",
            self.without_trust_domain.join(" "),
            self.without_namespace.join(" "),
            self.without_app_id
        )
    }
}

impl std::error::Error for InvalidAccessControl {}

impl AccessControl {
    /// Compiles a specification for an app that speaks HTTP or gRPC. `None` when there is nothing to ask: everything is
    /// allowed and nothing is counted.
    ///
    /// # Errors
    /// When a policy does not name its app id, trust domain or namespace.
    pub fn compile(
        spec: &AccessControlSpec,
        is_http: bool,
        metrics: Metrics,
        log: Logger,
    ) -> Result<Option<Self>, InvalidAccessControl> {
        let mut notes = Vec::new();
        let rules = Rules::compile(spec, is_http, &mut notes)?;
        notes.iter().for_each(|note| log.warn(note));
        let rules = rules.filter(|rules| metrics.is_on() || !rules.allow_all());
        Ok(rules.map(|rules| Self { rules, is_http, metrics, log }))
    }

    /// Checks a call of `peer` to a cleaned operation.
    ///
    /// # Errors
    /// `PermissionDenied` with the original's text, which names identity, operation and verb.
    pub fn check(&self, peer: Option<&SpiffeId>, operation: &str, asked: Asked<'_>) -> Result<(), PeerError> {
        // The verb of a call to a gRPC app is no part of it.
        let asked = if self.is_http || asked == Asked::Service { asked } else { Asked::Method(None) };
        let verdict = self.rules.judge(peer, operation, asked);
        if let Some(metrics) = self.metrics.service() {
            let caller =
                peer.map_or(("", "", ""), |peer| (peer.app_id(), peer.trust_domain().as_str(), peer.namespace()));
            metrics.access_decided(decision(verdict), caller);
        }
        if verdict.allowed { Ok(()) } else { Err(self.denied(peer, operation, asked)) }
    }

    #[cold]
    fn denied(&self, peer: Option<&SpiffeId>, operation: &str, asked: Asked<'_>) -> PeerError {
        let id = peer.map(ToString::to_string).unwrap_or_default();
        let verb = match asked {
            Asked::Method(Some(verb)) => verb,
            Asked::Method(None) | Asked::Service => "NONE",
        };
        let text = format!("access control policy has denied access to id: {id} operation: {operation} verb: {verb}");
        self.log.debug(&text);
        PeerError::new(GrpcCode::PermissionDenied, text)
    }
}

fn decision(verdict: rules::Verdict) -> AccessDecision {
    match (verdict.by, verdict.allowed) {
        (DecidedBy::App, true) => AccessDecision::AllowedByApp,
        (DecidedBy::App, false) => AccessDecision::BlockedByApp,
        (DecidedBy::Global, true) => AccessDecision::AllowedByDefault,
        (DecidedBy::Global, false) => AccessDecision::BlockedByDefault,
    }
}

#[cfg(test)]
mod tests;
