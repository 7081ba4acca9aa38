//! A call on its way to an app, and its answer, independent of how either side speaks.

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

/// Checks and cleans a decoded method: no `#`, `?`, NUL or control bytes; `.` and `..` resolved, never above the root.
///
/// # Errors
/// [`InvalidMethod`] with the offending character.
pub fn normalize_method(method: &str) -> Result<String, InvalidMethod> {
    if let Some(bad) = method.bytes().find(|byte| matches!(byte, b'#' | b'?' | 0x7f) || *byte < 0x20) {
        return Err(InvalidMethod(format!("invalid method: character {:?} is not allowed", char::from(bad))));
    }
    Ok(clean_path(method))
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
    let plain = !path.is_empty()
        && !path.starts_with('/')
        && !path.ends_with('/')
        && path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..");
    if plain {
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
            ("/a//b/", "a/b"),
            ("a/../b", "b"),
            ("../../etc", "etc"),
            ("", ""),
            ("./a", "a"),
            ("a/..", ""),
        ];
        for (method, cleaned) in cases {
            assert_eq!(normalize_method(method), Ok(cleaned.to_owned()), "{method}");
        }
        for method in ["a#b", "a?b", "a\0b", "a\nb", "a\x7f"] {
            assert!(normalize_method(method).is_err(), "{method:?}");
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
