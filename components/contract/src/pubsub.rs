//! Publish/subscribe brokers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::ComponentError;

/// A message to publish.
#[derive(Clone, Debug, Default)]
pub struct PublishRequest {
    /// Topic, already namespaced where the component asks for it.
    pub topic: String,
    /// Payload, normally a CloudEvent.
    pub data: Bytes,
    /// Content type of `data`.
    pub content_type: Option<String>,
    /// Message metadata (`ttlInSeconds`, trace context, broker keys); must reach the subscriber.
    pub metadata: BTreeMap<String, String>,
}

/// Failure of one entry of a bulk publish.
#[derive(Clone, Debug)]
pub struct BulkEntryError {
    /// Index into the requests.
    pub index: usize,
    /// What went wrong.
    pub error: String,
}

/// A received message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Topic it was published to.
    pub topic: String,
    /// Payload.
    pub data: Bytes,
    /// Content type of `data`, when the broker keeps it.
    pub content_type: Option<String>,
    /// Message metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What the subscriber made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done with: never deliver it again to this group.
    Ack,
    /// Not processed: deliver it again.
    Nack,
}

/// Answers one delivery; dropping it unanswered counts as [`Outcome::Nack`].
#[derive(Debug)]
pub struct AckHandle(oneshot::Sender<Outcome>);

impl AckHandle {
    /// Makes a handle and the receiver the component waits on; a closed receiver means `Nack`.
    pub fn new() -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers.
    pub fn answer(self, outcome: Outcome) {
        let _ = self.0.send(outcome); // the component stopped waiting: it will deliver again
    }
}

/// A message with the handle that answers it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Its answer.
    pub ack: AckHandle,
}

/// A subscription to one topic.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// Topic, already namespaced where the component asks for it.
    pub topic: String,
    /// Subscription metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What a broker can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PubSubCapability {
    /// Honours `ttlInSeconds` itself; otherwise the runtime writes `expiration` into the CloudEvent.
    pub message_ttl: bool,
    /// Topic names may hold wildcards when subscribing.
    pub subscribe_wildcards: bool,
    /// Has a native bulk publish.
    pub bulk_publish: bool,
    /// Gives the next message only when the one before is answered: a bulk subscription must not wait for more.
    pub bulk_subscribe_immediate: bool,
}

/// A broker: publishes, and hands out subscriptions as streams.
///
/// The caller owns the loop: it takes a [`Delivery`], works, and answers. A component delivers again what was nacked or
/// left unanswered when the receiver is dropped, and bounds what is in flight by the channel it returns.
#[async_trait]
pub trait PubSub: Send + Sync {
    /// What this broker can do.
    fn capability(&self) -> PubSubCapability;

    /// Publishes one message; durable brokers return when it is safe.
    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError>;

    /// Publishes several; returns the failed ones.
    async fn bulk_publish(&self, requests: Vec<PublishRequest>) -> Result<Vec<BulkEntryError>, ComponentError> {
        let mut failed = Vec::new();
        for (index, request) in requests.into_iter().enumerate() {
            if let Err(error) = self.publish(request).await {
                failed.push(BulkEntryError { index, error: error.to_string() });
            }
        }
        Ok(failed)
    }

    /// Opens a subscription; dropping the receiver ends it.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError>;

    /// Asks the broker to give no more messages to the open subscriptions, while what it has given already is worked on
    /// and answered. `false`: this broker cannot be paused.
    async fn pause(&self) -> Result<bool, ComponentError> {
        Ok(false)
    }

    /// Stops background work and flushes.
    async fn close(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}
