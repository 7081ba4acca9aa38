//! Takes events from an internal topic and, once their transactions are committed, sends them on.
//!
//! *Neighbours:* the block of subscriptions runs it as the sink of a subscription of its own. *Invariant:* an event that was not sent on
//! is answered with "again", unless its store says that such events are dropped.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pillion_contract::{ComponentError, DeleteRequest, GetRequest};
use pillion_core::log::Logger;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::pubsub::content_type::is_binary;
use crate::pubsub::{DeliveryFailure, DeliveryResult, DeliverySink, Event, PubSubs};
use crate::state::{Entry, StateStores};

/// Before the first look at a marker. The original waits a second, which every event then takes at least, also one that waits
/// behind it at a broker that gives one at a time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Each pause is longer than the one before by this factor. *Source:* the original's.
const PAUSE_FACTOR: u32 = 3;
/// The longest pause. *Source:* the original's.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a transaction may take to be committed. *Source:* the original's second and ten more.
const COMMIT_LIMIT: Duration = Duration::from_secs(11);
/// The same once the sidecar ends: its transactions are ending too.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(1);
/// How long it is tried to delete a marker. *Source:* the original's.
const DELETE_LIMIT: Duration = Duration::from_secs(10);
/// Before a marker is tried to be deleted again.
const DELETE_PAUSE: Duration = Duration::from_millis(500);

/// The sink of one internal topic. Its stores are looked up for each event, as they may be replaced meanwhile.
pub(super) struct Relay {
    pub(super) states: Arc<StateStores>,
    pub(super) pubsubs: Arc<PubSubs>,
    pub(super) pubsub_name: String,
    pub(super) topic: String,
    /// Cancelled once events may go on.
    pub(super) released: CancellationToken,
    pub(super) closing: CancellationToken,
    pub(super) log: Logger,
}

/// Where the marker of an event is.
struct Committed {
    entry: Arc<Entry>,
    settings: Settings,
}

/// No store has the marker of an event.
struct Missing {
    problem: String,
    publish_pubsub: String,
    discard: bool,
}

#[async_trait]
impl DeliverySink for Relay {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        tokio::select! {
            biased;
            () = self.released.cancelled() => {}
            () = self.closing.cancelled() => return again("the sidecar ends".to_owned()),
        }
        let Committed { entry, settings } = match self.committed(event.attribute("id")).await {
            Ok(committed) => committed,
            Err(missing) => return self.give_up(missing),
        };
        let sent = self.send_on(event, &settings).await;
        let done = match sent {
            Ok(()) => delete_marker(&entry, event.attribute("id"), &self.closing).await,
            Err(problem) => Err(problem),
        };
        done.map_or_else(again, |()| DeliveryResult::Success)
    }

    fn is_internal(&self) -> bool {
        true
    }
}

impl Relay {
    /// Waits for the marker of an event in one of the stores that share the topic.
    async fn committed(&self, id: &str) -> Result<Committed, Missing> {
        let mut deadline = Instant::now() + COMMIT_LIMIT;
        let mut pause = FIRST_PAUSE;
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    pause = FIRST_PAUSE;
                    deadline = deadline.min(Instant::now() + LAST_COMMIT_LIMIT);
                    continue;
                }
                () = tokio::time::sleep(pause) => {}
            }
            let missing = match self.look(id).await {
                Ok(committed) => return Ok(committed),
                Err(missing) => missing,
            };
            if Instant::now() >= deadline {
                return Err(missing);
            }
            pause = (pause * PAUSE_FACTOR).min(LONGEST_PAUSE).min(deadline - Instant::now());
        }
    }

    async fn look(&self, id: &str) -> Result<Committed, Missing> {
        let mut missing: Option<Missing> = None;
        for (_, entry) in self.states.with_outboxes() {
            let Some(settings) = entry.outbox.clone() else { continue };
            if settings.outbox_pubsub != self.pubsub_name || settings.internal_topic(&self.pubsubs) != self.topic {
                continue;
            }
            let request = GetRequest { key: id.to_owned(), ..GetRequest::default() };
            let problem = match entry.store.get(&request).await {
                Ok(Some(item)) if !item.data.is_empty() => return Ok(Committed { entry, settings }),
                // Wire text of the original.
                Ok(_) => format!(
                    "cannot publish outbox message to topic {} with pubsub {}: outbox state not found",
                    settings.publish_topic, settings.publish_pubsub
                ),
                Err(error) => error.to_string(),
            };
            // One store that wants its events kept is enough to keep this one, as it may be its.
            let discard = settings.discard_when_missing_state && missing.as_ref().is_none_or(|missing| missing.discard);
            missing = Some(Missing { problem, publish_pubsub: settings.publish_pubsub, discard });
        }
        Err(missing.unwrap_or_else(|| Missing {
            problem: format!("cannot get outbox state: no state store with an outbox has the topic {}", self.topic),
            publish_pubsub: self.pubsub_name.clone(),
            discard: false,
        }))
    }

    fn give_up(&self, missing: Missing) -> DeliveryResult {
        let Missing { problem, publish_pubsub, discard } = missing;
        let fate = if discard { "discarding message" } else { "rejecting for later processing" };
        self.log.error(format_args!("failed to publish outbox topic to pubsub {publish_pubsub}: {problem}, {fate}"));
        if discard { DeliveryResult::Ignored } else { again(problem) }
    }

    async fn send_on(&self, event: &Event, settings: &Settings) -> Result<(), String> {
        let mut cloud_event = event.cloud_event.clone();
        cloud_event.insert("topic".to_owned(), settings.publish_topic.as_str().into());
        cloud_event.insert("pubsubname".to_owned(), settings.publish_pubsub.as_str().into());
        let data = serde_json::to_vec(&cloud_event).map_err(|error| error.to_string())?;
        // A binary type would say that the whole message is bytes, which it is not: it is the JSON of an event with bytes in it.
        let content_type = cloud_event.get("datacontenttype").and_then(Value::as_str).filter(|name| !is_binary(name));
        let content_type = content_type.map(str::to_owned);
        self.pubsubs
            .publish_internal(&settings.publish_pubsub, &settings.publish_topic, Bytes::from(data), content_type)
            .await
    }
}

async fn delete_marker(entry: &Entry, id: &str, closing: &CancellationToken) -> Result<(), String> {
    let request = DeleteRequest { key: id.to_owned(), ..DeleteRequest::default() };
    let deadline = Instant::now() + DELETE_LIMIT;
    let mut pause = DELETE_PAUSE;
    loop {
        let failure: ComponentError = match entry.store.delete(&request).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if closing.is_cancelled() || Instant::now() + pause >= deadline {
            return Err(failure.to_string());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * PAUSE_FACTOR).min(LONGEST_PAUSE);
    }
}

fn again(message: String) -> DeliveryResult {
    DeliveryResult::Retry(DeliveryFailure { message, status: None })
}
