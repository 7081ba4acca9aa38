//! Bodies that arrive as numbered payloads on an HTTP/2 stream, and sending them with back-pressure.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use pillion_core::error::GrpcCode;
use pillion_http2::{RecvStream, SendStream};
use pillion_runtime::body::{Body, BodyError};
use pillion_runtime::http2::stream::send_data;

use crate::peer::{PeerError, StreamGuard};
use crate::wire::{FrameReader, Payload, WireError, decode_request, decode_response, payload_frame};

/// Which message type a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// Receives messages of one direction, then serves as the body of what follows the first message.
pub(crate) struct MessageStream {
    receive: RecvStream,
    reader: FrameReader,
    direction: Direction,
    limit: usize,
    next_seq: u64,
    first: Option<Bytes>,
    data_ended: bool,
    guard: Option<StreamGuard>,
}

impl MessageStream {
    pub(crate) fn new(receive: RecvStream, direction: Direction, limit: usize) -> Self {
        Self {
            receive,
            reader: FrameReader::default(),
            direction,
            limit,
            next_seq: 0,
            first: None,
            data_ended: false,
            guard: None,
        }
    }

    /// Keeps `guard` alive until the body is done.
    pub(crate) fn hold(&mut self, guard: StreamGuard) {
        self.guard = Some(guard);
    }

    /// The next whole message; `None` at the end of the data.
    pub(crate) async fn message(&mut self) -> Result<Option<Bytes>, BodyError> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            if let Some(message) = self.reader.next(self.limit)? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.data_ended {
                let cut = !self.reader.is_empty();
                return Poll::Ready(if cut { Err("the stream ended inside a message".into()) } else { Ok(None) });
            }
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => {
                    let data = data?;
                    let _ = self.receive.flow_control().release_capacity(data.len()); // fails only on a closed stream
                    self.reader.push(data);
                }
                None => self.data_ended = true,
            }
        }
    }

    /// The status in the trailers, once the data has ended.
    fn poll_status(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let trailers = ready!(self.receive.poll_trailers(cx))?;
        Poll::Ready(match trailers {
            Some(trailers) => grpc_status(&trailers).map_err(Into::into),
            None => Ok(()),
        })
    }

    /// Reads the status at the end of a stream without messages.
    pub(crate) async fn status(&mut self) -> Result<(), BodyError> {
        std::future::poll_fn(|cx| self.poll_status(cx)).await
    }

    /// Turns the rest of the stream into a body that begins with `first`; a body that is already complete becomes a
    /// whole one.
    pub(crate) fn into_body(mut self, first: Option<Payload>) -> Result<Body, BodyError> {
        if let Some(first) = first {
            self.check_sequence(&first)?;
            self.first = Some(first.data);
        }
        let complete = match self.direction {
            Direction::Request => self.receive.is_end_stream() && self.reader.is_empty(),
            Direction::Response => self.reader.is_empty() && self.ended_already()?,
        };
        if complete {
            return Ok(Body::full(self.first.unwrap_or_default()));
        }
        Ok(Body::boxed(self))
    }

    /// Whether data and trailers are here already; looks once, without waiting.
    fn ended_already(&mut self) -> Result<bool, BodyError> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.receive.poll_data(&mut cx) {
            Poll::Ready(Some(data)) => {
                let data = data?;
                let _ = self.receive.flow_control().release_capacity(data.len()); // fails only on a closed stream
                self.reader.push(data);
                Ok(false)
            }
            Poll::Ready(None) => {
                self.data_ended = true;
                match self.poll_status(&mut cx) {
                    Poll::Ready(result) => result.map(|()| true),
                    Poll::Pending => Ok(false),
                }
            }
            Poll::Pending => Ok(false),
        }
    }

    fn check_sequence(&mut self, payload: &Payload) -> Result<(), BodyError> {
        if payload.seq != self.next_seq {
            return Err(
                format!("invalid sequence number received: {} (expected: {})", payload.seq, self.next_seq).into()
            );
        }
        self.next_seq += 1;
        Ok(())
    }

    fn payload(&mut self, message: Bytes) -> Result<Bytes, BodyError> {
        let (leading, payload) = match self.direction {
            Direction::Request => {
                let chunk = decode_request(message)?;
                (chunk.request.is_some(), chunk.payload)
            }
            Direction::Response => {
                let chunk = decode_response(message)?;
                (chunk.response.is_some(), chunk.payload)
            }
        };
        if leading {
            return Err("metadata found in non-leading chunk".into());
        }
        let Some(payload) = payload else { return Ok(Bytes::new()) };
        self.check_sequence(&payload)?;
        Ok(payload.data)
    }
}

impl HttpBody for MessageStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(Some(message)) => match self.payload(message) {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Ok(None) if self.direction == Direction::Request => return Poll::Ready(None),
                Ok(None) => return Poll::Ready(ready!(self.poll_status(cx)).err().map(Err)),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// Turns `grpc-status` and `grpc-message` into a result; no status means OK.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Result<(), PeerError> {
    let Some(status) = headers.get("grpc-status") else { return Ok(()) };
    let number = status.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    if number == 0 {
        return Ok(());
    }
    let message = headers
        .get("grpc-message")
        .map(|value| percent_encoding::percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned());
    Err(PeerError::new(GrpcCode::from_number(number), message.unwrap_or_default()))
}

/// Sends the chunks of a body as numbered payload frames.
///
/// # Errors
/// The body broke, or the stream is gone.
pub(crate) async fn send_payloads(stream: &mut SendStream, body: &mut Body, mut seq: u64) -> Result<(), BodyError> {
    loop {
        let chunk = tokio::select! {
            chunk = body.chunk() => chunk,
            reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => {
                return Err(format!("the receiver reset the stream: {:?}", reset?).into());
            }
        };
        let Some(chunk) = chunk else { return Ok(()) };
        let chunk = chunk?;
        if chunk.is_empty() {
            continue;
        }
        send_data(stream, payload_frame(&chunk, seq), false).await?;
        seq += 1;
    }
}

impl From<WireError> for PeerError {
    fn from(error: WireError) -> Self {
        Self::new(GrpcCode::Internal, error.to_string())
    }
}
