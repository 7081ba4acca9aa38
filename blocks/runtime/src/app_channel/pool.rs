//! Kept-alive HTTP connections to one host.
//!
//! HTTP/1.1 connections are lent out one request at a time and come back when the response body has been read. Requests
//! whose body is here go over [`crate::http1`], streamed ones over hyper, each with connections of its own; HTTP/2 (prior
//! knowledge) shares one connection. *Invariant:* at most [`MAX_CONNECTIONS`] requests are under way and at most
//! [`MAX_IDLE`] connections of a kind wait.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::tls::TlsClient;
use crate::body::{Body, BodyError};
use crate::http1::client::{Answer, AnswerBody, Connection, Streaming, write_request};
use crate::loops::Here;
use crate::socket::{UnixSocket, for_messages};

/// Connections per host. *Source:* spec app_channel.md §1.
pub const MAX_CONNECTIONS: usize = 1024;
/// Idle connections per host. *Source:* spec app_channel.md §1.
pub const MAX_IDLE: usize = 64;
/// Idle connections are closed after this time. *Source:* Go's default transport, which the original uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often idle connections are looked at, also for those the server has closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);
/// The client's read buffer grows up to this size, or to the header limit when that is larger.
const MIN_READ_BUFFER: usize = 64 * 1024;

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS, with the server's certificate checked against the system's roots.
    Https,
    /// HTTP/1.1 over TLS without a check, for the own app.
    HttpsUnverified,
    /// HTTP/2 in clear text, by prior knowledge.
    H2c,
}

/// Why a request did not get an answer.
#[derive(Debug)]
pub enum SendError {
    /// No connection could be made.
    Connect {
        /// `host:port`.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke before an answer came.
    Broken(BodyError),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect { address, source } => write!(f, "dial tcp {address}: {source}"),
            Self::Broken(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SendError {}

/// Connections to one host; cheap to share by `Arc`.
pub struct HostPool {
    host: String,
    port: u16,
    protocol: Protocol,
    header_limit: usize,
    idle: Mutex<Idle>,
    idle_streaming: Mutex<Vec<http1::SendRequest<Body>>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
    slots: Arc<Semaphore>,
    tls: OnceCell<TlsClient>,
    /// A Unix socket of the same server.
    shortcut: Option<PathBuf>,
    /// Cleared when nobody answers there: the server is on another machine, or another one now.
    shortcut_leads: AtomicBool,
}

impl HostPool {
    /// Makes a pool. `max_concurrency` 0 means [`MAX_CONNECTIONS`]; `header_limit` is in bytes.
    pub fn new(host: &str, port: u16, protocol: Protocol, max_concurrency: usize, header_limit: usize) -> Arc<Self> {
        Self::make(host, port, protocol, max_concurrency, header_limit, OnceCell::new(), None)
    }

    /// Makes a pool for HTTP/1.1 over TLS with settings of its own.
    pub fn with_tls(host: &str, port: u16, tls: TlsClient, header_limit: usize) -> Arc<Self> {
        Self::make(host, port, Protocol::Https, 0, header_limit, OnceCell::new_with(Some(tls)), None)
    }

    /// Makes a pool of HTTP/1.1 connections to another sidecar, over TLS when it is given. The Unix socket at `shortcut` is
    /// tried before the port.
    pub fn to_sidecar(
        host: &str,
        port: u16,
        tls: Option<TlsClient>,
        shortcut: Option<PathBuf>,
        max_concurrency: usize,
        header_limit: usize,
    ) -> Arc<Self> {
        let protocol = if tls.is_some() { Protocol::Https } else { Protocol::Http1 };
        Self::make(host, port, protocol, max_concurrency, header_limit, OnceCell::new_with(tls), shortcut)
    }

    fn make(
        host: &str,
        port: u16,
        protocol: Protocol,
        max_concurrency: usize,
        header_limit: usize,
        tls: OnceCell<TlsClient>,
        shortcut: Option<PathBuf>,
    ) -> Arc<Self> {
        let slots = if max_concurrency == 0 { MAX_CONNECTIONS } else { max_concurrency };
        Arc::new(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            protocol,
            header_limit,
            idle: Mutex::new(Idle::default()),
            idle_streaming: Mutex::new(Vec::new()),
            shared: tokio::sync::Mutex::new(None),
            slots: Arc::new(Semaphore::new(slots)),
            tls,
            shortcut,
            shortcut_leads: AtomicBool::new(true),
        })
    }

    /// Whether a request sent now would not have to wait for others to end.
    pub fn has_room(&self) -> bool {
        self.slots.available_permits() > 0
    }

    /// Sends a request in origin form (or absolute form for HTTP/2) and waits for the response head.
    ///
    /// A kept connection that turns out to be closed is replaced without the caller noticing, as long as nothing of the
    /// request was written.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let permit = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        match self.protocol {
            // The rarer ways are boxed, so that the frequent one does not carry their size.
            Protocol::H2c => Box::pin(self.send_http2(request, permit)).await,
            Protocol::Http1 | Protocol::Https | Protocol::HttpsUnverified => match request.body().as_full() {
                Some(body) => {
                    let write_head = |out: &mut Vec<u8>| write_request(out, &request);
                    self.send_lean(request.method(), write_head, &body, permit).await
                }
                None => Box::pin(self.send_streaming(request, permit)).await,
            },
        }
    }

