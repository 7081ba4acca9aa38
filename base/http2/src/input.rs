//! What the peer says, except header fields. *Source:* RFC 9113 §5.1 and §6.
//!
//! *Neighbours:* `driver` cuts frames out of what was read, `fields` takes header blocks, `flow` windows. *Invariant:*
//! whatever comes, the answer is a change of state, a reset of one stream, or the end of the connection; never a panic,
//! and never work without bound.

use bytes::{Bytes, BytesMut};

use crate::error::{Cause, Initiator, Reason};
use crate::frame::{self, ACK, END_STREAM, FrameHead};
use crate::ping::SHUTDOWN_PING;
use crate::state::{Shutdown, State};
use crate::streams::{Ended, RecvSide, SendSide};

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The stream ends.
    Stream(u32, Reason),
    /// The connection ends.
    Connection(Reason, &'static str),
}

impl Refused {
    pub(crate) fn protocol(what: &'static str) -> Self {
        Self::Connection(Reason::PROTOCOL_ERROR, what)
    }

    fn size(what: &'static str) -> Self {
        Self::Connection(Reason::FRAME_SIZE_ERROR, what)
    }
}

/// Data up to this size joins what came before it, once so many pieces are unread: a piece costs more than a few bytes.
const SMALL_PIECE: usize = 1024;
const PIECES: usize = 16;
const JOINED_MAX: usize = 4096;
/// What a reset of a request nobody has looked at costs, against one of a call under way.
const UNSEEN: u32 = 64;

