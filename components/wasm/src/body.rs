//! A body put together from bytes at hand, what still streams, and trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pillion_contract::{HttpBody, HttpBodyError};

/// First `head`, then the rest of `rest`, then `trailers`, which stand in for those of `rest` if there are any.
pub(crate) struct JoinedBody {
    pub(crate) head: Bytes,
    pub(crate) rest: Option<HttpBody>,
    pub(crate) trailers: HeaderMap,
}

impl JoinedBody {
    /// As the body of a message; without a detour when there is nothing to join.
    pub(crate) fn boxed(self) -> HttpBody {
        match self.rest {
            Some(rest) if self.head.is_empty() && self.trailers.is_empty() => rest,
            rest => Self { rest, ..self }.boxed_joined(),
        }
    }

    fn boxed_joined(self) -> HttpBody {
        BodyExt::boxed(self)
    }
}

impl Body for JoinedBody {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        if !self.head.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.head)))));
        }
        if let Some(rest) = &mut self.rest {
            match ready!(Pin::new(rest).poll_frame(context)) {
                Some(Ok(frame)) if frame.is_trailers() && !self.trailers.is_empty() => {} // ours take its place
                None => {}
                other => return Poll::Ready(other),
            }
            self.rest = None;
        }
        if self.trailers.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(std::mem::take(&mut self.trailers)))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.trailers.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let head = self.head.len() as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(head));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(head)) {
            hint.set_upper(upper);
        }
        hint
    }
}
