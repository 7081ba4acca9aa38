//! Header blocks the peer sent: requests, responses, trailers. *Source:* RFC 9113 §8.1 to §8.3.
//!
//! *Neighbours:* `driver` decodes blocks, [`Head`] knows the rules of fields. *Invariant:* one final head, then data,
//! then at most one block of trailers, which is the end.

use http::{Request, Response, StatusCode, Version};

use crate::error::Reason;
use crate::head::{Head, content_length};
use crate::input::Refused;
use crate::state::{Shutdown, State};
use crate::streams::{Ended, RecvSide, SendSide};

impl State {
    /// Takes the fields of a block.
    pub(crate) fn headers(&mut self, id: u32, end: bool, head: Head) -> Result<(), Refused> {
        match self.streams.find(id) {
            Some(key) if self.is_client && self.streams[key].recv == RecvSide::Head => {
                self.response(key, id, end, head)
            }
            Some(key) => self.trailers(key, id, end, head),
            None if self.is_idle(id) => {
                if self.is_client || id.is_multiple_of(2) {
                    return Err(Refused::protocol("HEADERS on a stream that was never opened"));
                }
                self.request(id, end, head)
            }
            None => match self.streams.how_ended(id) {
                Some(Ended::ResetByUs) => Ok(()),
                Some(Ended::Both) => {
                    Err(Refused::Connection(Reason::STREAM_CLOSED, "HEADERS after the end of its stream"))
                }
                Some(Ended::ResetByPeer) => Err(Refused::Stream(id, Reason::STREAM_CLOSED)),
                None if self.is_client || self.streams.forgets() => Err(Refused::Stream(id, Reason::STREAM_CLOSED)),
                None => Err(Refused::protocol("a stream id lower than one before it")),
            },
        }
    }

    fn request(&mut self, id: u32, end: bool, head: Head) -> Result<(), Refused> {
        if self.shutdown == Shutdown::Final || self.is_dead {
            self.streams.refuse(id);
            return Ok(()); // it was told so
        }
        self.last_id = id;
        if self.config.streams.is_some_and(|most| self.open >= most as usize) {
            return Err(Refused::Stream(id, Reason::REFUSED_STREAM));
        }
        if head.is_oversize() {
            let key = self.accept(id, end);
            self.refuse_oversize(key, id);
            return self.charge(1);
        }
        let request = head.into_request().ok_or(Refused::Stream(id, Reason::PROTOCOL_ERROR))?;
        let expected = content_length(request.headers()).map_err(|()| Refused::Stream(id, Reason::PROTOCOL_ERROR))?;
        if end && expected.is_some_and(|expected| expected > 0) {
            return Err(Refused::Stream(id, Reason::PROTOCOL_ERROR));
        }
        let key = self.accept(id, end);
        self.offer(key, expected, request);
        Ok(())
    }

    fn offer(&mut self, key: u32, expected: Option<u64>, request: Request<()>) {
        let stream = &mut self.streams[key];
        stream.expected = expected;
        stream.is_offered = true;
        self.offered.push_back((key, request));
    }

    /// A new stream of the peer.
    fn accept(&mut self, id: u32, end: bool) -> u32 {
        let (recv_window, send_window) = (self.first_window(), i64::from(self.peer.stream_window));
        let key = self.streams.insert();
        self.streams.name(key, id);
        self.open += 1;
        let stream = &mut self.streams[key];
        stream.recv_window = recv_window;
        stream.send_window = send_window;
        stream.recv = if end { RecvSide::Ended } else { RecvSide::Body };
        key
    }

    fn refuse_oversize(&mut self, key: u32, id: u32) {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        *answer.version_mut() = Version::HTTP_2;
        let before = self.out.len();
        let sent = self.send_response(key, &answer, true);
        debug_assert!(sent.is_ok(), "nothing was sent on it yet");
        self.replies += self.out.len() - before;
        if self.streams.find(id).is_some() {
            self.abandon(key);
        }
    }

    fn response(&mut self, key: u32, id: u32, end: bool, head: Head) -> Result<(), Refused> {
        let refused = Refused::Stream(id, Reason::PROTOCOL_ERROR);
        if head.is_oversize() {
            return Err(refused);
        }
        let response = head.into_response().ok_or(refused)?;
        let status = response.status();
        if status.is_informational() {
            let fits = !end && status != StatusCode::SWITCHING_PROTOCOLS;
            return if fits { self.charge(1) } else { Err(refused) };
        }
        let expected = content_length(response.headers()).map_err(|()| refused)?;
        let stream = &mut self.streams[key];
        let bodiless = stream.to_head_request || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let expected = expected.filter(|_| !bodiless);
        if end && expected.is_some_and(|expected| expected > 0) {
            return Err(refused);
        }
        stream.expected = expected;
        stream.recv = RecvSide::Body;
        if stream.is_read {
            stream.response = Some(response);
        }
        let waker = stream.recv_waker.take();
        self.wake(waker);
        if end {
            self.received_end(key);
        }
        Ok(())
    }

    fn trailers(&mut self, key: u32, id: u32, end: bool, head: Head) -> Result<(), Refused> {
        let stream = &mut self.streams[key];
        if stream.recv == RecvSide::Ended {
            return Err(Refused::Stream(id, Reason::STREAM_CLOSED));
        }
        let short = stream.expected.is_some_and(|left| left > 0);
        let trailers = if head.is_oversize() || short || !end { None } else { head.into_trailers() };
        let trailers = trailers.ok_or(Refused::Stream(id, Reason::PROTOCOL_ERROR))?;
        if stream.is_read {
            stream.trailers_in = Some(trailers);
        }
        self.received_end(key);
        Ok(())
    }

    /// The peer has said all it had to say.
    pub(crate) fn received_end(&mut self, key: u32) {
        let stream = &mut self.streams[key];
        stream.recv = RecvSide::Ended;
        let waker = stream.recv_waker.take();
        self.wake(waker);
        if self.streams[key].send == SendSide::Ended {
            self.ended(key);
        }
    }
}
