//! gRPC proxying: any gRPC call that is not the sidecar's own, passed to the app its metadata names.
//!
//! *Job:* [`Invoker::proxy`] for the public API (find the target, apply its policy, pass on) and [`serve`] for calls of
//! other sidecars (always to the own app). *Neighbours:* `api` and [`crate::inbound`] hand over requests as they came,
//! [`crate::peer`] has the connections. *Invariant:* messages are never decoded and never collected; at most one chunk of a
//! direction is held, and under a policy with retries one request message. *Source:* spec internals.md §7.3,
//! app_channel.md §8.

mod app;
mod attempts;
mod deadline;
mod frames;
mod gate;
mod relay;
mod replay;
mod serve;
mod status;
#[cfg(test)]
mod tests;
mod transport;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use pillion_runtime::grpc_meter::{Meter, Watcher};
use pillion_runtime::message::{CALLEE_APP_ID, CALLER_APP_ID, DAPR_API_TOKEN, DAPR_APP_ID};
use pillion_telemetry::metrics::{CallKind, Metrics};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

pub(crate) use gate::Gate;
pub(crate) use serve::serve;

use crate::outbound::{Invoker, Target};
use crate::peer::Lease;
use deadline::Deadline;
use relay::{Refusal, Relay, RequestBody};

/// Metadata that marks a call as streaming: a policy then covers the way to the other sidecar only.
const STREAM: HeaderName = HeaderName::from_static("dapr-stream");

/// What every attempt of a call has in common.
struct Call {
    uri: Uri,
    headers: HeaderMap,
    deadline: Deadline,
    refusal: Refusal,
    /// Longest message in bytes; 0 = no limit.
    limit: usize,
}

impl Call {
    /// The request of a call that is sent once; takes the headers along.
    fn only_request(&mut self, body: Body) -> Request<Body> {
        let headers = std::mem::take(&mut self.headers);
        self.request(headers, self.deadline, body)
    }

    /// Makes the answer end as promised: with a status, in time, within the limits.
    fn relay(&self, response: Response<Body>, deadline: Deadline) -> Response<Body> {
        Relay::wrap(response, self.limit, deadline, self.refusal.clone())
    }

    /// The request of one attempt.
    fn request(&self, headers: HeaderMap, deadline: Deadline, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        deadline.put(request.headers_mut());
        request
    }
}

impl Invoker {
    /// Passes a gRPC call to the app its metadata names: `dapr-callee-app-id`, else `dapr-app-id`. Whatever goes wrong is
    /// a gRPC status in the answer.
    pub async fn proxy(&self, request: Request<Body>) -> Response<Body> {
        let deadline = Deadline::of(request.headers());
        deadline.limit(self.route(request, deadline)).await.unwrap_or_else(Status::into_http)
    }

