//! One connection of another sidecar, from its first bytes to its end.
//!
//! *Job:* handshake, telling the protocols apart, taking calls. *Neighbours:* the [server](super::InternalServer) accepts, and answers the
//! calls. *Invariant:* when the server is told to end, the connection goes on with its successor; callers notice nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pillion_core::log::Logger;
use pillion_http2::server::Connection;
use pillion_runtime::body::BodyError;
use pillion_runtime::http1::server::{self, End, serve_on};
use pillion_runtime::http2::{CONNECTION_WINDOW, STREAM_WINDOW};
use pillion_runtime::socket::{UnixSocket, for_messages};
use pillion_runtime::succession::Seat;
use pillion_security::mutual::peer_id;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{InternalServer, PeerId};
use crate::direct;
use crate::lingering;

/// The first byte of a TLS client.
const TLS_HANDSHAKE: u8 = 22;
/// Time for the handshake of TLS. *Source:* the gRPC library of the original allows 120 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection of the port until its end; the functions below are its parts. When the server is told to end, its successor
/// takes the next calls.
pub(super) async fn serve_tcp(
    seat: Seat<InternalServer>,
    stream: io::Result<std::net::TcpStream>,
) -> Result<(), BodyError> {
    let stream = TcpStream::from_std(stream?)?;
    let _ = for_messages(&stream); // only slower without it
    match seat.server.tls.clone() {
        None => accepted(seat, stream).await,
        Some(tls) => accepted_secured(seat, tls, stream).await,
    }
}

pub(super) async fn serve_unix(
    seat: Seat<InternalServer>,
    stream: io::Result<std::os::unix::net::UnixStream>,
) -> Result<(), BodyError> {
    let stream = UnixSocket::new(stream?)?;
    match seat.server.tls.clone() {
        None => Ok(serve_direct(seat, stream, None).await?),
        Some(tls) => accepted_secured(seat, tls, stream).await,
    }
}

pub(super) fn log_end(log: &Logger, ended: Result<(), BodyError>) {
    if let Err(error) = ended {
        log.debug(format_args!("connection of another sidecar ended: {error}"));
    }
}

async fn accepted(mut seat: Seat<InternalServer>, stream: TcpStream) -> Result<(), BodyError> {
    match seat.until_stopped(begins_as_grpc(&stream)).await {
        Some(true) => Ok(serve_grpc(seat, stream, None).await?),
        Some(false) => Ok(serve_direct(seat, stream, None).await?),
        None => Ok(()), // stopped before anything was asked
    }
}

async fn accepted_secured<S>(mut seat: Seat<InternalServer>, tls: TlsAcceptor, stream: S) -> Result<(), BodyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let Some(done) = seat.until_stopped(handshake).await else { return Ok(()) };
    let stream = Box::new(done.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??);
    let session = stream.get_ref().1;
    let peer = peer_id(session.peer_certificates());
    if peer.is_none() {
        // The handshake asks for an identity; without one access control would take the caller for a plain one.
        return Err("the certificate of the caller has no identity".into());
    }
    if session.alpn_protocol() == Some(direct::ALPN) {
        Ok(serve_direct(seat, stream, peer).await?)
    } else {
        Ok(serve_grpc(seat, stream, peer).await?)
    }
}

async fn serve_grpc<S>(mut seat: Seat<InternalServer>, stream: S, peer: PeerId) -> Result<(), pillion_http2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, returned) = lingering::lend(stream);
    let mut connection: Connection<_> = pillion_http2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await?;
    let mut draining = false;
    let mut server = Arc::new(seat.server.clone()); // shared by the calls
    loop {
        let next = tokio::select! {
            () = seat.cancel.cancelled(), if !draining => None,
            next = connection.accept() => Some(next),
        };
        match next {
            None if seat.move_on() => server = Arc::new(seat.server.clone()),
            None => {
                draining = true;
                connection.graceful_shutdown();
            }
            Some(None) => {
                drop(connection);
                if draining {
                    lingering::read_to_end(returned).await;
                }
                return Ok(());
            }
            Some(Some(call)) => {
                let (request, respond) = call?;
                let (server, peer) = (server.clone(), peer.clone());
                seat.server.tasks.spawn(async move { server.handle(request, respond, peer.as_deref()).await });
            }
        }
    }
}

/// Serves calls of another Pillion that need no gRPC; see [`direct`]. What is no such call ends the connection.
async fn serve_direct<S>(mut seat: Seat<InternalServer>, stream: S, peer: PeerId) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = server::Connection::new(stream);
    loop {
        let is_followed = || seat.server.succession.is_settled();
        let answer = |request| seat.server.answer_direct(request, peer.as_deref());
        match serve_on(connection, direct::HEAD_BYTES_MAX, &seat.cancel, &is_followed, answer).await? {
            End::Stopped(open) => connection = open,
            End::Closed => return Ok(()),
            End::Other(_) => return Err(io::Error::other("not a call of another sidecar")),
        }
        seat.move_on();
    }
}

/// Whether a connection begins with the first bytes of HTTP/2, or of TLS: a client that expects TLS here understands from
/// the first bytes of an HTTP/2 server what is wrong, as with the original. Only looks at them.
async fn begins_as_grpc(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    // The preface comes in one packet; a client that sends less than three bytes speaks neither protocol.
    matches!(stream.peek(&mut first).await, Ok(3)) && (first == *b"PRI" || first[0] == TLS_HANDSHAKE)
}
