use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pillion_security::issue::{self, Signer, Validity};
use pillion_security::{Certificate, PrivateKey, SpiffeId, TrustDomain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(5), body_bytes: 100 };

/// Answers one connection per element with these bytes; the task's result is what was asked.
async fn serve(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).await.unwrap();
            asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (format!("http://{address}/folder/file"), asked)
}

async fn answered(answers: Vec<&'static str>) -> Result<Response<Bytes>, Error> {
    let (url, _) = serve(answers).await;
    Client::new(LIMITS).get(request_to(&url).unwrap()).await
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

#[tokio::test]
async fn answers_are_whole_however_they_end() {
    assert_eq!(answered(vec![FINE]).await.unwrap().body(), "abc");
    let until_close = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc";
    assert_eq!(answered(vec![until_close]).await.unwrap().body(), "abc");
    let failed = answered(vec!["HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n"]).await.unwrap();
    assert_eq!(failed.status(), 500, "any status is an answer");
    let cut = answered(vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"]).await.unwrap_err().to_string();
    assert!(cut.starts_with("request to 127.0.0.1:"), "{cut}");
}

#[tokio::test]
async fn redirects_are_followed_and_credentials_stay() {
    let (other, asked_of_other) = serve(vec![FINE]).await;
    let moved = format!("HTTP/1.1 302 Found\r\nlocation: {other}?x=1\r\ncontent-length: 0\r\n\r\n");
    let near = "HTTP/1.1 301 Moved\r\nlocation: near\r\ncontent-length: 0\r\n\r\n";
    let (url, asked) = serve(vec![near, moved.leak()]).await;
    let mut request = request_to(&url).unwrap();
    request.headers_mut().insert(AUTHORIZATION, "Bearer t".parse().unwrap());
    request.headers_mut().insert("x-more", "m".parse().unwrap());
    assert_eq!(Client::new(LIMITS).get(request).await.unwrap().body(), "abc");
    let (asked, elsewhere) = (asked.await.unwrap(), asked_of_other.await.unwrap());
    assert!(asked[0].starts_with("GET /folder/file HTTP/1.1\r\n") && asked[0].contains("Bearer t"), "{asked:?}");
    assert!(asked[1].starts_with("GET /folder/near HTTP/1.1\r\n") && asked[1].contains("Bearer t"), "{asked:?}");
    assert!(elsewhere[0].starts_with("GET /folder/file?x=1 HTTP/1.1\r\n"), "{elsewhere:?}");
    assert!(!elsewhere[0].contains("Bearer") && elsewhere[0].contains("x-more: m"), "{elsewhere:?}");
    assert!(elsewhere[0].contains("user-agent: pillion\r\n"), "{elsewhere:?}");
    let circle = "HTTP/1.1 301 x\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n";
    let error = answered(vec![circle; 11]).await.unwrap_err().to_string();
    assert!(error.starts_with("stopped after 10 redirects, at http://127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_redirect_makes_a_get_of_a_post_unless_it_says_otherwise() {
    for (status, method, body) in [(302, "GET /folder/near", ""), (307, "POST /folder/near", "data")] {
        let moved = format!("HTTP/1.1 {status} x\r\nlocation: near\r\ncontent-length: 0\r\n\r\n");
        let (url, asked) = serve(vec![moved.leak(), FINE]).await;
        let mut request = request_to(&url).unwrap();
        *request.method_mut() = Method::POST;
        *request.body_mut() = Bytes::from("data");
        request.headers_mut().insert(HOST, "other.example".parse().unwrap());
        assert_eq!(Client::new(LIMITS).follow(request).await.unwrap().body(), "abc");
        let asked = asked.await.unwrap();
        assert!(
            asked[0].starts_with("POST /folder/file ") && asked[0].contains("host: other.example\r\n"),
            "{asked:?}"
        );
        assert!(asked[1].starts_with(method) && asked[1].ends_with(&format!("\r\n\r\n{body}")), "{asked:?}");
    }
}

#[tokio::test]
async fn time_and_size_have_limits() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{}", "x".repeat(101));
    let error = answered(vec![long.leak()]).await.unwrap_err().to_string();
    assert!(error.ends_with(": the answer has more than 100 bytes"), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let answer = Client::new(LIMITS).send_within(request_to(&url).unwrap(), Duration::from_millis(50)).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.ends_with(": no full answer within 0.05 s"), "{error}");
    drop(silent);
    let error = Client::new(LIMITS).send(request_to(&url).unwrap()).await.unwrap_err().to_string();
    assert!(error.starts_with("connecting to 127.0.0.1:"), "{error}");
    for url in ["ftp://host/", "/path", "host:80"] {
        let error = Client::new(LIMITS).send(request_to(url).unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Url(_)), "{error}");
    }
}

/// A TLS server that is called `server.example`; it answers each connection once.
async fn tls_server() -> (u16, Certificate) {
    let validity =
        Validity { now: SystemTime::now(), ttl: Duration::from_secs(600), clock_skew: Duration::from_secs(60) };
    let (root_key, key) = (PrivateKey::generate_p256().unwrap(), PrivateKey::generate_p256().unwrap());
    let root = issue::root(&root_key, "public", validity).unwrap();
    let id = SpiffeId::new(TrustDomain::parse("public").unwrap(), "default", "server").unwrap();
    let signer = Signer { certificate: &root, key: &root_key };
    let leaf = issue::workload(&key.public_key_info(), &id, &["server.example".to_owned()], signer, validity).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 2048]).await;
            let _ = stream.write_all(FINE.as_bytes()).await;
        }
    });
    (port, root)
}

