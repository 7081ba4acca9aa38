//! From the API to another app: find it, connect, stream. The policy of the target is in [`crate::policy`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::{Mutex, RwLock};
use pillion_contract::{ErrorKind, NameResolver, ResolveRequest};
use pillion_core::error::GrpcCode;
use pillion_core::log::Logger;
use pillion_runtime::app_channel::AppChannel;
use pillion_runtime::body::Body;
use pillion_runtime::message::{
    CALLEE_APP_ID, CALLER_APP_ID, CALLER_NAMESPACE, DESTINATION_APP_ID, InvokeRequest, InvokeResponse, known_verb,
    normalize_in_place, strip_hop_by_hop,
};
use pillion_runtime::resiliency::{BuiltIn, Failure, FailureClass, Policies};
use pillion_telemetry::metrics::{CallKind, Metrics};

use crate::access::AccessControl;
use crate::endpoint::{Endpoint, Endpoints};
use crate::peer::{PeerError, PeerPool};
use crate::rotation::Rotation;

/// Bodies of a known length up to this size are read before the call, so that it can be repeated.
const REPLAY_LIMIT: u64 = 64 * 1024;
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
    pub(crate) options: InvokerOptions,
    forwarded: Vec<(HeaderName, HeaderValue)>,
    resolver: Arc<dyn NameResolver>,
    pub(crate) endpoints: Endpoints,
    peers: Arc<PeerPool>,
    channel: RwLock<Option<AppChannel>>,
    rotation: Rotation,
    pub(crate) policies: Arc<Policies>,
    pub(crate) metrics: Metrics,
    pub(crate) access: Option<Arc<AccessControl>>,
}

/// A target after parsing: an app id and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) app_id: String,
    pub(crate) namespace: String,
}

/// Where a call goes.
pub(crate) enum Destination {
    /// A host outside the mesh, and the target it was called by.
    Endpoint(Endpoint, String),
    /// The app of this sidecar.
    Own,
    /// The app of another one.
    Peer(Target),
}

impl Invoker {
    /// Makes an invoker.
    pub fn new(
        options: InvokerOptions,
        resolver: Arc<dyn NameResolver>,
        endpoints: Endpoints,
        policies: Arc<Policies>,
        log: Logger,
    ) -> Self {
        let peers = Arc::new(PeerPool::new(options.max_body_bytes, log));
        let forwarded = forwarded_headers(&options.host_address, &options.host_name);
        let (channel, rotation) = (RwLock::new(None), Rotation::default());
        let metrics = Metrics::off();
        let access = None;
        Self { options, forwarded, resolver, endpoints, peers, channel, rotation, policies, metrics, access }
    }

    /// The same, recording its calls.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, calling other sidecars over these connections.
    #[must_use]
    pub fn over(self, peers: Arc<PeerPool>) -> Self {
        Self { peers, ..self }
    }

    /// The same, with the rules for calls of the own app: gRPC calls it passes to itself are under them too.
    #[must_use]
    pub fn controlled(self, access: Option<Arc<AccessControl>>) -> Self {
        Self { access, ..self }
    }

    /// Sets the channel to the own app, once it has been found.
    pub fn set_app_channel(&self, channel: Option<AppChannel>) {
        *self.channel.write() = channel;
    }

    /// The channel to the own app.
    pub fn app_channel(&self) -> Option<AppChannel> {
        self.channel.read().clone()
    }

    /// The HTTPEndpoint resources.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The connections to other sidecars.
    pub fn peers(&self) -> &Arc<PeerPool> {
        &self.peers
    }

    /// Cleans method and headers, reads small bodies: done once per call, whatever the number of attempts.
    pub(crate) async fn prepare(&self, request: &mut InvokeRequest) -> Result<(), PeerError> {
        normalize_in_place(&mut request.method).map_err(|error| PeerError::new(GrpcCode::InvalidArgument, error.0))?;
        request.verb = known_verb(std::mem::take(&mut request.verb));
        strip_hop_by_hop(&mut request.headers);
        request.headers.remove(http::header::HOST);
        if request.body.known_length().is_some_and(|length| length <= REPLAY_LIMIT) {
            make_whole(&mut request.body, 0).await?;
        }
        Ok(())
    }

