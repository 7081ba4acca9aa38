//! Removes messages nobody will get any more.
//!
//! *Job:* rounds of small steps, between which the thread serves others: messages older than the retention, expired ones,
//! and those every group of their topic is done with; then free pages go back to the file system. *Invariant:* a message
//! that a known group still has to get stays until retention or TTL end it.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Params, Transaction, TransactionBehavior, params};

use super::clock::{before, now_ms};

/// Messages one step looks at.
const STEP_ROWS: i64 = 200;
/// Pause between rounds while something changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause while nothing changes: only time makes messages old then.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// A round may use one part in so many of the thread's time.
const PAUSE_FACTOR: u32 = 10;
/// Free pages that stay in the file, 4 KiB each.
const FREE_PAGES_KEPT: i64 = 4096;
const VACUUM_PAGES: i64 = 256;

/// State of the rounds of one component.
pub(super) struct Purge {
    retention: Duration,
    step: Option<Step>,
    began: Instant,
    next: Instant,
    next_idle: Instant,
    seen: Option<(i64, u64)>,
}

enum Step {
    Old,
    Expired,
    /// Topics with the lowest cursor of their groups, and how far the first one is done.
    Consumed {
        topics: Vec<(i64, i64)>,
        after: i64,
    },
    Vacuum,
}

impl Purge {
    pub(super) fn new(retention: Duration) -> Self {
        let now = Instant::now();
        Self { retention, step: None, began: now, next: now, next_idle: now, seen: None }
    }

    pub(super) fn is_active(&self) -> bool {
        self.step.is_some()
    }

    /// Starts a round when it is time; `version` tells of changes by others.
    pub(super) fn begin_if_due(&mut self, connection: &Connection, version: i64) {
        let (now, changes) = (Instant::now(), (version, connection.total_changes()));
        let is_due = now >= self.next_idle || (now >= self.next && self.seen != Some(changes));
        if self.step.is_none() && is_due {
            (self.step, self.began, self.seen) = (Some(Step::Old), now, Some(changes));
        }
    }

    /// Gives a round up after an error.
    pub(super) fn abandon(&mut self) {
        self.end(Instant::now());
    }

    fn end(&mut self, now: Instant) {
        self.step = None;
        self.next = now + INTERVAL.max((now - self.began) * PAUSE_FACTOR);
        self.next_idle = now + IDLE_INTERVAL.max((now - self.began) * PAUSE_FACTOR);
    }

    /// Does one step of the round.
    pub(super) fn step(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(step) = self.step.take() else { return Ok(()) };
        self.step = match step {
            Step::Old => Some(if self.remove_old(connection)? { Step::Old } else { Step::Expired }),
            Step::Expired if remove_expired(connection)? => Some(Step::Expired),
            Step::Expired => Some(Step::Consumed { topics: topics_with_groups(connection)?, after: 0 }),
            Step::Consumed { mut topics, after } => match topics.last() {
                None => Some(Step::Vacuum),
                Some((topic, cursor)) => {
                    let after = remove_consumed(connection, *topic, after, *cursor)?;
                    if after.is_none() {
                        topics.pop();
                    }
                    Some(Step::Consumed { topics, after: after.unwrap_or_default() })
                }
            },
            Step::Vacuum if give_pages_back(connection)? => Some(Step::Vacuum),
            Step::Vacuum => None,
        };
        if self.step.is_none() {
            // What this round changed itself is no reason for another one.
            self.seen = self.seen.map(|(version, _)| (version, connection.total_changes()));
            self.end(Instant::now());
        }
        Ok(())
    }

    /// Sequence numbers follow the clock, so the old ones are the first; returns whether there may be more.
    fn remove_old(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let limit = before(now_ms(), self.retention);
        let sql =
            "SELECT seq FROM (SELECT seq, published_at FROM messages ORDER BY seq LIMIT ?) WHERE published_at < ?";
        let removed = remove(connection, &numbers(connection, sql, [STEP_ROWS, limit])?)?;
        // A nacked message that is gone would be dropped when it is due; this is for groups nobody is in.
        let sql = "SELECT seq FROM waiting WHERE seq < coalesce(
            (SELECT min(seq) FROM messages), (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'messages'), 0) LIMIT ?";
        let orphans = numbers(connection, sql, [STEP_ROWS])?;
        if !orphans.is_empty() {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            for seq in &orphans {
                transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?.execute([seq])?;
            }
            transaction.commit()?;
        }
        Ok(removed || !orphans.is_empty())
    }
}

fn numbers(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
}

fn remove(connection: &Connection, seqs: &[i64]) -> rusqlite::Result<bool> {
    if seqs.is_empty() {
        return Ok(false);
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for seq in seqs {
        transaction.prepare_cached("DELETE FROM messages WHERE seq = ?")?.execute([seq])?;
    }
    transaction.commit()?;
    Ok(true)
}

fn remove_expired(connection: &Connection) -> rusqlite::Result<bool> {
    let seqs = numbers(connection, "SELECT seq FROM messages WHERE expires_at <= ? LIMIT ?", [now_ms(), STEP_ROWS])?;
    remove(connection, &seqs)
}

fn topics_with_groups(connection: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
    let sql = "SELECT topic, min(cursor) FROM consumer_groups GROUP BY topic";
    connection.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Removes messages of a topic up to the cursor that no group has in flight or waiting; returns where to go on.
fn remove_consumed(connection: &Connection, topic: i64, after: i64, cursor: i64) -> rusqlite::Result<Option<i64>> {
    let sql =
        "SELECT max(seq) FROM (SELECT seq FROM messages WHERE topic = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?)";
    let last: Option<Option<i64>> =
        connection.prepare_cached(sql)?.query_row([topic, after, cursor, STEP_ROWS], |row| row.get(0)).optional()?;
    let Some(last) = last.flatten() else { return Ok(None) };
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let sql = "DELETE FROM messages WHERE topic = ? AND seq > ? AND seq <= ?
        AND seq NOT IN (SELECT seq FROM in_flight) AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.seq = messages.seq)";
    transaction.prepare_cached(sql)?.execute(params![topic, after, last])?;
    transaction.commit()?;
    Ok(Some(last))
}

/// Shrinks the file when more than half of it is free; returns whether it did.
fn give_pages_back(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let (free, all) = (number("PRAGMA freelist_count")?, number("PRAGMA page_count")?);
    if free <= FREE_PAGES_KEPT || free <= all / 2 {
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {} // one row for each page
    Ok(true)
}
