//! Requests to a sidecar's HTTP API, over TCP on this machine or a Unix domain socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

/// Where a sidecar's HTTP API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Port(u16),
    Socket(PathBuf),
}

/// The socket files of an application ID. *Source:* names made by `daprd --unix-domain-socket`.
pub(crate) fn socket_path(directory: &std::path::Path, app_id: &str, api: &str) -> PathBuf {
    directory.join(format!("dapr-{app_id}-{api}.socket"))
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "127.0.0.1:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A request without its target.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// Whether something accepts connections there.
pub(crate) async fn listening(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Port(port) => TcpStream::connect(("127.0.0.1", *port)).await.is_ok(),
        Endpoint::Socket(path) => UnixStream::connect(path).await.is_ok(),
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
///
/// # Errors
/// No connection, a broken answer, or nothing within `limit`.
pub(crate) async fn send(endpoint: &Endpoint, call: Call, limit: Duration) -> Result<Answer> {
    match tokio::time::timeout(limit, exchange(endpoint, call)).await {
        Ok(result) => result,
        Err(_) => bail!("no answer from {endpoint} within {} s", limit.as_secs_f32()),
    }
}

async fn exchange(endpoint: &Endpoint, call: Call) -> Result<Answer> {
    match endpoint {
        Endpoint::Port(port) => {
            let stream = TcpStream::connect(("127.0.0.1", *port))
                .await
                .with_context(|| format!("cannot connect to {endpoint}"))?;
            let _ = stream.set_nodelay(true); // only slower without
            over(TokioIo::new(stream), call, &endpoint.to_string()).await
        }
        Endpoint::Socket(path) => {
            let stream = UnixStream::connect(path).await.with_context(|| format!("cannot connect to {endpoint}"))?;
            over(TokioIo::new(stream), call, "localhost").await
        }
    }
}

async fn over<S>(stream: S, call: Call, host: &str) -> Result<Answer>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(call.method).uri(&call.path).header(http::header::HOST, host);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(call.body)).with_context(|| format!("{:?} is not a valid path", call.path))?;
    let response = sender.send_request(request).await;
    let answer = match response {
        Ok(response) => {
            let status = response.status();
            response.into_body().collect().await.map(|body| Answer { status, body: body.to_bytes() })
        }
        Err(error) => Err(error),
    };
    connection.abort();
    Ok(answer?)
}
