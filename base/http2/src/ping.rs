//! PING: whether the peer is there. *Source:* RFC 9113 §6.7.
//!
//! *Neighbours:* `input` hands answers in. *Invariant:* one ping of the program is under way at a time, and its payload
//! is not that of a graceful end.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::{Cause, Error, Misuse};
use crate::frame;
use crate::state::{Shared, State};

/// Asked by a server that ends: the answer comes after all the peer had sent before.
pub(crate) const SHUTDOWN_PING: [u8; 8] = *b"shutdown";
const USER_PING: [u8; 8] = *b"pillion?";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    Sent,
    Answered,
}

/// The program's ping.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    stage: Stage,
    waker: Option<Waker>,
    /// Whether the handle was given out.
    is_taken: bool,
}

impl Pings {
    /// Takes an answer.
    pub(crate) fn answered(&mut self, payload: [u8; 8]) -> Option<Waker> {
        if payload != USER_PING || self.stage != Stage::Sent {
            return None;
        }
        self.stage = Stage::Answered;
        self.waker()
    }

    /// Who waits for an answer.
    pub(crate) fn waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

/// A ping to send.
#[derive(Debug)]
pub struct Ping(());

impl Ping {
    /// A ping that says nothing else.
    pub fn opaque() -> Self {
        Self(())
    }
}

/// The answer to a ping.
#[derive(Debug)]
pub struct Pong(());

/// Sends pings on a connection.
pub struct PingPong {
    shared: Arc<Shared>,
}

impl PingPong {
    /// The only one of its connection.
    pub(crate) fn take(shared: &Arc<Shared>) -> Option<Self> {
        let taken = std::mem::replace(&mut shared.lock().pings.is_taken, true);
        (!taken).then(|| Self { shared: shared.clone() })
    }

    /// Sends a ping and waits for the answer.
    ///
    /// # Errors
    /// As [`send_ping`](Self::send_ping) and [`poll_pong`](Self::poll_pong).
    pub async fn ping(&mut self, ping: Ping) -> Result<Pong, Error> {
        self.send_ping(ping)?;
        std::future::poll_fn(|cx| self.poll_pong(cx)).await
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// When another one is under way, or the connection is over.
    pub fn send_ping(&mut self, _ping: Ping) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if state.is_dead {
            return Err(over(&state));
        }
        if state.pings.stage == Stage::Sent {
            return Err(Misuse::PingPending.into());
        }
        state.pings.stage = Stage::Sent;
        frame::put_ping(&mut state.out, 0, USER_PING);
        state.notify();
        Ok(())
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<Result<Pong, Error>> {
        let mut state = self.shared.lock();
        if state.pings.stage == Stage::Answered {
            state.pings.stage = Stage::None;
            return Poll::Ready(Ok(Pong(())));
        }
        if state.is_dead {
            return Poll::Ready(Err(over(&state)));
        }
        State::note(&mut state.pings.waker, cx.waker());
        Poll::Pending
    }
}

fn over(state: &State) -> Error {
    state.failure.clone().unwrap_or_else(|| Cause::broken("connection")).into()
}
