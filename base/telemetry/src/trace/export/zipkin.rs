//! Zipkin's spans API, version 2, as JSON over HTTP.
//!
//! *Source:* the Zipkin v2 API; names of tags as OpenTelemetry's mapping to Zipkin has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde::Serialize;

use super::{ExportError, Resource, hex, since_epoch};
use crate::trace::client::{Client, Trust};
use crate::trace::span::{AttributeValue, SpanKind, SpanRecord, SpanStatus};

/// Attributes that name the other side, the best first.
const PEERS: [&str; 3] = ["peer.service", "net.peer.name", "server.address"];

pub(in crate::trace) struct ZipkinExporter {
    client: Client,
    name: String,
    path: Uri,
    host: HeaderValue,
    resource: Arc<Resource>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan<'a> {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    name: &'a str,
    timestamp: u64,
    duration: u64,
    local_endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    tags: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    service_name: &'a str,
}

#[derive(Serialize)]
struct Annotation<'a> {
    timestamp: u64,
    value: &'a str,
}

impl ZipkinExporter {
    /// # Errors
    /// The endpoint is not a URL with a host.
    pub(super) fn new(endpoint: &str, resource: Arc<Resource>) -> Result<Self, String> {
        let refused = |error: &dyn std::fmt::Display| {
            format!("invalid zipkin endpointAddress {endpoint:?}: {error}; expected http://host:port/api/v2/spans")
        };
        let uri: Uri = endpoint.parse().map_err(|error| refused(&error))?;
        let client = Client::new(&uri, false, &Trust::System).map_err(|error| refused(&error))?;
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        Ok(Self {
            client,
            name: endpoint.to_owned(),
            host: HeaderValue::from_str(host).map_err(|error| refused(&error))?,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|error| refused(&error))?,
            resource,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn export(&mut self, batch: &[Arc<SpanRecord>]) -> Result<(), ExportError> {
        let body = to_json(batch, &self.resource).map_err(|error| ExportError::refused(error.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.client.send(request).await.map_err(ExportError::retry)?;
        if (200..300).contains(&answer.status) {
            Ok(())
        } else {
            Err(ExportError::of_http(answer.status, &answer.body))
        }
    }
}

/// The batch as the API takes it.
///
/// # Errors
/// Never in practice: all is text and numbers.
pub(super) fn to_json(batch: &[Arc<SpanRecord>], resource: &Resource) -> serde_json::Result<Vec<u8>> {
    let spans: Vec<ZipkinSpan<'_>> = batch.iter().map(|span| to_zipkin(span, resource)).collect();
    serde_json::to_vec(&spans)
}

fn to_zipkin<'a>(span: &'a SpanRecord, resource: &'a Resource) -> ZipkinSpan<'a> {
    let kind = match span.kind {
        SpanKind::Internal => None,
        SpanKind::Server => Some("SERVER"),
        SpanKind::Client => Some("CLIENT"),
        SpanKind::Producer => Some("PRODUCER"),
        SpanKind::Consumer => Some("CONSUMER"),
    };
    let mut tags: BTreeMap<&str, String> =
        resource.attributes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    tags.extend(span.attributes.iter().map(|(key, value)| (key.as_ref(), tag(value))));
    tags.insert("otel.scope.name", span.scope.to_owned());
    if let SpanStatus::Error(reason) = &span.status {
        tags.insert("otel.status_code", "ERROR".to_owned());
        tags.insert("error", if reason.is_empty() { "true".to_owned() } else { reason.clone() });
    }
    let micros = |time| u64::try_from(since_epoch(time).as_micros()).unwrap_or(u64::MAX);
    ZipkinSpan {
        trace_id: hex(&span.context.trace_id),
        id: hex(&span.context.span_id),
        parent_id: span.parent.map(|parent| hex(&parent)),
        kind,
        name: &span.name,
        timestamp: micros(span.start),
        duration: micros(span.end).saturating_sub(micros(span.start)).max(1),
        local_endpoint: Endpoint { service_name: resource.service_name() },
        remote_endpoint: remote(span).map(|service_name| Endpoint { service_name }),
        annotations: span
            .events
            .iter()
            .map(|event| Annotation { timestamp: micros(event.time), value: event.name.as_ref() })
            .collect(),
        tags,
    }
}

fn remote(span: &SpanRecord) -> Option<&str> {
    if !matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
        return None;
    }
    let text = |name: &str| match span.attributes.iter().find(|(key, _)| key == name) {
        Some((_, AttributeValue::Text(text))) => Some(text.as_str()),
        _ => None,
    };
    PEERS.iter().find_map(|name| text(name))
}

fn tag(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Integer(number) => number.to_string(),
        AttributeValue::Texts(texts) => serde_json::to_string(texts).unwrap_or_default(), // texts are always JSON
    }
}
