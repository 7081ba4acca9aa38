//! Sentry as a process: certificates, tokens, key server, health, metrics, exchange of roots. Ours only: the original's binary is
//! another one.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use pillion_proto::sentry::v1::ca_client::CaClient;
use pillion_proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use pillion_security::issue::{Signer, Validity, issuer, root};
use pillion_security::jwk::JwkSet;
use pillion_security::jwt::{Expected, claims_unverified, verify};
use pillion_security::tls::{Peer, SharedAnchors, SharedIdentity, client};
use pillion_security::{Certificate, PrivateKey, SpiffeId, TrustAnchors, request as csr};
use pillion_testkit::{Binary, Reply, eventually, request, reserve};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

const LOG: &str = "sentry.log";
const SENTRY: &str = "spiffe://localhost/ns/default/dapr-sentry";

pub(crate) struct Sentry {
    child: Child,
    directory: TempDir,
    pub(crate) port: u16,
    health: u16,
    metrics: u16,
    oidc: u16,
}

impl Sentry {
    fn spawn(directory: TempDir, flags: &[&str]) -> Self {
        Self::spawn_with(directory, flags, &[])
    }

    /// Starts it with variables and does not wait; its log goes to [`Sentry::log`].
    pub(crate) fn spawn_with(directory: TempDir, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let ports = [0; 4].map(|_: i32| reserve().unwrap());
        let [port, health, metrics, oidc] = [0, 1, 2, 3].map(|index: usize| ports[index].port());
        let mut command = Binary::find().unwrap().role_command("sentry");
        command.args([
            format!("-issuer-credentials={}", directory.path().display()),
            format!("-port={port}"),
            format!("-healthz-port={health}"),
            format!("-metrics-port={metrics}"),
            format!("-oidc-server-listen-port={oidc}"),
        ]);
        command.args(["-listen-address=127.0.0.1", "-healthz-listen-address=127.0.0.1"]);
        command.args(["-metrics-listen-address=127.0.0.1", "-oidc-server-listen-address=127.0.0.1"]);
        command.args(flags).env_remove("NAMESPACE").envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(std::fs::File::create(directory.path().join(LOG)).unwrap());
        ports.into_iter().for_each(pillion_testkit::Reserved::release);
        Self { child: command.spawn().unwrap(), directory, port, health, metrics, oidc }
    }

    pub(crate) async fn start(directory: TempDir, flags: &[&str]) -> Self {
        let sentry = Self::spawn(directory, flags);
        sentry.wait_until_healthy().await;
        sentry
    }

    pub(crate) async fn wait_until_healthy(&self) {
        eventually("sentry is healthy", Duration::from_secs(30), || async {
            let reply = request(self.health, http::Method::GET, "/healthz", &[], "").await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// What it wrote to its standard output.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(LOG)).unwrap()
    }

    /// The directory `--issuer-credentials` names.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file with its roots.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::from_pem(&std::fs::read(self.directory.path().join("ca.crt")).unwrap()).unwrap()
    }

    /// Asks for a certificate, after checking who answers.
    async fn sign(
        &self,
        anchors: TrustAnchors,
        request: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, tonic::Status> {
        self.sign_as(SENTRY, anchors, request).await
    }

    /// The same where sentry has another identity.
    pub(crate) async fn sign_as(
        &self,
        sentry: &str,
        anchors: TrustAnchors,
        request: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, tonic::Status> {
        let peer = Peer::Exactly(SpiffeId::parse(sentry).unwrap());
        let tls = client(None, SharedAnchors::new(anchors), peer).unwrap();
        let connector = Dial { port: self.port, tls: Arc::new(tls) };
        let channel = Endpoint::from_static("http://sentry").connect_with_connector(connector).await;
        let channel = channel.map_err(|error| tonic::Status::unavailable(format!("{error:?}")))?;
        CaClient::new(channel).sign_certificate(request).await.map(tonic::Response::into_inner)
    }

    /// The identity of an application, and the roots to prove others with.
    pub(crate) async fn identity(&self, app_id: &str) -> (SharedIdentity, SharedAnchors) {
        let key = PrivateKey::generate().unwrap();
        let request = SignCertificateRequest { id: app_id.to_owned(), ..asking(&key) };
        let answer = self.sign(self.anchors(), request).await.unwrap();
        (SharedIdentity::new(&chain(&answer), &key).unwrap(), SharedAnchors::new(self.anchors()))
    }

    /// The identity of a service of the control plane, and the roots to prove others with.
    pub(crate) async fn service_identity(&self, name: &str) -> (SharedIdentity, SharedAnchors) {
        let key = PrivateKey::generate().unwrap();
        let request =
            SignCertificateRequest { id: name.to_owned(), trust_domain: "localhost".to_owned(), ..asking(&key) };
        let answer = self.sign(self.anchors(), request).await.unwrap();
        (SharedIdentity::new(&chain(&answer), &key).unwrap(), SharedAnchors::new(self.anchors()))
    }

    async fn oidc(&self, path: &str) -> Reply {
        request(self.oidc, http::Method::GET, path, &[], "").await.unwrap()
    }

    /// Ends it with SIGINT; the exit code.
    async fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.exit_code().await
    }

    /// Ends it and keeps its authority, for another one at the same place.
    pub(crate) async fn stop_for_restart(mut self) -> TempDir {
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        assert_eq!(self.stop().await, Some(0));
        directory
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        for _ in 0..1000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("sentry still runs")
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        // It can have ended by itself: both calls then have nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Connects to a port of this machine over TLS.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) port: u16,
    pub(crate) tls: Arc<tokio_rustls::rustls::ClientConfig>,
}

impl Dial {
    pub(crate) async fn connect(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = "localhost".try_into().map_err(std::io::Error::other)?;
        TlsConnector::from(self.tls.clone()).connect(name, stream).await
    }
}

impl tower_service::Service<http::Uri> for Dial {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connect().await.map(TokioIo::new) })
    }
}

