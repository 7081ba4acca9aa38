//! The app channel over gRPC: the app implements the `AppCallback` services.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_core::error::GrpcCode;
use pillion_core::secret::Secret;
use pillion_proto::common::v1 as common;
use pillion_proto::google::protobuf::Any;
use pillion_proto::google::rpc;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_proto::runtime::v1::app_callback_health_check_client::AppCallbackHealthCheckClient;
use pillion_telemetry::metrics::Metrics;
use pillion_telemetry::trace::{TRACE_PARENT, TraceContext};
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::metadata::{AsciiMetadataValue, MetadataMap, MetadataValue};

use super::ChannelError;
use super::callbacks::Callbacks;
use super::grpc_pool::AppConnection;
use super::health::AppHealth;
use super::http::APP_UNHEALTHY;
use super::tls::TlsClient;
use crate::body::Body;
use crate::message::{AppStatus, DAPR_API_TOKEN, InvokeRequest, InvokeResponse, NO_VERB, content_type};

/// Calls the app over gRPC.
pub struct GrpcChannel {
    connection: AppConnection,
    slots: Option<Arc<Semaphore>>,
    token: Option<AsciiMetadataValue>,
    max_body_bytes: usize,
    health: AppHealth,
    metrics: Metrics,
}

impl GrpcChannel {
    /// Makes a channel to `host:port`; connects on first use. `max_concurrency` 0 = unlimited.
    ///
    /// # Errors
    /// A text when address or token are not usable.
    pub fn new(
        host: &str,
        port: u16,
        max_concurrency: usize,
        api_token: Option<&Secret<String>>,
        max_body_bytes: usize,
        health: AppHealth,
    ) -> Result<Self, String> {
        Self::make(AppConnection::new(host, port, None)?, max_concurrency, api_token, max_body_bytes, health)
    }

    /// The same over TLS; the app's certificate is not checked, as in the original.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_tls(
        host: &str,
        port: u16,
        max_concurrency: usize,
        api_token: Option<&Secret<String>>,
        max_body_bytes: usize,
        health: AppHealth,
    ) -> Result<Self, String> {
        let connection = AppConnection::new(host, port, Some(TlsClient::unverified_http2()?))?;
        Self::make(connection, max_concurrency, api_token, max_body_bytes, health)
    }

    fn make(
        connection: AppConnection,
        max_concurrency: usize,
        api_token: Option<&Secret<String>>,
        max_body_bytes: usize,
        health: AppHealth,
    ) -> Result<Self, String> {
        let token = api_token
            .map(|token| AsciiMetadataValue::try_from(token.expose().as_str()))
            .transpose()
            .map_err(|_| "APP_API_TOKEN has characters that cannot be put into metadata".to_owned())?;
        Ok(Self {
            connection,
            slots: (max_concurrency > 0).then(|| Arc::new(Semaphore::new(max_concurrency))),
            token,
            max_body_bytes,
            health,
            metrics: Metrics::off(),
        })
    }

    /// The same channel over the connections of another one that was made with the same options.
    pub fn over_those_of(mut self, other: &Self) -> Self {
        self.connection = other.connection.clone();
        self.slots = other.slots.clone();
        self
    }

    /// The same channel, recording its calls.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The connections for clients of the callback services; their calls are recorded.
    pub fn callbacks(&self) -> Callbacks {
        Callbacks::new(self.connection.clone(), self.metrics.clone())
    }

    /// The connections, for calls that pass through.
    pub fn connection(&self) -> AppConnection {
        self.connection.clone()
    }

    /// The `APP_API_TOKEN` as metadata, to be sent with every call.
    pub fn add_token(&self, metadata: &mut MetadataMap) {
        if let Some(token) = &self.token {
            metadata.insert(DAPR_API_TOKEN, token.clone());
        }
    }

    /// Calls `OnInvoke`; a gRPC status of the app is an answer.
    ///
    /// # Errors
    /// `Internal` when the app is unhealthy, `InvalidArgument` when the body is too large.
    pub async fn invoke(&self, request: InvokeRequest) -> Result<InvokeResponse, ChannelError> {
        if !self.health.is_healthy() {
            return Err(ChannelError::new(GrpcCode::Internal, APP_UNHEALTHY));
        }
        let _slot = match &self.slots {
            Some(slots) => Some(slots.acquire().await.expect("the semaphore is never closed")),
            None => None,
        };
        let data = request
            .body
            .collect(self.max_body_bytes)
            .await
            .map_err(|error| ChannelError::new(GrpcCode::InvalidArgument, error.to_string()))?;
        let message = common::InvokeRequest {
            method: request.method,
            data: Some(Any { type_url: request.data_type_url, value: data }),
            content_type: content_type(&request.headers).to_owned(),
            http_extension: extension(&request.verb, request.query),
        };
        let limit = if self.max_body_bytes == 0 { usize::MAX } else { self.max_body_bytes };
        let length = message.encoded_len();
        if length > limit {
            let text = format!("trying to send message larger than max ({length} vs. {limit})");
            return Ok(refused(GrpcCode::ResourceExhausted as i32, text, Vec::new(), HeaderMap::new()));
        }
        let mut outgoing = tonic::Request::new(message);
        *outgoing.metadata_mut() = to_metadata(&request.headers);
        add_binary_trace(outgoing.metadata_mut());
        self.add_token(outgoing.metadata_mut());
        let mut client =
            AppCallbackClient::new(self.callbacks()).max_decoding_message_size(limit).max_encoding_message_size(limit);
        Ok(match client.on_invoke(outgoing).await {
            Ok(answer) => to_response(answer),
            Err(status) => {
                let (code, text) =
                    too_long(&status).unwrap_or_else(|| (status.code() as i32, status.message().to_owned()));
                refused(code, text, details_of(&status), from_metadata(status.metadata()))
            }
        })
    }

    /// Calls the health service; any OK is healthy.
    ///
    /// # Errors
    /// The app's status, or that it cannot be reached.
    pub async fn health_check(&self) -> Result<(), ChannelError> {
        let mut request = tonic::Request::new(());
        self.add_token(request.metadata_mut());
        AppCallbackHealthCheckClient::new(self.callbacks()).health_check(request).await.map(|_| ()).map_err(|status| {
            ChannelError::new(
                GrpcCode::from_number(status.code() as i32),
                format!("Health check failed: {}", status.message()),
            )
        })
    }
}