impl State {
    /// Takes a frame that is neither DATA nor of a header block.
    pub(crate) fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Refused> {
        match head.kind {
            frame::SETTINGS => self.settings(head, payload),
            frame::WINDOW_UPDATE => {
                let [increment] = numbers(payload).ok_or(Refused::size("WINDOW_UPDATE of another length than 4"))?;
                self.window_update(head.id, increment & frame::MAX_31)
            }
            frame::RST_STREAM => {
                let [reason] = numbers(payload).ok_or(Refused::size("RST_STREAM of another length than 4"))?;
                self.reset_received(head.id, Reason::from(reason))
            }
            frame::PING => self.ping(head, payload),
            frame::GOAWAY => self.goaway(head, payload),
            frame::PRIORITY => {
                let dependency = frame::number(payload).filter(|_| payload.len() == 5);
                let dependency = dependency.ok_or(Refused::size("PRIORITY of another length than 5"))?;
                if head.id == 0 || dependency & frame::MAX_31 == head.id {
                    return Err(Refused::protocol("PRIORITY on stream 0 or on itself"));
                }
                Ok(())
            }
            frame::PUSH_PROMISE => Err(Refused::protocol("a push, which was not allowed")),
            frame::CONTINUATION => Err(Refused::protocol("CONTINUATION of nothing")),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Refused> {
        if head.id != 0 {
            return Err(Refused::protocol("SETTINGS on a stream"));
        }
        if head.has(ACK) {
            if !payload.is_empty() {
                return Err(Refused::size("SETTINGS ACK with settings"));
            }
            self.acknowledged();
            return Ok(());
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Refused::size("SETTINGS of a length that is no multiple of 6"));
        }
        let before = i64::from(self.peer.stream_window);
        self.peer
            .apply(payload, self.is_client)
            .map_err(|reason| Refused::Connection(reason, "a setting out of range"))?;
        self.encoder.resize(self.peer.header_table as usize);
        let changed = i64::from(self.peer.stream_window) - before;
        if changed != 0 {
            self.windows_changed(changed)?;
        }
        frame::put_head(&mut self.out, 0, frame::SETTINGS, ACK, 0);
        self.replies += frame::HEAD_BYTES;
        self.open_waiting();
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Refused> {
        let payload = *payload
            .first_chunk::<8>()
            .filter(|_| payload.len() == 8)
            .ok_or(Refused::size("PING of another length than 8"))?;
        if head.id != 0 {
            return Err(Refused::protocol("PING on a stream"));
        }
        if !head.has(ACK) {
            frame::put_ping(&mut self.out, ACK, payload);
            self.replies += frame::HEAD_BYTES + 8;
        } else if payload == SHUTDOWN_PING && self.shutdown == Shutdown::Announced {
            self.shutdown = Shutdown::Final;
            self.put_goaway(self.last_id, Reason::NO_ERROR, b"");
        } else if let Some(waker) = self.pings.answered(payload) {
            self.wakes.push(waker);
        }
        Ok(())
    }

    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Refused> {
        let Some((last, reason)) = frame::number(payload).zip(payload.get(4..).and_then(frame::number)) else {
            return Err(Refused::size("GOAWAY of less than 8 bytes"));
        };
        let last = last & frame::MAX_31;
        if head.id != 0 || self.goaway_received.is_some_and(|before| last > before) {
            return Err(Refused::protocol("GOAWAY on a stream, or that takes an earlier one back"));
        }
        self.goaway_received = Some(last);
        let text = Bytes::copy_from_slice(payload.get(8..).unwrap_or_default());
        let cause = Cause::GoAway(Reason::from(reason), Initiator::Remote, text);
        self.failure = Some(cause.clone());
        if self.is_client {
            for key in self.streams.named() {
                if self.streams[key].id > last {
                    self.end_stream(key, cause.clone(), Ended::ResetByPeer);
                }
            }
            self.give_up_unopened(&cause);
        }
        Ok(())
    }

    fn reset_received(&mut self, id: u32, reason: Reason) -> Result<(), Refused> {
        let Some(key) = self.streams.find(id) else { return self.known(id) };
        let stream = &self.streams[key];
        let (unseen, unanswered) = (stream.is_offered, stream.send == SendSide::Head || stream.recv != RecvSide::Ended);
        self.end_stream(key, Cause::Reset(reason, Initiator::Remote), Ended::ResetByPeer);
        if unseen {
            self.withdraw(key);
        }
        if !self.is_client && unanswered { self.charge(if unseen { UNSEEN } else { 1 }) } else { Ok(()) }
    }

    /// Counts what the peer made us do for nothing.
    pub(crate) fn charge(&mut self, cost: u32) -> Result<(), Refused> {
        if self.flood.charge(cost) {
            return Ok(());
        }
        Err(Refused::Connection(Reason::ENHANCE_YOUR_CALM, "too many resets, or frames of no use"))
    }

    /// A frame on a stream that is not there is in order when the stream once was.
    pub(crate) fn known(&self, id: u32) -> Result<(), Refused> {
        if self.is_idle(id) && self.shutdown != Shutdown::Final {
            Err(Refused::protocol("a frame on a stream that was never opened"))
        } else {
            Ok(())
        }
    }

    /// Whether a stream was never opened.
    pub(crate) fn is_idle(&self, id: u32) -> bool {
        let next = if self.is_client { self.next_id } else { self.last_id + 1 };
        id.is_multiple_of(2) || id >= next
    }

    /// Takes the head of a DATA frame, whose payload is `length` bytes with its padding and `useful` without. `Some`:
    /// that is to be given to [`State::deliver`] for this stream.
    pub(crate) fn data(&mut self, head: FrameHead, length: u32, useful: u32) -> Result<Option<u32>, Refused> {
        self.recv_window -= i64::from(length);
        if self.recv_window < 0 {
            return Err(Refused::Connection(Reason::FLOW_CONTROL_ERROR, "more data than the connection's window"));
        }
        let Some(key) = self.streams.find(head.id) else {
            self.release_connection(length);
            return match self.streams.how_ended(head.id) {
                Some(Ended::Both) => {
                    Err(Refused::Connection(Reason::STREAM_CLOSED, "DATA after the end of its stream"))
                }
                Some(Ended::ResetByUs) => Ok(None),
                None if self.is_idle(head.id) => Err(Refused::protocol("DATA on a stream that was never opened")),
                Some(Ended::ResetByPeer) | None => Err(Refused::Stream(head.id, Reason::STREAM_CLOSED)),
            };
        };
        let stream = &mut self.streams[key];
        stream.recv_window -= i64::from(length);
        let end = head.has(END_STREAM);
        let left = stream.expected.map(|left| left.checked_sub(u64::from(useful)));
        let refused = match stream.recv {
            RecvSide::Ended => Some(Reason::STREAM_CLOSED),
            RecvSide::Head => Some(Reason::PROTOCOL_ERROR),
            RecvSide::Body if stream.recv_window < 0 => Some(Reason::FLOW_CONTROL_ERROR),
            RecvSide::Body if left == Some(None) || (end && left.is_some_and(|left| left != Some(0))) => {
                Some(Reason::PROTOCOL_ERROR)
            }
            RecvSide::Body => None,
        };
        if let Some(reason) = refused {
            self.release_connection(length);
            return Err(Refused::Stream(head.id, reason));
        }
        stream.expected = left.flatten();
        if !stream.is_read {
            self.release_connection(length);
            if end {
                self.received_end(key);
            }
            return Ok(None);
        }
        stream.in_flight += useful;
        if length > useful {
            self.release_stream(key, length - useful);
            self.release_connection(length - useful);
        }
        if useful == 0 && !end {
            self.charge(1)?;
        }
        Ok(Some(key))
    }

    /// Takes the payload of a DATA frame.
    pub(crate) fn deliver(&mut self, key: u32, data: Bytes, end: bool) {
        let stream = &mut self.streams[key];
        if !data.is_empty() {
            let joined = data.len() <= SMALL_PIECE
                && stream.data.len() >= PIECES
                && stream.data.back().is_some_and(|last| last.len() + data.len() <= JOINED_MAX);
            match if joined { stream.data.pop_back() } else { None } {
                Some(last) => {
                    let mut last = last.try_into_mut().unwrap_or_else(|last| BytesMut::from(last.as_ref()));
                    last.extend_from_slice(&data);
                    stream.data.push_back(last.freeze());
                }
                None => stream.data.push_back(data),
            }
        }
        let waker = stream.recv_waker.take();
        self.wake(waker);
        if end {
            self.received_end(key);
        }
    }
}

/// A payload that is exactly these numbers.
fn numbers<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    let (numbers, rest) = payload.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let numbers: &[[u8; 4]; N] = numbers.try_into().ok()?;
    Some(numbers.map(u32::from_be_bytes))
}
