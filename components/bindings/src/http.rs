//! `bindings.http`: calls of any HTTP server.
//!
//! *Source:* components-contrib `bindings/http` for fields, operations, headers and what is told of an answer. *Neighbours:* `settings`
//! reads the metadata; the client is that of the house. *Invariant:* an answer that counts as an error still tells its status and
//! headers.

mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use pillion_contract::{BindingRequest, BindingResponse, ComponentError, ErrorKind, InitContext, OutputBinding};
use pillion_core::log::Logger;
use pillion_http_client::{Client, Error, Limits, request_to};

use settings::Settings;

/// *Source:* the original; `create` is `post` for callers of old.
const OPERATIONS: [&str; 9] = ["create", "get", "head", "post", "put", "patch", "delete", "options", "trace"];
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// The trace of the call, which a caller cannot set as a header.
const TRACE: [(&str, &str); 3] = [("traceparent", "Traceparent"), ("tracestate", "Tracestate"), ("baggage", "Baggage")];
/// Headers that are made of the request itself, whatever a caller says.
const OWN: [HeaderName; 4] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER];
/// Without `responseTimeout` the policy of the component decides; this only ends what nobody waits for any more.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The binding; see the module text.
struct HttpBinding {
    settings: Settings,
    client: Client,
    operations: Vec<String>,
    log: Logger,
}

/// Makes the binding.
///
/// # Errors
/// A field that cannot be used, by its name.
pub(crate) async fn create(context: InitContext) -> Result<Arc<dyn OutputBinding>, ComponentError> {
    let settings = Settings::read(&context.metadata)?;
    let limits = Limits {
        time: settings.response_timeout.unwrap_or(NEVER),
        body_bytes: settings.max_response_bytes.unwrap_or(usize::MAX),
    };
    let client = match settings::tls(context.metadata.clone(), &context.log).await? {
        Some(tls) => Client::with_tls(limits, tls),
        None => Client::new(limits),
    };
    let client = client.keeping();
    let operations = OPERATIONS.map(str::to_owned).to_vec();
    Ok(Arc::new(HttpBinding { settings, client, operations, log: context.log }))
}

#[async_trait]
impl OutputBinding for HttpBinding {
    fn operations(&self) -> &[String] {
        &self.operations
    }

    async fn invoke(&self, request: &BindingRequest) -> Result<Option<BindingResponse>, ComponentError> {
        let asked = self.request(request)?;
        let method = asked.method().clone();
        let response = self.client.follow(asked).await.map_err(|error| failed(&method, error))?;
        let status = response.status();
        let answer = answer(response);
        let fails = match request.metadata.get("errorIfNot2XX").filter(|text| !text.is_empty()) {
            Some(text) => settings::is_truthy(text),
            None => self.settings.error_if_not_2xx,
        };
        if fails && !status.is_success() {
            let text = format!("received status code {}", status.as_u16());
            return Err(ComponentError::new(ErrorKind::Internal, text).with_metadata(answer.metadata));
        }
        Ok(Some(answer))
    }
}

impl HttpBinding {
    fn request(&self, request: &BindingRequest) -> Result<Request<Bytes>, ComponentError> {
        let metadata = &request.metadata;
        let base = &self.settings.url;
        let url = match metadata.get("path").filter(|path| !path.is_empty()) {
            Some(path) => format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')),
            None => base.clone(),
        };
        let method = match request.operation.to_ascii_uppercase().as_str() {
            "CREATE" | "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "DELETE" => Method::DELETE,
            "OPTIONS" => Method::OPTIONS,
            "TRACE" => Method::TRACE,
            _ => return Err(invalid(format!("invalid operation: {}", request.operation))),
        };
        let has_body = matches!(method, Method::PUT | Method::POST | Method::PATCH);
        let body = if has_body { request.data.clone() } else { Bytes::new() };
        let mut asked = request_to(&url).map_err(|error| invalid(error.to_string()))?.map(|_| body);
        *asked.method_mut() = method;
        let headers = asked.headers_mut();
        if has_body {
            headers.insert(CONTENT_TYPE, JSON);
        }
        headers.insert(ACCEPT, JSON);
        if let Some((name, token)) = &self.settings.security {
            headers.insert(name, token.clone());
        }
        // What begins with a capital letter is a header, all else is for the binding.
        for (name, value) in
            metadata.iter().filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()))
        {
            let (name, value) = header(name, value)?;
            if !OWN.contains(&name) {
                headers.insert(name, value);
            }
        }
        for (name, shown) in TRACE {
            let Some(value) = metadata.get(name).filter(|value| !value.is_empty()) else { continue };
            let (name, value) = header(name, value)?;
            if headers.insert(name, value).is_some() {
                self.log.warn(format_args!(
                    "Tracing is enabled. A custom {shown} request header cannot be specified and is ignored."
                ));
            }
        }
        Ok(asked)
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ComponentError> {
    let refused = || invalid(format!("metadata {name:?} cannot be sent as a header: {value:?}"));
    let value = HeaderValue::from_str(value).map_err(|_| refused())?;
    HeaderName::from_bytes(name.as_bytes()).map(|name| (name, value)).map_err(|_| refused())
}

fn invalid(message: String) -> ComponentError {
    ComponentError::new(ErrorKind::InvalidRequest, message)
}

fn failed(method: &Method, error: Error) -> ComponentError {
    let kind = match &error {
        Error::Url(_) => ErrorKind::InvalidRequest,
        Error::Timeout(..) => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    };
    ComponentError::caused(kind, method.as_str(), error)
}

/// Status, headers and body; several values of a header are one.
fn answer(response: Response<Bytes>) -> BindingResponse {
    let (parts, data) = response.into_parts();
    let mut metadata = BTreeMap::new();
    for name in parts.headers.keys() {
        let values = parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        metadata.insert(as_written(name.as_str()), values.collect::<Vec<_>>().join(", "));
    }
    let status = parts.status;
    metadata.insert("statusCode".to_owned(), status.as_u16().to_string());
    let reason = status.canonical_reason().unwrap_or_default();
    metadata.insert("status".to_owned(), format!("{} {reason}", status.as_u16()).trim_end().to_owned());
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    BindingResponse { data, content_type, metadata }
}

/// A header's name as Go has it: `Content-Type`. Callers look these up.
fn as_written(name: &str) -> String {
    let part = |part: &str| {
        let (first, rest) = part.split_at(part.len().min(1)); // header names are ASCII
        first.to_ascii_uppercase() + rest
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}
