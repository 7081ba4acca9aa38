//! The OpenTelemetry protocol: spans as protobuf over gRPC or HTTP.
//!
//! *Source:* the OTLP specification 1.x: paths, ports, which answers are worth a retry.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use prost::Message as _;

use super::otlp_messages::{
    AnyValue, ArrayValue, EventMessage, ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue,
    ResourceMessage, ResourceSpans, Scope, ScopeSpans, SpanMessage, StatusMessage, Value,
};
use super::{ExportError, OtlpProtocol, OtlpSettings, Resource, since_epoch};
use crate::trace::client::{Answer, Client};
use crate::trace::span::{AttributeValue, SpanKind, SpanRecord, SpanStatus};

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// *Source:* spec metrics.md §5.1.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.25.0";
const ERROR: i32 = 2;
/// gRPC codes that say "later": cancelled, deadline, exhausted, aborted, out of range, unavailable, data loss.
const RETRIED: [i32; 7] = [1, 4, 8, 10, 11, 14, 15];

pub(in crate::trace) struct OtlpExporter {
    client: Client,
    name: String,
    uri: Uri,
    protocol: OtlpProtocol,
    headers: HeaderMap,
    timeout: Duration,
    resource: Arc<Resource>,
}

impl OtlpExporter {
    /// # Errors
    /// An endpoint, a header or certificates that cannot be used.
    pub(super) fn new(settings: OtlpSettings, resource: Arc<Resource>) -> Result<Self, String> {
        let refused = |error: &dyn std::fmt::Display| {
            format!("invalid otel endpointAddress {:?}: {error}; expected host:port", settings.endpoint)
        };
        let uri = endpoint(&settings).map_err(|error| refused(&error))?;
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
            let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| refused(&error))?);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        Ok(Self {
            client,
            name: format!("{} (OTLP)", settings.endpoint),
            // HTTP/1.1 wants the path alone.
            uri: if grpc { uri } else { uri.path().parse().map_err(|error| refused(&error))? },
            protocol: settings.protocol,
            headers,
            timeout: settings.timeout.unwrap_or(DEFAULT_TIMEOUT),
            resource,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn export(&mut self, batch: &[Arc<SpanRecord>]) -> Result<(), ExportError> {
        let message = to_request(batch, &self.resource);
        let grpc = self.protocol == OtlpProtocol::Grpc;
        let mut request = Request::new(Full::new(if grpc { frame(&message) } else { message.encode_to_vec().into() }));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = if grpc { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.headers_mut() = self.headers.clone();
        let answer = match tokio::time::timeout(self.timeout, self.client.send(request)).await {
            Ok(answer) => answer.map_err(ExportError::retry)?,
            Err(_) => return Err(ExportError::retry(format!("no answer within {:?}", self.timeout))),
        };
        if !(200..300).contains(&answer.status) {
            return Err(ExportError::of_http(answer.status, &answer.body));
        }
        if grpc { grpc_outcome(&answer) } else { rejected(&answer.body) }
    }
}

/// The URL of exports. *Source:* the ports of the OTLP specification when none is given.
fn endpoint(settings: &OtlpSettings) -> Result<Uri, String> {
    let scheme = if settings.secure { "https" } else { "http" };
    let (authority, path) = match settings.endpoint.split_once('/') {
        Some((authority, path)) => (authority, path.trim_end_matches('/')),
        None => (settings.endpoint.as_str(), ""),
    };
    let with_port: Uri =
        format!("{scheme}://{authority}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let (port, path) = match settings.protocol {
        OtlpProtocol::Grpc => (4317, GRPC_PATH.to_owned()),
        OtlpProtocol::Http if path.is_empty() => (4318, HTTP_PATH.to_owned()),
        OtlpProtocol::Http => (4318, format!("/{path}")),
    };
    let text = match with_port.port() {
        Some(_) => format!("{scheme}://{authority}{path}"),
        None => format!("{scheme}://{authority}:{port}{path}"),
    };
    text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())
}

/// One gRPC frame.
fn frame(message: &ExportTraceServiceRequest) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX)); // a batch is far below 4 GiB
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
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
    match ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success) {
        Some(partial) if partial.rejected_spans > 0 => Err(ExportError::refused(format!(
            "{} spans were rejected: {}",
            partial.rejected_spans, partial.error_message
        ))),
        _ => Ok(()),
    }
}

/// The batch as a message, grouped by scope.
pub(super) fn to_request(batch: &[Arc<SpanRecord>], resource: &Resource) -> ExportTraceServiceRequest {
    let mut scopes: Vec<(&str, Vec<SpanMessage>)> = Vec::new();
    for span in batch {
        let message = to_message(span);
        match scopes.iter_mut().find(|(name, _)| *name == span.scope) {
            Some((_, spans)) => spans.push(message),
            None => scopes.push((span.scope, vec![message])),
        }
    }
    let scope_spans = scopes
        .into_iter()
        .map(|(name, spans)| ScopeSpans { scope: Some(Scope { name: name.to_owned() }), spans })
        .collect();
    let attributes = resource.attributes.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: Some(Value::Text(value.clone())) }),
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(ResourceMessage { attributes: attributes.collect() }),
            scope_spans,
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn to_message(span: &SpanRecord) -> SpanMessage {
    let nanos = |time| u64::try_from(since_epoch(time).as_nanos()).unwrap_or(u64::MAX);
    let attributes = |list: &[(std::borrow::Cow<'static, str>, AttributeValue)]| {
        list.iter().map(|(key, value)| KeyValue { key: key.to_string(), value: Some(to_value(value)) }).collect()
    };
    SpanMessage {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        },
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| EventMessage {
                time_unix_nano: nanos(event.time),
                name: event.name.to_string(),
                attributes: attributes(&event.attributes),
            })
            .collect(),
        status: Some(match &span.status {
            SpanStatus::Unset => StatusMessage::default(),
            SpanStatus::Error(reason) => StatusMessage { message: reason.clone(), code: ERROR },
        }),
        flags: u32::from(span.context.flags),
    }
}

fn to_value(value: &AttributeValue) -> AnyValue {
    let text = |text: &String| AnyValue { value: Some(Value::Text(text.clone())) };
    match value {
        AttributeValue::Text(value) => text(value),
        AttributeValue::Integer(number) => AnyValue { value: Some(Value::Integer(*number)) },
        AttributeValue::Texts(texts) => {
            AnyValue { value: Some(Value::Array(ArrayValue { values: texts.iter().map(text).collect() })) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trust;

    #[test]
    fn endpoints_get_the_port_and_path_of_the_protocol() {
        use OtlpProtocol::{Grpc, Http};
        for (text, protocol, secure, url) in [
            ("c:4317", Grpc, false, "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            ("c", Grpc, true, "https://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            ("c:4318", Http, false, "http://c:4318/v1/traces"),
            ("c", Http, true, "https://c:4318/v1/traces"),
            ("c:1/", Http, false, "http://c:1/v1/traces"),
            ("c:1/x/v1/traces", Http, false, "http://c:1/x/v1/traces"),
        ] {
            let settings = OtlpSettings {
                endpoint: text.to_owned(),
                protocol,
                secure,
                trust: Trust::System,
                headers: Vec::new(),
                timeout: None,
            };
            assert_eq!(endpoint(&settings).unwrap().to_string(), url, "{text}");
        }
    }
}
