//! Connections to other sidecars.
//!
//! One HTTP/2 connection per address and event loop, more when its streams run out; idle ones are closed. Calls that need a new one
//! together share it ([`crate::dialing`]). *Invariant:* under mutual TLS a connection carries only calls of the app whose identity it
//! was made with; one that carries a call is never closed from here. *Source:* spec internals.md §7.3 (2048 streams,
//! 3 minutes idle, purge every 45 s, a ping every 10 s).

mod alive;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version};
use parking_lot::Mutex;
use pillion_core::error::GrpcCode;
use pillion_core::log::Logger;
use pillion_http2::client::SendRequest;
use pillion_runtime::app_channel::ChannelError;
use pillion_runtime::app_channel::pool::HostPool;
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::loops::Here;
use pillion_runtime::message::{InvokeRequest, InvokeResponse};
use pillion_runtime::socket::for_messages;
use pillion_security::MutualTls;
use pillion_security::tls::{HTTP2, Peer, unnamed};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use self::alive::establish;
use crate::dialing::{Dials, Turn};
use crate::direct;
use crate::outbound::Target;
use crate::shortcut;
use crate::spans;
use crate::stream::{Direction, MessageStream, grpc_status, send_payloads};
use crate::wire::{decode_response, first_request_frame};

const STREAMS_PER_CONNECTION: usize = 2048;
const IDLE_LIMIT: Duration = Duration::from_secs(180);
const PURGE_INTERVAL: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Path of the streaming call. *Source:* `dapr/proto/internals/v1/service_invocation.proto`.
pub(crate) const CALL_LOCAL_STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
/// `user-agent` of the calls of this program.
pub(crate) const OWN_AGENT: &str = "pillion";
/// Path of the unary call.
pub(crate) const CALL_LOCAL: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";

/// Why a call of an app failed: a gRPC status from, or on the way to, another sidecar, or a plain error of this one.
#[derive(Clone, Debug)]
pub struct PeerError {
    /// Code.
    pub code: GrpcCode,
    /// Text.
    pub message: String,
    /// Whether it is a status, which is shown with its code; callers of the original compare such texts.
    is_status: bool,
}

