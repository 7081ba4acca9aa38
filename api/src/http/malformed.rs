//! What is no request, and the answers to it, as the original's server gives them.
//!
//! *Job:* judge the head of a request that the server for plain requests does not take, and what is left to look at in one it takes.
//! *Neighbours:* `serve` reads the head and writes the answer, `front` asks about each request. *Invariant:* a head that passes
//! here is one hyper takes too, so that hyper never answers for itself at the beginning of a connection.
//! *Source:* spec http_api.md §1; the original's server is `net/http`, whose texts these are.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use pillion_runtime::http1::server::Verbatim;

use super::path;
use super::respond::{self, HttpResponse};

/// An answer to what is no request. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What follows `HTTP/1.1` in the first line; the original tells its reasons there.
    status: &'static str,
    body: &'static str,
}

impl Refusal {
    pub(super) const BAD_REQUEST: Self = Self::of("400 Bad Request");
    pub(super) const TOO_LARGE: Self = Self::of("431 Request Header Fields Too Large");
    const NO_HOST: Self = Self::of("400 Bad Request: missing required Host header");
    const HOST: Self = Self::of("400 Bad Request: malformed Host header");
    const HEADER_NAME: Self = Self::of("400 Bad Request: invalid header name");
    const VERSION: Self = Self::of("505 HTTP Version Not Supported: unsupported protocol version");
    const CODING: Self = Self { status: "501 Not Implemented", body: "Unsupported transfer encoding" };

    const fn of(status: &'static str) -> Self {
        Self { status, body: status }
    }

    /// The whole answer, as it goes to the client.
    pub(super) fn bytes(self) -> Bytes {
        let Self { status, body } = self;
        let kind = "Content-Type: text/plain; charset=utf-8";
        format!("HTTP/1.1 {status}\r\n{kind}\r\nConnection: close\r\n\r\n{body}").into()
    }

    /// The answer for a server that writes heads by itself.
    pub(super) fn response(self) -> HttpResponse {
        let code = self.status.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(400);
        let mut response = respond::text(code, self.body);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.extensions_mut().insert(Verbatim(self.bytes()));
        response
    }
}

/// The answer to a request that gets no further than here.
pub(super) fn early<B>(request: &Request<B>) -> Option<HttpResponse> {
    let uri = request.uri();
    let is_http1 = request.version() < Version::HTTP_2;
    if !path::has_valid_escapes(uri.path()) {
        return Some(Refusal::BAD_REQUEST.response());
    }
    if !is_http1 {
        return None;
    }
    let is_connect = *request.method() == Method::CONNECT;
    if uri.scheme().is_none() && uri.authority().is_some() && !is_connect {
        return Some(Refusal::BAD_REQUEST.response());
    }
    // RFC 9112 §3.2; what stands in front of a sidecar may believe the other of two.
    let mut hosts = request.headers().get_all(HOST).iter();
    let refusal = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some(Refusal::BAD_REQUEST),
        (Some(host), None) if !is_host(host.as_bytes()) => Some(Refusal::HOST),
        (None, _) if request.version() == Version::HTTP_11 && !is_connect => Some(Refusal::NO_HOST),
        _ => None,
    };
    if refusal.is_some() {
        return refusal.map(Refusal::response);
    }
    // A question about the server itself, which no block answers.
    (*request.method() == Method::OPTIONS && uri.path() == "*").then(|| respond::empty(200))
}

/// The same for what only the general server takes; `None` over HTTP/2.
pub(super) fn early_general<B>(request: &Request<B>) -> Option<HttpResponse> {
    if request.version() >= Version::HTTP_2 {
        return None;
    }
    let headers = request.headers();
    if request.version() == Version::HTTP_11 && !is_chunked_once(headers) {
        return Some(Refusal::CODING.response());
    }
    let expected = headers.get(EXPECT)?.as_bytes();
    let continues = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"100-continue");
    if expected.is_empty() || expected.split(|byte| *byte == b',').any(continues) {
        return None;
    }
    let mut response = respond::empty(417);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

fn is_chunked_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// What stands in the first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/2 with prior knowledge.
    Http2,
    Request {
        is_connect: bool,
        /// `None` for one that is spoken by nobody.
        version: Option<Version>,
    },
}

/// Reads the first line, without its end.
pub(super) fn opening(line: &[u8]) -> Result<Opening, Refusal> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(protocol)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::BAD_REQUEST);
    };
    let version = match protocol.strip_prefix(b"HTTP/") {
        Some(b"1.1") => Some(Version::HTTP_11),
        Some(b"1.0") => Some(Version::HTTP_10),
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => None,
        _ => return Err(Refusal::BAD_REQUEST),
    };
    if (method, target, protocol) == (b"PRI", b"*", b"HTTP/2.0") {
        return Ok(Opening::Http2);
    }
    let is_connect = method == b"CONNECT";
    let is_absolute = target.windows(3).any(|three| three == b"://");
    let is_form = matches!(target, [b'/', ..] | b"*") || is_absolute || is_connect;
    let uri = Uri::try_from(target).ok().filter(|uri| path::has_valid_escapes(uri.path()));
    if method.is_empty() || !method.iter().copied().all(is_token) || !is_form || uri.is_none() {
        return Err(Refusal::BAD_REQUEST);
    }
    Ok(Opening::Request { is_connect, version })
}

/// Judges a whole head; gives the number of its headers.
pub(super) fn judge(head: &[u8]) -> Result<usize, Refusal> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let Opening::Request { is_connect, version } = opening(lines.next().unwrap_or_default())? else { return Ok(0) };
    let mut headers = HeaderMap::new(); // those that are looked at
    let (mut count, mut bad_name) = (0, false);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = header(line).ok_or(Refusal::BAD_REQUEST)?;
        count += 1;
        bad_name |= !name.iter().copied().all(is_token);
        let looked_at = [HOST, TRANSFER_ENCODING, CONTENT_LENGTH];
        if let Some(known) = looked_at.into_iter().find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(name)) {
            headers.append(known, HeaderValue::from_bytes(value).map_err(|_| Refusal::BAD_REQUEST)?);
        }
    }
    let codes = headers.contains_key(TRANSFER_ENCODING);
    let lengths: Vec<&[u8]> = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
    let is_length = |value: &[u8]| !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    let lengths_fit = lengths.iter().all(|value| is_length(value) && *value == lengths[0]);
    // Transfer codings came with HTTP/1.1: who sends one before means something else by it.
    if headers.get_all(HOST).iter().count() > 1 || version == Some(Version::HTTP_10) && codes {
        return Err(Refusal::BAD_REQUEST);
    }
    if !is_chunked_once(&headers) {
        return Err(Refusal::CODING);
    }
    if !codes && !lengths_fit {
        return Err(Refusal::BAD_REQUEST);
    }
    let version = version.ok_or(Refusal::VERSION)?;
    match headers.get(HOST) {
        None if version == Version::HTTP_11 && !is_connect => Err(Refusal::NO_HOST),
        Some(host) if !is_host(host.as_bytes()) => Err(Refusal::HOST),
        _ if bad_name => Err(Refusal::HEADER_NAME),
        _ => Ok(count),
    }
}

/// Name and value of a header line. A name may still have blanks in it, of which the original complains later.
fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_name = !name.is_empty() && name[0] != b' ' && name.iter().all(|byte| is_token(*byte) || *byte == b' ');
    let is_value = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    (is_name && is_value).then_some((name, value))
}

/// *Source:* RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// *Source:* `golang.org/x/net/http/httpguts`, which lets more through than a name and a port.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;='[]_~".contains(byte))
}

#[cfg(test)]
mod tests;
