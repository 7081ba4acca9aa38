//! The bytes' way of a connection: reads, writes, and decides when.
//!
//! *Neighbours:* `client` and `server` poll it; `parser` takes what was read; handles fill the output and wake it.
//! *Invariant:* what began to wait for its write in one turn of the event loop leaves in the next, with whatever was
//! added to it meanwhile; before anything was read it leaves at once. While the peer does not take our answers to its
//! frames, no more of them are read.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::error::{Cause, Error, Initiator, Reason};
use crate::output::OUT_MAX;
use crate::parser::Parser;
use crate::settings::Config;
use crate::state::{Shared, State, unlock, unlock_often};

/// What is read at once on a connection with little to read, and on a busy one.
const READ_MIN: usize = 8 * 1024;
const READ_MAX: usize = 64 * 1024;
/// Room that is not worth a read.
const SPARE_MIN: usize = 2 * 1024;
/// Reads in one turn.
const READS: usize = 16;
/// Times that requests are offered without a look at what there is to write.
const OFFERS: usize = 4;
/// More than this is written without waiting for others to add to it.
const WRITTEN_AT_ONCE: usize = 32 * 1024;
/// Buffers up to this size are kept.
const KEPT: usize = 16 * 1024;
/// Unsent answers to the peer's frames with which nothing more is read.
const REPLIES_MAX: usize = 16 * 1024;
/// Unsent bytes of any kind with which a server reads nothing more: who takes no answers may not ask. A client reads
/// all the same, so that the two do not wait for each other.
const UNSENT_MAX: usize = 512 * 1024;

/// Why driving returned.
pub(crate) enum Driven {
    /// There are requests to take.
    Offered,
    Ended(Result<(), Error>),
}

/// What reading came to.
enum Read {
    Offered,
    Waits,
    /// Not before our answers are written.
    Held,
    Ended(Result<(), Cause>),
}

pub(crate) struct Driver<IO> {
    io: IO,
    pub(crate) shared: Arc<Shared>,
    parser: Parser,
    read: BytesMut,
    /// What is read at once.
    chunk: usize,
    has_read: bool,
    writing: Vec<u8>,
    written: usize,
    /// How much of `writing` are answers to the peer's frames.
    replies: usize,
    needs_flush: bool,
    /// Whether the write waits for its second turn.
    is_put_off: bool,
    /// What is answered once all is written.
    end: Option<Result<(), Cause>>,
    is_done: bool,
    /// How often requests were offered since anything was written.
    offers: usize,
    /// Nobody, between turns.
    wakes: Vec<Waker>,
}

impl<IO> Driver<IO> {
    pub(crate) fn new(io: IO, is_client: bool, config: Config) -> Self {
        Self {
            io,
            shared: Shared::new(State::new(is_client, config)),
            parser: Parser::new(is_client),
            read: BytesMut::new(),
            chunk: READ_MIN,
            has_read: false,
            writing: Vec::new(),
            written: 0,
            replies: 0,
            needs_flush: false,
            is_put_off: false,
            end: None,
            is_done: false,
            offers: 0,
            wakes: Vec::new(),
        }
    }

    /// Whether a server has seen that its client speaks HTTP/2.
    pub(crate) fn has_preface(&self) -> bool {
        !self.parser.awaits_preface()
    }

    fn die(&mut self, cause: &Cause) {
        let mut state = self.shared.lock();
        state.die(cause);
        unlock(state);
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.die(&Cause::broken("connection"));
        self.shared.lock().task = None;
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Does what can be done. Returns when there are requests to take, if `for_offers`, or the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, for_offers: bool) -> Poll<Driven> {
        if self.is_done {
            return Poll::Ready(Driven::Ended(Ok(())));
        }
        {
            let mut state = self.shared.lock();
            State::note(&mut state.task, cx.waker());
            state.is_notified = false;
        }
        loop {
            let mut held = false;
            if self.end.is_none() {
                match self.poll_frames(cx, for_offers) {
                    Read::Offered => return Poll::Ready(self.offered(cx)),
                    Read::Waits => {}
                    Read::Held => held = true,
                    Read::Ended(result) => self.begin_end(result),
                }
            }
            if self.end.is_none() {
                self.look_for_end();
            }
            let written = match self.poll_out(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(self.break_off(error)),
                Poll::Pending => false,
            };
            if written && self.end.is_some() {
                return self.poll_done(cx).map(Driven::Ended);
            }
            if !written || !held {
                return Poll::Pending;
            }
        }
    }

    /// There are requests to take. Who asks without end gets answers all the same.
    fn offered(&mut self, cx: &mut Context<'_>) -> Driven {
        self.offers += 1;
        if self.offers > OFFERS {
            self.is_put_off = true; // for long enough
            if let Poll::Ready(Err(error)) = self.poll_out(cx) {
                return self.break_off(error);
            }
        }
        Driven::Offered
    }