pub(crate) fn asking(key: &PrivateKey) -> SignCertificateRequest {
    SignCertificateRequest {
        id: "shop".to_owned(),
        namespace: "default".to_owned(),
        certificate_signing_request: csr::make(key).unwrap().into(),
        ..SignCertificateRequest::default()
    }
}

/// The chain of an answer, after checking that it leads to the anchors the answer names.
pub(crate) fn chain(answer: &SignCertificateResponse) -> Vec<Certificate> {
    let chain = Certificate::from_pem(&answer.workload_certificate).unwrap();
    let anchors = TrustAnchors::from_pem(&answer.trust_chain_certificates[0]).unwrap();
    assert!(anchors.trusts_issuers(&chain[1..], SystemTime::now()));
    assert!(chain[0].is_signed_by(&chain[1]));
    chain
}

/// A root and an issuer of its own: root certificate, issuer certificate and key, as PEM.
pub(crate) fn foreign_authority() -> (String, String, String) {
    let validity =
        Validity { now: SystemTime::now(), ttl: Duration::from_secs(3600), clock_skew: Duration::from_secs(60) };
    // ECDSA is accepted beside Ed25519.
    let (root_key, key) = (PrivateKey::generate_p256().unwrap(), PrivateKey::generate_p256().unwrap());
    let root = root(&root_key, "corp", validity).unwrap();
    let signer = Signer { certificate: &root, key: &root_key };
    let issuer = issuer(&key.public_key_info(), "corp issuer", signer, validity).unwrap();
    (root.to_pem(), issuer.to_pem(), key.to_pem())
}

pub(crate) fn write_authority(directory: &Path, roots: &str, issuer: &str, key: &str) {
    for (name, text) in [("ca.crt", roots), ("issuer.crt", issuer), ("issuer.key", key)] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[tokio::test]
async fn makes_its_authority_and_gives_identities() {
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let key = PrivateKey::generate().unwrap();
    let answer = sentry.sign(sentry.anchors(), asking(&key)).await.unwrap();
    let certificates = chain(&answer);
    assert_eq!(certificates[0].spiffe_id().unwrap().to_string(), "spiffe://public/ns/default/shop");
    assert_eq!(certificates[0].public_key_info(), key.public_key_info());
    let left = certificates[0].not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(23 * 3600) && left <= Duration::from_secs(24 * 3600), "{left:?}");
    assert_eq!(answer.trust_chain_certificates[0], sentry.anchors().to_pem());
    assert!(answer.jwt.is_none() && answer.per_audience_jwts.is_empty());

    let error = sentry.sign(sentry.anchors(), SignCertificateRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::PermissionDenied);
    assert!(error.message().contains("CSR is required"), "{error}");
    let other = SignCertificateRequest { token_validator: 3, ..asking(&key) };
    let error = sentry.sign(sentry.anchors(), other).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (tonic::Code::InvalidArgument, "the requested validator is not enabled")
    );

    let metrics = request(sentry.metrics, http::Method::GET, "/metrics", &[], "").await.unwrap().text();
    for line in [
        "dapr_sentry_cert_sign_request_received_total 3",
        "dapr_sentry_cert_sign_success_total 1",
        "dapr_sentry_cert_sign_failure_total{reason=\"sign\"} 2",
        "dapr_sentry_issuercert_changed_total 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} in\n{metrics}");
    }
    assert!(metrics.contains("\ndapr_sentry_issuercert_expiry_timestamp "), "{metrics}");
    assert_eq!(sentry.stop().await, Some(0));
}

