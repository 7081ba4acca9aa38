//! `pubsub.in-memory`: a bus inside one sidecar.
//!
//! *Job:* hand each message to every subscription whose topic matches; a topic that ends in `*` matches by prefix.
//! *Neighbours:* only `contract`. *Invariant:* one subscription works on one message at a time, in publish order; a
//! message nobody subscribes to is gone, and so is one that was nacked (the original's bus logs it and goes on; retries
//! and dead letters are the runtime's).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::RwLock;
use pillion_contract::{
    AckHandle, ComponentError, Delivery, ErrorKind, InitContext, Message, Outcome, PubSub, PubSubCapability,
    PublishRequest, SubscribeRequest,
};
use pillion_core::log::Logger;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages one slow subscription may be behind before publishers wait for it.
const QUEUE_LIMIT: usize = 16_384;

/// The component; see the module text.
pub struct InMemoryPubSub {
    subscriptions: Arc<RwLock<Vec<Arc<Subscription>>>>,
    closed: AtomicBool,
    stop: CancellationToken,
    log: Logger,
}

struct Subscription {
    topic: String,
    queue: mpsc::Sender<Message>,
}

impl Subscription {
    fn matches(&self, topic: &str) -> bool {
        match self.topic.strip_suffix('*') {
            Some(prefix) => topic == self.topic || (topic.len() > prefix.len() && topic.starts_with(prefix)),
            None => self.topic == topic,
        }
    }
}

/// Makes the component.
///
/// # Errors
/// None; the signature is that of all factories.
pub async fn create(context: InitContext) -> Result<Arc<dyn PubSub>, ComponentError> {
    Ok(Arc::new(InMemoryPubSub {
        subscriptions: Arc::default(),
        closed: AtomicBool::new(false),
        stop: context.cancel.child_token(),
        log: context.log,
    }))
}

impl InMemoryPubSub {
    fn check_open(&self) -> Result<(), ComponentError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(ComponentError::new(ErrorKind::Unavailable, "component is closed"));
        }
        Ok(())
    }
}

#[async_trait]
impl PubSub for InMemoryPubSub {
    fn capability(&self) -> PubSubCapability {
        PubSubCapability { subscribe_wildcards: true, ..PubSubCapability::default() }
    }

