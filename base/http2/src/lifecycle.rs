//! The ends: of streams, of handles, of the connection. *Source:* RFC 9113 §5.1, §5.4 and §6.8.
//!
//! *Neighbours:* all other methods of [`State`] call it when something is over. *Invariant:* a stream ends once;
//! whoever waits for it is woken then.

use std::task::Waker;

use bytes::Bytes;

use crate::error::{Cause, Initiator, Reason};
use crate::frame::{self, MAX_31};
use crate::input::Refused;
use crate::ping::SHUTDOWN_PING;
use crate::state::{Shutdown, State};
use crate::streams::{Ended, RecvSide, SendSide};

/// What a frame that ends its stream costs its sender.
const BROKEN_RULE: u32 = 8;

impl State {
    /// Both sides have said all.
    pub(crate) fn ended(&mut self, key: u32) {
        self.leave(key, Ended::Both);
        let stream = &mut self.streams[key];
        // Whoever waits for a reset waits in vain.
        let waker = stream.send_waker.take();
        self.wake(waker);
        self.free(key);
    }

    /// The stream is over before both sides have said all.
    pub(crate) fn end_stream(&mut self, key: u32, cause: Cause, how: Ended) {
        if self.streams[key].is_over() {
            return;
        }
        self.unassign(key, 0);
        let stream = &mut self.streams[key];
        stream.error = Some(cause);
        stream.pending.clear();
        stream.pending_bytes = 0;
        stream.trailers_out = None;
        if stream.unopened.take().is_some() {
            self.unopened.leave(|key, serial| self.streams.is_unopened(key, serial));
        }
        self.wake_stream(key);
        self.leave(key, how);
        self.free(key);
    }

    fn leave(&mut self, key: u32, how: Ended) {
        let id = self.streams[key].id;
        if id != 0 && self.streams.end(id, how) {
            self.open -= 1;
            if self.is_client {
                self.open_waiting();
            }
            self.notify(); // it may have been the last
        }
    }

