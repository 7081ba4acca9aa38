//! A small HTTP/1.1 client: one request, one connection, a whole answer, a limit on its time and its size.
//!
//! *Job:* what identity providers, key sets, Kubernetes, Consul, cloud APIs and module downloads are asked with: calls that are
//! seconds apart or rarer. The hot path has clients of its own. *Neighbours:* `tls` is how a server is trusted, `exchange` the
//! bytes of one call, `redirect` where it goes on. *Invariant:* certificates are checked unless the caller says otherwise;
//! nothing outlives a call, whether it ends or is dropped, but the idle connections of a client that [keeps](Client::keeping) them.

mod error;
mod exchange;
mod kept;
mod redirect;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION};
use http::{Method, Request, Response, Uri};
use tokio::sync::OnceCell;

pub use error::Error;
pub use tls::{Tls, TlsOptions};

/// *Source:* Go's default.
const REDIRECTS_MAX: usize = 10;

/// What a call may take at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first step of connecting to the last byte of the answer.
    pub time: Duration,
    /// Of the answer's body.
    pub body_bytes: usize,
}

/// The client; cheap to make. See the crate's text.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    /// Made at the first `https` request, when it was not given: reading the system's roots takes milliseconds.
    tls: OnceCell<Tls>,
    /// Where every request goes, whatever its URL says.
    socket: Option<PathBuf>,
    /// `None` = each call has a connection of its own.
    kept: Option<kept::Kept>,
}

impl Client {
    /// Trusts the system's roots.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, tls: OnceCell::new(), socket: None, kept: None }
    }

    /// Speaks TLS as told.
    #[must_use]
    pub fn with_tls(limits: Limits, tls: Tls) -> Self {
        Self { limits, tls: OnceCell::new_with(Some(tls)), socket: None, kept: None }
    }

    /// Sends every request to a server that listens on a Unix socket, without TLS.
    #[must_use]
    pub fn on_socket(limits: Limits, socket: PathBuf) -> Self {
        Self { limits, tls: OnceCell::new(), socket: Some(socket), kept: None }
    }

    /// Keeps connections to servers it has asked, for a client that asks often.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { kept: Some(kept::Kept::default()), ..self }
    }

    /// Sends a request to an absolute URL and reads the answer, whatever its status. Redirects are answers too.
    ///
    /// # Errors
    /// Names the server and the step that failed.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        self.send_within(request, self.limits.time).await
    }

    /// The same with a time of its own, for a call that the server answers late on purpose.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_within(&self, request: Request<Bytes>, time: Duration) -> Result<Response<Bytes>, Error> {
        let target = exchange::Target::of(request.uri())?;
        // On the heap: the ways to connect make a large future, and callers keep many of them.
        match tokio::time::timeout(time, Box::pin(self.connect_and_send(&target, request))).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout(target.authority, time)),
        }
    }

    /// `GET` with the headers of `request`, following redirects; credentials stay with the server they are for.
    ///
    /// # Errors
    /// As [`Client::send`], and for more than ten redirects or one that leads to no `http` or `https` URL.
    pub async fn get(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        self.follow(request).await
    }

    /// Sends a request and follows redirects; credentials stay with the server they are for. As browsers and Go do it, all but
    /// 307 and 308 make a `GET` of what is neither `GET` nor `HEAD`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn follow(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(request.clone()).await?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| response.status().is_redirection()) else {
                return Ok(response);
            };
            let next = redirect::join(request.uri(), location)?;
            if next.authority() != request.uri().authority() {
                for name in [AUTHORIZATION, COOKIE, HOST] {
                    request.headers_mut().remove(name);
                }
            }
            if !matches!(response.status().as_u16(), 307 | 308)
                && !matches!(*request.method(), Method::GET | Method::HEAD)
            {
                *request.method_mut() = Method::GET;
                *request.body_mut() = Bytes::new();
                for name in [CONTENT_LENGTH, CONTENT_TYPE] {
                    request.headers_mut().remove(name);
                }
            }
            *request.uri_mut() = next;
        }
        Err(Error::Redirects(REDIRECTS_MAX, request.uri().to_string()))
    }

    async fn connect_and_send(
        &self,
        target: &exchange::Target,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Error> {
        if let Some(socket) = &self.socket {
            let stream = exchange::connect_socket(socket).await?;
            return exchange::exchange(target, stream, request, self.limits.body_bytes).await;
        }
        if let Some(kept) = &self.kept {
            let tls = if target.is_secure { Some(self.tls.get_or_try_init(Tls::system).await?) } else { None };
            return kept.send(target, request, tls, self.limits.body_bytes).await;
        }
        let stream = target.connect().await?;
        if !target.is_secure {
            return exchange::exchange(target, stream, request, self.limits.body_bytes).await;
        }
        let tls = self.tls.get_or_try_init(Tls::system).await?;
        let stream = tls.connect(target, stream).await?;
        exchange::exchange(target, stream, request, self.limits.body_bytes).await
    }
}

/// A request without a body.
///
/// # Errors
/// [`Error::Url`] for a text that is no URL.
pub fn request_to(url: &str) -> Result<Request<Bytes>, Error> {
    let uri: Uri = url.parse().map_err(|_| Error::Url(url.to_owned()))?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    Ok(request)
}

#[cfg(test)]
mod tests;
