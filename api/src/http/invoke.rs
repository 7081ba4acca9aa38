//! Service invocation over HTTP: whom a call is for, and the answer of the app. *Source:* spec http_api.md §4.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pillion_core::error::{ApiError, GrpcCode, table};
use pillion_runtime::body::{Body, BodyError, CollectError};
use pillion_runtime::message::{
    AppStatus, DAPR_APP_ID, EVENT_STREAM, InvokeRequest, InvokeResponse, clean_path, wants_events,
};
use serde_json::{Map, Value};

use super::front::{Incall, Shared};
use super::path;
use super::respond::{self, HttpResponse};
use crate::error_labels::ErrorLabels;

mod details;

const TARGET: HeaderName = HeaderName::from_static(DAPR_APP_ID);

impl Shared {
    pub(super) async fn invoke(&self, mut call: Incall) -> HttpResponse {
        let path = path::decode_path(call.uri.path());
        let Some((target, method)) = find_target(&path, &mut call.headers) else {
            return respond::error(&ApiError::of(&table::DIRECT_INVOKE_NO_APP_ID, &[]));
        };
        let limit = self.options.max_body_bytes;
        if limit > 0 && call.body.known_length().is_some_and(|length| length > limit as u64) {
            let problem = format_args!("{}, the limit is {limit} bytes (--max-body-size)", CollectError::TooLarge);
            return respond::error(&ApiError::of(&table::DIRECT_INVOKE, &[&target, &problem]));
        }
        let events = wants_events(&call.headers);
        let streams = call.body.known_length().is_none();
        // Events of what is called over plain HTTP are passed on as they are; the rest is made a stream of events.
        let passed_on = events && self.api.invoker.calls_over_http(&target);
        let request = InvokeRequest {
            method,
            verb: call.verb,
            query: call.uri.query().unwrap_or_default().to_owned(),
            headers: call.headers,
            body: limited(call.body, limit),
            data_type_url: String::new(),
        };
        match self.api.invoker.invoke(&target, request).await {
            Ok(answer) => {
                let refused = matches!(answer.status, AppStatus::Http(code) if !(200..=399).contains(&code));
                let ends_here = refused && !streams || passed_on && is_success(answer.status);
                let mut response = app_response(answer);
                if events && !ends_here {
                    say_events(response.headers_mut());
                }
                // As in the original: what an app refuses counts as an error of service invocation, but not of streams.
                if refused && !streams {
                    response.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                    ErrorLabels::mark_as(response.extensions_mut(), &table::DIRECT_INVOKE);
                }
                response
            }
            Err(error) => {
                self.options
                    .log
                    .debug(format_args!("HTTP service invocation failed to complete with error: {}", error.message));
                respond::error(&error)
            }
        }
    }
}

/// The target and the method of a decoded path. The header is taken out, as it ends here.
pub(super) fn find_target(path: &str, headers: &mut HeaderMap) -> Option<(String, String)> {
    let (target, method) = named_target(path, headers)?;
    let is_in_header = matches!(target, Cow::Borrowed(_));
    let found = (target.into_owned(), clean_path(method));
    if is_in_header {
        headers.remove(TARGET);
    }
    Some(found)
}

/// The target of a decoded path, borrowed when a header names it, and the method before it is cleaned.
pub(super) fn named_target<'a>(path: &'a str, headers: &'a HeaderMap) -> Option<(Cow<'a, str>, &'a str)> {
    if let Some(id) = headers.get(TARGET).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty()) {
        return Some((Cow::Borrowed(id), path));
    }
    if let Some(id) = headers.get(AUTHORIZATION).and_then(basic_target) {
        return Some((Cow::Owned(id), path));
    }
    // The path is not cleaned: that would take a slash from `http://`.
    let rest = below(below(path, "v1.0")?, "invoke")?;
    let (id, rest) = rest.split_once("/method/").filter(|(id, _)| !id.is_empty())?;
    let target = path::unescape_parameter(id).ok().filter(|id| !id.is_empty()).unwrap_or_else(|| id.to_owned());
    Some((Cow::Owned(target), rest))
}

/// What follows `/<segment>/`, with any number of slashes for one.
fn below<'a>(path: &'a str, segment: &str) -> Option<&'a str> {
    let rest = path.trim_start_matches('/').strip_prefix(segment)?;
    rest.starts_with('/').then(|| rest.trim_start_matches('/'))
}

/// The `<id>` of `Authorization: Basic base64("dapr-app-id:<id>")`.
fn basic_target(value: &HeaderValue) -> Option<String> {
    let credentials = value.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, id) = text.split_once(':')?;
    (user.eq_ignore_ascii_case(DAPR_APP_ID) && !id.contains(':')).then(|| id.to_owned())
}

