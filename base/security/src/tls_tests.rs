//! Handshakes between the configurations of [`super`], in memory.

use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::TrustDomain;
use crate::issue::{Signer, Validity, issuer, root, workload};
use crate::mutual::{MutualTls, peer_id};

struct Authority {
    root: Certificate,
    issuer: Certificate,
    key: PrivateKey,
}

fn validity() -> Validity {
    Validity { now: SystemTime::now(), ttl: Duration::from_secs(600), clock_skew: Duration::from_secs(60) }
}

fn authority() -> Authority {
    let (root_key, key) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let root = root(&root_key, "a", validity()).unwrap();
    let signer = Signer { certificate: &root, key: &root_key };
    let issuer = issuer(&key.public_key_info(), "b", signer, validity()).unwrap();
    Authority { root, issuer, key }
}

fn id(app_id: &str) -> SpiffeId {
    SpiffeId::new(TrustDomain::public(), "default", app_id).unwrap()
}

impl Authority {
    fn identity(&self, app_id: &str) -> SharedIdentity {
        let key = PrivateKey::generate().unwrap();
        let signer = Signer { certificate: &self.issuer, key: &self.key };
        let leaf = workload(&key.public_key_info(), &id(app_id), &[], signer, validity()).unwrap();
        SharedIdentity::new(&[leaf, self.issuer.clone()], &key).unwrap()
    }

    fn anchors(&self) -> SharedAnchors {
        SharedAnchors::new(TrustAnchors::new(vec![self.root.clone()]).unwrap())
    }
}

fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(), String> {
    connected(Arc::new(client), Arc::new(server)).map(|_| ())
}

/// Both ends after the handshake.
fn connected(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), String> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            server.read_tls(&mut reader).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            client.read_tls(&mut reader).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
    }
    if client.is_handshaking() || server.is_handshaking() {
        Err("not finished".to_owned())
    } else {
        Ok((client, server))
    }
}

#[test]
fn a_peer_is_taken_by_its_identity() {
    let house = authority();
    let server = || mutual_server(house.identity("server"), house.anchors(), Peer::Any).unwrap();
    let call = |peer: Peer| handshake(client(Some(house.identity("app")), house.anchors(), peer).unwrap(), server());
    call(Peer::Exactly(id("server"))).unwrap();
    call(Peer::App { namespace: "default".to_owned(), app_id: "server".to_owned() }).unwrap();
    let error = call(Peer::Exactly(id("other"))).unwrap_err();
    assert!(error.contains("the peer is spiffe://public/ns/default/server"), "{error}");
    assert!(call(Peer::App { namespace: "n".to_owned(), app_id: "server".to_owned() }).is_err());
}

#[test]
fn strangers_and_the_nameless_are_refused() {
    let (house, other) = (authority(), authority());
    let server = || mutual_server(house.identity("server"), house.anchors(), Peer::Any).unwrap();
    let stranger = client(Some(other.identity("app")), house.anchors(), Peer::Any).unwrap();
    assert!(handshake(stranger, server()).unwrap_err().starts_with("server"));
    let nameless = client(None, house.anchors(), Peer::Any).unwrap();
    assert!(handshake(nameless, server()).unwrap_err().starts_with("server"));
    let mistaken = client(Some(house.identity("app")), other.anchors(), Peer::Any).unwrap();
    assert!(handshake(mistaken, server()).unwrap_err().starts_with("client"));
}

#[test]
fn roots_and_identities_are_exchanged_in_use() {
    let (old, new) = (authority(), authority());
    let (identity, anchors) = (old.identity("server"), old.anchors());
    let config = super::server(identity.clone()).unwrap();
    let call = |anchors: &SharedAnchors| {
        handshake(client(None, anchors.clone(), Peer::Exactly(id("server"))).unwrap(), config.clone())
    };
    call(&anchors).unwrap();
    let key = PrivateKey::generate().unwrap();
    let signer = Signer { certificate: &new.issuer, key: &new.key };
    let leaf = workload(&key.public_key_info(), &id("server"), &[], signer, validity()).unwrap();
    identity.replace(&[leaf, new.issuer.clone()], &key).unwrap();
    assert!(call(&anchors).is_err());
    anchors.replace(TrustAnchors::new(vec![old.root.clone(), new.root.clone()]).unwrap());
    call(&anchors).unwrap();
}

#[test]
fn sidecars_know_each_other_and_agree_on_a_protocol() {
    let house = authority();
    let tls = |app_id: &str| MutualTls::new(house.identity(app_id), house.anchors());
    let server = tls("callee").server(&[HTTP2, b"own"]).unwrap();
    for (offered, agreed) in
        [(&[HTTP2][..], Some(HTTP2)), (&[b"own"], Some(&b"own"[..])), (&[b"own", HTTP2], Some(HTTP2)), (&[], None)]
    {
        let mut config = client(Some(house.identity("caller")), house.anchors(), Peer::Any).unwrap();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        let (client, accepted) = connected(Arc::new(config), server.clone()).unwrap();
        assert_eq!((client.alpn_protocol(), accepted.alpn_protocol()), (agreed, agreed));
        assert_eq!(*peer_id(accepted.peer_certificates()).unwrap(), id("caller"));
        assert_eq!(*peer_id(client.peer_certificates()).unwrap(), id("callee"));
    }
    let own = tls("caller").client(Peer::Exactly(id("callee")), b"own").unwrap();
    let (client, _) = connected(own.clone(), server.clone()).unwrap();
    assert_eq!(client.alpn_protocol(), Some(&b"own"[..]));
    // Every handshake is a whole one: trust that ended must not live on in a resumed session.
    let (again, _) = connected(own, server).unwrap();
    assert_eq!(again.handshake_kind(), Some(tokio_rustls::rustls::HandshakeKind::Full));
    assert!(peer_id(None).is_none());
}
