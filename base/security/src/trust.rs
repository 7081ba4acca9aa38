//! Trust anchors: the roots every side trusts, and the checks that lead to them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::certificate::chain_to_pem;
use crate::spiffe::SpiffeId;
use crate::{Certificate, Error};

/// Roots that sign themselves. Several at a time while one follows another.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    certificates: Vec<Certificate>,
    anchors: Arc<[TrustAnchor<'static>]>,
}

/// Which side of a connection a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// It was called.
    Server,
    /// It called.
    Client,
}

impl TrustAnchors {
    /// Takes roots.
    ///
    /// # Errors
    /// When one does not sign itself.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, Error> {
        if certificates.iter().any(|certificate| !certificate.is_signed_by(certificate)) {
            return Err(Error::Trust(
                "certificate in trust anchor is not self-signed: the trust anchors are roots only".to_owned(),
            ));
        }
        let anchors = certificates
            .iter()
            .map(|certificate| {
                let der = CertificateDer::from(certificate.der());
                let anchor = anchor_from_trusted_cert(&der).map_err(|error| Error::Trust(error.to_string()))?;
                Ok(anchor.to_owned())
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { certificates, anchors })
    }

    /// Reads roots from PEM.
    ///
    /// # Errors
    /// When there is none, or one does not sign itself.
    pub fn from_pem(text: &[u8]) -> Result<Self, Error> {
        Self::new(Certificate::from_pem(text).map_err(|error| Error::Trust(format!("trust anchors: {error}")))?)
    }

    /// The roots as PEM, without comments.
    #[must_use]
    pub fn to_pem(&self) -> String {
        chain_to_pem(&self.certificates)
    }

    /// The roots.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whether a chain of certificates that may sign, the first signed by the second and so on, ends at a root.
    #[must_use]
    pub fn trusts_issuers(&self, chain: &[Certificate], now: SystemTime) -> bool {
        let good = chain.iter().all(|certificate| certificate.may_sign() && certificate.is_valid_at(now));
        let linked = chain.windows(2).all(|pair| pair[0].is_signed_by(&pair[1]));
        let rooted = chain.last().is_some_and(|last| {
            self.certificates.iter().any(|root| root.is_valid_at(now) && (last == root || last.is_signed_by(root)))
        });
        good && linked && rooted
    }

    /// Checks the chain of a peer (leaf first) and gives its identity.
    ///
    /// # Errors
    /// When the chain does not lead to a root, does not hold now or for this use, or has no identity of Dapr.
    pub fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        role: PeerRole,
        now: SystemTime,
    ) -> Result<SpiffeId, Error> {
        let refused =
            |error: webpki::Error| Error::Trust(format!("the certificate of the peer is not trusted: {error}"));
        let usage = match role {
            PeerRole::Server => KeyUsage::server_auth(),
            PeerRole::Client => KeyUsage::client_auth(),
        };
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(algorithms.all, &self.anchors, rest, UnixTime::since_unix_epoch(since), usage, None, None)
            .map_err(refused)?;
        Certificate::from_der(leaf)?.spiffe_id()
    }
}
