//! DNS messages as mDNS sends them (RFC 1035 §4, RFC 6762 §18).
//!
//! *Job:* bytes to [`Message`] and back, for the record types of service discovery. *Neighbours:* `service` builds and reads
//! messages, `link` moves the bytes. *Invariant:* any bytes decode to a message or an error, in time linear in their number
//! times the depth of a name.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Class `IN`.
pub(super) const CLASS_IN: u16 = 1;
/// In a record: replace what is cached under this name. In a question: a unicast answer is welcome.
pub(super) const TOP_BIT: u16 = 0x8000;
/// Record type `PTR`.
pub(super) const TYPE_PTR: u16 = 12;

const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
/// Header bits: response, authoritative.
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
/// RFC 1035 §2.3.4.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;

/// A domain name: labels without the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Name(Vec<Box<[u8]>>);

/// A message; sections we do not send are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) is_response: bool,
    pub(super) questions: Vec<Question>,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ptr(Name),
    Srv {
        port: u16,
        target: Name,
    },
    Txt(Vec<Box<[u8]>>),
    /// A type that discovery has no use for.
    Other(u16),
}

/// The bytes are no DNS message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Name {
    /// Reads dotted text; outer dots do not count.
    ///
    /// # Errors
    /// A text that tells which limit is broken.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = Self(text.trim_matches('.').split('.').map(|label| label.as_bytes().into()).collect());
        if name.0.iter().any(|label| label.is_empty() || label.len() > LABEL_MAX) {
            return Err(format!("{text:?} is no DNS name: each part between dots must have 1 to {LABEL_MAX} bytes"));
        }
        if name.wire_len() > NAME_MAX {
            return Err(format!("{text:?} is no DNS name: it is longer than {NAME_MAX} bytes"));
        }
        Ok(name)
    }

    /// This name with one more label in front.
    pub(super) fn child(&self, label: &str) -> Self {
        Self([&[label.as_bytes().into()], self.0.as_slice()].concat())
    }

    pub(super) fn wire_len(&self) -> usize {
        self.0.iter().map(|label| label.len() + 1).sum::<usize>() + 1
    }

    /// Whether this name is below `parent`.
    pub(super) fn is_below(&self, parent: &Self) -> bool {
        self.0.len() > parent.0.len() && self.0.ends_with(&parent.0)
    }

    /// DNS compares without regard to ASCII case.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one.eq_ignore_ascii_case(two))
    }

    fn write(&self, out: &mut Vec<u8>) {
        for label in &self.0 {
            debug_assert!((1..=LABEL_MAX).contains(&label.len()), "names are checked when they are made");
            out.push(label.len() as u8);
            out.extend_from_slice(label);
        }
        out.push(0);
    }
}

impl Message {
    /// All records, in the order of the sections.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.answers.iter().chain(&self.authorities).chain(&self.additionals)
    }

    /// The bytes, names written in full.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let flags = if self.is_response { FLAG_RESPONSE | FLAG_AUTHORITATIVE } else { 0 };
        let counts = [self.questions.len(), self.answers.len(), self.authorities.len(), self.additionals.len()];
        for value in [self.id, flags].into_iter().chain(counts.map(|count| count as u16)) {
            out.extend_from_slice(&value.to_be_bytes());
        }
        for question in &self.questions {
            question.name.write(&mut out);
            out.extend_from_slice(&question.kind.to_be_bytes());
            out.extend_from_slice(&question.class.to_be_bytes());
        }
        for record in self.records() {
            record.write(&mut out);
        }
        out
    }

    /// # Errors
    /// [`Malformed`] for bytes that are cut short or contradict themselves.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let (questions, answers, authorities, additionals) =
            (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
        Ok(Self {
            id,
            is_response: flags & FLAG_RESPONSE != 0,
            questions: (0..questions).map(|_| reader.question()).collect::<Result<_, _>>()?,
            answers: (0..answers).map(|_| reader.record()).collect::<Result<_, _>>()?,
            authorities: (0..authorities).map(|_| reader.record()).collect::<Result<_, _>>()?,
            additionals: (0..additionals).map(|_| reader.record()).collect::<Result<_, _>>()?,
        })
    }
}

