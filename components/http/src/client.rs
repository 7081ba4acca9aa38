//! A small HTTP client for identity providers: one request, a whole answer, a limit on its time and size.
//!
//! *Neighbours:* `bearer` reads documents with it, `token_endpoint` posts forms. *Invariant:* certificates are checked against the
//! system's roots. Connections are not kept: requests are minutes apart.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Time for one request with its answer. *Source:* the limit of the original for the discovery document.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer; documents and tokens have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// *Source:* Go's default.
const REDIRECTS_MAX: usize = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    #[error("connecting to {0}: {1}")]
    Connect(String, #[source] io::Error),
    #[error("no root certificates found on this system (install the package ca-certificates)")]
    Roots,
    #[error("request to {0}: {1}")]
    Exchange(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("request to {0}: no answer after 30 s")]
    Timeout(String),
    #[error("more than 10 redirects")]
    Redirects,
}

/// The client; TLS settings are loaded at the first `https` request.
#[derive(Default)]
pub(crate) struct Client {
    tls: OnceCell<TlsConnector>,
}

impl Client {
    /// `GET`, following redirects.
    pub(crate) async fn get(&self, url: &str) -> Result<Response<Bytes>, ClientError> {
        let mut url: Uri = url.parse().map_err(|_| ClientError::Url(url.to_owned()))?;
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = url.clone();
            let response = self.send(request).await?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match location {
                Some(location) if response.status().is_redirection() => url = join(&url, location)?,
                _ => return Ok(response),
            }
        }
        Err(ClientError::Redirects)
    }

    /// `POST` of a form with more headers.
    pub(crate) async fn post_form(
        &self,
        url: &str,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(Bytes::from(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|_| ClientError::Url(url.to_owned()))?;
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(value) = authorization {
            headers.insert(http::header::AUTHORIZATION, value);
        }
        self.send(request).await
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let url = request.uri().to_string();
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        match tokio::time::timeout(TIMEOUT, self.connect_and_send(&url, request)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout(host)),
        }
    }

    async fn connect_and_send(&self, url: &str, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let uri = request.uri();
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(ClientError::Url(url.to_owned())),
        };
        let host = uri.host().ok_or_else(|| ClientError::Url(url.to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let failed = |error| ClientError::Connect(format!("{host}:{port}"), error);
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
        let _ = stream.set_nodelay(true); // only slower without
        if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| ClientError::Url(url.to_owned()))?;
            let stream = self.tls().await?.connect(name, stream).await.map_err(failed)?;
            exchange(stream, request).await
        } else {
            exchange(stream, request).await
        }
        .map_err(|error| ClientError::Exchange(host, error))
    }

    async fn tls(&self) -> Result<&TlsConnector, ClientError> {
        let load = || async {
            let loaded = tokio::task::spawn_blocking(|| rustls_native_certs::load_native_certs().certs).await;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(loaded.unwrap_or_default());
            if roots.is_empty() {
                return Err(ClientError::Roots);
            }
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| ClientError::Exchange("TLS".to_owned(), Box::new(error)))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        };
        self.tls.get_or_try_init(load).await
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    if let Some(authority) = parts.uri.authority() {
        // What stands before an `@` is a user's name and password, which is not a part of a host.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        parts.headers.insert(HOST, HeaderValue::from_str(host)?);
    }
    parts.headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json, */*"));
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    parts.uri = target.parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // A connection that ends may have left the rest of the answer behind it.
    let drive = async {
        let _ = connection.await; // the answer fails with the same error
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = drive => Err("the connection ended".into()),
    }
}

fn join(base: &Uri, location: &str) -> Result<Uri, ClientError> {
    let refused = || ClientError::Url(location.to_owned());
    let next: Uri = location.parse().map_err(|_| refused())?;
    if next.scheme().is_some() {
        return Ok(next);
    }
    if !location.starts_with('/') {
        return Err(refused());
    }
    let mut parts = next.into_parts();
    parts.scheme = base.scheme().cloned();
    if parts.authority.is_none() {
        parts.authority = base.authority().cloned();
    }
    Uri::from_parts(parts).map_err(|_| refused())
}
