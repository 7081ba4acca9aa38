//! Sends what waits for windows or room, and shares the connection's window out. *Source:* RFC 9113 §5.2.
//!
//! *Neighbours:* the driver pumps whenever there is room. *Invariant:* streams that wait take turns, a frame each,
//! those that asked for capacity first as well as those whose data waits here; what was assigned to one is not given to
//! another.

use bytes::Buf as _;

use crate::error::{Initiator, Reason};
use crate::output::OUT_MAX;
use crate::state::State;
use crate::streams::{RecvSide, SendSide};

/// What one stream may have assigned.
const ASSIGNED_MAX: usize = 64 * 1024;

/// What a turn came to.
enum Turn {
    /// Nothing to do, or the stream's own window is used up.
    Nothing,
    /// The connection's window is used up.
    Blocked,
    Sent,
    /// More waits.
    SentPart,
}

impl State {
    /// Puts a stream among those that wait, when it has something to wait for that its own window allows.
    pub(crate) fn enqueue(&mut self, key: u32) {
        let stream = &mut self.streams[key];
        if stream.is_queued || stream.id == 0 || stream.error.is_some() {
            return;
        }
        let wants_to_send = !stream.pending.is_empty() && stream.send_window > 0;
        let wants_capacity = stream.takes_data()
            && stream.capacity() == 0
            && stream.requested > stream.assigned
            && stream.send_window > stream.assigned as i64;
        let only_ends = stream.send == SendSide::Ending && stream.pending.is_empty();
        if wants_to_send || wants_capacity || only_ends {
            stream.is_queued = true;
            self.queue.push(key, stream.serial);
        }
    }

    /// Sends what can be sent.
    pub(crate) fn pump(&mut self) {
        let mut blocked = 0;
        while self.out.len() < OUT_MAX && blocked < self.queue.len() {
            if self.send_window <= 0 && self.assigned == 0 {
                return;
            }
            let Some((key, serial)) = self.queue.pop() else { return };
            if !self.streams.is(key, serial) {
                self.queue.had_left();
                continue;
            }
            self.streams[key].is_queued = false;
            match self.turn(key) {
                Turn::Nothing => {}
                Turn::Sent => blocked = 0,
                Turn::SentPart => {
                    blocked = 0;
                    self.enqueue(key);
                }
                Turn::Blocked => {
                    blocked += 1;
                    self.enqueue(key);
                }
            }
        }
    }

    fn turn(&mut self, key: u32) -> Turn {
        let stream = &mut self.streams[key];
        if stream.error.is_some() || stream.id == 0 {
            return Turn::Nothing;
        }
        if stream.pending.is_empty() {
            if stream.send == SendSide::Ending {
                self.finish(key);
                return Turn::Sent;
            }
            let turn = self.assign(key);
            if matches!(turn, Turn::Sent) {
                let waker = self.streams[key].send_waker.take();
                self.wake(waker);
            }
            return turn;
        }
        let own_room = stream.send_window.min(self.peer.frame_size as i64);
        if own_room <= 0 {
            return Turn::Nothing;
        }
        let room = own_room.min(stream.assigned as i64 + self.send_window.max(0)) as usize; // positive
        let Some(front) = stream.pending.front_mut().filter(|_| room > 0) else { return Turn::Blocked };
        let part = if front.len() > room {
            let part = front.slice(..room);
            front.advance(room);
            part
        } else {
            stream.pending.pop_front().unwrap_or_default()
        };
        stream.pending_bytes -= part.len();
        let last = stream.pending.is_empty();
        let end = last && stream.send == SendSide::Ending && stream.trailers_out.is_none();
        self.put_data(key, &part, end);
        let stream = &self.streams[key];
        if end {
            self.sent_end(key);
            self.settle(key);
            Turn::Sent
        } else if last && stream.send == SendSide::Ending {
            self.finish(key);
            Turn::Sent
        } else {
            Turn::SentPart
        }
    }

    /// Says the end, when all before it was said.
    pub(crate) fn finish(&mut self, key: u32) {
        match self.streams[key].trailers_out.take() {
            Some(trailers) => self.put_trailers(key, &trailers),
            None => {
                self.put_data(key, &[], true);
                self.sent_end(key);
            }
        }
        self.settle(key);
    }

    /// Nobody holds the stream, and all was said: the peer need not say more either.
    fn settle(&mut self, key: u32) {
        // The place may be free already.
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.id != 0
            && stream.handles == 0
            && !stream.is_offered
            && !stream.is_over()
            && stream.recv != RecvSide::Ended
        {
            let reason = if self.is_client { Reason::CANCEL } else { Reason::NO_ERROR };
            self.reset(key, reason, Initiator::Library);
        }
    }

    /// Gives a stream of the window what it asked for.
    fn assign(&mut self, key: u32) -> Turn {
        let stream = &mut self.streams[key];
        let wanted = stream.requested.min(ASSIGNED_MAX.max(stream.pending_bytes)).saturating_sub(stream.assigned);
        let own = stream.send_window - stream.assigned as i64;
        if !stream.takes_data() || wanted == 0 || own <= 0 {
            return Turn::Nothing;
        }
        let granted = (wanted as i64).min(own).min(self.send_window);
        if granted <= 0 {
            return Turn::Blocked;
        }
        let granted = granted as usize; // positive
        stream.assigned += granted;
        self.assigned += granted;
        self.send_window -= granted as i64;
        Turn::Sent
    }

    /// A sender says how much more it would like to send.
    pub(crate) fn reserve(&mut self, key: u32, more: usize) {
        let stream = &mut self.streams[key];
        if !stream.takes_data() {
            return;
        }
        stream.requested = stream.pending_bytes + more;
        let kept = stream.requested;
        if kept < stream.assigned {
            return self.unassign(key, kept);
        }
        self.want(key);
    }

    /// Gives a stream what it asked for, or has it wait for that.
    pub(crate) fn want(&mut self, key: u32) {
        let stream = &self.streams[key];
        let at_once = stream.id != 0 && self.queue.is_empty() && self.out.len() < OUT_MAX;
        if at_once && stream.pending.is_empty() {
            self.assign(key);
        }
        self.enqueue(key);
    }

    /// Takes what was assigned back, but for `kept` bytes.
    pub(crate) fn unassign(&mut self, key: u32, kept: usize) {
        let stream = &mut self.streams[key];
        let back = stream.assigned.saturating_sub(kept);
        if back > 0 {
            stream.assigned -= back;
            self.assigned -= back;
            self.send_window += back as i64;
            if !self.queue.is_empty() {
                self.notify();
            }
        }
    }
}
