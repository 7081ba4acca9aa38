//! What an identity is asked for with.

use pillion_core::board::Board;
use pillion_security::{SpiffeId, TrustDomain};

use crate::{AnchorSource, TokenSource};

/// The name of sentry in its SPIFFE id.
const SENTRY: &str = "dapr-sentry";

/// What an identity is asked for with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The id asked for: the app id, or the name of a service of the control plane.
    pub app_id: String,
    /// Its namespace.
    pub namespace: String,
    /// `host:port` of sentry.
    pub sentry_address: String,
    /// Who sentry has to be; see [`sentry_id`].
    pub sentry: SpiffeId,
    /// Only for services of the control plane, which live in its trust domain; sentry chooses for everybody else.
    pub trust_domain: Option<TrustDomain>,
    /// The roots that are trusted.
    pub anchors: AnchorSource,
    /// What proves to sentry who asks.
    pub token: TokenSource,
    /// Audiences of the tokens asked for.
    pub jwt_audiences: Vec<String>,
    /// Where it is told that a renewal fails.
    pub board: Board,
}

/// The SPIFFE id of the sentry of a control plane.
///
/// # Errors
/// When a part is no trust domain or namespace.
pub fn sentry_id(trust_domain: &TrustDomain, namespace: &str) -> Result<SpiffeId, pillion_security::Error> {
    SpiffeId::new(trust_domain.clone(), namespace, SENTRY)
}