impl Record {
    fn write(&self, out: &mut Vec<u8>) {
        self.name.write(out);
        let kind = match &self.data {
            Data::A(_) => TYPE_A,
            Data::Aaaa(_) => TYPE_AAAA,
            Data::Ptr(_) => TYPE_PTR,
            Data::Srv { .. } => TYPE_SRV,
            Data::Txt(_) => TYPE_TXT,
            Data::Other(kind) => *kind,
        };
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        out.extend_from_slice(&self.ttl.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        match &self.data {
            Data::A(address) => out.extend_from_slice(&address.octets()),
            Data::Aaaa(address) => out.extend_from_slice(&address.octets()),
            Data::Ptr(name) => name.write(out),
            Data::Srv { port, target } => {
                out.extend_from_slice(&[0, 0, 0, 0]); // priority and weight
                out.extend_from_slice(&port.to_be_bytes());
                target.write(out);
            }
            Data::Txt(texts) => {
                for text in texts {
                    let text = &text[..text.len().min(255)];
                    out.push(text.len() as u8);
                    out.extend_from_slice(text);
                }
            }
            Data::Other(_) => {}
        }
        let length = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// A place in a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn question(&mut self) -> Result<Question, Malformed> {
        Ok(Question { name: self.name()?, kind: self.u16()?, class: self.u16()? })
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl = u32::from_be_bytes(self.array()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(Malformed);
        }
        let data = match kind {
            TYPE_A => Data::A(self.array::<4>()?.into()),
            TYPE_AAAA => Data::Aaaa(self.array::<16>()?.into()),
            TYPE_PTR => Data::Ptr(self.name()?),
            TYPE_SRV => {
                self.take(4)?; // priority and weight: one instance is as good as another
                Data::Srv { port: self.u16()?, target: self.name()? }
            }
            TYPE_TXT => {
                let mut texts = Vec::new();
                while self.at < end {
                    let [length] = self.array()?;
                    texts.push(self.take(usize::from(length))?.into());
                }
                Data::Txt(texts)
            }
            other => {
                self.at = end;
                Data::Other(other)
            }
        };
        if self.at == end { Ok(Record { name, class, ttl, data }) } else { Err(Malformed) }
    }

    /// A name; a pointer must lead backwards, so that reading ends.
    fn name(&mut self) -> Result<Name, Malformed> {
        let mut labels = Vec::new();
        let mut length = 1;
        let (mut at, mut after, mut limit) = (self.at, None, self.at);
        loop {
            let first = *self.bytes.get(at).ok_or(Malformed)?;
            match first {
                0 => break,
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(first)).ok_or(Malformed)?;
                    length += label.len() + 1;
                    if length > NAME_MAX {
                        return Err(Malformed);
                    }
                    labels.push(label.into());
                    at += 1 + label.len();
                }
                0xC0.. => {
                    let second = *self.bytes.get(at + 1).ok_or(Malformed)?;
                    after.get_or_insert(at + 2);
                    at = usize::from(first & 0x3F) << 8 | usize::from(second);
                    if at >= limit {
                        return Err(Malformed);
                    }
                    limit = at;
                }
                _ => return Err(Malformed),
            }
        }
        self.at = after.unwrap_or(at + 1);
        Ok(Name(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn sample() -> Message {
        let record = |data| Record { name: name("a.b.local"), class: CLASS_IN | TOP_BIT, ttl: 3200, data };
        Message {
            id: 7,
            is_response: true,
            questions: vec![Question { name: name("shop.local."), kind: TYPE_PTR, class: CLASS_IN }],
            answers: vec![
                record(Data::Ptr(name("x.shop.local"))),
                record(Data::Srv { port: 50002, target: name("h.local") }),
            ],
            authorities: vec![record(Data::Txt(vec![b"shop"[..].into(), b""[..].into()]))],
            additionals: vec![
                record(Data::A([127, 0, 0, 1].into())),
                record(Data::Aaaa(Ipv6Addr::LOCALHOST)),
                record(Data::Other(47)),
            ],
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        assert_eq!(Message::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn the_bytes_are_those_of_rfc_1035() {
        let query = Message {
            questions: vec![Question { name: name("shop.local."), kind: TYPE_PTR, class: CLASS_IN }],
            ..Message::default()
        };
        assert_eq!(query.encode(), b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04shop\x05local\0\0\x0c\0\x01");
    }

    #[test]
    fn compressed_names_are_followed_backwards_only() {
        let mut bytes =
            b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x04shop\x05local\0\0\x0c\0\x01\0\0\x0c\x80\0\x04\x01x\xc0\x0c".to_vec();
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.answers[0].data, Data::Ptr(name("x.shop.local")));
        let last = bytes.len() - 1;
        for target in [last as u8 - 1, last as u8 - 3, 200] {
            bytes[last] = target;
            assert_eq!(Message::decode(&bytes), Err(Malformed), "to {target}");
        }
    }

    #[test]
    fn no_bytes_upset_the_decoder() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..end]), Err(Malformed));
        }
        let mut random = 1_u64;
        for _ in 0..200_000 {
            let mut broken = bytes.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % broken.len();
                broken[at] = (random >> 24) as u8;
            }
            let _ = Message::decode(&broken); // must return
        }
    }

    #[test]
    fn names_have_limits() {
        assert_eq!(name("a.b").child("c.d:1").wire_len(), 11);
        assert!(
            name("x.shop.local").is_below(&name("shop.local")) && !name("shop.local").is_below(&name("shop.local"))
        );
        assert!(name("SHOP.local").matches(&name("shop.Local")));
        for bad in ["", "a..b", &"x".repeat(64), &"abcdefgh.".repeat(29)] {
            assert!(Name::parse(bad).unwrap_err().contains("is no DNS name"), "{bad}");
        }
    }
}
