//! Sentry in Kubernetes: its authority in a Secret, its callers known by the tokens of their pods. Ours only, as in
//! [`crate::sentry`].

use std::sync::Arc;
use std::time::Duration;

use pillion_proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use pillion_security::issue::{Signer, Validity, issuer, root, workload};
use pillion_security::tls::{SharedIdentity, server};
use pillion_security::{Certificate, PrivateKey, SpiffeId, TrustAnchors};
use pillion_testkit::{FakeApp, eventually};
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};

use crate::sentry::{Sentry, asking, chain, foreign_authority};
use cluster::{Cluster, MAP, SECRET, SYSTEM, kubeconfig, token, writes};

mod cluster;

const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";
const VALIDATOR_KUBERNETES: i32 = 2;
const LIMIT: Duration = Duration::from_secs(20);

/// Starts sentry beside an API server.
fn spawn(kubeconfig: &str, flags: &[&str]) -> Sentry {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let kubeconfig = format!("-kubeconfig={}", file.display());
    let own = ["-mode=kubernetes", "-trust-domain=cluster.local", "-log-level=debug", &kubeconfig];
    let flags: Vec<&str> = own.into_iter().chain(flags.iter().copied()).collect();
    // Tests may run as root, which sentry in Kubernetes refuses.
    let environment = [("NAMESPACE", SYSTEM), ("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true")];
    Sentry::spawn_with(directory, &flags, &environment)
}

fn beside(api: &FakeApp) -> Sentry {
    spawn(&plain(api), &[])
}

fn plain(api: &FakeApp) -> String {
    kubeconfig(&format!("http://127.0.0.1:{}", api.port()), &json!({}))
}

async fn healthy(api: &FakeApp) -> Sentry {
    let sentry = beside(api);
    sentry.wait_until_healthy().await;
    sentry
}

fn anchors(pem: &str) -> TrustAnchors {
    TrustAnchors::from_pem(pem.as_bytes()).unwrap()
}

/// The anchors everybody else in the cluster has: those of the ConfigMap.
fn published(cluster: &Cluster) -> TrustAnchors {
    anchors(cluster.map()["ca.crt"].as_str().unwrap())
}

fn request(namespace: &str, id: &str, token: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        token: token.to_owned(),
        token_validator: VALIDATOR_KUBERNETES,
        // What is asked for here does not count.
        trust_domain: "asked.for".to_owned(),
        ..asking(&PrivateKey::generate().unwrap())
    }
}

/// A pod `shop-1` of the app `shop`, and its request.
fn shop(cluster: &Cluster) -> SignCertificateRequest {
    cluster.add_pod("shops", "shop-1", "shop-account", &json!({"dapr.io/app-id": "shop"}));
    request("shops", "shop", &token("shops", "shop-account", "shop-1", SENTRY))
}

async fn sign(
    sentry: &Sentry,
    anchors: TrustAnchors,
    request: SignCertificateRequest,
) -> Result<SignCertificateResponse, Status> {
    sentry.sign_as(SENTRY, anchors, request).await
}

#[tokio::test]
async fn an_empty_secret_is_filled_once_and_used_from_then_on() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let request = shop(&cluster);
    let sentry = healthy(&api).await;
    let root = cluster.secret("ca.crt").unwrap();
    let issuer = cluster.secret("issuer.crt").unwrap();
    assert!(cluster.secret("issuer.key").unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(cluster.map(), json!({"ca.crt": root}), "the public half and nothing else is for everybody");
    let answer = sign(&sentry, published(&cluster), request.clone()).await.unwrap();
    let certificates = chain(&answer);
    assert_eq!(certificates[0].spiffe_id().unwrap().to_string(), "spiffe://public/ns/shops/shop");
    assert_eq!(certificates[1], Certificate::from_pem(issuer.as_bytes()).unwrap()[0]);
    assert_eq!(answer.trust_chain_certificates[0], root);
    let files: Vec<_> = std::fs::read_dir(sentry.directory()).unwrap().flatten().map(|file| file.file_name()).collect();
    assert_eq!(files.len(), 2, "log and kubeconfig; nothing is written to files: {files:?}");
    drop(sentry);

    let again = healthy(&api).await;
    let answer = sign(&again, anchors(&root), request).await.unwrap();
    assert_eq!(chain(&answer)[1], Certificate::from_pem(issuer.as_bytes()).unwrap()[0]);
    assert_eq!((writes(&api, SECRET), writes(&api, MAP)), (1, 1));
}

