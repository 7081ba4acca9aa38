//! Decodes header blocks into a [`Head`]. *Source:* RFC 7541 §6.
//!
//! *Neighbours:* `driver` hands blocks in, [`Head`] judges the fields. *Invariant:* a block that was refused for its
//! fields is decoded to its end all the same, since the table is common to all streams; only one that is no HPACK ends
//! the connection.

use http::header::HeaderName;

use super::huffman;
use super::table::{OVERHEAD, Table, parse};
use crate::error::Reason;
use crate::head::{Head, Name};

/// What we let the peer's table grow to; SETTINGS does not say otherwise.
const TABLE_MAX: usize = 4096;

/// One direction's decoder.
pub(crate) struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE_MAX), scratch: Vec::new() }
    }

    /// Decodes one whole block.
    ///
    /// # Errors
    /// `COMPRESSION_ERROR`: it is no HPACK. `ENHANCE_YOUR_CALM`: it is far longer than allowed.
    pub(crate) fn decode(&mut self, mut block: &[u8], head: &mut Head) -> Result<(), Reason> {
        let mut first = true;
        while let Some(&byte) = block.first() {
            if byte & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (field, size) = self.table.field(index).ok_or(Reason::COMPRESSION_ERROR)?;
                head.add(field, size)?;
            } else if byte & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if !first || size > TABLE_MAX {
                    return Err(Reason::COMPRESSION_ERROR);
                }
                self.table.resize(size);
                continue;
            } else {
                let indexed = byte & 0x40 != 0;
                let index = integer(&mut block, if indexed { 6 } else { 4 })?;
                self.literal(&mut block, index, indexed, byte & 0x10 != 0 && !indexed, head)?;
            }
            first = false;
        }
        if self.scratch.capacity() > TABLE_MAX {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn literal(
        &mut self,
        block: &mut &[u8],
        index: usize,
        indexed: bool,
        sensitive: bool,
        head: &mut Head,
    ) -> Result<(), Reason> {
        let mut length = OVERHEAD;
        let name = if index > 0 {
            let name = self.table.name(index).ok_or(Reason::COMPRESSION_ERROR)?;
            length += name.length();
            name
        } else {
            let text = string(block, &mut self.scratch)?;
            length += text.len();
            name_of(text)
        };
        let value = string(block, &mut self.scratch)?;
        length += value.len();
        let mut field = parse(name, value);
        if indexed {
            self.table.insert(field.clone(), length);
        } else if sensitive {
            field.set_sensitive();
        }
        head.add(field, length)
    }
}

fn name_of(text: &[u8]) -> Name {
    match text {
        b":authority" => Name::Authority,
        b":method" => Name::Method,
        b":path" => Name::Path,
        b":scheme" => Name::Scheme,
        b":status" => Name::Status,
        // Refuses capitals and colons.
        _ => HeaderName::from_lowercase(text).map_or(Name::Malformed, Name::Header),
    }
}

/// An integer whose first byte has `prefix` bits of it.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Reason> {
    let (first, mut rest) = block.split_first().ok_or(Reason::COMPRESSION_ERROR)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        // Four more bytes are more than any length or number we take.
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first().ok_or(Reason::COMPRESSION_ERROR)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(value);
            }
        }
        return Err(Reason::COMPRESSION_ERROR);
    }
    *block = rest;
    Ok(value)
}

/// A string, decoded into `scratch` when it needs to be.
fn string<'s, 'b: 's>(block: &mut &'b [u8], scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Reason> {
    let coded = block.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Reason::COMPRESSION_ERROR)?;
    *block = rest;
    if !coded {
        return Ok(text);
    }
    scratch.clear();
    huffman::decode(text, scratch).map_err(|()| Reason::COMPRESSION_ERROR)?;
    Ok(scratch)
}
