//! What the thread does when a tick comes: notice changes nobody told of, dead members and a lost database.
//!
//! *Job:* make polling and the death of a process take effect. *Invariant:* a member is removed only when its lock is free;
//! what it had is due at once for the others.

use std::collections::BTreeSet;

use rusqlite::{Transaction, TransactionBehavior};

use super::clock::now_ms;
use super::fault::Fault;
use super::queries;
use super::transaction::Wakes;
use super::worker::Worker;

impl Worker {
    /// Does what is due; a failure is logged once until it works again.
    pub(super) fn look_around(&mut self, is_tick: bool) {
        self.must_reap = false;
        if self.failure.is_some() {
            return;
        }
        if self.database.is_lost() {
            let fault = Fault::lost(&self.database.path);
            self.log.error(&fault.message);
            self.failure = Some(fault);
            self.wakers.wake_all();
            return;
        }
        let result = self.reap().and_then(|()| if is_tick { self.notice_changes() } else { Ok(()) });
        self.complain(result);
    }

    /// One step of removing old messages.
    pub(super) fn purge_step(&mut self) {
        let result = self.purge.step(&self.database.connection);
        if result.is_err() {
            self.purge.abandon();
        }
        self.complain(result);
    }

    fn complain(&mut self, result: rusqlite::Result<()>) {
        match result {
            Ok(()) => self.has_complained = false,
            Err(error) if !std::mem::replace(&mut self.has_complained, true) => {
                let fault = Fault::sqlite("look after the broker database", &self.database.path, &error);
                self.log.warn(format_args!("{}; trying again", fault.message));
            }
            Err(_) => {} // said before
        }
    }

    fn notice_changes(&mut self) -> rusqlite::Result<()> {
        let version = queries::data_version(&self.database.connection)?;
        if self.version != version {
            self.wakers.wake_all();
            self.stay_member()?;
            self.version = version;
        }
        self.purge.begin_if_due(&self.database.connection, version);
        Ok(())
    }

    /// Comes back when somebody took this member for dead, for example because its lock file was deleted.
    fn stay_member(&mut self) -> rusqlite::Result<()> {
        let Some(member) = &self.member else { return Ok(()) };
        if queries::members(&self.database.connection)?.iter().any(|(id, _)| *id == member.id) {
            return Ok(());
        }
        self.log.warn("this sidecar was taken for dead by another one; messages under way may be delivered twice");
        let member = self.enter()?;
        for topic in self.wakers.topics() {
            queries::add_subscription(&self.database.connection, topic, member.id)?;
        }
        self.member = Some(member); // what it claimed under the old id, the next look around gives back
        Ok(())
    }

    /// Removes members whose process is gone and wakes those who can take over.
    fn reap(&mut self) -> rusqlite::Result<()> {
        let own = self.member.as_ref().map(|member| member.id);
        let mut members = queries::members(&self.database.connection)?;
        members.retain(|(id, name)| Some(*id) != own && !self.folder.is_alive(name));
        let mut gone: BTreeSet<i64> = members.iter().map(|(id, _)| *id).collect();
        gone.extend(queries::strangers(&self.database.connection)?);
        if gone.is_empty() {
            return Ok(());
        }
        let transaction = Transaction::new_unchecked(&self.database.connection, TransactionBehavior::Immediate)?;
        let mut topics = BTreeSet::new();
        for id in gone {
            topics.extend(queries::remove_member(&transaction, id, now_ms())?);
        }
        let wakes = Wakes::find(&transaction, topics, own)?;
        transaction.commit()?;
        for (_, name) in &members {
            self.folder.remove(name);
        }
        self.send(wakes);
        self.must_reap = false; // a wake-up that met another dead one waits for the next tick
        Ok(())
    }

    /// Removes what dead members left behind; for the start.
    pub(super) fn tidy_members(&mut self) -> rusqlite::Result<()> {
        self.version = queries::data_version(&self.database.connection)?;
        self.reap()?;
        let members = queries::members(&self.database.connection)?;
        let names: Vec<String> = members.into_iter().map(|(_, name)| name).collect();
        self.folder.remove_orphans(&names);
        Ok(())
    }

    /// Gives back what this component has and stops being a member; its files go with it.
    pub(super) fn leave(&mut self) {
        let Some(member) = self.member.take() else { return };
        let remove = || {
            let transaction = Transaction::new_unchecked(&self.database.connection, TransactionBehavior::Immediate)?;
            let topics = queries::remove_member(&transaction, member.id, now_ms())?;
            let wakes = Wakes::find(&transaction, topics.into_iter().collect(), None)?;
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(wakes)
        };
        match remove() {
            Ok(wakes) => self.send(wakes),
            Err(_) => drop(member), // its lock is free now, others will notice
        }
    }
}
