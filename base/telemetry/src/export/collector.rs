//! One collector: where bodies are sent to, and what its answers mean.
//!
//! *Source:* the OTLP specification 1.x: paths, ports, which answers are worth a retry.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use prost::Message as _;

use super::client::{Answer, Client};
use super::messages::ExportResponse;
use super::{ExportError, OtlpProtocol, OtlpSettings, Trust};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// gRPC codes that say "later": cancelled, deadline, exhausted, aborted, out of range, unavailable, data loss.
const RETRIED: [i32; 7] = [1, 4, 8, 10, 11, 14, 15];

/// What is sent by OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

/// A collector with its connection.
pub(crate) struct Collector {
    client: Client,
    name: String,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    speaks: Speaks,
}

/// How answers are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    OtlpGrpc,
    OtlpHttp,
    /// Only the status counts.
    Json,
}

impl Collector {
    /// For one signal over OTLP.
    ///
    /// # Errors
    /// An endpoint, a header or certificates that cannot be used.
    pub(crate) fn otlp(settings: &OtlpSettings, signal: Signal) -> Result<Self, String> {
        let refused = |error: &dyn std::fmt::Display| {
            format!("invalid otel endpointAddress {:?}: {error}; expected host:port", settings.endpoint)
        };
        let uri = endpoint(settings, signal).map_err(|error| refused(&error))?;
        let grpc = settings.protocol == OtlpProtocol::Grpc;
        let client = Client::new(&uri, grpc, &settings.trust).map_err(|error| refused(&error))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let unusable = |_| format!("otel header {name:?}: its name or value cannot be sent");
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|error| unusable(error.to_string()))?;
            let value = HeaderValue::from_str(value).map_err(|error| unusable(error.to_string()))?;
            headers.append(name, value);
        }
        if grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.insert(HOST, host(&uri).map_err(|error| refused(&error))?);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        Ok(Self {
            client,
            name: format!("{} (OTLP)", settings.endpoint),
            // HTTP/1.1 wants the path alone.
            uri: if grpc { uri } else { uri.path().parse().map_err(|error| refused(&error))? },
            headers,
            timeout: settings.timeout.unwrap_or(DEFAULT_TIMEOUT),
            speaks: if grpc { Speaks::OtlpGrpc } else { Speaks::OtlpHttp },
        })
    }

    /// One that takes JSON at `endpoint`, a URL.
    ///
    /// # Errors
    /// The endpoint is not a URL with a host.
    pub(crate) fn json(endpoint: &str) -> Result<Self, String> {
        let uri: Uri = endpoint.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let client = Client::new(&uri, false, &Trust::System)?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host(&uri)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            client,
            name: endpoint.to_owned(),
            uri: path.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?,
            headers,
            timeout: Duration::MAX, // that of the batch counts
            speaks: Speaks::Json,
        })
    }

    /// What it is in the log.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends one body.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) async fn send(&mut self, body: Bytes) -> Result<(), ExportError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = if self.speaks == Speaks::OtlpGrpc { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.headers_mut() = self.headers.clone();
        let answer = match tokio::time::timeout(self.timeout, self.client.send(request)).await {
            Ok(answer) => answer.map_err(ExportError::retry)?,
            Err(_) => return Err(ExportError::retry(format!("no answer within {:?}", self.timeout))),
        };
        if !(200..300).contains(&answer.status) {
            return Err(http_failure(answer.status, &answer.body));
        }
        match self.speaks {
            Speaks::OtlpGrpc => grpc_outcome(&answer),
            Speaks::OtlpHttp => rejected(&answer.body),
            Speaks::Json => Ok(()),
        }
    }
}

fn host(uri: &Uri) -> Result<HeaderValue, String> {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    HeaderValue::from_str(authority).map_err(|error| error.to_string())
}

/// The URL of exports. *Source:* the ports of the OTLP specification when none is given.
fn endpoint(settings: &OtlpSettings, signal: Signal) -> Result<Uri, String> {
    let scheme = if settings.secure { "https" } else { "http" };
    let (authority, path) = match settings.endpoint.split_once('/') {
        Some((authority, path)) => (authority, path.trim_end_matches('/')),
        None => (settings.endpoint.as_str(), ""),
    };
    let with_port: Uri =
        format!("{scheme}://{authority}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let (port, path) = match settings.protocol {
        OtlpProtocol::Grpc => (4317, signal.grpc_path().to_owned()),
        OtlpProtocol::Http if path.is_empty() => (4318, signal.http_path().to_owned()),
        OtlpProtocol::Http => (4318, format!("/{path}")),
    };
    let text = match with_port.port() {
        Some(_) => format!("{scheme}://{authority}{path}"),
        None => format!("{scheme}://{authority}:{port}{path}"),
    };
    text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())
}

/// A message as a body: for gRPC in a frame.
pub(crate) fn frame(message: &impl prost::Message, protocol: OtlpProtocol) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    if protocol == OtlpProtocol::Grpc {
        out.put_u8(0);
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX)); // a batch is far below 4 GiB
    }
    // There is room for it: a buffer in memory grows.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// From the status of an HTTP answer: only those that say "later" are worth a retry.
fn http_failure(status: u16, body: &[u8]) -> ExportError {
    let told = String::from_utf8_lossy(body);
    let told: String = told.trim().chars().take(200).collect();
    let message = if told.is_empty() {
        format!("it answered with status {status}")
    } else {
        format!("it answered with status {status}: {told}")
    };
    ExportError { message, worth_a_retry: matches!(status, 408 | 429 | 502..=504) }
}

fn grpc_outcome(answer: &Answer) -> Result<(), ExportError> {
    let find = |name: &str| answer.headers.get(name).or_else(|| answer.trailers.get(name));
    let code = find("grpc-status").and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<i32>().ok());
    match code {
        Some(0) => rejected(answer.body.get(5..).unwrap_or_default()),
        Some(code) => {
            let told = find("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
            Err(ExportError {
                message: format!("it answered with gRPC status {code}: {told}"),
                worth_a_retry: RETRIED.contains(&code),
            })
        }
        None => Err(ExportError::refused("it answered without a gRPC status: is this an OTLP/gRPC port?")),
    }
}

/// A collector may take a part of a batch; the rest must not be sent again.
fn rejected(body: &[u8]) -> Result<(), ExportError> {
    match ExportResponse::decode(body).ok().and_then(|answer| answer.partial_success) {
        Some(partial) if partial.rejected > 0 => {
            Err(ExportError::refused(format!("it rejected {} of them: {}", partial.rejected, partial.error_message)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_the_port_and_path_of_the_protocol() {
        use OtlpProtocol::{Grpc, Http};
        use Signal::{Logs, Metrics, Traces};
        for (text, protocol, signal, secure, url) in [
            ("c:4317", Grpc, Traces, false, "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            ("c", Grpc, Traces, true, "https://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            ("c", Grpc, Metrics, true, "https://c:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
            ("c", Grpc, Logs, false, "http://c:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
            ("c:4318", Http, Traces, false, "http://c:4318/v1/traces"),
            ("c", Http, Metrics, true, "https://c:4318/v1/metrics"),
            ("c:1/", Http, Logs, false, "http://c:1/v1/logs"),
            ("c:1/x/v1/traces", Http, Traces, false, "http://c:1/x/v1/traces"),
        ] {
            let settings = OtlpSettings {
                endpoint: text.to_owned(),
                protocol,
                secure,
                trust: Trust::System,
                headers: Vec::new(),
                timeout: None,
            };
            assert_eq!(endpoint(&settings, signal).unwrap().to_string(), url, "{text}");
        }
    }
}
