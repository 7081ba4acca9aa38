//! The secrets building block: reads of the loaded secret stores, limited by the Configuration's scopes.
//!
//! *Job:* find the store, ask the scope, call it, name what went wrong. *Neighbours:* the fronts call [`SecretStores`];
//! the component loader uses [`SecretStores::component`], which no scope limits. *Invariant:* no secret of a denied name
//! leaves this block, and no error text holds a secret.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use pillion_contract::{SecretBundle, SecretStore};
use pillion_core::error::{ApiError, table};
use pillion_resources::SecretsScope;
use pillion_runtime::resiliency::{self, ComponentKind, Policies};
use pillion_telemetry::metrics::Metrics;

#[cfg(test)]
mod tests;

/// The loaded secret stores of one sidecar; components can be added and removed while calls are under way.
pub struct SecretStores {
    stores: ArcSwap<HashMap<String, Arc<dyn SecretStore>>>,
    policies: Arc<Policies>,
    metrics: Metrics,
    scopes: HashMap<String, SecretsScope>,
}

impl SecretStores {
    /// Makes the block without stores. `scopes` is `spec.secrets.scopes` of the Configuration.
    pub fn new(scopes: impl IntoIterator<Item = SecretsScope>, policies: Arc<Policies>) -> Self {
        Self {
            stores: ArcSwap::default(),
            policies,
            metrics: Metrics::off(),
            scopes: scopes.into_iter().map(|scope| (scope.store_name.clone(), scope)).collect(),
        }
    }

    /// The same, recording what stores are asked.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Adds a component, replacing one of the same name.
    pub fn add(&self, name: &str, store: Arc<dyn SecretStore>) {
        self.stores.rcu(|stores| {
            let mut stores = HashMap::clone(stores);
            stores.insert(name.to_owned(), store.clone());
            stores
        });
    }

    /// Removes a component; calls that began before go on with it.
    pub fn remove(&self, name: &str) {
        self.stores.rcu(|stores| {
            let mut stores = HashMap::clone(stores);
            stores.remove(name);
            stores
        });
    }

    /// The component itself, for `secretKeyRef`s of manifests; scopes are for apps and do not apply.
    pub fn component(&self, name: &str) -> Option<Arc<dyn SecretStore>> {
        self.stores.load().get(name).cloned()
    }

    /// Reads one secret.
    ///
    /// # Errors
    /// `ERR_SECRET_STORES_NOT_CONFIGURED` without any store, `ERR_SECRET_STORE_NOT_FOUND` for an unknown name,
    /// `ERR_PERMISSION_DENIED` when the scope denies the secret, `ERR_SECRET_GET` for the component's error.
    pub async fn get(
        &self,
        store: &str,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<SecretBundle, ApiError> {
        let component = self.find(store)?;
        if !self.is_allowed(store, key) {
            let names = [format!("{key:?}"), format!("{store:?}")];
            return Err(ApiError::of(&table::SECRET_PERMISSION_DENIED, &[&names[0], &names[1]]));
        }
        let policy = self.policies.component_outbound(store, ComponentKind::Secretstore);
        let call = resiliency::run(policy.as_deref(), |_| component.get(key, metadata));
        self.measured(store, "get", call)
            .await
            .map_err(|error| ApiError::of(&table::SECRET_GET, &[&key, &store, &error]))
    }

    /// Reads all secrets the scope allows, by name.
    ///
    /// # Errors
    /// As [`Self::get`], without `ERR_PERMISSION_DENIED`: denied secrets are left out.
    pub async fn bulk_get(
        &self,
        store: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, SecretBundle>, ApiError> {
        let component = self.find(store)?;
        let policy = self.policies.component_outbound(store, ComponentKind::Secretstore);
        let call = resiliency::run(policy.as_deref(), |_| component.bulk_get(metadata));
        let found = self.measured(store, "bulk_get", call).await;
        let mut secrets = found.map_err(|error| ApiError::of(&table::SECRET_BULK_GET, &[&store, &error]))?;
        secrets.retain(|name, _| self.is_allowed(store, name));
        Ok(secrets)
    }

    /// One call of a store, with all its attempts, told to the metrics.
    async fn measured<T, E>(
        &self,
        store: &str,
        operation: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(metrics) = self.metrics.component() else { return call.await };
        let started = Instant::now();
        let result = call.await;
        metrics.secret(store, operation, result.is_ok(), started.elapsed());
        result
    }

    fn find(&self, store: &str) -> Result<Arc<dyn SecretStore>, ApiError> {
        let stores = self.stores.load();
        match stores.get(store) {
            Some(found) => Ok(found.clone()),
            None if stores.is_empty() => Err(ApiError::of(&table::SECRET_STORES_NOT_CONFIGURED, &[])),
            None => Err(ApiError::of(&table::SECRET_STORE_NOT_FOUND, &[&store])),
        }
    }

    /// A list of allowed secrets decides alone; otherwise the denied list, otherwise the default. A store without scope is open.
    fn is_allowed(&self, store: &str, key: &str) -> bool {
        let Some(scope) = self.scopes.get(store) else { return true };
        if !scope.allowed.is_empty() {
            return scope.allowed.iter().any(|name| name == key);
        }
        !scope.deny_by_default && !scope.denied.iter().any(|name| name == key)
    }
}
