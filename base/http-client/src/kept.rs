//! Connections that are used again.
//!
//! *Job:* for a client that asks the same servers over and over: take an idle connection, or make one, and keep it after a whole
//! answer. *Invariant:* a request is sent again only when none of it was sent, or when it changes nothing at its server (`GET` and the
//! like); a call that ends early takes its connection with it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::{Cause, Target, prepared, told};
use crate::{Error, Tls};

/// Longer than this many servers close idle connections.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Idle connections in all.
const IDLE_MAX: usize = 32;

type Sender = SendRequest<Full<Bytes>>;
/// Whether it is TLS, and the server.
type Key = (bool, String);

/// Idle connections by server, the last used one last.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<Key, Vec<(Sender, Instant)>>>);

impl Kept {
    /// Sends the request and reads the whole answer; `tls` for a server that wants it.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: Request<Bytes>,
        tls: Option<&Tls>,
        body_bytes_max: usize,
    ) -> Result<Response<Bytes>, Error> {
        let failed = |cause: Cause| told(target, cause, body_bytes_max);
        let mut request = prepared(target, request).map_err(failed)?.map(Full::new);
        let key = (target.is_secure, target.authority.clone());
        loop {
            let kept = self.take(&key);
            let is_new = kept.is_none();
            let mut sender = match (kept, tls) {
                (Some(sender), _) => sender,
                (None, None) => open(target.connect().await?).await.map_err(failed)?,
                (None, Some(tls)) => open(tls.connect(target, target.connect().await?).await?).await.map_err(failed)?,
            };
            if sender.ready().await.is_err() && !is_new {
                continue; // the server closed it meanwhile
            }
            // A server that closes an idle connection at this very moment has done nothing of the request.
            let again = (!is_new && request.method().is_safe()).then(|| request.clone());
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let response = whole(response, body_bytes_max).await.map_err(failed)?;
                    self.put(key, sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message().filter(|_| !is_new).or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(failed(error.into_error().into())),
                },
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Key, Vec<(Sender, Instant)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: &Key) -> Option<Sender> {
        let mut idle = self.idle();
        let connections = idle.get_mut(key)?;
        while let Some((sender, since)) = connections.pop() {
            if since.elapsed() < IDLE_LIMIT && !sender.is_closed() {
                return Some(sender);
            }
        }
        idle.remove(key);
        None
    }

    fn put(&self, key: Key, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle();
        if idle.values().map(Vec::len).sum::<usize>() >= IDLE_MAX {
            idle.clear();
        }
        idle.entry(key).or_default().push((sender, Instant::now()));
    }
}

/// A connection; its task ends with its sender.
async fn open<S>(stream: S) -> Result<Sender, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await; // its calls say what went wrong
    });
    Ok(sender)
}

async fn whole(response: Response<Incoming>, body_bytes_max: usize) -> Result<Response<Bytes>, Cause> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, body_bytes_max).collect().await?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
