//! Accepting connections and stopping without cutting calls off. *Source:* spec internals.md §7.3 for the keep-alive times.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pillion_runtime::corked::Corked;
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
        let (front, stop) = (self.clone(), cancel.clone());
        let connection = move |stream, _| front.clone().serve_connection(stream, stop.clone());
        let acceptor = Acceptor { api: "gRPC", tasks: &self.tasks, loops: self.loops(), log: self.log() };
        accept(listener, acceptor, &cancel, connection).await;
    }

    /// Serves one connection until its end; when cancelled, until the calls under way are answered.
    pub async fn serve_connection<S>(self, stream: S, cancel: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let log = self.log().clone();
        let header_bytes_max = self.header_bytes_max();
        let activity = Activity::new();
        let calls = activity.clone();
        let service = hyper::service::service_fn(move |request| {
            let (call, answer) = (calls.begin(), self.clone().answer(request));
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
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { tokio::select! { () = cancel.cancelled() => {} () = activity.idle(IDLE_LIMIT) => {} } } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            log.debug(format_args!("connection on the gRPC API ended: {error}"));
        }
    }
}
