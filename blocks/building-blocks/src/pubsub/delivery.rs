//! One message on its way to the app: decode, expire, route, deliver, retry, dead letter.
//!
//! *Source:* spec app_channel.md §4.2.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pillion_contract::{Message, Outcome};
use pillion_core::board::Board;
use pillion_core::log::Logger;
use pillion_runtime::resiliency::{Failure, FailureClass, Policy};
use pillion_telemetry::metrics::Ingress;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::content_type::is_binary;
use super::envelope::{CloudEvent, from_raw, has_expired};
use super::routing::Router;
use super::sink::attribute;
use super::table::TopicSubscription;
use super::trace::{TraceContext, of_event};
use super::{BulkEvent, PubSubs};

/// How long putting a message on the dead letter topic may take. *Source:* spec app_channel.md §4.2.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(30);
const TRACE_FIELDS: [&str; 3] = ["traceid", "traceparent", "tracestate"];

/// A message that is ready for the app.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its attributes and data.
    pub cloud_event: CloudEvent,
    /// What HTTP apps get: the message's own bytes, or the envelope around a raw one.
    pub data: Bytes,
    /// Topic without namespace prefix.
    pub topic: String,
    /// Component.
    pub pubsub_name: String,
    /// Message metadata, with `pubsubName`.
    pub metadata: BTreeMap<String, String>,
    /// Route on the app.
    pub path: String,
}

impl Event {
    /// A string attribute; empty when it is absent or not a string.
    pub fn attribute(&self, name: &str) -> &str {
        attribute(&self.cloud_event, name)
    }

    /// The trace context to pass on.
    pub fn trace(&self) -> Option<TraceContext> {
        of_event(&self.cloud_event)
    }
}

/// Why the app did not take an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// What happened.
    pub message: String,
    /// Status for the retry policy: 100 and above HTTP, else gRPC; `None` without an answer.
    pub status: Option<i32>,
}

/// What the app made of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// Done.
    Success,
    /// Refused for good by the app: goes to the dead letter topic when there is one.
    Drop,
    /// Nothing of the app takes it: goes where [`Self::Drop`] goes, and counts as dropped instead of refused.
    Untaken,
    /// The app takes no events at all: done with, and counts as dropped.
    Ignored,
    /// Not done; try again.
    Retry(DeliveryFailure),
}

/// Where events go: the app channel, or a stream the app opened.
#[async_trait]
pub trait DeliverySink: Send + Sync {
    /// Hands over one event and waits for the app's answer.
    async fn deliver(&self, event: &Event) -> DeliveryResult;

    /// Hands over several events in one call; one answer for each, in their order.
    async fn deliver_bulk(&self, bulk: &BulkEvent) -> Vec<DeliveryResult> {
        let failure = DeliveryFailure {
            message: format!("bulk delivery is not supported for topic {}", bulk.topic),
            status: None,
        };
        bulk.items.iter().map(|_| DeliveryResult::Retry(failure.clone())).collect()
    }

    /// Whether the sidecar itself takes the events, instead of the app: scopes, policies and metrics of the app's subscriptions
    /// are not for it, and the metadata API does not list it.
    fn is_internal(&self) -> bool {
        false
    }
}

/// What delivers the messages of one subscription.
pub(super) struct Worker {
    pub(super) pubsubs: Arc<PubSubs>,
    pub(super) subscription: TopicSubscription,
    pub(super) router: Router,
    pub(super) raw: Result<bool, String>,
    /// Prefix of broker topics; empty when the component is not namespaced.
    pub(super) namespace: String,
    pub(super) sink: Arc<dyn DeliverySink>,
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) closing: CancellationToken,
    pub(super) board: Board,
    pub(super) log: Logger,
}

/// An attempt that did not succeed.
pub(super) struct Attempt {
    pub(super) failure: DeliveryFailure,
    pub(super) closing: bool,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.message)
    }
}

impl Failure for Attempt {
    fn class(&self) -> FailureClass {
        match self.failure.status {
            _ if self.closing => FailureClass::Permanent,
            Some(code) => FailureClass::Status(code),
            None => FailureClass::Retriable,
        }
    }
}

