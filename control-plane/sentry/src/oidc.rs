//! The OIDC discovery document and the public keys of tokens, for those who check JWT SVIDs.
//!
//! *Source:* spec internals.md §5.5 and flags.md §4. *Invariant:* a forwarded host is believed only when it is one of the
//! allowed hosts by name; otherwise anybody could send readers to keys of their own.

use http::{HeaderValue, Method, StatusCode, Uri, header};
use pillion_core::log::Logger;
use serde_json::json;

use crate::authority::SharedAuthority;
use crate::http_server::{Answer, answer};
use crate::options::OidcOptions;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/jwks.json";

/// Answers OIDC requests.
pub(crate) struct Oidc {
    options: OidcOptions,
    issuer: Option<String>,
    prefix: String,
    authority: SharedAuthority,
    log: Logger,
}

/// What counts of a request.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    /// `Host`.
    pub(crate) host: &'a str,
    /// `X-Forwarded-Host`; empty = none.
    pub(crate) forwarded: &'a str,
}

impl Oidc {
    pub(crate) fn new(options: OidcOptions, issuer: Option<String>, authority: SharedAuthority, log: &Logger) -> Self {
        let prefix = options.path_prefix.as_deref().unwrap_or_default().trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let issuer = issuer.filter(|issuer| !issuer.is_empty());
        Self { options, issuer, prefix, authority, log: log.scope("dapr.sentry.server.oidc.http") }
    }

    /// The answer to a request.
    pub(crate) fn respond(&self, asked: Asked<'_>) -> Answer {
        let what = asked.path.strip_prefix(&self.prefix).unwrap_or_default();
        if what != DISCOVERY && what != KEYS {
            return answer(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        if !self.is_allowed(asked) {
            return answer(StatusCode::FORBIDDEN, "Forbidden: unauthorized domain\n");
        }
        if asked.method != Method::GET {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
        }
        let authority = self.authority.get();
        let Some((keys, algorithm)) = authority.token_keys() else {
            return answer(StatusCode::NOT_FOUND, "JWKS not available\n");
        };
        if what == KEYS { as_json(keys.to_owned()) } else { self.discovery(asked, algorithm) }
    }

    fn is_allowed(&self, asked: Asked<'_>) -> bool {
        let hosts = &self.options.allowed_hosts;
        let host = if asked.forwarded.is_empty() { asked.host } else { asked.forwarded };
        let named = |host: &str| hosts.iter().any(|allowed| allowed == host);
        let allowed = hosts.is_empty() || named("*") || named(host) || named(without_port(host));
        if !allowed {
            self.log.warn(format_args!("Request from unauthorized domain: {host}"));
        }
        allowed
    }

    fn discovery(&self, asked: Asked<'_>, algorithm: &str) -> Answer {
        let hosts = &self.options.allowed_hosts;
        let trusted = !hosts.is_empty() && !hosts.iter().any(|host| host == "*");
        let host = if trusted && !asked.forwarded.is_empty() { asked.forwarded } else { asked.host };
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        let own = format!("{scheme}://{host}");
        if own.parse::<Uri>().is_err() {
            return answer(StatusCode::BAD_REQUEST, "Invalid host\n");
        }
        let issuer = self.issuer.as_deref().unwrap_or(&own);
        let keys = match &self.options.jwks_uri {
            Some(uri) => uri.clone(),
            None => format!("{}{}{KEYS}", origin(issuer).unwrap_or(&own), self.prefix),
        };
        let document = json!({
            "issuer": issuer,
            "jwks_uri": keys,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
            "scopes_supported": ["openid"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "use"],
        });
        as_json(format!("{document}\n"))
    }
}

fn as_json(text: String) -> Answer {
    let mut response = Answer::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        _ => host,
    }
}

/// Scheme and host of a URL.
fn origin(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |slash| start + slash);
    Some(&url[..end])
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;
