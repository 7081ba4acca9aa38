//! What is known of each stream, by the number of its place; the wire's ids lead to places.
//!
//! *Neighbours:* `state` holds the one [`Streams`] of a connection, handles hold places. *Invariant:* a place is free
//! again when the stream is over on the wire and no handle is left; an id leads to a place only while the stream is not
//! over on the wire.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::task::Waker;

use bytes::Bytes;
use hashbrown::HashMap;
use http::{HeaderMap, Request, Response};

use crate::error::Cause;

/// What this side has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendSide {
    /// No head yet: a server that has not answered, a client that waits for a free stream.
    Head,
    Body,
    /// The end was given, and waits behind data.
    Ending,
    Ended,
}

/// What the peer has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvSide {
    Head,
    Body,
    Ended,
}

/// One stream.
pub(crate) struct Stream {
    /// 0: not opened yet.
    pub(crate) id: u32,
    pub(crate) send: SendSide,
    pub(crate) recv: RecvSide,
    /// Why it was over before both ends.
    pub(crate) error: Option<Cause>,
    pub(crate) handles: u32,
    /// Whether somebody may still read it.
    pub(crate) is_read: bool,
    /// Waits to be accepted.
    pub(crate) is_offered: bool,
    /// The response has no body whatever its `content-length` says.
    pub(crate) to_head_request: bool,
    /// In the queue of those that wait to send.
    pub(crate) is_queued: bool,

    pub(crate) send_window: i64,
    /// Of the connection's window, set apart for this stream.
    pub(crate) assigned: usize,
    /// What the sender would like to be assigned.
    pub(crate) requested: usize,
    pub(crate) pending: VecDeque<Bytes>,
    pub(crate) pending_bytes: usize,
    pub(crate) trailers_out: Option<HeaderMap>,

    pub(crate) recv_window: i64,
    /// Released and not announced yet.
    pub(crate) released: u32,
    /// Received and not released.
    pub(crate) in_flight: u32,
    pub(crate) data: VecDeque<Bytes>,
    pub(crate) response: Option<Response<()>>,
    pub(crate) trailers_in: Option<HeaderMap>,
    /// What `content-length` leaves to come.
    pub(crate) expected: Option<u64>,

    pub(crate) recv_waker: Option<Waker>,
    pub(crate) send_waker: Option<Waker>,
    /// A request that waits for a free stream, and who waits for that.
    pub(crate) unopened: Option<Box<Request<()>>>,
    pub(crate) open_waker: Option<Waker>,
    /// Tells the stream from those that had its place before.
    pub(crate) serial: u64,
}

impl Stream {
    fn new() -> Self {
        Self {
            id: 0,
            send: SendSide::Head,
            recv: RecvSide::Head,
            error: None,
            handles: 0,
            is_read: true,
            is_offered: false,
            to_head_request: false,
            is_queued: false,
            send_window: 0,
            assigned: 0,
            requested: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            trailers_out: None,
            recv_window: 0,
            released: 0,
            in_flight: 0,
            data: VecDeque::new(),
            response: None,
            trailers_in: None,
            expected: None,
            recv_waker: None,
            send_waker: None,
            unopened: None,
            open_waker: None,
            serial: 0,
        }
    }

    /// Whether nothing more will be said on the wire.
    pub(crate) fn is_over(&self) -> bool {
        self.error.is_some() || (self.send == SendSide::Ended && self.recv == RecvSide::Ended)
    }

    /// Whether data may be sent.
    pub(crate) fn takes_data(&self) -> bool {
        self.error.is_none() && self.send == SendSide::Body
    }

    /// What may be sent at once of what was assigned.
    pub(crate) fn capacity(&self) -> usize {
        if self.takes_data() { self.assigned.saturating_sub(self.pending_bytes) } else { 0 }
    }
}

/// How a stream ended, for frames that come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides said so.
    Both,
    ResetByPeer,
    ResetByUs,
}

/// Ids that were remembered after their end.
const REMEMBERED: usize = 256;
/// Places that are kept for later while nothing is going on.
const PLACES_KEPT: usize = 32;
const QUEUE_KEPT: usize = 8;