    async fn route(&self, request: Request<Body>, deadline: Deadline) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let named = target(&parts.headers)?;
        let target = self.parse_target(&named).map_err(status::from_peer)?;
        if self.endpoints.find(&named).is_some() {
            let text =
                format!("cannot proxy request: {named} is an HTTP endpoint, gRPC calls can be passed to apps only");
            return Err(Status::unavailable(text));
        }
        let limit = self.options.max_body_bytes;
        let refusal = Refusal::default();
        let mut call = Call { uri: parts.uri, headers: parts.headers, deadline, refusal, limit };
        call.headers.remove(DAPR_APP_ID);
        call.headers.remove(DAPR_API_TOKEN);
        let body = RequestBody::wrap(body, limit, call.refusal.clone());
        if self.is_own(&target) {
            // As in the original, an app that calls itself this way is a caller without an identity.
            Gate { access: self.access.as_deref(), peer: None }.pass(&call.uri)?;
            return app::call(self.app_channel().as_ref(), call, body).await;
        }
        self.name_both_ends(&target, &mut call.headers);
        match self.policies.app(&named, call.uri.path()) {
            None => {
                let (address, lease) = self.reach(&target).await?;
                let request = call.only_request(body);
                self.exchange(&target, &address, lease, &call, request, deadline).await
            }
            Some(policy) if is_stream(&call.headers) => {
                let (address, lease) = attempts::handshake(self, &policy, &target).await?;
                let request = call.only_request(body);
                self.exchange(&target, &address, lease, &call, request, deadline).await
            }
            Some(policy) => attempts::run(self, &policy, &target, &call, body).await,
        }
    }

    /// A connection to a sidecar of the app. One that does not answer is forgotten, and one more is tried if there is one.
    async fn reach(&self, target: &Target) -> Result<(String, Lease), Status> {
        let address = self.resolve(target).await.map_err(status::from_peer)?;
        let error = match self.peers().lease(target, &address).await {
            Ok(lease) => return Ok((address, lease)),
            Err(error) => error,
        };
        self.distrust(target, &address);
        match self.resolve(target).await {
            Ok(other) if other != address => match self.peers().lease(target, &other).await {
                Ok(lease) => Ok((other, lease)),
                Err(error) => {
                    self.distrust(target, &other);
                    Err(status::from_peer(error))
                }
            },
            _ => Err(status::from_peer(error)),
        }
    }

    /// Sends the call on a connection and waits for the head of the answer.
    async fn exchange(
        &self,
        target: &Target,
        address: &str,
        lease: Lease,
        call: &Call,
        request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Status> {
        let meter = self.followed(target, request.headers());
        match transport::send(lease, request).await {
            Ok(response) => {
                let response = call.relay(status::checked(response), deadline);
                Ok(match meter {
                    Some(meter) => meter.follow(response),
                    None => response,
                })
            }
            Err(broken) => {
                if let Some(meter) = meter {
                    meter.fail(broken.status.code() as i32);
                }
                if broken.connection {
                    self.distrust(target, address);
                }
                Err(call.refusal.get().unwrap_or(broken.status))
            }
        }
    }

    /// Tells the metrics that a call is sent, and prepares to tell them how it ends.
    fn followed(&self, target: &Target, headers: &HeaderMap) -> Option<Meter<Passed>> {
        let metrics = self.metrics.service()?;
        let kind = if is_stream(headers) { CallKind::Streaming } else { CallKind::Unary };
        metrics.request_sent(&target.app_id, kind);
        let watcher = Passed { metrics: self.metrics.clone(), callee: target.app_id.clone(), kind };
        Some(Meter::begin_uncounted(watcher))
    }

    /// Tells the called side who calls. What a caller says of itself does not count.
    fn name_both_ends(&self, target: &Target, headers: &mut HeaderMap) {
        for (name, value) in [(CALLER_APP_ID, &self.options.app_id), (CALLEE_APP_ID, &target.app_id)] {
            headers.remove(name);
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// A call on its way to another sidecar.
struct Passed {
    metrics: Metrics,
    callee: String,
    kind: CallKind,
}

impl Watcher for Passed {
    fn ended(&self, code: i32, _: u64, _: u64, elapsed: std::time::Duration) {
        if let Some(metrics) = self.metrics.service() {
            metrics.response_received(&self.callee, code, self.kind, elapsed);
        }
    }
}

/// The app a call is for, as its metadata has it.
fn target(headers: &HeaderMap) -> Result<String, Status> {
    let found = headers.get(CALLEE_APP_ID).or_else(|| headers.get(DAPR_APP_ID));
    let missing = || {
        Status::unknown(format!(
            "failed to proxy request: required metadata {CALLEE_APP_ID} or {DAPR_APP_ID} not found"
        ))
    };
    let named = found.ok_or_else(missing)?;
    Ok(String::from_utf8_lossy(named.as_bytes()).into_owned())
}

/// Whether the caller says that the call streams. *Source:* the truthy words of the original's `kit/strings`.
fn is_stream(headers: &HeaderMap) -> bool {
    let word = headers.get(STREAM).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["y", "yes", "true", "t", "on", "1"].iter().any(|truthy| word.trim().eq_ignore_ascii_case(truthy))
}

/// The earlier of two ends.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
