//! Responses of the HTTP front.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use pillion_core::error::{ApiError, ErrorDetail, Shape, table};
use pillion_runtime::body::Body;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error_labels::ErrorLabels;

/// Before the name of a detail's type.
const DETAIL_PREFIX: &str = "type.googleapis.com/google.rpc.";

/// A response of the front.
pub(crate) type HttpResponse = Response<Body>;

/// No content.
pub(crate) fn no_content() -> HttpResponse {
    status(StatusCode::NO_CONTENT, Body::empty())
}

/// JSON bytes with a status.
pub(crate) fn json_bytes(code: u16, body: impl Into<Body>) -> HttpResponse {
    let mut response = status(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Anything as JSON with status 200, and with a line end behind it as in the original, whose errors have none.
pub(crate) fn json(value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            json_bytes(200, Body::full(safe_in_html(bytes)))
        }
        Err(problem) => error(&ApiError::of(&table::INTERNAL, &[&problem])),
    }
}

/// JSON without the characters that mean something in a page; they can only stand in its texts. *Source:* Go's encoder.
fn safe_in_html(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut safe = Vec::with_capacity(json.len() + 64);
    let mut rest = &json[..];
    while let Some((byte, after)) = rest.split_first() {
        let (escaped, length): (&[u8], usize) = match rest {
            [b'<', ..] => (b"\\u003c", 1),
            [b'>', ..] => (b"\\u003e", 1),
            [b'&', ..] => (b"\\u0026", 1),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            _ => {
                safe.push(*byte);
                rest = after;
                continue;
            }
        };
        safe.extend_from_slice(escaped);
        rest = &rest[length..];
    }
    safe
}

/// A status without body.
pub(crate) fn empty(code: u16) -> HttpResponse {
    status(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Body::empty())
}

/// Plain text, for the few answers that are not JSON.
pub(crate) fn text(code: u16, message: &str) -> HttpResponse {
    let mut response =
        status(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Body::full(message.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // As the original has it, for these two alone.
    if matches!(code, 401 | 404) {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// An error as the body of spec errors.md §1.
pub(crate) fn error(error: &ApiError) -> HttpResponse {
    let body = in_order(&error_body(error)).into_bytes();
    let mut response = json_bytes(error.http, Body::full(safe_in_html(body)));
    ErrorLabels::mark(response.extensions_mut(), error);
    response
}

/// The fields in the order of the original, which some look at.
fn in_order(body: &Map<String, Value>) -> String {
    let fields = ["errorCode", "message", "details"].into_iter().filter_map(|name| Some((name, body.get(name)?)));
    let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn error_body(error: &ApiError) -> Map<String, Value> {
    let mut body = Map::new();
    if let Some((component, tag)) = error.component.as_deref().and_then(|shown| Some((shown, shown.tag.as_deref()?))) {
        body.insert("errorCode".into(), tag.into());
        body.insert("message".into(), component.message.as_str().into());
        let (reason, domain) = (&component.reason, &component.domain);
        let kind = format!("{DETAIL_PREFIX}ErrorInfo");
        let info = json!({"@type": kind, "reason": reason, "domain": domain, "metadata": null});
        body.insert("details".into(), json!([info]));
        return body;
    }
    body.insert("errorCode".into(), error.spec.code.into());
    body.insert("message".into(), error.message.as_str().into());
    if matches!(error.spec.shape, Shape::Rich(_)) && !error.details.is_empty() {
        body.insert("details".into(), error.details.iter().map(detail).collect());
    }
    body
}

/// Adds `metadata.<key>` headers; pairs that are no header are left out.
pub(crate) fn add_metadata(response: &mut HttpResponse, metadata: &BTreeMap<String, String>) {
    for (key, value) in metadata {
        let name = HeaderName::from_bytes(format!("metadata.{key}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn status(code: StatusCode, body: Body) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

fn detail(detail: &ErrorDetail) -> Value {
    match detail {
        ErrorDetail::ErrorInfo { reason, metadata } => {
            json!({"@type": format!("{DETAIL_PREFIX}ErrorInfo"), "reason": reason, "domain": "dapr.io", "metadata": metadata})
        }
        ErrorDetail::ResourceInfo { resource_type, resource_name, owner, description } => json!({
            "@type": format!("{DETAIL_PREFIX}ResourceInfo"), "resource_type": resource_type, "resource_name": resource_name,
            "owner": owner, "description": description,
        }),
        ErrorDetail::BadRequest(violations) => {
            let violations: Vec<Value> = violations.iter().map(|pair| filled("field", "description", pair)).collect();
            json!({"@type": format!("{DETAIL_PREFIX}BadRequest"), "field_violations": violations})
        }
        ErrorDetail::Help(links) => {
            let links: Vec<Value> = links.iter().map(|pair| filled("description", "url", pair)).collect();
            json!({"@type": format!("{DETAIL_PREFIX}Help"), "links": links})
        }
    }
}

/// An object of two texts without those that are empty.
fn filled(first: &str, second: &str, pair: &(String, String)) -> Value {
    let pairs = [(first, &pair.0), (second, &pair.1)].into_iter().filter(|(_, text)| !text.is_empty());
    pairs.map(|(key, text)| (key.to_owned(), Value::from(text.as_str()))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: HttpResponse) -> Value {
        serde_json::from_slice(&response.into_body().collect(0).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn json_ends_with_a_line_and_errors_do_not() {
        let whole = async |response: HttpResponse| response.into_body().collect(0).await.unwrap();
        assert_eq!(
            whole(json(&["a<b>&c", "d\u{2028}\u{2029}\u{2030}é"])).await,
            "[\"a\\u003cb\\u003e\\u0026c\",\"d\\u2028\\u2029\u{2030}é\"]\n"
        );
        let error = error(&ApiError::new(&table::BAD_REQUEST, "<"));
        assert_eq!(whole(error).await, "{\"errorCode\":\"ERR_BAD_REQUEST\",\"message\":\"\\u003c\"}");
    }

    #[tokio::test]
    async fn legacy_errors_have_no_details() {
        let response = error(&ApiError::new(&table::BAD_REQUEST, "no").info(&[]));
        assert_eq!(response.status(), 400);
        assert_eq!(body(response).await, json!({"errorCode": "ERR_BAD_REQUEST", "message": "no"}));
    }

    #[tokio::test]
    async fn rich_errors_list_their_details_in_order() {
        let response =
            error(&ApiError::new(&table::PUBSUB_FORBIDDEN, "no").resource("pubsub", "bus").info(&[("topic", "t")]));
        assert_eq!(response.status(), 403);
        let body = body(response).await;
        assert_eq!(body["details"][0]["resource_name"], "bus");
        assert_eq!(body["details"][1]["reason"], "DAPR_PUBSUB_FORBIDDEN");
        assert_eq!(body["details"][1]["metadata"]["topic"], "t");
    }
}