    /// Frees the place of a stream that is over and has no handle.
    fn free(&mut self, key: u32) {
        let stream = &self.streams[key];
        if stream.handles == 0 && !stream.is_offered && stream.is_over() {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: u32) {
        self.reader_dropped(key);
        let was_queued = self.streams[key].is_queued;
        self.streams.remove(key);
        if was_queued {
            self.queue.leave(|key, serial| self.streams.is(key, serial));
        }
    }

    /// A handle is gone.
    pub(crate) fn handle_dropped(&mut self, key: u32) {
        let stream = &mut self.streams[key];
        stream.handles -= 1;
        if stream.handles == 0 {
            self.abandon(key);
        }
    }

    /// Nobody holds a stream any more: what a server has yet to send still goes out, anything else ends here.
    pub(crate) fn abandon(&mut self, key: u32) {
        let stream = &self.streams[key];
        if stream.is_over() {
            self.free(key);
        } else if self.is_client || matches!(stream.send, SendSide::Head | SendSide::Body) {
            self.reset(key, Reason::CANCEL, Initiator::Library);
        } else if stream.send == SendSide::Ended {
            self.reset(key, Reason::NO_ERROR, Initiator::Library);
        } else {
            self.reader_dropped(key);
        }
        if self.is_client && self.senders == 0 && self.streams.is_empty() {
            self.notify();
        }
    }

    /// A frame broke a rule.
    ///
    /// # Errors
    /// When that is the connection's end.
    pub(crate) fn refused(&mut self, refused: Refused) -> Result<(), Cause> {
        match refused {
            Refused::Stream(id, reason) => {
                let before = self.out.len();
                match self.streams.find(id) {
                    Some(key) => {
                        let offered = self.streams[key].is_offered;
                        self.reset(key, reason, Initiator::Library);
                        if offered {
                            self.withdraw(key);
                        }
                    }
                    None => {
                        frame::put_rst_stream(&mut self.out, id, reason.into());
                        self.streams.refuse(id);
                    }
                }
                self.replies += self.out.len() - before;
                self.charge(BROKEN_RULE).or_else(|refused| self.refused(refused))
            }
            Refused::Connection(reason, text) => {
                self.put_goaway(self.last_id, reason, text.as_bytes());
                Err(Cause::GoAway(reason, Initiator::Library, Bytes::from_static(text.as_bytes())))
            }
        }
    }

    pub(crate) fn put_goaway(&mut self, last: u32, reason: Reason, text: &[u8]) {
        frame::put_goaway(&mut self.out, last, reason.into(), text);
        self.goaway_sent = Some(last);
    }

    /// A server takes no more calls once those the peer has sent already are here.
    pub(crate) fn shut_down(&mut self) {
        if self.shutdown == Shutdown::No && !self.is_dead {
            self.shutdown = Shutdown::Announced;
            self.put_goaway(MAX_31, Reason::NO_ERROR, b"");
            frame::put_ping(&mut self.out, 0, SHUTDOWN_PING);
            self.notify();
        }
    }

    /// Whether the connection has come to its end in order.
    pub(crate) fn is_finished(&self) -> bool {
        if self.goaway_received.is_some() && self.open == 0 && self.offered.is_empty() {
            return true;
        }
        if self.is_client {
            return self.senders == 0 && self.streams.is_empty();
        }
        self.shutdown == Shutdown::Final && self.open == 0 && self.offered.is_empty()
    }

    /// What the connection's end is to whoever drove it.
    pub(crate) fn outcome(&self) -> Result<(), Cause> {
        match &self.failure {
            Some(cause @ Cause::GoAway(reason, _, _)) if *reason != Reason::NO_ERROR => Err(cause.clone()),
            _ => Ok(()),
        }
    }

    /// The last words of a connection that has come to its end in order.
    pub(crate) fn say_goodbye(&mut self) {
        if self.goaway_sent != Some(self.last_id) {
            self.put_goaway(self.last_id, Reason::NO_ERROR, b"");
        }
    }

    /// The connection is over, and with it all that was under way.
    pub(crate) fn die(&mut self, cause: &Cause) {
        if std::mem::replace(&mut self.is_dead, true) {
            return;
        }
        self.failure.get_or_insert_with(|| cause.clone());
        self.queue.clear();
        while let Some((key, _)) = self.offered.pop_front() {
            self.streams[key].is_offered = false;
        }
        for key in self.streams.named() {
            self.end_stream(key, cause.clone(), Ended::ResetByPeer);
        }
        self.give_up_unopened(cause);
        let waker = self.pings.waker();
        self.wake(waker);
    }

    /// Requests that wait for a stream will get none.
    pub(crate) fn give_up_unopened(&mut self, cause: &Cause) {
        while let Some((key, serial)) = self.unopened.pop() {
            if self.streams.is_unopened(key, serial) {
                self.streams[key].unopened = None;
                self.end_stream(key, cause.clone(), Ended::ResetByPeer);
            }
        }
        self.unopened.clear();
    }

    /// The request that waits longest to be taken.
    pub(crate) fn take_offered(&mut self) -> Option<(u32, http::Request<()>)> {
        let (key, request) = self.offered.pop_front()?;
        let stream = &mut self.streams[key];
        stream.is_offered = false;
        stream.handles = 2;
        Some((key, request))
    }

    /// A request is over before it was taken.
    pub(crate) fn withdraw(&mut self, key: u32) {
        self.offered.retain(|(offered, _)| *offered != key);
        self.forget(key);
    }

    /// Why a reader of a stream gets nothing more; `None`: more may come, or all has come.
    pub(crate) fn reader_error(&self, key: u32) -> Option<Cause> {
        let stream = &self.streams[key];
        if stream.recv == RecvSide::Ended { None } else { stream.error.clone() }
    }

    /// Notes who waits, unless it is known.
    pub(crate) fn note(slot: &mut Option<Waker>, waker: &Waker) {
        match slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}
