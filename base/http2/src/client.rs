//! The client's side: connections that make requests.
//!
//! *Neighbours:* `driver` moves the bytes, `output` sends. *Invariant:* a connection ends when nobody can make a
//! request on it and all that were made are over.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::driver::{Driven, Driver};
use crate::error::{Error, Misuse};
use crate::frame::MAX_31;
use crate::ping::PingPong;
use crate::recv::RecvStream;
use crate::send::SendStream;
use crate::settings::{Config, common_settings};
use crate::state::{Shared, State, StreamRef, unlock};

/// How a connection is to be.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
}

impl Builder {
    common_settings!();

    /// How many streams are opened before the peer has said how many it takes.
    pub fn initial_max_send_streams(&mut self, streams: usize) -> &mut Self {
        self.config.send_streams = streams;
        self
    }

    /// Begins a connection; what there is to say at its beginning leaves when the connection is first polled, with the
    /// requests that were made until then.
    ///
    /// # Errors
    /// None now; the type leaves room for them.
    pub async fn handshake<IO>(&self, io: IO) -> Result<(SendRequest, Connection<IO>), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let driver = Driver::new(io, true, self.config.clone());
        driver.shared.lock().senders = 1;
        let sender = SendRequest { shared: driver.shared.clone(), unopened: None };
        Ok((sender, Connection { driver }))
    }
}

/// A connection with the defaults.
///
/// # Errors
/// As [`Builder::handshake`].
pub async fn handshake<IO>(io: IO) -> Result<(SendRequest, Connection<IO>), Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new().handshake(io).await
}

/// Drives a connection: nothing happens on it unless it is polled.
#[must_use = "nothing happens on a connection that is not polled"]
pub struct Connection<IO> {
    driver: Driver<IO>,
}

impl<IO> Connection<IO> {
    /// Sends pings; there is one such handle.
    pub fn ping_pong(&mut self) -> Option<PingPong> {
        PingPong::take(&self.driver.shared)
    }

    /// How many streams the peer takes at once, as far as it has said.
    pub fn max_concurrent_send_streams(&self) -> usize {
        self.driver.shared.lock().peer.streams
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Connection<IO> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(self.driver.poll(cx, false)) {
            Driven::Ended(result) => Poll::Ready(result),
            Driven::Offered => Poll::Ready(Ok(())), // a client is offered nothing
        }
    }
}

/// Makes requests on a connection.
pub struct SendRequest {
    shared: Arc<Shared>,
    /// The last request made here, while the peer does not take it.
    unopened: Option<(u32, u64)>,
}

impl SendRequest {
    /// Waits until the last request made with this handle has a stream.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.shared.lock();
        usable(&state)?;
        if let Some((key, serial)) = self.unopened
            && state.streams.is(key, serial)
            && let stream = &mut state.streams[key]
            && stream.unopened.is_some()
        {
            State::note(&mut stream.open_waker, cx.waker());
            return Poll::Pending;
        }
        self.unopened = None;
        Poll::Ready(Ok(()))
    }

    /// Waits until a request can be made.
    ///
    /// # Errors
    /// When the connection takes none any more.
    pub async fn ready(mut self) -> Result<Self, Error> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        Ok(self)
    }

    /// Makes a request. When the peer takes no more streams it waits until there is one.
    ///
    /// # Errors
    /// When the connection takes none any more, or the request is none for HTTP/2.
    pub fn send_request(
        &mut self,
        mut request: Request<()>,
        end_of_stream: bool,
    ) -> Result<(ResponseFuture, SendStream), Error> {
        // They may hold a stream, which must not be dropped under the lock.
        request.extensions_mut().clear();
        let mut state = self.shared.lock();
        if let Some((key, serial)) = self.unopened.take()
            && state.streams.is(key, serial)
            && state.streams[key].unopened.is_some()
        {
            self.unopened = Some((key, serial));
            return Err(Misuse::Rejected.into());
        }
        let key = state.send_request(request, end_of_stream)?;
        let stream = &state.streams[key];
        if stream.unopened.is_some() {
            self.unopened = Some((key, stream.serial));
        }
        unlock(state);
        let sending = StreamRef { shared: self.shared.clone(), key, reads: false };
        let receiving = StreamRef { shared: self.shared.clone(), key, reads: true };
        Ok((ResponseFuture { stream: Some(receiving) }, SendStream::of(sending)))
    }

    /// Whether the connection takes no requests any more.
    pub fn is_closed(&self) -> bool {
        usable(&self.shared.lock()).is_err()
    }

    /// How many streams the peer takes at once, as far as it has said.
    pub fn max_concurrent_send_streams(&self) -> usize {
        self.shared.lock().peer.streams
    }
}

fn usable(state: &State) -> Result<(), Error> {
    match &state.failure {
        Some(cause) => Err(cause.clone().into()),
        None if state.next_id > MAX_31 => Err(Misuse::OutOfIds.into()),
        None => Ok(()),
    }
}

impl Clone for SendRequest {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: self.shared.clone(), unopened: None }
    }
}

impl Drop for SendRequest {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 && state.streams.is_empty() {
            state.notify();
        }
    }
}

impl fmt::Debug for SendRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest").finish_non_exhaustive()
    }
}

/// Waits for the head of the answer.
#[must_use = "an answer nobody waits for cancels its request"]
pub struct ResponseFuture {
    stream: Option<StreamRef>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<RecvStream>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(StreamRef { shared, key, .. }) = &self.stream else {
            return Poll::Ready(Err(Misuse::Inactive.into()));
        };
        let mut state = shared.lock();
        if let Some(response) = state.streams[*key].response.take() {
            drop(state);
            let Some(stream) = self.stream.take() else { return Poll::Ready(Err(Misuse::Inactive.into())) };
            return Poll::Ready(Ok(response.map(|()| RecvStream::of(stream))));
        }
        if let Some(cause) = state.reader_error(*key) {
            return Poll::Ready(Err(cause.into()));
        }
        State::note(&mut state.streams[*key].recv_waker, cx.waker());
        Poll::Pending
    }
}
