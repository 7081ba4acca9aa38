//! Calls between two Pillions without gRPC around them: plain HTTP/1.1 on the same internal port.
//!
//! *Job:* carry an [`InvokeRequest`] with a whole body, and its answer, at the cost of a reverse proxy. *Neighbours:*
//! `peer` offers it to callers that are Pillions and uses it once it was offered; `inbound` tells the two protocols apart
//! by their first bytes, or by the protocol ([`ALPN`]) that a TLS handshake names. *Invariant:* an original sidecar on either side never sees any of this, and whatever does not fit
//! (streamed bodies, wrapped messages, many calls at once) goes the gRPC way.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use pillion_core::error::GrpcCode;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use pillion_runtime::app_channel::TlsClient;
use pillion_runtime::app_channel::pool::{HostPool, SendError};
use pillion_runtime::body::Body;
use pillion_runtime::http1::client::write_request_line;
use pillion_runtime::http1::{self, write_field};
use pillion_runtime::message::{AppStatus, InvokeRequest, InvokeResponse, strip_hop_by_hop};
use prost::Message as _;
use tokio_rustls::rustls::ClientConfig;

use crate::peer::PeerError;

/// Header of the gRPC answer that offers this way (its value names the Unix socket, if there is one: [`crate::shortcut`]), and
/// of every call that takes it. Web pages cannot send it to a port of
/// this machine without being asked first, so it also keeps them out.
pub(crate) const MARK: HeaderName = HeaderName::from_static("pillion-direct");
/// The protocol in the handshake of TLS. Only a caller that was offered this way asks for it.
pub(crate) const ALPN: &[u8] = b"pillion-direct/1";
/// The status of a gRPC app; its message is in [`MESSAGE`].
const APP_STATUS: HeaderName = HeaderName::from_static("pillion-app-status");
/// The code of a call that failed between the sidecars and the app; its text is the body.
const FAILURE: HeaderName = HeaderName::from_static("pillion-failure");
const MESSAGE: HeaderName = HeaderName::from_static("pillion-message");
/// The details of the status, as those of a `google.rpc.Status`.
const DETAILS: HeaderName = HeaderName::from_static("pillion-details");
const TYPE_URL: HeaderName = HeaderName::from_static("pillion-type-url");

/// Calls at a time to one sidecar; more go over gRPC, which needs no connection for each.
const CALLS_MAX: usize = 256;
/// Larger bodies go over gRPC, which streams them.
const BODY_BYTES_MAX: usize = http1::server::BODY_MAX;
/// Headers at most; the server takes a few more, for those of the sidecar.
const HEADERS_MAX: usize = 80;
/// Largest head of a request or an answer in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 1 << 20;

/// All but what may stand in a path as it is; a percent sign is always escaped, so that the callee gets the very method.
const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What a query cannot hold as it is in a request line; a gRPC caller may send anything. Such calls take the gRPC way, since
/// an escape would change the query.
fn is_sendable(query: &str) -> bool {
    query.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>'))
}

/// Whether the server of the other side takes a call with these headers for a plain one; it refuses what is not.
fn are_plain(headers: &HeaderMap) -> bool {
    let is_special = |name: &HeaderName| matches!(*name, CONNECTION | EXPECT | UPGRADE);
    headers.len() <= HEADERS_MAX && !headers.keys().any(is_special)
}

/// Connections to one sidecar, over TLS when it is given, by its Unix socket when it is on this machine.
pub(crate) fn pool(host: &str, port: u16, tls: Option<Arc<ClientConfig>>, shortcut: Option<PathBuf>) -> Arc<HostPool> {
    HostPool::to_sidecar(host, port, tls.map(TlsClient::by_identity), shortcut, CALLS_MAX, HEAD_BYTES_MAX)
}

/// Whether a call can go this way.
pub(crate) fn fits(pool: &HostPool, request: &InvokeRequest, body_bytes: usize) -> bool {
    request.data_type_url.is_empty()
        && body_bytes <= BODY_BYTES_MAX
        // The answer to a HEAD could not carry the text of a failure.
        && request.verb != Method::CONNECT
        && request.verb != Method::HEAD
        && is_sendable(&request.query)
        && are_plain(&request.headers)
        && pool.has_room()
}

