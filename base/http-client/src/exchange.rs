//! One connection and the call on it.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::Error;

pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The server of a URL.
#[derive(Debug)]
pub(crate) struct Target {
    /// Without brackets.
    pub(crate) host: String,
    port: u16,
    pub(crate) is_secure: bool,
    /// As it stands in the URL, without a user: for the header `Host` and for messages.
    pub(crate) authority: String,
}

impl Target {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        let refused = || Error::Url(uri.to_string());
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refused()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refused)?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            is_secure,
            authority: authority.rsplit('@').next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) async fn connect(&self) -> Result<TcpStream, Error> {
        let failed = |error: io::Error| Error::Connect(self.authority.clone(), error);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        let _ = stream.set_nodelay(true); // only slower without
        Ok(stream)
    }
}

pub(crate) async fn connect_socket(socket: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(socket).await.map_err(|error| Error::Connect(socket.display().to_string(), error))
}

/// Sends the request and reads the whole answer.
pub(crate) async fn exchange<S>(
    target: &Target,
    stream: S,
    request: Request<Bytes>,
    body_bytes_max: usize,
) -> Result<Response<Bytes>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    talk(target, stream, request, body_bytes_max).await.map_err(|cause| told(target, cause, body_bytes_max))
}

/// The error of a call.
pub(crate) fn told(target: &Target, cause: Cause, body_bytes_max: usize) -> Error {
    if cause.is::<LengthLimitError>() {
        Error::TooLarge(target.authority.clone(), body_bytes_max)
    } else {
        Error::Exchange(target.authority.clone(), cause)
    }
}

/// The request as it is sent: in origin form, with the headers every request has.
pub(crate) fn prepared(target: &Target, request: Request<Bytes>) -> Result<Request<Bytes>, Cause> {
    let (mut parts, body) = request.into_parts();
    if !parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, HeaderValue::from_str(&target.authority)?);
    }
    parts.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("pillion"));
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    Ok(Request::from_parts(parts, body))
}

async fn talk<S>(
    target: &Target,
    stream: S,
    request: Request<Bytes>,
    body_bytes_max: usize,
) -> Result<Response<Bytes>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = prepared(target, request)?.map(Full::new);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, body_bytes_max).collect().await?.to_bytes();
        Ok::<_, Cause>(Response::from_parts(parts, body))
    };
    // The connection is driven beside the call. However it ends, it may have left the rest of the answer behind it: many
    // servers break off TLS after the last byte. When it has not, its error says more than that of the call.
    tokio::pin!(answer, connection);
    let mut ending = None;
    loop {
        tokio::select! {
            answer = &mut answer => return match (answer, ending) {
                (Err(error), Some(Err(cause))) if !error.is::<LengthLimitError>() => Err(Cause::from(cause)),
                (answer, _) => answer,
            },
            ended = &mut connection, if ending.is_none() => ending = Some(ended),
        }
    }
}
