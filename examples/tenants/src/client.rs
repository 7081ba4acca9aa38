//! A small keep-alive HTTP client for JSON calls to the sidecar or to another service.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Longer than any retry policy of the demo's resiliency file takes, so that the sidecar answers first.
const DEADLINE: Duration = Duration::from_secs(30);

/// A pool of connections; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// A call that got no answer: refused, cut off, or later than 30 s.
#[derive(Debug)]
pub struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl Client {
    /// A client without open connections.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector) }
    }

    /// Posts a JSON body and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`NoAnswer`] when the address is not a URL, or nothing answered in time.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let mut request = Request::builder().method(Method::POST).uri(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(url, request.body(Full::from(body))).await
    }

    /// Gets a document and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn get(&self, url: &str) -> Result<(StatusCode, Bytes), NoAnswer> {
        self.send(url, Request::builder().uri(url).body(Full::default())).await
    }

    async fn send(
        &self,
        url: &str,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let request = request.map_err(|error| NoAnswer(format!("request to {url}: {error}")))?;
        let exchange = async {
            let response =
                self.pool.request(request).await.map_err(|error| NoAnswer(format!("{url}: {}", chain(&error))))?;
            let status = response.status();
            let body =
                response.into_body().collect().await.map_err(|error| NoAnswer(format!("{url}: {}", chain(&error))))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer(format!("{url}: no answer within {} s", DEADLINE.as_secs()))),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// The error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
