//! HPACK: header fields on the wire. *Source:* RFC 7541.
//!
//! *Neighbours:* `output` encodes, `driver` decodes into a [`Head`](crate::head::Head). *Invariant:* each direction of
//! a connection has one encoder or decoder, and every block goes through it in the order of the wire.

mod decode;
mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;
