//! Bulk subscriptions: messages are collected, handed to the app in one call per route, and answered one by one.
//!
//! *Source:* spec app_channel.md §4.3 and internals.md §9.2. *Neighbours:* `subscriptions` runs [`run`] for a subscription
//! with `bulkSubscribe`; [`DeliverySink::deliver_bulk`](super::DeliverySink::deliver_bulk) carries a batch to the app.
//! *Invariant:* one batch at a time, in the order of the broker; each message of it is answered to the broker by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use pillion_contract::{Delivery, Message, Outcome};
use pillion_resources::types::BulkSubscribe;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::delivery::{Attempt, DeliveryResult, Worker};
use super::envelope::{CloudEvent, from_raw, has_expired};
use super::subscriptions::{Current, DRAIN_QUIET, REST_LIMIT, answer};

const DEFAULT_COUNT: usize = 100;
const DEFAULT_AWAIT: Duration = Duration::from_secs(1);
/// Messages that go to the dead letter topic at a time.
const DEAD_LETTER_CONCURRENCY: usize = 100;

/// Events of one route, for one call of the app.
#[derive(Clone, Debug)]
pub struct BulkEvent {
    /// Id of the call.
    pub id: String,
    /// Topic without namespace prefix.
    pub topic: String,
    /// Component.
    pub pubsub_name: String,
    /// Route on the app.
    pub path: String,
    /// Metadata of the batch: `pubsubName`.
    pub metadata: BTreeMap<String, String>,
    /// The events.
    pub items: Vec<Arc<BulkItem>>,
}

/// One event of a batch.
#[derive(Debug)]
pub struct BulkItem {
    /// Made up for the call; the app answers by it.
    pub entry_id: String,
    /// The event; for a raw payload the one that stands for it.
    pub cloud_event: CloudEvent,
    /// The payload when the subscription is raw.
    pub raw: Option<Bytes>,
    /// Content type of the message, when the broker keeps it.
    pub content_type: Option<String>,
    /// Message metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Takes messages and processes them in batches until the subscription closes; a batch that was begun is still delivered, and
/// with `takes_rest` so is what comes until nothing has come for a while.
pub(super) async fn run(current: &Current, mut deliveries: mpsc::Receiver<Delivery>, takes_rest: impl Fn() -> bool) {
    let worker = current.get();
    let closing = worker.closing.clone();
    let (mut count, wait) = limits(worker.subscription.bulk_subscribe);
    if worker.pubsubs.gives_one_at_a_time(&worker.subscription.pubsub_name) {
        count = 1; // nothing would come while a batch waits for more
    }
    drop(worker);
    let mut open = true;
    while open && !closing.is_cancelled() {
        let mut batch: Vec<Delivery> = Vec::new();
        let mut flush_at = None;
        while batch.len() < count {
            let due = async {
                match flush_at {
                    Some(instant) => tokio::time::sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => {
                        // The wait counts from the first message of the batch.
                        flush_at.get_or_insert_with(|| Instant::now() + wait);
                        batch.push(delivery);
                    }
                    None => {
                        open = false;
                        break;
                    }
                },
                () = due => break,
            }
        }
        current.get().process_batch(batch).await;
    }
    if !open {
        return current.get().report_end();
    }
    let until = Instant::now() + REST_LIMIT;
    while takes_rest() && Instant::now() < until {
        let Ok(Some(first)) = tokio::time::timeout(DRAIN_QUIET, deliveries.recv()).await else { break };
        let mut batch = vec![first];
        while batch.len() < count
            && let Ok(delivery) = deliveries.try_recv()
        {
            batch.push(delivery);
        }
        current.get().process_batch(batch).await;
    }
}

/// Size of a batch and time its first message waits; values that are not positive mean the defaults.
fn limits(settings: BulkSubscribe) -> (usize, Duration) {
    let count = usize::try_from(settings.max_messages_count).ok().filter(|count| *count > 0).unwrap_or(DEFAULT_COUNT);
    let wait = u64::try_from(settings.max_await_duration_ms)
        .ok()
        .filter(|wait| *wait > 0)
        .map_or(DEFAULT_AWAIT, Duration::from_millis);
    (count, wait)
}

/// A message on its way through a batch.
struct Pending {
    item: Arc<BulkItem>,
    delivery: Delivery,
}

impl Worker {
    async fn process_batch(&self, batch: Vec<Delivery>) {
        let mut routes: Vec<(String, Vec<Pending>)> = Vec::new();
        let mut undeliverable = Vec::new();
        for delivery in batch {
            match self.prepare(&delivery.message) {
                Ok((path, item)) => {
                    let pending = Pending { item: Arc::new(item), delivery };
                    match routes.iter_mut().find(|(known, _)| *known == path) {
                        Some((_, group)) => group.push(pending),
                        None => routes.push((path, vec![pending])),
                    }
                }
                Err(end) => undeliverable.push((delivery, end)),
            }
        }
        self.finish(undeliverable).await;
        for (path, group) in routes {
            self.deliver_group(path, group).await;
        }
    }

