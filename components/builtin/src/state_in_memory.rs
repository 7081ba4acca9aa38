//! `state.in-memory`: a map that lives as long as its sidecar.
//!
//! *Job:* the fastest store there is, with ETags, transactions, TTL and key search. *Neighbours:* only `contract`.
//! *Invariant:* one short critical section per call and none across an await; values are shared, never copied.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::{
    BulkGetItem, ComponentError, Concurrency, DeleteRequest, ErrorKind, GetRequest, InitContext, KeysLikeRequest,
    KeysLikeResponse, SetRequest, StateCapability, StateItem, StateOperation, StateStore, TransactionRequest,
    TransactionalStore,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::like;

/// Expired items that nobody reads are removed at most this often, as in the original.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The component; see the module text.
pub struct InMemoryState {
    items: Mutex<Items>,
    /// Wakes the sweeper when the first item with a TTL arrives.
    has_expirations: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for InMemoryState {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Default)]
struct Items {
    by_key: HashMap<Arc<str>, Item>,
    /// The items that have a TTL, soonest first.
    expirations: BTreeSet<(SystemTime, Arc<str>)>,
    /// Order of writes, which key search answers in.
    next_index: u64,
}

struct Item {
    data: Bytes,
    etag: Uuid,
    expires_at: Option<SystemTime>,
    index: u64,
}

impl Item {
    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at < SystemTime::now())
    }

    fn to_state_item(&self) -> StateItem {
        let mut item = StateItem { data: self.data.clone(), etag: Some(self.etag.to_string()), ..StateItem::default() };
        if let Some(at) = self.expires_at {
            item.metadata.insert("ttlExpireTime".to_owned(), rfc3339(at));
        }
        item
    }
}

/// The time in UTC to the second, as the original prints `ttlExpireTime`.
fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at)
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// Makes the component and starts its sweeper.
///
/// # Errors
/// None; the signature is that of all factories.
pub async fn create(context: InitContext) -> Result<Arc<dyn StateStore>, ComponentError> {
    Ok(InMemoryState::start(context.cancel.child_token()))
}

impl InMemoryState {
    fn start(stop: CancellationToken) -> Arc<Self> {
        let has_expirations = Arc::new(Notify::new());
        let store =
            Arc::new(Self { items: Mutex::default(), has_expirations: has_expirations.clone(), stop: stop.clone() });
        let weak = Arc::downgrade(&store);
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(sweep(weak, has_expirations)).await; // both endings mean the same: stop
        });
        store
    }
}

