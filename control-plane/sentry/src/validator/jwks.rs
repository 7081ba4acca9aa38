//! Callers prove themselves with a token signed by a key of a set (JWKS): a URL, a file, or the set itself.
//!
//! A file is read again when it changes; a URL when a token names a key that is not known, at most once per interval.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_core::log::Logger;
use pillion_http_client::{Client, Limits, Tls, TlsOptions, request_to};
use pillion_proto::sentry::v1::SignCertificateRequest;
use pillion_security::jwk::JwkSet;
use pillion_security::jwt::{Expected, key_is_unknown, verify};
use pillion_security::{Certificate, SpiffeId, TrustDomain};
use tokio_util::sync::CancellationToken;

use super::{Validator, check};
use crate::configuration::JwksOptions;

/// Far more than a key set has.
const KEY_SET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// *Source:* spec internals.md §5.3.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// The validator `jwks`.
pub(crate) struct Jwks {
    audience: String,
    source: Source,
    keys: Mutex<Keys>,
    min_refresh_interval: Duration,
    log: Logger,
}

struct Keys {
    set: Arc<JwkSet>,
    read_at: Instant,
}

enum Source {
    Fixed,
    File(PathBuf),
    Url { url: String, client: Client },
}

impl Jwks {
    /// Reads the key set for the first time. `audience` is the SPIFFE id of sentry.
    ///
    /// # Errors
    /// Says why the set cannot be had.
    pub(crate) async fn new(options: &JwksOptions, audience: &SpiffeId, log: &Logger) -> Result<Self, String> {
        let log = log.scope("dapr.sentry.identity.jwks");
        let (source, fixed) = source(options, &log).await?;
        let set = match fixed {
            Some(set) => set,
            None => source.read().await?,
        };
        Ok(Self {
            audience: audience.to_string(),
            source,
            keys: Mutex::new(Keys { set: Arc::new(set), read_at: Instant::now() }),
            min_refresh_interval: options.min_refresh_interval,
            log,
        })
    }

    /// Reads a file again whenever it changes; ends at once for other sources.
    pub(crate) async fn watch(&self, interval: Duration, cancel: CancellationToken) {
        let Source::File(file) = &self.source else { return };
        let mut seen = tokio::fs::read(file).await.ok();
        while cancel.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let now = tokio::fs::read(file).await.ok();
            if now != seen && now.is_some() {
                seen = now;
                self.refresh().await;
            }
        }
    }

    async fn refresh(&self) {
        match self.source.read().await {
            Ok(set) => {
                self.log.debug("the key set was read again");
                self.keys.lock().set = Arc::new(set);
            }
            Err(error) => self.log.error(format_args!("the old key set stays in use: {error}")),
        }
    }

    /// The keys, read again when the token names one that is not among them and enough time has passed.
    async fn keys_for(&self, token: &str) -> Arc<JwkSet> {
        let due = {
            let mut keys = self.keys.lock();
            let due = matches!(self.source, Source::Url { .. })
                && key_is_unknown(token, &keys.set)
                && keys.read_at.elapsed() >= self.min_refresh_interval;
            if due {
                keys.read_at = Instant::now(); // callers at the same time do not read too
            }
            due
        };
        if due {
            self.refresh().await;
        }
        self.keys.lock().set.clone()
    }
}

#[async_trait]
impl Validator for Jwks {
    async fn validate(&self, request: &SignCertificateRequest) -> Result<TrustDomain, String> {
        if request.token.is_empty() {
            return Err("the request does not contain a token".to_owned());
        }
        let trust_domain = check(request)?;
        let id = SpiffeId::new(trust_domain.clone(), &request.namespace, &request.id)
            .map_err(|error| format!("failed to construct SPIFFE ID for requestor: {error}"))?;
        let keys = self.keys_for(&request.token).await;
        let subject = id.to_string();
        let expected =
            Expected { audience: &self.audience, subject: &subject, now: SystemTime::now(), clock_skew: CLOCK_SKEW };
        verify(&request.token, &keys, expected).map_err(|error| format!("token validation failed: {error}"))?;
        Ok(trust_domain)
    }
}

impl Source {
    async fn read(&self) -> Result<JwkSet, String> {
        let text = match self {
            Self::Fixed => return Err("a fixed key set is not read again".to_owned()),
            Self::File(file) => {
                let read = tokio::fs::read(file).await;
                Bytes::from(read.map_err(|error| format!("failed to read JWKS file {}: {error}", file.display()))?)
            }
            Self::Url { url, client } => {
                let failed = |problem: &dyn std::fmt::Display| format!("failed to fetch JWKS from {url}: {problem}");
                let request = request_to(url).map_err(|error| failed(&error))?;
                let response = client.get(request).await.map_err(|error| failed(&error))?;
                if !response.status().is_success() {
                    return Err(failed(&format_args!("status {}", response.status())));
                }
                response.into_body()
            }
        };
        JwkSet::parse(&text).map_err(|error| error.to_string())
    }
}

