//! The serving side of a connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, DATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;

use super::chunked::{CHUNK_END, LAST_CHUNK, write_size};
use super::head::{Parsed, read_request, write_field, write_headers, write_length};
use super::{COPIED_BODY_MAX, KEPT_BUFFER_MAX, READ_BYTES};
use crate::body::Body;

/// Bytes of a request body; larger ones are streamed, which is hyper's part.
pub const BODY_MAX: usize = 64 * 1024;
/// Time for a head once its first byte is here. *Source:* spec http_api.md §1, as the original.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How [`serve`] ended.
pub enum End<S> {
    /// The connection is done.
    Closed,
    /// It was stopped before the next request was whole, and somebody else goes on.
    Stopped(Connection<S>),
    /// The next request is not plain: another server has to go on, from its first byte.
    Other(Rewound<S>),
}

/// Answers the plain requests of a connection until it ends, or until one comes that is not plain.
///
/// When cancelled, the request under way is answered, and then the connection is closed. When the client goes away, the
/// call is dropped.
///
/// # Errors
/// Reading or writing failed, or the body of an answer broke off.
pub async fn serve<S, H, F>(
    stream: S,
    head_bytes_max: usize,
    cancel: &CancellationToken,
    handle: H,
) -> io::Result<End<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: FnMut(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    serve_on(Connection::new(stream), head_bytes_max, cancel, &|| false, handle).await
}

/// As [`serve`] for a connection that may have been served before. When cancelled while somebody `goes_on` with it, it is stopped after
/// the request under way, and its client notices nothing.
///
/// # Errors
/// As [`serve`].
pub async fn serve_on<S, H, F>(
    mut connection: Connection<S>,
    head_bytes_max: usize,
    cancel: &CancellationToken,
    goes_on: &(dyn Fn() -> bool + Sync),
    mut handle: H,
) -> io::Result<End<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: FnMut(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    let mut cancelled = std::pin::pin!(cancel.cancelled());
    loop {
        let (request, close) = match connection.next(head_bytes_max, cancelled.as_mut(), goes_on).await? {
            Next::Request(request, close) => (request, close),
            Next::Stopped => return Ok(End::Stopped(connection)),
            Next::Closed => return Ok(End::Closed),
            Next::Other => return Ok(End::Other(connection.rewound())),
        };
        let is_head = request.method() == http::Method::HEAD;
        let response = {
            // Pinned where it is made: calls are large, and moving them costs.
            let mut call = std::pin::pin!(handle(request));
            connection.while_open(|cx| call.as_mut().poll(cx)).await
        };
        let Some(response) = response else { return Ok(End::Closed) };
        let is_stopped = cancel.is_cancelled();
        let moves = is_stopped && goes_on();
        let close = close || (is_stopped && !moves);
        if !connection.answer(response, is_head, close).await? {
            let _ = connection.stream.shutdown().await; // the client may be gone already
            return Ok(End::Closed);
        }
        if moves {
            return Ok(End::Stopped(connection));
        }
    }
}

/// A whole answer, head and body, that stands in the extensions of a response and is written in its place. The connection ends with it.
#[derive(Clone, Debug)]
pub struct Verbatim(pub Bytes);

#[expect(clippy::large_enum_variant, reason = "lives for a moment on the stack; the large one is the usual one")]
enum Next {
    /// A request, and whether the client closes after its answer.
    Request(Request<Body>, bool),
    Closed,
    /// Cancelled before a whole request was here, and somebody goes on.
    Stopped,
    Other,
}

