//! The metadata of `bindings.http`.
//!
//! *Source:* components-contrib `bindings/http`, spec components `bindings.http`. *Invariant:* the security token is never shown.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pillion_contract::{ComponentError, ErrorKind, Metadata};
use pillion_core::log::Logger;
use pillion_core::quantity::parse_bytes;
use pillion_http_client::{Tls, TlsOptions};
use pillion_security::{Certificate, PrivateKey};

/// *Source:* the original.
const MAX_RESPONSE_BYTES: usize = 100 << 20;
const RENEGOTIATION: [&str; 3] = ["RenegotiateNever", "RenegotiateOnceAsClient", "RenegotiateFreelyAsClient"];

/// The fields but those of TLS.
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) response_timeout: Option<Duration>,
    /// `None` = as many as come.
    pub(super) max_response_bytes: Option<usize>,
    pub(super) error_if_not_2xx: bool,
    pub(super) security: Option<(HeaderName, HeaderValue)>,
}

impl Settings {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, ComponentError> {
        let filled = |name: &str| metadata.get(name).filter(|text| !text.is_empty());
        let max_response_bytes = match filled("maxResponseBodySize") {
            None => Some(MAX_RESPONSE_BYTES),
            Some(text) if text.trim_start().starts_with('-') => None,
            Some(text) => {
                let bytes = parse_bytes(text).map_err(|problem| refused("maxResponseBodySize", &problem))?;
                Some(usize::try_from(bytes).unwrap_or(usize::MAX)).filter(|bytes| *bytes > 0)
            }
        };
        let security = match (filled("securityToken"), filled("securityTokenHeader")) {
            (Some(token), Some(name)) => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| refused("securityTokenHeader", "expected the name of a header"))?;
                let mut token = HeaderValue::from_str(token)
                    .map_err(|_| refused("securityToken", "it has characters that cannot be put into a header"))?;
                token.set_sensitive(true);
                Some((name, token))
            }
            _ => None,
        };
        let response_timeout = metadata.duration("responseTimeout")?;
        Ok(Self {
            url: metadata.get("url").unwrap_or_default().to_owned(),
            response_timeout,
            max_response_bytes,
            error_if_not_2xx: filled("errorIfNot2XX").is_none_or(is_truthy),
            security,
        })
    }
}

/// *Source:* the original's `IsTruthy`.
pub(super) fn is_truthy(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
}

fn refused(field: &str, problem: &str) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, format!("metadata field {field:?}: {problem}"))
}

/// What TLS is made of; `None` when nothing is said of it, and the system's roots are trusted. Files are read off the async threads.
///
/// # Errors
/// Names the field that cannot be used.
pub(super) async fn tls(metadata: Metadata, log: &Logger) -> Result<Option<Tls>, ComponentError> {
    let filled = |name: &str| metadata.get(name).is_some_and(|text| !text.is_empty());
    if filled("MTLSRenegotiation") {
        let wanted = metadata.get("MTLSRenegotiation").unwrap_or_default();
        if !RENEGOTIATION.contains(&wanted) {
            return Err(refused("MTLSRenegotiation", &format!("invalid renegotiation value: {wanted}")));
        }
        if wanted != RENEGOTIATION[0] {
            log.warn(format_args!(
                "MTLSRenegotiation {wanted}: this client never renegotiates; a server that asks for it ends the connection"
            ));
        }
    }
    let has_identity = filled("MTLSClientCert") && filled("MTLSClientKey");
    if !has_identity && !filled("MTLSRootCA") {
        return Ok(None);
    }
    let made = tokio::task::spawn_blocking(move || read_tls(&metadata)).await;
    made.map_err(|error| ComponentError::new(ErrorKind::Internal, error.to_string()))?.map(Some)
}

fn read_tls(metadata: &Metadata) -> Result<Tls, ComponentError> {
    let certificates = |field: &str, text: &str| {
        let pem = pem(field, text)?;
        Certificate::from_pem(pem.as_bytes()).map_err(|error| refused(field, &error.to_string()))
    };
    let filled = |name: &str| metadata.get(name).filter(|text| !text.is_empty());
    let roots = filled("MTLSRootCA").map(|text| certificates("MTLSRootCA", text)).transpose()?;
    let identity = match (filled("MTLSClientCert"), filled("MTLSClientKey")) {
        (Some(chain), Some(key)) => {
            let chain = certificates("MTLSClientCert", chain)?;
            let key = PrivateKey::from_pem(pem("MTLSClientKey", key)?.as_bytes())
                .map_err(|error| refused("MTLSClientKey", &error.to_string()))?;
            Some((chain, key))
        }
        _ => None,
    };
    Tls::new(TlsOptions { roots, identity, ..TlsOptions::default() })
        .map_err(|error| ComponentError::caused(ErrorKind::InvalidRequest, "TLS", error))
}

/// PEM text, or that of the file it names.
fn pem(field: &str, text: &str) -> Result<String, ComponentError> {
    if text.contains("-----BEGIN ") {
        return Ok(text.to_owned());
    }
    std::fs::read_to_string(text).map_err(|error| {
        let problem =
            format!("provided {field:?} value is neither a valid file path or nor a valid pem encoded string: {error}");
        ComponentError::new(ErrorKind::InvalidRequest, problem)
    })
}
