//! `middleware.http.bearer`: lets requests through that carry a JSON Web Token of an OpenID Connect issuer.
//!
//! *Source:* components-contrib `middleware/http/bearer`. One addition: a token signed with an unknown key makes the keys be read
//! again, at most once a minute, so that a provider may change its keys at any time. *Invariant:* nothing of a token is believed
//! before its signature is checked.

mod claims;
mod keys;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderMap, StatusCode};
use parking_lot::RwLock;
use pillion_contract::{ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next};
use pillion_core::log::Logger;
use pillion_http_client::Client;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::claims::Expected;
use self::keys::{Keys, Refused};
use crate::client::{client, get};
use crate::respond;

/// Shortest time between two readings of the keys; also the usual one, unless the provider allows a longer one.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(10 * 60);
/// A day: a provider's mistake must not last longer.
const REFRESH_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time between two readings because of an unknown key.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);
const PREFIX: &str = "bearer ";
/// Anything shorter cannot be a token.
const TOKEN_BYTES_MIN: usize = 10;

struct Bearer {
    source: Arc<Source>,
    expected: Expected,
}

/// The keys and where they come from.
struct Source {
    client: Client,
    url: String,
    keys: RwLock<Arc<Keys>>,
    /// When they were last read because of an unknown key.
    reread: Mutex<Instant>,
    log: Logger,
}

#[derive(Deserialize)]
struct Discovery {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

/// Makes the middleware: finds the provider's keys and keeps them fresh.
///
/// # Errors
/// `InvalidRequest` for missing fields, `Unavailable` when the provider's documents cannot be read.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    let metadata = &context.metadata;
    let required = |names: [&str; 2]| {
        metadata.first_of(&names).map(str::to_owned).ok_or_else(|| {
            ComponentError::new(ErrorKind::InvalidRequest, format!("metadata property '{}' is required", names[0]))
        })
    };
    let expected =
        Expected { issuer: required(["issuer", "issuerURL"])?, audience: required(["audience", "clientID"])? };
    let client = client();
    let url = match metadata.first_of(&["jwksURL"]) {
        Some(url) => url.to_owned(),
        None => discover(&client, &expected.issuer)
            .await
            .map_err(|problem| unavailable(format!("failed to retrieve OpenID Configuration document: {problem}")))?,
    };
    context.log.debug(format_args!("middleware.http.bearer {}: keys come from {url}", context.name));
    let (keys, interval) =
        fetch(&client, &url).await.map_err(|problem| unavailable(format!("failed to fetch JWKS: {problem}")))?;
    for note in keys.notes() {
        context.log.warn(format_args!("middleware.http.bearer {}: {url}: {note}", context.name));
    }
    let source = Arc::new(Source {
        client,
        url,
        keys: RwLock::new(Arc::new(keys)),
        reread: Mutex::new(Instant::now()),
        log: context.log.clone(),
    });
    let (refreshed, cancel) = (source.clone(), context.cancel.clone());
    tokio::spawn(async move { cancel.run_until_cancelled(refreshed.refresh(interval)).await });
    Ok(Arc::new(Bearer { source, expected }))
}

fn unavailable(message: String) -> ComponentError {
    ComponentError::new(ErrorKind::Unavailable, message)
}

async fn discover(client: &Client, issuer: &str) -> Result<String, String> {
    let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    let response = get(client, &url).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("{url}: invalid response status code: {}", response.status().as_u16()));
    }
    let document: Discovery = serde_json::from_slice(response.body())
        .map_err(|error| format!("{url}: failed to decode JSON response: {error}"))?;
    if document.jwks_uri.is_empty() {
        return Err("the OpenID Configuration document does not contain a 'jwks_uri'".to_owned());
    }
    // Slashes at the end count: the specification wants both to be the same.
    if document.issuer != issuer {
        return Err(format!(
            "the issuer found in the OpenID Configuration document ('{}') doesn't match the one provided in the component's metadata ('{issuer}')",
            document.issuer
        ));
    }
    Ok(document.jwks_uri)
}

/// The keys, and when to read them again.
async fn fetch(client: &Client, url: &str) -> Result<(Keys, Duration), String> {
    let response = get(client, url).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("{url}: invalid response status code: {}", response.status().as_u16()));
    }
    let keys = Keys::parse(response.body()).map_err(|problem| format!("{url}: {problem}"))?;
    Ok((keys, interval(response.headers())))
}

fn interval(headers: &HeaderMap) -> Duration {
    let directives = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seconds = directives.split(',').find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).clamp(REFRESH_INTERVAL_MIN, REFRESH_INTERVAL_MAX)
}

impl Source {
    fn current(&self) -> Arc<Keys> {
        self.keys.read().clone()
    }

    async fn refresh(&self, mut pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            pause = self.read().await.unwrap_or(REFRESH_INTERVAL_MIN);
        }
    }

    /// Reads the keys; on failure the ones known stay.
    async fn read(&self) -> Option<Duration> {
        match fetch(&self.client, &self.url).await {
            Ok((keys, interval)) => {
                *self.keys.write() = Arc::new(keys);
                Some(interval)
            }
            Err(problem) => {
                self.log.warn(format_args!("Error while refreshing JWKS cache: {problem}"));
                None
            }
        }
    }

    /// Reads the keys again because a token names one that is not known; false when that was done lately, or is being done.
    async fn reread(&self) -> bool {
        let Ok(mut last) = self.reread.try_lock() else { return false };
        if last.elapsed() < UNKNOWN_KEY_INTERVAL {
            return false;
        }
        *last = Instant::now();
        self.read().await.is_some()
    }
}

impl Bearer {
    async fn accepts(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
        let Some((prefix, token)) = value.split_at_checked(PREFIX.len()) else { return false };
        if !prefix.eq_ignore_ascii_case(PREFIX) || token.len() < TOKEN_BYTES_MIN {
            return false;
        }
        let mut verified = self.source.current().verify(token);
        if matches!(verified, Err(Refused::UnknownKey)) && self.source.reread().await {
            verified = self.source.current().verify(token);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        verified.is_ok_and(|payload| self.expected.holds(&payload, now))
    }
}

#[async_trait]
impl HttpMiddleware for Bearer {
    async fn handle(&self, request: HttpRequest, next: Next<'_>) -> HttpResponse {
        if !self.accepts(request.headers()).await {
            return respond::status(StatusCode::UNAUTHORIZED);
        }
        next.run(request).await
    }
}
