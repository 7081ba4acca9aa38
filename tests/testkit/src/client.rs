//! A plain HTTP/1.1 client: one connection a request, nothing normalised, nothing followed.

use std::convert::Infallible;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status line.
    pub status: StatusCode,
    /// Headers as sent.
    pub headers: HeaderMap,
    /// Body after transfer decoding.
    pub body: Bytes,
}

impl Reply {
    /// The body as text, invalid UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON, showing the answer.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    /// The `errorCode` of an error answer, empty when there is none.
    #[must_use]
    pub fn error_code(&self) -> String {
        let parsed = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
        parsed["errorCode"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text, empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends `method` to `path` (with its query, sent as it is) on `127.0.0.1:port`, with a body of known length.
///
/// # Errors
/// When the peer cannot be reached or breaks off.
pub async fn request(
    port: u16,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> anyhow::Result<Reply> {
    send(port, method, path, headers, Full::new(body.into())).await
}

/// As [`request`], but the body goes out chunk by chunk without a declared length.
///
/// # Errors
/// When the peer cannot be reached or breaks off.
pub async fn chunked(
    port: u16,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    chunks: Vec<Bytes>,
) -> anyhow::Result<Reply> {
    let frames = chunks.into_iter().map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    send(port, method, path, headers, StreamBody::new(Chunks(frames.collect()))).await
}

/// The frames of a chunked body, in order.
struct Chunks(std::collections::VecDeque<Result<Frame<Bytes>, Infallible>>);

impl futures_util::Stream for Chunks {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

async fn send<B>(port: u16, method: Method, path: &str, headers: &[(&str, &str)], body: B) -> anyhow::Result<Reply>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("connect to port {port}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request =
        Request::builder().method(method).uri(path).header(http::header::HOST, format!("127.0.0.1:{port}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body)?).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Reply { status: parts.status, headers: parts.headers, body })
}
