//! A call on its way to an app, and its answer, independent of how either side speaks.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::{CONNECTION, HeaderName};
use http::{HeaderMap, Method};
use pillion_proto::google::protobuf::Any;

use crate::body::Body;

/// Header with the caller's app id, set by its sidecar.
pub const CALLER_APP_ID: &str = "dapr-caller-app-id";
/// Header with the caller's namespace.
pub const CALLER_NAMESPACE: &str = "dapr-caller-namespace";
/// Header with the called app id.
pub const CALLEE_APP_ID: &str = "dapr-callee-app-id";
/// Internal header with the called app id; never delivered to an app.
pub const DESTINATION_APP_ID: &str = "destination-app-id";
/// Header that names the target of an invocation.
pub const DAPR_APP_ID: &str = "dapr-app-id";
/// Header with the API token, in both directions.
pub const DAPR_API_TOKEN: &str = "dapr-api-token";

/// Content type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// A call to an app.
#[derive(Debug, Default)]
pub struct InvokeRequest {
    /// Path without leading slash, decoded and cleaned.
    pub method: String,
    /// HTTP verb.
    pub verb: Method,
    /// Query string without `?`, untouched.
    pub query: String,
    /// Headers as the app shall see them, content type included.
    pub headers: HeaderMap,
    /// Body.
    pub body: Body,
    /// Type of the body when a gRPC caller wrapped a message; empty for plain bytes.
    pub data_type_url: String,
}

/// Which kind of status an app answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppStatus {
    /// An HTTP status (100 and above).
    Http(u16),
    /// A gRPC code.
    Grpc(i32),
}

impl AppStatus {
    /// From the number in an `InternalInvokeResponse`: 100 and above is HTTP.
    pub fn from_number(number: i32) -> Self {
        match u16::try_from(number) {
            Ok(code) if code >= 100 => Self::Http(code),
            _ => Self::Grpc(number),
        }
    }

    /// The number of an `InternalInvokeResponse`.
    pub fn number(self) -> i32 {
        match self {
            Self::Http(code) => i32::from(code),
            Self::Grpc(code) => code,
        }
    }
}

/// The answer of an app.
#[derive(Debug)]
pub struct InvokeResponse {
    /// Status.
    pub status: AppStatus,
    /// Message of a gRPC status; empty for HTTP.
    pub status_message: String,
    /// Details of a gRPC status; empty for HTTP.
    pub status_details: Vec<Any>,
    /// Headers without hop-by-hop ones, content type included.
    pub headers: HeaderMap,
    /// Body.
    pub body: Body,
    /// Type of the body when a gRPC app wrapped a message; empty for plain bytes.
    pub data_type_url: String,
}

impl InvokeResponse {
    /// The content type, empty when there is none.
    pub fn content_type(&self) -> &str {
        content_type(&self.headers)
    }
}

/// The content type of headers, empty when there is none.
pub fn content_type(headers: &HeaderMap) -> &str {
    headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a caller asks for server-sent events. *Source:* the original compares the whole `Accept` header, without case.
pub fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// Why a method (path) was refused. *Source:* spec http_api.md §4 "Method validation".
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidMethod(pub String);

/// Removes headers that end at this hop: the fixed list, those named by `Connection`, `Content-Length`, and `*-bin`.
///
/// One pass over the names finds out that there is little to remove; only what is there is looked up.
///
/// *Source:* RFC 9110 §7.6.1 and spec http_api.md §4.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut nominated: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let tokens = value.to_str().unwrap_or_default().split(',');
        nominated.extend(tokens.filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok()));
    }
    for name in nominated {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| ends_here(name)).cloned() {
        headers.remove(name);
    }
}

fn ends_here(name: &HeaderName) -> bool {
    match name.as_str() {
        "connection"
        | "content-length"
        | "keep-alive"
        | "proxy-connection"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "te"
        | "trailer"
        | "proxy-authorization"
        | "proxy-authenticate"
        | DESTINATION_APP_ID => true,
        name => name.ends_with("-bin"),
    }
}

/// Checks and cleans a decoded method: no `#`, `?`, NUL or control bytes; `.` and `..` resolved, never above the root. A
/// leading slash stays, as apps that speak gRPC see it.
///
/// # Errors
/// [`InvalidMethod`] with the text of the original.
pub fn normalize_method(method: &str) -> Result<Cow<'_, str>, InvalidMethod> {
    if method.bytes().any(|byte| matches!(byte, b'#' | b'?' | 0)) {
        return Err(InvalidMethod(format!("invalid method: method contains forbidden character: {}", quoted(method))));
    }
    if let Some(position) = method.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        let shown = quoted(method);
        return Err(InvalidMethod(format!(
            "invalid method: method contains control character at position {position}: {shown}"
        )));
    }
    let (rooted, rest) = method.strip_prefix('/').map_or((false, method), |rest| (true, rest));
    if rest.is_empty() || is_clean(rest) {
        return Ok(Cow::Borrowed(method));
    }
    let cleaned = clean_path(rest);
    Ok(Cow::Owned(if rooted { format!("/{cleaned}") } else { cleaned }))
}

/// Cleans the method of a call in place; see [`normalize_method`].
///
/// # Errors
/// As [`normalize_method`].
pub fn normalize_in_place(method: &mut String) -> Result<(), InvalidMethod> {
    let cleaned = match normalize_method(method)? {
        Cow::Borrowed(_) => return Ok(()),
        Cow::Owned(cleaned) => cleaned,
    };
    *method = cleaned;
    Ok(())
}

