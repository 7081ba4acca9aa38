//! DNS messages: one question, and the addresses of an answer (RFC 1035 §4).
//!
//! *Invariant:* any bytes are read without a panic and in bounded time; an answer counts only when it repeats id and question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const IS_RESPONSE: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Addresses, perhaps none, and the shortest life among them in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    NoSuchName,
    /// There is more than fits: ask over TCP.
    Truncated,
    /// An error of the server, by its number.
    Failed(u8),
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// The bytes of a question.
///
/// # Errors
/// Says why a host is no DNS name.
pub(super) fn question(id: u16, host: &str, kind: Kind) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(HEADER + host.len() + 6);
    for number in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 {
        return Err(format!("{host:?} is no DNS name: it has more than 253 bytes"));
    }
    for label in host.split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => bytes.push(length),
            _ => return Err(format!("{host:?} is no DNS name: each part between dots must have 1 to 63 bytes")),
        }
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Ok(bytes)
}

/// Reads the answer to a question; `None` for anything else. Names along a chain of aliases are not compared: the server we
/// ask follows it for us.
pub(super) fn answer(bytes: &[u8], question: &[u8], kind: Kind) -> Option<Answer> {
    let (asked, header) = (question.get(HEADER..)?, bytes.get(..HEADER)?);
    let flags = number(header, 2)?;
    let repeats = bytes.get(HEADER..HEADER + asked.len())?;
    if header[..2] != question[..2] || flags & IS_RESPONSE == 0 || !repeats.eq_ignore_ascii_case(asked) {
        return None;
    }
    match flags & 0x000f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Failed(code as u8)),
    }
    if flags & IS_TRUNCATED != 0 {
        return Some(Answer::Truncated);
    }
    let (mut found, mut life) = (Vec::new(), u32::MAX);
    let mut at = HEADER + asked.len();
    for _ in 0..number(header, 6)? {
        at = skip_name(bytes, at)?;
        let (record, class) = (number(bytes, at)?, number(bytes, at + 2)?);
        let ttl = u32::from_be_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
        let length = usize::from(number(bytes, at + 8)?);
        let data = bytes.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if class != CLASS_IN {
            continue;
        }
        life = life.min(ttl); // an alias may end before the address it leads to
        if record == kind.number() {
            found.push(match kind {
                Kind::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                Kind::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            });
        }
    }
    Some(Answer::Addresses(found, life))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The place behind a name; a pointer ends it.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192..=255 => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with records `(type, ttl, data)`, each under a pointer to the question's name.
    fn reply(question: &[u8], flags: u16, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&(IS_RESPONSE | flags).to_be_bytes());
        bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, ttl, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(CLASS_IN.to_be_bytes());
            bytes.extend(ttl.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn a_question_is_what_the_standard_says() {
        let wanted = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04shop\x03svc\x00\x00\x01\x00\x01";
        assert_eq!(question(0x1234, "shop.svc", Kind::V4).unwrap(), wanted);
        assert_eq!(question(0x1234, "shop.svc.", Kind::V4).unwrap(), wanted);
        for host in ["", "a..b", &"x".repeat(64), &"a.".repeat(130)] {
            assert!(question(1, host, Kind::V4).is_err(), "{host}");
        }
    }

    #[test]
    fn addresses_are_read_along_aliases() {
        let asked = question(7, "shop.svc", Kind::V4).unwrap();
        let alias: &[u8] = b"\x01x\x00";
        let bytes = reply(&asked, 0, &[(5, 30, alias), (1, 60, &[10, 0, 0, 1]), (1, 60, &[10, 0, 0, 2])]);
        let wanted = Answer::Addresses(vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()], 30);
        assert_eq!(answer(&bytes, &asked, Kind::V4), Some(wanted));
        let asked = question(7, "shop.svc", Kind::V6).unwrap();
        let one = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let wanted = Answer::Addresses(vec!["::1".parse().unwrap()], 5);
        assert_eq!(answer(&reply(&asked, 0, &[(28, 5, &one)]), &asked, Kind::V6), Some(wanted));
    }

    #[test]
    fn other_answers_are_told_apart() {
        let asked = question(7, "shop.svc", Kind::V4).unwrap();
        assert_eq!(answer(&reply(&asked, 3, &[]), &asked, Kind::V4), Some(Answer::NoSuchName));
        assert_eq!(answer(&reply(&asked, 2, &[]), &asked, Kind::V4), Some(Answer::Failed(2)));
        assert_eq!(answer(&reply(&asked, IS_TRUNCATED, &[]), &asked, Kind::V4), Some(Answer::Truncated));
        let other = question(8, "shop.svc", Kind::V4).unwrap();
        assert_eq!(answer(&reply(&other, 0, &[]), &asked, Kind::V4), None, "another id");
        let other = question(7, "cart.svc", Kind::V4).unwrap();
        assert_eq!(answer(&reply(&other, 0, &[]), &asked, Kind::V4), None, "another name");
        assert_eq!(answer(&asked, &asked, Kind::V4), None, "a question");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let asked = question(7, "a", Kind::V4).unwrap();
            answer(&bytes, &asked, Kind::V4);
            let mut behind = reply(&asked, 0, &[]);
            behind[7] = 3; // records follow, it says
            behind.extend(&bytes);
            answer(&behind, &asked, Kind::V4);
        }
    }
}
