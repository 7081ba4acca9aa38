//! The answers middleware gives by itself. *Source:* components-contrib `common/httputils/responses.go`.

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use pillion_contract::{HttpResponse, empty_body, full_body};

/// A status whose body is its own name.
pub(crate) fn status(status: StatusCode) -> HttpResponse {
    text(status, status.canonical_reason().unwrap_or_default())
}

/// A status with a text.
pub(crate) fn text(status: StatusCode, message: &str) -> HttpResponse {
    let mut response = Response::new(full_body(message.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// `302 Found`; a location that cannot be put into a header is an internal error.
pub(crate) fn redirect(location: &str) -> HttpResponse {
    let Ok(location) = HeaderValue::from_str(location) else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, location);
    response
}
