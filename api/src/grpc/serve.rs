//! Accepting connections and stopping without cutting calls off. *Source:* spec internals.md §7.3 for the keep-alive times.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use pillion_runtime::corked::Corked;
use pillion_runtime::succession::{Seat, Server as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::GrpcFront;
use super::activity::Activity;
use crate::accept::{Acceptor, Listener, accept};

const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without calls for this long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(180);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

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
    let header_bytes_max = seat.server.header_bytes_max(); // the same for all successors, as it comes from a flag
    let mut cancel = seat.cancel.clone();
    let seat = Arc::new(Mutex::new(seat));
    let activity = Activity::new();
    let (calls, answering) = (activity.clone(), seat.clone());
    let service = hyper::service::service_fn(move |request| {
        let (front, token) = {
            let mut seat = answering.lock();
            seat.move_on();
            (seat.server.clone(), seat.server.tasks().token())
        };
        let (call, answer) = (calls.begin(token), front.answer(request));
        async move { answer.await.map(|response| response.map(|body| call.follow(body))) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_bytes_max)
        .auto_date_header(false) // no gRPC server sends one
        .max_concurrent_streams(None) // as in the original; hyper's own limit is 200
        .serve_connection(TokioIo::new(Corked::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let mut idle = std::pin::pin!(activity.idle(IDLE_LIMIT));
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = cancel.cancelled() => {
                let mut seat = seat.lock();
                seat.move_on(); // or a call has
                if !seat.cancel.is_cancelled() {
                    cancel = seat.cancel.clone();
                    continue;
                }
            }
            () = idle.as_mut() => {}
        }
        connection.as_mut().graceful_shutdown();
        break connection.await;
    };
    if let Err(error) = ended {
        log.debug(format_args!("connection on the gRPC API ended: {error}"));
    }
}
