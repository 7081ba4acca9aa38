//! JSON as the original reads it: the name of a field may be written in any case, and null is a value that is not given.
//!
//! *Job:* put a deserializer between JSON and a derived struct that matches names without regard to case (`Key`, `entryID`) and
//! takes null for the zero value; SDKs and applications have come to rely on it. *Neighbours:* whoever reads a body into a struct
//! calls [`from_slice`]. *Invariant:* only names of struct fields are matched this way; keys of maps, such as metadata, and
//! values stay as they are, borrowed and raw ones included.

mod null;
#[cfg(test)]
mod properties;

use std::borrow::Cow;
use std::fmt;

use null::Kind;
use serde::de::value::{BorrowedStrDeserializer, CowStrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads a whole JSON text.
///
/// # Errors
/// Those of `serde_json`; text after the value is one.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(AnyCase(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// Reads the first JSON value of a text, whatever comes after it; `None` for a text without any.
///
/// # Errors
/// Those of `serde_json`.
pub fn first_of<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Option<serde_json::Result<T>> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    Some(T::deserialize(AnyCase(&mut serde_json::Deserializer::from_slice(text))))
}

/// The text of an error as clients of the original know it: a value that breaks off is an unexpected EOF.
pub fn error_text(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() }
}

/// Anything read through it (a deserializer, a visitor, a seed, an access) passes the matching on to what it holds.
struct AnyCase<T>(T);

macro_rules! as_it_is {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method(visitor)
        })*
    };
}

macro_rules! or_null {
    ($($method:ident: $kind:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            null::read(self.0, Kind::$kind, visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AnyCase<D> {
    type Error = D::Error;

    as_it_is! {
        deserialize_any deserialize_i128 deserialize_u128 deserialize_char deserialize_bytes deserialize_byte_buf
        deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    or_null! {
        deserialize_bool: Bool, deserialize_str: Text, deserialize_string: Text, deserialize_i8: Integer,
        deserialize_i16: Integer, deserialize_i32: Integer, deserialize_i64: Integer, deserialize_u8: Integer,
        deserialize_u16: Integer, deserialize_u32: Integer, deserialize_u64: Integer, deserialize_f32: Float,
        deserialize_f64: Float
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        null::read(self.0, Kind::Map, Entries(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_option(AnyCase(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        null::read(self.0, Kind::List, AnyCase(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        null::read(self.0, Kind::Struct(name, fields), Fields { inner: visitor, names: fields })
    }

    // Raw values come as one; they must reach their own deserializer.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_tuple(length, AnyCase(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_tuple_struct(name, length, AnyCase(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for AnyCase<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.visit_some(AnyCase(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.0.visit_seq(AnyCase(access))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for AnyCase<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_element_seed(AnyCase(seed))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for AnyCase<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(AnyCase(deserializer))
    }
}

/// A struct's visitor, then its access, with the names the struct knows.
struct Fields<T> {
    inner: T,
    names: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.inner.visit_map(Fields { inner: access, names: self.names })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.inner.visit_seq(AnyCase(access))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        let Some(Name(written)) = self.inner.next_key()? else { return Ok(None) };
        let known = self.names.iter().find(|name| name.eq_ignore_ascii_case(&written));
        match known {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => seed.deserialize(CowStrDeserializer::new(written)).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.inner.next_value_seed(AnyCase(seed))
    }
}

/// A map's visitor, then its access: keys are data, what they lead to is read like anything else.
struct Entries<T>(T);

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(Entries(access))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.0.next_value_seed(AnyCase(seed))
    }
}

/// A field's name as it is written, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::from_slice;

    #[derive(Deserialize, Default, Debug)]
    #[serde(default, rename_all = "camelCase")]
    struct Outer<'a> {
        entry_id: String,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        items: Vec<Inner>,
        nested: Option<Inner>,
        metadata: BTreeMap<String, String>,
        count: i64,
    }

    #[derive(Deserialize, Default, Debug, PartialEq)]
    #[serde(default)]
    struct Inner {
        key: String,
    }

    #[test]
    fn names_match_in_any_case_at_every_depth() {
        let text =
            br#"{"entryID":"1","RAW":{"Key": 1.50},"Items":[{"KEY":"a"},{"key":"b","other":1}],"nesTed":{"Key":"c"},
            "Metadata":{"Key":"kept"},"count":7,"unknown":{"x":[]}}"#;
        let outer: Outer<'_> = from_slice(text).unwrap();
        assert_eq!(outer.entry_id, "1");
        assert_eq!(outer.raw.unwrap().get(), r#"{"Key": 1.50}"#, "values are untouched");
        assert_eq!(outer.items, [Inner { key: "a".into() }, Inner { key: "b".into() }]);
        assert_eq!(outer.nested.unwrap().key, "c");
        assert_eq!(outer.metadata, BTreeMap::from([("Key".to_owned(), "kept".to_owned())]), "keys of maps are data");
        assert_eq!(outer.count, 7);
        assert!(from_slice::<Outer<'_>>(br#"{"nested":null,"raw":null}"#).unwrap().nested.is_none());
    }

    #[test]
    fn null_is_a_value_that_is_not_given() {
        let text =
            br#"{"entryId":null,"raw":null,"items":null,"nested":{"key":null},"metadata":{"a":null},"count":null}"#;
        let outer: Outer<'_> = from_slice(text).unwrap();
        assert_eq!((outer.entry_id.as_str(), outer.items.len(), outer.count), ("", 0, 0));
        assert_eq!(outer.nested, Some(Inner::default()));
        assert_eq!(outer.metadata, BTreeMap::from([("a".to_owned(), String::new())]));
        assert_eq!(from_slice::<Vec<Inner>>(b"[null]").unwrap(), [Inner::default()]);
        assert!(from_slice::<Vec<Inner>>(b"null").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_those_of_json() {
        assert!(from_slice::<Inner>(br#"{"key":1}"#).unwrap_err().to_string().contains("invalid type: integer"));
        assert!(from_slice::<Inner>(br#"{"key":"a"} x"#).unwrap_err().to_string().contains("trailing"));
        assert_eq!(super::first_of::<Inner>(br#" {"KEY":"a"} x"#).unwrap().unwrap().key, "a");
        assert!(super::first_of::<Inner>(b" ").is_none());
        assert!(from_slice::<Vec<Inner>>(br#"{"key":"a"}"#).unwrap_err().to_string().contains("expected a sequence"));
    }
}
