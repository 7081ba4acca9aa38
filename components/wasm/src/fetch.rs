//! Gets the bytes of a guest from a file or an HTTP server.
//!
//! *Invariant:* never more than [`MODULE_LIMIT`] bytes, never longer than [`FETCH_TIMEOUT`].

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use pillion_http_client::{Client, Limits, request_to};

use crate::metadata::Location;

/// The largest module that is loaded.
const MODULE_LIMIT: usize = 128 * 1024 * 1024;
/// How long a server may take for the whole module.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The bytes at a location.
///
/// # Errors
/// A text that says what was tried and what went wrong.
pub(crate) async fn fetch(location: &Location) -> Result<Bytes, String> {
    match location {
        Location::File(path) => file(path).await,
        Location::Http(uri) => http(uri).await.map_err(|problem| format!("fetching {uri}: {problem}")),
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

async fn http(uri: &Uri) -> Result<Bytes, String> {
    let client = Client::new(Limits { time: FETCH_TIMEOUT, body_bytes: MODULE_LIMIT });
    let mut request = request_to(&uri.to_string()).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let response = client.get(request).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("received {} status code from {uri:?}", response.status().as_u16()));
    }
    if let Some(coding) = response.headers().get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(format!("the server sent content-encoding {coding:?}, which was not asked for"));
    }
    Ok(response.into_body())
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
}
