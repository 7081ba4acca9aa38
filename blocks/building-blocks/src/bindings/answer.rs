//! What an app wants done with its answer to an event: values to save, and data for other bindings.
//!
//! *Source:* `BindingEventResponse` and spec app_channel.md §5. The original reads `to`, `data` and `concurrency` and takes no notice of
//! `store_name` and `states`; here these are saved, as the protocol says. *Invariant:* the event is answered whatever becomes of this;
//! failures go to the log.

use std::sync::Arc;

use bytes::Bytes;
use pillion_contract::{BindingRequest, Concurrency, Consistency};
use pillion_core::log::Logger;
use pillion_proto::common::v1::state_options::{StateConcurrency, StateConsistency};
use pillion_proto::common::v1::{Etag, StateItem};
use pillion_proto::runtime::v1::BindingEventResponse;
use pillion_proto::runtime::v1::binding_event_response::BindingEventConcurrency;

use super::output::OutputBindings;
use crate::state::{SetItem, StateStores};

/// The operation other bindings are asked for. *Source:* the original.
const CREATE: &str = "create";

/// Where answers lead.
#[derive(Clone)]
pub(super) struct Followers {
    pub(super) outputs: Arc<OutputBindings>,
    pub(super) states: Arc<StateStores>,
    pub(super) log: Logger,
}

impl Followers {
    /// Does what an answer asks for: states beside everything else, bindings one after another or side by side.
    pub(super) async fn follow(&self, answer: BindingEventResponse) {
        let is_parallel = answer.concurrency() == BindingEventConcurrency::Parallel;
        let BindingEventResponse { store_name, states, to, data, .. } = answer;
        tokio::join!(self.save(&store_name, states), self.pass_on(&to, payload(data), is_parallel));
    }

    async fn save(&self, store: &str, states: Vec<StateItem>) {
        if states.is_empty() {
            return;
        }
        if let Err(error) = self.states.save(store, states.into_iter().map(set_item).collect()).await {
            self.log.error(format_args!("error saving state from app response: {error}"));
        }
    }

    async fn pass_on(&self, to: &[String], data: Bytes, is_parallel: bool) {
        let send = |name: &String| {
            let request =
                BindingRequest { operation: CREATE.to_owned(), data: data.clone(), ..BindingRequest::default() };
            let name = name.clone();
            async move { self.outputs.send(&name, &request).await }
        };
        if is_parallel {
            for error in futures_util::future::join_all(to.iter().map(send)).await.into_iter().filter_map(Result::err) {
                self.log.error(format_args!("{error}"));
            }
            return;
        }
        for name in to {
            if let Err(error) = send(name).await {
                self.log.error(format_args!("error executing app response: {error}"));
                return; // those after it are not asked, as in the original
            }
        }
    }
}

/// Bindings get JSON; what is none is null, as in the original.
fn payload(data: Bytes) -> Bytes {
    match serde_json::from_slice::<serde_json::Value>(&data) {
        Ok(value) => value.to_string().into(),
        Err(_) => Bytes::from_static(b"null"),
    }
}

fn set_item(item: StateItem) -> SetItem {
    let options = item.options.unwrap_or_default();
    SetItem {
        key: item.key,
        value: item.value,
        etag: item.etag.map(|Etag { value }| value),
        metadata: item.metadata.into_iter().collect(),
        concurrency: match options.concurrency() {
            StateConcurrency::ConcurrencyUnspecified => Concurrency::Unspecified,
            StateConcurrency::ConcurrencyFirstWrite => Concurrency::FirstWrite,
            StateConcurrency::ConcurrencyLastWrite => Concurrency::LastWrite,
        },
        consistency: match options.consistency() {
            StateConsistency::ConsistencyUnspecified => Consistency::Unspecified,
            StateConsistency::ConsistencyEventual => Consistency::Eventual,
            StateConsistency::ConsistencyStrong => Consistency::Strong,
        },
        ..SetItem::default()
    }
}
