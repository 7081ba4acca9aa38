//! Frames: their head, and those that are a few bytes. *Source:* RFC 9113 §4 and §6.
//!
//! *Neighbours:* `driver` reads heads, `output` and `pump` write what is longer. *Invariant:* every frame is written
//! whole.

/// What a client says first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEAD_BYTES: usize = 9;
/// The highest stream id and the largest window.
pub(crate) const MAX_31: u32 = u32::MAX >> 1;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
}

impl FrameHead {
    /// Reads the head at the beginning of `bytes`, when it is all there.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, id @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        Some(Self { length, kind: *kind, flags: *flags, id: u32::from_be_bytes(*id) & MAX_31 })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where the payload without padding is; `None` when the padding is as long as the frame.
    pub(crate) fn unpadded(&self, payload: &[u8]) -> Option<std::ops::Range<usize>> {
        if !self.has(PADDED) {
            return Some(0..payload.len());
        }
        let padding = usize::from(*payload.first()?);
        let end = payload.len().checked_sub(padding)?;
        (end >= 1).then_some(1..end)
    }
}

/// The big-endian number at the beginning of `bytes`.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(crate) fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, id: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes(); // at most 2^24 - 1, by SETTINGS
    let [d, e, f, g] = id.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

pub(crate) fn put_rst_stream(out: &mut Vec<u8>, id: u32, reason: u32) {
    put_head(out, 4, RST_STREAM, 0, id);
    out.extend_from_slice(&reason.to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, id: u32, increment: u32) {
    put_head(out, 4, WINDOW_UPDATE, 0, id);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn put_ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    put_head(out, 8, PING, flags, 0);
    out.extend_from_slice(&payload);
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last: u32, reason: u32, text: &[u8]) {
    put_head(out, 8 + text.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&reason.to_be_bytes());
    out.extend_from_slice(text);
}

/// Writes a header block that was encoded after `begin` (nine bytes for the head, then the block) as HEADERS, and
/// CONTINUATION when it is longer than a frame may be.
pub(crate) fn finish_headers(out: &mut Vec<u8>, begin: usize, id: u32, end_stream: bool, frame_max: usize) {
    let length = out.len() - begin - HEAD_BYTES;
    let end = if end_stream { END_STREAM } else { 0 };
    if length <= frame_max {
        let [_, a, b, c] = (length as u32).to_be_bytes();
        let [d, e, f, g] = id.to_be_bytes();
        out[begin..begin + HEAD_BYTES].copy_from_slice(&[a, b, c, HEADERS, end | END_HEADERS, d, e, f, g]);
        return;
    }
    let block = out.split_off(begin + HEAD_BYTES);
    out.truncate(begin);
    let mut parts = block.chunks(frame_max).peekable();
    let mut kind = (HEADERS, end);
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        put_head(out, part.len(), kind.0, kind.1 | last, id);
        out.extend_from_slice(part);
        kind = (CONTINUATION, 0);
    }
}
