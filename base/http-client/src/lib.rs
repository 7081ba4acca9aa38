//! A small HTTP/1.1 client: one request, one connection, a whole answer, a limit on its time and its size.
//!
//! *Job:* what identity providers, key sets, Kubernetes, Consul, cloud APIs and module downloads are asked with: calls that are
//! seconds apart or rarer. The hot path has clients of its own. *Neighbours:* `tls` is how a server is trusted, `exchange` the
//! bytes of one call, `redirect` where it goes on. *Invariant:* certificates are checked unless the caller says otherwise;
//! nothing outlives a call, whether it ends or is dropped.

mod error;
mod exchange;
mod redirect;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{Request, Response, Uri};
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
}

impl Client {
    /// Trusts the system's roots.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, tls: OnceCell::new() }
    }

    /// Speaks TLS as told.
    #[must_use]
    pub fn with_tls(limits: Limits, tls: Tls) -> Self {
        Self { limits, tls: OnceCell::new_with(Some(tls)) }
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
        match tokio::time::timeout(time, self.connect_and_send(&target, request)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout(target.authority, time)),
        }
    }

    /// `GET` with the headers of `request`, following redirects; credentials stay with the server they are for.
    ///
    /// # Errors
    /// As [`Client::send`], and for more than ten redirects or one that leads to no `http` or `https` URL.
    pub async fn get(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(request.clone()).await?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| response.status().is_redirection()) else {
                return Ok(response);
            };
            let next = redirect::join(request.uri(), location)?;
            if next.authority() != request.uri().authority() {
                request.headers_mut().remove(AUTHORIZATION);
                request.headers_mut().remove(COOKIE);
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
