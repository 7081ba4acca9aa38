//! Calls of apps under the policies of their targets: timeout, retries, circuit breaker around the whole call.
//!
//! *Source:* spec internals.md §8; the two fronts of the original judge answers in their own ways, see [`Judge`].
//! *Invariant:* a target without policy costs one look-up here, nothing is copied. When retries are exhausted the app's
//! last answer is the answer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use pillion_core::error::{ApiError, GrpcCode, table};
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::message::{AppStatus, InvokeRequest, InvokeResponse, wants_events};
use pillion_runtime::resiliency::{Failure, FailureClass, Policy, PolicyError, TIMEOUT_TEXT};
use tokio::time::{Instant, Sleep};

use crate::outbound::{Destination, Invoker, make_whole};
use crate::peer::PeerError;

/// Why a call of an app has no answer.
#[derive(Debug)]
pub enum InvokeError {
    /// The app was not reached, or the call was refused.
    Failed(PeerError),
    /// It took longer than the policy of the target allows.
    TimedOut,
    /// The circuit breaker of the target refused it, for this reason.
    Refused(&'static str),
}

impl InvokeError {
    /// `ERR_DIRECT_INVOKE`, with status 403 when the called side denied the call.
    pub fn into_api_error(self, target: &str) -> ApiError {
        let denied = matches!(&self, Self::Failed(error) if error.code == GrpcCode::PermissionDenied);
        let spec = if denied { &table::DIRECT_INVOKE_DENIED } else { &table::DIRECT_INVOKE };
        ApiError::of(spec, &[&target, &self])
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut => f.write_str(TIMEOUT_TEXT),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for InvokeError {}

impl From<PeerError> for InvokeError {
    fn from(error: PeerError) -> Self {
        Self::Failed(error)
    }
}

/// Which answers of an app count as failures under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judge {
    /// The HTTP API: a status of an HTTP app outside 200-399; the policy's `matching` decides about retries. What a gRPC
    /// app answers is never a failure.
    Http,
    /// `InvokeService`: anything but 2xx or OK, always worth a retry.
    Message,
}

impl Judge {
    /// What an answer means for retries; `None` = success.
    fn failure(self, status: AppStatus) -> Option<FailureClass> {
        match (self, status) {
            (Self::Http, AppStatus::Http(200..=399) | AppStatus::Grpc(_)) => None,
            (Self::Message, AppStatus::Http(200..=299) | AppStatus::Grpc(0)) => None,
            (Self::Http, AppStatus::Http(_)) => Some(FailureClass::Status(status.number())),
            (Self::Message, _) => Some(FailureClass::Retriable),
        }
    }
}

/// An attempt that failed in the eyes of the policy.
struct Failed {
    outcome: Result<InvokeResponse, PeerError>,
    class: FailureClass,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(answer) => write!(f, "the app answered with status {}", answer.status.number()),
            Err(error) => error.fmt(f),
        }
    }
}

impl Failure for Failed {
    fn class(&self) -> FailureClass {
        self.class
    }
}

impl Invoker {
    /// Calls `target` (`app`, `app.namespace`, an HTTPEndpoint name or a URL) for a caller over HTTP. Any status of the
    /// app is an answer.
    ///
    /// The request's method may be unclean; its headers are the caller's. Hop-by-hop headers are removed here.
    ///
    /// # Errors
    /// `ERR_DIRECT_INVOKE`, with status 403 when the called side denied it.
    pub async fn invoke(&self, target: &str, request: InvokeRequest) -> Result<InvokeResponse, ApiError> {
        self.judged(target, request, Judge::Http).await.map_err(|error| error.into_api_error(target))
    }

    /// As [`Self::invoke`] for a caller with a message (`InvokeService`): the answer's body is here, and other answers are
    /// failures in the eyes of a policy.
    ///
    /// # Errors
    /// [`InvokeError`].
    pub async fn invoke_message(&self, target: &str, request: InvokeRequest) -> Result<InvokeResponse, InvokeError> {
        let mut answer = self.judged(target, request, Judge::Message).await?;
        make_whole(&mut answer.body, self.options.max_body_bytes).await?;
        Ok(answer)
    }

    async fn judged(
        &self,
        target: &str,
        mut request: InvokeRequest,
        judge: Judge,
    ) -> Result<InvokeResponse, InvokeError> {
        self.prepare(&mut request).await?;
        let destination = self.direct(target, &mut request.headers)?;
        let endpoint = match &destination {
            Destination::Endpoint(endpoint, _) => endpoint.base_url.as_str(),
            Destination::Own | Destination::Peer(_) => request.method.as_str(),
        };
        match self.policies.app(target, endpoint) {
            None => Ok(self.ask(&destination, request, judge).await?),
            // Boxed, so that calls of targets without a policy do not carry its size.
            Some(policy) => Box::pin(self.under(&policy, &destination, request, judge)).await,
        }
    }

