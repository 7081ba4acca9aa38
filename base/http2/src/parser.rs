//! Cuts frames out of what was read, and puts header blocks together. *Source:* RFC 9113 §4.
//!
//! *Neighbours:* `driver` reads, the methods of [`State`] take what comes out. *Invariant:* a frame is looked at when
//! it is whole, where it lies; only payload that stays is copied, or cut off when that is cheaper.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::error::{Cause, Reason};
use crate::frame::{self, END_HEADERS, END_STREAM, FrameHead, HEAD_BYTES, PREFACE, WITH_PRIORITY};
use crate::head::Head;
use crate::hpack::Decoder;
use crate::input::Refused;
use crate::settings::FRAME_MIN;
use crate::state::State;

/// Payload up to this size is copied, which leaves the read buffer to the next read.
const COPIED: usize = 4096;
/// An encoded block of any connection may be as long, if the list of fields may not be longer.
const BLOCK_MAX: usize = 1 << 20;
/// CONTINUATION frames anybody may use.
const CONTINUATIONS: usize = 16;

/// A block that goes on in the next frame.
struct Block {
    id: u32,
    end: bool,
    depends_on_itself: bool,
    frames: usize,
    bytes: Vec<u8>,
}

/// What was read, up to the frame that is not all there.
pub(crate) struct Parser {
    decoder: Decoder,
    block: Option<Block>,
    /// Whether a server still waits for the client's first bytes.
    awaits_preface: bool,
    awaits_settings: bool,
}

impl Parser {
    pub(crate) fn new(is_client: bool) -> Self {
        Self { decoder: Decoder::new(), block: None, awaits_preface: !is_client, awaits_settings: true }
    }

    pub(crate) fn awaits_preface(&self) -> bool {
        self.awaits_preface
    }

    /// Whether the peer may end here.
    pub(crate) fn is_between_frames(&self, read: &BytesMut) -> bool {
        read.is_empty() && self.block.is_none() && !self.awaits_preface
    }

    /// How many bytes the frame at the beginning of `read` lacks, as far as is known.
    pub(crate) fn missing(read: &BytesMut) -> usize {
        FrameHead::read(read).map_or(0, |head| (HEAD_BYTES + head.length).saturating_sub(read.len()))
    }

    /// Takes all whole frames.
    ///
    /// # Errors
    /// Why the connection ends.
    pub(crate) fn take(&mut self, read: &mut BytesMut, state: &mut State) -> Result<(), Cause> {
        if self.awaits_preface {
            let length = read.len().min(PREFACE.len());
            if read[..length] != PREFACE[..length] {
                return state.refused(Refused::protocol("not the preface of HTTP/2"));
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            read.advance(length);
            self.awaits_preface = false;
        }
        while let Some(head) = FrameHead::read(read) {
            if let Err(refused) = self.check(head) {
                return state.refused(refused);
            }
            if read.len() < HEAD_BYTES + head.length {
                break;
            }
            if let Err(refused) = self.frame(head, read, state) {
                state.refused(refused)?;
            }
        }
        Ok(())
    }

    /// What can be wrong before a frame is all there.
    fn check(&self, head: FrameHead) -> Result<(), Refused> {
        if head.length > FRAME_MIN as usize {
            return Err(Refused::Connection(Reason::FRAME_SIZE_ERROR, "a frame longer than allowed"));
        }
        if self.awaits_settings && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(Refused::protocol("something else than SETTINGS first"));
        }
        if let Some(block) = &self.block
            && (head.kind != frame::CONTINUATION || head.id != block.id)
        {
            return Err(Refused::protocol("something else inside a header block"));
        }
        Ok(())
    }

