//! Accepting the connections of a front until it is stopped.
//!
//! *Job:* the loop both fronts have in common, for ports and for Unix sockets. *Neighbours:* `http::serve` and `grpc::serve`
//! say what is done with a connection. *Invariant:* it returns when the last connection has ended.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pillion_core::log::Logger;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Rest after a failed accept, which is mostly a lack of open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that connections come from.
pub(crate) trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and where it comes from when that is an address. *Cancel safe.*
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = self.accept().await?;
        let _ = stream.set_nodelay(true); // only slower without it
        Ok((stream, Some(peer)))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// Spawns `serve` for each connection on `tasks` until cancelled, then waits for all of them. `api` is for the log.
pub(crate) async fn accept<L, F>(
    listener: L,
    api: &str,
    tasks: &TaskTracker,
    log: &Logger,
    cancel: &CancellationToken,
    serve: impl Fn(L::Stream, Option<SocketAddr>) -> F,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(accepted) = cancel.run_until_cancelled(listener.next()).await {
        match accepted {
            Ok((stream, peer)) => drop(tasks.spawn(serve(stream, peer))),
            Err(error) => {
                log.warn(format_args!("cannot accept a connection on the {api} API: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}
