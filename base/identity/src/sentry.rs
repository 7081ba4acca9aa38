//! Asks sentry for a certificate: finds it, checks that it is sentry, shows the token, checks the answer.
//!
//! *Source:* `pkg/security/sentry.go` of the original: a connection is waited for without limit at start, a request may take 3 s
//! and is made at most 5 times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pillion_core::log::Logger;
use pillion_proto::sentry::v1::ca_client::CaClient;
use pillion_proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use pillion_security::tls::{self, Peer, SharedAnchors};
use pillion_security::{Certificate, PrivateKey, SpiffeId, jwt, request};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::connector::{Connector, innermost, target};
use crate::{Error, Options};

/// *Source:* the original's `sentrySignTimeout`, `sentryMaxRetries` and the pause of its retry library.
const SIGN_TIMEOUT: Duration = Duration::from_secs(3);
const SIGN_ATTEMPTS: u32 = 5;
const SIGN_PAUSE: Duration = Duration::from_millis(50);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed connection grows from the first to the second.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The same problem is logged again after this time.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Name in the addresses of the calls; nobody looks at it.
const AUTHORITY: &str = "http://dapr-sentry";

/// A certificate with its key, and tokens for the same identity.
pub struct Svid {
    /// The identity.
    pub id: SpiffeId,
    /// The certificate and those that lead to a trust anchor.
    pub chain: Vec<Certificate>,
    /// The key of the certificate.
    pub key: PrivateKey,
    /// A token for all audiences asked for, when sentry issues tokens.
    pub token: Option<String>,
    /// A token for each audience.
    pub tokens: HashMap<String, String>,
    pub(crate) token_ends: Option<SystemTime>,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Svid({})", self.id) // the rest is secret
    }
}

impl Svid {
    pub(crate) fn not_after(&self) -> SystemTime {
        self.chain.first().map_or(UNIX_EPOCH, Certificate::not_after)
    }
}

