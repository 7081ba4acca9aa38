//! HTTP/2 connections to a gRPC app: one for each event loop that calls it, and more when its streams run out.
//!
//! *Neighbours:* [`GrpcChannel`](super::GrpcChannel) owns it, tonic's clients and the gRPC proxy send on it. *Invariant:* a
//! connection carries no more calls than its app allows; the first one stays, others close when idle. *Source:* the
//! original's `pkg/api/grpc/manager` (100 streams per connection, 3 minutes idle, purge every 45 s, 20 s to connect).

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use parking_lot::Mutex;
use pillion_http2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{ConnectError, Status};

use super::tls::TlsClient;
use crate::http2::stream;
use crate::http2::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::loops::Here;
use crate::socket::for_messages;

const STREAMS_PER_CONNECTION: usize = 100;
const IDLE_LIMIT: Duration = Duration::from_secs(180);
const PURGE_INTERVAL: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks for the app's settings, which come with the first bytes of a connection.
const SETTINGS_PAUSE: Duration = Duration::from_millis(1);
/// Longest head of an answer. *Source:* the default of the original's gRPC client.
const HEADER_BYTES_MAX: u32 = 16 << 20;
const OWN_AGENT: HeaderValue = HeaderValue::from_static("pillion");

/// Sends calls to the app on any connection with room; clients of tonic are made of it. Cheap to clone.
#[derive(Clone)]
pub struct AppConnection(Arc<Pool>);

struct Pool {
    host: String,
    port: u16,
    scheme: Scheme,
    authority: Authority,
    tls: Option<TlsClient>,
    connections: Mutex<Vec<Connection>>,
    /// Held while a connection is made, so that calls that come together share it; the failures so far and the last one.
    dialing: tokio::sync::Mutex<()>,
    failures: Mutex<(u64, String)>,
}

struct Connection {
    sender: SendRequest,
    load: Arc<Load>,
    on: Here,
}

struct Load {
    streams: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// Counts a call until its answer has ended or was given up.
struct StreamGuard(Arc<Load>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.last_used.lock() = Instant::now();
        }
    }
}

/// Why a call got no answer.
#[derive(Debug)]
pub enum CallError {
    /// No connection could be made.
    Connect(ConnectError),
    /// The connection broke, or the app reset the call.
    Broken(Status),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Connect(error) => error,
            Self::Broken(error) => error,
        })
    }
}

/// A failed dial; shown as the original shows it, its source is the part in the middle.
#[derive(Debug)]
struct DialError(io::Error);

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection error: desc = \"transport: Error while dialing: {}\"", self.0)
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl AppConnection {
    /// For the app at `host:port`; connects on first use. `tls` = the connections are secured.
    ///
    /// # Errors
    /// A text when the address cannot be one.
    pub(super) fn new(host: &str, port: u16, tls: Option<TlsClient>) -> Result<Self, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let shown = if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
        let authority = Authority::try_from(shown)
            .map_err(|error| format!("--app-channel-address {host:?} is not a host: {error}"))?;
        Ok(Self(Arc::new(Pool {
            host: bare.to_owned(),
            port,
            scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            tls,
            connections: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
        })))
    }
}

impl Service<Request<Body>> for AppConnection {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(())) // a call waits for its connection itself
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move { pool.send(request).await })
    }
}

