//! The transactional outbox: what a transaction of a state store changes is published, if and only if it is committed.
//!
//! *Job:* the settings of a store, the events of its transactions ([`Announcement`]), and the sidecar's own subscriptions that
//! send them on ([`Outbox`]). *Source:* spec internals.md §9.3, dapr `pkg/runtime/pubsub/outbox.go`; topics, markers and events are the
//! same, so that replicas of both kinds end each other's work. *Neighbours:* `state` puts events and markers into its transactions;
//! `pubsub` carries them; `sidecar` starts an [`Outbox`] and tells it of changes. *Invariant:* an event goes to the topic only
//! after its marker was read from the store, and the marker is deleted only after the broker took the event.

mod event;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pillion_contract::Metadata;
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;

use crate::pubsub::{DeliverySink, PubSubs, Subscriptions};
use crate::state::StateStores;
use relay::Relay;

pub(crate) use event::{Announcement, marker, split};

/// The outbox of one state store, as its metadata say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Component the event goes to in the end.
    pub(crate) publish_pubsub: String,
    /// Topic the event goes to in the end.
    pub(crate) publish_topic: String,
    /// Component that keeps the event until the transaction is committed.
    pub(crate) outbox_pubsub: String,
    /// Events whose transaction was not committed are dropped, not delivered again.
    pub(crate) discard_when_missing_state: bool,
}

impl Settings {
    /// `None` without both `outboxPublishPubsub` and `outboxPublishTopic`.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        let given = |name: &str| metadata.get(name).filter(|value| !value.is_empty());
        let publish_pubsub = given("outboxPublishPubsub")?;
        Some(Self {
            publish_pubsub: publish_pubsub.to_owned(),
            publish_topic: given("outboxPublishTopic")?.to_owned(),
            outbox_pubsub: given("outboxPubsub").unwrap_or(publish_pubsub).to_owned(),
            discard_when_missing_state: metadata.bool("outboxDiscardWhenMissingState"),
        })
    }

    /// The topic on which events wait. *Source:* the original; there is nothing between the parts.
    pub(crate) fn internal_topic(&self, pubsubs: &PubSubs) -> String {
        format!("{}{}{}outbox", pubsubs.namespace(), pubsubs.app_id(), self.publish_topic)
    }
}

/// The subscriptions to the internal topics of one sidecar.
pub struct Outbox {
    states: Arc<StateStores>,
    pubsubs: Arc<PubSubs>,
    subscriptions: Arc<Subscriptions>,
    is_started: AtomicBool,
    /// Cancelled once the app gets its events.
    app_is_there: CancellationToken,
    log: Logger,
}

impl Outbox {
    /// Makes it; nothing is subscribed to yet.
    pub fn new(
        states: Arc<StateStores>,
        pubsubs: Arc<PubSubs>,
        subscriptions: Arc<Subscriptions>,
        log: &Logger,
    ) -> Self {
        let (is_started, app_is_there) = (AtomicBool::new(false), CancellationToken::new());
        Self { states, pubsubs, subscriptions, is_started, app_is_there, log: log.scope("dapr.outbox") }
    }

    /// Subscribes to the internal topics of all stores that have an outbox, so that none of their events is lost. To be called before
    /// the first transaction. The original subscribes when it has found the app.
    pub async fn start(&self) {
        self.is_started.store(true, Ordering::Relaxed);
        self.refresh().await;
    }

    /// Lets events go on to their topics. To be called when the app gets its events, as those of a broker in memory would find nobody
    /// before.
    pub fn release(&self) {
        self.app_is_there.cancel();
    }

    /// Follows the loaded components: new outboxes are subscribed to, those of no store end. Does nothing before [`Self::start`].
    pub async fn refresh(&self) {
        if !self.is_started.load(Ordering::Relaxed) {
            return;
        }
        let mut wanted: BTreeMap<(String, String), Arc<dyn DeliverySink>> = BTreeMap::new();
        for (_, entry) in self.states.with_outboxes() {
            let Some(settings) = &entry.outbox else { continue };
            let topic = settings.internal_topic(&self.pubsubs);
            if !self.pubsubs.contains(&settings.outbox_pubsub) {
                let name = &settings.outbox_pubsub;
                self.log.warn(format_args!(
                    "could not subscribe to internal outbox topic: outbox pubsub {name} not loaded"
                ));
                continue;
            }
            wanted.entry((settings.outbox_pubsub.clone(), topic)).or_insert_with_key(|(pubsub_name, topic)| {
                Arc::new(Relay {
                    states: self.states.clone(),
                    pubsubs: self.pubsubs.clone(),
                    pubsub_name: pubsub_name.clone(),
                    topic: topic.clone(),
                    released: self.app_is_there.clone(),
                    closing: self.subscriptions.closed(),
                    log: self.log.clone(),
                })
            });
        }
        for ((pubsub_name, topic), problem) in self.subscriptions.follow_internal(wanted).await {
            self.log.error(format_args!(
                "could not subscribe to internal outbox topic {topic} of pubsub {pubsub_name}: {problem}"
            ));
        }
    }
}
