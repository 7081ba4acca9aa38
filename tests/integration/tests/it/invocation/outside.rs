//! Hosts outside the mesh: HTTPEndpoint resources with TLS, client certificates, headers and secrets, and full URLs.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use pillion_testkit::{Answer, Binary, FakeApp, Recorded, ResourceDir, SidecarOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::fixture::unique;

/// Self-made, for tests alone.
const ROOT: &str = include_str!("../../../../../blocks/runtime/src/app_channel/tls/testdata/root.pem");
const CERTIFICATE: &str = include_str!("../../../../../blocks/runtime/src/app_channel/tls/testdata/localhost.pem");
const KEY: &str = include_str!("../../../../../blocks/runtime/src/app_channel/tls/testdata/localhost.key.pem");

/// A host that speaks TLS and, if told so, only with who shows a certificate of the root; records the heads it gets.
async fn host(ask_for_certificate: bool) -> (u16, Arc<Mutex<Vec<String>>>) {
    let certificate =
        |text: &str| CertificateDer::pem_reader_iter(Cursor::new(text.to_owned())).next().unwrap().unwrap();
    let key = PrivateKeyDer::from_pem_reader(Cursor::new(KEY)).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if ask_for_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(ROOT)).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap(),
        )
    } else {
        builder.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate(CERTIFICATE)], key).unwrap()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, heads) = (acceptor.clone(), heads.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                heads.lock().unwrap().push(String::from_utf8_lossy(&head).to_lowercase());
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecure";
                let _ = stream.write_all(answer).await; // the sidecar may be gone
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, seen)
}

fn endpoint(name: &str, url: &str, rest: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {{name: {name}}}\nspec:\n  baseUrl: {url}\n{rest}"
    )
}

fn block(name: &str, pem: &str) -> String {
    let lines: Vec<String> = pem.lines().map(|line| format!("        {line}")).collect();
    format!("    {name}:\n      value: |\n{}\n", lines.join("\n"))
}

#[tokio::test]
async fn an_endpoint_has_its_own_roots_certificate_and_headers() {
    let ((open, heads), (closed, _)) = (host(false).await, host(true).await);
    let (open, closed) = (format!("https://localhost:{open}"), format!("https://localhost:{closed}"));
    let dir = ResourceDir::new().unwrap();
    let secrets = dir.path().join("secrets.json");
    std::fs::write(&secrets, r#"{"token": "from-a-secret"}"#).unwrap();
    let store = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: secrets}}\nspec:\n  type: secretstores.local.file\n  version: v1\n  metadata:\n  - {{name: secretsFile, value: {}}}\n",
        secrets.display()
    );
    let headers = "  headers:\n  - {name: x-set, value: by-endpoint}\n  - {name: x-token, secretKeyRef: {name: token, key: token}}\nauth: {secretStore: secrets}\n";
    let roots = format!("  clientTLS:\n{}", block("rootCA", ROOT));
    let own = format!("{roots}{}{}", block("certificate", CERTIFICATE), block("privateKey", KEY));
    let dir = dir
        .with("a-store.yaml", &store)
        .unwrap()
        .with("trusted.yaml", &endpoint("trusted", &open, &format!("{roots}{headers}")))
        .unwrap()
        .with("untrusted.yaml", &endpoint("untrusted", &open, ""))
        .unwrap()
        .with("nameless.yaml", &endpoint("nameless", &closed, &roots))
        .unwrap()
        .with("known.yaml", &endpoint("known", &closed, &own))
        .unwrap();
    let caller = SidecarOptions::new(&unique("caller")).resources(dir.path()).start().await.unwrap();
    let get = async |name: &str| {
        let headers = [("x-set", "by-caller"), ("x-mine", "kept")];
        let reply = caller.send(http::Method::GET, &format!("/v1.0/invoke/{name}/method/a/b?q=1"), &headers, "").await;
        let reply = reply.unwrap();
        (reply.status.as_u16(), reply.text())
    };
    assert_eq!(get("trusted").await, (200, "secure".to_owned()));
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("get /a/b?q=1 http/1.1"), "{head}");
    for line in ["x-set: by-endpoint\r\n", "x-token: from-a-secret\r\n", "x-mine: kept\r\n"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("by-caller"), "{head}");
    assert_eq!(get("known").await, (200, "secure".to_owned()));
    for name in ["untrusted", "nameless"] {
        let (status, text) = get(name).await;
        assert_eq!(status, 500, "{name}: {text}");
        assert!(text.contains("ERR_DIRECT_INVOKE"), "{text}");
    }
    let (_, text) = get("untrusted").await;
    let said = format!(
        "failed to invoke, id: untrusted, err: Get \\\"{open}/a/b?q=1\\\": tls: failed to verify certificate: x509: "
    );
    assert!(text.contains(&said), "{said} in {text}");
    // A full URL has no roots of its own.
    let (status, text) = get(&open).await;
    assert!(status == 500 && text.contains("tls: failed to verify certificate"), "{text}");
}

#[tokio::test]
async fn full_urls_in_every_form() {
    let outside =
        FakeApp::start(|request: &Recorded, _| Answer::text(format!("{}?{}", request.path, request.query))).await;
    let outside = outside.unwrap();
    let caller = SidecarOptions::new(&unique("caller")).start().await.unwrap();
    let port = outside.port();
    for (target, seen) in [
        (format!("http://127.0.0.1:{port}/method/a?q=1"), "/a?q=1"),
        (format!("http:%2F%2F127.0.0.1:{port}/method/a"), "/a?"),
        (format!("http%3A%2F%2F127.0.0.1%3A{port}/method/a//b"), "/a/b?"),
        (format!("http://127.0.0.1:{port}/base/method/a"), "/base/a?"),
        (format!("http://127.0.0.1:{port}/method/"), "/?"),
        (format!("http://127.0.0.1:{port}/method/a/../b"), "/b?"),
    ] {
        let reply = caller.get(&format!("/v1.0/invoke/{target}")).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, seen), "{target}");
    }
    let headers = [("dapr-app-id", format!("http://127.0.0.1:{port}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = caller.send(http::Method::GET, "/by/header", &headers, "").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "/by/header?"));
    // Hosts outside are not told of the mesh.
    if Binary::find().unwrap().is_ours() {
        let seen = &outside.requests("/by/header")[0];
        assert!(seen.headers.get("dapr-app-id").is_none(), "{:?}", seen.headers);
    }
}
