//! Proxied calls under the policy of their target. *Source:* the original's `pkg/api/grpc/proxy/handler.go`.
//!
//! A call without `dapr-stream` is taken for a unary one: the policy covers all of it, and retries end where the first
//! message of an answer has gone to the caller. With `dapr-stream` it covers the way to the other sidecar only.

use std::fmt;
use std::pin::Pin;

use http::Response;
use http_body::Body as _;
use pillion_runtime::resiliency::{Failure, FailureClass, Policy, PolicyError};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::deadline::{self, Deadline};
use super::relay::Unread;
use super::replay::Source;
use super::{Call, earlier, status};
use crate::outbound::{Invoker, Target};
use crate::peer::Lease;

/// An attempt that failed in the eyes of the policy: the app's own status, or why there is none.
struct Failed {
    outcome: Result<Box<Response<Body>>, Status>,
    class: FailureClass,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.outcome, self.class) {
            (Ok(_), FailureClass::Status(code)) => write!(f, "the app answered with gRPC status {code}"),
            (Ok(_), _) => f.write_str("the app answered with an error"),
            (Err(status), _) => write!(f, "rpc error: code = {:?} desc = {}", status.code(), status.message()),
        }
    }
}

impl Failure for Failed {
    fn class(&self) -> FailureClass {
        self.class
    }
}

/// Finds and reaches a sidecar of the app under a policy.
pub(super) async fn handshake(invoker: &Invoker, policy: &Policy, target: &Target) -> Result<(String, Lease), Status> {
    let attempt = |_| async { invoker.reach(target).await.map_err(unreached) };
    policy.run(attempt).await.map_err(|error| match ended(error) {
        Err(status) => status,
        Ok(_) => Status::internal("a handshake has no answer"), // no `Failed` with an answer is made above
    })
}

/// The whole call under a policy.
pub(super) async fn run(
    invoker: &Invoker,
    policy: &Policy,
    target: &Target,
    call: &Call,
    body: Body,
) -> Result<Response<Body>, Status> {
    let source = Source::new(body, policy.has_retries(), call.refusal.clone());
    let source = &source;
    let attempt = |_| async move {
        let own = policy.timeout().and_then(|limit| Instant::now().checked_add(limit));
        let deadline = Deadline(earlier(call.deadline.0, own));
        let (address, lease) = invoker.reach(target).await.map_err(unreached)?;
        let body = source.body();
        let request = call.request(call.headers.clone(), deadline, body);
        let response = invoker.exchange(target, &address, lease, call, request, deadline).await.map_err(|status| {
            let refused = call.refusal.get().is_some();
            let class = if refused { FailureClass::Permanent } else { FailureClass::Status(status.code() as i32) };
            Failed { outcome: Err(status), class }
        })?;
        judge(response, call).await
    };
    match policy.run(attempt).await {
        Ok(response) => Ok(response),
        Err(error) => ended(error),
    }
}

fn unreached(status: Status) -> Failed {
    Failed { outcome: Err(status), class: FailureClass::Retriable }
}

/// What the caller sees when no attempt is left.
fn ended(error: PolicyError<Failed>) -> Result<Response<Body>, Status> {
    match error {
        PolicyError::Operation(failed) => failed.outcome.map(|answer| *answer),
        PolicyError::Timeout => Err(deadline::exceeded()),
        refused => Err(Status::unknown(refused.to_string())),
    }
}

/// Waits for the first thing an answer says after its head: a message makes it a success, a status tells.
async fn judge(response: Response<Body>, call: &Call) -> Result<Response<Body>, Failed> {
    if let Some(code) = status::number(response.headers()) {
        return by_status(response, code, call);
    }
    let (parts, mut body) = response.into_parts();
    let first = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    match first {
        Some(Ok(frame)) => {
            let code = frame.trailers_ref().and_then(status::number);
            let response = Response::from_parts(parts, Unread::wrap(frame, body));
            by_status(response, code.unwrap_or_default(), call)
        }
        Some(Err(status)) => Err(Failed { class: FailureClass::Status(status.code() as i32), outcome: Err(status) }),
        None => Ok(Response::from_parts(parts, body)),
    }
}

fn by_status(response: Response<Body>, code: i32, call: &Call) -> Result<Response<Body>, Failed> {
    if code == 0 {
        return Ok(response);
    }
    let class = if call.refusal.get().is_some() { FailureClass::Permanent } else { FailureClass::Status(code) };
    Err(Failed { outcome: Ok(Box::new(response)), class })
}
