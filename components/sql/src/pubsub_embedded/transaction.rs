//! One batch of commands inside one transaction.
//!
//! *Job:* what each command means in SQL, and whom to wake when it is committed. *Neighbours:* [`super::worker`] begins and
//! commits. *Invariant:* answers are only kept here, never sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Notify;

use super::claim::{self, Claimant};
use super::clock;
use super::engine::{Command, Subscription};
use super::queries;
use super::settings::Settings;
use super::wake::Wakers;

/// Whom to wake after a commit.
pub(super) struct Wakes {
    pub(super) topics: BTreeSet<i64>,
    /// Names of members of other components with their topics.
    pub(super) members: BTreeMap<String, Vec<i64>>,
}

impl Wakes {
    pub(super) fn find(connection: &Connection, topics: BTreeSet<i64>, own: Option<i64>) -> rusqlite::Result<Self> {
        let mut members: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for topic in &topics {
            for name in queries::listeners(connection, *topic, own)? {
                members.entry(name).or_default().push(*topic);
            }
        }
        Ok(Self { topics, members })
    }
}

/// One transaction.
pub(super) struct Work<'a> {
    pub(super) connection: &'a Connection,
    /// Ids of topics by name.
    pub(super) topics: &'a mut HashMap<String, i64>,
    pub(super) member: Option<i64>,
    pub(super) wakers: &'a Wakers,
    pub(super) settings: &'a Settings,
    pub(super) now: i64,
    /// Topics somebody may want to look at.
    pub(super) wake: BTreeSet<i64>,
}

impl Work<'_> {
    pub(super) fn execute(&mut self, command: &mut Command) -> rusqlite::Result<()> {
        match command {
            Command::Publish { messages, answer } => {
                for message in messages.iter() {
                    let topic = self.topic_id(&message.topic)?;
                    queries::publish(self.connection, topic, message, self.now)?;
                    self.wake.insert(topic);
                }
                answer.keep(());
            }
            Command::Join { topic, group, answer } => {
                let id = self.topic_id(topic)?;
                let group = queries::group(self.connection, id, group, self.settings.initial_offset)?;
                if let Some(member) = self.member {
                    queries::add_subscription(self.connection, id, member)?;
                }
                answer.keep(Arc::new(Subscription { topic: topic.clone(), group, waiter: Arc::new(Notify::new()) }));
            }
            Command::Settle { subscription, settlement, limit, answer } => {
                let Some(member) = self.member else { return Ok(()) }; // no subscription without a member
                let group = subscription.group;
                for seq in &settlement.acked {
                    queries::ack(self.connection, group, *seq)?;
                }
                for seq in &settlement.nacked {
                    queries::nack(self.connection, group, member, *seq, self.now)?;
                }
                let claimant = Claimant {
                    group,
                    topic: &subscription.topic,
                    member,
                    now: self.now,
                    published_since: clock::before(self.now, self.settings.retention),
                };
                answer.keep(claim::claim(self.connection, claimant, *limit)?);
            }
            Command::Leave { subscription, settlement, answer } => {
                let Some(member) = self.member else { return Ok(()) }; // as above
                let group = subscription.group;
                for seq in &settlement.acked {
                    queries::ack(self.connection, group, *seq)?;
                }
                queries::release(self.connection, group, member, &settlement.nacked, self.now)?;
                if self.wakers.remove(group.topic, &subscription.waiter) {
                    queries::remove_subscription(self.connection, group.topic, member)?;
                }
                if !settlement.nacked.is_empty() {
                    self.wake.insert(group.topic);
                }
                answer.keep(());
            }
            Command::Tick | Command::Close(_) => {}
        }
        Ok(())
    }

    fn topic_id(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.topics.get(name) {
            return Ok(*id);
        }
        let id = queries::topic_id(self.connection, name)?;
        self.topics.insert(name.to_owned(), id);
        Ok(id)
    }
}
