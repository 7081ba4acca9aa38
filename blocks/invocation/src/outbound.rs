//! From the API to another app: find it, connect, retry, stream.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::RwLock;
use pillion_contract::{ErrorKind, NameResolver, ResolveRequest};
use pillion_core::error::{ApiError, GrpcCode, table};
use pillion_core::log::Logger;
use pillion_runtime::app_channel::AppChannel;
use pillion_runtime::body::Body;
use pillion_runtime::message::{
    CALLEE_APP_ID, CALLER_APP_ID, CALLER_NAMESPACE, DESTINATION_APP_ID, InvokeRequest, InvokeResponse, normalize_method, strip_hop_by_hop,
};

use crate::endpoint::Endpoints;
use crate::peer::{PeerError, PeerPool};

/// Bodies of a known length up to this size are read before the call, so that it can be repeated.
const REPLAY_LIMIT: u64 = 64 * 1024;
/// The built-in policy without a resiliency target. *Source:* spec internals.md §8.4 `DaprBuiltInServiceRetries`.
const BUILT_IN_RETRIES: u32 = 3;
const BUILT_IN_INTERVAL: Duration = Duration::from_secs(1);
/// Retries of a resolver that answers nothing. *Source:* spec http_api.md §4.
const RESOLVE_RETRIES: u32 = 5;
const RESOLVE_INTERVAL: Duration = Duration::from_millis(100);

/// What an [`Invoker`] needs to know of its sidecar.
pub struct InvokerOptions {
    /// Own app id.
    pub app_id: String,
    /// Own namespace.
    pub namespace: String,
    /// Address other hosts see, for `X-Forwarded-For`; empty leaves the header out.
    pub host_address: String,
    /// Host name, for `X-Forwarded-Host`; empty leaves the header out.
    pub host_name: String,
    /// `--max-body-size` in bytes; 0 = no limit.
    pub max_body_bytes: usize,
}

/// Calls other apps, and the own one.
pub struct Invoker {
    options: InvokerOptions,
    forwarded: Vec<(HeaderName, HeaderValue)>,
    resolver: Arc<dyn NameResolver>,
    endpoints: Endpoints,
    peers: PeerPool,
    channel: RwLock<Option<AppChannel>>,
    rotation: AtomicUsize,
}

/// A target after parsing: an app id and its namespace.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    app_id: String,
    namespace: String,
}

impl Invoker {
    /// Makes an invoker.
    pub fn new(options: InvokerOptions, resolver: Arc<dyn NameResolver>, endpoints: Endpoints, log: Logger) -> Self {
        let peers = PeerPool::new(options.max_body_bytes, log);
        let forwarded = forwarded_headers(&options.host_address, &options.host_name);
        Self { options, forwarded, resolver, endpoints, peers, channel: RwLock::new(None), rotation: AtomicUsize::new(0) }
    }

    /// Sets the channel to the own app, once it has been found.
    pub fn set_app_channel(&self, channel: Option<AppChannel>) {
        *self.channel.write() = channel;
    }

    /// The channel to the own app.
    pub fn app_channel(&self) -> Option<AppChannel> {
        self.channel.read().clone()
    }

    /// The connections to other sidecars.
    pub fn peers(&self) -> &PeerPool {
        &self.peers
    }

    /// Calls `target` (`app`, `app.namespace`, an HTTPEndpoint name or a URL). Any status of the app is an answer.
    ///
    /// The request's method may be unclean; its headers are the caller's. Hop-by-hop headers are removed here.
    ///
    /// # Errors
    /// `ERR_DIRECT_INVOKE`, with status 403 when the called side denied it.
    pub async fn invoke(&self, target: &str, mut request: InvokeRequest) -> Result<InvokeResponse, ApiError> {
        let failed = |error: &PeerError| direct_invoke_error(target, error);
        request.method = normalize_method(&request.method)
            .map_err(|error| failed(&PeerError::new(GrpcCode::InvalidArgument, error.0)))?;
        strip_hop_by_hop(&mut request.headers);
        request.headers.remove(http::header::HOST);
        if request.body.known_length().is_some_and(|length| length <= REPLAY_LIMIT) {
            let body = std::mem::take(&mut request.body);
            let bytes = body.collect(0).await.map_err(|error| failed(&PeerError::new(GrpcCode::Internal, error.to_string())))?;
            request.body = Body::full(bytes);
        }
        if let Some(endpoint) = self.endpoints.find(target) {
            return self.endpoints.call(&endpoint, request).await.map_err(|error| failed(&error));
        }
        let parsed = self.parse_target(target).map_err(|error| failed(&error))?;
        if parsed.app_id == self.options.app_id && parsed.namespace == self.options.namespace {
            return self.invoke_self(request).await.map_err(|error| failed(&error));
        }
        self.invoke_peer(&parsed, request).await.map_err(|error| failed(&error))
    }

