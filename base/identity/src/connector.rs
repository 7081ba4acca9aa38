//! Connections to the services of the control plane, over mutual TLS.
//!
//! *Job:* what tonic calls when a channel has to connect, with errors that say whom and where. *Neighbours:* sentry is asked over it,
//! and the sidecar asks the operator. *Invariant:* `tls` decides who may answer; the name of the host does not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use pillion_security::SpiffeId;
use pillion_security::tls::unnamed;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tower_service::Service;

/// Opens connections to one service.
#[derive(Clone)]
pub struct Connector {
    service: &'static str,
    address: String,
    id: String,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// For the service that errors call `service`, at `address`, which shows `id`.
    #[must_use]
    pub fn new(service: &'static str, address: &str, id: &SpiffeId, tls: Arc<ClientConfig>) -> Self {
        Self { service, address: address.to_owned(), id: id.to_string(), tls }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { service, address, id, tls } = self.clone();
        Box::pin(async move {
            let told = |text: String| io::Error::other(text);
            let stream = TcpStream::connect(&address)
                .await
                .map_err(|error| told(format!("cannot connect to {service} at {address}: {error}")))?;
            let _ = stream.set_nodelay(true); // only slower without it
            let secured = TlsConnector::from(tls)
                .connect(unnamed(), stream)
                .await
                .map_err(|error| told(format!("TLS with {service} ({id}) at {address} failed: {error}")))?;
            Ok(TokioIo::new(secured))
        })
    }
}

/// The text of a [`Connector`] under those of the libraries.
#[must_use]
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The address in a target as the gRPC library of the original takes it.
#[must_use]
pub fn target(text: &str) -> &str {
    ["dns:///", "passthrough:///", "dns:", "passthrough:"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text)
}
