//! A small HTTP client for collectors: one kept connection, HTTP/1.1 or HTTP/2, in clear text or over TLS.
//!
//! *Invariant:* a kept connection that the collector has closed meanwhile is replaced once per request, without a word.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read; collectors answer with a few bytes. What is longer is not looked at.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Which certificates of a collector are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those the system trusts.
    #[default]
    System,
    /// Those signed by the certificates of this PEM text.
    Pem(Vec<u8>),
}

/// An answer of a collector.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection to one collector, made when it is needed.
pub(crate) struct Client {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    http2: bool,
    sender: Option<Sender>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}:{})", self.host, self.port)
    }
}

impl Client {
    /// For the host of `uri`; its scheme says whether there is TLS. Reads the system's roots when `trust` says so.
    ///
    /// # Errors
    /// No host, an unknown scheme, or certificates that are not usable.
    pub(crate) fn new(uri: &Uri, http2: bool, trust: &Trust) -> Result<Self, String> {
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("{uri}: no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{uri}: expected a URL that begins with http:// or https://")),
        };
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|error| format!("{uri}: {error}"))?;
            Some((connector(http2, trust)?, name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host, port, tls, http2, sender: None })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        if let Some(sender) = self.sender.take()
            && let Ok(answer) = self.exchange(sender, request.clone()).await
        {
            return Ok(answer);
        }
        let sender = self.connect().await?;
        self.exchange(sender, request).await
    }

    async fn exchange(&mut self, mut sender: Sender, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let response = match &mut sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|error| chain(&error))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|error| chain(&error))?;
                sender.send_request(request).await
            }
        };
        let (parts, body) = response.map_err(|error| chain(&error))?.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        let Ok(body) = Limited::new(body, ANSWER_LIMIT).collect().await else {
            // The status says what became of the request: sending it again would tell everything twice.
            return Ok(Answer { status, headers, trailers: HeaderMap::new(), body: Bytes::new() });
        };
        self.sender = Some(sender);
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer { status, headers, trailers, body: body.to_bytes() })
    }

    async fn connect(&self) -> Result<Sender, String> {
        let connected = async {
            let stream =
                TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
            let _ = stream.set_nodelay(true); // only slower without it
            match &self.tls {
                None => self.handshake(stream).await,
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await.map_err(|error| error.to_string())?;
                    self.handshake(stream).await
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The tasks end with their connections; those end when the client is dropped.
        if self.http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
            tokio::spawn(connection);
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
    }
}

fn connector(http2: bool, trust: &Trust) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Trust::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| format!("the certificate is not PEM: {error}"))?;
                roots.add(certificate).map_err(|error| format!("a certificate is not usable: {error}"))?;
            }
        }
    }
    if roots.is_empty() {
        return Err("no root certificates found (install the package ca-certificates, or switch TLS off)".to_owned());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// An error with what is behind it; hyper's own texts say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