    /// Returns when the message stands in the queue of each matching subscription.
    async fn publish(&self, request: PublishRequest) -> Result<(), ComponentError> {
        self.check_open()?;
        let full: Vec<Arc<Subscription>> = {
            let subscriptions = self.subscriptions.read();
            let is_full = |subscription: &&Arc<Subscription>| {
                subscription.matches(&request.topic)
                    && matches!(
                        subscription.queue.try_send(message(subscription, &request)),
                        Err(mpsc::error::TrySendError::Full(_))
                    )
            };
            subscriptions.iter().filter(is_full).cloned().collect()
        };
        for subscription in full {
            let _ = subscription.queue.send(message(&subscription, &request)).await; // ended meanwhile: nobody wants it
        }
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<mpsc::Receiver<Delivery>, ComponentError> {
        self.check_open()?;
        let (queue, waiting) = mpsc::channel(QUEUE_LIMIT);
        let (deliveries, receiver) = mpsc::channel(1);
        let subscription = Arc::new(Subscription { topic: request.topic, queue });
        self.subscriptions.write().push(subscription.clone());
        let (all, stop, log) = (self.subscriptions.clone(), self.stop.clone(), self.log.clone());
        tokio::spawn(async move {
            let pump = async {
                tokio::select! {
                    () = deliver(waiting, &deliveries, &log) => {}
                    () = deliveries.closed() => {}
                }
            };
            let _ = stop.run_until_cancelled(pump).await; // both endings mean the same: unsubscribe
            all.write().retain(|other| !Arc::ptr_eq(other, &subscription));
        });
        Ok(receiver)
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.closed.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.subscriptions.write().clear();
        Ok(())
    }
}

/// The topic is the one subscribed to, also where it is a pattern: routes are found by it, as in the original.
fn message(subscription: &Subscription, request: &PublishRequest) -> Message {
    Message {
        topic: subscription.topic.clone(),
        data: request.data.clone(),
        content_type: request.content_type.clone(),
        metadata: request.metadata.clone(),
    }
}

async fn deliver(mut waiting: mpsc::Receiver<Message>, deliveries: &mpsc::Sender<Delivery>, log: &Logger) {
    while let Some(message) = waiting.recv().await {
        let (ack, answer) = AckHandle::new();
        let topic = message.topic.clone();
        if deliveries.send(Delivery { message, ack }).await.is_err() {
            return;
        }
        if answer.await != Ok(Outcome::Ack) {
            log.error(format!(
                "a message of topic {topic} was not processed; the in-memory broker does not deliver it again"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use pillion_conformance::pubsub::Promises;

    use super::*;
    use crate::tests::context;

    async fn broker() -> Arc<dyn PubSub> {
        create(context("pubsub.in-memory", &[])).await.unwrap()
    }

    fn request(topic: &str, data: &'static str) -> PublishRequest {
        PublishRequest { topic: topic.into(), data: data.into(), ..PublishRequest::default() }
    }

    async fn subscribe(broker: &Arc<dyn PubSub>, topic: &str) -> mpsc::Receiver<Delivery> {
        broker.subscribe(SubscribeRequest { topic: topic.into(), ..SubscribeRequest::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        pillion_conformance::pubsub::run(broker().await, Promises { redelivers: false }).await;
    }

    #[tokio::test]
    async fn every_subscription_gets_its_own_copy_and_works_on_one_message_at_a_time() {
        let broker = broker().await;
        let (mut first, mut second) = (subscribe(&broker, "t").await, subscribe(&broker, "t").await);
        broker.publish(request("t", "1")).await.unwrap();
        broker.publish(request("t", "2")).await.unwrap();
        let held = first.recv().await.unwrap();
        assert_eq!(held.message.data, "1");
        for wanted in ["1", "2"] {
            let delivery = second.recv().await.unwrap();
            assert_eq!(delivery.message.data, wanted, "a slow neighbour holds nobody up");
            delivery.ack.answer(Outcome::Ack);
        }
        assert!(first.try_recv().is_err(), "the second message waits for the first answer");
        held.ack.answer(Outcome::Nack);
        assert_eq!(first.recv().await.unwrap().message.data, "2", "a nacked message does not come again");
    }

    #[tokio::test]
    async fn a_full_queue_makes_publishers_wait_and_loses_nothing() {
        let broker = broker().await;
        let mut receiver = subscribe(&broker, "t").await;
        let publisher = tokio::spawn({
            let broker = broker.clone();
            async move {
                for _ in 0..QUEUE_LIMIT + 100 {
                    broker.publish(request("t", "x")).await.unwrap();
                }
            }
        });
        for _ in 0..QUEUE_LIMIT + 100 {
            receiver.recv().await.unwrap().ack.answer(Outcome::Ack);
        }
        publisher.await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_component_refuses_clearly() {
        let broker = broker().await;
        let mut receiver = subscribe(&broker, "t").await;
        broker.close().await.unwrap();
        assert_eq!(broker.publish(request("t", "x")).await.unwrap_err().to_string(), "component is closed");
        assert!(receiver.recv().await.is_none(), "subscriptions end");
    }

    #[test]
    fn wildcards_match_by_prefix() {
        let cases = [
            ("a*", "ab", true),
            ("a*", "a", false),
            ("*", "x", true),
            ("a/*", "a/b/c", true),
            ("a*", "a*", true),
            ("a", "ab", false),
        ];
        for (pattern, topic, wanted) in cases {
            let subscription = Subscription { topic: pattern.into(), queue: mpsc::channel(1).0 };
            assert_eq!(subscription.matches(topic), wanted, "{pattern} on {topic}");
        }
    }
}