impl Worker {
    /// Says that the broker ended the subscription by itself.
    pub(super) fn report_end(&self) {
        let TopicSubscription { pubsub_name, topic, .. } = &self.subscription;
        self.log.warn(format_args!("pubsub {pubsub_name} ended the subscription to topic {topic}"));
        self.board.unhealthy(
            super::subscriptions::BOARD_KIND,
            format!("{pubsub_name}/{topic}"),
            "its broker ended the subscription, so that the app gets no more messages of this topic",
            "",
            format!("look at the log of {pubsub_name}'s server, then restart the app or the sidecar"),
        );
    }

    /// Works on one message until the broker can be told how it went.
    pub(super) async fn process(&self, mut message: Message) -> Outcome {
        if let Some(content_type) = message.content_type.clone() {
            message.metadata.insert("content-type".to_owned(), content_type);
        }
        message.metadata.insert("pubsubName".to_owned(), self.subscription.pubsub_name.clone());
        let topic = message.topic.strip_prefix(self.namespace.as_str()).unwrap_or(&message.topic).to_owned();
        let name = &self.subscription.pubsub_name;
        let (cloud_event, data) = match self.decode(&message, &topic) {
            Ok(decoded) => decoded,
            Err(problem) => {
                self.log.error(format_args!(
                    "error deserializing cloud event in pubsub {name} and topic {topic}: {problem}"
                ));
                return self.give_up_counted(&topic, message).await;
            }
        };
        if has_expired(&cloud_event) {
            let field = |name: &str| cloud_event.get(name).and_then(Value::as_str).unwrap_or_default();
            self.log.warn(format_args!("dropping expired pub/sub event {} as of {}", field("id"), field("expiration")));
            self.count(&topic, Ingress::Drop, Duration::ZERO);
            return self.discard(message).await;
        }
        let path = match self.router.route(&cloud_event) {
            Ok(Some(path)) => path.to_owned(),
            Ok(None) => {
                self.log
                    .debug(format_args!("no matching route for event in pubsub {name} and topic {topic}; skipping"));
                self.count(&topic, Ingress::Refused, Duration::ZERO);
                return self.discard(message).await;
            }
            Err(problem) => {
                let id = cloud_event.get("id").and_then(Value::as_str).unwrap_or_default();
                self.log.error(format_args!(
                    "error finding matching route for event {id} in pubsub {name} and topic {topic}: {problem}"
                ));
                return self.give_up_counted(&topic, message).await;
            }
        };
        let event =
            Event { cloud_event, data, topic, pubsub_name: name.clone(), metadata: message.metadata.clone(), path };
        self.deliver(&event, message).await
    }

    async fn deliver(&self, event: &Event, message: Message) -> Outcome {
        let attempt = || async {
            let started = Instant::now();
            let result = self.sink.deliver(event).await;
            let outcome = match &result {
                DeliveryResult::Success => Ingress::Success,
                DeliveryResult::Drop => Ingress::Refused,
                DeliveryResult::Untaken | DeliveryResult::Ignored => Ingress::Drop,
                DeliveryResult::Retry(_) => Ingress::Retry,
            };
            self.count(&event.topic, outcome, started.elapsed());
            match result {
                DeliveryResult::Success | DeliveryResult::Ignored => Ok(true),
                DeliveryResult::Drop | DeliveryResult::Untaken => Ok(false),
                DeliveryResult::Retry(failure) => {
                    self.log.warn(format_args!(
                        "encountered a retriable error while publishing a subscribed message to topic {}, err: {}",
                        event.topic, failure.message
                    ));
                    Err(Attempt { failure, closing: self.closing.is_cancelled() })
                }
            }
        };
        match self.attempts(attempt).await {
            Some(Ok(true)) => Outcome::Ack,
            Some(Ok(false)) => self.discard(message).await,
            None | Some(Err(_)) if self.closing.is_cancelled() => Outcome::Nack,
            None | Some(Err(_)) => self.give_up_counted(&event.topic, message).await,
        }
    }

    /// Tells the metrics what became of a message, or of an attempt at it. `elapsed`: what the app took.
    fn count(&self, topic: &str, outcome: Ingress, elapsed: Duration) {
        if let Some(metrics) = self.pubsubs.metrics.component().filter(|_| !self.sink.is_internal()) {
            metrics.delivered(&self.subscription.pubsub_name, topic, outcome, elapsed);
        }
    }

    async fn give_up_counted(&self, topic: &str, message: Message) -> Outcome {
        let outcome = self.give_up(message).await;
        // Acknowledged means that it is on the dead letter topic now.
        let ingress = if outcome == Outcome::Ack { Ingress::Drop } else { Ingress::Retry };
        self.count(topic, ingress, Duration::ZERO);
        outcome
    }