/// Whether an app that is called over HTTP did what it was asked; a gRPC app sends no events by itself.
fn is_success(status: AppStatus) -> bool {
    matches!(status, AppStatus::Http(200..=299))
}

fn say_events(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
}

fn app_response(answer: InvokeResponse) -> HttpResponse {
    let code = match answer.status {
        AppStatus::Http(code) => StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        AppStatus::Grpc(0) => StatusCode::OK,
        AppStatus::Grpc(number) => return grpc_status(number, &answer),
    };
    let mut response = Response::new(answer.body);
    *response.status_mut() = code;
    *response.headers_mut() = answer.headers;
    response
}

/// A status of a gRPC app that is not OK, as JSON. *Source:* the JSON mapping of Protocol Buffers: zero values are left out.
fn grpc_status(number: i32, answer: &InvokeResponse) -> HttpResponse {
    let mut body = Map::new();
    body.insert("code".into(), number.into());
    if !answer.status_message.is_empty() {
        body.insert("message".into(), answer.status_message.as_str().into());
    }
    if !answer.status_details.is_empty() {
        let mut details = Vec::with_capacity(answer.status_details.len());
        for any in &answer.status_details {
            let Some(detail) = details::to_json(any) else {
                let problem =
                    format!("proto: google.protobuf.Any: unable to resolve {:?}: \"not found\"", any.type_url);
                return respond::error(&ApiError::new(&table::MALFORMED_RESPONSE, problem));
            };
            details.push(detail);
        }
        body.insert("details".into(), Value::Array(details));
    }
    let code = GrpcCode::from_number(number).http_status();
    let mut response = respond::json_bytes(code, Body::full(Value::Object(body).to_string()));
    // *Source:* the original says nothing of the type, and its HTTP server guesses.
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in &answer.headers {
        if name != CONTENT_TYPE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

/// A body of unknown length ends with an error at the limit.
fn limited(body: Body, limit: usize) -> Body {
    if limit == 0 || body.known_length().is_some() {
        return body;
    }
    Body::boxed(LimitedBody { inner: body, left: limit })
}

struct LimitedBody {
    inner: Body,
    left: usize,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len()) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(CollectError::TooLarge.into()))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_from_header_credentials_or_path() {
        let cases = [
            ("/v1.0/invoke/cart/method/add/1", "cart", "add/1"),
            ("/v1.0/invoke/cart.prod/method/", "cart.prod", ""),
            ("//v1.0//invoke/cart/method//a/../b/", "cart", "b"),
            ("/v1.0/invoke/http://host:1/method/x", "http://host:1", "x"),
            ("/v1.0/invoke/http%3A%2F%2Fhost/method/x", "http://host", "x"),
            ("/v1.0/invoke/a/method/b/method/c", "a", "b/method/c"),
        ];
        for (path, target, method) in cases {
            assert_eq!(
                find_target(path, &mut HeaderMap::new()),
                Some((target.to_owned(), method.to_owned())),
                "{path}"
            );
        }
        for path in ["/orders", "/v1.0/invoke", "/v1.0/invoke/cart", "/v1.0/invoke//method/x", "/v1.0invoke/a/method/b"]
        {
            assert_eq!(find_target(path, &mut HeaderMap::new()), None, "{path}");
        }
    }

    #[test]
    fn the_header_wins_and_is_taken_out() {
        let mut headers = HeaderMap::new();
        headers.insert(DAPR_APP_ID, HeaderValue::from_static("cart"));
        let found = find_target("/v1.0/invoke/other/method/x", &mut headers).unwrap();
        assert_eq!(found, ("cart".to_owned(), "v1.0/invoke/other/method/x".to_owned()));
        assert!(headers.is_empty());
    }

    #[test]
    fn credentials_name_the_target_and_stay() {
        let value = |text: &str| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value("Dapr-App-Id:cart"));
        assert_eq!(find_target("/add", &mut headers), Some(("cart".to_owned(), "add".to_owned())));
        assert!(headers.contains_key(AUTHORIZATION));
        assert_eq!(basic_target(&value("user:secret")), None);
        assert_eq!(basic_target(&value("dapr-app-id:a:b")), None);
    }

    #[tokio::test]
    async fn a_stream_ends_at_the_limit() {
        let (sender, body) = Body::channel(2);
        sender.send(Ok(Bytes::from("abc"))).await.unwrap();
        sender.send(Ok(Bytes::from("de"))).await.unwrap();
        drop(sender);
        let mut body = limited(body, 4);
        assert_eq!(body.chunk().await.unwrap().unwrap(), "abc");
        assert_eq!(body.chunk().await.unwrap().unwrap_err().to_string(), "stream too large");
    }
}