/// The first identity: waits for sentry as long as it cannot be reached.
pub(crate) async fn first(options: &Options, anchors: &SharedAnchors, log: &Logger) -> Result<Svid, Error> {
    let started = Instant::now();
    let mut told: Option<(String, Instant)> = None;
    let mut pause = CONNECT_PAUSE;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let problem = match connect(options, anchors).await {
            Ok(channel) => match sign(options, channel, log).await {
                Err(Refused::Unreachable(status)) => format!("sentry at {}: {status}", options.sentry_address),
                done => return done.map_err(Refused::into_error),
            },
            Err(problem) => problem,
        };
        if told.as_ref().is_none_or(|(last, at)| *last != problem || at.elapsed() >= LOG_INTERVAL) {
            log.warn(format_args!(
                "Waiting for an identity from sentry for {:.0?} ({attempts} attempts): {problem}. The sidecar starts when \
                 sentry answers: start sentry, or check {}",
                started.elapsed(),
                advice(&problem)
            ));
            told = Some((problem, Instant::now()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(CONNECT_PAUSE_MAX);
    }
}

/// Another identity, without waiting.
pub(crate) async fn again(options: &Options, anchors: &SharedAnchors, log: &Logger) -> Result<Svid, Error> {
    let channel = connect(options, anchors)
        .await
        .map_err(|problem| Error::new("sentry_conn", format!("error establishing connection to sentry: {problem}")))?;
    sign(options, channel, log).await.map_err(Refused::into_error)
}

fn advice(problem: &str) -> &'static str {
    if problem.contains("TLS") {
        "the trust anchors (DAPR_TRUST_ANCHORS), --control-plane-trust-domain and --control-plane-namespace"
    } else {
        "--sentry-address"
    }
}

/// Why there is no certificate.
enum Refused {
    /// Sentry may come back.
    Unreachable(Status),
    Other(Error),
}

impl Refused {
    fn into_error(self) -> Error {
        match self {
            Self::Unreachable(status) => sign_error(&status),
            Self::Other(error) => error,
        }
    }
}

fn sign_error(status: &Status) -> Error {
    let (code, message) = (status.code(), status.message());
    Error::new("sign", format!("error from sentry SignCertificate: rpc error: code = {code:?} desc = {message}"))
}

/// Connects to sentry; the text of an error names address, step and reason.
async fn connect(options: &Options, anchors: &SharedAnchors) -> Result<Channel, String> {
    let peer = Peer::Exactly(options.sentry.clone());
    let tls = tls::client(None, anchors.clone(), peer).map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let address = target(&options.sentry_address).to_owned();
    let connector = Connector::new("sentry", &address, &options.sentry, Arc::new(tls));
    let endpoint = Endpoint::from_static(AUTHORITY);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(connected) => connected.map_err(|error| innermost(&error)),
        Err(_) => Err(format!("no connection to sentry at {address} within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

async fn sign(options: &Options, channel: Channel, log: &Logger) -> Result<Svid, Refused> {
    let unusable = |error: pillion_security::Error| Refused::Other(Error::new("", error.to_string()));
    let key = PrivateKey::generate().map_err(unusable)?;
    let csr = request::make(&key).map_err(unusable)?;
    let (token, validator) = options.token.read().await.map_err(Refused::Other)?;
    let request = SignCertificateRequest {
        id: options.app_id.clone(),
        token,
        trust_domain: options.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default(),
        namespace: options.namespace.clone(),
        certificate_signing_request: csr.into(),
        token_validator: validator.into(),
        jwt_audiences: options.jwt_audiences.clone(),
    };
    let response = ask(channel, request, log).await?;
    svid(key, response).map_err(Refused::Other)
}

async fn ask(
    channel: Channel,
    request: SignCertificateRequest,
    log: &Logger,
) -> Result<SignCertificateResponse, Refused> {
    let mut client = CaClient::new(channel);
    let mut attempt = 1;
    loop {
        let answer = tokio::time::timeout(SIGN_TIMEOUT, client.sign_certificate(request.clone())).await;
        let status = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable(format!("no answer within {} s", SIGN_TIMEOUT.as_secs())),
        };
        let may_pass = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
        if may_pass && attempt < SIGN_ATTEMPTS {
            log.debug(format_args!("sentry did not sign ({status}), asking again"));
            attempt += 1;
            tokio::time::sleep(SIGN_PAUSE).await;
            continue;
        }
        return Err(if may_pass { Refused::Unreachable(status) } else { Refused::Other(sign_error(&status)) });
    }
}

fn svid(key: PrivateKey, response: SignCertificateResponse) -> Result<Svid, Error> {
    if response.valid_until.is_none() {
        return Err(Error::new("invalid_ts", "error parsing ValidUntil: sentry sent none"));
    }
    let chain = Certificate::from_pem(&response.workload_certificate)
        .map_err(|error| Error::new("", format!("error parsing newly signed certificate: {error}")))?;
    let leaf = chain.first().ok_or_else(|| Error::new("", "no certificates received from sentry"))?;
    let id = leaf
        .spiffe_id()
        .map_err(|error| Error::new("", format!("error parsing spiffe id from newly signed certificate: {error}")))?;
    if leaf.public_key_info() != key.public_key_info() {
        return Err(Error::new("", "sentry signed a certificate for another key"));
    }
    let token = response.jwt.filter(|token| !token.is_empty());
    let mut ends = None;
    if let Some(token) = &token {
        let claims = claims(token)?;
        if audiences(&claims).is_empty() {
            return Err(Error::new("jwt_aud", "JWT audience is empty"));
        }
        ends = claims["exp"].as_u64().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    }
    for (audience, token) in &response.per_audience_jwts {
        if audiences(&claims(token)?) != [audience.as_str()] {
            return Err(Error::new("jwt_aud", format!("JWT audience mismatch: expected only {audience:?}")));
        }
    }
    Ok(Svid { id, chain, key, token, tokens: response.per_audience_jwts, token_ends: ends })
}

fn claims(token: &str) -> Result<serde_json::Value, Error> {
    jwt::claims_unverified(token).map_err(|error| Error::new("jwt_parse", format!("error parsing JWT: {error}")))
}

fn audiences(claims: &serde_json::Value) -> Vec<&str> {
    match &claims["aud"] {
        serde_json::Value::String(one) => vec![one],
        many => many.as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect(),
    }
}

#[cfg(test)]
#[path = "sentry_tests.rs"]
mod tests;