/// A connection with what was read ahead.
pub struct Connection<S> {
    stream: S,
    input: BytesMut,
    output: Vec<u8>,
    date: DateCache,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection nobody has read from.
    pub fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), date: DateCache::default() }
    }

    /// The next whole request. When cancelled, what is here of it is left to who goes on; without somebody the rest is waited for.
    async fn next(
        &mut self,
        head_bytes_max: usize,
        mut cancelled: Pin<&mut impl Future>,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> io::Result<Next> {
        let mut is_last = false;
        let mut started = None;
        let mut needed = 0;
        let mut head_is_here = false;
        loop {
            if !self.input.is_empty() && self.input.len() >= needed {
                match read_request(&self.input, head_bytes_max, BODY_MAX) {
                    Parsed::Whole { request, close, length } => {
                        self.input.advance(length);
                        return Ok(Next::Request(request, close));
                    }
                    Parsed::Other => return Ok(Next::Other),
                    Parsed::Partial => needed = self.input.len() + 1,
                    Parsed::Needs(length) => (needed, head_is_here) = (length, true),
                }
            }
            self.make_room(needed);
            let read = if self.input.is_empty() {
                tokio::select! {
                    biased;
                    read = self.stream.read_buf(&mut self.input) => read?,
                    _ = cancelled.as_mut() => return Ok(if goes_on() { Next::Stopped } else { Next::Closed }),
                }
            } else {
                let deadline = *started.get_or_insert_with(|| tokio::time::Instant::now() + HEAD_TIMEOUT);
                let read = self.stream.read_buf(&mut self.input);
                let read = tokio::select! {
                    biased;
                    read = tokio::time::timeout_at(deadline, read) => read,
                    _ = cancelled.as_mut(), if !is_last => {
                        if goes_on() {
                            return Ok(Next::Stopped);
                        }
                        is_last = true;
                        continue;
                    }
                };
                match read {
                    Ok(read) => read?,
                    // A slow body is the handler's to wait for.
                    Err(_) if head_is_here => return Ok(Next::Other),
                    Err(_) => return Ok(Next::Closed),
                }
            };
            if read == 0 {
                return Ok(Next::Closed);
            }
        }
    }

    fn make_room(&mut self, needed: usize) {
        if self.input.is_empty() && self.input.capacity() > KEPT_BUFFER_MAX {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ_BYTES.max(needed.saturating_sub(self.input.len())));
    }

    /// Waits for what `poll` gives; `None` when the client goes away meanwhile.
    async fn while_open<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        poll_fn(|cx| {
            if let Poll::Ready(ready) = poll(cx) {
                return Poll::Ready(Some(ready));
            }
            if self.is_gone(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// Whether the client closed. What it sends ahead is kept, up to one buffer.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.input.len() < READ_BYTES {
            self.make_room(0);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input) {
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Writes an answer; whether the connection can go on.
    async fn answer(&mut self, response: Response<Body>, is_head: bool, close: bool) -> io::Result<bool> {
        if let Some(Verbatim(bytes)) = response.extensions().get() {
            self.output.clear();
            self.output.extend_from_slice(bytes);
            self.flush().await?;
            return Ok(false);
        }
        // After one of these a client would wait for another answer, or, after 101, speak another protocol.
        let (response, close) = match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => (response, true),
            status if status.is_informational() => (no_interim_answer(), true),
            _ => (response, close),
        };
        let (parts, body) = response.into_parts();
        let says_close = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
        let close = close || parts.headers.get(CONNECTION).is_some_and(says_close);
        let bodyless = is_head || has_no_body(parts.status);
        let known = body.known_length();
        self.write_head(parts.status, &parts.headers, close);
        if has_no_body(parts.status) {
            self.output.extend_from_slice(b"\r\n");
        } else if let Some(length) = known {
            // The length of what a HEAD does not carry is told when it is known.
            if length > 0 || !is_head {
                write_length(&mut self.output, length);
            }
            self.output.extend_from_slice(b"\r\n");
        } else {
            self.output.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        }
        match (bodyless, body.as_full()) {
            (true, _) => self.flush().await?,
            (false, Some(bytes)) => self.flush_with(&bytes, b"").await?,
            (false, None) => {
                if !self.stream_body(body, known).await? {
                    return Ok(false);
                }
            }
        }
        Ok(!close)
    }

    fn write_head(&mut self, status: StatusCode, headers: &HeaderMap, close: bool) {
        self.output.clear();
        if status == StatusCode::OK {
            self.output.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            self.output.extend_from_slice(b"HTTP/1.1 ");
            self.output.extend_from_slice(status.as_str().as_bytes());
            self.output.push(b' ');
            self.output.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
        write_headers(&mut self.output, headers);
        if !headers.contains_key(DATE) {
            self.output.extend_from_slice(self.date.line());
        }
        if close && !headers.contains_key(CONNECTION) {
            write_field(&mut self.output, b"connection", b"close");
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        if self.output.capacity() > KEPT_BUFFER_MAX {
            self.output = Vec::new();
        }
        self.stream.flush().await
    }

    /// Writes what is there, then `data`, then `tail`.
    async fn flush_with(&mut self, data: &Bytes, tail: &[u8]) -> io::Result<()> {
        if data.len() <= COPIED_BODY_MAX {
            self.output.extend_from_slice(data);
            self.output.extend_from_slice(tail);
            return self.flush().await;
        }
        let mut all = Buf::chain(&self.output[..], &data[..]).chain(tail);
        while all.has_remaining() {
            if self.stream.write_buf(&mut all).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.output.clear();
        self.stream.flush().await
    }

    /// Passes a body on as it comes; `false` when the client goes away meanwhile.
    async fn stream_body(&mut self, mut body: Body, known: Option<u64>) -> io::Result<bool> {
        let mut sent = 0;
        loop {
            // The head waits for data that is here already.
            let frame = match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if !self.output.is_empty() {
                        self.flush().await?;
                    }
                    match self.while_open(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                        Some(frame) => frame,
                        None => return Ok(false),
                    }
                }
            };
            let Some(frame) = frame else { break };
            // Closing without the end of the body tells the client that it is not whole.
            let frame = frame.map_err(io::Error::other)?;
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            sent += data.len() as u64;
            match known {
                Some(length) if sent > length => return Err(io::Error::other("the body is longer than announced")),
                Some(_) => self.flush_with(&data, b"").await?,
                None => {
                    write_size(&mut self.output, data.len());
                    self.flush_with(&data, CHUNK_END).await?;
                }
            }
        }
        match known {
            Some(length) if sent < length => return Err(io::Error::other("the body is shorter than announced")),
            Some(_) => {}
            None => self.output.extend_from_slice(LAST_CHUNK),
        }
        self.flush().await?;
        Ok(true)
    }

    fn rewound(self) -> Rewound<S> {
        Rewound::new(self.input.freeze(), self.stream)
    }
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 101 | 204 | 304)
}

/// What takes the place of an interim status (1xx), which cannot be the answer to a request. *Source:* hyper does the same.
fn no_interim_answer() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The `Date` line, made anew each second.
#[derive(Default)]
struct DateCache {
    second: u64,
    line: Vec<u8>,
}

impl DateCache {
    fn line(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second || self.line.is_empty() {
            self.second = second;
            self.line.clear();
            write_field(&mut self.line, b"date", httpdate::fmt_http_date(now).as_bytes());
        }
        &self.line
    }
}

/// A connection whose first bytes have been read already and are read again.
pub struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl<S> Rewound<S> {
    /// A connection that is read from `first` on.
    pub fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }

    /// The bytes that are to be read again, and the connection behind them.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.first, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
