//! Brokers: spec components.md §4.2.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pillion_contract::{Delivery, Outcome, PubSub, PublishRequest, SubscribeRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Unique;

pub mod durable;

const DELIVERED_WITHIN: Duration = Duration::from_secs(20);
/// Long enough for a wrong message to show up, short enough for a test.
const QUIET_FOR: Duration = Duration::from_millis(300);

/// What a broker promises beyond the common rules.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// A nacked message comes again.
    pub redelivers: bool,
}

/// Runs the suite.
pub async fn run(broker: Arc<dyn PubSub>, promises: Promises) {
    let suite = Suite { broker, unique: Unique::default() };
    suite.in_order().await;
    suite.message_parts().await;
    suite.bulk().await;
    suite.two_topics().await;
    suite.ending_one_subscription().await;
    if promises.redelivers {
        suite.redelivery().await;
    }
    if suite.broker.capability().subscribe_wildcards {
        suite.wildcards().await;
    }
    suite.broker.close().await.expect("close");
}

struct Suite {
    broker: Arc<dyn PubSub>,
    unique: Unique,
}

fn request(topic: &str, data: impl Into<Bytes>) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), data: data.into(), ..PublishRequest::default() }
}

async fn next(receiver: &mut mpsc::Receiver<Delivery>) -> Delivery {
    timeout(DELIVERED_WITHIN, receiver.recv()).await.expect("a delivery in time").expect("the subscription is open")
}

async fn next_text(receiver: &mut mpsc::Receiver<Delivery>) -> String {
    let delivery = next(receiver).await;
    delivery.ack.answer(Outcome::Ack);
    String::from_utf8(delivery.message.data.to_vec()).expect("text")
}

async fn stays_quiet(receiver: &mut mpsc::Receiver<Delivery>) -> bool {
    !matches!(timeout(QUIET_FOR, receiver.recv()).await, Ok(Some(_)))
}

impl Suite {
    async fn subscribe(&self, topic: &str) -> mpsc::Receiver<Delivery> {
        let request = SubscribeRequest { topic: topic.to_owned(), ..SubscribeRequest::default() };
        self.broker.subscribe(request).await.expect("subscribe")
    }

    async fn publish(&self, topic: &str, text: &str) {
        self.broker.publish(request(topic, text.to_owned())).await.expect("publish");
    }

    async fn in_order(&self) {
        let topic = self.unique.name("order");
        let mut receiver = self.subscribe(&topic).await;
        for n in 1..=10 {
            self.publish(&topic, &format!("message-{n}")).await;
        }
        for n in 1..=10 {
            assert_eq!(next_text(&mut receiver).await, format!("message-{n}"), "messages come in order");
        }
        assert!(stays_quiet(&mut receiver).await, "an acknowledged message does not come again");
    }

    async fn message_parts(&self) {
        let topic = self.unique.name("parts");
        let mut receiver = self.subscribe(&topic).await;
        let data: &'static [u8] = b"\x00\xffbinary\x80";
        let metadata = [("traceparent".to_owned(), "00-a-b-01".to_owned())].into();
        let content_type = Some("application/octet-stream".to_owned());
        let request =
            PublishRequest { topic: topic.clone(), data: data.into(), content_type: content_type.clone(), metadata };
        self.broker.publish(request).await.expect("publish");
        let delivery = next(&mut receiver).await;
        delivery.ack.answer(Outcome::Ack);
        let message = delivery.message;
        assert_eq!(
            (message.topic.as_str(), message.data.as_ref()),
            (topic.as_str(), data),
            "topic and bytes arrive unchanged"
        );
        assert_eq!(message.content_type, content_type);
        assert_eq!(
            message.metadata.get("traceparent").map(String::as_str),
            Some("00-a-b-01"),
            "metadata reaches the subscriber"
        );
    }

    async fn bulk(&self) {
        let topic = self.unique.name("bulk");
        let mut receiver = self.subscribe(&topic).await;
        let requests = (0..20).map(|n| request(&topic, format!("bulk-{n}"))).collect();
        let failed = self.broker.bulk_publish(requests).await.expect("bulk publish");
        assert!(failed.is_empty(), "no entry fails: {failed:?}");
        let mut seen = BTreeSet::new();
        while seen.len() < 20 {
            seen.insert(next_text(&mut receiver).await);
        }
        assert!(self.broker.bulk_publish(Vec::new()).await.expect("empty bulk publish").is_empty());
    }

    async fn two_topics(&self) {
        let (one, two) = (self.unique.name("one"), self.unique.name("two"));
        let (mut first, mut second) = (self.subscribe(&one).await, self.subscribe(&two).await);
        self.publish(&one, "for one").await;
        self.publish(&two, "for two").await;
        self.publish(&self.unique.name("nobody"), "for nobody").await;
        assert_eq!(next_text(&mut first).await, "for one");
        assert_eq!(next_text(&mut second).await, "for two");
        assert!(
            stays_quiet(&mut first).await && stays_quiet(&mut second).await,
            "each topic gets its own messages only"
        );
    }

    async fn ending_one_subscription(&self) {
        let (one, two) = (self.unique.name("ended"), self.unique.name("open"));
        let (first, mut second) = (self.subscribe(&one).await, self.subscribe(&two).await);
        drop(first);
        self.publish(&one, "nobody takes it").await;
        self.publish(&two, "taken").await;
        assert_eq!(next_text(&mut second).await, "taken", "the other subscription goes on");
        drop(second);
        let mut third = self.subscribe(&self.unique.name("new")).await;
        assert!(stays_quiet(&mut third).await, "the component stays usable");
    }

    async fn redelivery(&self) {
        let topic = self.unique.name("again");
        let mut receiver = self.subscribe(&topic).await;
        self.publish(&topic, "nacked").await;
        self.publish(&topic, "dropped").await;
        let mut times = std::collections::BTreeMap::<String, u32>::new();
        while times.get("nacked") < Some(&3) || times.get("dropped") < Some(&2) {
            let Delivery { message, ack } = next(&mut receiver).await;
            let text = String::from_utf8(message.data.to_vec()).expect("text");
            let count = times.entry(text.clone()).or_default();
            *count += 1;
            match (text.as_str(), *count) {
                ("nacked", 1 | 2) => ack.answer(Outcome::Nack),
                ("dropped", 1) => drop(ack),
                _ => ack.answer(Outcome::Ack),
            }
        }
        assert!(stays_quiet(&mut receiver).await, "acknowledged at last");
    }

    async fn wildcards(&self) {
        let base = self.unique.name("wild");
        let mut receiver = self.subscribe(&format!("{base}/*")).await;
        self.publish(&format!("{base}/a"), "a").await;
        self.publish(&base, "not under it").await;
        self.publish(&format!("{base}/b/c"), "c").await;
        assert_eq!(next_text(&mut receiver).await, "a");
        assert_eq!(next_text(&mut receiver).await, "c");
        assert!(stays_quiet(&mut receiver).await, "only topics under the pattern match");
    }
}
