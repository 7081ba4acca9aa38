//! The events of a transaction: one for each upsert, with a marker that the transaction writes.
//!
//! *Source:* spec internals.md §9.3. *Invariant:* the id of an event is the key of its marker.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use pillion_contract::SetRequest;
use serde_json::Value;
use uuid::Uuid;

use crate::pubsub::envelope::without_topic;
use crate::state::{CallTrace, Operation, SetItem};

/// Metadata of an operation that is not written, but tells what the event of another one says.
const PROJECTION: &str = "outbox.projection";
const CONTENT_TYPE: &str = "contentType";
const JSON: &str = "application/json";
/// What markers hold. *Source:* the original, which stores the string `0` as JSON.
const MARKER_VALUE: &[u8] = b"\"0\"";

/// A new marker. Its key has no prefix of the app, as in the original.
pub(crate) fn marker() -> SetRequest {
    SetRequest {
        key: format!("outbox-{}", Uuid::new_v4()),
        value: Bytes::from_static(MARKER_VALUE),
        value_is_json: true,
        ..SetRequest::default()
    }
}

/// The operations that are applied, and the projections by their keys; of several for a key the last counts.
///
/// The original takes projections out of the list while it walks over it, and misses one that follows another; none is here.
pub(crate) fn split(operations: Vec<Operation>) -> (Vec<Operation>, HashMap<String, SetItem>) {
    let mut projections = HashMap::new();
    let mut kept = Vec::with_capacity(operations.len());
    for operation in operations {
        match operation {
            Operation::Upsert(item) if is_projection(&item) => drop(projections.insert(item.key.clone(), item)),
            operation => kept.push(operation),
        }
    }
    (kept, projections)
}

fn is_projection(item: &SetItem) -> bool {
    item.metadata.get(PROJECTION).is_some_and(|value| {
        matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
    })
}

/// What an event is made of.
pub(crate) struct Announcement<'a> {
    pub(crate) id: &'a str,
    pub(crate) app_id: &'a str,
    /// Component that keeps the event.
    pub(crate) pubsub_name: &'a str,
    /// The item that is written, or its projection.
    pub(crate) payload: &'a SetItem,
    /// Metadata of the item that is written: attributes of the event.
    pub(crate) attributes: &'a BTreeMap<String, String>,
    pub(crate) trace: &'a CallTrace,
}

impl Announcement<'_> {
    /// The event as it waits on the internal topic.
    ///
    /// # Errors
    /// None that is known; what the JSON writer says.
    pub(crate) fn to_event(&self) -> serde_json::Result<Vec<u8>> {
        let item = self.payload;
        let content_type = item.content_type.as_deref().or_else(|| item.metadata.get(CONTENT_TYPE).map(String::as_str));
        let content_type = content_type.unwrap_or_default();
        let text = item.text();
        let data: &[u8] = if content_type.eq_ignore_ascii_case(JSON) { &item.value } else { &text };
        let mut event = without_topic(self.id, self.app_id, self.pubsub_name, content_type, data);
        let trace =
            [("traceid", &self.trace.parent), ("traceparent", &self.trace.parent), ("tracestate", &self.trace.state)];
        for (name, value) in trace {
            event.insert(name.to_owned(), value.as_str().into());
        }
        for (name, value) in self.attributes {
            if name != "data" && name != "id" {
                event.insert(name.clone(), Value::String(value.clone()));
            }
        }
        serde_json::to_vec(&event)
    }
}