#[tokio::test]
async fn certificates_are_checked_unless_told_otherwise() {
    let (port, root) = tls_server().await;
    let asked = async |roots: &[Certificate], server_name: &str, is_unverified: bool| {
        let (roots, server_name) = (Some(roots.to_vec()), Some(server_name.to_owned()));
        let tls = Tls::new(TlsOptions { roots, server_name, is_unverified, identity: None }).unwrap();
        let request = request_to(&format!("https://127.0.0.1:{port}/")).unwrap();
        Client::with_tls(LIMITS, tls).send(request).await
    };
    let roots = [root];
    assert_eq!(asked(&roots, "server.example", false).await.unwrap().body(), "abc");
    assert!(matches!(asked(&roots, "other.example", false).await, Err(Error::Tls(..))), "another name");
    assert!(matches!(asked(&[], "server.example", false).await, Err(Error::Tls(..))), "an unknown root");
    assert_eq!(asked(&[], "other.example", true).await.unwrap().body(), "abc");
}

/// Answers what comes on each connection in turn, that many requests each, and then closes it.
async fn serve_kept(requests_of_each: Vec<usize>) -> (String, Arc<std::sync::Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        for (number, requests) in requests_of_each.into_iter().enumerate() {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..requests {
                let mut request = [0; 2048];
                if stream.read(&mut request).await.unwrap() == 0 {
                    break;
                }
                log.lock().unwrap().push(number);
                stream.write_all(FINE.as_bytes()).await.unwrap();
            }
        }
    });
    (url, seen)
}

#[tokio::test]
async fn connections_are_kept_until_the_server_closes_them() {
    let (url, seen) = serve_kept(vec![2, 1, 1]).await;
    let client = Client::new(LIMITS).keeping();
    for _ in 0..4 {
        assert_eq!(client.send(request_to(&url).unwrap()).await.unwrap().body(), "abc");
        tokio::time::sleep(Duration::from_millis(50)).await; // the server's end gets here
    }
    assert_eq!(*seen.lock().unwrap(), [0, 0, 1, 2]);
    let error = client.send(request_to(&url).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn calls_side_by_side_have_a_connection_each() {
    let (url, seen) = serve_kept(vec![9]).await;
    let client = Client::new(Limits { time: Duration::from_millis(300), ..LIMITS }).keeping();
    let call = || client.send(request_to(&url).unwrap());
    let (first, second) = tokio::join!(call(), call());
    // The server works on one connection; the other call waits for its own and is given up, the kept one goes on.
    assert!(first.is_ok() != second.is_ok());
    assert!(call().await.is_ok());
    assert_eq!(*seen.lock().unwrap(), [0, 0]);
}
