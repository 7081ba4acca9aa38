//! The attributes of a span, in two pieces of memory whatever their number.
//!
//! *Invariant:* no key is there twice; values are kept as the text an exporter writes, with their type beside it.

use super::span::AttributeValue;

/// Room for those of a usual call, so that recording one does not grow anything.
const TEXT_BYTES: usize = 384;
const COUNT: usize = 14;

/// Keys with values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Keys and values one after another.
    text: String,
    entries: Vec<Entry>,
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
        Self { text: String::with_capacity(TEXT_BYTES), entries: Vec::with_capacity(COUNT) }
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

    fn put(&mut self, key: &str, kind: Kind, write: impl FnOnce(&mut String)) {
        let known = self.entries.iter().position(|entry| self.has_key(entry, key.as_bytes()));
        let start = self.text.len();
        if known.is_none() {
            self.text.push_str(key);
        }
        let value = self.text.len();
        write(&mut self.text);
        // More than 4 GiB of attributes cannot be; they would be left out.
        let end = u32::try_from(self.text.len()).unwrap_or_default();
        let position = |at: usize| u32::try_from(at).unwrap_or_default();
        if end <= position(value) {
            self.text.truncate(start);
            return;
        }
        let (value, value_end) = (position(value), end);
        match known.and_then(|index| self.entries.get_mut(index)) {
            Some(entry) => *entry = Entry { value, value_end, kind, ..*entry },
            None => self.entries.push(Entry { key: position(start), key_end: value, value, value_end, kind }),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Kind, &str)> {
        let part =
            |entry: &Entry| (self.part(entry.key, entry.key_end), entry.kind, self.part(entry.value, entry.value_end));
        self.entries.iter().map(part)
    }

    /// The value of a key as text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(own, ..)| *own == key).map(|(_, _, value)| value)
    }

    fn has_key(&self, entry: &Entry, key: &[u8]) -> bool {
        (entry.key_end - entry.key) as usize == key.len()
            && self.text.as_bytes().get(entry.key as usize..entry.key_end as usize) == Some(key)
    }

    fn part(&self, start: u32, end: u32) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default() // what was put there
    }
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
        attributes.set("a", &AttributeValue::Texts(vec!["x".to_owned()]));
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(all, [("a", Kind::Texts, "[\"x\"]"), ("c", Kind::Integer, "-3")]);
        attributes.set_text("a", |_| {});
        assert_eq!(attributes.get("a"), Some("[\"x\"]"));
        assert_eq!(attributes.get("b"), None);
    }
}
