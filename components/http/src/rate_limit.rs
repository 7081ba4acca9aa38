//! `middleware.http.ratelimit`: at most so many requests a second for each client address and path.
//!
//! *Source:* components-contrib `middleware/http/ratelimit` with tollbooth v7: the address is the last of `X-Forwarded-For`, else
//! `X-Real-IP`, else of the connection; IPv6 addresses count by their /64 prefix; a bucket holds one second's worth, at least one.
//! *Invariant:* a full bucket is no bucket, so that memory stays within what came in lately.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use pillion_contract::{
    ComponentError, ErrorKind, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Next, RemoteAddress,
};
use tokio::time::Instant;

use crate::{form, respond};

const MAX_REQUESTS_PER_SECOND: &str = "maxRequestsPerSecond";
const MAX_REQUESTS_PER_SECOND_DEFAULT: f64 = 100.0;
const LIMIT_REACHED: &str = "You have reached maximum request limit.";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Buckets that are kept before the full ones among them are looked for.
const BUCKETS_BEFORE_CLEANING: usize = 1024;

struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    /// How many make it clean up.
    limit: usize,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Makes the middleware.
///
/// # Errors
/// `InvalidRequest` when `maxRequestsPerSecond` is no positive number.
pub async fn create(context: InitContext) -> Result<Arc<dyn HttpMiddleware>, ComponentError> {
    Ok(Arc::new(RateLimit::new(&context)?))
}

impl RateLimit {
    fn new(context: &InitContext) -> Result<Self, ComponentError> {
        let text = context.metadata.get(MAX_REQUESTS_PER_SECOND).filter(|text| !text.is_empty());
        let invalid = |what: String| ComponentError::new(ErrorKind::InvalidRequest, what);
        let per_second: f64 = match text {
            None => MAX_REQUESTS_PER_SECOND_DEFAULT,
            Some(text) => text.trim().parse().map_err(|_| {
                invalid(format!(
                    "cannot parse 'MaxRequestsPerSecond' as float: {text:?}; expected a number, for example 10"
                ))
            })?,
        };
        if !per_second.is_finite() || per_second <= 0.0 {
            return Err(invalid(format!("metadata property {MAX_REQUESTS_PER_SECOND} must be a positive value")));
        }
        let buckets = Mutex::new(Buckets { by_key: HashMap::new(), limit: BUCKETS_BEFORE_CLEANING });
        Ok(Self { per_second, burst: per_second.floor().max(1.0), buckets })
    }

    /// Takes a token; the tokens left, or `None` when there is none.
    fn take(&self, key: String) -> Option<f64> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        if buckets.by_key.len() >= buckets.limit {
            buckets.by_key.retain(|_, bucket| self.tokens(bucket, now) < self.burst);
            buckets.limit = (buckets.by_key.len() * 2).max(BUCKETS_BEFORE_CLEANING);
        }
        let bucket = buckets.by_key.entry(key).or_insert(Bucket { tokens: self.burst, filled: now });
        bucket.tokens = self.tokens(bucket, now);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;
        Some(bucket.tokens)
    }

    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let grown = now.saturating_duration_since(bucket.filled).as_secs_f64() * self.per_second;
        (bucket.tokens + grown).min(self.burst)
    }
}

#[async_trait]
impl HttpMiddleware for RateLimit {
    async fn handle(&self, mut request: HttpRequest, next: Next<'_>) -> HttpResponse {
        let remote = request.extensions().get::<RemoteAddress>().map(|address| address.0);
        let mut client = client(request.headers(), remote.map(|remote| remote.ip().to_string()));
        if client.is_empty() {
            client = "0.0.0.0".to_owned();
            request.headers_mut().insert(X_FORWARDED_FOR, HeaderValue::from_static("0.0.0.0"));
        }
        let forwarded = request.headers().get(X_FORWARDED_FOR).filter(|value| !value.is_empty()).cloned();
        let left = self.take(format!("{client}|{}", form::decode_path(request.uri().path())));
        let mut response = match left {
            Some(_) => next.run(request).await,
            None => respond::text(StatusCode::TOO_MANY_REQUESTS, LIMIT_REACHED),
        };
        let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
        let told = [
            ("x-rate-limit-limit", format!("{:.2}", self.per_second)),
            ("x-rate-limit-duration", "1".to_owned()),
            ("x-rate-limit-request-remote-addr", remote),
            ("ratelimit-limit", format!("{:.0}", self.per_second.round())),
            ("ratelimit-reset", "1".to_owned()),
            ("ratelimit-remaining", format!("{:.0}", left.unwrap_or(0.0).floor())),
        ];
        let headers = response.headers_mut();
        for (name, value) in told {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        if let Some(forwarded) = forwarded {
            headers.append("x-rate-limit-request-forwarded-for", forwarded);
        }
        response
    }
}

/// The address of the client in the form that is counted; empty when nothing tells it.
fn client(headers: &HeaderMap, remote: Option<String>) -> String {
    let header =
        |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let address = header(X_FORWARDED_FOR)
        .map(|list| list.rsplit(',').next().unwrap_or_default().trim().to_owned())
        .or_else(|| header(X_REAL_IP).map(str::to_owned))
        .or(remote)
        .unwrap_or_default();
    match address.parse::<Ipv6Addr>() {
        Ok(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
        Err(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_are_told_apart_by_address() {
        let with = |pairs: &[(HeaderName, &'static str)]| {
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        let remote = || Some("10.0.0.9".to_owned());
        assert_eq!(client(&with(&[(X_FORWARDED_FOR, "1.1.1.1, 2.2.2.2")]), remote()), "2.2.2.2");
        assert_eq!(client(&with(&[(X_REAL_IP, "3.3.3.3")]), remote()), "3.3.3.3");
        assert_eq!(client(&HeaderMap::new(), remote()), "10.0.0.9");
        assert_eq!(client(&HeaderMap::new(), Some("2001:db8:1:2:3::4".to_owned())), "2001:db8:1:2::");
        assert_eq!(client(&HeaderMap::new(), None), "");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_come_back_and_full_buckets_go() {
        let limit = RateLimit::new(&crate::tests::context(&[(MAX_REQUESTS_PER_SECOND, "2.5")])).unwrap();
        assert_eq!(limit.take("a".to_owned()), Some(1.0));
        assert_eq!(limit.take("a".to_owned()), Some(0.0));
        assert_eq!(limit.take("a".to_owned()), None);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(limit.take("a".to_owned()), Some(0.0));
        assert_eq!(limit.take("a".to_owned()), None);
        for number in 1..BUCKETS_BEFORE_CLEANING {
            limit.take(number.to_string());
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        limit.take("b".to_owned());
        assert_eq!(limit.buckets.lock().by_key.len(), 1);
    }
}
