//! How a server is trusted, and what is shown to it.

use std::io;
use std::sync::Arc;

use pillion_security::{Certificate, PrivateKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::Error;
use crate::exchange::Target;

/// What TLS is made from.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The roots to trust; those of the system when `None`.
    pub roots: Option<Vec<Certificate>>,
    /// The chain, leaf first, and the key to show when asked.
    pub identity: Option<(Vec<Certificate>, PrivateKey)>,
    /// Name in the server's certificate when it is not the host of the URL.
    pub server_name: Option<String>,
    /// Takes any certificate, so that anybody in between can read and change what is said.
    pub is_unverified: bool,
}

/// Ready to use; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Tls {
    /// Reads the system's roots when no others are given, which blocks for some milliseconds.
    ///
    /// # Errors
    /// Says which certificate or key cannot be used, or that there are no roots.
    pub fn new(options: TlsOptions) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let unusable = |what: &str, error: &dyn std::fmt::Display| Error::Certificate(format!("{what}: {error}"));
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?;
        let builder = if options.is_unverified {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(roots(options.roots.as_deref())?)
        };
        let config = match options.identity {
            Some((chain, key)) => {
                let chain = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|error| unusable("the client certificate cannot be used", &error))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), server_name: options.server_name })
    }

    /// Trusts the system's roots.
    pub(crate) async fn system() -> Result<Self, Error> {
        let made = tokio::task::spawn_blocking(|| Self::new(TlsOptions::default())).await;
        made.map_err(|error| Error::Certificate(format!("reading the system's root certificates: {error}")))?
    }

    pub(crate) async fn connect(&self, target: &Target, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let failed = |error: io::Error| Error::Tls(target.authority.clone(), error);
        let name = self.server_name.as_deref().unwrap_or(&target.host).to_owned();
        let name =
            ServerName::try_from(name).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        TlsConnector::from(self.config.clone()).connect(name, stream).await.map_err(failed)
    }
}

fn roots(given: Option<&[Certificate]>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match given {
        Some(roots) => {
            for root in roots {
                let added = store.add(CertificateDer::from(root.der().to_vec()));
                added.map_err(|error| Error::Certificate(format!("a CA certificate cannot be used: {error}")))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(Error::Roots);
            }
        }
    }
    Ok(store)
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
