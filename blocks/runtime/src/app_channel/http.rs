//! The app channel over HTTP.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use pillion_contract::HttpPipeline;
use pillion_core::error::GrpcCode;
use pillion_core::secret::Secret;
use pillion_telemetry::metrics::Metrics;

use super::ChannelError;
use super::health::AppHealth;
use super::pool::{HostPool, Protocol, SendError};
use crate::body::Body;
use crate::message::{
    AppStatus, DAPR_API_TOKEN, DAPR_APP_ID, InvokeRequest, InvokeResponse, NO_VERB, check_escapes, clean_path,
    strip_hop_by_hop,
};
use crate::pipeline;

mod declared;

/// Text of the error for an app that fails its health checks. *Source:* spec app_channel.md §1.
pub(super) const APP_UNHEALTHY: &str = "app is not in a healthy state";

/// Where the app is and how to treat it.
#[derive(Clone, Debug)]
pub struct HttpChannelOptions {
    /// `--app-channel-address`.
    pub host: String,
    /// `--app-port`.
    pub port: u16,
    /// HTTP/1.1 or h2c.
    pub protocol: Protocol,
    /// `--app-max-concurrency`; 0 = unlimited.
    pub max_concurrency: usize,
    /// `APP_API_TOKEN`.
    pub api_token: Option<Secret<String>>,
    /// `--read-buffer-size` in bytes.
    pub header_limit: usize,
}

impl HttpChannelOptions {
    /// An app on a port of this machine, and what holds without flags.
    pub fn on_port(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            protocol: Protocol::Http1,
            max_concurrency: 0,
            api_token: None,
            header_limit: 4096,
        }
    }
}

/// Calls the app over HTTP.
pub struct HttpChannel {
    pool: Arc<HostPool>,
    authority: HeaderValue,
    absolute_prefix: String,
    protocol: Protocol,
    token: Option<HeaderValue>,
    health: AppHealth,
    metrics: Metrics,
    pipeline: HttpPipeline,
}

