//! Transactions, and the events that go with them where the store has an outbox.
//!
//! *Source:* spec internals.md §9.3. *Neighbours:* [`crate::outbox`] makes the events and sends them on once the transaction is
//! committed. *Invariant:* an event is with the broker before the transaction begins; only the marker that the transaction
//! writes lets it go on to the topic.

use std::collections::BTreeMap;

use pillion_contract::{SetRequest, StateOperation, TransactionRequest};
use pillion_core::error::{ApiError, table};

use super::guard::guarded;
use super::{CallTrace, Operation, StateStores, check_key, errors};
use crate::outbox::{Announcement, Settings, marker, split};

impl StateStores {
    /// Whether a store of this name can be used for transactions.
    ///
    /// # Errors
    /// As [`Self::check`], and `ERR_STATE_STORE_NOT_SUPPORTED`.
    pub fn check_transactional(&self, store: &str) -> Result<(), ApiError> {
        self.entry(store)?.transactional(store).map(|_| ())
    }

    /// Applies all operations or none. `trace` is asked for the trace of the call when the store has an outbox.
    ///
    /// # Errors
    /// As [`Self::check_transactional`]; `ERR_MALFORMED_REQUEST` for a key with `||`;
    /// `ERR_STATE_STORE_TOO_MANY_TRANSACTIONS`; `ERR_PUBLISH_OUTBOX`; `ERR_STATE_TRANSACTION`, also for ETag conflicts.
    pub async fn transact(
        &self,
        store: &str,
        mut operations: Vec<Operation>,
        metadata: BTreeMap<String, String>,
        trace: impl FnOnce() -> CallTrace + Send,
    ) -> Result<(), ApiError> {
        let entry = self.entry(store)?;
        let transactional = entry.transactional(store)?;
        if operations.is_empty() {
            return Ok(());
        }
        if entry.outbox.is_some() {
            // Events are given to the broker before the steps are made.
            operations.iter().try_for_each(|operation| check_key(store, operation.key()))?;
        }
        if let Some(max) = transactional.max_operations().await.filter(|max| *max > 0 && operations.len() > *max) {
            return Err(errors::too_many_operations(store, operations.len(), max));
        }
        if entry.encryption.is_some() {
            for operation in &mut operations {
                if let Operation::Upsert(item) = operation {
                    entry.close(store, item).map_err(|error| errors::save_failed(store, &error))?;
                }
            }
        }
        let mut markers = Vec::new();
        if let Some(settings) = &entry.outbox {
            (operations, markers) = self.announce(settings, operations, &trace()).await?;
        }
        let mut steps = Vec::with_capacity(operations.len() + markers.len());
        for operation in operations {
            steps.push(match operation {
                Operation::Upsert(item) => StateOperation::Upsert(entry.plain_set_request(store, item)?),
                Operation::Delete(item) => StateOperation::Delete(entry.delete_request(store, item)?),
            });
        }
        steps.extend(markers.into_iter().map(StateOperation::Upsert));
        if steps.is_empty() {
            return Ok(()); // nothing but projections
        }
        let request = TransactionRequest { operations: steps, metadata };
        let call = guarded(&self.policies, store, || transactional.transact(&request));
        let done = self.measured(store, "transaction", call).await;
        done.map_err(|error| errors::transaction_failed(&error))
    }

    /// Gives the broker an event for each upsert. Returns the operations without projections, and the markers that belong into
    /// the transaction with them.
    async fn announce(
        &self,
        settings: &Settings,
        operations: Vec<Operation>,
        trace: &CallTrace,
    ) -> Result<(Vec<Operation>, Vec<SetRequest>), ApiError> {
        let failed = |error: &str| {
            ApiError::of(&table::PUBSUB_OUTBOX, &[&error]).info(&[("appID", &self.app_id), ("error", error)])
        };
        let Some(pubsubs) = &self.pubsubs else { return Err(failed("this sidecar has no pub/sub")) };
        let topic = settings.internal_topic(pubsubs);
        let (operations, projections) = split(operations);
        let mut markers = Vec::new();
        for operation in &operations {
            let Operation::Upsert(item) = operation else { continue };
            let marker = marker();
            let announcement = Announcement {
                id: &marker.key,
                app_id: &self.app_id,
                pubsub_name: &settings.outbox_pubsub,
                payload: projections.get(&item.key).unwrap_or(item),
                attributes: &item.metadata,
                trace,
            };
            let event = announcement.to_event().map_err(|error| failed(&error.to_string()))?;
            let sent = pubsubs.publish_internal(&settings.outbox_pubsub, &topic, event.into(), None).await;
            sent.map_err(|error| failed(&error))?;
            markers.push(marker);
        }
        Ok((operations, markers))
    }
}
