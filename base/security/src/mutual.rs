//! Mutual TLS between sidecars: both show their identity, and each end of a connection knows who is at the other.
//!
//! *Neighbours:* [`crate::tls`] makes the configurations; whoever serves or calls sidecars holds a [`MutualTls`]. *Invariant:*
//! a configuration made here follows exchanges of identity and trust anchors; connections that exist are kept, as in Dapr.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use crate::tls::{self, Peer, SharedAnchors, SharedIdentity};
use crate::{Certificate, Error, SpiffeId};

/// The identity of one sidecar and the roots it trusts. Cheap to clone; clones follow the same exchanges.
#[derive(Clone, Debug)]
pub struct MutualTls {
    identity: SharedIdentity,
    anchors: SharedAnchors,
}

impl MutualTls {
    /// Puts both together.
    #[must_use]
    pub fn new(identity: SharedIdentity, anchors: SharedAnchors) -> Self {
        Self { identity, anchors }
    }

    /// For a server that any identity of the trust anchors may call; speaks the first of `protocols` (ALPN) the client
    /// knows too.
    ///
    /// # Errors
    /// When the provider of cryptography has none of the TLS versions.
    pub fn server(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
        let mut config = tls::mutual_server(self.identity.clone(), self.anchors.clone(), Peer::Any)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// For a client of `peer` that speaks `protocol` (ALPN).
    ///
    /// # Errors
    /// As [`MutualTls::server`].
    pub fn client(&self, peer: Peer, protocol: &[u8]) -> Result<Arc<ClientConfig>, Error> {
        let mut config = tls::client(Some(self.identity.clone()), self.anchors.clone(), peer)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

/// The identity in the certificates the other end of a finished handshake has shown; `None` without one.
#[must_use]
pub fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> Option<Arc<SpiffeId>> {
    let leaf = certificates?.first()?;
    Certificate::from_der(leaf).ok()?.spiffe_id().ok().map(Arc::new)
}