#[tokio::test]
async fn a_filled_secret_is_used_and_only_its_public_half_written_elsewhere() {
    let (root, issuer, key) = foreign_authority();
    let cluster = Cluster::installed();
    cluster.put_secret(&root, &issuer, &key);
    let old =
        json!({"metadata": {"name": "dapr-trust-bundle"}, "data": {"ca.crt": "of somebody else", "more": "stays"}});
    cluster.put(MAP, old);
    let api = cluster.serve().await;
    let request = shop(&cluster);
    let sentry = healthy(&api).await;
    let answer = sign(&sentry, anchors(&root), request).await.unwrap();
    assert_eq!(chain(&answer)[1], Certificate::from_pem(issuer.as_bytes()).unwrap()[0]);
    assert_eq!(cluster.map(), json!({"ca.crt": root, "more": "stays"}));
    assert_eq!(cluster.written(), [MAP]);
    assert!(sentry.log().contains("Root and issuer certs found: using credentials from store"), "{}", sentry.log());
}

#[tokio::test]
async fn keys_of_tokens_are_added_to_the_secret_and_published() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let sentry = spawn(&plain(&api), &["-jwt-enabled"]);
    sentry.wait_until_healthy().await;
    assert!(cluster.secret("jwt.key").is_some());
    assert_eq!(cluster.map()["jwks.json"].as_str(), cluster.secret("jwks.json").as_deref());
    let answer = sign(&sentry, published(&cluster), shop(&cluster)).await.unwrap();
    assert!(answer.jwt.is_some() && answer.per_audience_jwts.contains_key("public"));
}

/// The kubelet writes a Secret that changed into the pods that mount it: sentry looks at the Secret then.
fn mounted_again(sentry: &Sentry) {
    let file = sentry.directory().join("ca.crt");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(file, before + "#\n").unwrap();
}

#[tokio::test]
async fn a_rotated_secret_is_taken_with_an_overlap_and_a_broken_one_is_not() {
    let ((old_root, old_issuer, old_key), (new_root, new_issuer, new_key)) = (foreign_authority(), foreign_authority());
    let both = format!("{old_root}{new_root}");
    let cluster = Cluster::installed();
    cluster.put_secret(&old_root, &old_issuer, &old_key);
    let api = cluster.serve().await;
    let request = shop(&cluster);
    let sentry = healthy(&api).await;
    chain(&sign(&sentry, anchors(&old_root), request.clone()).await.unwrap());

    cluster.put_secret(&new_root, &old_issuer, &new_key);
    mounted_again(&sentry);
    eventually("what does not fit is told", LIMIT, || async {
        sentry.log().contains("the credentials in use stay, the new ones cannot be used").then_some(())
    })
    .await;
    chain(&sign(&sentry, anchors(&old_root), request.clone()).await.unwrap());
    assert_eq!(cluster.map()["ca.crt"], old_root.as_str(), "nor is it published");

    // Both roots, then the new issuer, then the new root alone: whoever has what is published sees no failure.
    let steps = [(&both, &old_issuer, &old_key), (&both, &new_issuer, &new_key), (&new_root, &new_issuer, &new_key)];
    for (root, issuer, key) in steps {
        cluster.put_secret(root, issuer, key);
        mounted_again(&sentry);
        let issuer = &Certificate::from_pem(issuer.as_bytes()).unwrap()[0];
        eventually("the new material is in use", LIMIT, || async {
            let answer = sign(&sentry, anchors(&both), request.clone()).await.unwrap();
            (answer.trust_chain_certificates[0] == root.as_str() && chain(&answer)[1] == *issuer).then_some(())
        })
        .await;
        eventually("it is published", LIMIT, || async { (cluster.map()["ca.crt"] == root.as_str()).then_some(()) })
            .await;
    }
    assert!(sign(&sentry, anchors(&old_root), request).await.is_err(), "nobody who knows the old root alone");
    assert_eq!(writes(&api, SECRET), 0);
}

#[tokio::test]
async fn replicas_that_start_together_have_one_authority() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let replicas: Vec<Sentry> = (0..3).map(|_| beside(&api)).collect();
    for replica in &replicas {
        replica.wait_until_healthy().await;
    }
    assert_eq!(writes_that_counted(&cluster, SECRET), 1);
    let root = cluster.secret("ca.crt").unwrap();
    let request = shop(&cluster);
    for replica in &replicas {
        let answer = sign(replica, anchors(&root), request.clone()).await.unwrap();
        chain(&answer);
        assert_eq!(answer.trust_chain_certificates[0], root);
    }
}

fn writes_that_counted(cluster: &Cluster, path: &str) -> usize {
    cluster.written().iter().filter(|written| *written == path).count()
}

