//! Small texts that are written with each request, without the machinery of `fmt`.
//!
//! *Invariant:* the text is the one `Display` gives.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

const BLANKS: u64 = 0x2020_2020_2020_2020;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Both digits of each byte.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    pairs
};

/// A number in decimal.
pub(crate) fn write_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// An address; a listener for both kinds tells IPv4 ones as IPv6.
pub(crate) fn write_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => write_v4(out, address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => {
                out.push_str("::ffff:");
                write_v4(out, address);
            }
            None => {
                let _ = write!(out, "{address}"); // writing to a String cannot fail
            }
        },
    }
}

fn write_v4(out: &mut String, address: Ipv4Addr) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        write_number(out, octet.into());
    }
}

/// Both digits of a byte in hex.
#[inline]
pub(crate) fn hex_pair(byte: u8) -> [u8; 2] {
    HEX_PAIRS[usize::from(byte)]
}

/// Whether a text is in JSON what it is, without an escape. Eight bytes at a time: it is asked for each attribute.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let (mut odd, mut rest) = (0, text);
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        odd |= oddities(u64::from_le_bytes(*word));
        rest = after;
    }
    // The last eight once more, or the few there are with blanks before them.
    let last = match text.last_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => rest.iter().fold(BLANKS, |word, byte| (word << 8) | u64::from(*byte)),
    };
    odd | oddities(last) == 0
}

/// Not 0 when a byte is a control character, a quote or a backslash.
fn oddities(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Borrows can only come from such a byte, so whether there is one is always told right.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_display() {
        for number in [0, 7, 10, 99, 100, 101, 999, 1000, 65_535, 123_456_789, u64::MAX] {
            let mut out = String::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
        for address in
            ["127.0.0.1", "10.200.30.4", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "fe80::1:2"]
        {
            let address: IpAddr = address.parse().unwrap();
            let mut out = String::new();
            write_address(&mut out, address);
            assert_eq!(out, address.to_string());
        }
        assert_eq!(hex_pair(0xa7), *b"a7");
    }

    #[test]
    fn every_byte_that_needs_an_escape_is_seen_at_every_place() {
        for byte in 0..=u8::MAX {
            let is_odd = byte < b' ' || byte == b'"' || byte == b'\\';
            for length in 1..20 {
                for at in 0..length {
                    for around in [b'a', 0x20, 0x7f, 0x80, 0xff, 0x21, 0x23, 0x5b, 0x5d] {
                        let mut text = vec![around; length];
                        text[at] = byte;
                        assert_eq!(is_plain(&text), !is_odd, "{byte} at {at} of {length} in {around}");
                    }
                }
            }
        }
    }
}
