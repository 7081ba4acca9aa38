//! One store of the table: how the app's requests become those of its component, and back.
//!
//! *Invariant:* a store without encryption gets the bytes the app gave, uncopied.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillion_contract::{
    BulkGetItem, ComponentError, Concurrency, Consistency, DeleteRequest, SetRequest, StateItem, StateStore,
    TransactionalStore,
};
use pillion_core::error::ApiError;

use super::encryption::Encryption;
use super::{DeleteItem, SetItem, check_key, errors};
use crate::outbox::Settings;
use crate::retired::{Retired, Usage};

/// A loaded state store.
pub(crate) struct Entry {
    pub(crate) store: Arc<dyn StateStore>,
    /// With its separator.
    pub(super) prefix: Box<str>,
    pub(super) encryption: Option<Encryption>,
    pub(crate) outbox: Option<Settings>,
    pub(super) usage: Usage,
}

impl Entry {
    pub(super) fn retired(&self) -> Retired<dyn StateStore> {
        Retired { component: self.store.clone(), ended: self.usage.ended() }
    }

    pub(super) fn key(&self, store: &str, key: &str) -> Result<String, ApiError> {
        check_key(store, key)?;
        let mut full = String::with_capacity(self.prefix.len() + key.len());
        full.push_str(&self.prefix);
        full.push_str(key);
        Ok(full)
    }

    pub(super) fn transactional(&self, store: &str) -> Result<&dyn TransactionalStore, ApiError> {
        let offered = if self.store.capability().transactional { self.store.transactional() } else { None };
        offered.ok_or_else(|| errors::transactions_not_supported(store))
    }

    /// The write of an item, encrypted where that is asked for.
    pub(super) fn set_request(&self, store: &str, mut item: SetItem) -> Result<SetRequest, ApiError> {
        self.close(store, &mut item).map_err(|error| errors::save_failed(store, &error))?;
        self.plain_set_request(store, item)
    }

    /// The write of an item whose value is what is to be stored.
    pub(super) fn plain_set_request(&self, store: &str, item: SetItem) -> Result<SetRequest, ApiError> {
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

    pub(super) fn delete_request(&self, store: &str, item: DeleteItem) -> Result<DeleteRequest, ApiError> {
        Ok(delete_request(self.key(store, &item.key)?, item.etag, item.metadata, item.concurrency, item.consistency))
    }

    /// Encrypts the value of an item, if this store wants that.
    pub(super) fn close(&self, store: &str, item: &mut SetItem) -> Result<(), ComponentError> {
        if let Some(encryption) = &self.encryption {
            let closed = encryption.encrypt(store, &item.text())?;
            item.value = closed;
            (item.value_is_json, item.is_document) = (false, false);
        }
        Ok(())
    }

    /// Decrypts what was read, if this store wants that.
    pub(super) fn opened(&self, store: &str, found: Option<StateItem>) -> Result<Option<StateItem>, ComponentError> {
        match (&self.encryption, found) {
            (Some(encryption), Some(item)) => {
                let data = encryption.decrypt(store, &item.data)?;
                Ok(Some(StateItem { data, ..item }))
            }
            (_, found) => Ok(found),
        }
    }

    /// As [`Self::opened`]; a value that cannot be decrypted is the failure of its key alone.
    pub(super) fn open_bulk_item(&self, store: &str, found: &mut BulkGetItem) {
        if self.encryption.is_none() || found.error.is_some() {
            return;
        }
        match self.opened(store, found.item.take()) {
            Ok(item) => found.item = item,
            Err(error) => found.error = Some(error.to_string()),
        }
    }
}

pub(super) fn delete_request(
    key: String,
    etag: Option<String>,
    metadata: BTreeMap<String, String>,
    concurrency: Concurrency,
    consistency: Consistency,
) -> DeleteRequest {
    DeleteRequest { key, etag, metadata, concurrency, consistency }
}