    async fn under(
        &self,
        policy: &Policy,
        destination: &Destination,
        mut request: InvokeRequest,
        judge: Judge,
    ) -> Result<InvokeResponse, InvokeError> {
        let streaming = request.body.known_length().is_none();
        if policy.has_retries() && !streaming {
            make_whole(&mut request.body, self.options.max_body_bytes).await?;
        }
        let replay = request.body.as_full();
        let source = Mutex::new(Some(request));
        let (source, replay) = (&source, &replay);
        let attempt = |_| async move {
            let deadline = policy.timeout().map(|limit| Instant::now() + limit);
            let outcome = match next_request(source, replay.as_ref()) {
                Some(request) => self.attempt(destination, request, judge, streaming).await,
                None => Err(PeerError::plain(GrpcCode::Unknown, "the request body cannot be sent again")),
            };
            let failure = match &outcome {
                Ok(answer) => judge.failure(answer.status),
                Err(_) => Some(FailureClass::Retriable),
            };
            let class = if replay.is_none() { failure.map(|_| FailureClass::Permanent) } else { failure };
            match (outcome, class) {
                (outcome, Some(class)) => Err(Failed { outcome, class }),
                (Ok(answer), None) => Ok(limited(answer, deadline)),
                (Err(error), None) => Err(Failed { outcome: Err(error), class: FailureClass::Permanent }),
            }
        };
        match policy.run(attempt).await {
            Ok(answer) => Ok(answer),
            Err(PolicyError::Operation(failed)) => Ok(failed.outcome?),
            Err(PolicyError::Timeout) => Err(InvokeError::TimedOut),
            Err(refused) => Err(InvokeError::Refused(refusal(&refused))),
        }
    }

    /// One call. A stream of events that another app refuses is a failure of the call, not an answer. *Source:* the
    /// original's called side, which has no answer to give back then; here it is judged on the calling side, so that it
    /// holds whoever is called.
    async fn ask(
        &self,
        destination: &Destination,
        request: InvokeRequest,
        judge: Judge,
    ) -> Result<InvokeResponse, PeerError> {
        let events =
            judge == Judge::Http && matches!(destination, Destination::Peer(_)) && wants_events(&request.headers);
        let answer = self.send(destination, request).await?;
        if events && matches!(answer.status, AppStatus::Http(code) if !(200..=299).contains(&code)) {
            return Err(PeerError::new(
                GrpcCode::Internal,
                "error invoking app channel: no response received from stream",
            ));
        }
        Ok(answer)
    }

    /// One attempt; answers that may be thrown away for a better one, and those that must be whole, are read to their end.
    async fn attempt(
        &self,
        destination: &Destination,
        request: InvokeRequest,
        judge: Judge,
        streaming: bool,
    ) -> Result<InvokeResponse, PeerError> {
        let mut answer = self.ask(destination, request, judge).await?;
        let whole = match judge {
            Judge::Message => true,
            Judge::Http => !streaming && judge.failure(answer.status).is_some(),
        };
        if whole {
            make_whole(&mut answer.body, self.options.max_body_bytes).await?;
        }
        Ok(answer)
    }
}

/// The request of the next attempt: a copy when the body can be sent again, else the one there is.
fn next_request(source: &Mutex<Option<InvokeRequest>>, replay: Option<&Bytes>) -> Option<InvokeRequest> {
    let mut source = source.lock();
    let Some(bytes) = replay else { return source.take() };
    let request = source.as_ref()?;
    Some(InvokeRequest {
        method: request.method.clone(),
        verb: request.verb.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        body: Body::full(bytes.clone()),
        data_type_url: request.data_type_url.clone(),
    })
}

fn refusal(error: &PolicyError<Failed>) -> &'static str {
    match error {
        PolicyError::TooManyRequests => "too many requests",
        _ => "circuit breaker is open",
    }
}

/// The timeout of an attempt goes on while its answer is read.
fn limited(mut answer: InvokeResponse, deadline: Option<Instant>) -> InvokeResponse {
    if let Some(deadline) = deadline
        && answer.body.as_full().is_none()
    {
        let inner = std::mem::take(&mut answer.body);
        answer.body = Body::boxed(LimitedBody { inner, sleep: Box::pin(tokio::time::sleep_until(deadline)) });
    }
    answer
}

struct LimitedBody {
    inner: Body,
    sleep: Pin<Box<Sleep>>,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.sleep.as_mut().poll(cx).map(|()| Some(Err(TIMEOUT_TEXT.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