impl HttpChannel {
    /// Makes a channel; connects on first use. `health` gates invocations.
    ///
    /// # Errors
    /// A text when host or token cannot be put into a header.
    pub fn new(options: &HttpChannelOptions, health: AppHealth) -> Result<Self, String> {
        let authority = format!("{}:{}", options.host, options.port);
        let token = options
            .api_token
            .as_ref()
            .map(|token| HeaderValue::from_str(token.expose()))
            .transpose()
            .map_err(|_| "APP_API_TOKEN has characters that cannot be put into a header".to_owned())?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self {
            pool: HostPool::new(
                &options.host,
                options.port,
                options.protocol,
                options.max_concurrency,
                options.header_limit,
            ),
            absolute_prefix: format!("http://{authority}"),
            authority: HeaderValue::from_str(&authority)
                .map_err(|_| format!("--app-channel-address {:?} is not a host", options.host))?,
            protocol: options.protocol,
            token,
            health,
            metrics: Metrics::off(),
            pipeline: HttpPipeline::default(),
        })
    }

    /// The same channel over the connections of another one that was made with the same options.
    pub fn over_those_of(mut self, other: &Self) -> Self {
        self.pool = other.pool.clone();
        self
    }

    /// The same channel, recording its calls.
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same channel with `spec.appHttpPipeline` around every call but health probes.
    pub fn with_pipeline(mut self, pipeline: HttpPipeline) -> Self {
        self.pipeline = pipeline;
        self
    }

    /// Calls a method of the app; any HTTP status is an answer.
    ///
    /// # Errors
    /// `InvalidArgument` for `CONNECT` and without a verb, `Internal` when the app is unhealthy or does not answer.
    pub async fn invoke(&self, request: InvokeRequest) -> Result<InvokeResponse, ChannelError> {
        if request.verb.as_str() == NO_VERB {
            return Err(ChannelError::new(GrpcCode::InvalidArgument, "missing HTTP extension field"));
        }
        if request.verb == Method::CONNECT {
            return Err(ChannelError::new(GrpcCode::InvalidArgument, "invalid HTTP verb"));
        }
        if !self.health.is_healthy() {
            return Err(ChannelError::new(GrpcCode::Internal, APP_UNHEALTHY));
        }
        let path = encode_target(&clean_path(&request.method), &request.query)
            .map_err(|reason| ChannelError::new(GrpcCode::Internal, reason))?;
        let response = self.measured(&request.method, request.verb, &path, request.headers, request.body).await?;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let body = declared::trust_no_length(body)
            .await
            .map_err(|error| ChannelError::new(GrpcCode::Internal, error.to_string()))?;
        Ok(InvokeResponse {
            status: AppStatus::Http(parts.status.as_u16()),
            status_message: String::new(),
            status_details: Vec::new(),
            headers: parts.headers,
            body,
            data_type_url: String::new(),
        })
    }

    /// A `GET` of the sidecar itself, for `/dapr/config` and `/dapr/subscribe`; carries the own app id.
    ///
    /// # Errors
    /// `Internal` when the app does not answer.
    pub async fn get(&self, path: &str, app_id: &str) -> Result<Response<Body>, ChannelError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::from_str(app_id) {
            headers.insert(DAPR_APP_ID, value);
        }
        self.measured(path, Method::GET, path, headers, Body::empty()).await
    }

    /// As [`Self::send`], recorded under `method`, the decoded path.
    async fn measured(
        &self,
        method: &str,
        verb: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, ChannelError> {
        let Some(metrics) = self.metrics.http() else { return self.send(verb, path, headers, body).await };
        // Where nothing was encoded the path is the method with its slash, which is the label; without a method it is empty.
        let target = path.split('?').next().unwrap_or_default();
        let label = if !method.is_empty() && target.strip_prefix('/') == Some(method) { target } else { method };
        metrics.asking(verb.as_str(), label, body.known_length().unwrap_or_default());
        let started = Instant::now();
        let response = self.send(verb.clone(), path, headers, body).await;
        let answer = response
            .as_ref()
            .ok()
            .map(|response| (response.status().as_u16(), response.body().known_length().unwrap_or_default()));
        metrics.asked(verb.as_str(), label, answer, started.elapsed());
        response
    }

    /// A health probe: no token, no headers; the status, or why there is none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn probe(&self, path: &str) -> Result<u16, ChannelError> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.uri(path)?;
        request.headers_mut().insert(HOST, self.authority.clone());
        let started = Instant::now();
        let sent = self.pool.send(request).await;
        if let Some(metrics) = self.metrics.http() {
            metrics.probed(sent.as_ref().ok().map(|response| response.status().as_u16()), started.elapsed());
        }
        let response = sent.map_err(|error| unreachable_app(&error))?;
        let status = response.status().as_u16();
        let _ = response.into_body().collect(64 * 1024).await; // reads the rest so that the connection can be kept
        Ok(status)
    }

    /// Sends any request to the app; `path` is in origin form with its query. Adds host and token.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is not one, `Internal` when the app does not answer.
    pub async fn send(
        &self,
        verb: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, ChannelError> {
        let mut request = Request::new(body);
        *request.method_mut() = verb;
        *request.uri_mut() = self.uri(path)?;
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.remove(CONTENT_LENGTH);
        if self.protocol == Protocol::H2c {
            headers.remove(HOST);
        } else {
            headers.insert(HOST, self.authority.clone());
        }
        if let Some(token) = &self.token {
            headers.insert(DAPR_API_TOKEN, token.clone());
        }
        if self.pipeline.is_empty() {
            return self.pool.send(request).await.map_err(|error| unreachable_app(&error));
        }
        // Boxed, so that calls without middleware do not carry its size.
        Box::pin(pipeline::through(&self.pipeline, request, |request| self.send_after_pipeline(request))).await
    }

    /// Middleware may have changed everything but where the app is.
    async fn send_after_pipeline(&self, mut request: Request<Body>) -> Result<Response<Body>, ChannelError> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = self.uri(target)?;
        request.headers_mut().remove(CONTENT_LENGTH);
        if self.protocol == Protocol::H2c {
            request.headers_mut().remove(HOST);
        }
        self.pool.send(request).await.map_err(|error| unreachable_app(&error))
    }

    fn uri(&self, path: &str) -> Result<Uri, ChannelError> {
        let parsed = match self.protocol {
            Protocol::H2c => format!("{}{path}", self.absolute_prefix).parse(),
            Protocol::Http1 | Protocol::Https | Protocol::HttpsUnverified => path.parse(),
        };
        parsed.map_err(|error| {
            ChannelError::new(GrpcCode::InvalidArgument, format!("invalid path {path:?} for the app: {error}"))
        })
    }
}

fn unreachable_app(error: &SendError) -> ChannelError {
    ChannelError::new(GrpcCode::Internal, error.to_string())
}

/// Makes the origin form of a decoded method and a raw query: characters a path cannot hold are percent-encoded, escapes
/// that are there already stay.
///
/// # Errors
/// The text for a `%` that begins no escape: the original parses the method as a part of a URL and refuses it there.
fn encode_target(method: &str, query: &str) -> Result<String, String> {
    check_escapes(method)?;
    let mut out = String::with_capacity(method.len() + query.len() + 2);
    out.push('/');
    for byte in method.bytes() {
        // A `%` begins an escape here, as just checked.
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    if !query.is_empty() {
        out.push('?');
        out.push_str(query);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::encode_target;

    #[test]
    fn targets_are_encoded_once() {
        for (method, query, target) in [
            ("a/b", "", "/a/b"),
            ("a b/ü", "x=1&y=%20", "/a%20b/%C3%BC?x=1&y=%20"),
            ("a\"*\\b", "", "/a%22*%5Cb"),
            ("a%20b", "", "/a%20b"),
            ("", "", "/"),
        ] {
            assert_eq!(encode_target(method, query).unwrap(), target);
        }
        assert_eq!(encode_target("test%stream", "").unwrap_err(), "parse \"test%stream\": invalid URL escape \"%st\"");
    }
}