/// Removes expired items until the store is gone; sleeps without a timer while no item has a TTL.
async fn sweep(store: Weak<InMemoryState>, has_expirations: Arc<Notify>) {
    loop {
        let Some(is_idle) = store.upgrade().map(|store| store.items.lock().remove_expired()) else { return };
        if is_idle {
            has_expirations.notified().await;
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

impl Items {
    fn get(&self, key: &str) -> Option<&Item> {
        self.by_key.get(key).filter(|item| !item.is_expired())
    }

    /// Returns whether nothing is left that can expire.
    fn remove_expired(&mut self) -> bool {
        let now = SystemTime::now();
        while let Some((at, _)) = self.expirations.first() {
            if *at >= now {
                return false;
            }
            if let Some((_, key)) = self.expirations.pop_first() {
                self.by_key.remove(&key);
            }
        }
        true
    }

    fn check(&self, key: &str, etag: Option<&str>, concurrency: Concurrency) -> Result<(), ComponentError> {
        let Some(etag) = etag else {
            if concurrency == Concurrency::FirstWrite && self.get(key).is_some() {
                return Err(mismatch("item already exists and no etag was passed".to_owned()));
            }
            return Ok(());
        };
        let Some(item) = self.get(key) else {
            return Err(mismatch(format!("state not exist or expired for key={key}")));
        };
        let mut buffer = Uuid::encode_buffer();
        let current = item.etag.hyphenated().encode_lower(&mut buffer);
        if current != etag {
            return Err(mismatch(format!("state etag not match for key={key}: current={current}, expect={etag}")));
        }
        Ok(())
    }

    /// Returns whether the first expiring item arrived.
    fn put(&mut self, key: &str, data: Bytes, expires_at: Option<SystemTime>) -> bool {
        let index = self.next_index;
        self.next_index += 1;
        let item = Item { data, etag: Uuid::new_v4(), expires_at, index };
        let was_idle = self.expirations.is_empty();
        match self.by_key.get_mut(key) {
            Some(current) if current.expires_at.is_none() && expires_at.is_none() => *current = item,
            _ => {
                self.remove(key);
                let key: Arc<str> = key.into();
                if let Some(at) = expires_at {
                    self.expirations.insert((at, key.clone()));
                }
                self.by_key.insert(key, item);
            }
        }
        was_idle && expires_at.is_some()
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, item)) = self.by_key.remove_entry(key)
            && let Some(at) = item.expires_at
        {
            self.expirations.remove(&(at, key));
        }
    }

    fn set(&mut self, request: &SetRequest, expires_at: Option<SystemTime>) -> Result<bool, ComponentError> {
        self.check(&request.key, request.expected_etag(), request.concurrency)?;
        Ok(self.put(&request.key, request.value.clone(), expires_at))
    }

    fn delete(&mut self, request: &DeleteRequest) -> Result<(), ComponentError> {
        self.check(&request.key, request.expected_etag(), request.concurrency)?;
        self.remove(&request.key);
        Ok(())
    }
}

/// The text starts as every ETag error of the original does.
fn mismatch(reason: String) -> ComponentError {
    ComponentError::new(ErrorKind::ETagMismatch, format!("possible etag mismatch. error from state store: {reason}"))
}

fn expiry(request: &SetRequest) -> Result<Option<SystemTime>, ComponentError> {
    let seconds =
        request.ttl_in_seconds()?.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Ok(seconds.and_then(|seconds| SystemTime::now().checked_add(Duration::from_secs(seconds))))
}

#[async_trait]
impl StateStore for InMemoryState {
    fn capability(&self) -> StateCapability {
        StateCapability {
            etag: true,
            transactional: true,
            query: false,
            ttl: true,
            delete_with_prefix: true,
            keys_like: true,
            actor: true,
        }
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<StateItem>, ComponentError> {
        let mut items = self.items.lock();
        let Some(item) = items.by_key.get(request.key.as_str()) else { return Ok(None) };
        if item.is_expired() {
            items.remove(&request.key);
            return Ok(None);
        }
        Ok(Some(item.to_state_item()))
    }

    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError> {
        let expires_at = expiry(request)?;
        if self.items.lock().set(request, expires_at)? {
            self.has_expirations.notify_one();
        }
        Ok(())
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<(), ComponentError> {
        self.items.lock().delete(request)
    }

    async fn bulk_get(&self, requests: &[GetRequest]) -> Result<Vec<BulkGetItem>, ComponentError> {
        let items = self.items.lock();
        let answer = |request: &GetRequest| BulkGetItem {
            key: request.key.clone(),
            item: items.get(&request.key).map(Item::to_state_item),
            error: None,
        };
        Ok(requests.iter().map(answer).collect())
    }

    async fn delete_with_prefix(&self, prefix: &str) -> Result<u64, ComponentError> {
        let prefix = like::normalise_prefix(prefix)?;
        let mut items = self.items.lock();
        let is_child = |key: &&Arc<str>| key.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.contains("||"));
        let keys: Vec<Arc<str>> = items.by_key.keys().filter(is_child).cloned().collect();
        for key in &keys {
            items.remove(key);
        }
        Ok(keys.len() as u64)
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse, ComponentError> {
        let pattern = like::Pattern::parse(&request.pattern)?;
        let from = match &request.token {
            Some(token) => token.parse::<u64>().map_err(|_| {
                ComponentError::new(
                    ErrorKind::InvalidRequest,
                    format!("continuation token {token:?} was not given by this store"),
                )
            })?,
            None => 0,
        };
        let items = self.items.lock();
        let is_found =
            |(key, item): &(&Arc<str>, &Item)| item.index >= from && !item.is_expired() && pattern.matches(key);
        let mut found: Vec<(u64, &Arc<str>)> =
            items.by_key.iter().filter(is_found).map(|(key, item)| (item.index, key)).collect();
        found.sort_unstable();
        let page_size = request.page_size.unwrap_or(usize::MAX);
        let token = found.get(page_size).map(|(index, _)| index.to_string());
        Ok(KeysLikeResponse {
            keys: found.into_iter().take(page_size).map(|(_, key)| key.to_string()).collect(),
            token,
        })
    }

    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        Some(self)
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        *self.items.lock() = Items::default();
        Ok(())
    }
}

#[async_trait]
impl TransactionalStore for InMemoryState {
    /// All ETags are checked against the state before the first step, as in the original.
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError> {
        let mut expirations = Vec::with_capacity(request.operations.len());
        for operation in &request.operations {
            expirations.push(match operation {
                StateOperation::Upsert(set) => expiry(set)?,
                StateOperation::Delete(_) => None,
            });
        }
        let mut items = self.items.lock();
        for operation in &request.operations {
            match operation {
                StateOperation::Upsert(set) => items.check(&set.key, set.expected_etag(), set.concurrency)?,
                StateOperation::Delete(delete) => {
                    items.check(&delete.key, delete.expected_etag(), delete.concurrency)?
                }
            }
        }
        let mut first_expiring = false;
        for (operation, expires_at) in request.operations.iter().zip(expirations) {
            match operation {
                StateOperation::Upsert(set) => first_expiring |= items.put(&set.key, set.value.clone(), expires_at),
                StateOperation::Delete(delete) => items.remove(&delete.key),
            }
        }
        drop(items);
        if first_expiring {
            self.has_expirations.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::context;

    fn store() -> Arc<InMemoryState> {
        InMemoryState::start(CancellationToken::new())
    }

    fn set(key: &str, ttl: Option<&str>) -> SetRequest {
        let metadata = ttl.map(|ttl| ("ttlInSeconds".to_owned(), ttl.to_owned())).into_iter().collect();
        SetRequest { key: key.to_owned(), value: Bytes::from_static(b"v"), metadata, ..SetRequest::default() }
    }

    #[tokio::test]
    async fn conforms() {
        pillion_conformance::state::run(create(context("state.in-memory", &[])).await.unwrap()).await;
    }

    #[tokio::test]
    async fn unread_expired_items_are_swept_and_the_index_follows_rewrites() {
        let store = store();
        store.set(&set("short", Some("1"))).await.unwrap();
        store.set(&set("rewritten", Some("1"))).await.unwrap();
        store.set(&set("rewritten", None)).await.unwrap();
        store.set(&set("deleted", Some("500"))).await.unwrap();
        store.delete(&DeleteRequest { key: "deleted".into(), ..DeleteRequest::default() }).await.unwrap();
        assert_eq!(store.items.lock().expirations.len(), 1);
        let swept = pillion_conformance::eventually(Duration::from_secs(5), || async {
            let items = store.items.lock();
            items.by_key.len() == 1 && items.expirations.is_empty()
        });
        assert!(swept.await, "only the rewritten item stays");
    }

    #[tokio::test]
    async fn values_are_shared_not_copied() {
        let store = store();
        let value = Bytes::from(vec![7; 100_000]);
        store.set(&SetRequest { key: "k".into(), value: value.clone(), ..SetRequest::default() }).await.unwrap();
        let item = store.get(&GetRequest { key: "k".into(), ..GetRequest::default() }).await.unwrap().unwrap();
        assert_eq!(item.data.as_ptr(), value.as_ptr());
    }

    #[tokio::test]
    async fn a_refused_etag_says_which() {
        let store = store();
        store.set(&set("k", None)).await.unwrap();
        let error = store.set(&SetRequest { etag: Some("1".into()), ..set("k", None) }).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "possible etag mismatch. error from state store: state etag not match for key=k: current="
            ),
            "{text}"
        );
        assert!(text.ends_with(", expect=1"), "{text}");
    }

    #[test]
    fn expiry_times_print_as_go_prints_them() {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900)), "2023-11-14T22:13:20Z");
    }
}
