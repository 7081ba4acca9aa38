//! The receiving half of a stream.
//!
//! *Neighbours:* `client` and `server` hand it out, `input` and `fields` fill it. *Invariant:* data comes before the
//! error that ended the stream; a stream whose end was received has none.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::error::Error;
use crate::state::{Shared, State, StreamRef};
use crate::streams::RecvSide;

/// The body of a request or response, and its trailers.
pub struct RecvStream {
    flow: FlowControl,
}

/// Gives the peer back what it has used of its windows.
pub struct FlowControl {
    stream: StreamRef,
}

impl FlowControl {
    /// `length` bytes of what was received are used: the peer may send as many again.
    ///
    /// # Errors
    /// When not as many were received.
    pub fn release_capacity(&mut self, length: usize) -> Result<(), Error> {
        self.stream.shared.lock().release(self.stream.key, length).map_err(Error::from)
    }
}

impl RecvStream {
    pub(crate) fn new(shared: Arc<Shared>, key: u32) -> Self {
        Self::of(StreamRef { shared, key, reads: true })
    }

    pub(crate) fn of(stream: StreamRef) -> Self {
        Self { flow: FlowControl { stream } }
    }

    /// The next data; `None` when all has come.
    pub async fn data(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await
    }

    /// The next data; `None` when all has come.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let StreamRef { shared, key, .. } = &self.flow.stream;
        let mut state = shared.lock();
        if let Some(data) = state.streams[*key].data.pop_front() {
            return Poll::Ready(Some(Ok(data)));
        }
        if let Some(cause) = state.reader_error(*key) {
            return Poll::Ready(Some(Err(cause.into())));
        }
        let stream = &mut state.streams[*key];
        if stream.recv == RecvSide::Ended {
            return Poll::Ready(None);
        }
        State::note(&mut stream.recv_waker, cx.waker());
        Poll::Pending
    }

    /// The trailers, once all has come; `None` when there are none.
    ///
    /// # Errors
    /// When the stream ended before.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, Error> {
        std::future::poll_fn(|cx| self.poll_trailers(cx)).await
    }

    /// The trailers, once all has come; `None` when there are none.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, Error>> {
        let StreamRef { shared, key, .. } = &self.flow.stream;
        let mut state = shared.lock();
        if let Some(cause) = state.reader_error(*key) {
            return Poll::Ready(Err(cause.into()));
        }
        let stream = &mut state.streams[*key];
        if stream.recv == RecvSide::Ended {
            return Poll::Ready(Ok(stream.trailers_in.take()));
        }
        State::note(&mut stream.recv_waker, cx.waker());
        Poll::Pending
    }

    /// Whether all has come, and was taken, trailers too.
    pub fn is_end_stream(&self) -> bool {
        let StreamRef { shared, key, .. } = &self.flow.stream;
        let state = shared.lock();
        let stream = &state.streams[*key];
        stream.recv == RecvSide::Ended && stream.data.is_empty() && stream.trailers_in.is_none()
    }

    /// Says what was used of what was received.
    pub fn flow_control(&mut self) -> &mut FlowControl {
        &mut self.flow
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").finish_non_exhaustive()
    }
}
