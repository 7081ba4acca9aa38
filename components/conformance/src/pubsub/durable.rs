//! Brokers that keep messages for consumer groups: what must hold across members and restarts.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pillion_contract::{Outcome, PubSub, PublishRequest};

use super::{Promises, Suite, next, next_text, request, stays_quiet};
use crate::Unique;

/// Runs the suite. `open` opens the broker as a member of a consumer group; each call is what another process would do with
/// the same storage.
pub async fn run<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn PubSub>>,
{
    super::run(open("common").await, Promises { redelivers: true }).await;
    let suite = Durable { open: async |group| Suite { broker: open(group).await, unique: Unique::default() } };
    suite.absent_group().await;
    suite.groups_and_members().await;
    suite.unanswered_when_closed().await;
    suite.redelivery_holds_nobody_up().await;
    suite.time_to_live().await;
}

struct Durable<F> {
    open: F,
}

impl<F: AsyncFn(&'static str) -> Suite> Durable<F> {
    async fn open(&self, group: &'static str) -> Suite {
        (self.open)(group).await
    }

    async fn absent_group(&self) {
        let publisher = self.open("publisher").await;
        let topic = publisher.unique.name("absent");
        let first = self.open("reader").await;
        let mut receiver = first.subscribe(&topic).await;
        publisher.publish(&topic, "seen").await;
        assert_eq!(next_text(&mut receiver).await, "seen");
        drop(receiver);
        publisher.publish(&topic, "after the subscription").await;
        first.broker.close().await.expect("close");
        publisher.publish(&topic, "after the process").await;
        let second = self.open("reader").await;
        let mut receiver = second.subscribe(&topic).await;
        for wanted in ["after the subscription", "after the process"] {
            assert_eq!(
                next_text(&mut receiver).await,
                wanted,
                "a known group gets what was published while it was away, in order"
            );
        }
        assert!(stays_quiet(&mut receiver).await, "what it had acknowledged does not come again");
    }

    async fn groups_and_members(&self) {
        const COUNT: usize = 50;
        let (one, two, other) = (self.open("pair").await, self.open("pair").await, self.open("other").await);
        let topic = one.unique.name("groups");
        let (mut first, mut second) = (one.subscribe(&topic).await, two.subscribe(&topic).await);
        let mut alone = other.subscribe(&topic).await;
        for n in 0..COUNT {
            one.publish(&topic, &n.to_string()).await;
        }
        for n in 0..COUNT {
            assert_eq!(next_text(&mut alone).await, n.to_string(), "each group gets every message");
        }
        let mut seen = BTreeSet::new();
        while seen.len() < COUNT {
            let delivery = tokio::select! {
                delivery = next(&mut first) => delivery,
                delivery = next(&mut second) => delivery,
            };
            delivery.ack.answer(Outcome::Ack);
            assert!(seen.insert(delivery.message.data), "one member of a group gets a message, once");
        }
        assert!(stays_quiet(&mut first).await && stays_quiet(&mut second).await && stays_quiet(&mut alone).await);
    }

    async fn unanswered_when_closed(&self) {
        let (one, two) = (self.open("heirs").await, self.open("heirs").await);
        let topic = one.unique.name("unanswered");
        let mut first = one.subscribe(&topic).await;
        one.publish(&topic, "held").await;
        let held = next(&mut first).await;
        let mut second = two.subscribe(&topic).await;
        assert!(stays_quiet(&mut second).await, "what one member works on the other does not get");
        one.broker.close().await.expect("close");
        assert_eq!(next_text(&mut second).await, "held", "what a closed member had goes to the other");
        drop(held);
    }

    async fn redelivery_holds_nobody_up(&self) {
        let suite = self.open("poisoned").await;
        let topic = suite.unique.name("poison");
        let mut receiver = suite.subscribe(&topic).await;
        for text in ["poison", "1", "2", "3"] {
            suite.publish(&topic, text).await;
        }
        let (mut poisoned, mut taken) = (0, BTreeSet::new());
        while poisoned < 3 || taken.len() < 3 {
            let delivery = next(&mut receiver).await;
            if delivery.message.data == "poison" {
                poisoned += 1;
                delivery.ack.answer(Outcome::Nack);
            } else {
                assert!(taken.insert(delivery.message.data), "once");
                delivery.ack.answer(Outcome::Ack);
            }
        }
    }

    async fn time_to_live(&self) {
        let suite = self.open("late").await;
        if !suite.broker.capability().message_ttl {
            return;
        }
        let topic = suite.unique.name("ttl");
        drop(suite.subscribe(&topic).await);
        let publish = async |text: &str, ttl: &str| {
            let metadata = [("ttlInSeconds".to_owned(), ttl.to_owned())].into();
            suite
                .broker
                .publish(PublishRequest { metadata, ..request(&topic, text.to_owned()) })
                .await
                .expect("publish");
        };
        publish("expires", "1").await;
        publish("stays", "1000").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut receiver = suite.subscribe(&topic).await;
        assert_eq!(next_text(&mut receiver).await, "stays", "an expired message is not delivered");
        assert!(stays_quiet(&mut receiver).await);
    }
}
