//! The attributes of a span, in two pieces of memory whatever their number.
//!
//! *Invariant:* no key is there twice; values are kept as the text an exporter writes, with their type beside it. What stands
//! between them makes the whole JSON already, as long as nothing needs an escape: this is done for every recorded span.

use std::net::IpAddr;

use super::span::AttributeValue;
use crate::text::{is_plain, write_address, write_number};

/// Room for those of a usual call, so that recording one does not grow anything.
const TEXT_BYTES: usize = 512;
const COUNT: usize = 14;
const BEFORE_KEY: &str = ",\"";
const BETWEEN: &str = "\":\"";

/// Keys with values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `,"key":"value"` of each, without escapes.
    text: String,
    entries: Vec<Entry>,
    /// A bit for each key, for keys that are surely not there.
    known: u64,
    /// The text is not JSON: something in it needs an escape, or is no longer meant.
    is_irregular: bool,
}

/// Positions in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u32,
    key_end: u32,
    value: u32,
    value_end: u32,
    kind: Kind,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Written in decimal.
    Integer,
    /// Written as a JSON array.
    Texts,
}

impl Attributes {
    /// Room for a usual call.
    pub(super) fn with_room() -> Self {
        Self {
            text: String::with_capacity(TEXT_BYTES),
            entries: Vec::with_capacity(COUNT),
            known: 0,
            is_irregular: false,
        }
    }

    /// Sets an attribute; the last value of a key counts.
    pub fn set(&mut self, key: &str, value: &AttributeValue) {
        match value {
            AttributeValue::Text(text) => self.put(key, Kind::Text, |out| out.push_str(text)),
            AttributeValue::Integer(number) => self.put(key, Kind::Integer, |out| out.push_str(&number.to_string())),
            AttributeValue::Texts(texts) => self.put(key, Kind::Texts, |out| {
                out.push_str(&serde_json::to_string(texts).unwrap_or_default()); // texts are always JSON
            }),
        }
    }

    /// Sets a text that `write` writes; nothing when it writes nothing.
    pub(super) fn set_text(&mut self, key: &str, write: impl FnOnce(&mut String)) {
        self.put(key, Kind::Text, write);
    }

    /// Sets the text of a number.
    pub(super) fn set_number(&mut self, key: &str, number: u64) {
        self.put(key, Kind::Text, |out| write_number(out, number));
    }

    /// Sets the text of an address.
    pub(super) fn set_address(&mut self, key: &str, address: IpAddr) {
        self.put(key, Kind::Text, |out| write_address(out, address));
    }

    #[inline]
    fn put(&mut self, key: &str, kind: Kind, write: impl FnOnce(&mut String)) {
        let (start, value) = self.begin(key);
        write(&mut self.text);
        self.end(key, start, value, kind);
    }

    /// Writes the key; gives where it and its value begin.
    fn begin(&mut self, key: &str) -> (usize, usize) {
        self.text.push_str(BEFORE_KEY);
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(BETWEEN);
        (start, self.text.len())
    }

    /// Takes note of what was written.
    fn end(&mut self, key: &str, start: usize, value: usize, kind: Kind) {
        let value_end = self.text.len();
        // More than 4 GiB of attributes cannot be; they would be left out.
        let (false, Ok(end)) = (value_end == value, u32::try_from(value_end)) else {
            self.text.truncate(start - BEFORE_KEY.len());
            return;
        };
        let position = |at: usize| u32::try_from(at).unwrap_or_default(); // all of them are before the end
        let entry = Entry {
            key: position(start),
            key_end: position(start + key.len()),
            value: position(value),
            value_end: end,
            kind,
        };
        self.is_irregular |=
            !is_plain(key.as_bytes()) || !is_plain(self.text.as_bytes().get(value..).unwrap_or_default());
        self.text.push('"');
        let bit = bit_of(key);
        if self.known & bit != 0
            && let Some(index) = self.entries.iter().position(|known| self.has_key(known, key))
        {
            self.is_irregular = true;
            self.entries[index] = entry;
            return;
        }
        self.known |= bit;
        self.entries.push(entry);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Kind, &str)> {
        let part =
            |entry: &Entry| (self.part(entry.key, entry.key_end), entry.kind, self.part(entry.value, entry.value_end));
        self.entries.iter().map(part)
    }

    /// All of them as members of a JSON object, each with a comma before it; `None` when they have to be written one by one.
    pub(super) fn json(&self) -> Option<&str> {
        (!self.is_irregular).then_some(self.text.as_str())
    }

    /// The value of a key as text.
    pub fn get(&self, key: &str) -> Option<&str> {
        if self.known & bit_of(key) == 0 {
            return None;
        }
        let entry = self.entries.iter().find(|entry| self.has_key(entry, key))?;
        Some(self.part(entry.value, entry.value_end))
    }

    fn has_key(&self, entry: &Entry, key: &str) -> bool {
        (entry.key_end - entry.key) as usize == key.len()
            && self.text.as_bytes().get(entry.key as usize..entry.key_end as usize) == Some(key.as_bytes())
    }

    fn part(&self, start: u32, end: u32) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default() // what was put there
    }
}

/// Keys of one bit may differ; keys of different bits do.
fn bit_of(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let end = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
    1 << ((bytes.len() * 7 + end(bytes.get(bytes.len() / 2)) * 5 + end(bytes.last())) % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts_and_an_empty_one_is_none() {
        let mut attributes = Attributes::default();
        attributes.set_text("a", |out| out.push('1'));
        attributes.set_text("b", |_| {});
        attributes.set("c", &AttributeValue::Integer(-3));
        assert_eq!(attributes.json(), Some(",\"a\":\"1\",\"c\":\"-3\""));
        attributes.set("a", &AttributeValue::Texts(vec!["x".to_owned()]));
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(all, [("a", Kind::Texts, "[\"x\"]"), ("c", Kind::Integer, "-3")]);
        assert_eq!(attributes.json(), None);
        attributes.set_text("a", |_| {});
        assert_eq!(attributes.get("a"), Some("[\"x\"]"));
        assert_eq!(attributes.get("b"), None);
    }

    #[test]
    fn what_needs_an_escape_is_no_json() {
        let mut attributes = Attributes::default();
        attributes.set_number("port", 40_312);
        attributes.set_address("address", "::ffff:127.0.0.1".parse().unwrap());
        assert_eq!(attributes.json(), Some(",\"port\":\"40312\",\"address\":\"::ffff:127.0.0.1\""));
        attributes.set_text("path", |out| out.push_str("/a\"b"));
        assert_eq!(attributes.json(), None);
        assert_eq!(attributes.get("path"), Some("/a\"b"));
        let mut attributes = Attributes::default();
        attributes.set_text("a\\b", |out| out.push('1'));
        assert_eq!(attributes.json(), None);
    }
}