    fn parse_target(&self, target: &str) -> Result<Target, PeerError> {
        let mut parts = target.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(app_id), None, _) if !app_id.is_empty() => {
                Ok(Target { app_id: app_id.to_owned(), namespace: self.options.namespace.clone() })
            }
            (Some(app_id), Some(namespace), None) => Ok(Target { app_id: app_id.to_owned(), namespace: namespace.to_owned() }),
            (Some(""), None, _) => Err(PeerError::new(GrpcCode::Unknown, "app id is empty")),
            _ => Err(PeerError::new(GrpcCode::Unknown, format!("invalid app id {target}"))),
        }
    }

    async fn invoke_self(&self, mut request: InvokeRequest) -> Result<InvokeResponse, PeerError> {
        let channel = self
            .app_channel()
            .ok_or_else(|| PeerError::new(GrpcCode::Unknown, "cannot invoke local endpoint: app channel not initialized"))?;
        let identity = [
            (CALLER_APP_ID, &self.options.app_id),
            (CALLER_NAMESPACE, &self.options.namespace),
            (CALLEE_APP_ID, &self.options.app_id),
        ];
        for (name, value) in identity {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers.insert(name, value);
            }
        }
        channel.invoke(request).await.map_err(|error| PeerError::new(error.code, error.message))
    }

    /// Built-in retries: only when nothing was reached or the identity was refused, and only when the body is at hand.
    async fn invoke_peer(&self, target: &Target, mut request: InvokeRequest) -> Result<InvokeResponse, PeerError> {
        for name in [CALLER_APP_ID, CALLER_NAMESPACE, CALLEE_APP_ID] {
            request.headers.remove(name);
        }
        for (name, value) in &self.forwarded {
            request.headers.append(name.clone(), value.clone());
        }
        let replay = request.body.as_full();
        let mut attempt = 0;
        loop {
            let address = self.resolve(target).await?;
            let this = match &replay {
                Some(bytes) if attempt < BUILT_IN_RETRIES => copy(&request, bytes.clone()),
                _ => std::mem::take(&mut request),
            };
            let extra = [
                (CALLER_NAMESPACE, self.options.namespace.as_str()),
                (CALLER_APP_ID, self.options.app_id.as_str()),
                (CALLEE_APP_ID, target.app_id.as_str()),
                (DESTINATION_APP_ID, target.app_id.as_str()),
            ];
            let error = match self.peers.call(&address, &extra, this).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !matches!(error.code, GrpcCode::Unavailable | GrpcCode::Unauthenticated) {
                return Err(error);
            }
            self.peers.forget(&address);
            self.resolver.report_failure(&resolve_request(target), &address);
            if replay.is_none() || attempt == BUILT_IN_RETRIES {
                let message = format!("failed to invoke target {} after {attempt} retries. Error: {error}", target.app_id);
                return Err(PeerError::new(error.code, message));
            }
            attempt += 1;
            tokio::time::sleep(BUILT_IN_INTERVAL).await;
        }
    }

    async fn resolve(&self, target: &Target) -> Result<String, PeerError> {
        let request = resolve_request(target);
        let mut attempt = 0;
        loop {
            let addresses = self.resolver.resolve(&request).await.map_err(|error| {
                let code = if error.kind == ErrorKind::NotFound { GrpcCode::NotFound } else { GrpcCode::Unknown };
                PeerError::new(code, error.to_string())
            })?;
            if !addresses.is_empty() {
                let index = self.rotation.fetch_add(1, Ordering::Relaxed) % addresses.len();
                return Ok(addresses[index].clone());
            }
            if attempt == RESOLVE_RETRIES {
                let message = format!("resolver returned empty address for app id {}/{}", target.namespace, target.app_id);
                return Err(PeerError::new(GrpcCode::NotFound, message));
            }
            attempt += 1;
            tokio::time::sleep(RESOLVE_INTERVAL).await;
        }
    }
}

fn resolve_request(target: &Target) -> ResolveRequest {
    ResolveRequest { app_id: target.app_id.clone(), namespace: target.namespace.clone() }
}

fn copy(request: &InvokeRequest, body: bytes::Bytes) -> InvokeRequest {
    InvokeRequest {
        method: request.method.clone(),
        verb: request.verb.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        body: Body::full(body),
        data_type_url: request.data_type_url.clone(),
    }
}

fn direct_invoke_error(target: &str, error: &PeerError) -> ApiError {
    let spec = if error.code == GrpcCode::PermissionDenied { &table::DIRECT_INVOKE_DENIED } else { &table::DIRECT_INVOKE };
    ApiError::new(spec, format!("failed to invoke, id: {target}, err: {error}"))
}

/// The headers that tell the called app where the call came from. *Source:* RFC 7239 and spec http_api.md §4.
fn forwarded_headers(address: &str, host_name: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = HeaderMap::new();
    let mut forwarded = Vec::new();
    if !address.is_empty() {
        let node = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("\"[{address}]\""),
            _ => address.to_owned(),
        };
        forwarded.push(format!("for={node};by={node}"));
        if let Ok(value) = HeaderValue::from_str(address) {
            headers.insert("x-forwarded-for", value);
        }
    }
    if !host_name.is_empty() {
        forwarded.push(format!("host={host_name}"));
        if let Ok(value) = HeaderValue::from_str(host_name) {
            headers.insert("x-forwarded-host", value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&forwarded.join(";"))
        && !forwarded.is_empty()
    {
        headers.insert("forwarded", value);
    }
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_headers_follow_the_rfc() {
        let find = |headers: &[(HeaderName, HeaderValue)], name: &str| {
            headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        let headers = forwarded_headers("10.0.0.1", "box");
        assert_eq!(find(&headers, "forwarded").unwrap(), "for=10.0.0.1;by=10.0.0.1;host=box");
        assert_eq!(find(&headers, "x-forwarded-for").unwrap(), "10.0.0.1");
        let headers = forwarded_headers("::1", "");
        assert_eq!(find(&headers, "forwarded").unwrap(), "for=\"[::1]\";by=\"[::1]\"");
        assert!(forwarded_headers("", "").is_empty());
    }
}