fn refused(code: i32, status_message: String, status_details: Vec<Any>, headers: HeaderMap) -> InvokeResponse {
    let (body, data_type_url) = (Body::empty(), String::new());
    InvokeResponse { status: AppStatus::Grpc(code), status_message, status_details, headers, body, data_type_url }
}

/// What the app put into `grpc-status-details-bin`; nothing when that is no `google.rpc.Status`.
fn details_of(status: &tonic::Status) -> Vec<Any> {
    rpc::Status::decode(status.details()).map(|decoded| decoded.details).unwrap_or_default()
}

/// An answer over the limit: code and text of the original, made of tonic's text, which has both numbers.
fn too_long(status: &tonic::Status) -> Option<(i32, String)> {
    let text = status.message().strip_prefix("Error, decoded message length too large: found ")?;
    let (found, limit) = text.strip_suffix(" bytes")?.split_once(" bytes, the limit is: ")?;
    let text = format!("grpc: received message larger than max ({found} vs. {limit})");
    Some((GrpcCode::ResourceExhausted as i32, text))
}

fn to_response(answer: tonic::Response<common::InvokeResponse>) -> InvokeResponse {
    let mut headers = from_metadata(answer.metadata());
    let message = answer.into_inner();
    if let Ok(value) = HeaderValue::from_str(&message.content_type)
        && !message.content_type.is_empty()
    {
        headers.insert(http::header::CONTENT_TYPE, value);
    }
    let (data_type_url, data) = message.data.map_or((String::new(), Bytes::new()), |any| (any.type_url, any.value));
    InvokeResponse {
        status: AppStatus::Grpc(0),
        status_message: String::new(),
        status_details: Vec::new(),
        headers,
        body: Body::full(data),
        data_type_url,
    }
}

/// What of HTTP a call has; nothing when its caller spoke gRPC and named nothing.
fn extension(verb: &Method, querystring: String) -> Option<common::HttpExtension> {
    let verb = verb_number(verb);
    (verb != 0 || !querystring.is_empty()).then_some(common::HttpExtension { verb, querystring })
}

/// The number of a verb in `HTTPExtension.Verb`; unknown verbs travel as POST.
pub fn verb_number(verb: &Method) -> i32 {
    match verb.as_str() {
        NO_VERB => 0,
        "GET" => 1,
        "HEAD" => 2,
        "PUT" => 4,
        "DELETE" => 5,
        "CONNECT" => 6,
        "OPTIONS" => 7,
        "TRACE" => 8,
        "PATCH" => 9,
        _ => 3,
    }
}

/// HTTP headers that gRPC metadata carries under a `dapr-` prefix. *Source:* spec internals.md §7.2, the IANA list.
fn is_permanent(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-charset"
            | "accept-language"
            | "accept-ranges"
            | "cache-control"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "from"
            | "host"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-schedule-tag-match"
            | "if-unmodified-since"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "referer"
            | "via"
            | "warning"
    )
}

/// Adds the binary form of a trace context that is there as text. *Source:* spec metrics.md §5.2 "gRPC out to app".
pub fn add_binary_trace(metadata: &mut MetadataMap) {
    if let Some(parent) = metadata.as_ref().get(TRACE_PARENT) {
        let context = TraceContext::of_value(parent).unwrap_or_default();
        metadata.insert_bin("grpc-trace-bin", MetadataValue::from_bytes(&context.to_binary()));
    }
}

/// HTTP headers as gRPC metadata.
pub fn to_metadata(headers: &HeaderMap) -> MetadataMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let renamed = if is_permanent(name.as_str()) {
            HeaderName::from_bytes(format!("dapr-{name}").as_bytes()).ok()
        } else {
            None
        };
        out.append(renamed.unwrap_or_else(|| name.clone()), value.clone());
    }
    MetadataMap::from_headers(out)
}

/// gRPC metadata as HTTP headers; what belongs to the gRPC protocol gets a `dapr-` prefix, binary values stay out.
pub fn from_metadata(metadata: &MetadataMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in metadata.as_ref() {
        let key = name.as_str();
        if key.ends_with("-bin") || matches!(key, "te" | "trailer" | "grpc-status" | "grpc-message" | "content-length")
        {
            continue;
        }
        let renamed =
            if key.starts_with("grpc-") { HeaderName::from_bytes(format!("dapr-{key}").as_bytes()).ok() } else { None };
        out.append(renamed.unwrap_or_else(|| name.clone()), value.clone());
    }
    out
}