/// Sends a call with a whole body and waits for the head of the answer.
///
/// # Errors
/// `Unavailable` when the sidecar does not answer; else what it answered with.
pub(crate) async fn call(
    pool: &Arc<HostPool>,
    address: &str,
    extra: &[(&'static str, &str)],
    request: &InvokeRequest,
    body: &Bytes,
) -> Result<InvokeResponse, PeerError> {
    // These come from outside: an id in a URL, an answer of a resolver.
    for value in extra.iter().map(|(_, value)| *value).chain([address]) {
        HeaderValue::from_str(value)
            .map_err(|_| PeerError::new(GrpcCode::InvalidArgument, format!("{value:?} cannot be put into a header")))?;
    }
    let target = target(request);
    let write_head = |out: &mut Vec<u8>| {
        write_request_line(out, &request.verb, &target);
        write_field(out, b"host", address.as_bytes());
        write_field(out, MARK.as_str().as_bytes(), b"1");
        // What the sidecar says of the caller is not the caller's to say.
        let is_own = |name: &HeaderName| {
            *name == HOST
                || *name == CONTENT_LENGTH
                || *name == TRANSFER_ENCODING
                || extra.iter().any(|(own, _)| *own == name.as_str())
        };
        for (name, value) in request.headers.iter().filter(|(name, _)| !is_own(name)) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
        for (name, value) in extra {
            write_field(out, name.as_bytes(), value.as_bytes());
        }
    };
    let response =
        pool.send_whole(&request.verb, write_head, body).await.map_err(|error| unreachable_peer(address, &error))?;
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    if let Some(code) = parts.headers.remove(FAILURE) {
        let message = body.collect(HEAD_BYTES_MAX).await.unwrap_or_default();
        return Err(PeerError::new(GrpcCode::from_number(number(&code)), String::from_utf8_lossy(&message)));
    }
    let status = match parts.headers.remove(APP_STATUS) {
        Some(code) => AppStatus::Grpc(number(&code)),
        None => AppStatus::Http(parts.status.as_u16()),
    };
    let status_message = take_text(&mut parts.headers, &MESSAGE);
    let status_details = take_details(&mut parts.headers);
    let data_type_url = take_text(&mut parts.headers, &TYPE_URL);
    Ok(InvokeResponse { status, status_message, status_details, headers: parts.headers, body, data_type_url })
}

fn target(request: &InvokeRequest) -> String {
    let mut target = String::with_capacity(request.method.len() + request.query.len() + 2);
    target.push('/');
    target.extend(percent_encoding::utf8_percent_encode(&request.method, PATH));
    if !request.query.is_empty() {
        target.push('?');
        target.push_str(&request.query);
    }
    target
}

fn unreachable_peer(address: &str, error: &SendError) -> PeerError {
    let text = match error {
        SendError::Connect { source, .. } => {
            format!("connection error: cannot reach the sidecar at {address}: {source}")
        }
        SendError::Broken(_) => format!("the sidecar at {address} did not answer: {error}"),
    };
    PeerError::new(GrpcCode::Unavailable, text)
}

/// The call in a request of another Pillion; `None` for anything else that came to this port.
pub(crate) fn decode(request: Request<Body>) -> Option<InvokeRequest> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(MARK)?;
    parts.headers.remove(HOST);
    let path = parts.uri.path();
    let method =
        percent_encoding::percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8().ok()?.into_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    Some(InvokeRequest {
        method,
        verb: parts.method,
        query,
        headers: parts.headers,
        body,
        data_type_url: String::new(),
    })
}

/// The answer to a call.
pub(crate) fn encode(outcome: Result<InvokeResponse, PeerError>) -> Response<Body> {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => return failure(&error),
    };
    let mut response = Response::new(answer.body);
    *response.headers_mut() = answer.headers;
    match answer.status {
        AppStatus::Http(code) => match StatusCode::from_u16(code) {
            Ok(status) => *response.status_mut() = status,
            Err(_) => {
                return failure(&PeerError::new(
                    GrpcCode::Internal,
                    format!("the app answered with the invalid status {code}"),
                ));
            }
        },
        AppStatus::Grpc(code) => {
            let headers = response.headers_mut();
            headers.insert(APP_STATUS, HeaderValue::from(code));
            put_text(headers, MESSAGE, &answer.status_message);
            put_details(headers, answer.status_details);
            put_text(headers, TYPE_URL, &answer.data_type_url);
        }
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

fn failure(error: &PeerError) -> Response<Body> {
    let mut response = Response::new(Body::full(error.message.clone()));
    response.headers_mut().insert(FAILURE, HeaderValue::from(error.code as i32));
    response
}

fn number(value: &HeaderValue) -> i32 {
    value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(GrpcCode::Unknown as i32)
}

fn put_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    put_bytes(headers, name, text.as_bytes());
}

fn put_details(headers: &mut HeaderMap, details: Vec<Any>) {
    put_bytes(headers, DETAILS, &rpc::Status { details, ..Default::default() }.encode_to_vec());
}

fn take_details(headers: &mut HeaderMap) -> Vec<Any> {
    let Some(value) = headers.remove(DETAILS) else { return Vec::new() };
    let bytes: Vec<u8> = percent_encoding::percent_decode(value.as_bytes()).collect();
    rpc::Status::decode(bytes.as_slice()).map(|status| status.details).unwrap_or_default()
}

fn put_bytes(headers: &mut HeaderMap, name: HeaderName, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let escaped = percent_encoding::percent_encode(bytes, PATH).to_string();
    if let Ok(value) = HeaderValue::from_str(&escaped) {
        headers.insert(name, value);
    }
}

fn take_text(headers: &mut HeaderMap, name: &HeaderName) -> String {
    let Some(value) = headers.remove(name) else { return String::new() };
    percent_encoding::percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_arrives_as_it_was() {
        for method in ["", "a/b", "a b/ü", "100%", "a%20b", "x,y;z=1", "a+b&c"] {
            let request =
                InvokeRequest { method: method.to_owned(), query: "q=%20".to_owned(), ..InvokeRequest::default() };
            let mut sent = Request::new(Body::empty());
            *sent.uri_mut() = target(&request).parse().unwrap();
            assert!(decode(sent).is_none(), "without the mark it is nobody's call");
            let mut sent = Request::new(Body::empty());
            *sent.uri_mut() = target(&request).parse().unwrap();
            sent.headers_mut().insert(MARK, HeaderValue::from_static("1"));
            let decoded = decode(sent).unwrap();
            assert_eq!((decoded.method.as_str(), decoded.query.as_str()), (method, "q=%20"));
            assert!(decoded.headers.is_empty());
        }
    }

    #[test]
    fn a_query_that_is_none_goes_the_other_way() {
        assert!(is_sendable("") && is_sendable("a=1&b=%20c'd[]{}|^"));
        for query in ["a b", "a#b", "ü", "a\nb", "\0"] {
            assert!(!is_sendable(query), "{query:?}");
        }
        for query in ["a=1&b=%20c'd[]|^`", "{}"] {
            assert!(format!("/x?{query}").parse::<http::Uri>().is_ok(), "{query}");
        }
    }

    #[test]
    fn a_failure_is_told_apart_from_a_status_of_the_app() {
        let failed = encode(Err(PeerError::new(GrpcCode::Internal, "no app")));
        assert_eq!(failed.headers()[FAILURE], "13");
        let refused = encode(Ok(InvokeResponse {
            status: AppStatus::Grpc(5),
            status_message: "not\nhere".into(),
            status_details: vec![Any { type_url: "x/a".into(), value: Bytes::from_static(&[0, 255, b'%']) }],
            headers: HeaderMap::new(),
            body: Body::empty(),
            data_type_url: String::new(),
        }));
        let mut headers = refused.headers().clone();
        assert_eq!(headers[APP_STATUS], "5");
        assert_eq!(take_text(&mut headers, &MESSAGE), "not\nhere");
        let details = take_details(&mut headers);
        assert_eq!((details.len(), details[0].value.as_ref()), (1, &[0, 255, b'%'][..]));
    }
}