impl PeerError {
    /// Makes a status.
    pub fn new(code: GrpcCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_status: true }
    }

    /// Makes an error that is shown as its message alone; `code` is for whoever needs one.
    pub fn plain(code: GrpcCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_status: false }
    }

    /// Whether it is a status, not a plain error of this sidecar.
    pub fn is_status(&self) -> bool {
        self.is_status
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_status {
            write!(f, "rpc error: code = {} desc = {}", self.code.go_name(), self.message)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl From<ChannelError> for PeerError {
    fn from(error: ChannelError) -> Self {
        Self { is_status: error.is_status(), code: error.code, message: error.message }
    }
}

impl std::error::Error for PeerError {}

/// A connection with the number of its streams.
struct Connection {
    sender: SendRequest,
    load: Arc<Load>,
    with: Proven,
    on: Here,
}

/// Whose identity a connection was made with; `None` = plain.
struct Proven(Option<Target>);

impl Proven {
    fn is(&self, target: &Target) -> bool {
        self.0.as_ref().is_none_or(|proven| proven == target)
    }
}

/// The plain connections (of our own protocol) to a sidecar.
struct Direct {
    pool: Arc<HostPool>,
    with: Proven,
}

struct Load {
    /// Where calls of apps go on this connection.
    uri: Uri,
    streams: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// Counts a stream until it is dropped.
pub(crate) struct StreamGuard(Arc<Load>);

impl StreamGuard {
    fn new(load: &Arc<Load>) -> Self {
        load.streams.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }

    /// The head of a call of an app.
    fn head(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.0.uri.clone();
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(USER_AGENT, HeaderValue::from_static(OWN_AGENT));
        request
    }
}

fn uri_of(scheme: &str, address: &str) -> Result<Uri, http::Error> {
    Uri::builder().scheme(scheme).authority(address).path_and_query(CALL_LOCAL_STREAM).build()
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        *self.0.last_used.lock() = Instant::now();
    }
}

/// A place for one stream on a connection.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest,
    pub(crate) guard: StreamGuard,
}

impl Lease {
    /// The address of another call than those of apps on this connection.
    pub(crate) fn address_of(&self, path: Option<&PathAndQuery>) -> Uri {
        let mut parts = self.guard.0.uri.clone().into_parts();
        parts.path_and_query = Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        Uri::from_parts(parts).unwrap_or_default() // all three parts are there, which is all that makes an address
    }
}

/// All connections to other sidecars.
pub struct PeerPool {
    connections: Mutex<HashMap<String, Vec<Connection>>>,
    dials: Dials,
    /// Sidecars that are Pillions too, and have said so.
    direct: Mutex<HashMap<String, Direct>>,
    max_body_bytes: usize,
    /// `None` = plain connections.
    tls: Option<MutualTls>,
    log: Logger,
}

impl PeerPool {
    /// Makes an empty pool. `max_body_bytes` limits a received message; 0 = no limit.
    pub fn new(max_body_bytes: usize, log: Logger) -> Self {
        let (connections, dials, direct) = (Mutex::default(), Dials::default(), Mutex::default());
        Self { connections, dials, direct, max_body_bytes, tls: None, log }
    }

    /// The same over mutual TLS.
    #[must_use]
    pub fn secured(self, tls: Option<MutualTls>) -> Self {
        Self { tls, ..self }
    }

    /// Closes idle connections until cancelled.
    pub async fn run_purge(&self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PURGE_INTERVAL) => self.purge(IDLE_LIMIT),
            }
        }
    }

    fn purge(&self, idle: Duration) {
        let mut connections = self.connections.lock();
        connections.retain(|_, list| {
            list.retain(|connection| {
                connection.load.streams.load(Ordering::Relaxed) > 0 || connection.load.last_used.lock().elapsed() < idle
            });
            !list.is_empty()
        });
        // What was offered on a connection goes with it; the next call is offered it anew.
        self.direct.lock().retain(|address, _| connections.contains_key(address));
    }

    /// Forgets the connections to an address that take no call any more, so that the next call dials again. Those of other
    /// calls that noticed the same, and dialled already, stay.
    pub fn forget(&self, address: &str) {
        let mut connections = self.connections.lock();
        if let Some(list) = connections.get_mut(address) {
            list.retain(|connection| !connection.sender.is_closed());
            if list.is_empty() {
                connections.remove(address);
            }
        }
        drop(connections);
        self.direct.lock().remove(address);
    }

    /// Sends a request to `target`, the app behind the sidecar at `address`, and waits for the head of the answer.
    ///
    /// `request` is only read, its own body is not sent: `body` is. `extra` are headers in lower case added to the
    /// request's. A streamed body is sent in the background while the answer is awaited.
    ///
    /// # Errors
    /// `Unavailable` when the sidecar cannot be reached; else the status it answered with.
    pub(crate) async fn call(
        &self,
        target: &Target,
        address: &str,
        extra: &[(&'static str, &str)],
        request: &InvokeRequest,
        body: Body,
    ) -> Result<InvokeResponse, PeerError> {
        let whole = body.as_full();
        if let Some(bytes) = &whole
            && let Some(pool) = self.direct_to(target, address).filter(|pool| direct::fits(pool, request, bytes.len()))
        {
            return direct::call(&pool, address, extra, request, bytes).await;
        }
        // Boxed, so that plain calls do not carry its size.
        Box::pin(self.call_over_grpc(target, address, extra, request, body, whole)).await
    }

    fn direct_to(&self, target: &Target, address: &str) -> Option<Arc<HostPool>> {
        let direct = self.direct.lock();
        direct.get(address).filter(|direct| direct.with.is(target)).map(|direct| direct.pool.clone())
    }

    async fn call_over_grpc(
        &self,
        target: &Target,
        address: &str,
        extra: &[(&'static str, &str)],
        request: &InvokeRequest,
        mut body: Body,
        whole: Option<Bytes>,
    ) -> Result<InvokeResponse, PeerError> {
        let mut repeated = false;
        loop {
            let (sender, guard) = self.connection(target, address).await?;
            match self.send(sender, &guard, extra, request, &mut body, whole.as_ref()).await {
                Ok(response) => return self.read_response(target, address, response, guard).await,
                Err(error) if !repeated && whole.is_some() && was_not_taken(&error) => {
                    repeated = true;
                    self.forget(address);
                }
                Err(error) => return Err(unavailable(address, &error)),
            }
        }
    }

    async fn send(
        &self,
        mut sender: SendRequest,
        guard: &StreamGuard,
        extra: &[(&'static str, &str)],
        request: &InvokeRequest,
        body: &mut Body,
        whole: Option<&Bytes>,
    ) -> Result<http::Response<pillion_http2::RecvStream>, pillion_http2::Error> {
        let first = first_request_frame(request, extra, whole.filter(|bytes| !bytes.is_empty()));
        let mut head = guard.head();
        spans::put_metadata(head.headers_mut(), &request.headers);
        let (response, mut stream) = sender.send_request(head, false)?;
        stream.send_data(first, whole.is_some())?;
        if whole.is_none() {
            let (log, mut body) = (self.log.clone(), std::mem::take(body));
            tokio::spawn(async move {
                match send_payloads(&mut stream, &mut body, 0).await {
                    Ok(()) => {
                        let _ = stream.send_data(Bytes::new(), true); // a closed stream has its status already
                    }
                    Err(error) => {
                        log.debug(format_args!("request body not sent completely: {error}"));
                        stream.send_reset(pillion_http2::Reason::CANCEL);
                    }
                }
            });
        }
        response.await
    }

    async fn read_response(
        &self,
        target: &Target,
        address: &str,
        response: http::Response<pillion_http2::RecvStream>,
        guard: StreamGuard,
    ) -> Result<InvokeResponse, PeerError> {
        if !response.status().is_success() {
            let message = format!("unexpected HTTP status {} from the sidecar at {address}", response.status());
            return Err(PeerError::new(GrpcCode::from_http_status(response.status().as_u16()), message));
        }
        let (parts, receive) = response.into_parts();
        if let Some(offer) = parts.headers.get(direct::MARK)
            && self.direct_to(target, address).is_none()
        {
            self.offered(target, address, shortcut::told(offer.as_bytes()));
        }
        grpc_status(&parts.headers)?;
        let mut messages = MessageStream::new(receive, Direction::Response, self.max_body_bytes);
        let Some(message) = messages.message().await.map_err(|error| broken(&error))? else {
            messages.status().await.map_err(|error| broken(&error))?;
            return Err(PeerError::new(GrpcCode::Internal, "the sidecar answered without a message"));
        };
        let chunk = decode_response(message)?;
        let mut response = chunk.response.ok_or_else(|| {
            PeerError::new(GrpcCode::Internal, "response does not contain the required fields in the leading chunk")
        })?;
        messages.hold(guard);
        response.body = messages.into_body(chunk.payload).map_err(|error| broken(&error))?;
        Ok(response)
    }

    /// The sidecar at `address` is a Pillion too: remembered for the next calls.
    fn offered(&self, target: &Target, address: &str, shortcut: Option<PathBuf>) {
        let Some((host, port)) = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)))
        else {
            return;
        };
        let tls = match &self.tls {
            None => None,
            Some(tls) => match tls.client(admitted(target), direct::ALPN) {
                Ok(config) => Some(config),
                Err(error) => return self.log.debug(format_args!("no plain connections to {address}: {error}")),
            },
        };
        let with = Proven(tls.is_some().then(|| target.clone()));
        self.direct.lock().insert(address.to_owned(), Direct { pool: direct::pool(host, port, tls, shortcut), with });
    }

    /// A place on a connection to the sidecar of `target` at `address`, which is ready for a request.
    ///
    /// # Errors
    /// `Unavailable` when the sidecar cannot be reached.
    pub(crate) async fn lease(&self, target: &Target, address: &str) -> Result<Lease, PeerError> {
        let (sender, guard) = self.connection(target, address).await?;
        Ok(Lease { sender, guard })
    }

    async fn connection(&self, target: &Target, address: &str) -> Result<(SendRequest, StreamGuard), PeerError> {
        loop {
            if let Some((sender, guard)) = self.least_loaded(target, address) {
                match sender.ready().await {
                    Ok(sender) => return Ok((sender, guard)),
                    Err(error) => {
                        self.log.debug(format_args!("connection to the sidecar at {address} is gone: {error}"));
                        self.forget(address);
                    }
                }
            }
            // Boxed, so that the far more frequent calls that find a connection do not carry its size.
            if let Some(made) = Box::pin(self.new_connection(target, address)).await? {
                return Ok(made);
            }
        }
    }

    /// A place on a connection made for this call; `None` when another call had one made, which may have room for this one.
    async fn new_connection(
        &self,
        target: &Target,
        address: &str,
    ) -> Result<Option<(SendRequest, StreamGuard)>, PeerError> {
        let dialing = match self.dials.turn(target, address) {
            Turn::Others(waiting) => return waiting.outcome().await.map(|()| None),
            Turn::Mine(dialing) => dialing,
        };
        if self.has_room(target, address) {
            return Ok(None); // made between the look and the turn
        }
        let dialed = self.dial(target, address).await;
        dialing.ended(dialed.as_ref().map(drop).map_err(PeerError::clone));
        let (sender, guard) = dialed?;
        match sender.ready().await {
            Ok(sender) => Ok(Some((sender, guard))),
            Err(error) => Err(unavailable(address, &error)),
        }
    }

    /// A place on the connection of this loop that carries the fewest calls.
    fn least_loaded(&self, target: &Target, address: &str) -> Option<(SendRequest, StreamGuard)> {
        let connections = self.connections.lock();
        let best = with_room(connections.get(address)?, target)?;
        Some((best.sender.clone(), StreamGuard::new(&best.load)))
    }

    fn has_room(&self, target: &Target, address: &str) -> bool {
        self.connections.lock().get(address).is_some_and(|list| with_room(list, target).is_some())
    }

    async fn dial(&self, target: &Target, address: &str) -> Result<(SendRequest, StreamGuard), PeerError> {
        let refused = |error: &dyn fmt::Display| {
            PeerError::new(
                GrpcCode::Unavailable,
                format!("connection error: cannot reach the sidecar at {address}: {error}"),
            )
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| refused(&"no connection within 5s"))?
            .map_err(|error| refused(&error))?;
        for_messages(&stream).map_err(|error| refused(&error))?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = uri_of(scheme, address).map_err(|error| refused(&error))?;
        let (sender, with) = match &self.tls {
            None => (establish(stream).await.map_err(|error| refused(&error))?, Proven(None)),
            Some(tls) => {
                let config = tls.client(admitted(target), HTTP2).map_err(|error| refused(&error))?;
                let handshake = TlsConnector::from(config).connect(unnamed(), stream);
                let secured = tokio::time::timeout(CONNECT_TIMEOUT, handshake)
                    .await
                    .map_err(|_| refused(&"no TLS handshake within 5s"))?
                    .map_err(|error| refused(&format_args!("TLS handshake: {error}")))?;
                (establish(secured).await.map_err(|error| refused(&error))?, Proven(Some(target.clone())))
            }
        };
        let load = Arc::new(Load { uri, streams: AtomicUsize::new(0), last_used: Mutex::new(Instant::now()) });
        let guard = StreamGuard::new(&load);
        self.connections.lock().entry(address.to_owned()).or_default().push(Connection {
            sender: sender.clone(),
            load,
            with,
            on: Here::now(),
        });
        Ok((sender, guard))
    }
}

/// The connection of this loop that carries the fewest calls, if it can carry one more.
fn with_room<'a>(connections: &'a [Connection], target: &Target) -> Option<&'a Connection> {
    let here = Here::now();
    let usable = connections.iter().filter(|connection| connection.on == here && connection.with.is(target));
    let streams = |connection: &Connection| connection.load.streams.load(Ordering::Relaxed);
    usable.min_by_key(|connection| streams(connection)).filter(|best| streams(best) < STREAMS_PER_CONNECTION)
}

/// The identity a sidecar of the app shows, in any trust domain. *Source:* spec internals.md §5.7.
fn admitted(target: &Target) -> Peer {
    Peer::App { namespace: target.namespace.clone(), app_id: target.app_id.clone() }
}

/// Whether a connection that was closed in good order said that it never took the request. *Source:* RFC 9113 §6.8.
fn was_not_taken(error: &pillion_http2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(pillion_http2::Reason::NO_ERROR)
}

fn unavailable(address: &str, error: &pillion_http2::Error) -> PeerError {
    let code = match error.reason() {
        Some(pillion_http2::Reason::CANCEL) => GrpcCode::Cancelled,
        Some(pillion_http2::Reason::INTERNAL_ERROR) if error.is_remote() => GrpcCode::Internal,
        _ => GrpcCode::Unavailable,
    };
    PeerError::new(code, format!("the sidecar at {address} did not answer: {error}"))
}

fn broken(error: &BodyError) -> PeerError {
    match error.downcast_ref::<PeerError>() {
        Some(status) => status.clone(),
        None => PeerError::new(GrpcCode::Unavailable, format!("the answer broke off: {error}")),
    }
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
