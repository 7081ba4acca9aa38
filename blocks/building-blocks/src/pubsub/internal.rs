//! Subscriptions of the sidecar itself, which no app asked for.
//!
//! *Neighbours:* [`crate::outbox`] says which there are; they run, move to new components and end like streams.
//! *Invariant:* the app does not see them: no scope, policy, metric or list of its subscriptions knows of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillion_resources::types::RouteRule;
use tokio_util::sync::CancellationToken;

use super::DeliverySink;
use super::subscriptions::{Subscriptions, spawn_stream};
use super::table::TopicSubscription;

/// Component and topic.
type Place = (String, String);

impl Subscriptions {
    /// Makes these the internal subscriptions there are: those that run go on with the sink they have, others take no more
    /// messages. Returns what could not be subscribed to.
    pub(crate) async fn follow_internal(&self, wanted: BTreeMap<Place, Arc<dyn DeliverySink>>) -> Vec<(Place, String)> {
        let _one_at_a_time = self.running.lock().await;
        if self.closed.is_cancelled() {
            return Vec::new();
        }
        let mut missing = wanted;
        for open in self.streams.lock().iter().filter(|open| open.is_internal && open.is_live()) {
            let place = (open.subscription.pubsub_name.clone(), open.subscription.topic.clone());
            if missing.remove(&place).is_none() {
                open.ending.end(false);
            }
        }
        let mut failed = Vec::new();
        for (place, sink) in missing {
            let (pubsub_name, topic) = place.clone();
            let rule = RouteRule { matches: String::new(), path: "/".to_owned() };
            let subscription =
                TopicSubscription { pubsub_name, topic, rules: vec![rule], ..TopicSubscription::default() };
            let closed = CancellationToken::new();
            match self.open(subscription.clone(), sink, closed.child_token(), None).await {
                Ok(opened) => {
                    let mut streams = self.streams.lock();
                    if self.closed.is_cancelled() {
                        return failed;
                    }
                    streams.push(spawn_stream(subscription, closed, opened));
                }
                Err(problem) => failed.push((place, problem)),
            }
        }
        failed
    }
}
