//! What the fronts hand to the state block, and the words of its options.

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
    /// Expected version; an empty one counts as not given.
    pub etag: Option<String>,
    /// Metadata of this item, already merged with the request's.
    pub metadata: BTreeMap<String, String>,
    /// Concurrency.
    pub concurrency: Concurrency,
    /// Consistency.
    pub consistency: Consistency,
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
