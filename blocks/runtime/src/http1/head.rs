//! Heads: bytes to `http` types and back.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::{COPIED_BODY_MAX, HEADERS_MAX};
use crate::body::Body;

/// Headers of an answer at most; apps may set many cookies.
const MANY_HEADERS_MAX: usize = 2048;
/// Room in a header map for those that are added on the way.
const SPARE_HEADERS: usize = 8;

/// What the first bytes of a request are.
#[expect(clippy::large_enum_variant, reason = "lives for a moment on the stack; the large one is the usual one")]
pub(super) enum Parsed {
    /// The head is not whole.
    Partial,
    /// The head is plain, but head and body are so many bytes together.
    Needs(usize),
    /// Not for this module.
    Other,
    /// A whole request of `length` bytes. `close`: the client closes after the answer.
    Whole { request: Request<Body>, close: bool, length: usize },
}

/// The head of an answer.
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) http_1_0: bool,
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

const fn no_headers<'a>() -> [MaybeUninit<httparse::Header<'a>>; HEADERS_MAX] {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// Reads a request at the beginning of `bytes`, which stay as they are; what is made of them is a copy.
pub(super) fn read_request(bytes: &[u8], head_bytes_max: usize, body_bytes_max: usize) -> Parsed {
    let mut headers = no_headers();
    let mut request = httparse::Request::new(&mut []);
    let head_bytes = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= head_bytes_max => length,
        Ok(httparse::Status::Partial) if bytes.len() <= head_bytes_max => return Parsed::Partial,
        Ok(_) | Err(_) => return Parsed::Other,
    };
    let Some((body_bytes, close)) = plain(&request, body_bytes_max) else { return Parsed::Other };
    let length = head_bytes + body_bytes;
    if bytes.len() < length {
        return Parsed::Needs(length);
    }
    let all = Bytes::copy_from_slice(&bytes[..length]);
    match whole(bytes, &all, &request, head_bytes) {
        Some(request) => Parsed::Whole { request, close, length },
        None => Parsed::Other,
    }
}

/// The length of the body and whether the client closes; `None` for what is not plain.
fn plain(request: &httparse::Request<'_, '_>, body_bytes_max: usize) -> Option<(usize, bool)> {
    if request.version != Some(1) || request.method == Some("CONNECT") {
        return None;
    }
    let (mut body_bytes, mut close) = (None, false);
    for header in request.headers.iter() {
        // The length tells most names apart without comparing them.
        match header.name.len() {
            6 if header.name.eq_ignore_ascii_case("expect") => return None,
            7 if header.name.eq_ignore_ascii_case("upgrade") => return None,
            10 if header.name.eq_ignore_ascii_case("connection") => match header.value {
                value if value.eq_ignore_ascii_case(b"close") => close = true,
                value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                _ => return None,
            },
            14 if header.name.eq_ignore_ascii_case("content-length") => match (body_bytes, length(header.value)) {
                (None, Some(length)) if length <= body_bytes_max => body_bytes = Some(length),
                _ => return None,
            },
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => return None,
            _ => {}
        }
    }
    Some((body_bytes.unwrap_or(0), close))
}

fn whole(bytes: &[u8], all: &Bytes, parsed: &httparse::Request<'_, '_>, head_bytes: usize) -> Option<Request<Body>> {
    let mut request = Request::new(Body::full(all.slice(head_bytes..)));
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = Uri::from_maybe_shared(shared(bytes, all, parsed.path?.as_bytes())).ok()?;
    *request.headers_mut() = header_map(bytes, all, parsed.headers)?;
    Some(request)
}

/// Digits only, as RFC 9110 has it.
fn length(value: &[u8]) -> Option<usize> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |all, digit| all * 10 + usize::from(digit - b'0')))
}

/// Reads the head of an answer at the beginning of `bytes`, of which `all` is a copy; the length of the head comes with it.
/// `None` while it is not whole.
///
/// # Errors
/// A text that says what is wrong with it.
pub(super) fn read_response(bytes: &[u8]) -> Result<Option<(ResponseHead, Bytes, usize)>, String> {
    let config = httparse::ParserConfig::default();
    let mut headers = no_headers();
    let mut response = httparse::Response::new(&mut []);
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    if parsed != Err(httparse::Error::TooManyHeaders) {
        return response_parts(bytes, &response, parsed);
    }
    let mut headers = vec![httparse::EMPTY_HEADER; MANY_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = config.parse_response(&mut response, bytes);
    response_parts(bytes, &response, parsed)
}

fn response_parts(
    bytes: &[u8],
    response: &httparse::Response<'_, '_>,
    parsed: httparse::Result<usize>,
) -> Result<Option<(ResponseHead, Bytes, usize)>, String> {
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("malformed HTTP response: {error}")),
    };
    // A small body that is here already is taken with the head.
    let copied = if bytes.len() <= length + COPIED_BODY_MAX { bytes.len() } else { length };
    let all = Bytes::copy_from_slice(&bytes[..copied]);
    let head = response_head(bytes, &all, response).ok_or("malformed HTTP response: invalid status or header")?;
    Ok(Some((head, all, length)))
}

fn response_head(bytes: &[u8], all: &Bytes, response: &httparse::Response<'_, '_>) -> Option<ResponseHead> {
    Some(ResponseHead {
        status: StatusCode::from_u16(response.code?).ok()?,
        headers: header_map(bytes, all, response.headers)?,
        http_1_0: response.version == Some(0),
    })
}

fn header_map(bytes: &[u8], all: &Bytes, parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len() + SPARE_HEADERS);
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(shared(bytes, all, header.value)).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// The part of `all` that is a copy of `part` of `bytes`.
fn shared(bytes: &[u8], all: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() {
        return Bytes::new();
    }
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    all.slice(start..start + part.len())
}

impl ResponseHead {
    /// How the body of this answer to a request with `verb` is framed. *Source:* RFC 9112 §6.3.
    ///
    /// # Errors
    /// A text when the head contradicts itself.
    pub(super) fn framing(&self, verb_is_head: bool) -> Result<Framing, String> {
        if verb_is_head || self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if let Some(coding) = self.headers.get_all(TRANSFER_ENCODING).iter().next_back() {
            let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
            let chunked = last.eq_ignore_ascii_case(b"chunked") && !self.http_1_0;
            return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
        }
        let mut lengths =
            self.headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
        let bad = || "the Content-Length of the response is not usable".to_owned();
        let known = length(first.trim_ascii()).ok_or_else(bad)?;
        if lengths.any(|other| length(other.trim_ascii()) != Some(known)) {
            return Err(bad());
        }
        Ok(Framing::Length(known as u64))
    }

    /// Whether the connection may carry another request after this answer.
    pub(super) fn keeps_alive(&self) -> bool {
        let says = |word: &[u8]| {
            let mut tokens =
                self.headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(word))
        };
        // After another protocol was agreed on, or where a server has told two lengths, what follows is not to be trusted.
        let doubtful = self.status.is_informational()
            || (self.headers.contains_key(TRANSFER_ENCODING) && self.headers.contains_key(CONTENT_LENGTH));
        !doubtful && if self.http_1_0 { says(b"keep-alive") } else { !says(b"close") }
    }
}

/// Appends one header line.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends all headers but those that frame the body, which are the writer's to say.
pub(super) fn write_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

/// Appends `Content-Length`.
pub(super) fn write_length(out: &mut Vec<u8>, length: u64) {
    let _ = write!(out, "content-length: {length}\r\n"); // writing to a Vec cannot fail
}
