//! The REST calls of Kubernetes sentry makes: read, write back, create.

mod config;
#[cfg(test)]
pub(crate) mod fake;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use pillion_http_client::{Client, Limits};
use serde_json::Value as Json;

pub(crate) use config::load;

/// A list of pods of one name is far smaller.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), body_bytes: 16 * 1024 * 1024 };

/// A client of one API server.
pub(crate) struct KubeClient {
    /// Scheme, host and port, without a slash at the end.
    server: String,
    client: Client,
    token: Token,
}

/// How the client proves itself besides its certificate.
enum Token {
    None,
    Fixed(String),
    /// A file that is read for each call, because it is renewed.
    File(std::path::PathBuf),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KubeError {
    /// The server says there is no such thing.
    #[error("not found")]
    NotFound,
    /// What is written back was changed by somebody else since it was read.
    #[error("somebody else changed it meanwhile")]
    Conflict,
    /// Everything else.
    #[error("{0}")]
    Failed(String),
}

impl KubeClient {
    /// A client without TLS or token.
    #[cfg(test)]
    pub(crate) fn plain(server: String) -> Self {
        Self { server, client: Client::new(LIMITS), token: Token::Fixed("secret".to_owned()) }
    }

    /// Reads a resource or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Json, KubeError> {
        self.call(Method::GET, path, None).await
    }

    /// Writes a resource back, with the version it was read at.
    pub(crate) async fn put(&self, path: &str, body: &Json) -> Result<Json, KubeError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// Creates a resource.
    pub(crate) async fn post(&self, path: &str, body: &Json) -> Result<Json, KubeError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Reads the one resource of a name from a list over all namespaces: the list is what sentry's role allows.
    pub(crate) async fn find(&self, list: &str, namespace: &str, name: &str) -> Result<Json, KubeError> {
        let query =
            format!("fieldSelector=metadata.namespace%3D{}%2Cmetadata.name%3D{}", escape(namespace), escape(name));
        let found = self.get(&format!("{list}?{query}")).await?;
        let items = found.get("items").and_then(Json::as_array).cloned().unwrap_or_default();
        let is_it = |item: &Json| {
            item.pointer("/metadata/namespace").is_some_and(|value| value == namespace)
                && item.pointer("/metadata/name").is_some_and(|value| value == name)
        };
        items.into_iter().find(is_it).ok_or(KubeError::NotFound)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, KubeError> {
        let failed = |error: String| KubeError::Failed(format!("{method} {path}: {error}"));
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.server))
            .header(header::ACCEPT, "application/json")
            .body(bytes)
            .map_err(|error| failed(error.to_string()))?;
        if body.is_some() {
            // Exactly this, without a charset.
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = self.token().await.map_err(failed)? {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| failed(error.to_string()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self.client.send(request).await.map_err(|error| failed(error.to_string()))?;
        let (status, body) = (response.status(), response.into_body());
        match status {
            StatusCode::NOT_FOUND => Err(KubeError::NotFound),
            StatusCode::CONFLICT => Err(KubeError::Conflict),
            status if status.is_success() => {
                serde_json::from_slice(&body).map_err(|error| failed(format!("the answer is not JSON: {error}")))
            }
            status => {
                let told: Option<Json> = serde_json::from_slice(&body).ok();
                let message = told.as_ref().and_then(|told| told.get("message")).and_then(Json::as_str);
                Err(failed(format!("status {status}: {}", message.unwrap_or("no message"))))
            }
        }
    }

    async fn token(&self) -> Result<Option<String>, String> {
        match &self.token {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone())),
            Token::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(format!("cannot read the token {}: {error}", file.display())),
            },
        }
    }
}

/// Percent-encodes all but letters, digits, dots, dashes and underscores.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    out
}
