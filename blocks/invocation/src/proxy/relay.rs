//! The two bodies of a call that passes through: the caller's messages and the app's.
//!
//! *Invariant:* an answer that has begun ends with a status, whatever happens to the connection behind it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::deadline::{self, Deadline};
use super::frames::Meter;
use super::status;

/// Why the proxy itself ended the caller's messages. Set by the request's body, read where the answer ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<OnceLock<Status>>);

impl Refusal {
    pub(super) fn get(&self) -> Option<Status> {
        self.0.get().cloned()
    }

    /// The first one counts.
    pub(super) fn set(&self, status: Status) -> Status {
        self.0.get_or_init(|| status).clone()
    }
}

/// The caller's messages; ends with an error at the first one that is too long.
pub(super) struct RequestBody {
    inner: Body,
    meter: Meter,
    refusal: Refusal,
}

impl RequestBody {
    pub(super) fn wrap(inner: Body, limit: usize, refusal: Refusal) -> Body {
        if limit == 0 { inner } else { Body::new(Self { inner, meter: Meter::new(limit), refusal }) }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(message) = self.meter.pass(data)
        {
            self.inner = Body::empty();
            return Poll::Ready(Some(Err(self.refusal.set(status::too_long(&message)))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The app's messages and status.
pub(super) struct Relay {
    inner: Body,
    meter: Meter,
    deadline: Option<Pin<Box<Sleep>>>,
    refusal: Refusal,
    ended: bool,
}

impl Relay {
    /// Wraps the body of an answer; one that is a status alone needs nothing.
    pub(super) fn wrap(response: Response<Body>, limit: usize, deadline: Deadline, refusal: Refusal) -> Response<Body> {
        if response.headers().contains_key(Status::GRPC_STATUS) && response.body().is_end_stream() {
            return response;
        }
        let deadline = deadline.0.map(|end| Box::pin(tokio::time::sleep_until(end)));
        let meter = Meter::new(limit);
        response.map(|inner| Body::new(Self { inner, meter, deadline, refusal, ended: false }))
    }

    /// Ends the answer with a status; what is behind it is given up.
    fn end(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        self.inner = Body::empty();
        self.deadline = None;
        Poll::Ready(Some(Ok(Frame::trailers(status::trailers(&status)))))
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_trailers() {
                    self.ended = true;
                } else if let Some(Err(message)) = frame.data_ref().map(|data| self.meter.pass(data)) {
                    return self.end(status::too_long(&message));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let status = self.refusal.get().unwrap_or_else(|| status::from_body(error));
                self.end(status)
            }
            Poll::Ready(None) => {
                let status = self
                    .refusal
                    .get()
                    .unwrap_or_else(|| Status::internal("server closed the stream without sending trailers"));
                self.end(status)
            }
            Poll::Pending => match self.deadline.as_mut().map(|deadline| deadline.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.end(deadline::exceeded()),
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A body whose first frame was looked at.
pub(super) struct Unread {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl Unread {
    pub(super) fn wrap(first: Frame<Bytes>, rest: Body) -> Body {
        Body::new(Self { first: Some(first), rest })
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}
