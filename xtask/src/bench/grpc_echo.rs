//! The callee of the gRPC bench: answers every unary call with its own message, on one thread.
//!
//! Like [`echo`](super::echo) it runs in its own process (`xtask bench-echo-grpc`), prints its port and ends with its
//! standard input. The sidecar's own services (`dapr.…`) are UNIMPLEMENTED, as in an app that wants nothing of them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener as StdListener;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use pillion_http2::server::SendResponse;
use pillion_http2::{Reason, RecvStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::socket::unpaced;

const WINDOW: u32 = 1 << 20;

/// Serves until standard input ends.
///
/// # Errors
/// When the listener cannot be made.
pub(crate) fn run() -> Result<()> {
    let listener = StdListener::bind("127.0.0.1:0").context("binding the gRPC echo app")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // ended either way
        std::process::exit(0);
    });
    serve_forever(listener)
}

/// Serves on the calling thread until accepting fails.
///
/// # Errors
/// When the listener is of no use.
pub(crate) fn serve_forever(listener: StdListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await.context("accepting a connection")?;
            unpaced(&stream)?;
            tokio::task::spawn_local(connection(stream));
        }
    })
}

async fn connection(stream: TcpStream) {
    let mut server = pillion_http2::server::Builder::new();
    server.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let Ok(mut connection) = server.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(answer(request, respond));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse) {
    let known = !request.uri().path().starts_with("/dapr.");
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if !known {
        head.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        let _ = respond.send_response(head, true); // the caller has gone
        return;
    }
    let Some(message) = read(request.into_body()).await else { return respond.send_reset(Reason::CANCEL) };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    if let Ok(mut stream) = respond.send_response(head, false)
        && stream.send_data(message, false).is_ok()
    {
        let _ = stream.send_trailers(trailers); // the caller has gone
    }
}

/// The whole body; one chunk is passed on as it is.
async fn read(mut body: RecvStream) -> Option<Bytes> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len()); // fails only on a closed stream
        if first.is_empty() {
            first = chunk;
        } else {
            rest.extend_from_slice(&chunk);
        }
    }
    Some(if rest.is_empty() { first } else { [first, rest.freeze()].concat().into() })
}