    /// Finds out where a call goes and gives the request the headers of that way.
    pub(crate) fn direct(&self, target: &str, headers: &mut HeaderMap) -> Result<Destination, PeerError> {
        if let Some(endpoint) = self.endpoints.find(target) {
            return Ok(Destination::Endpoint(endpoint, target.to_owned()));
        }
        let parsed = self.parse_target(target)?;
        for name in [CALLER_APP_ID, CALLER_NAMESPACE, CALLEE_APP_ID] {
            headers.remove(name);
        }
        if !self.is_own(&parsed) {
            for (name, value) in &self.forwarded {
                headers.append(name.clone(), value.clone());
            }
            return Ok(Destination::Peer(parsed));
        }
        let identity = [
            (CALLER_APP_ID, &self.options.app_id),
            (CALLER_NAMESPACE, &self.options.namespace),
            (CALLEE_APP_ID, &self.options.app_id),
        ];
        for (name, value) in identity {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        Ok(Destination::Own)
    }

    pub(crate) fn parse_target(&self, target: &str) -> Result<Target, PeerError> {
        let plain = |message: String| Err(PeerError::plain(GrpcCode::Unknown, message));
        let mut parts = target.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(app_id), None, _) if !app_id.is_empty() => {
                Ok(Target { app_id: app_id.to_owned(), namespace: self.options.namespace.clone() })
            }
            (Some(app_id), Some(namespace), None) => {
                Ok(Target { app_id: app_id.to_owned(), namespace: namespace.to_owned() })
            }
            (Some(""), None, _) => plain("app id is empty".to_owned()),
            _ => plain(format!("invalid app id {target}")),
        }
    }

    pub(crate) fn is_own(&self, target: &Target) -> bool {
        target.app_id == self.options.app_id && target.namespace == self.options.namespace
    }

    /// Whether a call leaves this sidecar as an HTTP request, to its own app or to an endpoint outside.
    pub fn calls_over_http(&self, target: &str) -> bool {
        self.endpoints.find(target).is_some() || self.parse_target(target).is_ok_and(|parsed| self.is_own(&parsed))
    }

    /// One call, without the policy of the target.
    pub(crate) async fn send(
        &self,
        destination: &Destination,
        mut request: InvokeRequest,
    ) -> Result<InvokeResponse, PeerError> {
        match destination {
            Destination::Endpoint(endpoint, target) => {
                self.measured(target, Box::pin(self.endpoints.call(endpoint, request))).await
            }
            Destination::Own => {
                let channel = self.app_channel().ok_or_else(|| {
                    PeerError::plain(GrpcCode::Unknown, "cannot invoke local endpoint: app channel not initialized")
                })?;
                channel.invoke(request).await.map_err(PeerError::from)
            }
            Destination::Peer(target) => {
                let body = std::mem::take(&mut request.body);
                self.send_to_peer(target, &request, body).await
            }
        }
    }

    /// The built-in retries: only when nothing was reached or the identity was refused, only when the body is at hand, and
    /// only for apps no manifest names.
    pub(crate) async fn send_to_peer(
        &self,
        target: &Target,
        request: &InvokeRequest,
        body: Body,
    ) -> Result<InvokeResponse, PeerError> {
        let Some(replay) = body.as_full().filter(|_| !self.policies.has_app_target(&target.app_id)) else {
            return self.try_peer(target, request, body).await;
        };
        match self.try_peer(target, request, body).await {
            Err(error) if is_transient(&error) => Box::pin(self.retry(target, request, &replay, error)).await,
            done => done,
        }
    }

    /// Goes on after a first attempt that failed. Apart and boxed by its caller, so that the far more frequent calls that succeed
    /// at once do not carry its size.
    async fn retry(
        &self,
        target: &Target,
        request: &InvokeRequest,
        replay: &Bytes,
        first: PeerError,
    ) -> Result<InvokeResponse, PeerError> {
        let first = Mutex::new(Some(first));
        let first = &first;
        let attempt = |attempt: u32| async move {
            let before = first.lock().take();
            let outcome = match before {
                Some(error) => Err(error),
                None => self.try_peer(target, request, Body::full(replay.clone())).await,
            };
            outcome.map_err(|error| {
                if !is_transient(&error) {
                    return Attempt(error);
                }
                let message =
                    format!("failed to invoke target {} after {} retries. Error: {error}", target.app_id, attempt - 1);
                Attempt(PeerError::plain(error.code, message))
            })
        };
        let done = self.policies.built_in(BuiltIn::ServiceRetries).run(attempt).await;
        done.map_err(|error| error.into_error(|text| Attempt(PeerError::plain(GrpcCode::Unknown, text))).0)
    }

    async fn try_peer(
        &self,
        target: &Target,
        request: &InvokeRequest,
        body: Body,
    ) -> Result<InvokeResponse, PeerError> {
        let address = self.resolve(target).await?;
        let extra = [
            (CALLER_NAMESPACE, self.options.namespace.as_str()),
            (CALLER_APP_ID, self.options.app_id.as_str()),
            (CALLEE_APP_ID, target.app_id.as_str()),
            (DESTINATION_APP_ID, target.app_id.as_str()),
        ];
        let answer = self.measured(&target.app_id, self.peers.call(target, &address, &extra, request, body)).await;
        if let Err(error) = &answer
            && is_transient(error)
        {
            self.distrust(target, &address);
        }
        answer
    }

    /// One call to the outside, told to the metrics; a call without an answer has only been sent.
    async fn measured(
        &self,
        callee: &str,
        call: impl Future<Output = Result<InvokeResponse, PeerError>>,
    ) -> Result<InvokeResponse, PeerError> {
        let Some(metrics) = self.metrics.service() else { return call.await };
        metrics.request_sent(callee, CallKind::Unary);
        let started = Instant::now();
        let answer = call.await;
        if let Ok(answer) = &answer {
            metrics.response_received(callee, answer.status.number(), CallKind::Unary, started.elapsed());
        }
        answer
    }

    /// Drops what is known of an address that did not answer.
    pub(crate) fn distrust(&self, target: &Target, address: &str) {
        self.peers.forget(address);
        self.resolver.report_failure(&resolve_request(target), address);
    }

    /// The address of a sidecar of the app; several take turns.
    pub(crate) async fn resolve(&self, target: &Target) -> Result<String, PeerError> {
        let request = resolve_request(target);
        let mut attempt = 0;
        loop {
            let mut addresses = self.resolver.resolve(&request).await.map_err(|error| {
                let code = if error.kind == ErrorKind::NotFound { GrpcCode::NotFound } else { GrpcCode::Unknown };
                PeerError::plain(code, error.to_string())
            })?;
            if !addresses.is_empty() {
                return Ok(addresses.swap_remove(self.rotation.next(&target.app_id, addresses.len())));
            }
            if attempt == RESOLVE_RETRIES {
                let message =
                    format!("resolver returned empty address for app id {}/{}", target.namespace, target.app_id);
                return Err(PeerError::plain(GrpcCode::NotFound, message));
            }
            attempt += 1;
            tokio::time::sleep(RESOLVE_INTERVAL).await;
        }
    }
}

fn resolve_request(target: &Target) -> ResolveRequest {
    ResolveRequest { app_id: target.app_id.clone(), namespace: target.namespace.clone() }
}

/// Whether the other side may be another one now: worth the built-in retries.
pub(crate) fn is_transient(error: &PeerError) -> bool {
    matches!(error.code, GrpcCode::Unavailable | GrpcCode::Unauthenticated)
}

/// An error under the built-in policy.
struct Attempt(PeerError);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Failure for Attempt {
    fn class(&self) -> FailureClass {
        if is_transient(&self.0) { FailureClass::Retriable } else { FailureClass::Permanent }
    }
}

/// Reads a body that is not here yet, at most `limit` bytes (0 = no limit).
pub(crate) async fn make_whole(body: &mut Body, limit: usize) -> Result<(), PeerError> {
    if body.as_full().is_none() {
        let bytes = std::mem::take(body)
            .collect(limit)
            .await
            .map_err(|error| PeerError::plain(GrpcCode::Internal, error.to_string()))?;
        *body = Body::full(bytes);
    }
    Ok(())
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
