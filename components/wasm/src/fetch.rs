//! Gets the bytes of a guest from a file or an HTTP server.
//!
//! *Invariant:* never more than [`MODULE_LIMIT`] bytes, never longer than [`FETCH_TIMEOUT`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::metadata::Location;

/// The largest module that is loaded.
const MODULE_LIMIT: usize = 128 * 1024 * 1024;
/// How long a server may take for the whole module.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects that are followed; the number of Go's client.
const MAX_REDIRECTS: usize = 10;

/// The bytes at a location.
///
/// # Errors
/// A text that says what was tried and what went wrong.
pub(crate) async fn fetch(location: &Location) -> Result<Bytes, String> {
    match location {
        Location::File(path) => file(path).await,
        Location::Http(uri) => tokio::time::timeout(FETCH_TIMEOUT, http(uri.clone()))
            .await
            .unwrap_or_else(|_| Err(format!("fetching {uri}: no full answer within {} s", FETCH_TIMEOUT.as_secs()))),
    }
}

async fn file(path: &str) -> Result<Bytes, String> {
    let problem = |error: io::Error| format!("reading {path}: {error}");
    let size = tokio::fs::metadata(path).await.map_err(problem)?.len();
    if size > MODULE_LIMIT as u64 {
        return Err(format!("reading {path}: {size} bytes; a module may have {MODULE_LIMIT}"));
    }
    tokio::fs::read(path).await.map(Bytes::from).map_err(problem)
}

async fn http(mut uri: Uri) -> Result<Bytes, String> {
    for _ in 0..=MAX_REDIRECTS {
        match get(&uri).await? {
            Answer::Module(bytes) => return Ok(bytes),
            Answer::Elsewhere(target) => uri = target,
        }
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects, at {uri}"))
}

enum Answer {
    Module(Bytes),
    Elsewhere(Uri),
}

async fn get(uri: &Uri) -> Result<Answer, String> {
    let problem = |error: &dyn std::fmt::Display| format!("fetching {uri}: {error}");
    let host = uri.host().ok_or_else(|| problem(&"no host"))?;
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare_host = host.trim_start_matches('[').trim_end_matches(']'); // an IPv6 address in a URI
    let stream = TcpStream::connect((bare_host, port)).await.map_err(|error| problem(&error))?;
    if secure {
        let name = ServerName::try_from(bare_host.to_owned()).map_err(|error| problem(&error))?;
        let stream = connector()?.connect(name, stream).await.map_err(|error| problem(&error))?;
        exchange(uri, stream).await
    } else {
        exchange(uri, stream).await
    }
    .map_err(|error| problem(&error))
}

async fn exchange<S>(uri: &Uri, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let talk = async {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(path)
            .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::USER_AGENT, "pillion")
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status().is_redirection() {
            let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = target.ok_or("a redirect without location")?;
            return redirect(uri, target).map(Answer::Elsewhere);
        }
        if response.status() != StatusCode::OK {
            return Err(format!("received {} status code from {uri:?}", response.status().as_u16()));
        }
        if let Some(coding) = response.headers().get(header::CONTENT_ENCODING)
            && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(format!("the server sent content-encoding {coding:?}, which was not asked for"));
        }
        let body = Limited::new(response.into_body(), MODULE_LIMIT).collect().await;
        Ok(Answer::Module(body.map_err(|error| format!("reading the module: {error}"))?.to_bytes()))
    };
    // The connection has to be driven beside the request; neither outlives this call.
    tokio::pin!(talk, connection);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut talk => return answer,
            ended = &mut connection, if open => match ended {
                Ok(()) => open = false,
                Err(error) => return Err(error.to_string()),
            },
        }
    }
}

fn redirect(from: &Uri, target: &str) -> Result<Uri, String> {
    let base = || {
        let scheme = from.scheme_str().unwrap_or("http");
        let authority = from.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}")
    };
    let full = if target.contains("://") {
        target.to_owned()
    } else if target.starts_with('/') {
        format!("{}{target}", base())
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{}{folder}/{target}", base())
    };
    match full.parse::<Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(uri),
        _ => Err(format!("redirected to {target}, which is not an http or https address")),
    }
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("no root certificates found on this system (install the package ca-certificates)".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection per element with these bytes.
    async fn serve(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/folder/guest.wasm")
    }

    async fn fetched(answers: Vec<&'static str>) -> Result<Bytes, String> {
        let url = serve(answers).await;
        fetch(&Location::Http(url.parse().unwrap())).await
    }

    const MODULE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

    #[tokio::test]
    async fn over_http() {
        assert_eq!(fetched(vec![MODULE]).await.unwrap(), "abc");
        let until_close = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc";
        assert_eq!(fetched(vec![until_close]).await.unwrap(), "abc");
        let moved = "HTTP/1.1 302 Found\r\nlocation: other.wasm\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(fetched(vec![moved, MODULE]).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn problems_are_named() {
        let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        let found = fetched(vec![missing]).await.unwrap_err();
        assert!(found.contains("received 404 status code from"), "{found}");
        let packed = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n";
        assert!(fetched(vec![packed]).await.unwrap_err().contains("content-encoding"));
        let loops = "HTTP/1.1 301 x\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n";
        assert!(fetched(vec![loops; 11]).await.unwrap_err().contains("10 redirects"));
        assert!(fetch(&Location::File("/no/such.wasm".into())).await.unwrap_err().contains("/no/such.wasm"));
    }

    #[test]
    fn redirects() {
        let from: Uri = "https://host:1/a/b.wasm".parse().unwrap();
        for (target, expected) in
            [("c", "https://host:1/a/c"), ("/c?d", "https://host:1/c?d"), ("http://other/c", "http://other/c")]
        {
            assert_eq!(redirect(&from, target).unwrap().to_string(), expected);
        }
        assert!(redirect(&from, "file:///etc/passwd").is_err());
    }
}
