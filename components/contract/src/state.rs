//! Key/value state stores.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ComponentError, ErrorKind};

/// Concurrency option of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// Not given: last write wins.
    #[default]
    Unspecified,
    /// `first-write`: needs the current ETag, or that the key is new.
    FirstWrite,
    /// `last-write`.
    LastWrite,
}

/// Consistency option of a read or write; stores without a choice ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Not given.
    #[default]
    Unspecified,
    /// `eventual`.
    Eventual,
    /// `strong`.
    Strong,
}

/// A read. Keys arrive already prefixed.
#[derive(Clone, Debug, Default)]
pub struct GetRequest {
    /// Full key.
    pub key: String,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
    /// Consistency.
    pub consistency: Consistency,
}

/// A stored value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateItem {
    /// The bytes as stored.
    pub data: Bytes,
    /// Opaque version, when the store has one.
    pub etag: Option<String>,
    /// Response metadata, for example `ttlExpireTime` (RFC 3339).
    pub metadata: BTreeMap<String, String>,
}

/// One answer of a bulk read.
#[derive(Clone, Debug, Default)]
pub struct BulkGetItem {
    /// Full key.
    pub key: String,
    /// The value; `None` when absent or failed.
    pub item: Option<StateItem>,
    /// The failure of this key alone.
    pub error: Option<String>,
}

/// A write. `metadata["ttlInSeconds"]` (-1 = never) and `metadata["contentType"]` are the common keys.
#[derive(Clone, Debug, Default)]
pub struct SetRequest {
    /// Full key.
    pub key: String,
    /// Bytes to store.
    pub value: Bytes,
    /// Whether `value` is the text of a JSON document (the HTTP API's values) rather than opaque bytes (gRPC's, actors').
    /// Reads give the same bytes either way; stores that others read too keep the difference (`is_binary` of `state.sqlite`).
    pub value_is_json: bool,
    /// Expected version.
    pub etag: Option<String>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
    /// Concurrency.
    pub concurrency: Concurrency,
    /// Consistency.
    pub consistency: Consistency,
}

impl SetRequest {
    /// The expected version, unless it is empty (which counts as not given).
    pub fn expected_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.is_empty())
    }

    /// The time to live in seconds from `metadata["ttlInSeconds"]`; `None` when absent, `Some(-1)` for "never".
    ///
    /// # Errors
    /// `InvalidRequest` for a text that is not an integer from -1 to 2^31-1.
    pub fn ttl_in_seconds(&self) -> Result<Option<i64>, ComponentError> {
        let Some(text) = self.metadata.get("ttlInSeconds").filter(|text| !text.is_empty()) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(seconds) if (-1..=i64::from(i32::MAX)).contains(&seconds) => Ok(Some(seconds)),
            Ok(_) => Err(ComponentError::new(
                ErrorKind::InvalidRequest,
                "incorrect value for metadata 'ttlInSeconds': must be -1 or greater",
            )),
            Err(_) => Err(ComponentError::new(
                ErrorKind::InvalidRequest,
                format!(
                    "incorrect value for metadata 'ttlInSeconds': expected a whole number of seconds, got {text:?}"
                ),
            )),
        }
    }
}

/// A delete; deleting an absent key without an ETag succeeds.
#[derive(Clone, Debug, Default)]
pub struct DeleteRequest {
    /// Full key.
    pub key: String,
    /// Expected version.
    pub etag: Option<String>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
    /// Concurrency.
    pub concurrency: Concurrency,
    /// Consistency.
    pub consistency: Consistency,
}

impl DeleteRequest {
    /// The expected version, unless it is empty (which counts as not given).
    pub fn expected_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.is_empty())
    }
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum StateOperation {
    /// Insert or replace.
    Upsert(SetRequest),
    /// Remove.
    Delete(DeleteRequest),
}

/// Steps that are applied all or not at all, in order.
#[derive(Clone, Debug, Default)]
pub struct TransactionRequest {
    /// The steps.
    pub operations: Vec<StateOperation>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A search of keys by SQL `LIKE` pattern: `%` any text, `_` one character, backslash escapes either.
#[derive(Clone, Debug, Default)]
pub struct KeysLikeRequest {
    /// The pattern; empty is refused.
    pub pattern: String,
    /// Most keys of one answer; `None` without a limit.
    pub page_size: Option<usize>,
    /// Where the previous page ended.
    pub token: Option<String>,
}

/// Keys found by a [`KeysLikeRequest`], oldest write first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysLikeResponse {
    /// Full keys.
    pub keys: Vec<String>,
    /// Where to go on; `None` at the end.
    pub token: Option<String>,
}

