//! The state building block: keys per app, ETags, bulk calls and transactions over the loaded state stores.
//!
//! *Job:* find the store, prefix keys, call it, name what went wrong. *Neighbours:* the fronts call [`StateStores`] with
//! the app's own keys; components see prefixed keys only. *Invariant:* no call clones metadata it was given, and a read
//! allocates one string, the prefixed key, before the component is called. Calls run under the outbound policy of the
//! component; a store without one pays a look-up for it.

mod errors;
mod guard;
mod keys;
mod query;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use pillion_contract::{
    BulkGetItem, ComponentError, Consistency, DeleteRequest, ErrorKind, GetRequest, Metadata, QueryResponse,
    SetRequest, StateCapability, StateItem, StateOperation, StateStore, TransactionRequest, TransactionalStore,
};
use pillion_core::error::ApiError;
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::metrics::Metrics;

use guard::guarded;

use crate::retired::{Retired, Usage};

pub use errors::{check_key, operation_not_supported};
pub use keys::{SEPARATOR, original as original_key};
pub use request::{DeleteItem, Operation, SetItem, merge_metadata, parse_concurrency, parse_consistency};

/// The loaded state stores of one sidecar; components can be added and removed while calls are under way.
pub struct StateStores {
    app_id: String,
    namespace: Option<String>,
    policies: Arc<Policies>,
    metrics: Metrics,
    stores: ArcSwap<HashMap<String, Arc<Entry>>>,
}

struct Entry {
    store: Arc<dyn StateStore>,
    /// With its separator.
    prefix: Box<str>,
    usage: Usage,
}

impl StateStores {
    /// Makes the block without stores. `namespace` is the environment variable `NAMESPACE`, `None` when unset.
    pub fn new(app_id: &str, namespace: Option<&str>, policies: Arc<Policies>) -> Self {
        Self {
            app_id: app_id.to_owned(),
            namespace: namespace.map(str::to_owned),
            policies,
            metrics: Metrics::off(),
            stores: ArcSwap::default(),
        }
    }

    /// The same, recording what stores are asked.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Adds a component, replacing one of the same name, which is returned.
    ///
    /// # Errors
    /// `InvalidRequest` for a `keyPrefix` with `||`; `Unsupported` for encryption keys, because encryption at rest is not
    /// built and values must not be stored in clear.
    pub fn add(
        &self,
        name: &str,
        store: Arc<dyn StateStore>,
        metadata: &Metadata,
    ) -> Result<Option<Retired<dyn StateStore>>, ComponentError> {
        if let Some(field) =
            ["primaryEncryptionKey", "secondaryEncryptionKey"].into_iter().find(|field| metadata.get(field).is_some())
        {
            return Err(ComponentError::new(
                ErrorKind::Unsupported,
                format!(
                    "component {name:?}: metadata field {field:?}: encryption at rest is not supported yet; remove the field to store values in clear"
                ),
            ));
        }
        let prefix = keys::prefix_of(name, metadata, &self.app_id, self.namespace.as_deref())?;
        let entry = Arc::new(Entry { store, prefix, usage: Usage::default() });
        let before = self.stores.rcu(|stores| {
            let mut stores = HashMap::clone(stores);
            stores.insert(name.to_owned(), entry.clone());
            stores
        });
        Ok(before.get(name).map(|entry| entry.retired()))
    }

    /// Removes a component and returns it, so that it can be closed.
    pub fn remove(&self, name: &str) -> Option<Retired<dyn StateStore>> {
        let before = self.stores.rcu(|stores| {
            let mut stores = HashMap::clone(stores);
            stores.remove(name);
            stores
        });
        before.get(name).map(|entry| entry.retired())
    }

    /// The component itself, for actors and workflows, which prefix keys their own way.
    pub fn component(&self, name: &str) -> Option<Arc<dyn StateStore>> {
        self.stores.load().get(name).map(|entry| entry.store.clone())
    }

    /// Whether a store of this name can be used.
    ///
    /// # Errors
    /// `ERR_STATE_STORE_NOT_CONFIGURED` without any store, `ERR_STATE_STORE_NOT_FOUND` for an unknown name.
    pub fn check(&self, store: &str) -> Result<(), ApiError> {
        self.entry(store).map(|_| ())
    }

    /// Whether a store of this name can be used for transactions.
    ///
    /// # Errors
    /// As [`Self::check`], and `ERR_STATE_STORE_NOT_SUPPORTED`.
    pub fn check_transactional(&self, store: &str) -> Result<(), ApiError> {
        self.entry(store)?.transactional(store).map(|_| ())
    }

