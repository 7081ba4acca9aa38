//! Accepting the connections of a front until it is stopped.
//!
//! *Job:* the loop both fronts have in common, for ports and for Unix sockets. *Neighbours:* `http::serve` and `grpc::serve`
//! say what is done with a connection. *Invariant:* it returns when the last connection has ended or gone on with a successor.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pillion_core::log::Logger;
use pillion_runtime::loops::Loops;
use pillion_runtime::socket::for_messages;
use pillion_runtime::succession::{Seat, Server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Rest after a failed accept, which is mostly a lack of open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that connections come from.
pub(crate) trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A connection that belongs to no event loop yet.
    type Loose: Send + 'static;

    /// The next connection, and where it comes from when that is an address. *Cancel safe.*
    fn next(&self) -> impl Future<Output = io::Result<(Self::Loose, Option<SocketAddr>)>> + Send;

    /// Takes a connection to the event loop of the caller.
    fn enter(loose: Self::Loose) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Loose = std::net::TcpStream;

    async fn next(&self) -> io::Result<(std::net::TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = self.accept().await?;
        let _ = for_messages(&stream); // only slower without it
        Ok((stream.into_std()?, Some(peer)))
    }

    fn enter(loose: std::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(loose)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Loose = std::os::unix::net::UnixStream;

    async fn next(&self) -> io::Result<(std::os::unix::net::UnixStream, Option<SocketAddr>)> {
        let (stream, _) = self.accept().await?;
        Ok((stream.into_std()?, None))
    }

    fn enter(loose: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        UnixStream::from_std(loose)
    }
}

/// What connections are accepted with.
pub(crate) struct Acceptor<'a, V> {
    /// For the log.
    pub(crate) api: &'static str,
    pub(crate) server: &'a V,
    pub(crate) loops: &'a Loops,
    pub(crate) log: &'a Logger,
}

/// Spawns `serve` for each connection until cancelled, then waits for all of them.
pub(crate) async fn accept<V, L, F>(
    listener: L,
    acceptor: Acceptor<'_, V>,
    cancel: &CancellationToken,
    serve: impl Fn(Seat<V>, L::Stream, Option<SocketAddr>) -> F + Clone + Send + 'static,
) where
    V: Server + Send + Sync + 'static,
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let Acceptor { api, server, loops, log } = acceptor;
    while let Some(accepted) = cancel.run_until_cancelled(listener.next()).await {
        match accepted {
            Ok((loose, peer)) => {
                let (seat, serve, log) = (Seat::new(server.clone(), cancel.clone()), serve.clone(), log.clone());
                loops.spawn(move || async move {
                    match L::enter(loose) {
                        Ok(stream) => serve(seat, stream, peer).await,
                        Err(error) => log.warn(format_args!("cannot serve a connection on the {api} API: {error}")),
                    }
                });
            }
            Err(error) => {
                log.warn(format_args!("cannot accept a connection on the {api} API: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    server.tasks().close();
    server.tasks().wait().await;
}