    /// Reads and routes one message; the error says how it ends without the app.
    fn prepare(&self, message: &Message) -> Result<(String, BulkItem), End> {
        let (name, topic) = (&self.subscription.pubsub_name, &self.subscription.topic);
        let raw = match &self.raw {
            Ok(raw) => *raw,
            Err(problem) => {
                self.log.error(format_args!("error deserializing pubsub metadata: {problem}"));
                return Err(End::GiveUp);
            }
        };
        let cloud_event = if raw {
            from_raw(&message.data, topic, name)
        } else {
            serde_json::from_slice(&message.data).map_err(|problem| {
                self.log.error(format_args!(
                    "error deserializing one of the messages in bulk cloud event in pubsub {name} and topic {topic}: {problem}"
                ));
                End::GiveUp
            })?
        };
        if has_expired(&cloud_event) {
            let field = |name: &str| cloud_event.get(name).and_then(Value::as_str).unwrap_or_default();
            self.log.warn(format_args!("dropping expired pub/sub event {} as of {}", field("id"), field("expiration")));
            return Err(End::Discard);
        }
        let path = match self.router.route(&cloud_event) {
            Ok(Some(path)) => path.to_owned(),
            Ok(None) => {
                self.log.warn(format_args!("no matching route for event in pubsub {name} and topic {topic}; skipping"));
                return Err(End::Discard);
            }
            Err(problem) => {
                self.log.error(format_args!(
                    "error finding matching route for event in bulk subscribe {name} and topic {topic}: {problem}"
                ));
                return Err(End::GiveUp);
            }
        };
        let item = BulkItem {
            entry_id: Uuid::new_v4().to_string(),
            cloud_event,
            raw: raw.then(|| message.data.clone()),
            content_type: message.content_type.clone().filter(|text| !text.is_empty()),
            metadata: message.metadata.clone(),
        };
        Ok((path, item))
    }

    /// Calls the app until every event of the group has a final answer or the policy gives up; only what failed is tried again.
    async fn deliver_group(&self, path: String, group: Vec<Pending>) {
        let answers: Mutex<Vec<Option<DeliveryResult>>> = Mutex::new(vec![None; group.len()]);
        let attempt = || async {
            let left: Vec<usize> = {
                let answers = answers.lock();
                let unfinished =
                    |answer: &Option<DeliveryResult>| matches!(answer, None | Some(DeliveryResult::Retry(_)));
                answers.iter().enumerate().filter(|(_, answer)| unfinished(answer)).map(|(index, _)| index).collect()
            };
            let items = left.iter().filter_map(|index| group.get(*index)).map(|pending| pending.item.clone()).collect();
            let results = self.sink.deliver_bulk(&self.bulk_event(path.clone(), items)).await;
            let failure = results.iter().find_map(|result| match result {
                DeliveryResult::Retry(failure) => Some(failure.clone()),
                _ => None,
            });
            let mut answers = answers.lock();
            for (index, result) in left.into_iter().zip(results) {
                if let Some(answer) = answers.get_mut(index) {
                    *answer = Some(result);
                }
            }
            match failure {
                None => Ok(()),
                Some(failure) => {
                    self.log.warn(format_args!(
                        "bulk delivery to {path} for topic {} has failed events: {}",
                        self.subscription.topic, failure.message
                    ));
                    Err(Attempt { failure, closing: self.closing.is_cancelled() })
                }
            }
        };
        let started = Instant::now();
        let _ = self.attempts(attempt).await; // what is left is in `answers`
        self.count_batch(&answers.lock(), started.elapsed());
        let ended = group.into_iter().zip(answers.into_inner()).map(|(pending, answer)| {
            let end = match answer {
                Some(DeliveryResult::Success | DeliveryResult::Ignored) => End::Done,
                Some(DeliveryResult::Drop | DeliveryResult::Untaken) => End::Discard,
                _ if self.closing.is_cancelled() => End::GiveBack,
                _ => End::GiveUp,
            };
            (pending.delivery, end)
        });
        self.finish(ended.collect()).await;
    }

    /// Tells the metrics how many events of a batch ended with success, retry and drop.
    fn count_batch(&self, answers: &[Option<DeliveryResult>], elapsed: Duration) {
        let Some(metrics) = self.pubsubs.metrics.component() else { return };
        let mut counts = [0; 3];
        for answer in answers {
            counts[match answer {
                Some(DeliveryResult::Success) => 0,
                Some(DeliveryResult::Drop | DeliveryResult::Untaken | DeliveryResult::Ignored) => 2,
                Some(DeliveryResult::Retry(_)) | None => 1,
            }] += 1;
        }
        metrics.bulk_delivered(&self.subscription.topic, counts, elapsed);
    }

    fn bulk_event(&self, path: String, items: Vec<Arc<BulkItem>>) -> BulkEvent {
        let name = &self.subscription.pubsub_name;
        BulkEvent {
            id: Uuid::new_v4().to_string(),
            topic: self.subscription.topic.clone(),
            pubsub_name: name.clone(),
            path,
            metadata: BTreeMap::from([("pubsubName".to_owned(), name.clone())]),
            items,
        }
    }

    /// Answers the broker, after dead letters where the end asks for them.
    async fn finish(&self, ended: Vec<(Delivery, End)>) {
        let answers = ended.into_iter().map(|(Delivery { message, ack }, end)| async move {
            let outcome = match end {
                End::Done => Outcome::Ack,
                End::GiveBack => Outcome::Nack,
                End::Discard => self.discard(message).await,
                End::GiveUp => self.give_up(message).await,
            };
            answer(self, ack, outcome);
        });
        stream::iter(answers).buffered(DEAD_LETTER_CONCURRENCY).collect::<()>().await;
    }
}

/// How a message of a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// Nobody wants it: dead letter topic when there is one, and done.
    Discard,
    /// It could not be processed: dead letter topic when there is one, else back to the broker.
    GiveUp,
    /// Back to the broker.
    GiveBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_defaults() {
        let settings = |max_messages_count, max_await_duration_ms| BulkSubscribe {
            enabled: true,
            max_messages_count,
            max_await_duration_ms,
        };
        let cases = [
            (settings(0, 0), (100, Duration::from_secs(1))),
            (settings(-1, -5), (100, Duration::from_secs(1))),
            (settings(7, 40), (7, Duration::from_millis(40))),
        ];
        for (given, expected) in cases {
            assert_eq!(limits(given), expected, "{given:?}");
        }
    }
}