    /// Finds values by a query in its JSON form; the answer has the app's keys.
    ///
    /// # Errors
    /// As [`Self::check`]; `ERR_STATE_STORE_NOT_SUPPORTED` for a store that cannot search; `ERR_STATE_QUERY`.
    pub async fn query(
        &self,
        store: &str,
        query: &str,
        metadata: BTreeMap<String, String>,
    ) -> Result<QueryResponse, ApiError> {
        let entry = {
            let stores = self.stores.load();
            match stores.get(store) {
                Some(entry) => entry.clone(),
                None if stores.is_empty() => return Err(errors::not_configured(store, "")),
                None => return Err(errors::not_found(store, "")),
            }
        };
        let querier = entry.store.querier().ok_or_else(|| errors::queries_not_supported(store))?;
        let request = query::parse(query, metadata).map_err(|problem| {
            errors::query_failed(store, &format_args!("failed to parse JSON query body: {problem}"), None)
        })?;
        let call = guarded(&self.policies, store, || querier.query(&request));
        let found = self.measured(store, "query", call).await;
        let mut found = found.map_err(|error| errors::query_failed(store, &error, Some(&error)))?;
        for item in &mut found.items {
            item.key = keys::original(&item.key).to_owned();
        }
        Ok(found)
    }

    /// Reads one key; `None` when absent.
    ///
    /// # Errors
    /// As [`Self::check`]; `ERR_MALFORMED_REQUEST` for a key with `||`; `ERR_STATE_GET`.
    pub async fn get(
        &self,
        store: &str,
        key: &str,
        consistency: Consistency,
        metadata: BTreeMap<String, String>,
    ) -> Result<Option<StateItem>, ApiError> {
        let entry = self.entry(store)?;
        let request = GetRequest { key: entry.key(store, key)?, metadata, consistency };
        let found = self.measured(store, "get", guarded(&self.policies, store, || entry.store.get(&request))).await;
        found.map_err(|error| errors::get_failed(store, key, &error))
    }

    /// Reads several keys; the answer has one item per key, in order, with the app's keys.
    ///
    /// # Errors
    /// As [`Self::get`], with `ERR_STATE_BULK_GET` when the whole call failed. The failure of one key is in its item.
    pub async fn bulk_get(
        &self,
        store: &str,
        keys: &[String],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<BulkGetItem>, ApiError> {
        let entry = self.entry(store)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut requests = Vec::with_capacity(keys.len());
        for key in keys {
            let key = entry.key(store, key)?;
            requests.push(GetRequest { key, metadata: metadata.clone(), consistency: Consistency::Unspecified });
        }
        let call = guarded(&self.policies, store, || entry.store.bulk_get(&requests));
        let found = self.measured(store, "bulk_get", call).await;
        let mut items = found.map_err(|error| errors::bulk_get_failed(&error))?;
        for item in &mut items {
            item.key = keys::original(&item.key).to_owned();
        }
        Ok(items)
    }

    /// Writes items, each on its own; none is a success.
    ///
    /// # Errors
    /// As [`Self::check`]; `ERR_MALFORMED_REQUEST` for a key with `||`; `ERR_STATE_SAVE` with 409 for a stale ETag and 400
    /// for a malformed one.
    pub async fn save(&self, store: &str, items: Vec<SetItem>) -> Result<(), ApiError> {
        let entry = self.entry(store)?;
        let mut requests = Vec::with_capacity(items.len());
        for item in items {
            requests.push(entry.set_request(store, item)?);
        }
        if requests.is_empty() {
            return Ok(());
        }
        let call = async {
            match requests.as_slice() {
                [request] => guarded(&self.policies, store, || entry.store.set(request)).await,
                requests => guard::bulk_set(&self.policies, store, &*entry.store, requests).await,
            }
        };
        let done = self.measured(store, "set", call).await;
        done.map_err(|error| errors::save_failed(store, &error))
    }

    /// Deletes one key; deleting an absent one without an ETag succeeds.
    ///
    /// # Errors
    /// As [`Self::save`], with `ERR_STATE_DELETE`.
    pub async fn delete(&self, store: &str, item: DeleteItem) -> Result<(), ApiError> {
        let entry = self.entry(store)?;
        let key = entry.key(store, &item.key)?;
        let request = delete_request(key, item.etag, item.metadata, item.concurrency, item.consistency);
        let call = guarded(&self.policies, store, || entry.store.delete(&request));
        let done = self.measured(store, "delete", call).await;
        done.map_err(|error| errors::delete_failed(&item.key, &error))
    }

    /// Deletes keys, each on its own; none is a success.
    ///
    /// # Errors
    /// As [`Self::save`], with `ERR_STATE_BULK_DELETE`.
    pub async fn bulk_delete(&self, store: &str, items: Vec<DeleteItem>) -> Result<(), ApiError> {
        let entry = self.entry(store)?;
        let mut requests = Vec::with_capacity(items.len());
        for item in items {
            requests.push(entry.delete_request(store, item)?);
        }
        if requests.is_empty() {
            return Ok(());
        }
        let call = async {
            match requests.as_slice() {
                [request] => guarded(&self.policies, store, || entry.store.delete(request)).await,
                requests => guard::bulk_delete(&self.policies, store, &*entry.store, requests).await,
            }
        };
        let done = self.measured(store, "bulk_delete", call).await;
        done.map_err(|error| errors::bulk_delete_failed(store, &error))
    }

    /// Applies all operations or none.
    ///
    /// # Errors
    /// As [`Self::check_transactional`]; `ERR_MALFORMED_REQUEST` for a key with `||`;
    /// `ERR_STATE_STORE_TOO_MANY_TRANSACTIONS`; `ERR_STATE_TRANSACTION`, also for ETag conflicts.
    pub async fn transact(
        &self,
        store: &str,
        operations: Vec<Operation>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let entry = self.entry(store)?;
        let transactional = entry.transactional(store)?;
        if operations.is_empty() {
            return Ok(());
        }
        let mut steps = Vec::with_capacity(operations.len());
        for operation in operations {
            steps.push(match operation {
                Operation::Upsert(item) => StateOperation::Upsert(entry.set_request(store, item)?),
                Operation::Delete(item) => StateOperation::Delete(entry.delete_request(store, item)?),
            });
        }
        if let Some(max) = transactional.max_operations().await.filter(|max| *max > 0 && steps.len() > *max) {
            return Err(errors::too_many_operations(store, steps.len(), max));
        }
        let request = TransactionRequest { operations: steps, metadata };
        let call = guarded(&self.policies, store, || transactional.transact(&request));
        let done = self.measured(store, "transaction", call).await;
        done.map_err(|error| errors::transaction_failed(&error))
    }

    /// One call of a store, with all its attempts, told to the metrics.
    async fn measured<T>(
        &self,
        store: &str,
        operation: &str,
        call: impl Future<Output = Result<T, ComponentError>>,
    ) -> Result<T, ComponentError> {
        let Some(metrics) = self.metrics.component() else { return call.await };
        let started = Instant::now();
        let result = call.await;
        metrics.state(store, operation, result.is_ok(), started.elapsed());
        result
    }

    fn entry(&self, store: &str) -> Result<Arc<Entry>, ApiError> {
        let stores = self.stores.load();
        match stores.get(store) {
            Some(entry) => Ok(entry.clone()),
            None if stores.is_empty() => Err(errors::not_configured(store, &self.app_id)),
            None => Err(errors::not_found(store, &self.app_id)),
        }
    }
}

impl Entry {
    fn retired(&self) -> Retired<dyn StateStore> {
        Retired { component: self.store.clone(), ended: self.usage.ended() }
    }

