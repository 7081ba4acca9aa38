//! Accepting connections and stopping without cutting calls off. *Source:* spec http_api.md §1 "Server parameters".
//!
//! Each connection begins with the server for plain HTTP/1.1 requests; at the first request that is not plain, hyper goes on
//! with it. There the original's 10 s for the head of a request are left out: hyper counts them from the end of the last
//! answer, so that an idle kept-alive connection of an SDK would be closed under its user.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Version};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::http1::server::{Connection, End, Rewound, serve_on};
use pillion_runtime::succession::{Seat, Server as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::h2c::{self, Slot};
use super::head::{self, First};
use super::respond::HttpResponse;
use super::{HttpFront, malformed};
use crate::accept::{Acceptor, Listener, accept};

/// hyper's smallest buffer; the original too lets heads be 4 KiB larger than `--read-buffer-size` says.
const BUFFER_BYTES_MIN: usize = 8192;
const HEAD_SLACK: usize = 4096;
/// Headers of one request, unless the first one has more; Go counts bytes only.
const HEADERS_MAX: usize = 256;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How large the head of a request may be.
#[derive(Clone, Copy)]
struct HeadLimits {
    bytes: usize,
    headers: usize,
}

impl HttpFront {
    /// Serves a TCP listener until cancelled, then lets the calls under way on its connections finish.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) {
        self.accept(listener, cancel).await;
    }

    /// Serves a Unix socket, like [`Self::serve`]. The socket file is the caller's to remove.
    pub async fn serve_unix(self, listener: UnixListener, cancel: CancellationToken) {
        self.accept(listener, cancel).await;
    }

    async fn accept<L: Listener>(self, listener: L, cancel: CancellationToken) {
        let acceptor = Acceptor { api: "HTTP", server: &self, loops: self.loops(), log: self.log() };
        accept(listener, acceptor, &cancel, serve_connection).await;
    }

    /// Serves the rest of a connection that is more than plain HTTP/1.1, or no HTTP at all.
    async fn go_on<S>(&self, rest: Rewound<S>, peer: Option<SocketAddr>, buffer: usize) -> Result<(), BodyError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let first = tokio::select! {
            biased; // a request that is here is answered
            first = head::read(rest, buffer) => first?,
            () = self.idle().cancelled() => First::Gone,
        };
        let (io, headers) = match first {
            First::Head(rest, headers) => (TokioIo::new(rest), HEADERS_MAX.max(headers)),
            First::Refused(refusal, stream) => return Ok(head::refuse(stream, refusal).await?),
            First::Gone => return Ok(()),
        };
        let limits = HeadLimits { bytes: buffer, headers };
        if self.allows_http2() {
            return self.go_on_with_http2(io, peer, limits).await;
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits.bytes).max_headers(limits.headers);
        let service = service_fn(|request: Request<Incoming>| {
            let front = self.clone();
            async move { Ok::<_, Infallible>(Box::pin(front.answer_general(request, peer)).await) }
        });
        let connection = builder.serve_connection(io, service);
        Ok(until_stopped(connection, self.idle(), |connection| connection.graceful_shutdown()).await?)
    }

    /// HTTP/1.1 or HTTP/2, whichever the client begins with, or the one after the other.
    async fn go_on_with_http2<I>(&self, io: I, peer: Option<SocketAddr>, limits: HeadLimits) -> Result<(), BodyError>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(limits.bytes).max_headers(limits.headers);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let slot = Slot::default();
        let service = service_fn(|request| {
            let (front, slot) = (self.clone(), slot.clone());
            async move { Ok::<_, Infallible>(Box::pin(front.answer_or_upgrade(request, peer, &slot)).await) }
        });
        let connection = builder.serve_connection_with_upgrades(io, service);
        until_stopped(connection, self.idle(), |connection| connection.graceful_shutdown()).await?;
        let upgrade = slot.lock().take();
        let Some(upgrade) = upgrade else { return Ok(()) };
        let (rest, first) = upgrade.open(self.idle()).await?;
        let service = service_fn(|request| {
            let (front, request) = (self.clone(), first.instead_of(request));
            async move { Ok::<_, Infallible>(Box::pin(front.answer_on_stream(request, peer)).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(rest), service);
        until_stopped(connection, self.idle(), |connection| connection.graceful_shutdown()).await
    }

    /// Answers a request, or with 101 when it offers HTTP/2.
    async fn answer_or_upgrade(
        &self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
        slot: &Slot,
    ) -> HttpResponse {
        match h2c::offer(&request, self.max_body_bytes()) {
            // A client that is told to go on now would soon be told to stop.
            Some(settings) if !self.idle().is_cancelled() => h2c::accept(request, settings, slot).await,
            _ if request.version() == Version::HTTP_2 => self.answer_on_stream(request.map(Body::from), peer).await,
            _ => self.answer_general(request, peer).await,
        }
    }

    /// Answers a request that hyper has read.
    async fn answer_general(&self, request: Request<Incoming>, peer: Option<SocketAddr>) -> HttpResponse {
        match malformed::early_general(&request) {
            Some(response) => response,
            None => self.answer(request.map(Body::from), peer).await,
        }
    }

    /// Answers a request over HTTP/2, where hyper leaves it to us that no body follows the head of an answer to HEAD.
    async fn answer_on_stream(&self, request: Request<Body>, peer: Option<SocketAddr>) -> HttpResponse {
        let is_head = request.method() == Method::HEAD;
        let mut response = self.answer(request, peer).await;
        if is_head {
            // The length of what is left out is told when it is known, as over HTTP/1.1.
            if let Some(length @ 1..) = std::mem::take(response.body_mut()).known_length() {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        response
    }
}

/// Serves one connection until its end. When the front is told to end, its successor goes on; without one the connection ends after the
/// call under way.
async fn serve_connection<S>(mut seat: Seat<HttpFront>, stream: S, peer: Option<SocketAddr>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Is the same for all successors, as it comes from flags.
    let buffer = BUFFER_BYTES_MIN.max(seat.server.read_buffer_bytes() + HEAD_SLACK);
    let mut connection = Connection::new(stream);
    loop {
        let front = &seat.server;
        let is_followed = || front.succession().is_settled();
        let answer = |request| front.answer(request, peer);
        let ended = match serve_on(connection, buffer, &seat.cancel, &is_followed, answer).await {
            Ok(End::Stopped(open)) => {
                connection = open;
                seat.move_on();
                continue;
            }
            Ok(End::Closed) => Ok(()),
            // Boxed, so that the far more frequent plain connections do not carry its size.
            Ok(End::Other(rest)) => Box::pin(front.go_on(rest, peer, buffer)).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            front.log().debug(format_args!("connection on the HTTP API ended: {error}"));
        }
        return;
    }
}

/// Runs a connection to its end; when cancelled, `stop` says that the calls under way are the last ones.
async fn until_stopped<C: Future>(
    connection: C,
    cancel: &CancellationToken,
    stop: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            stop(connection.as_mut());
            connection.await
        }
    }
}
