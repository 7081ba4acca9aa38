//! Accepting connections and stopping without cutting calls off. *Source:* spec http_api.md §1 "Server parameters".
//!
//! Each connection begins with the server for plain HTTP/1.1 requests; at the first request that is not plain, hyper goes on
//! with it. There the original's 10 s for the head of a request are left out: hyper counts them from the end of the last
//! answer, so that an idle kept-alive connection of an SDK would be closed under its user.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::http1::server::{End, Rewound, serve_until};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::HttpFront;
use crate::accept::{Listener, accept};

/// hyper's smallest buffer; the original too lets heads be 4 KiB larger than `--read-buffer-size` says.
const BUFFER_BYTES_MIN: usize = 8192;
const HEAD_SLACK: usize = 4096;
/// Headers of one request; Go counts bytes only.
const HEADERS_MAX: usize = 256;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

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
        let connection = |stream, peer| self.clone().serve_connection(stream, peer, cancel.clone());
        accept(listener, "HTTP", &self.tasks, self.log(), &cancel, connection).await;
    }

    /// Serves one connection until its end; when cancelled, until the calls under way are answered.
    async fn serve_connection<S>(self, stream: S, peer: Option<SocketAddr>, cancel: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let buffer = BUFFER_BYTES_MIN.max(self.read_buffer_bytes() + HEAD_SLACK);
        let ended = match serve_until(stream, buffer, &cancel, self.idle(), |request| self.answer(request, peer)).await
        {
            Ok(End::Closed) => Ok(()),
            // Boxed, so that the far more frequent plain connections do not carry its size.
            Ok(End::Other(rest)) => Box::pin(self.go_on(rest, peer, buffer)).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            self.log().debug(format_args!("connection on the HTTP API ended: {error}"));
        }
    }

    /// Serves the rest of a connection that is more than plain HTTP/1.1.
    async fn go_on<S>(&self, rest: Rewound<S>, peer: Option<SocketAddr>, buffer: usize) -> Result<(), BodyError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, cancel) = (TokioIo::new(rest), self.idle());
        let front = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(Box::pin(front.answer(request.map(Body::from), peer)).await) }
        });
        if self.allows_http2() {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().max_buf_size(buffer).max_headers(HEADERS_MAX);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_header_list_size(u32::try_from(buffer).unwrap_or(u32::MAX))
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = cancel.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(buffer).max_headers(HEADERS_MAX);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = cancel.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            ended.map_err(Into::into)
        }
    }
}
