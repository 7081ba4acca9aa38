//! Accepting connections and stopping without cutting calls off. *Source:* spec internals.md §7.3 for the keep-alive times.

use std::sync::Arc;
use std::time::Duration;

use pillion_http2::server::Connection;
use pillion_runtime::http2::alive::{PING_INTERVAL, PING_TIMEOUT, listen, until_silent};
use pillion_runtime::http2::stream::{StreamBody, answer};
use pillion_runtime::http2::{CONNECTION_WINDOW, STREAM_WINDOW};
use pillion_runtime::succession::{Seat, Server as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::GrpcFront;
use super::activity::Activity;
use crate::accept::{Acceptor, Listener, accept};

/// Time for the first bytes of HTTP/2. *Source:* the gRPC library of the original.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(120);
/// A connection without calls for this long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(180);

impl GrpcFront {
    /// Serves a TCP listener until cancelled, then lets the calls under way on its connections finish.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) {
        self.accept(listener, cancel).await;
    }

    /// Serves a Unix socket, like [`Self::serve`]. The socket file is the caller's to remove.
    pub async fn serve_unix(self, listener: UnixListener, cancel: CancellationToken) {
        self.accept(listener, cancel).await;
    }

    async fn accept<L: Listener>(self, listener: L, cancel: CancellationToken) {
        let acceptor = Acceptor { api: "gRPC", server: &self, loops: self.loops(), log: self.log() };
        accept(listener, acceptor, &cancel, |seat, stream, _| serve_seated(seat, stream)).await;
    }

    /// Serves one connection until its end; when cancelled, until the calls under way are answered.
    pub async fn serve_connection<S>(self, stream: S, cancel: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve_seated(Seat::new(self, cancel), stream).await;
    }
}

/// Serves one connection until its end. When the front is told to end, its successor takes the next calls; without one the connection
/// ends after the calls under way.
async fn serve_seated<S>(seat: Seat<GrpcFront>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let log = seat.server.log().clone();
    if let Err(error) = serve_calls(seat, stream).await {
        log.debug(format_args!("connection on the gRPC API ended: {error}"));
    }
}

async fn serve_calls<S>(mut seat: Seat<GrpcFront>, stream: S) -> Result<(), pillion_http2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, heard) = listen(stream);
    let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(stream, seat.server.header_bytes_max()));
    let Some(Ok(handshake)) = seat.until_stopped(handshake).await else { return Ok(()) };
    let mut connection = handshake?;
    let mut front = Arc::new(seat.server.clone()); // shared by the calls
    let activity = Activity::new();
    let mut idle = std::pin::pin!(activity.idle(IDLE_LIMIT));
    let mut silent = std::pin::pin!(until_silent(connection.ping_pong(), heard, PING_INTERVAL, PING_TIMEOUT));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            next = connection.accept() => {
                let Some(call) = next else { return Ok(()) };
                let (request, respond) = call?;
                if seat.move_on() {
                    front = Arc::new(seat.server.clone());
                }
                let (front, under_way) = (front.clone(), activity.begin(seat.server.tasks().token()));
                tokio::spawn(async move {
                    let request = request.map(|receive| StreamBody::wrap(receive, ()));
                    answer(front.answer(request), respond).await;
                    drop(under_way);
                });
                continue;
            }
            () = seat.cancel.cancelled(), if !draining => {
                if seat.move_on() {
                    front = Arc::new(seat.server.clone());
                    continue;
                }
            }
            () = idle.as_mut(), if !draining => {}
            () = silent.as_mut() => return Ok(()),
        }
        draining = true;
        connection.graceful_shutdown();
    }
}

async fn handshake<S>(stream: S, header_bytes_max: u32) -> Result<Connection<S>, pillion_http2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = pillion_http2::server::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.max_header_list_size(header_bytes_max).handshake(stream).await
}
