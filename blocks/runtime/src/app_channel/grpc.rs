//! The app channel over gRPC: the app implements the `AppCallback` services.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion_core::error::GrpcCode;
use pillion_core::secret::Secret;
use pillion_proto::common::v1 as common;
use pillion_proto::google::protobuf::Any;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_proto::runtime::v1::app_callback_health_check_client::AppCallbackHealthCheckClient;
use tokio::sync::Semaphore;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};

use super::ChannelError;
use super::health::AppHealth;
use super::http::APP_UNHEALTHY;
use crate::body::Body;
use crate::message::{AppStatus, DAPR_API_TOKEN, InvokeRequest, InvokeResponse, content_type};

/// Calls the app over gRPC on one shared connection.
pub struct GrpcChannel {
    channel: Channel,
    slots: Option<Arc<Semaphore>>,
    token: Option<AsciiMetadataValue>,
    max_body_bytes: usize,
    health: AppHealth,
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
        let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))
            .map_err(|error| format!("--app-channel-address {host:?} is not a host: {error}"))?
            .tcp_nodelay(true);
        let token = api_token
            .map(|token| AsciiMetadataValue::try_from(token.expose().as_str()))
            .transpose()
            .map_err(|_| "APP_API_TOKEN has characters that cannot be put into metadata".to_owned())?;
        Ok(Self {
            channel: endpoint.connect_lazy(),
            slots: (max_concurrency > 0).then(|| Arc::new(Semaphore::new(max_concurrency))),
            token,
            max_body_bytes,
            health,
        })
    }

    /// The connection, for the other callback services.
    pub fn connection(&self) -> Channel {
        self.channel.clone()
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
            http_extension: Some(common::HttpExtension {
                verb: verb_number(&request.verb),
                querystring: request.query,
            }),
        };
        let mut outgoing = tonic::Request::new(message);
        *outgoing.metadata_mut() = to_metadata(&request.headers);
        self.add_token(outgoing.metadata_mut());
        let mut client = AppCallbackClient::new(self.channel.clone());
        if self.max_body_bytes > 0 {
            client =
                client.max_decoding_message_size(self.max_body_bytes).max_encoding_message_size(self.max_body_bytes);
        }
        Ok(match client.on_invoke(outgoing).await {
            Ok(answer) => to_response(answer),
            Err(status) => InvokeResponse {
                status: AppStatus::Grpc(status.code() as i32),
                status_message: status.message().to_owned(),
                headers: from_metadata(status.metadata()),
                body: Body::empty(),
                data_type_url: String::new(),
            },
        })
    }

    /// Calls the health service; any OK is healthy.
    ///
    /// # Errors
    /// The app's status, or that it cannot be reached.
    pub async fn health_check(&self) -> Result<(), ChannelError> {
        let mut request = tonic::Request::new(());
        self.add_token(request.metadata_mut());
        AppCallbackHealthCheckClient::new(self.channel.clone()).health_check(request).await.map(|_| ()).map_err(
            |status| {
                ChannelError::new(
                    GrpcCode::from_number(status.code() as i32),
                    format!("Health check failed: {}", status.message()),
                )
            },
        )
    }
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
        headers,
        body: Body::full(data),
        data_type_url,
    }
}

/// The number of a verb in `HTTPExtension.Verb`; unknown verbs travel as POST.
pub fn verb_number(verb: &Method) -> i32 {
    match verb.as_str() {
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
