//! Running subscriptions follow what changes: their rules, their component, their policies.
//!
//! *Neighbours:* `sidecar` calls this when resources change; [`super::subscriptions`] opens and runs. *Invariant:* a broker subscription
//! stays open as long as it brings the messages that are wanted; one that takes its place is open before it ends.

use std::sync::{Arc, Weak};

use pillion_contract::{Metadata, PubSub};
use pillion_runtime::resiliency::{ComponentKind, Policy};
use tokio_util::sync::CancellationToken;

use super::delivery::{DeliverySink, Worker};
use super::routing::Router;
use super::subscriptions::{Current, Ending, Open, Running, Subscriptions, spawn_stream};
use super::table::TopicSubscription;
use super::{Entry, PubSubs};
use crate::retired::Retired;

/// A stream whose component is replaced or gone.
struct Move {
    subscription: TopicSubscription,
    sink: Arc<dyn DeliverySink>,
    closed: CancellationToken,
    ending: Ending,
    has_successor: bool,
}

impl Subscriptions {
    /// Makes what runs follow the tables of subscriptions, components and policies. Subscriptions nothing changed for go on, those
    /// whose rules changed go on with the new ones; a removed one takes no more messages while the app ends what it works on.
    pub async fn refresh(&self) {
        self.follow(None).await;
    }

    /// Replaces a component, or adds it: its subscriptions and streams go over to the new one first, then it is published to the
    /// new one, then the old one's messages are worked off. Returns the old one.
    pub async fn replace_component(
        &self,
        name: &str,
        component: Arc<dyn PubSub>,
        metadata: &Metadata,
        namespaced: bool,
    ) -> Option<Retired<dyn PubSub>> {
        let entry = self.pubsubs.new_entry(name, component, metadata, namespaced);
        self.follow(Some(&entry)).await;
        self.pubsubs.put(&entry)
    }

    /// Removes a component; its subscriptions and streams take no more messages. Returns it.
    pub async fn remove_component(&self, name: &str) -> Option<Retired<dyn PubSub>> {
        let removed = self.pubsubs.remove(name);
        self.follow(None).await;
        removed
    }

    async fn follow(&self, upcoming: Option<&Arc<Entry>>) {
        let mut slot = self.running.lock().await;
        if self.closed.is_cancelled() {
            return;
        }
        if let Some(running) = slot.as_mut() {
            while running.tasks.try_join_next().is_some() {}
            self.follow_app(running, upcoming).await;
        }
        self.follow_streams(upcoming).await;
    }

    async fn follow_app(&self, running: &mut Running, upcoming: Option<&Arc<Entry>>) {
        let wanted: Vec<TopicSubscription> =
            self.table.lock().merged().into_iter().map(|info| info.subscription).collect();
        let before = std::mem::take(&mut running.open);
        let mut ended = Vec::new();
        for open in before {
            let now = self.current_entry(&open.subscription.pubsub_name, upcoming);
            let same_component = now.as_ref().is_some_and(|now| Weak::as_ptr(&open.entry) == Arc::as_ptr(now));
            let same = wanted.iter().find(|wanted| wanted.reads_the_same(&open.subscription));
            match (same, same_component) {
                (Some(wanted), true) => match open.worker.upgrade().map_or(Ok(()), |worker| worker.adopt(wanted)) {
                    Ok(()) => running.open.push(Open { subscription: wanted.clone(), ..open }),
                    Err(problem) => {
                        let TopicSubscription { pubsub_name, topic, .. } = wanted;
                        self.log.error(format_args!(
                            "the new rules of the subscription to topic {topic} of pubsub {pubsub_name} are not used: {problem}"
                        ));
                        running.open.push(open);
                    }
                },
                (same, _) => ended.push((open, same.is_some() && now.is_some())),
            }
        }
        for subscription in wanted {
            let is_open = running.open.iter().any(|open| open.subscription.reads_the_same(&subscription));
            let has_component = self.current_entry(&subscription.pubsub_name, upcoming).is_some();
            if !is_open && has_component {
                self.open_into(running, subscription, upcoming).await;
            }
        }
        // Only now, so that no message finds nobody.
        for (open, is_replaced) in ended {
            let TopicSubscription { pubsub_name, topic, .. } = &open.subscription;
            if !is_replaced {
                self.log.info(format_args!("unsubscribed from topic '{topic}' on pubsub '{pubsub_name}'"));
            }
            open.ending.end(is_replaced);
        }
    }

    /// Takes the streams of a component over to the one that takes its place.
    async fn follow_streams(&self, upcoming: Option<&Arc<Entry>>) {
        let moves: Vec<Move> = {
            let mut streams = self.streams.lock();
            streams.retain(|open| !open.task.is_finished());
            let live = streams.iter().filter(|open| open.is_live());
            live.filter_map(|open| {
                let now = self.current_entry(&open.subscription.pubsub_name, upcoming);
                let worker = open.worker.upgrade()?;
                if now.as_ref().is_some_and(|now| Weak::as_ptr(&open.entry) == Arc::as_ptr(now)) {
                    let _ = worker.adopt(&open.subscription); // its only rule is right
                    return None;
                }
                Some(Move {
                    subscription: open.subscription.clone(),
                    sink: worker.get().sink.clone(),
                    closed: open.closed.clone(),
                    ending: open.ending.clone(),
                    has_successor: now.is_some(),
                })
            })
            .collect()
        };
        for Move { subscription, sink, closed, ending, has_successor } in moves {
            if has_successor {
                match self.open(subscription.clone(), sink, closed.child_token(), upcoming).await {
                    Ok(opened) => {
                        let stream = spawn_stream(subscription, closed, opened);
                        self.streams.lock().push(stream);
                    }
                    Err(problem) => {
                        let TopicSubscription { pubsub_name, topic, .. } = &subscription;
                        self.log.error(format_args!(
                            "a stream of topic {topic} could not be taken over to the new pubsub {pubsub_name}: {problem}"
                        ));
                    }
                }
            }
            // Without a successor the app sees its stream end, after it has answered what it has.
            ending.end(has_successor);
        }
    }

    pub(super) fn current_entry(&self, name: &str, upcoming: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        upcoming.filter(|entry| entry.name == name).cloned().or_else(|| self.pubsubs.entry(name))
    }
}

impl PubSubs {
    /// The policy messages are delivered under.
    pub(super) fn inbound_policy(&self, name: &str, is_internal: bool) -> Option<Arc<Policy>> {
        if is_internal { None } else { self.policies.component_inbound(name, ComponentKind::Pubsub) }
    }
}

impl Current {
    /// Delivers by these rules and the present policy from the next message on. `subscription` reads the same as before.
    fn adopt(&self, subscription: &TopicSubscription) -> Result<(), String> {
        let old = self.0.load();
        let name = &subscription.pubsub_name;
        let policy = old.pubsubs.inbound_policy(name, old.sink.is_internal());
        let same_policy = match (&policy, &old.policy) {
            (None, None) => true,
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            _ => false,
        };
        if same_policy && old.subscription == *subscription {
            return Ok(());
        }
        let worker = Worker {
            pubsubs: old.pubsubs.clone(),
            subscription: subscription.clone(),
            router: Router::compile(&subscription.rules)?,
            raw: old.raw.clone(),
            namespace: old.namespace.clone(),
            sink: old.sink.clone(),
            policy,
            closing: old.closing.clone(),
            board: old.board.clone(),
            log: old.log.clone(),
        };
        self.0.store(Arc::new(worker));
        Ok(())
    }
}
