//! The server's side: connections that take requests.
//!
//! *Neighbours:* `driver` moves the bytes, `fields` offers requests. *Invariant:* accepting also drives the connection.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::driver::{Driven, Driver};
use crate::error::{Cause, Error, Initiator, Reason};
use crate::ping::PingPong;
use crate::recv::RecvStream;
use crate::send::{self, SendStream};
use crate::settings::{Config, common_settings};
use crate::state::{Shared, StreamRef, unlock};

/// How a connection is to be.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
}

impl Builder {
    common_settings!();

    /// How many streams the peer may have open; without it as many as it likes.
    pub fn max_concurrent_streams(&mut self, streams: u32) -> &mut Self {
        self.config.streams = Some(streams);
        self
    }

    /// Begins a connection: says what there is to say and waits for a client that speaks HTTP/2.
    ///
    /// # Errors
    /// When it speaks something else, or the connection breaks.
    pub async fn handshake<IO>(&self, io: IO) -> Result<Connection<IO>, Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut driver = Driver::new(io, false, self.config.clone());
        std::future::poll_fn(|cx| match driver.poll(cx, true) {
            Poll::Ready(Driven::Offered) => Poll::Ready(Ok(())),
            Poll::Ready(Driven::Ended(ended)) => Poll::Ready(ended.and(Err(Cause::broken("connection").into()))),
            Poll::Pending if driver.has_preface() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok(Connection { driver })
    }
}

/// A connection with the defaults.
///
/// # Errors
/// As [`Builder::handshake`].
pub async fn handshake<IO>(io: IO) -> Result<Connection<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new().handshake(io).await
}

/// A connection; nothing happens on it unless somebody accepts.
#[must_use = "nothing happens on a connection that nobody accepts from"]
pub struct Connection<IO> {
    driver: Driver<IO>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// The next request; `None` when the connection has come to its end.
    pub async fn accept(&mut self) -> Option<Result<(Request<RecvStream>, SendResponse), Error>> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next request; `None` when the connection has come to its end.
    #[allow(clippy::type_complexity)] // as the `h2` crate has it
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(Request<RecvStream>, SendResponse), Error>>> {
        loop {
            let shared = &self.driver.shared;
            let taken = shared.lock().take_offered();
            if let Some((key, request)) = taken {
                let request = request.map(|()| RecvStream::new(shared.clone(), key));
                let stream = StreamRef { shared: shared.clone(), key, reads: false };
                return Poll::Ready(Some(Ok((request, SendResponse { stream }))));
            }
            match self.driver.poll(cx, true) {
                Poll::Ready(Driven::Offered) => {}
                Poll::Ready(Driven::Ended(ended)) => return Poll::Ready(ended.err().map(Err)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<IO> Connection<IO> {
    /// Takes no more requests than those the peer has sent before it knows; calls under way come to their end.
    pub fn graceful_shutdown(&mut self) {
        self.driver.shared.lock().shut_down();
    }

    /// Ends the connection and all calls on it.
    pub fn abrupt_shutdown(&mut self, reason: Reason) {
        let mut state = self.driver.shared.lock();
        if !state.is_dead {
            let last = state.last_id;
            state.put_goaway(last, reason, b"");
            state.failure = Some(Cause::GoAway(reason, Initiator::User, Bytes::new()));
            state.die(&Cause::GoAway(reason, Initiator::User, Bytes::new()));
            state.notify();
        }
        unlock(state);
    }

    /// Sends pings; there is one such handle.
    pub fn ping_pong(&mut self) -> Option<PingPong> {
        PingPong::take(&self.driver.shared)
    }
}

/// Answers a request.
pub struct SendResponse {
    stream: StreamRef,
}

impl SendResponse {
    /// Sends the head of the answer.
    ///
    /// # Errors
    /// Why the stream is over, that it was answered already, or that a field must not be sent with HTTP/2.
    pub fn send_response(&mut self, response: Response<()>, end_of_stream: bool) -> Result<SendStream, Error> {
        let StreamRef { shared, key, .. } = &self.stream;
        let mut state = shared.lock();
        let sent = state.send_response(*key, &response, end_of_stream);
        if sent.is_ok() {
            state.streams[*key].handles += 1;
        }
        unlock(state);
        sent?;
        Ok(SendStream::of(StreamRef { shared: Arc::<Shared>::clone(shared), key: *key, reads: false }))
    }

    /// Ends the call without an answer.
    pub fn send_reset(&mut self, reason: Reason) {
        send::reset(&self.stream, reason);
    }

    /// Waits until the peer gives the call up, and says why it did.
    ///
    /// # Errors
    /// When the connection broke, or the head of the answer was sent.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, Error>> {
        send::poll_reset(&self.stream, cx, true)
    }
}

impl fmt::Debug for SendResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendResponse").finish_non_exhaustive()
    }
}
