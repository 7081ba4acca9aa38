//! The small HTTP/1.1 client behind Kubernetes and JWKS: one request, one connection, a limit for time and size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use pillion_security::{Certificate, PrivateKey};

/// Largest answer. A list of pods of one name is far smaller.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How a server is reached over TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Name in the server's certificate when it is not the host of the URL.
    server_name: Option<String>,
}

/// The certificate and key a client shows.
pub(crate) type ClientIdentity = (Vec<Certificate>, PrivateKey);

impl Tls {
    /// Trusts the roots, or those of the machine; shows a certificate when it has one.
    pub(crate) fn new(
        roots: Option<&[Certificate]>,
        identity: Option<ClientIdentity>,
        server_name: Option<String>,
    ) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(roots) => {
                for root in roots {
                    let der = CertificateDer::from(root.der().to_vec());
                    store.add(der).map_err(|error| format!("a CA certificate cannot be used: {error}"))?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store);
        let config = match identity {
            Some((chain, key)) => {
                let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("the client certificate cannot be used: {error}"))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), server_name })
    }
}

/// Sends a request to an absolute URL and reads the whole answer.
///
/// # Errors
/// Says at which step the call failed.
pub(crate) async fn send(
    mut request: Request<Bytes>,
    tls: Option<&Tls>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), String> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or_else(|| format!("{uri} has no host"))?.to_owned();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let encrypted = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
    let host_header = HeaderValue::from_str(&authority).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, host_header);
    let call = async {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await;
        let stream = stream.map_err(|error| format!("cannot connect to {authority}: {error}"))?;
        if !encrypted {
            return exchange(stream, request).await;
        }
        let tls = tls.ok_or("no TLS was set up for an https URL")?;
        let name = tls.server_name.as_deref().unwrap_or(bare).to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls.config.clone()).connect(name, stream).await;
        exchange(stream.map_err(|error| format!("TLS with {authority}: {error}"))?, request).await
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result,
        Err(_) => Err(format!("{authority} did not answer within {} seconds", timeout.as_secs_f32())),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
) -> Result<(StatusCode, Bytes), String> {
    let failed = |error: hyper::Error| format!("HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = tokio::spawn(connection); // ends with `sender`
    let response = sender.send_request(request.map(Full::new)).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
    driver.abort();
    Ok((status, body.map_err(|error| format!("HTTP: {error}"))?.to_bytes()))
}
