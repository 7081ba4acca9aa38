//! Flow control: what the peer may send, and how much of its window is left to us. *Source:* RFC 9113 §5.2 and §6.9.
//!
//! *Neighbours:* `input` counts what came, `recv` gives it back, `pump` uses the peer's windows. *Invariant:* what was
//! received and not released is never announced again; an announcement is made once it is half of the window.

use crate::error::{Misuse, Reason};
use crate::frame::{self, MAX_31};
use crate::input::Refused;
use crate::settings::DEFAULT_WINDOW;
use crate::state::State;
use crate::streams::RecvSide;

impl State {
    /// What the peer may send on a new stream: more than we said until it knows what we said.
    pub(crate) fn first_window(&self) -> i64 {
        let window = if self.is_acknowledged {
            self.config.stream_window
        } else {
            self.config.stream_window.max(DEFAULT_WINDOW)
        };
        i64::from(window)
    }

    /// The peer knows our settings.
    pub(crate) fn acknowledged(&mut self) {
        let before = self.first_window();
        if std::mem::replace(&mut self.is_acknowledged, true) {
            return;
        }
        let less = before - self.first_window();
        if less > 0 {
            for stream in self.streams.all() {
                stream.recv_window -= less;
            }
        }
    }

    /// Gives the peer back what it used of the connection's window.
    pub(crate) fn release_connection(&mut self, length: u32) {
        self.released += length;
        if self.released > 0 && self.released >= self.config.connection_window.max(DEFAULT_WINDOW) / 2 {
            frame::put_window_update(&mut self.out, 0, self.released);
            self.recv_window += i64::from(self.released);
            self.released = 0;
            self.notify();
        }
    }

    /// Gives the peer back what it used of a stream's window, when it still may send there.
    pub(crate) fn release_stream(&mut self, key: u32, length: u32) {
        let stream = &mut self.streams[key];
        if stream.recv == RecvSide::Ended || stream.error.is_some() {
            return;
        }
        stream.released += length;
        if stream.released > 0 && stream.released >= self.config.stream_window / 2 {
            frame::put_window_update(&mut self.out, stream.id, stream.released);
            stream.recv_window += i64::from(stream.released);
            stream.released = 0;
            self.notify();
        }
    }

    /// A reader has used `length` bytes.
    pub(crate) fn release(&mut self, key: u32, length: usize) -> Result<(), Misuse> {
        let stream = &mut self.streams[key];
        let length = u32::try_from(length).ok().filter(|length| *length <= stream.in_flight);
        let length = length.ok_or(Misuse::ReleaseTooBig)?;
        stream.in_flight -= length;
        self.release_stream(key, length);
        self.release_connection(length);
        Ok(())
    }

    /// Nobody reads a stream any more.
    pub(crate) fn reader_dropped(&mut self, key: u32) {
        let stream = &mut self.streams[key];
        stream.is_read = false;
        stream.recv_waker = None;
        stream.trailers_in = None;
        stream.response = None;
        stream.data.clear();
        let unread = std::mem::take(&mut stream.in_flight);
        self.release_connection(unread);
    }

    /// WINDOW_UPDATE.
    pub(crate) fn window_update(&mut self, id: u32, increment: u32) -> Result<(), Refused> {
        if id == 0 {
            if increment == 0 {
                return Err(Refused::Connection(Reason::PROTOCOL_ERROR, "WINDOW_UPDATE by nothing"));
            }
            self.send_window += i64::from(increment);
            if self.send_window + self.assigned as i64 > i64::from(MAX_31) {
                return Err(Refused::Connection(Reason::FLOW_CONTROL_ERROR, "a window past 2^31-1"));
            }
            return Ok(()); // the driver pumps
        }
        let Some(key) = self.streams.find(id) else { return self.known(id) };
        if increment == 0 {
            return Err(Refused::Stream(id, Reason::PROTOCOL_ERROR));
        }
        let stream = &mut self.streams[key];
        stream.send_window += i64::from(increment);
        if stream.send_window > i64::from(MAX_31) {
            return Err(Refused::Stream(id, Reason::FLOW_CONTROL_ERROR));
        }
        self.enqueue(key);
        Ok(())
    }

    /// The peer's initial window changed, which changes those of all streams.
    pub(crate) fn windows_changed(&mut self, by: i64) -> Result<(), Refused> {
        for key in self.streams.named() {
            let stream = &mut self.streams[key];
            stream.send_window += by;
            if stream.send_window > i64::from(MAX_31) {
                return Err(Refused::Connection(Reason::FLOW_CONTROL_ERROR, "a window past 2^31-1"));
            }
            self.enqueue(key);
        }
        Ok(())
    }
}
