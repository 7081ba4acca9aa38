//! The Huffman code of HPACK. *Source:* RFC 7541 appendix B.
//!
//! The code is canonical: the lengths say everything. What is up to eight bits long, which is nearly all that headers
//! have, is found in one step; longer codes by their length. *Invariant:* the tables are made at compile time from
//! [`LENGTHS`].

/// The end of a string, which must not be in one.
const EOS: u16 = 256;
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip] // a table
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// For each length: the first code, how many there are, and where their symbols begin.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    count: u32,
    offset: u16,
}

struct Tables {
    /// By the next eight bits: length in the high byte, symbol in the low one; 0 = the code is longer.
    short: [u16; 256],
    groups: [Group; LONGEST + 1],
    /// Sorted by code.
    symbols: [u16; 257],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables =
        Tables { short: [0; 256], groups: [Group { first: 0, count: 0, offset: 0 }; LONGEST + 1], symbols: [0; 257] };
    let (mut length, mut code, mut placed) = (1, 0u32, 0);
    while length <= LONGEST {
        tables.groups[length] = Group { first: code, count: 0, offset: placed as u16 };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[placed] = symbol as u16;
                placed += 1;
                tables.groups[length].count += 1;
                if length <= 8 {
                    let (mut at, end) = (code << (8 - length), (code + 1) << (8 - length));
                    while at < end {
                        tables.short[at as usize] = (length as u16) << 8 | symbol as u16;
                        at += 1;
                    }
                }
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    tables
}

/// Appends what `source` stands for. `Err`: it holds the end symbol, or does not end as a string must.
pub(super) fn decode(source: &[u8], to: &mut Vec<u8>) -> Result<(), ()> {
    let (mut bits, mut have) = (0u64, 0u32);
    let mut source = source.iter();
    'symbols: loop {
        while have <= 56 {
            let Some(byte) = source.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        // Filled up with ones, as the padding is: what is short and complete is found all the same.
        let next = if have >= 8 { bits >> (have - 8) } else { bits << (8 - have) | 0xff >> have } as u8;
        let found = TABLES.short[usize::from(next)];
        let length = u32::from(found >> 8);
        if length > have {
            break;
        }
        if length > 0 {
            to.push(found as u8);
            have -= length;
            continue;
        }
        for length in 9..=LONGEST as u32 {
            if length > have {
                break 'symbols;
            }
            let group = &TABLES.groups[length as usize];
            let code = (bits >> (have - length)) as u32 & ((1 << length) - 1);
            if let Some(place) = code.checked_sub(group.first)
                && place < group.count
            {
                let symbol = TABLES.symbols[usize::from(group.offset) + place as usize];
                if symbol == EOS {
                    return Err(());
                }
                to.push(symbol as u8);
                have -= length;
                continue 'symbols;
            }
        }
        return Err(());
    }
    let rest = bits & ((1 << have) - 1);
    if have < 8 && rest == (1 << have) - 1 { Ok(()) } else { Err(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The inverse, which only tests need: what is sent is not compressed.
    pub(in crate::hpack) fn encode(source: &[u8], to: &mut Vec<u8>) {
        let (mut bits, mut have) = (0u64, 0u32);
        for symbol in source {
            let length = u32::from(LENGTHS[usize::from(*symbol)]);
            let group = TABLES.groups[length as usize];
            let place = (0..group.count)
                .find(|place| TABLES.symbols[usize::from(group.offset) + *place as usize] == u16::from(*symbol));
            bits = bits << length | u64::from(group.first + place.unwrap());
            have += length;
            while have >= 8 {
                have -= 8;
                to.push((bits >> have) as u8);
            }
        }
        if have > 0 {
            to.push((bits << (8 - have) | 0xff >> have) as u8);
        }
    }
}
