//! Against a sentry of the test: plain enough to answer anything.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use pillion_core::board::Board;
use pillion_proto::sentry::v1::ca_server::{Ca, CaServer};
use pillion_security::certificate::chain_to_pem;
use pillion_security::issue::{self, Signer, Validity};
use pillion_security::tls::SharedIdentity;
use pillion_security::{TrustAnchors, TrustDomain};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{AnchorSource, Identity, TokenSource};

/// A root that signs everything, and counts.
struct Authority {
    root: Certificate,
    key: PrivateKey,
    calls: AtomicUsize,
    /// What is answered instead, the last first.
    refusals: Mutex<Vec<Status>>,
    ttl: Duration,
}

fn validity(ttl: Duration) -> Validity {
    Validity { now: SystemTime::now(), ttl, clock_skew: Duration::ZERO }
}

impl Authority {
    fn new(ttl: Duration) -> Arc<Self> {
        let key = PrivateKey::generate().unwrap();
        let root = issue::root(&key, "localhost", validity(Duration::from_secs(3600))).unwrap();
        Arc::new(Self { root, key, calls: AtomicUsize::new(0), refusals: Mutex::default(), ttl })
    }

    fn sign(&self, key: &[u8], id: &SpiffeId, ttl: Duration) -> Certificate {
        let signer = Signer { certificate: &self.root, key: &self.key };
        issue::workload(key, id, &[], signer, validity(ttl)).unwrap()
    }

    fn anchors(&self) -> SharedAnchors {
        SharedAnchors::new(TrustAnchors::new(vec![self.root.clone()]).unwrap())
    }
}

struct Answers(Arc<Authority>);

#[async_trait]
impl Ca for Answers {
    async fn sign_certificate(
        &self,
        request: tonic::Request<SignCertificateRequest>,
    ) -> Result<tonic::Response<SignCertificateResponse>, Status> {
        let authority = &self.0;
        authority.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(status) = authority.refusals.lock().pop() {
            return Err(status);
        }
        let request = request.into_inner();
        let key = request::public_key(&request.certificate_signing_request).unwrap();
        let id = SpiffeId::new(TrustDomain::public(), &request.namespace, &request.id).unwrap();
        let leaf = authority.sign(&key, &id, authority.ttl);
        Ok(tonic::Response::new(SignCertificateResponse {
            workload_certificate: chain_to_pem(&[leaf]).into(),
            valid_until: Some(Default::default()),
            ..Default::default()
        }))
    }
}

