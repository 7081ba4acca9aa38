//! Null where a value is expected: the value that is not given.
//!
//! *Job:* let a visitor that knows no null have the zero value of its kind. *Source:* Go's JSON reader, under which a null leaves a
//! field as it was. *Neighbours:* [`super`] wraps the visitors it hands to `serde_json`. *Invariant:* what is not null reaches the
//! visitor as before.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What a visitor expects.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    List,
    Map,
    Struct(&'static str, &'static [&'static str]),
}

/// Reads a value of a kind, or null.
pub(super) fn read<'de, D: Deserializer<'de>, V: Visitor<'de>>(
    deserializer: D,
    kind: Kind,
    visitor: V,
) -> Result<V::Value, D::Error> {
    deserializer.deserialize_option(OrNull { kind, visitor })
}

struct OrNull<V> {
    kind: Kind,
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrNull<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        match self.kind {
            Kind::Bool => self.visitor.visit_bool(false),
            Kind::Integer => self.visitor.visit_u64(0),
            Kind::Float => self.visitor.visit_f64(0.0),
            Kind::Text => self.visitor.visit_borrowed_str(""),
            Kind::List => self.visitor.visit_seq(Empty(std::marker::PhantomData)),
            Kind::Map | Kind::Struct(..) => self.visitor.visit_map(Empty(std::marker::PhantomData)),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.kind {
            Kind::Bool => deserializer.deserialize_bool(self.visitor),
            Kind::Integer => deserializer.deserialize_i64(self.visitor),
            Kind::Float => deserializer.deserialize_f64(self.visitor),
            Kind::Text => deserializer.deserialize_string(self.visitor),
            Kind::List => deserializer.deserialize_seq(self.visitor),
            Kind::Map => deserializer.deserialize_map(self.visitor),
            Kind::Struct(name, fields) => deserializer.deserialize_struct(name, fields, self.visitor),
        }
    }
}

/// A list or an object that holds nothing.
struct Empty<E>(std::marker::PhantomData<E>);

impl<'de, E: Error> SeqAccess<'de> for Empty<E> {
    type Error = E;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }
}

impl<'de, E: Error> MapAccess<'de> for Empty<E> {
    type Error = E;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<Option<S::Value>, E> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, _: S) -> Result<S::Value, E> {
        Err(E::custom("an empty object has no values"))
    }
}
