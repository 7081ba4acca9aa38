//! Guests written by hand, run as the sidecar runs them.

mod guests;
mod limits;
mod start;

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pillion_contract::{
    ComponentError, HttpBody, HttpMiddleware, HttpRequest, HttpResponse, InitContext, Metadata, Next, RemoteAddress,
    full_body,
};
use pillion_core::log::{Level, LogOptions, Logger};

/// The imports and memory of every guest here; a guest adds its functions.
const HEAD: &str = r#"
  (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
  (import "http_handler" "get_config" (func $get_config (param i32 i32) (result i32)))
  (import "http_handler" "log_enabled" (func $log_enabled (param i32) (result i32)))
  (import "http_handler" "log" (func $log (param i32 i32 i32)))
  (import "http_handler" "get_method" (func $get_method (param i32 i32) (result i32)))
  (import "http_handler" "set_method" (func $set_method (param i32 i32)))
  (import "http_handler" "get_uri" (func $get_uri (param i32 i32) (result i32)))
  (import "http_handler" "set_uri" (func $set_uri (param i32 i32)))
  (import "http_handler" "get_protocol_version" (func $get_protocol_version (param i32 i32) (result i32)))
  (import "http_handler" "get_header_names" (func $get_header_names (param i32 i32 i32) (result i64)))
  (import "http_handler" "get_header_values" (func $get_header_values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
  (import "http_handler" "add_header_value" (func $add_header_value (param i32 i32 i32 i32 i32)))
  (import "http_handler" "remove_header" (func $remove_header (param i32 i32 i32)))
  (import "http_handler" "read_body" (func $read_body (param i32 i32 i32) (result i64)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
  (import "http_handler" "get_source_addr" (func $get_source_addr (param i32 i32) (result i32)))
  (import "http_handler" "get_status_code" (func $get_status_code (result i32)))
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (memory (export "memory") 1)
  (func $size (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
"#;
/// A response phase that does nothing.
const NO_RESPONSE: &str = r#"(func (export "handle_response") (param i32 i32))"#;
/// A request phase that only goes on.
const GO_ON: &str = r#"(func (export "handle_request") (result i64) (i64.const 1))"#;

/// Lines that a test's logger got.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// Makes the component from a module's bytes.
async fn component(wasm: &[u8], metadata: &[(&str, &str)]) -> Result<(Arc<dyn HttpMiddleware>, Lines), ComponentError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wasm).unwrap();
    let url = format!("file://{}", file.path().display());
    let lines = Lines::default();
    let options = LogOptions {
        level: Level::Debug,
        as_json: false,
        app_id: "test".into(),
        instance: "host".into(),
        version: "1".into(),
    };
    let context = InitContext {
        name: "test".into(),
        component_type: "middleware.http.wasm".into(),
        version: "v1".into(),
        metadata: Metadata::new(metadata.iter().copied().chain([("url", url.as_str())])),
        app_id: "test".into(),
        namespace: "default".into(),
        data_dir: std::env::temp_dir(),
        log: Logger::new(options, Box::new(lines.clone())),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    Ok((crate::create(context).await?, lines))
}

/// Makes the component from functions in text form.
async fn guest(functions: &str) -> (Arc<dyn HttpMiddleware>, Lines) {
    let wasm = wat::parse_str(format!("(module {HEAD} {functions})")).unwrap();
    component(&wasm, &[("guestConfig", "secret")]).await.unwrap()
}

fn request(method: &str, uri: &str, body: &'static str) -> HttpRequest {
    let mut request = http::Request::new(full_body(body));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = uri.parse().unwrap();
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert("host", "test.io".parse().unwrap());
    request.headers_mut().insert("x-in", "1".parse().unwrap());
    request.headers_mut().insert("content-length", body.len().into());
    request.extensions_mut().insert(RemoteAddress("1.2.3.4:5".parse().unwrap()));
    request
}

/// A message that arrived somewhere.
#[derive(Debug, Default)]
struct Seen {
    method: String,
    uri: String,
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    trailers: HeaderMap,
}

impl Seen {
    fn header(&self, name: &str) -> String {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
    }
}

async fn collect(body: HttpBody) -> (String, HeaderMap) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (String::from_utf8(collected.to_bytes().to_vec()).unwrap(), trailers)
}

/// Sends a request through; what came next saw (if it was called), and what the caller got.
async fn send(middleware: &dyn HttpMiddleware, request: HttpRequest, answer: HttpResponse) -> (Option<Seen>, Seen) {
    let seen = Mutex::new(None);
    let end = |request: HttpRequest| async {
        let (parts, body) = request.into_parts();
        let (body, trailers) = collect(body).await;
        *seen.lock() = Some(Seen {
            method: parts.method.to_string(),
            uri: parts.uri.to_string(),
            headers: parts.headers,
            body,
            trailers,
            ..Seen::default()
        });
        answer
    };
    let response = middleware.handle(request, Next::end(end)).await;
    let (parts, body) = response.into_parts();
    let (body, trailers) = collect(body).await;
    let got = Seen { status: parts.status, headers: parts.headers, body, trailers, ..Seen::default() };
    (seen.into_inner(), got)
}

/// What the next handler answers in most tests.
fn answer() -> HttpResponse {
    let mut response = http::Response::new(full_body("from next"));
    response.headers_mut().insert("x-next", "1".parse().unwrap());
    response.headers_mut().insert("content-length", 9.into());
    response
}

/// A body that comes in these pieces, then ends with a trailer.
fn pieces(pieces: &'static [&'static str]) -> HttpBody {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "yes".parse().unwrap());
    pieces.iter().rev().fold(
        crate::body::JoinedBody { head: Bytes::new(), rest: None, trailers }.boxed(),
        |rest, piece| {
            crate::body::JoinedBody {
                head: Bytes::from_static(piece.as_bytes()),
                rest: Some(rest),
                trailers: HeaderMap::new(),
            }
            .boxed()
        },
    )
}
