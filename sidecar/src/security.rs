//! The identity of a sidecar: from flags and variables to what TLS is made with.
//!
//! *Neighbours:* `pillion-identity` talks to sentry; the sidecar starts with this, before anything is served. *Source:* spec
//! flags.md §1 and internals.md §5.6; the order and the texts are those of the original's `pkg/security`.

use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_identity::{AnchorSource, Identity, Options as IdentityOptions, TokenSource, sentry_id};
use pillion_security::TrustDomain;

use crate::environment::Environment;
use crate::options::{Mode, Options};

const ANCHORS: &str = "DAPR_TRUST_ANCHORS";
/// Ours: the original takes a file in its control plane only.
const ANCHORS_FILE: &str = "DAPR_TRUST_ANCHORS_FILE";
const DEFAULT_NAMESPACE: &str = "default";

/// The identity of the sidecar; `None` when mutual TLS is off. In Kubernetes there always is one, as the control plane asks for it.
/// Waits for sentry.
///
/// # Errors
/// What cannot be used, and why sentry refused.
pub(crate) async fn obtain(
    options: &Options,
    environment: &Environment,
    board: &Board,
    log: &Logger,
) -> Result<Option<Identity>, String> {
    let control_plane = trust_domain(options)?;
    if !options.mtls {
        log.warn("mTLS is disabled. Skipping certificate request and tls validation");
        if options.mode == Mode::Standalone {
            return Ok(None);
        }
    }
    let asked = asked(options, environment, &control_plane, board)?;
    let identity = Identity::obtain(asked, log.scope("dapr.runtime.security")).await;
    identity.map(Some).map_err(|error| error.to_string())
}

fn trust_domain(options: &Options) -> Result<TrustDomain, String> {
    if options.control_plane_trust_domain.is_empty() {
        return Err("control plane trust domain is required: --control-plane-trust-domain is empty".to_owned());
    }
    TrustDomain::parse(&options.control_plane_trust_domain)
        .map_err(|error| format!("invalid control plane trust domain: {error}"))
}

fn asked(
    options: &Options,
    environment: &Environment,
    control_plane: &TrustDomain,
    board: &Board,
) -> Result<IdentityOptions, String> {
    let anchors = match (environment.non_empty(ANCHORS), environment.non_empty(ANCHORS_FILE)) {
        (Some(_), Some(_)) => {
            return Err(format!("trust anchors cannot be specified in both {ANCHORS} and {ANCHORS_FILE}"));
        }
        (Some(pem), None) => AnchorSource::Pem(pem.to_owned()),
        (None, Some(path)) => AnchorSource::File(path.into()),
        (None, None) => {
            return Err(format!(
                "trust anchors are required: set {ANCHORS} to the PEM of the roots (ca.crt of sentry), or {ANCHORS_FILE} to \
                 its path"
            ));
        }
    };
    if options.sentry_address.is_empty() {
        let flag = if options.mtls { "--enable-mtls" } else { "--mode=kubernetes" };
        return Err(format!("{flag} needs the address of sentry: set --sentry-address, such as localhost:50001"));
    }
    let sentry = sentry_id(control_plane, &options.control_plane_namespace)
        .map_err(|error| format!("the identity of sentry: {error}; check --control-plane-namespace"))?;
    let token = TokenSource::of_variable(environment.get("DAPR_SENTRY_TOKEN_FILE"), options.mode == Mode::Kubernetes)
        .map_err(|error| error.to_string())?;
    Ok(IdentityOptions {
        app_id: environment.non_empty("SENTRY_LOCAL_IDENTITY").unwrap_or(&options.app_id).to_owned(),
        namespace: environment.non_empty("NAMESPACE").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        sentry_address: options.sentry_address.clone(),
        sentry,
        trust_domain: None, // that of the app is sentry's to choose
        anchors,
        token,
        jwt_audiences: options.sentry_jwt_audiences.clone(),
        board: board.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Command;

    fn given(arguments: &[&str], environment: &Environment) -> Result<IdentityOptions, String> {
        let mut all = vec!["--app-id".to_owned(), "a".to_owned()];
        all.extend(arguments.iter().map(|text| (*text).to_owned()));
        let Ok(Command::Run(options)) = Command::parse(&all, environment) else { panic!("{all:?}") };
        asked(&options, environment, &trust_domain(&options)?, &Board::default())
    }

    #[test]
    fn flags_and_variables_say_who_sentry_is_and_what_is_asked() {
        let environment = Environment::default().with(ANCHORS, "pem").with("NAMESPACE", "shop");
        let flags = ["--enable-mtls", "--sentry-address", "localhost:1", "--sentry-request-jwt-audiences", "x,y"];
        let asked = given(&flags, &environment).unwrap();
        assert_eq!(asked.sentry.to_string(), "spiffe://localhost/ns/default/dapr-sentry");
        assert_eq!((asked.app_id.as_str(), asked.namespace.as_str()), ("a", "shop"));
        assert_eq!(asked.jwt_audiences, ["x", "y"]);
        let environment = environment
            .with("DAPR_CONTROLPLANE_TRUST_DOMAIN", "cluster.local")
            .with("DAPR_CONTROLPLANE_NAMESPACE", "dapr-system")
            .with("SENTRY_LOCAL_IDENTITY", "default:b");
        let asked = given(&flags, &environment).unwrap();
        assert_eq!(asked.sentry.to_string(), "spiffe://cluster.local/ns/dapr-system/dapr-sentry");
        assert_eq!(asked.app_id, "default:b");
        let flags = [&flags[..], &["--control-plane-trust-domain", "td", "--control-plane-namespace", "ns"]].concat();
        assert_eq!(given(&flags, &environment).unwrap().sentry.to_string(), "spiffe://td/ns/ns/dapr-sentry");
    }

    #[test]
    fn what_is_missing_is_named() {
        let plain = Environment::default();
        let flags = ["--enable-mtls", "--sentry-address", "localhost:1"];
        assert!(given(&flags, &plain).unwrap_err().contains("trust anchors are required"));
        let both = Environment::default().with(ANCHORS, "pem").with(ANCHORS_FILE, "/ca.crt");
        assert!(given(&flags, &both).unwrap_err().contains("both"));
        let anchors = Environment::default().with(ANCHORS_FILE, "/ca.crt");
        assert!(given(&["--enable-mtls"], &anchors).unwrap_err().contains("--sentry-address"));
        assert!(given(&["--control-plane-trust-domain", ""], &anchors).unwrap_err().contains("is required"));
        assert!(given(&["--control-plane-trust-domain", "A B"], &anchors).unwrap_err().contains("invalid"));
    }
}
