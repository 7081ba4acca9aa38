//! What is said: heads, data, trailers, resets, straight into the output. *Source:* RFC 9113 §6 and §8.
//!
//! *Neighbours:* the handles call it, `pump` sends what has to wait. *Invariant:* the blocks of one connection enter
//! the output in the order in which they are encoded; data enters it only as far as both windows and the output's size
//! allow.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};

use crate::error::{Cause, Initiator, Misuse, Reason};
use crate::frame::{self, END_STREAM, HEAD_BYTES, MAX_31};
use crate::head::may_be_sent;
use crate::state::State;
use crate::streams::{RecvSide, SendSide};

/// While more waits to be written, data stays in the streams.
pub(crate) const OUT_MAX: usize = 128 * 1024;
/// What is sent at once at most; more goes out in turns with other streams.
const AT_ONCE: usize = 64 * 1024;

impl State {
    /// Begins a request; it waits when the peer takes no more streams. Answers the stream's place and what its two
    /// handles count.
    pub(crate) fn send_request(&mut self, request: Request<()>, end: bool) -> Result<u32, Cause> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.next_id > MAX_31 {
            return Err(Misuse::OutOfIds.into());
        }
        let uri = request.uri();
        let connect = *request.method() == Method::CONNECT;
        if uri.authority().is_none() || (uri.scheme().is_none() && !connect) {
            return Err(Misuse::NoSchemeOrAuthority.into());
        }
        if !may_be_sent(request.headers()) {
            return Err(Misuse::MalformedHeaders.into());
        }
        let key = self.streams.insert();
        let stream = &mut self.streams[key];
        stream.handles = 2;
        stream.to_head_request = *request.method() == Method::HEAD;
        if self.open < self.peer.streams && self.unopened.is_empty() {
            self.open(key, &request, end);
        } else {
            stream.send = if end { SendSide::Ending } else { SendSide::Body };
            stream.unopened = Some(Box::new(request));
            self.unopened.push(key, stream.serial);
        }
        Ok(key)
    }

    fn open(&mut self, key: u32, request: &Request<()>, end: bool) {
        let id = self.next_id;
        self.next_id += 2;
        self.open += 1;
        self.streams.name(key, id);
        let (recv_window, send_window) = (self.first_window(), i64::from(self.peer.stream_window));
        let stream = &mut self.streams[key];
        stream.recv_window = recv_window;
        stream.send_window = send_window;
        stream.send = if end { SendSide::Ended } else { SendSide::Body };
        let begin = self.begin_headers();
        self.encoder.request(request, &mut self.out);
        frame::finish_headers(&mut self.out, begin, id, end, self.peer.frame_size);
        self.notify();
    }

    /// Opens streams as long as the peer takes more.
    pub(crate) fn open_waiting(&mut self) {
        while self.open < self.peer.streams && self.next_id <= MAX_31 && self.failure.is_none() {
            let Some((key, serial)) = self.unopened.pop() else { return };
            if !self.streams.is_unopened(key, serial) {
                self.unopened.had_left();
                continue;
            }
            let stream = &mut self.streams[key];
            let Some(request) = stream.unopened.take() else { continue };
            let waker = stream.open_waker.take();
            let (send, empty) = (stream.send, stream.pending.is_empty());
            let trailers = stream.trailers_out.take();
            self.wake(waker);
            self.open(key, &request, send == SendSide::Ending && empty && trailers.is_none());
            let stream = &mut self.streams[key];
            stream.trailers_out = trailers;
            if stream.send == SendSide::Body {
                stream.send = send;
                if send == SendSide::Ending && empty {
                    self.finish(key);
                } else {
                    self.enqueue(key);
                }
            }
        }
    }

    fn begin_headers(&mut self) -> usize {
        let begin = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        begin
    }

    pub(crate) fn send_response(&mut self, key: u32, response: &Response<()>, end: bool) -> Result<(), Cause> {
        let stream = &mut self.streams[key];
        if let Some(error) = &stream.error {
            return Err(error.clone());
        }
        if stream.send != SendSide::Head {
            return Err(Misuse::UnexpectedFrame.into());
        }
        if !may_be_sent(response.headers()) {
            return Err(Misuse::MalformedHeaders.into());
        }
        let (id, informational) = (stream.id, response.status().is_informational());
        if informational && end {
            return Err(Misuse::UnexpectedFrame.into());
        }
        let begin = self.begin_headers();
        self.encoder.response(response.status(), response.headers(), &mut self.out);
        frame::finish_headers(&mut self.out, begin, id, end, self.peer.frame_size);
        if !informational {
            self.streams[key].send = SendSide::Body;
        }
        if end {
            self.sent_end(key);
        }
        self.notify();
        Ok(())
    }

    fn may_send(&self, key: u32) -> Result<(), Cause> {
        let stream = &self.streams[key];
        match (&stream.error, stream.send) {
            (Some(error), _) => Err(error.clone()),
            (None, SendSide::Body) => Ok(()),
            (None, SendSide::Head) => Err(Misuse::UnexpectedFrame.into()),
            (None, SendSide::Ending | SendSide::Ended) if stream.is_over() => Err(Misuse::Inactive.into()),
            (None, SendSide::Ending | SendSide::Ended) => Err(Misuse::UnexpectedFrame.into()),
        }
    }

    pub(crate) fn send_data(&mut self, key: u32, data: Bytes, end: bool) -> Result<(), Cause> {
        self.may_send(key)?;
        let stream = &mut self.streams[key];
        let length = data.len();
        stream.requested = stream.requested.saturating_sub(length);
        if stream.pending.is_empty() && stream.unopened.is_none() && self.out.len() < OUT_MAX && length <= AT_ONCE {
            let common = if self.queue.is_empty() { self.send_window } else { 0 };
            let room = (stream.assigned as i64 + common.max(0)).min(stream.send_window);
            if length as i64 <= room || length == 0 {
                self.put_data(key, &data, end);
                if end {
                    self.sent_end(key);
                }
                self.notify();
                return Ok(());
            }
        }
        if length > 0 {
            stream.pending_bytes += length;
            stream.pending.push_back(data);
        }
        if end {
            stream.send = SendSide::Ending;
        }
        self.enqueue(key);
        self.notify();
        Ok(())
    }

    /// Writes data that fits into both windows.
    pub(crate) fn put_data(&mut self, key: u32, data: &[u8], end: bool) {
        let stream = &mut self.streams[key];
        let own = data.len().min(stream.assigned);
        stream.assigned -= own;
        self.assigned -= own;
        self.send_window -= (data.len() - own) as i64;
        stream.send_window -= data.len() as i64;
        let mut parts = data.chunks(self.peer.frame_size).peekable();
        if parts.peek().is_none() && end {
            frame::put_head(&mut self.out, 0, frame::DATA, END_STREAM, stream.id);
        }
        while let Some(part) = parts.next() {
            let last = if end && parts.peek().is_none() { END_STREAM } else { 0 };
            frame::put_head(&mut self.out, part.len(), frame::DATA, last, stream.id);
            self.out.extend_from_slice(part);
        }
    }

    pub(crate) fn send_trailers(&mut self, key: u32, trailers: HeaderMap) -> Result<(), Cause> {
        self.may_send(key)?;
        if !may_be_sent(&trailers) {
            return Err(Misuse::MalformedHeaders.into());
        }
        let stream = &mut self.streams[key];
        if stream.pending.is_empty() && stream.unopened.is_none() {
            self.put_trailers(key, &trailers);
        } else {
            stream.trailers_out = Some(trailers);
            stream.send = SendSide::Ending;
        }
        self.notify();
        Ok(())
    }

    pub(crate) fn put_trailers(&mut self, key: u32, trailers: &HeaderMap) {
        let id = self.streams[key].id;
        if trailers.is_empty() {
            // A block without fields is an end like any other.
            frame::put_head(&mut self.out, 0, frame::DATA, END_STREAM, id);
        } else {
            let begin = self.begin_headers();
            self.encoder.trailers(trailers, &mut self.out);
            frame::finish_headers(&mut self.out, begin, id, true, self.peer.frame_size);
        }
        self.sent_end(key);
    }

    /// This side has said all it had to say.
    pub(crate) fn sent_end(&mut self, key: u32) {
        self.unassign(key, 0);
        let stream = &mut self.streams[key];
        stream.send = SendSide::Ended;
        if stream.recv == RecvSide::Ended {
            self.ended(key);
        }
    }

    /// Ends a stream early.
    pub(crate) fn reset(&mut self, key: u32, reason: Reason, by: Initiator) {
        let stream = &self.streams[key];
        if stream.is_over() {
            return;
        }
        if stream.id != 0 {
            frame::put_rst_stream(&mut self.out, stream.id, reason.into());
            self.notify();
        }
        self.end_stream(key, Cause::Reset(reason, by), crate::streams::Ended::ResetByUs);
    }
}