#[tokio::test]
async fn pods_get_the_identity_their_annotations_say() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    cluster.add_pod("shops", "bare-1", "account", &Json::Null);
    cluster.add_pod("shops", "till-1", "account", &json!({"dapr.io/app-id": "till", "dapr.io/config": "corporate"}));
    cluster.add_pod("shops", "open-1", "account", &json!({"dapr.io/app-id": "open", "dapr.io/config": "none-named"}));
    cluster.add_pod(SYSTEM, "operator-1", "dapr-operator", &json!({"dapr.io/control-plane": "operator"}));
    cluster.add_configuration("shops", "corporate", "corp.example");
    cluster.add_configuration("shops", "none-named", "");
    cluster.add_configuration("other", "corporate", "other.example");
    let sentry = healthy(&api).await;
    for (namespace, id, account, pod, audience, expected) in [
        ("shops", "bare-1", "account", "bare-1", SENTRY, "spiffe://public/ns/shops/bare-1"),
        ("shops", "till", "account", "till-1", SENTRY, "spiffe://corp.example/ns/shops/till"),
        ("shops", "till", "account", "till-1", "dapr.io/sentry", "spiffe://corp.example/ns/shops/till"),
        ("shops", "open", "account", "open-1", SENTRY, "spiffe://public/ns/shops/open"),
        (
            SYSTEM,
            "dapr-operator",
            "dapr-operator",
            "operator-1",
            SENTRY,
            "spiffe://cluster.local/ns/dapr-system/dapr-operator",
        ),
    ] {
        let asked = request(namespace, id, &token(namespace, account, pod, audience));
        let answer = sign(&sentry, published(&cluster), asked).await.unwrap();
        assert_eq!(chain(&answer)[0].spiffe_id().unwrap().to_string(), expected);
    }
    assert_eq!(cluster.reviewed(), json!(["dapr.io/sentry", SENTRY]));
    // A caller that names no validator is taken for one of the cluster.
    let asked = SignCertificateRequest { token_validator: 0, ..shop(&cluster) };
    chain(&sign(&sentry, published(&cluster), asked).await.unwrap());
}

#[tokio::test]
async fn whoever_cannot_prove_it_is_refused_with_the_reason() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let good = shop(&cluster);
    cluster.add_pod("shops", "lost-1", "account", &json!({"dapr.io/app-id": "lost", "dapr.io/config": "missing"}));
    cluster.add_pod("shops", "odd-1", "account", &json!({"dapr.io/app-id": "odd", "dapr.io/config": "odd"}));
    cluster.add_pod("shops", "fake-1", "account", &json!({"dapr.io/control-plane": "operator"}));
    cluster.add_pod("other", "thief-1", "account", &json!({"dapr.io/app-id": "shop"}));
    cluster.add_configuration("shops", "odd", "Not A Domain");
    let sentry = healthy(&api).await;
    let of = |namespace: &str, account: &str, pod: &str| token(namespace, account, pod, SENTRY);
    let shop_token = good.token.as_str();
    for (namespace, id, token, reason) in [
        (
            "shops",
            "shop",
            token("shops", "shop-account", "shop-1", "vault"),
            "invalid token: [invalid bearer token, token audiences",
        ),
        ("shops", "shop", shop_token.replace("signed", "forged"), "invalid token: invalid bearer token"),
        ("shops", "shop", String::new(), "invalid token: invalid bearer token"),
        ("shops", "shop", of("shops", "another-account", "shop-1"), "pod service account mismatch"),
        ("shops", "shop", of("other", "account", "thief-1"), "namespace mismatch; received namespace: shops"),
        ("other", "till", of("other", "account", "thief-1"), "app-id mismatch. expected: shop, received: till"),
        ("shops", "shop-1", shop_token.to_owned(), "app-id mismatch. expected: shop, received: shop-1"),
        ("shops", "shop", of("shops", "shop-account", "gone-1"), "failed to get pod of identity"),
        ("shops", "shop", of("other", "shop-account", "shop-1"), "failed to get pod of identity"),
        ("shops", "shop", of("shops", "shop-account", ""), "kubernetes.io/pod/name claim is missing"),
        ("shops", "lost", of("shops", "account", "lost-1"), "failed to get configuration"),
        ("shops", "odd", of("shops", "account", "odd-1"), "failed to parse trust domain \"Not A Domain\""),
        (
            "shops",
            "dapr-operator",
            of("shops", "account", "fake-1"),
            "control plane service in namespace 'shops' is not allowed",
        ),
    ] {
        let status = sign(&sentry, published(&cluster), request(namespace, id, &token)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(reason), "{:?} instead of {reason:?}", status.message());
    }
    for (validator, code) in [(1, Code::InvalidArgument), (3, Code::InvalidArgument), (9, Code::InvalidArgument)] {
        let asked = SignCertificateRequest { token_validator: validator, ..good.clone() };
        let status = sign(&sentry, published(&cluster), asked).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, "the requested validator is not enabled"));
    }
    chain(&sign(&sentry, published(&cluster), good).await.unwrap());
}