    /// Takes one whole frame off `read`.
    fn frame(&mut self, head: FrameHead, read: &mut BytesMut, state: &mut State) -> Result<(), Refused> {
        self.awaits_settings = false;
        let total = HEAD_BYTES + head.length;
        match head.kind {
            frame::DATA => Self::data(head, read, state),
            frame::HEADERS => {
                let taken = self.headers(head, &read[HEAD_BYTES..total], state);
                read.advance(total);
                taken
            }
            frame::CONTINUATION if self.block.is_some() => {
                let taken = self.continuation(head, &read[HEAD_BYTES..total], state);
                read.advance(total);
                taken
            }
            _ => {
                let taken = state.frame(head, &read[HEAD_BYTES..total]);
                read.advance(total);
                taken
            }
        }
    }

    fn data(head: FrameHead, read: &mut BytesMut, state: &mut State) -> Result<(), Refused> {
        let total = HEAD_BYTES + head.length;
        if head.id == 0 {
            return Err(Refused::protocol("DATA on stream 0"));
        }
        let useful =
            head.unpadded(&read[HEAD_BYTES..total]).ok_or(Refused::protocol("padding longer than its frame"))?;
        // Both are shorter than a frame may be.
        let key = match state.data(head, head.length as u32, useful.len() as u32) {
            Ok(Some(key)) => key,
            done => {
                read.advance(total);
                return done.map(|_| ());
            }
        };
        let data = if useful.len() <= COPIED {
            let data = Bytes::copy_from_slice(&read[HEAD_BYTES + useful.start..HEAD_BYTES + useful.end]);
            read.advance(total);
            data
        } else {
            let frame = read.split_to(total).freeze();
            frame.slice(HEAD_BYTES + useful.start..HEAD_BYTES + useful.end)
        };
        state.deliver(key, data, head.has(END_STREAM));
        Ok(())
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8], state: &mut State) -> Result<(), Refused> {
        if head.id == 0 {
            return Err(Refused::protocol("HEADERS on stream 0"));
        }
        let range = head.unpadded(payload).ok_or(Refused::protocol("padding longer than its frame"))?;
        let mut fragment = &payload[range];
        let mut depends_on_itself = false;
        if head.has(WITH_PRIORITY) {
            let too_short = Refused::Connection(Reason::FRAME_SIZE_ERROR, "HEADERS without the priority it has");
            let (priority, rest) = fragment.split_at_checked(5).ok_or(too_short)?;
            depends_on_itself = frame::number(priority).is_some_and(|id| id & frame::MAX_31 == head.id);
            fragment = rest;
        }
        let end = head.has(END_STREAM);
        if head.has(END_HEADERS) {
            return self.block(head.id, end, depends_on_itself, fragment, state);
        }
        self.block = Some(Block { id: head.id, end, depends_on_itself, frames: 0, bytes: fragment.to_vec() });
        Ok(())
    }

    fn continuation(&mut self, head: FrameHead, fragment: &[u8], state: &mut State) -> Result<(), Refused> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        let list_max = state.config.header_list_max();
        let bytes_max = list_max.saturating_mul(4).min(BLOCK_MAX).max(list_max);
        let frames_max = CONTINUATIONS.max(bytes_max / FRAME_MIN as usize * 2);
        block.bytes.extend_from_slice(fragment);
        block.frames += 1;
        if block.bytes.len() > bytes_max || block.frames > frames_max {
            return Err(Refused::Connection(Reason::ENHANCE_YOUR_CALM, "a header block without end"));
        }
        if head.has(END_HEADERS) {
            return self.block(block.id, block.end, block.depends_on_itself, &block.bytes, state);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Takes a whole block.
    fn block(&mut self, id: u32, end: bool, on_itself: bool, block: &[u8], state: &mut State) -> Result<(), Refused> {
        let mut fields = Head::new(state.config.header_list_max());
        let decoded = self.decoder.decode(block, &mut fields);
        decoded.map_err(|reason| Refused::Connection(reason, "a header block that cannot be decoded"))?;
        fields.malformed |= on_itself;
        state.headers(id, end, fields)
    }
}