/// A text in quotes as Go's `%q` shows it, for what methods hold.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            letter if u32::from(letter) < 0x20 || letter == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(letter)); // writing to a String cannot fail
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// The verb a call travels with: in capitals, and POST for those the protocol between sidecars does not know.
///
/// *Source:* `WithHTTPExtension` of the original. `NONE` is a verb there, which no app takes.
pub fn known_verb(verb: Method) -> Method {
    if is_known(&verb) {
        return verb;
    }
    let upper = Method::from_bytes(verb.as_str().to_ascii_uppercase().as_bytes()).unwrap_or(Method::POST);
    if is_known(&upper) || upper.as_str() == NO_VERB { upper } else { Method::POST }
}

/// What stands for the verb of a call that has none.
pub const NO_VERB: &str = "NONE";

fn is_known(verb: &Method) -> bool {
    matches!(
        *verb,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::PATCH
            | Method::OPTIONS
            | Method::TRACE
            | Method::CONNECT
    )
}

/// Checks that every `%` of a path begins an escape.
///
/// # Errors
/// The text of Go's URL parser, through which methods go in the original.
pub fn check_escapes(path: &str) -> Result<(), String> {
    let bytes = path.as_bytes();
    for (index, _) in path.match_indices('%') {
        let digits = bytes.get(index + 1..index + 3);
        if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
            let shown = String::from_utf8_lossy(bytes.get(index..bytes.len().min(index + 3)).unwrap_or_default());
            return Err(format!("parse {path:?}: invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

/// Resolves `.`, `..` and empty segments of a path; the result has no leading slash, a trailing slash is dropped.
///
/// *Source:* the lexical rules of Go's `path.Clean`.
pub fn clean_path(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    if is_clean(path) {
        return path.to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.join("/")
}

fn is_clean(path: &str) -> bool {
    // Most paths have no segment that begins with a dot, and are seen through once.
    let mut before = b'/';
    let is_usual = path.bytes().all(|byte| {
        let begins = std::mem::replace(&mut before, byte) == b'/';
        !(begins && matches!(byte, b'/' | b'.'))
    });
    (is_usual && before != b'/')
        || path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_go_away() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("content-length", "3"),
            ("grpc-trace-bin", "AA"),
            ("destination-app-id", "b"),
            ("x-kept", "yes"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn methods_are_cleaned_and_checked() {
        let cases = [
            ("a/b", "a/b"),
            ("/a//b/", "/a/b"),
            ("/..", "/"),
            ("a/../b", "b"),
            ("../../etc", "etc"),
            ("", ""),
            ("./a", "a"),
            ("a/..", ""),
        ];
        for (method, cleaned) in cases {
            assert_eq!(normalize_method(method).unwrap(), cleaned, "{method}");
            let mut in_place = method.to_owned();
            assert_eq!((normalize_in_place(&mut in_place), in_place.as_str()), (Ok(()), cleaned));
        }
        let forbidden = "invalid method: method contains forbidden character: ";
        let control = "invalid method: method contains control character at position ";
        for (method, text) in [
            ("a#b", format!("{forbidden}\"a#b\"")),
            ("a?b\n", format!("{forbidden}\"a?b\\n\"")),
            ("ü\0\"", format!("{forbidden}\"ü\\x00\\\"\"")),
            ("ü\nb\\", format!("{control}2: \"ü\\nb\\\\\"")),
            ("a\x7f\x01", format!("{control}1: \"a\\x7f\\x01\"")),
        ] {
            assert_eq!(normalize_method(method), Err(InvalidMethod(text)), "{method:?}");
        }
    }

    #[test]
    fn verbs_are_those_of_the_protocol() {
        for (sent, taken) in [
            ("GET", "GET"),
            ("get", "GET"),
            ("TRACE", "TRACE"),
            ("PROPFIND", "POST"),
            ("none", "NONE"),
            ("Post", "POST"),
        ] {
            assert_eq!(known_verb(Method::from_bytes(sent.as_bytes()).unwrap()).as_str(), taken);
        }
    }

    #[test]
    fn a_percent_sign_begins_an_escape() {
        for path in ["", "a/b", "a%20b", "%C3%bc"] {
            assert_eq!(check_escapes(path), Ok(()), "{path}");
        }
        for path in ["100%", "a%2", "a%zz", "%+1", "%%20", "a%ü"] {
            assert!(check_escapes(path).unwrap_err().contains("invalid URL escape"), "{path}");
        }
    }

    #[test]
    fn events_are_asked_for_by_the_whole_header() {
        for (accept, wanted) in [
            ("text/event-stream", true),
            (" Text/Event-Stream ", true),
            ("*/*", false),
            ("text/event-stream, */*", false),
        ] {
            let headers = HeaderMap::from_iter([(http::header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_events(&headers), wanted, "{accept}");
        }
        assert!(!wants_events(&HeaderMap::new()));
    }

    #[test]
    fn status_numbers_split_at_100() {
        assert_eq!(AppStatus::from_number(200), AppStatus::Http(200));
        assert_eq!(AppStatus::from_number(5), AppStatus::Grpc(5));
        assert_eq!(AppStatus::Http(404).number(), 404);
    }
}
