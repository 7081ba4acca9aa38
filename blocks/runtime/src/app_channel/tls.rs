//! TLS towards apps and external hosts.
//!
//! *Invariant:* settings are parsed once, before the first connection; only the own app goes unchecked.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
};

/// How a host is spoken to over TLS: which certificates it may show, and which one is shown to it. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// Whether the certificate has to carry the name of the host.
    by_name: bool,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient") // holds a private key
    }
}

impl TlsClient {
    /// For hosts without settings: certificates are checked against the system's roots. Reads files.
    ///
    /// # Errors
    /// No roots are found.
    pub(super) fn system() -> Result<Self, String> {
        Self::new(None, None)
    }

    /// For the own app: the original does not check its certificate. *Source:* spec app_channel.md §1.
    pub(super) fn unverified() -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            builder(provider.clone())?.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
        Ok(Self::named(Arc::new(builder.with_no_client_auth())))
    }

    /// As [`Self::unverified`], for HTTP/2 alone.
    pub(super) fn unverified_http2() -> Result<Self, String> {
        let mut client = Self::unverified()?;
        Arc::make_mut(&mut client.config).alpn_protocols = vec![b"h2".to_vec()];
        Ok(client)
    }

    /// For an HTTPEndpoint with `spec.clientTLS`: `root_ca` takes the place of the system's roots, `identity` is the client's
    /// certificate chain and its private key; all in PEM. Reads files when `root_ca` is absent.
    ///
    /// # Errors
    /// A text that names the field whose PEM is not usable.
    pub fn new(root_ca: Option<&str>, identity: Option<(&str, &str)>) -> Result<Self, String> {
        let roots = match root_ca {
            Some(pem) => roots_of(pem)?,
            None => system_roots()?,
        };
        let builder = builder(Arc::new(ring::default_provider()))?.with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates("certificate", chain)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| format!("privateKey: no private key in PEM: {error}"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("certificate and privateKey are not usable together: {error}"))?
            }
        };
        Ok(Self::named(Arc::new(config)))
    }

    fn named(config: Arc<ClientConfig>) -> Self {
        Self { config, by_name: true }
    }

    /// For a host that is known by other means than its name: `config` does all the checks.
    pub fn by_identity(config: Arc<ClientConfig>) -> Self {
        Self { config, by_name: false }
    }

    /// Does the handshake; `host` is the name the certificate has to carry.
    ///
    /// # Errors
    /// The host name is not valid, or the handshake failed.
    pub(super) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = if self.by_name {
            ServerName::try_from(host.to_owned()).map_err(io::Error::other)?
        } else {
            ServerName::from(std::net::IpAddr::from([127, 0, 0, 1])) // nobody looks at it
        };
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("no root certificates found on this system (install the package ca-certificates)".to_owned());
    }
    Ok(roots)
}

fn roots_of(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("rootCA", pem)? {
        roots.add(certificate).map_err(|error| format!("rootCA: a certificate is not usable: {error}"))?;
    }
    Ok(roots)
}

/// At least one certificate of a PEM text; `field` names it in errors.
fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| format!("{field}: not PEM: {error}"))?;
    if found.is_empty() {
        Err(format!("{field}: no certificate; expected PEM with -----BEGIN CERTIFICATE-----"))
    } else {
        Ok(found)
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