    /// As [`Self::send`] over HTTP/1.1 for a body that is here. `write_head` writes request line and headers, without those
    /// that frame the body.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_whole(
        self: &Arc<Self>,
        verb: &Method,
        write_head: impl Fn(&mut Vec<u8>),
        body: &Bytes,
    ) -> Result<Response<Body>, SendError> {
        let permit = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.send_lean(verb, write_head, body, permit).await
    }

    async fn send_lean(
        self: &Arc<Self>,
        verb: &Method,
        write_head: impl Fn(&mut Vec<u8>),
        body: &Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, SendError> {
        loop {
            let (connection, reused) = match self.take_idle() {
                Some(connection) => (connection, true),
                None => (Connection::new(Box::pin(self.connect()).await?), false),
            };
            let is_local = is_local(connection.stream());
            match connection.send(&write_head, verb, body, self.header_limit.max(MIN_READ_BUFFER)).await {
                Ok(answer) => return Ok(self.response(answer, permit)),
                // The server may have closed a kept connection while the request was on its way: *Source:* Go's transport.
                Err(failure) if reused && (failure.unsent || (failure.unanswered && is_repeatable(verb))) => {}
                Err(failure) if reused && is_local && failure.unanswered && was_unread(&failure.error) => {}
                Err(failure) => return Err(SendError::Broken(failure.error.into())),
            }
        }
    }

    fn response(self: &Arc<Self>, answer: Answer<Stream>, permit: OwnedSemaphorePermit) -> Response<Body> {
        let body = match answer.body {
            AnswerBody::Whole(bytes, connection) => {
                if let Some(connection) = connection {
                    self.give_back(connection);
                }
                Body::full(bytes)
            }
            AnswerBody::Streaming(streaming) => {
                Body::boxed(StreamingBody { streaming, pool: self.clone(), _permit: permit })
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }

    /// The connection used last on this loop; one of another loop would have to be woken from there.
    fn take_idle(&self) -> Option<Connection<Stream>> {
        let here = Here::now();
        let mut idle = self.idle.lock();
        loop {
            let last = idle.connections.iter().rposition(|waiting| waiting.on == here)?;
            let mut waiting = idle.connections.remove(last);
            if waiting.connection.is_open() {
                return Some(waiting.connection);
            }
        }
    }

    fn give_back(self: &Arc<Self>, connection: Connection<Stream>) {
        let mut idle = self.idle.lock();
        if idle.connections.len() < MAX_IDLE {
            idle.connections.push(Waiting { connection, since: Instant::now(), on: Here::now() });
        }
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    async fn send_streaming(
        self: &Arc<Self>,
        mut request: Request<Body>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, SendError> {
        loop {
            let (mut sender, reused) = match self.take_idle_streaming() {
                Some(sender) => (sender, true),
                None => (self.handshake_http1(self.connect().await?).await?, false),
            };
            if reused && sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (parts, incoming) = response.into_parts();
                    let body = PooledBody {
                        incoming,
                        lease: Some(Lease { pool: self.clone(), sender: Some(sender), _permit: permit }),
                    };
                    return Ok(Response::from_parts(parts, body.into_body()));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(SendError::Broken(failed.into_error().into())),
                },
            }
        }
    }

    fn take_idle_streaming(&self) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.idle_streaming.lock();
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Stream, SendError> {
        let stream = match self.take_shortcut().await {
            Some(stream) => Either::Right(stream),
            None => Either::Left(self.dial().await?),
        };
        match self.protocol {
            Protocol::Http1 | Protocol::H2c => Ok(Either::Left(stream)),
            Protocol::Https | Protocol::HttpsUnverified => {
                let tls = self.tls().await.map_err(|source| self.refused(source))?;
                let secured = tls.connect(&self.host, stream).await.map_err(|source| self.refused(source))?;
                Ok(Either::Right(Box::new(secured)))
            }
        }
    }

    async fn take_shortcut(&self) -> Option<UnixSocket> {
        let path = self.shortcut.as_ref().filter(|_| self.shortcut_leads.load(Ordering::Relaxed))?;
        let connected = UnixSocket::connect(path).await.ok();
        if connected.is_none() {
            self.shortcut_leads.store(false, Ordering::Relaxed);
        }
        connected
    }

    /// The TLS settings; without given ones they are made on first use, on a thread that may read files.
    async fn tls(&self) -> io::Result<&TlsClient> {
        let verify = self.protocol == Protocol::Https;
        let make = async || {
            let made =
                tokio::task::spawn_blocking(move || if verify { TlsClient::system() } else { TlsClient::unverified() });
            made.await.map_err(io::Error::other)?.map_err(io::Error::other)
        };
        self.tls.get_or_try_init(make).await
    }

    async fn handshake_http1(&self, stream: Stream) -> Result<http1::SendRequest<Body>, SendError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.header_limit.max(MIN_READ_BUFFER))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(async move {
            let _ = connection.await; // the request that uses it gets the error
        });
        Ok(sender)
    }

    async fn send_http2(
        self: &Arc<Self>,
        request: Request<Body>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, SendError> {
        let mut sender = self.shared_http2().await?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, incoming) = response.into_parts();
        let body = PooledBody { incoming, lease: Some(Lease { pool: self.clone(), sender: None, _permit: permit }) };
        Ok(Response::from_parts(parts, body.into_body()))
    }

    async fn shared_http2(&self) -> Result<http2::SendRequest<Body>, SendError> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self.dial().await?;
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            let _ = connection.await; // the requests on it get the error
        });
        *shared = Some(sender.clone());
        Ok(sender)
    }

    async fn dial(&self) -> Result<TcpStream, SendError> {
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|source| self.refused(source))?;
        for_messages(&stream).map_err(|source| self.refused(source))?;
        Ok(stream)
    }

    fn refused(&self, source: io::Error) -> SendError {
        SendError::Connect { address: format!("{}:{}", self.host, self.port), source }
    }
}