#[tokio::test]
async fn keeps_its_authority_over_a_restart() {
    let first = Sentry::start(tempfile::tempdir().unwrap(), &[]).await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        std::fs::copy(first.directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let anchors = first.anchors();
    assert_eq!(first.stop().await, Some(0));
    let second = Sentry::start(copy, &[]).await;
    chain(&second.sign(anchors, asking(&PrivateKey::generate().unwrap())).await.unwrap());
}

#[tokio::test]
async fn signs_tokens_and_publishes_their_keys() {
    let flags =
        ["-jwt-enabled", "-jwt-issuer=https://issuer.example", "-oidc-enabled", "-oidc-server-tls-enabled=false"];
    let sentry = Sentry::start(tempfile::tempdir().unwrap(), &flags).await;
    let asked = SignCertificateRequest {
        jwt_audiences: vec!["bank".to_owned()],
        trust_domain: "corp".to_owned(),
        ..asking(&PrivateKey::generate().unwrap())
    };
    let answer = sentry.sign(sentry.anchors(), asked).await.unwrap();
    let document = sentry.oidc("/.well-known/openid-configuration").await.json();
    assert_eq!(document["issuer"], "https://issuer.example");
    assert_eq!(document["jwks_uri"], "https://issuer.example/jwks.json");
    let keys = JwkSet::parse(&sentry.oidc("/jwks.json").await.body).unwrap();
    let subject = "spiffe://corp/ns/default/shop";
    let expected = |audience| Expected { audience, subject, now: SystemTime::now(), clock_skew: Duration::ZERO };
    let token = answer.jwt.unwrap();
    for audience in ["corp", "bank"] {
        verify(&token, &keys, expected(audience)).unwrap();
        verify(&answer.per_audience_jwts[audience], &keys, expected(audience)).unwrap();
    }
    assert!(verify(&answer.per_audience_jwts["bank"], &keys, expected("corp")).is_err());
    assert_eq!(claims_unverified(&token).unwrap()["iss"], "https://issuer.example");
    for name in ["jwt.key", "jwks.json"] {
        assert!(sentry.directory.path().join(name).is_file(), "{name}");
    }
}

#[tokio::test]
async fn exchanges_roots_with_an_overlap_and_without_a_restart() {
    let ((old_root, old_issuer, old_key), (new_root, new_issuer, new_key)) = (foreign_authority(), foreign_authority());
    let directory = tempfile::tempdir().unwrap();
    write_authority(directory.path(), &old_root, &old_issuer, &old_key);
    let sentry = Sentry::start(directory, &[]).await;
    let key = PrivateKey::generate().unwrap();
    let anchors = |text: &str| TrustAnchors::from_pem(text.as_bytes()).unwrap();
    chain(&sentry.sign(anchors(&old_root), asking(&key)).await.unwrap());

    // Material that does not fit together changes nothing.
    std::fs::write(sentry.directory.path().join("issuer.key"), &new_key).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    chain(&sentry.sign(anchors(&old_root), asking(&key)).await.unwrap());

    // Both roots, old issuer: everybody learns the new root.
    let both = format!("{old_root}{new_root}");
    write_authority(sentry.directory.path(), &both, &old_issuer, &old_key);
    eventually("both roots are handed out", Duration::from_secs(20), || async {
        let answer = sentry.sign(anchors(&old_root), asking(&key)).await.unwrap();
        (chain(&answer).len() == 2 && answer.trust_chain_certificates[0] == both).then_some(())
    })
    .await;

    // Both roots, new issuer: whoever trusts both sees no failure at any moment.
    write_authority(sentry.directory.path(), &both, &new_issuer, &new_key);
    let new_certificate = Certificate::from_pem(new_issuer.as_bytes()).unwrap().remove(0);
    eventually("the new issuer signs", Duration::from_secs(20), || async {
        let answer = sentry.sign(anchors(&both), asking(&key)).await.unwrap();
        (chain(&answer)[1] == new_certificate).then_some(())
    })
    .await;

    // The new root alone.
    write_authority(sentry.directory.path(), &new_root, &new_issuer, &new_key);
    eventually("the old root is gone", Duration::from_secs(20), || async {
        let answer = sentry.sign(anchors(&new_root), asking(&key)).await.unwrap();
        (answer.trust_chain_certificates[0] == new_root).then_some(())
    })
    .await;
    assert!(sentry.sign(anchors(&old_root), asking(&key)).await.is_err());
}

#[tokio::test]
async fn ends_with_a_reason_when_it_cannot_start() {
    let (root, issuer, _) = foreign_authority();
    let (_, _, other_key) = foreign_authority();
    let directory = tempfile::tempdir().unwrap();
    write_authority(directory.path(), &root, &issuer, &other_key);
    assert_eq!(Sentry::spawn(directory, &[]).exit_code().await, Some(1));
    assert_eq!(Sentry::spawn(tempfile::tempdir().unwrap(), &["-config=/nonexistent"]).exit_code().await, Some(1));
    assert_eq!(Sentry::spawn(tempfile::tempdir().unwrap(), &["-mode=cloud"]).exit_code().await, Some(1));
}