/// All streams of a connection.
pub(crate) struct Streams {
    places: Vec<Stream>,
    free: Vec<u32>,
    ids: HashMap<u32, u32>,
    /// The last that ended, as a ring.
    ended: Vec<(u32, Ended)>,
    next_ended: usize,
    serial: u64,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), ids: HashMap::new(), ended: Vec::new(), next_ended: 0, serial: 0 }
    }

    /// A place for a new stream.
    pub(crate) fn insert(&mut self) -> u32 {
        let key = self.free.pop().unwrap_or_else(|| {
            self.places.push(Stream::new());
            self.places.len() as u32 - 1 // ids are 31 bits, so there are not as many
        });
        self.serial += 1;
        self[key].serial = self.serial;
        key
    }

    /// Gives a stream its id on the wire.
    pub(crate) fn name(&mut self, key: u32, id: u32) {
        self[key].id = id;
        self.ids.insert(id, key);
    }

    pub(crate) fn find(&self, id: u32) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// A stream is over on the wire; `false`: it was before.
    pub(crate) fn end(&mut self, id: u32, how: Ended) -> bool {
        if self.ids.remove(&id).is_none() {
            return false;
        }
        self.remember(id, how);
        true
    }

    /// A stream was refused before it had a place.
    pub(crate) fn refuse(&mut self, id: u32) {
        if self.how_ended(id).is_none() {
            self.remember(id, Ended::ResetByUs);
        }
    }

    fn remember(&mut self, id: u32, how: Ended) {
        if self.ended.len() < REMEMBERED {
            self.ended.push((id, how));
        } else {
            self.ended[self.next_ended] = (id, how);
            self.next_ended = (self.next_ended + 1) % REMEMBERED;
        }
    }

    /// How a stream ended, if that is not too long ago.
    pub(crate) fn how_ended(&self, id: u32) -> Option<Ended> {
        self.ended.iter().find(|(ended, _)| *ended == id).map(|(_, how)| *how)
    }

    /// Whether some that ended are forgotten.
    pub(crate) fn forgets(&self) -> bool {
        self.ended.len() == REMEMBERED
    }

    /// Makes a place free; what is in it ends here.
    pub(crate) fn remove(&mut self, key: u32) {
        let stream = &mut self[key];
        let (mut pending, mut data) = (std::mem::take(&mut stream.pending), std::mem::take(&mut stream.data));
        *stream = Stream::new();
        pending.clear();
        data.clear();
        if pending.capacity() <= QUEUE_KEPT {
            stream.pending = pending;
        }
        if data.capacity() <= QUEUE_KEPT {
            stream.data = data;
        }
        self.free.push(key);
        if self.free.len() == self.places.len() && self.places.len() > PLACES_KEPT {
            self.places = Vec::new();
            self.free = Vec::new();
            self.ids = HashMap::new();
        }
    }

    /// Whether no stream has a place.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// The places of the streams that are not over on the wire.
    pub(crate) fn named(&self) -> Vec<u32> {
        self.ids.values().copied().collect()
    }

    /// The stream at a place that may be gone by now.
    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut Stream> {
        self.places.get_mut(key as usize)
    }

    /// All places, the free ones too.
    pub(crate) fn all(&mut self) -> &mut [Stream] {
        &mut self.places
    }

    /// Whether `key` still has the stream with `serial`, and it waits to be opened.
    pub(crate) fn is_unopened(&self, key: u32, serial: u64) -> bool {
        self.is(key, serial) && self[key].unopened.is_some()
    }

    /// Whether `key` still has the stream with `serial`.
    pub(crate) fn is(&self, key: u32, serial: u64) -> bool {
        self.places.get(key as usize).is_some_and(|stream| stream.serial == serial)
    }
}

impl Index<u32> for Streams {
    type Output = Stream;

    fn index(&self, key: u32) -> &Stream {
        &self.places[key as usize]
    }
}

impl IndexMut<u32> for Streams {
    fn index_mut(&mut self, key: u32) -> &mut Stream {
        &mut self.places[key as usize]
    }
}