fn broken(error: hyper::Error) -> SendError {
    SendError::Broken(error.into())
}

/// Whether a connection does not leave this machine.
fn is_local(stream: &Stream) -> bool {
    let socket = match stream {
        Either::Left(socket) => socket,
        Either::Right(secured) => secured.get_ref().0,
    };
    matches!(socket, Either::Right(_))
}

/// Whether the end of a Unix socket says that the request was not read to its end: only then the system tells of a reset. A server
/// that has read a request and fails shows as the end of the stream.
fn was_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

/// Whether a request may be sent again when it is not known if the server has seen it.
fn is_repeatable(verb: &Method) -> bool {
    matches!(*verb, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Connections that wait for a request, the last one used last.
#[derive(Default)]
struct Idle {
    connections: Vec<Waiting>,
    is_swept: bool,
}

struct Waiting {
    connection: Connection<Stream>,
    since: Instant,
    on: Here,
}

/// Closes what has waited too long or was closed by the server, until nothing waits any more.
async fn sweep(pool: Weak<HostPool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock();
        idle.connections.retain_mut(|waiting| waiting.since.elapsed() < IDLE_TIMEOUT && waiting.connection.is_open());
        if idle.connections.is_empty() {
            idle.is_swept = false;
            return;
        }
    }
}

/// A connection to a server: by the network, or within this machine.
type Socket = Either<TcpStream, UnixSocket>;
/// The same in clear text, or over TLS.
type Stream = Either<Socket, Box<TlsStream<Socket>>>;

/// A streamed body of [`crate::http1`] that returns its connection at its end; dropping it early closes the connection.
struct StreamingBody {
    streaming: Streaming<Stream>,
    pool: Arc<HostPool>,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for StreamingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.streaming.poll_data(cx);
        if polled.is_ready()
            && self.streaming.is_done()
            && let Some(connection) = self.streaming.take_idle()
        {
            self.pool.give_back(connection);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.streaming.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.streaming.known_length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection of hyper and a slot, held while a response is read.
struct Lease {
    pool: Arc<HostPool>,
    sender: Option<http1::SendRequest<Body>>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn give_back(mut self) {
        let Some(sender) = self.sender.take() else { return };
        let mut idle = self.pool.idle_streaming.lock();
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

/// A response body that returns its connection at its end; dropping it early closes the connection.
struct PooledBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl PooledBody {
    fn into_body(mut self) -> Body {
        if self.incoming.is_end_stream() {
            if let Some(lease) = self.lease.take() {
                lease.give_back();
            }
            return Body::empty();
        }
        Body::boxed(self)
    }

    fn finished(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl HttpBody for PooledBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.finished(),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.finished(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            _ => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::AtomicUsize;

    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    async fn server(connections: Arc<AtomicUsize>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let service =
                    service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Body::full("ok"))) });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        port
    }

    #[tokio::test]
    async fn a_connection_is_used_again_after_its_body_was_read() {
        let connections = Arc::new(AtomicUsize::new(0));
        let pool = HostPool::new("127.0.0.1", server(connections.clone()).await, Protocol::Http1, 0, 4096);
        for _ in 0..5 {
            let response = pool.send(Request::get("/").header("host", "x").body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.into_body().collect(0).await.unwrap(), "ok");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_shortcut_that_leads_nowhere_is_not_taken_again() {
        let port = server(Arc::default()).await;
        let nowhere = PathBuf::from("\0pillion/test/nobody-listens-here");
        let pool = HostPool::to_sidecar("127.0.0.1", port, None, Some(nowhere), 0, 4096);
        let response = pool.send(Request::get("/").header("host", "x").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!pool.shortcut_leads.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let pool = HostPool::new("127.0.0.1", 1, Protocol::Http1, 0, 4096);
        let error = pool.send(Request::get("/").body(Body::empty()).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
