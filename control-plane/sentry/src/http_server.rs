//! The small HTTP/1.1 server behind health, metrics and OIDC: whole answers, optional TLS.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_core::log::Logger;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// *Source:* the original's limit for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections of one listener at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// An answer with its whole body.
pub(crate) type Answer = Response<Bytes>;

/// Gives the answer to a request; the body of the request is not read.
pub(crate) type Handler = Arc<dyn Fn(&Request<Incoming>) -> Answer + Send + Sync>;

/// A plain text answer.
pub(crate) fn answer(status: StatusCode, text: &str) -> Answer {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Listens on an address; an empty one means all addresses of the machine.
pub(crate) async fn listen(address: &str, port: u16, what: &str) -> io::Result<TcpListener> {
    let listener = match address {
        "" => match TcpListener::bind(("::", port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", port)).await // a machine without IPv6
            }
            other => other,
        },
        address => bind_name(address, port).await,
    };
    listener.map_err(|error| {
        let place = if address.is_empty() { "all addresses" } else { address };
        io::Error::new(error.kind(), format!("cannot listen for {what} on {place}, port {port}: {error}"))
    })
}

/// Listens on the address of a name, on its first IPv4 address when it has one: `localhost` is 127.0.0.1.
async fn bind_name(name: &str, port: u16) -> io::Result<TcpListener> {
    let addresses: Vec<_> = tokio::net::lookup_host((name, port)).await?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let chosen = chosen.ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"))?;
    TcpListener::bind(chosen).await
}

/// Serves until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    log: Logger,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            log.warn("cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(Ok(place)) = cancel.run_until_cancelled(places.clone().acquire_owned()).await else { return };
        let (cancel, handler, tls) = (cancel.clone(), handler.clone(), tls.clone());
        tokio::spawn(async move {
            let connection = async move {
                match tls {
                    None => one(stream, handler).await,
                    Some(tls) => {
                        // A caller that does not speak our TLS is no event.
                        if let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                            one(stream, handler).await;
                        }
                    }
                }
            };
            cancel.run_until_cancelled(connection).await;
            drop(place);
        });
    }
}

async fn one(stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler) {
    let service = service_fn(move |request| {
        let response = handler(&request).map(Full::new);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await; // a caller that hangs up early is no event
}
