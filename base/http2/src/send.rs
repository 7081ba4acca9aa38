//! The sending half of a stream.
//!
//! *Neighbours:* `client` and `server` hand it out, `output` and `pump` send. *Invariant:* what is sent here keeps its
//! order.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::error::{Cause, Error, Initiator, Misuse, Reason};
use crate::state::{State, StreamRef, unlock};
use crate::streams::SendSide;

/// Sends a body and its trailers.
pub struct SendStream {
    stream: StreamRef,
}

impl SendStream {
    pub(crate) fn of(stream: StreamRef) -> Self {
        Self { stream }
    }

    /// Sends data; what has no room in the windows waits in the stream.
    ///
    /// # Errors
    /// Why the stream is over, or that it was ended from here.
    pub fn send_data(&mut self, data: Bytes, end_of_stream: bool) -> Result<(), Error> {
        let mut state = self.stream.shared.lock();
        let sent = state.send_data(self.stream.key, data, end_of_stream);
        unlock(state);
        sent.map_err(Error::from)
    }

    /// Sends trailers, which end the stream.
    ///
    /// # Errors
    /// As [`send_data`](Self::send_data), or when a field must not be sent with HTTP/2.
    pub fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Error> {
        let mut state = self.stream.shared.lock();
        let sent = state.send_trailers(self.stream.key, trailers);
        unlock(state);
        sent.map_err(Error::from)
    }

    /// Ends the stream early.
    pub fn send_reset(&mut self, reason: Reason) {
        reset(&self.stream, reason);
    }

    /// Asks for room to send `capacity` bytes more.
    pub fn reserve_capacity(&mut self, capacity: usize) {
        let mut state = self.stream.shared.lock();
        state.reserve(self.stream.key, capacity);
        unlock(state);
    }

    /// How much of what was asked for can be sent now.
    pub fn capacity(&self) -> usize {
        self.stream.shared.lock().streams[self.stream.key].capacity()
    }

    /// Waits until some of what was asked for can be sent; `None`: nothing can any more.
    pub fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<usize, Error>>> {
        let mut state = self.stream.shared.lock();
        let key = self.stream.key;
        let stream = &state.streams[key];
        if !stream.takes_data() {
            return Poll::Ready(None);
        }
        if stream.capacity() == 0 {
            state.want(key);
        }
        let stream = &mut state.streams[key];
        match stream.capacity() {
            0 => {
                State::note(&mut stream.send_waker, cx.waker());
                Poll::Pending
            }
            capacity => Poll::Ready(Some(Ok(capacity))),
        }
    }

    /// Waits until the stream is reset, and says why it was.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, Error>> {
        poll_reset(&self.stream, cx, false)
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").finish_non_exhaustive()
    }
}

pub(crate) fn reset(stream: &StreamRef, reason: Reason) {
    let mut state = stream.shared.lock();
    state.reset(stream.key, reason, Initiator::User);
    unlock(state);
}

/// `before_head`: it makes no sense after the head was sent.
pub(crate) fn poll_reset(stream: &StreamRef, cx: &mut Context<'_>, before_head: bool) -> Poll<Result<Reason, Error>> {
    let mut state = stream.shared.lock();
    let stream = &mut state.streams[stream.key];
    match &stream.error {
        Some(Cause::Reset(reason, _) | Cause::GoAway(reason, _, _)) => return Poll::Ready(Ok(*reason)),
        Some(cause) => return Poll::Ready(Err(cause.clone().into())),
        None if before_head && stream.send != SendSide::Head => {
            return Poll::Ready(Err(Misuse::PollResetAfterResponse.into()));
        }
        None => State::note(&mut stream.send_waker, cx.waker()),
    }
    Poll::Pending
}
