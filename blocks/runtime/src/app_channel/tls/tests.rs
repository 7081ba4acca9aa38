//! `testdata`: a root, and a certificate of it for `localhost` that serves both sides; made with openssl, valid for
//! 100 years, used nowhere else.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::*;

const ROOT: &str = include_str!("testdata/root.pem");
const CHAIN: &str = include_str!("testdata/localhost.pem");
const KEY: &str = include_str!("testdata/localhost.key.pem");

/// Talks one byte over TLS with a server that wants a certificate of the test root when `mutual`.
async fn talk(client: TlsClient, host: &str, mutual: bool) -> io::Result<()> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if mutual {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(ROOT).unwrap()), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let server = builder.with_single_cert(certificates("certificate", CHAIN).unwrap(), key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await?;
        stream.write_all(b"!").await?;
        stream.shutdown().await
    };
    let ask = async {
        let mut stream = client.connect(host, tokio::net::TcpStream::connect(address).await?).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| assert_eq!(answer, b"!"))
    };
    let (served, asked) = tokio::join!(serve, ask);
    served.and(asked)
}

#[tokio::test]
async fn a_given_root_is_trusted_for_its_names_alone() {
    let client = TlsClient::new(Some(ROOT), None).unwrap();
    talk(client.clone(), "localhost", false).await.unwrap();
    talk(client, "elsewhere", false).await.unwrap_err();
}

#[tokio::test]
async fn the_client_certificate_is_shown() {
    talk(TlsClient::new(Some(ROOT), Some((CHAIN, KEY))).unwrap(), "localhost", true).await.unwrap();
    talk(TlsClient::new(Some(ROOT), None).unwrap(), "localhost", true).await.unwrap_err();
}

#[tokio::test]
async fn the_own_app_is_not_checked() {
    talk(TlsClient::unverified().unwrap(), "elsewhere", false).await.unwrap();
}

#[test]
fn unusable_settings_name_their_field() {
    for (root, identity, field) in [
        (Some("-"), None, "rootCA: "),
        (Some(KEY), None, "rootCA: "),
        (Some(ROOT), Some(("", KEY)), "certificate: "),
        (Some(ROOT), Some((CHAIN, CHAIN)), "privateKey: "),
    ] {
        let error = TlsClient::new(root, identity).unwrap_err();
        assert!(error.starts_with(field), "{error}");
    }
}