impl Pool {
    async fn send(self: Arc<Self>, mut request: Request<Body>) -> Result<Response<Body>, CallError> {
        self.address(&mut request);
        loop {
            let (sender, guard, fresh) = self.lease().await?;
            let broken = |error| CallError::Broken(stream::status_of(&error));
            match sender.ready().await {
                Ok(mut sender) => return stream::send(&mut sender, request, guard).await.map_err(broken),
                Err(_) if !fresh => {} // the app closed the connection before anything was sent on it
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Puts the app's address into a request, whatever address it came with.
    fn address(&self, request: &mut Request<Body>) {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // All three parts are there, which is all that makes an address.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().entry(header::USER_AGENT).or_insert(OWN_AGENT);
    }

    /// A place on a connection, and whether that was made for this call.
    async fn lease(self: &Arc<Self>) -> Result<(SendRequest, StreamGuard, bool), CallError> {
        if let Some((sender, guard)) = self.share() {
            return Ok((sender, guard, false));
        }
        let failures = self.failures.lock().0;
        let _dialing = self.dialing.lock().await;
        if let Some((sender, guard)) = self.share() {
            return Ok((sender, guard, false));
        }
        // What has just failed for another call fails for this one too, without the same wait again.
        let failed = { Some(self.failures.lock()).filter(|seen| seen.0 != failures).map(|seen| seen.1.clone()) };
        let dialed = match failed {
            Some(text) => Err(io::Error::other(text)),
            None => self.dial().await.inspect_err(|error| {
                let mut failures = self.failures.lock();
                *failures = (failures.0 + 1, error.to_string());
            }),
        };
        let sender = dialed.map_err(|error| CallError::Connect(ConnectError(Box::new(DialError(error)))))?;
        let load = Arc::new(Load { streams: AtomicUsize::new(1), last_used: Mutex::new(Instant::now()) });
        self.connections.lock().push(Connection { sender: sender.clone(), load: load.clone(), on: Here::now() });
        Ok((sender, StreamGuard(load), true))
    }

    /// A place on the first connection of this loop with room; forgets closed ones.
    fn share(&self) -> Option<(SendRequest, StreamGuard)> {
        let here = Here::now();
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let with_room = connections.iter().find(|connection| {
            let allowed = connection.sender.max_concurrent_send_streams().clamp(1, STREAMS_PER_CONNECTION);
            connection.on == here && connection.load.streams.load(Ordering::Relaxed) < allowed
        })?;
        with_room.load.streams.fetch_add(1, Ordering::Relaxed);
        Some((with_room.sender.clone(), StreamGuard(with_room.load.clone())))
    }

    /// Lets go of connections that carried nothing for `idle`, except the first; they close by themselves.
    fn purge(&self, idle: Duration) {
        let mut first = true;
        self.connections.lock().retain(|connection| {
            let busy = connection.load.streams.load(Ordering::Relaxed) > 0;
            let keep = std::mem::take(&mut first) || busy || connection.load.last_used.lock().elapsed() < idle;
            keep && !connection.sender.is_closed()
        });
    }

    async fn dial(self: &Arc<Self>) -> io::Result<SendRequest> {
        let connected = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            for_messages(&stream)?;
            match &self.tls {
                None => self.handshake(stream).await,
                Some(tls) => self.handshake(tls.connect(&self.host, stream).await?).await,
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")));
        connected.map_err(|error| {
            let cause = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("dial tcp {}: {cause}", self.authority))
        })
    }

    async fn handshake<S>(self: &Arc<Self>, stream: S) -> io::Result<SendRequest>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = pillion_http2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_BYTES_MAX)
            .initial_max_send_streams(0) // until the app has told its limit
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let pool = Arc::downgrade(self);
        tokio::spawn(async move { run(connection, &pool).await });
        // Calls that went out before the app's limit is known could be refused.
        while sender.max_concurrent_send_streams() == 0 {
            if sender.is_closed() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the app closed the connection"));
            }
            tokio::time::sleep(SETTINGS_PAUSE).await;
        }
        Ok(sender)
    }
}

/// Carries a connection to its end, and looks for idle ones meanwhile.
async fn run<C: Future>(connection: C, pool: &Weak<Pool>) {
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return, // the calls on it get the error
            () = tokio::time::sleep(PURGE_INTERVAL) => {
                if let Some(pool) = pool.upgrade() {
                    pool.purge(IDLE_LIMIT);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "grpc_pool_tests.rs"]
mod tests;
