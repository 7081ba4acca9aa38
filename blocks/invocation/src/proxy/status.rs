//! What a failure on the way is in gRPC's terms. *Source:* gRPC over HTTP/2, section "Errors", and the original's texts.

use std::error::Error;

use http::{HeaderMap, Response};
use tonic::body::Body;
use tonic::{Code, Status, TimeoutExpired};

use super::deadline;
use super::frames::TooLong;
use crate::peer::PeerError;

/// The status of an error of the sidecar itself. What is no status in the original is `Unknown`.
pub(super) fn from_peer(error: PeerError) -> Status {
    let code = if error.is_status() { Code::from_i32(error.code as i32) } else { Code::Unknown };
    Status::new(code, error.message)
}

/// The status of a message that is longer than allowed.
pub(super) fn too_long(message: &TooLong) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({} vs. {})",
        message.length, message.limit
    ))
}

/// The status of any error of a connection to the app.
pub(super) fn from_error(error: &(dyn Error + 'static)) -> Status {
    let mut cause = Some(error);
    let mut last = error;
    while let Some(error) = cause {
        if let Some(status) = error.downcast_ref::<Status>().filter(|status| status.source().is_none()) {
            return status.clone();
        }
        if error.is::<TimeoutExpired>() {
            return deadline::exceeded();
        }
        if let Some(error) = error.downcast_ref::<tonic::ConnectError>() {
            let cause = deepest(error);
            return Status::unavailable(format!(
                "connection error: desc = \"transport: Error while dialing: {cause}\""
            ));
        }
        last = error;
        cause = error.source();
    }
    Status::unavailable(format!("connection error: {last}"))
}

/// The status of a body that broke: one made here as it is, the HTTP client's by its cause.
pub(super) fn from_body(error: Status) -> Status {
    match error.source() {
        Some(cause) => from_error(cause),
        None => error,
    }
}

fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

/// The answer when it is one of gRPC, else the status its HTTP form stands for.
pub(super) fn checked(response: Response<Body>) -> Response<Body> {
    let http = response.status();
    let content_type =
        response.headers().get(http::header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is_grpc = content_type.as_ref().is_some_and(|value| value.starts_with("application/grpc"));
    if is_grpc && http == http::StatusCode::OK {
        return response;
    }
    let shown = content_type.as_deref().unwrap_or_default();
    let code = match http.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let text = if http == http::StatusCode::OK {
        format!("received unexpected content-type {shown:?}")
    } else {
        format!("unexpected HTTP status code received from server: {http}; received unexpected content-type {shown:?}")
    };
    Status::new(code, text).into_http()
}

/// The number in `grpc-status`, when there is one.
pub(super) fn number(headers: &HeaderMap) -> Option<i32> {
    let value = headers.get(Status::GRPC_STATUS)?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(Code::Unknown as i32))
}

/// A status as the trailers of an answer that has begun.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A text or details that cannot be put into a header: the code alone is what there is to say.
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from(status.code() as i32));
    }
    trailers
}
