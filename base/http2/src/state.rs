//! What both the handles and the driver know of a connection, under one lock.
//!
//! *Neighbours:* `input`, `fields`, `output`, `pump`, `flow` and `lifecycle` are the methods of [`State`], by what they
//! are for. *Invariant:* the lock is held for no longer than one such method, or the frames of one read, and never
//! while waiting. Wakers of streams are called by whoever held the lock, after it; the driver's is called under it,
//! which only puts a task into a queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use http::Request;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Cause;
use crate::flood::Flood;
use crate::hpack::Encoder;
use crate::line::Line;
use crate::ping::Pings;
use crate::settings::{Config, DEFAULT_WINDOW, PeerSettings};
use crate::streams::Streams;

/// A connection, as its handles see it.
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// How far a server's graceful end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    No,
    /// The peer was told, and asked for an answer that comes after all it sent before it knew.
    Announced,
    /// Nothing new is taken.
    Final,
}

/// Everything of a connection but its bytes' way.
pub(crate) struct State {
    pub(crate) is_client: bool,
    pub(crate) config: Config,
    pub(crate) peer: PeerSettings,
    /// Whether the peer has said that it knows our settings.
    pub(crate) is_acknowledged: bool,
    pub(crate) streams: Streams,
    pub(crate) encoder: Encoder,

    /// What leaves next.
    pub(crate) out: Vec<u8>,
    /// How much of it answers what the peer made us say.
    pub(crate) replies: usize,
    pub(crate) task: Option<Waker>,
    /// Whether the driver was woken and has not looked yet.
    pub(crate) is_notified: bool,
    /// Who is to be woken after the lock.
    pub(crate) wakes: Vec<Waker>,

    pub(crate) send_window: i64,
    /// What of the window is set apart for streams.
    pub(crate) assigned: usize,
    /// Streams that wait for window or room to send.
    pub(crate) queue: Line,
    pub(crate) recv_window: i64,
    pub(crate) released: u32,

    /// A client's next stream.
    pub(crate) next_id: u32,
    /// The highest stream the peer has opened.
    pub(crate) last_id: u32,
    /// Streams that are not over on the wire.
    pub(crate) open: usize,
    /// Requests that nobody has taken yet.
    pub(crate) offered: VecDeque<(u32, Request<()>)>,
    /// Streams that wait until the peer takes one more.
    pub(crate) unopened: Line,
    /// A client's handles that can make requests.
    pub(crate) senders: usize,

    /// Why no new stream is possible.
    pub(crate) failure: Option<Cause>,
    /// Whether the connection is over.
    pub(crate) is_dead: bool,
    /// The last stream the peer's GOAWAY lets live.
    pub(crate) goaway_received: Option<u32>,
    pub(crate) goaway_sent: Option<u32>,
    pub(crate) shutdown: Shutdown,
    pub(crate) pings: Pings,
    pub(crate) flood: Flood,
}

impl State {
    pub(crate) fn new(is_client: bool, config: Config) -> Self {
        let mut out = Vec::new();
        if is_client {
            out.extend_from_slice(crate::frame::PREFACE);
        }
        config.write(&mut out, is_client);
        Self {
            is_client,
            peer: PeerSettings::new(config.send_streams),
            is_acknowledged: false,
            streams: Streams::new(),
            encoder: Encoder::new(),
            out,
            replies: 0,
            task: None,
            is_notified: false,
            wakes: Vec::new(),
            send_window: i64::from(DEFAULT_WINDOW),
            assigned: 0,
            queue: Line::default(),
            recv_window: i64::from(config.connection_window.max(DEFAULT_WINDOW)),
            released: 0,
            next_id: 1,
            last_id: 0,
            open: 0,
            offered: VecDeque::new(),
            unopened: Line::default(),
            senders: 0,
            failure: None,
            is_dead: false,
            goaway_received: None,
            goaway_sent: None,
            shutdown: Shutdown::No,
            pings: Pings::default(),
            flood: Flood::default(),
            config,
        }
    }

    /// Has the driver look at what has changed.
    pub(crate) fn notify(&mut self) {
        if !self.is_notified {
            self.is_notified = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// Wakes `waker` after the lock.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.wakes.extend(waker);
    }

    /// Wakes whoever waits for anything of a stream.
    pub(crate) fn wake_stream(&mut self, key: u32) {
        let stream = &mut self.streams[key];
        let wakers = [stream.recv_waker.take(), stream.send_waker.take(), stream.open_waker.take()];
        self.wakes.extend(wakers.into_iter().flatten());
    }
}

/// Unlocks, then wakes whoever is to be woken.
pub(crate) fn unlock(mut state: MutexGuard<'_, State>) {
    if state.wakes.is_empty() {
        return;
    }
    let wakes = std::mem::take(&mut state.wakes);
    drop(state);
    wakes.into_iter().for_each(Waker::wake);
}

/// The same for whoever does it often: `wakes` keeps its room.
pub(crate) fn unlock_often(mut state: MutexGuard<'_, State>, wakes: &mut Vec<Waker>) {
    std::mem::swap(&mut state.wakes, wakes);
    drop(state);
    wakes.drain(..).for_each(Waker::wake);
}

/// A handle's hold on a stream, which the stream counts.
pub(crate) struct StreamRef {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: u32,
    /// Whether it is the reader's.
    pub(crate) reads: bool,
}

impl Drop for StreamRef {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.reads {
            state.reader_dropped(self.key);
        }
        state.handle_dropped(self.key);
        unlock(state);
    }
}
