//! Encodes header fields straight into the output. *Source:* RFC 7541 §6.
//!
//! *Neighbours:* `output` writes the frame around a block. *Invariant:* what is secret or different in each call never
//! enters the table; anything else enters it when it is said for the second time, so that what is said once drives out
//! nothing. Text is not Huffman-coded: what is said often is one byte anyway.

use std::collections::VecDeque;

use http::header::{self, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, StatusCode};

use super::table::{OVERHEAD, STATIC, STATUSES, static_name};

const TABLE_MAX: usize = 4096;
/// Longer fields are not worth a place.
const FIELD_MAX: usize = 512;
const SLOTS: usize = 128;
/// Its number in the static table.
const CONTENT_LENGTH: usize = 28;

struct Entry {
    slot: u32,
    name_length: u32,
    /// Name and value.
    text: Box<[u8]>,
}

/// One direction's encoder.
pub(crate) struct Encoder {
    /// The newest last.
    entries: VecDeque<Entry>,
    /// How many were ever inserted.
    inserted: u32,
    size: usize,
    max: usize,
    /// The smallest size since the last block, when the size changed.
    changed: Option<usize>,
    /// By hash: the number of the entry (counted from one), or of a field that was said once.
    slots: Box<[Slot; SLOTS]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    entry: u32,
    said: u32,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let slots = Box::new([Slot::default(); SLOTS]);
        Self { entries: VecDeque::new(), inserted: 0, size: 0, max: TABLE_MAX, changed: None, slots }
    }

    /// The peer's table takes `size` bytes from now on.
    pub(crate) fn resize(&mut self, size: usize) {
        let size = size.min(TABLE_MAX);
        if size == self.max {
            return;
        }
        self.changed = Some(self.changed.unwrap_or(size).min(size));
        self.max = size;
        self.shrink(size);
    }

    pub(crate) fn request<B>(&mut self, request: &Request<B>, out: &mut Vec<u8>) {
        self.begin(out);
        let uri = request.uri();
        match *request.method() {
            Method::GET => out.push(0x82),
            Method::POST => out.push(0x83),
            ref method => self.pseudo(b":method", 2, method.as_str(), out),
        }
        if *request.method() != Method::CONNECT {
            match uri.scheme() {
                Some(scheme) if *scheme == Scheme::HTTPS => out.push(0x87),
                Some(scheme) if *scheme != Scheme::HTTP => self.pseudo(b":scheme", 6, scheme.as_str(), out),
                _ => out.push(0x86),
            }
            match uri.path_and_query().map_or("", |path| path.as_str()) {
                "" if *request.method() == Method::OPTIONS => self.pseudo(b":path", 4, "*", out),
                "" | "/" => out.push(0x84),
                path if path.starts_with('?') => self.pseudo(b":path", 4, &format!("/{path}"), out),
                path => self.pseudo(b":path", 4, path, out),
            }
        }
        if let Some(authority) = uri.authority() {
            self.pseudo(b":authority", 1, authority.as_str(), out);
        }
        self.fields(request.headers(), out);
    }

    pub(crate) fn response(&mut self, status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
        self.begin(out);
        match STATUSES.iter().position(|known| status == *known) {
            Some(place) => out.push(0x88 + place as u8), // one of seven
            None => self.pseudo(b":status", 8, status.as_str(), out),
        }
        self.fields(headers, out);
    }

    pub(crate) fn trailers(&mut self, headers: &HeaderMap, out: &mut Vec<u8>) {
        self.begin(out);
        self.fields(headers, out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.changed.take() {
            if smallest < self.max {
                integer(out, 0x20, 5, smallest);
            }
            integer(out, 0x20, 5, self.max);
        }
    }

    fn fields(&mut self, headers: &HeaderMap, out: &mut Vec<u8>) {
        for (name, value) in headers {
            let text = name.as_str().as_bytes();
            if value.is_sensitive() || is_secret(text) {
                literal(out, 0x10, static_name(name).unwrap_or(0), text, value.as_bytes());
            } else if *name == header::CONTENT_LENGTH {
                literal(out, 0, CONTENT_LENGTH, text, value.as_bytes());
            } else if differs_each_time(text) {
                literal(out, 0, 0, text, value.as_bytes());
            } else {
                self.field(text, Some(name), 0, value.as_bytes(), out);
            }
        }
    }

    fn pseudo(&mut self, name: &'static [u8], index: usize, value: &str, out: &mut Vec<u8>) {
        self.field(name, None, index, value.as_bytes(), out);
    }

    /// `index`: of the name in the static table, where it is known.
    fn field(&mut self, name: &[u8], header: Option<&HeaderName>, index: usize, value: &[u8], out: &mut Vec<u8>) {
        let hash = hash(name, value);
        let slot = hash as usize % SLOTS;
        // Two places for each, so that a pair that meets in one does not drive each other out with every call.
        for slot in [slot, slot ^ 1] {
            if let Some(place) = self.place(self.slots[slot].entry)
                && let entry = &self.entries[place]
                && entry.name_length as usize == name.len()
                && let Some((its_name, its_value)) = entry.text.split_at_checked(name.len())
                && its_value == value
                && its_name == name
            {
                return integer(out, 0x80, 7, STATIC + self.entries.len() - place);
            }
        }
        let index = header.map_or(index, |header| static_name(header).unwrap_or(0));
        let size = name.len() + value.len() + OVERHEAD;
        if size > FIELD_MAX || size > self.max || self.inserted == u32::MAX {
            return literal(out, 0, index, name, value);
        }
        let said = hash >> 32 | 1;
        if self.slots[slot].said != said as u32 {
            self.slots[slot].said = said as u32;
            return literal(out, 0, index, name, value);
        }
        literal(out, 0x40, index, name, value);
        self.insert(slot, name, value, size);
    }

    /// Where the entry with a number is, while it is in the table.
    fn place(&self, entry: u32) -> Option<usize> {
        let age = (self.inserted - entry) as usize;
        if entry == 0 { None } else { (self.entries.len()).checked_sub(age + 1) }
    }

    fn insert(&mut self, slot: usize, name: &[u8], value: &[u8], size: usize) {
        self.shrink(self.max - size);
        self.inserted += 1;
        let free = if self.place(self.slots[slot].entry).is_some() { slot ^ 1 } else { slot };
        self.slots[free].entry = self.inserted;
        self.size += size;
        let text = [name, value].concat().into_boxed_slice();
        self.entries.push_back(Entry { slot: free as u32, name_length: name.len() as u32, text }); // both are small
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let number = self.inserted + 1 - self.entries.len() as u32; // at most 128 entries of 32 bytes
            let Some(oldest) = self.entries.pop_front() else { return };
            self.size -= oldest.text.len() + OVERHEAD;
            let slot = &mut self.slots[oldest.slot as usize];
            if slot.entry == number {
                slot.entry = 0;
            }
        }
    }
}

/// What must not be in a table, where its value could be guessed at.
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"cookie" | b"set-cookie" | b"proxy-authorization" | b"dapr-api-token")
}

fn differs_each_time(name: &[u8]) -> bool {
    matches!(name, b"grpc-timeout" | b"traceparent" | b"tracestate" | b"grpc-trace-bin" | b"grpc-status-details-bin")
}

/// Of no use against an attacker, who could only make it miss.
fn hash(name: &[u8], value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    for text in [name, value] {
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        }
        let rest = rest.iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
        hash = (hash.rotate_left(5) ^ rest).wrapping_mul(FACTOR);
    }
    hash ^ hash >> 29
}

fn literal(out: &mut Vec<u8>, pattern: u8, index: usize, name: &[u8], value: &[u8]) {
    integer(out, pattern, if pattern == 0x40 { 6 } else { 4 }, index);
    if index == 0 {
        string(out, name);
    }
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

fn integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(pattern | value as u8); // less than 128
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
