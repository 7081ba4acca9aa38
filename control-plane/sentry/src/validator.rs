//! Who is calling: a validator checks the token of a request and says in which trust domain its identity lies.
//!
//! *Source:* spec internals.md §5.3; the texts are those of the original.

mod insecure;
mod jwks;
mod kubernetes;

use async_trait::async_trait;
use pillion_proto::sentry::v1::SignCertificateRequest;
use pillion_security::TrustDomain;

pub(crate) use insecure::Insecure;
pub(crate) use jwks::Jwks;
pub(crate) use kubernetes::Kubernetes;

/// *Source:* the original's limit.
const MAX_APP_ID_BYTES: usize = 64;

/// Checks who a caller is.
#[async_trait]
pub(crate) trait Validator: Send + Sync {
    /// The trust domain of the identity `request.namespace`/`request.id`, when the caller has it.
    ///
    /// # Errors
    /// Why not; the caller is told.
    async fn validate(&self, request: &SignCertificateRequest) -> Result<TrustDomain, String>;
}

/// What every request must have; gives the trust domain it asks for.
fn check(request: &SignCertificateRequest) -> Result<TrustDomain, String> {
    let problems: Vec<&str> = [
        (request.id.is_empty(), "parameter app-id cannot be empty"),
        (request.id.contains('.'), "parameter app-id cannot contain dots"),
        (request.id.len() > MAX_APP_ID_BYTES, "app ID must be 64 characters or less"),
        (request.certificate_signing_request.is_empty(), "CSR is required"),
        (request.namespace.is_empty(), "namespace is required"),
    ]
    .into_iter()
    .filter_map(|(wrong, text)| wrong.then_some(text))
    .collect();
    if !problems.is_empty() {
        return Err(format!("invalid request: {}", problems.join("\n")));
    }
    match request.trust_domain.as_str() {
        "" => Ok(TrustDomain::public()),
        text => TrustDomain::parse(text).map_err(|error| error.to_string()),
    }
}
