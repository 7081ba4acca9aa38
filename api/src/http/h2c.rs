//! `Upgrade: h2c`: a client that does not know whether HTTP/2 is spoken here asks with its first HTTP/1.1 request.
//!
//! *Job:* tell a usable offer from one that is passed over, answer 101, and make of the rest of the connection one that hyper's
//! server of HTTP/2 takes. *Neighbours:* `serve` calls it for requests that are not plain, so that plain ones do not pay for it.
//! *Invariant:* the request that carried the offer is served once: as stream 1 after a 101, else over HTTP/1.1.
//!
//! hyper knows no upgrade of this kind. So the bytes it reads are those of the client, with two changes: the settings of the
//! header stand before those of the client's first SETTINGS frame (one frame, one acknowledgement, and later values count), and
//! after that frame comes a HEADERS frame that opens stream 1. It stands for the request, which is put in its place when
//! hyper calls: nothing of it is encoded again, and the flow control of both sides agrees. *Source:* RFC 7540 §3.2; what the
//! original takes is golang.org/x/net/http2/h2c.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pillion_runtime::body::Body;
use pillion_runtime::http1::server::Rewound;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use super::malformed::Refusal;
use super::respond::HttpResponse;

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Time for the client's first frame after the 101. *Source:* `prefaceTimeout` of the original's server.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while the sidecar stops.
const LAST_PREFACE_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest frame a server takes that did not say otherwise. *Source:* RFC 7540 §4.2.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The body of the request is read before the 101. One that is larger, or of unknown length, streams over HTTP/1.1 instead.
const BODY_BYTES_MAX: usize = 4 << 20;

/// The settings of an offer that can be taken: a SETTINGS frame's content. `None`: the request is served as it came.
pub(super) fn offer(request: &Request<Incoming>, max_body_bytes: usize) -> Option<Vec<u8>> {
    let limit = if max_body_bytes == 0 { BODY_BYTES_MAX } else { max_body_bytes.min(BODY_BYTES_MAX) };
    let length = http_body::Body::size_hint(request.body()).exact()?;
    let fits = request.version() == Version::HTTP_11 && length <= limit as u64;
    if fits { settings(request.headers()) } else { None }
}

fn settings(headers: &HeaderMap) -> Option<Vec<u8>> {
    if !(has_token(headers, &UPGRADE, "h2c") && has_token(headers, &CONNECTION, "http2-settings")) {
        return None;
    }
    let mut values = headers.get_all(HTTP2_SETTINGS).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let settings = URL_SAFE_NO_PAD.decode(value.as_bytes()).ok()?;
    (settings.len() % 6 == 0 && settings.chunks_exact(6).all(is_valid)).then_some(settings)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut tokens = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether a setting has a value it may have. *Source:* RFC 7540 §6.5.2.
fn is_valid(setting: &[u8]) -> bool {
    let &[high, low, a, b, c, d] = setting else { return false };
    let value = u32::from_be_bytes([a, b, c, d]);
    match u16::from_be_bytes([high, low]) {
        2 => value <= 1,
        4 => i32::try_from(value).is_ok(),
        5 => (1 << 14..1 << 24).contains(&value),
        _ => true,
    }
}

/// Where the connection finds, after its 101, what it goes on with.
pub(super) type Slot = Arc<Mutex<Option<Upgrade>>>;

/// A connection that was promised to become one of HTTP/2.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    settings: Vec<u8>,
    request: Request<Body>,
}

/// Takes an offer: keeps the request in `slot`, and gives the answer that switches.
pub(super) async fn accept(mut request: Request<Incoming>, settings: Vec<u8>, slot: &Slot) -> HttpResponse {
    let connection = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    // Its length was checked; what fails here is the client's connection.
    let Ok(body) = Body::from(body).collect(0).await else { return Refusal::BAD_REQUEST.response() };
    for name in [CONNECTION, UPGRADE, HTTP2_SETTINGS] {
        parts.headers.remove(name);
    }
    let request = Request::from_parts(parts, Body::full(body));
    *slot.lock() = Some(Upgrade { connection, settings, request });
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c"));
    response
}

impl Upgrade {
    /// Waits for the client's first frame; gives the bytes of HTTP/2 and the request its first stream stands for.
    ///
    /// # Errors
    /// The client does not go on with HTTP/2, or not in time.
    pub(super) async fn open(self, cancel: &CancellationToken) -> io::Result<(Rewound<TokioIo<Upgraded>>, First)> {
        let mut stream = TokioIo::new(self.connection.await.map_err(io::Error::other)?);
        let first = {
            let mut begin = std::pin::pin!(begin(&mut stream, &self.settings));
            let limited = tokio::time::timeout(PREFACE_TIMEOUT, begin.as_mut());
            match cancel.run_until_cancelled(limited).await {
                Some(begun) => begun,
                None => tokio::time::timeout(LAST_PREFACE_TIMEOUT, begin).await,
            }
        };
        let first = first.unwrap_or_else(|_| Err(io::Error::other("no HTTP/2 preface in time after the upgrade")))?;
        Ok((Rewound::new(first.into(), stream), First(Arc::new(Mutex::new(Some(self.request))))))
    }
}

/// Reads preface and first frame of the client, and says what the server is to read in their place.
async fn begin(stream: &mut (impl AsyncRead + Unpin), settings: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP/2 preface after the upgrade");
    let mut head = [0; PREFACE.len() + 9];
    stream.read_exact(&mut head).await?;
    let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = head.strip_prefix(PREFACE) else { return Err(invalid()) };
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(io::Error::other)?;
    if (kind, flags, [s0, s1, s2, s3]) != (SETTINGS, 0, [0; 4]) || length > FRAME_BYTES_MAX {
        return Err(invalid());
    }
    let mut theirs = vec![0; length];
    stream.read_exact(&mut theirs).await?;
    // With so long a frame of its own the client has said it all there.
    let before = if settings.len() + length > FRAME_BYTES_MAX { &[] } else { settings };
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[before, &theirs].concat());
    frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, GET);
    Ok(bytes)
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http /` in HPACK, by the numbers of its static table.
const GET: &[u8] = b"\x82\x86\x84";

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    let [_, length @ ..] = u32::try_from(content.len()).unwrap_or_default().to_be_bytes(); // at most 16 KiB
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(content);
}

/// The request that carried the offer, until its stream comes.
#[derive(Clone)]
pub(super) struct First(Arc<Mutex<Option<Request<Body>>>>);

impl First {
    /// What a call of the server stands for. Stream 1 comes before all others.
    pub(super) fn instead_of(&self, request: Request<Incoming>) -> Request<Body> {
        self.0.lock().take().unwrap_or_else(|| request.map(Body::from))
    }
}

#[cfg(test)]
mod tests;
