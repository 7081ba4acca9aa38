//! The state building block: keys per app, ETags, bulk calls and transactions over the loaded state stores.
//!
//! *Job:* find the store, prefix keys, call it, name what went wrong. *Neighbours:* the fronts call [`StateStores`] with
//! the app's own keys; components see prefixed keys only, and encrypted values where the component has keys for it
//! ([`encryption`]). *Invariant:* no call clones metadata it was given, and a read allocates one string, the prefixed key, before
//! the component is called. Calls run under the outbound policy of the component; a store without one pays a look-up for it, one
//! without encryption and outbox the look at a field.

mod encryption;
mod entry;
mod errors;
mod guard;
mod keys;
mod query;
mod request;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use pillion_contract::{
    BulkGetItem, ComponentError, Consistency, GetRequest, Metadata, QueryResponse, StateCapability, StateItem,
    StateStore,
};
use pillion_core::error::ApiError;
use pillion_resources::types::NameValue;
use pillion_runtime::resiliency::Policies;
use pillion_telemetry::metrics::Metrics;

use entry::delete_request;
use guard::guarded;

use crate::outbox::Settings;
use crate::pubsub::PubSubs;
use crate::retired::{Retired, Usage};

pub(crate) use entry::Entry;
pub use errors::{check_key, operation_not_supported};
pub use keys::{SEPARATOR, original as original_key};
pub use request::{CallTrace, DeleteItem, Operation, SetItem, merge_metadata, parse_concurrency, parse_consistency};

/// The loaded state stores of one sidecar; components can be added and removed while calls are under way.
pub struct StateStores {
    app_id: String,
    namespace: Option<String>,
    policies: Arc<Policies>,
    metrics: Metrics,
    /// Where outboxes publish.
    pubsubs: Option<Arc<PubSubs>>,
    stores: ArcSwap<HashMap<String, Arc<Entry>>>,
}

impl StateStores {
    /// Makes the block without stores. `namespace` is the environment variable `NAMESPACE`, `None` when unset.
    pub fn new(app_id: &str, namespace: Option<&str>, policies: Arc<Policies>) -> Self {
        Self {
            app_id: app_id.to_owned(),
            namespace: namespace.map(str::to_owned),
            policies,
            metrics: Metrics::off(),
            pubsubs: None,
            stores: ArcSwap::default(),
        }
    }

    /// The same, recording what stores are asked.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, with the brokers that outboxes publish to; without them a transaction of a store with an outbox fails.
    #[must_use]
    pub fn with_outbox(self, pubsubs: Arc<PubSubs>) -> Self {
        Self { pubsubs: Some(pubsubs), ..self }
    }

    /// Adds a component, replacing one of the same name, which is returned. `items`: its metadata as written, which names the
    /// secrets of its encryption keys.
    ///
    /// # Errors
    /// `InvalidRequest` for a `keyPrefix` with `||`, and for encryption keys that cannot be used.
    pub fn add(
        &self,
        name: &str,
        store: Arc<dyn StateStore>,
        metadata: &Metadata,
        items: &[NameValue],
    ) -> Result<Option<Retired<dyn StateStore>>, ComponentError> {
        let entry = Arc::new(Entry {
            store,
            prefix: keys::prefix_of(name, metadata, &self.app_id, self.namespace.as_deref())?,
            encryption: encryption::Encryption::of(name, metadata, items)?,
            outbox: Settings::of(metadata),
            usage: Usage::default(),
        });
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

    /// Whether a store encrypts what it is given.
    pub fn is_encrypted(&self, store: &str) -> bool {
        self.stores.load().get(store).is_some_and(|entry| entry.encryption.is_some())
    }

    /// The stores with an outbox, with their names.
    pub(crate) fn with_outboxes(&self) -> Vec<(String, Arc<Entry>)> {
        let stores = self.stores.load();
        let with_outbox = stores.iter().filter(|(_, entry)| entry.outbox.is_some());
        with_outbox.map(|(name, entry)| (name.clone(), entry.clone())).collect()
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
        if entry.encryption.is_some() {
            return Err(errors::query_failed(store, &"cannot query encrypted store", None));
        }
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
        found.and_then(|item| entry.opened(store, item)).map_err(|error| errors::get_failed(store, key, &error))
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
            entry.open_bulk_item(store, item);
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