#[tokio::test]
async fn an_api_server_in_trouble_refuses_and_is_used_again_when_it_recovers() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let port = api.port();
    let good = shop(&cluster);
    let sentry = healthy(&api).await;
    let refused = async || {
        let status = sign(&sentry, published(&cluster), good.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        status.message().to_owned()
    };
    cluster.break_path("/apis/authentication.k8s.io/v1/tokenreviews", 500, "etcd is away");
    let told = refused().await;
    assert!(told.starts_with("token review failed: ") && told.ends_with("Error: etcd is away"), "{told}");
    cluster.repair();
    cluster.break_path("/api/v1/pods", 403, "pods is forbidden");
    assert_eq!(refused().await, "failed to get pod of identity");
    let log = sentry.log();
    assert!(log.contains("shops/shop-1") && log.contains("Forbidden: pods is forbidden"), "{log}");
    cluster.repair();
    drop(api);
    assert!(refused().await.starts_with("token review failed: "));
    let _api = cluster.serve_on(port).await;
    eventually("it is used again", LIMIT, || async { sign(&sentry, published(&cluster), good.clone()).await.ok() })
        .await;
}

#[tokio::test]
async fn a_start_that_cannot_succeed_ends_with_the_reason() {
    let ended = async |mut sentry: Sentry, reason: &str| {
        assert_eq!(sentry.exit_code().await, Some(1));
        assert!(sentry.log().contains(reason), "{reason:?} in\n{}", sentry.log());
    };
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    cluster.break_path(SECRET, 403, "secrets is forbidden");
    ended(beside(&api), "failed to get the secrets dapr-trust-bundle in namespace dapr-system: GET").await;
    cluster.repair();
    cluster.put_secret("no certificate", "none", "none");
    ended(beside(&api), "failed to verify CA bundle").await;
    let (root, ..) = foreign_authority();
    cluster.put(SECRET, json!({"metadata": {}, "data": {"ca.crt": "%"}}));
    ended(beside(&api), "ca.crt of the secret dapr-trust-bundle is not base64").await;
    cluster.put_secret(&root, "", "");
    ended(beside(&api), "failed to verify CA bundle").await;
    assert_eq!(cluster.written(), [""; 0], "nothing of it is published");
    cluster.remove(SECRET);
    ended(beside(&api), "failed to get the secrets dapr-trust-bundle in namespace dapr-system: not found").await;

    let stranger = plain(&api).replace("of-sentry", "of-nobody");
    ended(spawn(&stranger, &[]), "Unauthorized: Unauthorized").await;
    ended(spawn(&plain(&api), &["-config=missing"]), "cannot read the Configuration").await;
    ended(spawn("{}", &[]), "names no current-context").await;
    let port = api.port();
    drop(api);
    ended(spawn(&kubeconfig(&format!("http://127.0.0.1:{port}"), &json!({})), &[]), &port.to_string()).await;
}

#[tokio::test]
async fn the_api_server_is_spoken_to_over_tls_and_must_prove_itself() {
    let cluster = Cluster::installed();
    let api = cluster.serve().await;
    let (port, ca) = tls_in_front_of(api.port()).await;
    let server = format!("https://127.0.0.1:{port}");
    let trusted = |ca: &str| {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(ca);
        kubeconfig(&server, &json!({"certificate-authority-data": ca, "tls-server-name": "kubernetes"}))
    };
    let sentry = spawn(&trusted(&ca), &[]);
    sentry.wait_until_healthy().await;
    chain(&sign(&sentry, published(&cluster), shop(&cluster)).await.unwrap());

    let (another_ca, ..) = foreign_authority();
    let mut sentry = spawn(&trusted(&another_ca), &[]);
    assert_eq!(sentry.exit_code().await, Some(1));
    assert!(sentry.log().to_lowercase().contains("certificate"), "{}", sentry.log());
}

/// A port with TLS that leads to another, and the root of its certificate.
async fn tls_in_front_of(port: u16) -> (u16, String) {
    let now = std::time::SystemTime::now();
    let validity = Validity { now, ttl: Duration::from_secs(3600), clock_skew: Duration::from_secs(60) };
    let [root_key, issuer_key, key] = [(); 3].map(|()| PrivateKey::generate_p256().unwrap());
    let root = root(&root_key, "cluster", validity).unwrap();
    let by_root = Signer { certificate: &root, key: &root_key };
    let issuer = issuer(&issuer_key.public_key_info(), "cluster issuer", by_root, validity).unwrap();
    let by_issuer = Signer { certificate: &issuer, key: &issuer_key };
    let id = SpiffeId::parse("spiffe://cluster.local/ns/kube-system/api").unwrap();
    let leaf = workload(&key.public_key_info(), &id, &["kubernetes".to_owned()], by_issuer, validity).unwrap();
    let mut tls = server(SharedIdentity::new(&[leaf, issuer], &key).unwrap()).unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut inner).await);
            });
        }
    });
    (own, root.to_pem())
}