    fn key(&self, store: &str, key: &str) -> Result<String, ApiError> {
        check_key(store, key)?;
        let mut full = String::with_capacity(self.prefix.len() + key.len());
        full.push_str(&self.prefix);
        full.push_str(key);
        Ok(full)
    }

    fn transactional(&self, store: &str) -> Result<&dyn TransactionalStore, ApiError> {
        let offered = if self.store.capability().transactional { self.store.transactional() } else { None };
        offered.ok_or_else(|| errors::transactions_not_supported(store))
    }

    fn set_request(&self, store: &str, item: SetItem) -> Result<SetRequest, ApiError> {
        Ok(SetRequest {
            key: self.key(store, &item.key)?,
            value: item.value,
            value_is_json: item.value_is_json,
            etag: item.etag,
            metadata: item.metadata,
            concurrency: item.concurrency,
            consistency: item.consistency,
        })
    }

    fn delete_request(&self, store: &str, item: DeleteItem) -> Result<DeleteRequest, ApiError> {
        Ok(delete_request(self.key(store, &item.key)?, item.etag, item.metadata, item.concurrency, item.consistency))
    }
}

fn delete_request(
    key: String,
    etag: Option<String>,
    metadata: BTreeMap<String, String>,
    concurrency: pillion_contract::Concurrency,
    consistency: Consistency,
) -> DeleteRequest {
    DeleteRequest { key, etag, metadata, concurrency, consistency }
}

/// The names the metadata API prints for what a store can do.
pub fn capability_names(capability: StateCapability) -> Vec<&'static str> {
    let names = [
        (capability.etag, "ETAG"),
        (capability.transactional, "TRANSACTIONAL"),
        (capability.query, "QUERY_API"),
        (capability.ttl, "TTL"),
        (capability.delete_with_prefix, "DELETE_WITH_PREFIX"),
        (capability.keys_like, "KEYS_LIKE"),
        (capability.actor, "ACTOR"),
    ];
    names.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}
