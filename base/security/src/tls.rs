//! TLS by SPIFFE identity: who is on the other side is read from the certificate, host names do not count.
//!
//! *Source:* spec internals.md §5.7. *Invariant:* the identity and the trust anchors of a configuration may be exchanged while
//! it is in use; the next handshake takes the new ones.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ResolvesClientCert, Resumption};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig,
    SignatureScheme,
};

use crate::trust::PeerRole;
use crate::{Certificate, Error, PrivateKey, SpiffeId, TrustAnchors};

/// What gRPC speaks.
pub const HTTP2: &[u8] = b"h2";

/// The certificate chain and key one side shows; may be exchanged.
#[derive(Clone, Debug)]
pub struct SharedIdentity(Arc<RwLock<Arc<CertifiedKey>>>);

/// The roots one side trusts; may be exchanged.
#[derive(Clone, Debug)]
pub struct SharedAnchors(Arc<RwLock<TrustAnchors>>);

/// Who the other side may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Exactly this one, as the services of the control plane are checked.
    Exactly(SpiffeId),
    /// This application, in any trust domain.
    App {
        /// Its namespace.
        namespace: String,
        /// Its app id.
        app_id: String,
    },
    /// Anybody with an identity.
    Any,
}

impl Peer {
    fn admits(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exactly(expected) => expected == id,
            Self::App { namespace, app_id } => namespace == id.namespace() && app_id == id.app_id(),
            Self::Any => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(id) => id.fmt(f),
            Self::App { namespace, app_id } => write!(f, "spiffe://<any>/ns/{namespace}/{app_id}"),
            Self::Any => f.write_str("any SPIFFE id"),
        }
    }
}

impl SharedIdentity {
    /// A chain, leaf first, and the key of the leaf.
    ///
    /// # Errors
    /// When the key cannot be used for TLS.
    pub fn new(chain: &[Certificate], key: &PrivateKey) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(certified(chain, key)?))))
    }

    /// Takes another chain and key for the next handshakes.
    ///
    /// # Errors
    /// As [`SharedIdentity::new`].
    pub fn replace(&self, chain: &[Certificate], key: &PrivateKey) -> Result<(), Error> {
        *self.0.write() = certified(chain, key)?;
        Ok(())
    }
}

fn certified(chain: &[Certificate], key: &PrivateKey) -> Result<Arc<CertifiedKey>, Error> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
    let signing = ring::sign::any_supported_type(&der).map_err(|error| Error::Key(error.to_string()))?;
    let chain = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    Ok(Arc::new(CertifiedKey::new(chain, signing)))
}

impl ResolvesServerCert for SharedIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ResolvesClientCert for SharedIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl SharedAnchors {
    /// The roots to begin with.
    #[must_use]
    pub fn new(anchors: TrustAnchors) -> Self {
        Self(Arc::new(RwLock::new(anchors)))
    }

    /// Takes other roots for the next handshakes.
    pub fn replace(&self, anchors: TrustAnchors) {
        *self.0.write() = anchors;
    }

    /// The roots now.
    #[must_use]
    pub fn get(&self) -> TrustAnchors {
        self.0.read().clone()
    }
}

/// The server name for a handshake in which names do not count.
#[must_use]
pub fn unnamed() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]))
}

/// TLS of a server that asks for no certificate: sentry, whose callers prove themselves with a token.
///
/// # Errors
/// When the provider of cryptography has none of the TLS versions.
pub fn server(identity: SharedIdentity) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Key(error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

/// TLS of a server that asks for a certificate the roots lead to.
///
/// # Errors
/// As [`server`].
pub fn mutual_server(identity: SharedIdentity, anchors: SharedAnchors, peer: Peer) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Key(error.to_string()))?;
    let verifier = Arc::new(Verifier::new(anchors, peer));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed session is not checked again: who it was with may have lost its trust since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS of a client that calls `peer`; without an identity it shows no certificate.
///
/// # Errors
/// As [`server`].
pub fn client(identity: Option<SharedIdentity>, anchors: SharedAnchors, peer: Peer) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Key(error.to_string()))?
        .dangerous() // by identity instead of host name
        .with_custom_certificate_verifier(Arc::new(Verifier::new(anchors, peer)));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = false;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled(); // as on the server
    Ok(config)
}

/// Checks chain and identity of the other side.
#[derive(Debug)]
struct Verifier {
    anchors: SharedAnchors,
    peer: Peer,
    provider: CryptoProvider,
}

impl Verifier {
    fn new(anchors: SharedAnchors, peer: Peer) -> Self {
        Self { anchors, peer, provider: ring::default_provider() }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        role: PeerRole,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs());
        let id =
            self.anchors.get().identify(leaf, rest, role, now).map_err(|error| TlsError::General(error.to_string()))?;
        if self.peer.admits(&id) {
            return Ok(());
        }
        let text = format!("the peer is {id}, expected {}", self.peer);
        Err(TlsError::InvalidCertificate(CertificateError::Other(tokio_rustls::rustls::OtherError(Arc::new(
            Error::Spiffe(text),
        )))))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check(leaf, rest, PeerRole::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // the roots may be exchanged
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check(leaf, rest, PeerRole::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
