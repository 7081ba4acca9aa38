//! The asking side of a connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::chunked::Decoder;
use super::head::{Framing, read_response, write_headers, write_length};
use super::{COPIED_BODY_MAX, KEPT_BUFFER_MAX, READ_BYTES};
use crate::body::BodyError;

/// A connection to a server, for one request at a time.
pub struct Connection<S> {
    stream: S,
    input: BytesMut,
    /// Head of the request, with its body when that is small; empty once all was sent.
    output: Vec<u8>,
    /// A larger body; empty once all was sent.
    body: Bytes,
    /// How much of both was sent.
    written: usize,
    /// Sending broke off; the server may have answered all the same.
    broke: Option<io::Error>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: io::Error,
    /// Nothing of an answer came, and the connection was ended by the server: it may have closed it before the request was
    /// there.
    pub unanswered: bool,
    /// No byte of the request was taken.
    pub unsent: bool,
}

/// The head of an answer, and its body as far as it is here.
pub struct Answer<S> {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody<S>,
}

/// The body of an answer.
pub enum AnswerBody<S> {
    /// All of it is here; the connection can be used again when it is given back.
    Whole(Bytes, Option<Connection<S>>),
    /// It is still coming.
    Streaming(Streaming<S>),
}

/// Appends the head of a request in origin form, up to its last header line.
pub fn write_request_line(out: &mut Vec<u8>, verb: &http::Method, target: &str) {
    out.extend_from_slice(verb.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends request line and headers of `request`, all but those that frame its body.
pub fn write_request<B>(out: &mut Vec<u8>, request: &Request<B>) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    write_request_line(out, request.method(), target);
    write_headers(out, request.headers());
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), body: Bytes::new(), written: 0, broke: None }
    }

    /// What it runs on.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Whether the server has not closed an idle connection, as far as is known without asking it.
    pub fn is_open(&mut self) -> bool {
        self.input.reserve(1);
        let mut context = Context::from_waker(std::task::Waker::noop());
        poll_read_buf(Pin::new(&mut self.stream), &mut context, &mut self.input).is_pending()
    }

    /// Sends a request with a whole body and waits for the head of the answer. That may come before the server has taken the
    /// whole request; the rest is sent while the answer is read, and a connection that ends before that is not used again.
    ///
    /// `write_head` writes request line and headers without those that frame the body. Interim answers (1xx) are skipped.
    ///
    /// # Errors
    /// [`Failure`]; the connection is closed then.
    pub async fn send(
        mut self,
        write_head: impl FnOnce(&mut Vec<u8>),
        verb: &http::Method,
        body: &Bytes,
        head_bytes_max: usize,
    ) -> Result<Answer<S>, Failure> {
        self.output.clear();
        write_head(&mut self.output);
        // Without a length a server must take the body of these for empty; told anyway for those that expect one.
        if !body.is_empty() || matches!(*verb, http::Method::POST | http::Method::PUT | http::Method::PATCH) {
            write_length(&mut self.output, body.len() as u64);
        }
        self.output.extend_from_slice(b"\r\n");
        if body.len() <= COPIED_BODY_MAX {
            self.output.extend_from_slice(body);
        } else {
            self.body = body.clone();
        }
        self.written = 0;
        loop {
            let (head, all, length) = self.head(head_bytes_max).await?;
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                self.input.advance(length);
                continue;
            }
            return self.answered(head, &all, length, *verb == http::Method::HEAD).map_err(Failure::malformed);
        }
    }

    /// Sends what is left of the request; done when nothing is left or nothing more can be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_sent() && self.broke.is_none() {
            let head = self.output.get(self.written..).unwrap_or_default();
            let body = &self.body[self.written.saturating_sub(self.output.len())..];
            let mut left = head.chain(body);
            if left.has_remaining() {
                let stream = Pin::new(&mut self.stream);
                // One piece is the rule, and cheaper for the system than a list of pieces.
                let written = if self.body.is_empty() {
                    stream.poll_write(cx, left.chunk())
                } else {
                    poll_write_buf(stream, cx, &mut left)
                };
                match ready!(written) {
                    Ok(0) => self.broke = Some(io::ErrorKind::WriteZero.into()),
                    Ok(written) => self.written += written,
                    Err(error) => self.broke = Some(error),
                }
            } else {
                match ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
                    Ok(()) => self.sent(),
                    Err(error) => self.broke = Some(error),
                }
            }
        }
        Poll::Ready(())
    }

    fn is_sent(&self) -> bool {
        self.output.is_empty()
    }

    fn sent(&mut self) {
        self.output.clear();
        if self.output.capacity() > KEPT_BUFFER_MAX {
            self.output = Vec::new();
        }
        self.body = Bytes::new();
    }

    /// Sends and reads at the same time, since a server may answer before it has read everything.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.poll_send(cx).is_ready() && self.written == 0 && self.broke.is_some() {
            return Poll::Ready(Err(self.broken(io::ErrorKind::BrokenPipe.into())));
        }
        self.input.reserve(room);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
    }

    /// What ended the connection: what broke the sending came first.
    fn broken(&mut self, reading: io::Error) -> io::Error {
        self.broke.take().unwrap_or(reading)
    }

    async fn head(&mut self, head_bytes_max: usize) -> Result<(super::head::ResponseHead, Bytes, usize), Failure> {
        loop {
            if !self.input.is_empty() {
                if let Some(read) = read_response(&self.input).map_err(Failure::malformed)? {
                    return Ok(read);
                }
                if self.input.len() > head_bytes_max {
                    return Err(Failure::malformed(format!(
                        "the head of the response is larger than {head_bytes_max} bytes (--read-buffer-size)"
                    )));
                }
            }
            let read = poll_fn(|cx| self.poll_read(cx, READ_BYTES)).await;
            let error = match read {
                Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed before message completed"),
                Ok(_) => continue,
                Err(error) => error,
            };
            let unsent = self.written == 0;
            return Err(Failure { error: self.broken(error), unanswered: self.input.is_empty(), unsent });
        }
    }

    fn answered(
        mut self,
        head: super::head::ResponseHead,
        all: &Bytes,
        length: usize,
        verb_is_head: bool,
    ) -> Result<Answer<S>, String> {
        let framing = head.framing(verb_is_head)?;
        let keep = head.keeps_alive() && framing != Framing::UntilClose;
        let reusable = keep && self.is_sent();
        let body = match framing {
            Framing::Length(bytes) if bytes <= (all.len() - length) as u64 => {
                let end = length + bytes as usize; // fits, as just compared
                let clean = self.input.len() == end;
                self.input.clear();
                let body = if bytes == 0 { Bytes::new() } else { all.slice(length..end) };
                AnswerBody::Whole(body, (reusable && clean).then_some(self))
            }
            _ => {
                self.input.advance(length);
                let mut body = Streaming { framing: Reading::new(framing), connection: Some(self), keep };
                match body.take_whole()? {
                    Some(bytes) => AnswerBody::Whole(bytes, body.take_idle()),
                    None => AnswerBody::Streaming(body),
                }
            }
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Failure {
    fn malformed(text: String) -> Self {
        Self { error: io::Error::new(io::ErrorKind::InvalidData, text), unanswered: false, unsent: false }
    }
}

/// A body that is still coming, and the connection it comes on.
pub struct Streaming<S> {
    framing: Reading,
    connection: Option<Connection<S>>,
    keep: bool,
}

#[derive(Debug)]
enum Reading {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Reading {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(bytes) => Self::Length(bytes),
            Framing::Chunked => Self::Chunked(Decoder::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Room for one read; a body that is known to be large is read in large parts.
    fn room(&self) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).clamp(READ_BYTES, KEPT_BUFFER_MAX),
            Self::Chunked(_) | Self::UntilClose => READ_BYTES,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Streaming<S> {
    /// Bytes that are still to come, when that is known.
    pub fn known_length(&self) -> Option<u64> {
        match &self.framing {
            Reading::Length(bytes) => Some(*bytes),
            Reading::Chunked(_) | Reading::UntilClose => None,
        }
    }

    /// Whether all has been read.
    pub fn is_done(&self) -> bool {
        match &self.framing {
            Reading::Length(bytes) => *bytes == 0,
            Reading::Chunked(decoder) => decoder.is_done(),
            Reading::UntilClose => self.connection.is_none(),
        }
    }

    /// The connection, when all was read and it can be used again.
    pub fn take_idle(&mut self) -> Option<Connection<S>> {
        let connection = self.connection.take()?;
        (self.is_done() && self.keep && connection.is_sent() && connection.input.is_empty()).then_some(connection)
    }

    /// A small chunked body that is here already.
    fn take_whole(&mut self) -> Result<Option<Bytes>, String> {
        let Reading::Chunked(_) = &self.framing else { return Ok(None) };
        let Some(connection) = &mut self.connection else { return Ok(None) };
        // Tried on a copy: what is not whole stays as it is.
        if connection.input.len() > COPIED_BODY_MAX || !connection.input.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        let mut input = connection.input.clone();
        let mut decoder = Decoder::default();
        let mut all: Option<BytesMut> = None;
        let mut first = Bytes::new();
        while let Some(data) = decoder.next(&mut input)? {
            if first.is_empty() {
                first = data;
            } else {
                all.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&data);
            }
        }
        if !decoder.is_done() {
            return Ok(None);
        }
        connection.input = input;
        self.framing = Reading::Chunked(decoder);
        Ok(Some(all.map_or(first, BytesMut::freeze)))
    }

    /// The next part of the body.
    ///
    /// # Errors
    /// The connection broke or ended before the body; [`io::ErrorKind::UnexpectedEof`] for the latter when a length was told.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.buffered() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(text) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(text.into())));
                }
            }
            if self.is_done() {
                return Poll::Ready(None);
            }
            let room = self.framing.room();
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match ready!(connection.poll_read(cx, room)) {
                Ok(0) => {
                    self.connection = None;
                    return Poll::Ready(match &self.framing {
                        Reading::UntilClose => None,
                        Reading::Length(_) => Some(Err(Box::new(EarlyEnd))),
                        Reading::Chunked(_) => {
                            Some(Err("the connection closed before the end of a chunked body".into()))
                        }
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    /// Data that has been read already.
    fn buffered(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let input = &mut connection.input;
        match &mut self.framing {
            Reading::Chunked(decoder) => decoder.next(input),
            _ if input.is_empty() => Ok(None),
            Reading::UntilClose => Ok(Some(input.split().freeze())),
            Reading::Length(0) => Ok(None),
            Reading::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(Some(input.split_to(take).freeze()))
            }
        }
    }
}

/// The connection closed before the announced length had come.
#[derive(Debug)]
pub struct EarlyEnd;

impl std::fmt::Display for EarlyEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unexpected EOF: the connection closed before the announced length had come")
    }
}

impl std::error::Error for EarlyEnd {}
