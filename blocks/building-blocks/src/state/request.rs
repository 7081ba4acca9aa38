//! What the fronts hand to the state block, and the words of its options.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use pillion_contract::{Concurrency, Consistency};

/// One item to write. Keys are the app's, without prefix.
#[derive(Clone, Debug, Default)]
pub struct SetItem {
    /// Key.
    pub key: String,
    /// Bytes to store.
    pub value: Bytes,
    /// Whether `value` is the text of a JSON document.
    pub value_is_json: bool,
    /// Whether it was part of a larger JSON document (the HTTP API's values), in which a text stands in quotes; see [`Self::text`].
    pub is_document: bool,
    /// Content type of the value, where the request says it beside the metadata (the HTTP API); for events of the outbox.
    pub content_type: Option<String>,
    /// Expected version; an empty one counts as not given.
    pub etag: Option<String>,
    /// Metadata of this item, already merged with the request's.
    pub metadata: BTreeMap<String, String>,
    /// Concurrency.
    pub concurrency: Concurrency,
    /// Consistency.
    pub consistency: Consistency,
}

impl SetItem {
    /// The value as it is encrypted or put into an event: of a JSON string of a document its text, else the value itself.
    ///
    /// *Source:* the original writes values of the HTTP API with Go's `%v` here, which is the same for strings. For objects and
    /// arrays that form cannot be read back (`map[a:1]`), so that they stay JSON here, and so do numbers, which it may round.
    pub(crate) fn text(&self) -> Cow<'_, [u8]> {
        if self.is_document
            && self.value.first() == Some(&b'"')
            && let Ok(text) = serde_json::from_slice::<String>(&self.value)
        {
            return Cow::Owned(text.into_bytes());
        }
        Cow::Borrowed(&self.value)
    }
}

/// The trace of a call, for the events it causes; empty without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTrace {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`.
    pub state: String,
}

/// One item to delete. Keys are the app's, without prefix.
#[derive(Clone, Debug, Default)]
pub struct DeleteItem {
    /// Key.
    pub key: String,
    /// Expected version; an empty one counts as not given.
    pub etag: Option<String>,
    /// Metadata of this item, already merged with the request's.
    pub metadata: BTreeMap<String, String>,
    /// Concurrency.
    pub concurrency: Concurrency,
    /// Consistency.
    pub consistency: Consistency,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `upsert`.
    Upsert(SetItem),
    /// `delete`.
    Delete(DeleteItem),
}

impl Operation {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Upsert(item) => &item.key,
            Self::Delete(item) => &item.key,
        }
    }
}

/// The consistency of a word; anything but `eventual` and `strong` counts as not given.
pub fn parse_consistency(word: &str) -> Consistency {
    match word {
        "eventual" => Consistency::Eventual,
        "strong" => Consistency::Strong,
        _ => Consistency::Unspecified,
    }
}

/// The concurrency of a word; anything but `first-write` and `last-write` counts as not given.
pub fn parse_concurrency(word: &str) -> Concurrency {
    match word {
        "first-write" => Concurrency::FirstWrite,
        "last-write" => Concurrency::LastWrite,
        _ => Concurrency::Unspecified,
    }
}

/// Metadata of one item with the request's over it: a key of the request wins.
pub fn merge_metadata(item: BTreeMap<String, String>, request: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut merged = item;
    for (key, value) in request {
        merged.insert(key.clone(), value.clone());
    }
    merged
}
