//! `pubsub.embedded`: a durable broker in a directory, shared by all sidecars of one machine, without a server.
//!
//! *Job:* what is published is stored in a SQLite database and delivered at least once to each consumer group, whichever
//! process its members live in. *Neighbours:* [`engine`] is the only thread that touches the database, a [`pump`] per
//! subscription carries messages to the caller, [`wake`] and [`member`] make other processes hear of a message and of a
//! death. *Invariant:* a publish is answered after its commit, and a message leaves a group only by an ack that is
//! committed; a process that is killed at any point loses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pillion_contract::{
    BulkEntryError, ComponentError, Delivery, ErrorKind, InitContext, PubSub, PubSubCapability, PublishRequest,
    SubscribeRequest,
};
use pillion_core::duration;
use pillion_core::log::Logger;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use clock::now_ms;
use engine::{Engine, Outgoing};
use fault::Fault;
use settings::Settings;

mod checkpoint;
mod claim;
mod clock;
mod database;
mod engine;
mod fault;
mod maintenance;
mod member;
mod pump;
mod purge;
mod queries;
mod settings;
mod transaction;
mod wake;
mod worker;

/// The component; see the module text.
pub struct EmbeddedPubSub {
    engine: Engine,
    settings: Settings,
    tasks: TaskTracker,
    stop: CancellationToken,
    log: Logger,
    _stop_when_dropped: DropGuard,
}

/// Opens or creates the broker's directory.
///
/// # Errors
/// `InvalidRequest` for wrong metadata; `Unavailable` or `Internal` when the directory cannot be used, `Unsupported` when
/// a newer version of Pillion wrote it; nothing in it is changed then.
pub async fn create(context: InitContext) -> Result<Arc<dyn PubSub>, ComponentError> {
    let settings = Settings::read(&context)?;
    let engine = Engine::start(&settings, &context.app_id, &context.log).await?;
    let stop = context.cancel.child_token();
    let tasks = TaskTracker::new();
    tasks.spawn(tick(engine.clone(), settings.poll_interval, stop.clone()));
    let guard = stop.clone().drop_guard();
    Ok(Arc::new(EmbeddedPubSub { engine, settings, tasks, stop, log: context.log, _stop_when_dropped: guard }))
}

/// Lets the engine look for what no wake-up told of: messages, dead members, old messages.
async fn tick(engine: Engine, interval: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        engine.tick();
    }
}

#[async_trait]
impl PubSub for EmbeddedPubSub {
    fn capability(&self) -> PubSubCapability {
        PubSubCapability { message_ttl: true, bulk_publish: true, ..PubSubCapability::default() }
    }

    /// Returns when the message is committed.
    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError> {
        Ok(self.engine.publish(vec![outgoing(request)?]).await?)
    }

    /// Commits all entries together; only entries with a wrong TTL fail on their own.
    async fn bulk_publish(&self, requests: Vec<PublishRequest>) -> Result<Vec<BulkEntryError>, ComponentError> {
        let (mut messages, mut failed) = (Vec::with_capacity(requests.len()), Vec::new());
        for (index, request) in requests.into_iter().enumerate() {
            match outgoing(request) {
                Ok(message) => messages.push(message),
                Err(fault) => failed.push(BulkEntryError { index, error: fault.message }),
            }
        }
        if !messages.is_empty() {
            self.engine.publish(messages).await?;
        }
        Ok(failed)
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError> {
        if self.stop.is_cancelled() {
            return Err(Fault::closed().into());
        }
        let subscription = self.engine.join(request.topic, self.settings.consumer_id.clone()).await?;
        let (deliveries, receiver) = mpsc::channel(self.settings.max_in_flight);
        let pump = pump::Pump {
            engine: self.engine.clone(),
            subscription,
            deliveries,
            retry_after: self.settings.poll_interval,
            stop: self.stop.clone(),
            log: self.log.clone(),
        };
        self.tasks.spawn(pump.run());
        Ok(receiver)
    }

    /// Gives back what is not answered and leaves the directory; other processes go on with it.
    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.engine.close().await;
        Ok(())
    }
}

fn outgoing(request: PublishRequest) -> Result<Outgoing, Fault> {
    let expires_at = time_to_live(&request.metadata)?.map(|ttl| clock::after(now_ms(), ttl));
    let metadata = if request.metadata.is_empty() { None } else { Some(metadata_text(&request.metadata)) };
    Ok(Outgoing { topic: request.topic, data: request.data, content_type: request.content_type, metadata, expires_at })
}

fn metadata_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of texts is always JSON")
}

/// `ttl` or `ttlInSeconds` in any case: whole seconds, or a Go duration, above zero. *Source:* the original's `TryGetTTL`.
fn time_to_live(metadata: &BTreeMap<String, String>) -> Result<Option<Duration>, Fault> {
    let find = |name: &str| metadata.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty());
    let Some((key, text)) = find("ttl").or_else(|| find("ttlInSeconds")) else { return Ok(None) };
    let ttl = text.parse::<u64>().map(Duration::from_secs).or_else(|_| duration::parse_go(text));
    match ttl {
        Ok(ttl) if !ttl.is_zero() => Ok(Some(ttl)),
        _ => {
            let message = format!(
                "message metadata {key}: {text:?} is not a time to live: expected whole seconds above zero or a duration such as 90s"
            );
            Err(Fault::new(ErrorKind::InvalidRequest, message))
        }
    }
}

#[cfg(test)]
mod tests;