/// A search of values.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// One operator (`EQ`, `AND`, ...) with what it compares, checked by the caller; empty finds everything.
    pub filter: serde_json::Map<String, serde_json::Value>,
    /// What the answer is sorted by, the first key first.
    pub sort: Vec<QuerySort>,
    /// Most values of one answer; 0 without a limit.
    pub limit: i64,
    /// Where the previous page ended; empty for the first.
    pub token: String,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// One key of a sort order.
#[derive(Clone, Debug, Default)]
pub struct QuerySort {
    /// Path in the value.
    pub key: String,
    /// Greatest first.
    pub descending: bool,
}

/// One found value.
#[derive(Clone, Debug, Default)]
pub struct QueryItem {
    /// Full key.
    pub key: String,
    /// The bytes as stored.
    pub data: Bytes,
    /// Opaque version, when the store has one.
    pub etag: Option<String>,
    /// The failure of this value alone; empty without one.
    pub error: String,
}

/// Values found by a [`QueryRequest`].
#[derive(Clone, Debug, Default)]
pub struct QueryResponse {
    /// The values, in the order asked for.
    pub items: Vec<QueryItem>,
    /// Where to go on; empty at the end.
    pub token: String,
    /// Response metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What a store can do; the metadata API prints the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StateCapability {
    pub etag: bool,
    pub transactional: bool,
    pub query: bool,
    pub ttl: bool,
    pub delete_with_prefix: bool,
    pub keys_like: bool,
    /// Usable as the actor state store.
    pub actor: bool,
}

/// A key/value store with optional ETags, transactions and TTL.
///
/// *Source:* behaviour of the state building block, spec internals.md §10 and components.md.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// What this store can do: data, not methods that fail.
    fn capability(&self) -> StateCapability;

    /// Reads one key; `None` when absent or expired.
    async fn get(&self, request: &GetRequest) -> Result<Option<StateItem>, ComponentError>;

    /// Writes one key.
    ///
    /// # Errors
    /// `ETagMismatch` when the version differs, or the key exists under `first-write` without a version;
    /// `ETagInvalid` for a malformed version.
    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError>;

    /// Deletes one key.
    ///
    /// # Errors
    /// As [`Self::set`].
    async fn delete(&self, request: &DeleteRequest) -> Result<(), ComponentError>;

    /// Reads several keys; the answer has one item per request, in order.
    async fn bulk_get(&self, requests: &[GetRequest]) -> Result<Vec<BulkGetItem>, ComponentError> {
        let mut items = Vec::with_capacity(requests.len());
        for request in requests {
            let (item, error) = match self.get(request).await {
                Ok(item) => (item, None),
                Err(error) => (None, Some(error.to_string())),
            };
            items.push(BulkGetItem { key: request.key.clone(), item, error });
        }
        Ok(items)
    }

    /// Writes several keys, each on its own; fails with the first error after trying all.
    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<(), ComponentError> {
        let mut first = None;
        for request in requests {
            if let Err(error) = self.set(request).await {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Deletes several keys, each on its own; fails with the first error after trying all.
    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<(), ComponentError> {
        let mut first = None;
        for request in requests {
            if let Err(error) = self.delete(request).await {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Deletes the direct children of a prefix (`prefix||` but not `prefix||a||b`) and returns how many they were.
    ///
    /// # Errors
    /// `InvalidRequest` for an empty prefix; `Unsupported` unless the capability says otherwise.
    async fn delete_with_prefix(&self, _prefix: &str) -> Result<u64, ComponentError> {
        Err(ComponentError::new(ErrorKind::Unsupported, "this state store cannot delete by prefix"))
    }

    /// Finds keys by pattern.
    ///
    /// # Errors
    /// `InvalidRequest` for an empty pattern or a token this store did not give; `Unsupported` unless the capability says otherwise.
    async fn keys_like(&self, _request: &KeysLikeRequest) -> Result<KeysLikeResponse, ComponentError> {
        Err(ComponentError::new(ErrorKind::Unsupported, "this state store cannot search keys"))
    }

    /// The transactional side, when the store has one.
    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        None
    }

    /// The side that searches values, when the store has one.
    fn querier(&self) -> Option<&dyn Querier> {
        None
    }

    /// Stops background work and flushes.
    async fn close(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}

/// A store that applies several steps atomically.
#[async_trait]
pub trait TransactionalStore: Send + Sync {
    /// Applies all steps or none.
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError>;

    /// The largest number of steps of one transaction; `None` without a limit.
    async fn max_operations(&self) -> Option<usize> {
        None
    }
}

/// A store that searches values.
#[async_trait]
pub trait Querier: Send + Sync {
    /// Finds values.
    async fn query(&self, request: &QueryRequest) -> Result<QueryResponse, ComponentError>;
}