/// Serves on `listener` as `name`.
fn serve(listener: TcpListener, authority: Arc<Authority>, name: &str) {
    let key = PrivateKey::generate().unwrap();
    let id = SpiffeId::parse(&format!("spiffe://localhost/ns/default/{name}")).unwrap();
    let leaf = authority.sign(&key.public_key_info(), &id, Duration::from_secs(600));
    let tls = tls::server(SharedIdentity::new(&[leaf], &key).unwrap()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = TowerToHyperService::new(CaServer::new(Answers(authority.clone())));
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn options(address: &str, authority: &Authority) -> Options {
    Options {
        app_id: "a".to_owned(),
        namespace: "default".to_owned(),
        sentry_address: address.to_owned(),
        sentry: SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap(),
        trust_domain: None,
        anchors: AnchorSource::Pem(authority.root.to_pem()),
        token: TokenSource::None,
        jwt_audiences: Vec::new(),
        board: Board::default(),
    }
}

#[tokio::test]
async fn sentry_may_come_later_than_the_sidecar() {
    let authority = Authority::new(Duration::from_secs(600));
    let (first, address) = listener().await;
    drop(first);
    let obtaining = tokio::spawn(Identity::obtain(options(&address, &authority), Logger::silent()));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!obtaining.is_finished());
    serve(TcpListener::bind(&address).await.unwrap(), authority, "dapr-sentry");
    let identity = obtaining.await.unwrap().unwrap();
    assert_eq!(identity.id().to_string(), "spiffe://public/ns/default/a");
    identity.stop().await;
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_sentry() {
    let authority = Authority::new(Duration::from_secs(600));
    let (listener, address) = listener().await;
    serve(listener, authority.clone(), "impostor");
    let options = options(&address, &authority);
    let problem = connect(&options, &authority.anchors()).await.err().unwrap();
    assert!(problem.contains("TLS") && problem.contains("impostor") && problem.contains("dapr-sentry"), "{problem}");
    assert!(advice(&problem).contains("--control-plane-trust-domain"));
    // A sentry of another root.
    let other = Authority::new(Duration::from_secs(600));
    let problem = connect(&options, &other.anchors()).await.err().unwrap();
    assert!(problem.contains("TLS") && problem.contains(&address), "{problem}");
}

#[tokio::test]
async fn a_refusal_ends_the_start_and_an_outage_does_not() {
    let authority = Authority::new(Duration::from_secs(600));
    let (listener, address) = listener().await;
    serve(listener, authority.clone(), "dapr-sentry");
    authority.refusals.lock().extend([
        Status::permission_denied("no such app"),
        Status::unavailable("busy"),
        Status::resource_exhausted("busy"),
    ]);
    let error = Identity::obtain(options(&address, &authority), Logger::silent()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "failed to retrieve the initial identity: error from sentry SignCertificate: \
         rpc error: code = PermissionDenied desc = no such app"
    );
    assert_eq!(authority.calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_identity_is_renewed_before_it_ends() {
    let authority = Authority::new(Duration::from_secs(2));
    let (listener, address) = listener().await;
    serve(listener, authority.clone(), "dapr-sentry");
    let identity = Identity::obtain(options(&address, &authority), Logger::silent()).await.unwrap();
    let first = identity.svid();
    for _ in 0..500 {
        if !Arc::ptr_eq(&first, &identity.svid()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(identity.svid().key.public_bytes() != first.key.public_bytes());
    identity.stop().await;
}

#[tokio::test]
async fn a_renewal_that_fails_is_told_and_leaves_what_works() {
    let authority = Authority::new(Duration::from_secs(2));
    let (listener, address) = listener().await;
    serve(listener, authority.clone(), "dapr-sentry");
    let options = options(&address, &authority);
    let board = options.board.clone();
    let identity = Identity::obtain(options, Logger::silent()).await.unwrap();
    let (first, told) = (identity.svid(), Arc::new(Mutex::new(Vec::new())));
    let words = told.clone();
    identity.watch_failures(move |word| words.lock().push(word));
    authority.refusals.lock().push(Status::permission_denied("no more"));
    for _ in 0..500 {
        if !board.parts().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let part = board.parts().remove(0);
    assert_eq!((part.kind, part.name.as_str()), ("sentry", address.as_str()));
    assert!(part.last_error.contains("no more") && part.advice.contains("--sentry-address"), "{part:?}");
    assert_eq!(*told.lock(), ["sign"]);
    assert!(Arc::ptr_eq(&first, &identity.svid()));
}

#[tokio::test]
async fn a_file_of_anchors_is_followed_and_a_broken_one_is_not() {
    let authority = Authority::new(Duration::from_secs(600));
    let (listener, address) = listener().await;
    serve(listener, authority.clone(), "dapr-sentry");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    let options = Options { anchors: AnchorSource::File(file.clone()), ..options(&address, &authority) };
    let obtaining = tokio::spawn(Identity::obtain(options, Logger::silent()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::write(&file, authority.root.to_pem()).unwrap();
    let identity = obtaining.await.unwrap().unwrap();
    std::fs::write(&file, "junk").unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(identity.trust_anchors(), authority.root.to_pem());
    let other = Authority::new(Duration::from_secs(600));
    let both = format!("{}{}", authority.root.to_pem(), other.root.to_pem());
    std::fs::write(&file, &both).unwrap();
    for _ in 0..500 {
        if identity.trust_anchors() == both {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(identity.trust_anchors(), both);
}

#[test]
fn targets_of_the_grpc_library_are_read() {
    assert_eq!(target("localhost:50001"), "localhost:50001");
    assert_eq!(target("dns:///sentry:443"), "sentry:443");
}