/// What the option `source` means, and the set when it is written there.
async fn source(options: &JwksOptions, log: &Logger) -> Result<(Source, Option<JwkSet>), String> {
    let text = &options.source;
    if text.starts_with("https://") || text.starts_with("http://") {
        let limits = Limits { time: options.request_timeout, body_bytes: KEY_SET_BYTES_MAX };
        let client = if text.starts_with("https://") {
            match &options.ca_certificate {
                Some(given) => {
                    let roots = Some(certificates(given).await?);
                    let tls = Tls::new(TlsOptions { roots, ..TlsOptions::default() });
                    Client::with_tls(limits, tls.map_err(|error| error.to_string())?)
                }
                None => Client::new(limits),
            }
        } else {
            log.warn(
                "Loading JWK from an HTTP endpoint without TLS: this is not recommended on production environments.",
            );
            Client::new(limits)
        };
        return Ok((Source::Url { url: text.clone(), client }, None));
    }
    if tokio::fs::metadata(text).await.is_ok_and(|found| found.is_file()) {
        return Ok((Source::File(PathBuf::from(text)), None));
    }
    let decoded = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_else(|_| text.clone().into_bytes());
    let set = JwkSet::parse(&decoded).map_err(|_| {
        "the option source of the validator jwks is not a URL, a path to a local file, or a JSON value (optionally base64-encoded)".to_owned()
    })?;
    Ok((Source::Fixed, Some(set)))
}

/// Certificates that are written down, or the file with them.
async fn certificates(given: &str) -> Result<Vec<Certificate>, String> {
    let text = if given.contains("-----BEGIN") {
        given.as_bytes().to_vec()
    } else {
        tokio::fs::read(given).await.map_err(|error| format!("failed to load CA certificate {given}: {error}"))?
    };
    Certificate::from_pem(&text).map_err(|error| format!("failed to load CA certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use pillion_security::PrivateKey;
    use pillion_security::jwk::Jwk;
    use pillion_security::jwt::{TokenSigner, TokenTimes};

    use super::*;

    fn signer(key_id: &str) -> (TokenSigner, String) {
        let key = PrivateKey::generate().unwrap();
        let mut jwk = Jwk::of(&key);
        jwk.key_id = Some(key_id.to_owned());
        let signer = TokenSigner { key, key_id: key_id.to_owned(), algorithm: "EdDSA".to_owned(), issuer: None };
        (signer, JwkSet { keys: vec![jwk] }.to_json())
    }

    fn sentry() -> SpiffeId {
        SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap()
    }

    fn request(signer: &TokenSigner) -> SignCertificateRequest {
        let id = SpiffeId::parse("spiffe://public/ns/default/app").unwrap();
        let times = TokenTimes { now: SystemTime::now(), ttl: Duration::from_secs(60), clock_skew: Duration::ZERO };
        SignCertificateRequest {
            id: "app".to_owned(),
            namespace: "default".to_owned(),
            token: signer.sign(&id, &[sentry().to_string()], times).unwrap(),
            certificate_signing_request: "x".into(),
            ..SignCertificateRequest::default()
        }
    }

    fn options(source: &str) -> JwksOptions {
        JwksOptions {
            source: source.to_owned(),
            ca_certificate: None,
            min_refresh_interval: Duration::ZERO,
            request_timeout: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_set_may_be_written_down_plain_or_in_base64() {
        let (signer, set) = signer("k");
        for source in [set.clone(), STANDARD_NO_PAD.encode(&set)] {
            let validator = Jwks::new(&options(&source), &sentry(), &Logger::silent()).await.unwrap();
            assert_eq!(validator.validate(&request(&signer)).await.unwrap().as_str(), "public");
            let other = SignCertificateRequest { id: "other".to_owned(), ..request(&signer) };
            assert!(validator.validate(&other).await.unwrap_err().contains("token validation failed: \"sub\""));
            let without = SignCertificateRequest { token: String::new(), ..request(&signer) };
            assert!(validator.validate(&without).await.unwrap_err().contains("does not contain a token"));
        }
        assert!(Jwks::new(&options("nonsense"), &sentry(), &Logger::silent()).await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes() {
        let ((old, old_set), (new, new_set)) = (signer("old"), signer("new"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("jwks.json");
        std::fs::write(&file, old_set).unwrap();
        let source = file.to_string_lossy().into_owned();
        let validator = Arc::new(Jwks::new(&options(&source), &sentry(), &Logger::silent()).await.unwrap());
        validator.validate(&request(&old)).await.unwrap();
        let cancel = CancellationToken::new();
        let watched = validator.clone();
        let token = cancel.clone();
        let watching = tokio::spawn(async move { watched.watch(Duration::from_millis(5), token).await });
        tokio::time::sleep(Duration::from_millis(20)).await; // the watch has seen the old content
        std::fs::write(&file, new_set).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while validator.validate(&request(&new)).await.is_err() {
            assert!(Instant::now() < deadline, "the new key is not known after 10 seconds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(validator.validate(&request(&old)).await.is_err());
        cancel.cancel();
        watching.await.unwrap();
    }
}
