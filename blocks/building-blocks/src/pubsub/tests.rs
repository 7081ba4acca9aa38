use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pillion_contract::{
    AckHandle, ComponentError, Delivery, ErrorKind, Message, Metadata, Outcome, PubSub, PubSubCapability,
    PublishRequest, SubscribeRequest,
};
use pillion_core::error::{ApiError, ErrorDetail};
use pillion_core::log::Logger;
use pillion_resources::types::{ComponentPolicyNames, PolicyNames, Resiliency, RetrySpec, RouteRule, Subscription};
use pillion_runtime::resiliency::Policies;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

mod bulk;
mod bulk_grpc;
mod delivery;
mod follow;
mod publish;
mod subscriptions;

/// A broker that remembers what was published and delivers what the test says.
#[derive(Default)]
struct FakeBroker {
    published: Mutex<Vec<PublishRequest>>,
    failures: AtomicUsize,
    subscribers: Mutex<BTreeMap<String, mpsc::Sender<Delivery>>>,
}

#[async_trait]
impl PubSub for FakeBroker {
    fn capability(&self) -> PubSubCapability {
        PubSubCapability::default()
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError> {
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            return Err(ComponentError::new(ErrorKind::Unavailable, "broker is down"));
        }
        self.published.lock().push(request);
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError> {
        let (sender, receiver) = mpsc::channel(8);
        self.subscribers.lock().insert(request.topic, sender);
        Ok(receiver)
    }
}

impl FakeBroker {
    async fn deliver(&self, topic: &str, data: impl Into<Bytes>) -> Outcome {
        self.deliver_message(Message { topic: topic.into(), data: data.into(), ..Message::default() }).await
    }

    async fn deliver_message(&self, message: Message) -> Outcome {
        let (ack, answer) = AckHandle::new();
        let sender = self.subscribers.lock()[&message.topic].clone();
        sender.send(Delivery { message, ack }).await.unwrap();
        answer.await.unwrap_or(Outcome::Nack)
    }

    fn last(&self) -> Value {
        serde_json::from_slice(&self.published.lock().last().unwrap().data).unwrap()
    }
}

/// An app that answers from a list, then with success.
#[derive(Default)]
struct FakeApp {
    answers: Mutex<Vec<DeliveryResult>>,
    events: Mutex<Vec<Event>>,
}

#[async_trait]
impl DeliverySink for FakeApp {
    async fn deliver(&self, event: &Event) -> DeliveryResult {
        self.events.lock().push(event.clone());
        let mut answers = self.answers.lock();
        if answers.is_empty() { DeliveryResult::Success } else { answers.remove(0) }
    }
}

fn retry() -> DeliveryResult {
    DeliveryResult::Retry(DeliveryFailure { message: "later".into(), status: Some(500) })
}

struct Setup {
    broker: Arc<FakeBroker>,
    pubsubs: Arc<PubSubs>,
    subscriptions: Subscriptions,
    app: Arc<FakeApp>,
}

fn setup_with(metadata: &[(&str, &str)], resiliency: &[Resiliency]) -> Setup {
    let log = Logger::silent();
    let pubsubs = Arc::new(PubSubs::new("shop", "prod", Arc::new(Policies::compile(resiliency, &log))));
    let broker = Arc::new(FakeBroker::default());
    pubsubs.add("bus", broker.clone(), &Metadata::new(metadata.iter().copied()), false);
    let subscriptions = Subscriptions::new(pubsubs.clone(), &log);
    Setup { broker, pubsubs, subscriptions, app: Arc::default() }
}

fn setup() -> Setup {
    setup_with(&[], &[])
}

fn call(topic: &str, metadata: &[(&str, &str)]) -> PublishCall {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    PublishCall { pubsub_name: "bus".into(), topic: topic.into(), metadata, ..PublishCall::default() }
}

async fn published(topic: &str, metadata: &[(&str, &str)], data: &'static [u8], content_type: &str) -> Value {
    let setup = setup();
    setup.pubsubs.publish(call(topic, metadata), data.into(), content_type).await.unwrap();
    setup.broker.last()
}

fn subscription(rules: &[(&str, &str)], dead_letter_topic: &str) -> Subscription {
    let rules =
        rules.iter().map(|(matches, path)| RouteRule { matches: (*matches).into(), path: (*path).into() }).collect();
    Subscription {
        pubsub_name: "bus".into(),
        topic: "orders".into(),
        rules,
        dead_letter_topic: dead_letter_topic.into(),
        ..Subscription::default()
    }
}

async fn started(subscription: Subscription) -> Setup {
    let setup = setup();
    setup.subscriptions.set_declarative(&[subscription]);
    setup.subscriptions.start(setup.app.clone()).await;
    setup
}

fn inbound_retries(number: i64) -> Resiliency {
    let mut resiliency = Resiliency::default();
    resiliency
        .retries
        .insert("r".into(), RetrySpec { duration: "1s".into(), max_retries: Some(number), ..RetrySpec::default() });
    let inbound = PolicyNames { retry: "r".into(), ..PolicyNames::default() };
    resiliency.components.insert("bus".into(), ComponentPolicyNames { inbound, ..ComponentPolicyNames::default() });
    resiliency
}

const EVENT: &str = r#"{"id":"1","type":"order","specversion":"1.0","data":{"n":12345678901234567890.10,"tier":2}}"#;

/// A stream without an event, one whose app works on an event, and what becomes of that.
async fn idle_and_busy(setup: &Arc<Setup>) -> (TopicStream, TopicStream, JoinHandle<Outcome>) {
    let idle = setup.subscriptions.open_stream("bus", "idle", BTreeMap::new(), "").await.unwrap();
    let mut busy = setup.subscriptions.open_stream("bus", "busy", BTreeMap::new(), "").await.unwrap();
    let delivery = tokio::spawn({
        let setup = setup.clone();
        async move { setup.broker.deliver("busy", EVENT).await }
    });
    busy.next().await.unwrap();
    (idle, busy, delivery)
}