    /// Runs attempts under the inbound policy; `None` when the subscription closed between two of them.
    pub(super) async fn attempts<T, F>(&self, attempt: impl Fn() -> F + Sync) -> Option<Result<T, String>>
    where
        F: Future<Output = Result<T, Attempt>> + Send,
    {
        let delivering = AtomicBool::new(false);
        let watched = || {
            let (attempt, delivering) = (&attempt, &delivering);
            async move {
                delivering.store(true, Ordering::Relaxed);
                let result = attempt().await;
                delivering.store(false, Ordering::Relaxed);
                result
            }
        };
        let Some(policy) = &self.policy else { return Some(watched().await.map_err(|error| error.to_string())) };
        let mut run = std::pin::pin!(policy.run(|_| watched()));
        let finished = tokio::select! {
            biased;
            result = &mut run => Some(result),
            () = self.closing.cancelled() => None,
        };
        let result = match finished {
            Some(result) => result,
            // The app is working on it: its answer counts. Between two attempts nothing is lost by giving it back.
            None if delivering.load(Ordering::Relaxed) => run.await,
            None => return None,
        };
        Some(result.map_err(|error| error.to_string()))
    }

    /// Puts a message that cannot be processed on the dead letter topic; without one the broker delivers it again.
    pub(super) async fn give_up(&self, message: Message) -> Outcome {
        if self.dead_letter(message).await == Some(true) { Outcome::Ack } else { Outcome::Nack }
    }

    /// Ends a message nobody wants, with a copy on the dead letter topic when there is one.
    pub(super) async fn discard(&self, message: Message) -> Outcome {
        if self.dead_letter(message).await == Some(false) { Outcome::Nack } else { Outcome::Ack }
    }

    /// Whether the message is on the dead letter topic now; `None` without such a topic.
    async fn dead_letter(&self, message: Message) -> Option<bool> {
        let topic = &self.subscription.dead_letter_topic;
        if topic.is_empty() {
            return None;
        }
        let origin = message.topic;
        let publish = self.pubsubs.publish_bytes(
            &self.subscription.pubsub_name,
            topic,
            message.data,
            message.content_type,
            message.metadata,
        );
        let problem = match tokio::time::timeout(DEAD_LETTER_TIMEOUT, publish).await {
            Ok(Ok(())) => return Some(true),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "context deadline exceeded".to_owned(),
        };
        self.log.error(format_args!(
            "error sending message to dead letter, origin topic: {origin} dead letter topic {topic} err: {problem}"
        ));
        Some(false)
    }

    fn decode(&self, message: &Message, topic: &str) -> Result<(CloudEvent, Bytes), String> {
        if *self.raw.as_ref().map_err(Clone::clone)? {
            let mut event = from_raw(&message.data, topic, &self.subscription.pubsub_name);
            add_trace(&mut event, &message.metadata);
            let data = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
            return Ok((event, data.into()));
        }
        let content_type = message.metadata.get("content-type").map(String::as_str).unwrap_or_default();
        if is_binary(content_type) {
            let attribute = |(key, value): (&String, &String)| {
                let (prefix, name) = key.split_at_checked(3)?;
                prefix.eq_ignore_ascii_case("ce_").then(|| (name.to_ascii_lowercase(), Value::String(value.clone())))
            };
            let mut event: CloudEvent = message.metadata.iter().filter_map(attribute).collect();
            event.insert("data_base64".to_owned(), STANDARD.encode(&message.data).into());
            event.insert("datacontenttype".to_owned(), content_type.into());
            return Ok((event, message.data.clone()));
        }
        let mut event: CloudEvent = serde_json::from_slice(&message.data).map_err(|error| error.to_string())?;
        add_trace(&mut event, &message.metadata);
        Ok((event, message.data.clone()))
    }
}

/// Fills trace attributes the event lacks from the message's metadata; a `traceparent` also counts as `traceid`.
fn add_trace(event: &mut CloudEvent, metadata: &BTreeMap<String, String>) {
    for name in TRACE_FIELDS {
        if event.contains_key(name) {
            continue;
        }
        let Some(value) = metadata.get(name) else { continue };
        event.insert(name.to_owned(), value.as_str().into());
        if name == "traceparent" {
            event.insert("traceid".to_owned(), value.as_str().into());
        }
    }
}