    /// The connection's end, in whatever order.
    fn look_for_end(&mut self) {
        let mut state = self.shared.lock();
        let finished = state.is_finished();
        if !finished && !state.is_dead {
            return;
        }
        let result = state.outcome();
        if !state.is_dead {
            state.say_goodbye();
            state.die(&Cause::GoAway(Reason::NO_ERROR, Initiator::Library, bytes::Bytes::new()));
        }
        unlock(state);
        self.end = Some(result);
    }

    fn begin_end(&mut self, result: Result<(), Cause>) {
        let mut state = self.shared.lock();
        // The peer may have said why before it left.
        let result = result.and_then(|()| state.outcome());
        match &result {
            Err(cause @ Cause::GoAway(_, Initiator::Library, _) | cause @ Cause::Io(..)) => state.die(cause),
            _ => state.die(&Cause::broken("stream")),
        }
        unlock(state);
        self.end = Some(result);
    }

    /// The bytes' way is broken.
    fn break_off(&mut self, error: io::Error) -> Driven {
        self.die(&Cause::from(&error));
        self.is_done = true;
        // After the end nobody cares whether the last words arrived.
        Driven::Ended(self.end.take().unwrap_or_else(|| Err(Cause::from(&error))).map_err(Error::from))
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx)); // it is over either way
        self.is_done = true;
        Poll::Ready(self.end.take().unwrap_or(Ok(())).map_err(Error::from))
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>, for_offers: bool) -> Read {
        for _ in 0..READS {
            {
                let mut state = self.shared.lock();
                let taken = if state.is_dead { Ok(()) } else { self.parser.take(&mut self.read, &mut state) };
                let offered = !state.offered.is_empty();
                let unsent = state.out.len() + self.writing.len() - self.written;
                let held = state.replies + self.replies > REPLIES_MAX || (unsent > UNSENT_MAX && !state.is_client);
                unlock_often(state, &mut self.wakes);
                if let Err(cause) = taken {
                    return Read::Ended(Err(cause));
                }
                if offered && for_offers {
                    return Read::Offered;
                }
                if held {
                    return Read::Held;
                }
            }
            let missing = Parser::missing(&self.read);
            let spare = self.read.capacity() - self.read.len();
            if spare < SPARE_MIN.max(missing) {
                self.read.reserve(self.chunk.max(missing));
            }
            let spare = self.read.capacity() - self.read.len();
            match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
                Poll::Ready(Ok(0)) if self.parser.is_between_frames(&self.read) => return Read::Ended(Ok(())),
                Poll::Ready(Ok(0)) => {
                    let cause =
                        Cause::Io(io::ErrorKind::UnexpectedEof, "the connection ended inside a frame".to_owned());
                    return Read::Ended(Err(cause));
                }
                Poll::Ready(Ok(length)) => {
                    self.has_read = true;
                    if length == spare {
                        self.chunk = (self.chunk * 2).min(READ_MAX);
                    }
                }
                Poll::Ready(Err(error)) => return Read::Ended(Err(Cause::from(&error))),
                Poll::Pending => {
                    if self.read.is_empty() && self.chunk > READ_MIN {
                        self.chunk = READ_MIN;
                        self.read = BytesMut::new();
                    }
                    return Read::Waits;
                }
            }
        }
        cx.waker().wake_by_ref();
        Read::Waits
    }

    /// Writes what waits; ready when nothing does.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_written = false;
        self.offers = 0;
        loop {
            while self.written < self.writing.len() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.writing[self.written..]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += written;
                self.needs_flush = true;
                has_written = true;
            }
            self.writing.clear();
            self.written = 0;
            self.replies = 0;
            let mut state = self.shared.lock();
            state.pump();
            if state.out.is_empty() {
                if state.out.capacity() > KEPT {
                    state.out = Vec::new();
                }
                unlock_often(state, &mut self.wakes);
                break;
            }
            let at_once = has_written || self.is_put_off || !self.has_read || self.end.is_some();
            if !at_once && state.out.len() < WRITTEN_AT_ONCE {
                self.is_put_off = true;
                state.is_notified = true;
                unlock_often(state, &mut self.wakes);
                // Comes again after everybody who is ready now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.is_put_off = false;
            std::mem::swap(&mut state.out, &mut self.writing);
            self.replies = std::mem::take(&mut state.replies);
            unlock_often(state, &mut self.wakes);
        }
        if self.writing.capacity() > KEPT {
            self.writing = Vec::new();
        }
        self.is_put_off = false;
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

const _: () = assert!(WRITTEN_AT_ONCE < OUT_MAX, "a full output is written at once");
