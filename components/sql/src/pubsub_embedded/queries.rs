//! What is asked of the database, one function per question.
//!
//! *Job:* SQL and nothing else; claims are in [`super::claim`]. *Neighbours:* [`super::transaction`] calls it. *Invariant:* per
//! consumer group a message is in exactly one place: after the cursor, in `in_flight`, in `waiting`, or done with.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::clock;
use super::engine::Outgoing;
use super::settings::InitialOffset;

/// First pause before a nacked message comes again; doubles each time.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);

/// A consumer group on a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) id: i64,
    pub(super) topic: i64,
}

/// The id of a topic; a new one gets its row.
pub(super) fn topic_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let find = |connection: &Connection| {
        connection
            .prepare_cached("SELECT id FROM topics WHERE name = ?")?
            .query_row([name], |row| row.get(0))
            .optional()
    };
    if let Some(id) = find(connection)? {
        return Ok(id);
    }
    connection.execute("INSERT INTO topics (name) VALUES (?)", [name])?;
    Ok(connection.last_insert_rowid())
}

/// Stores a message.
pub(super) fn publish(connection: &Connection, topic: i64, message: &Outgoing, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO messages (topic, published_at, expires_at, content_type, metadata, data) VALUES (?, ?, ?, ?, ?, ?)";
    let data: &[u8] = &message.data;
    let values = params![topic, now, message.expires_at, message.content_type, message.metadata, data];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// The group of a name; a new one starts where `offset` says.
pub(super) fn group(connection: &Connection, topic: i64, name: &str, offset: InitialOffset) -> rusqlite::Result<Group> {
    let find = "SELECT id FROM consumer_groups WHERE topic = ? AND name = ?";
    if let Some(id) = connection.query_row(find, params![topic, name], |row| row.get(0)).optional()? {
        return Ok(Group { id, topic });
    }
    let cursor = match offset {
        InitialOffset::Oldest => 0,
        InitialOffset::Newest => last_seq(connection)?,
    };
    connection
        .execute("INSERT INTO consumer_groups (topic, name, cursor) VALUES (?, ?, ?)", params![topic, name, cursor])?;
    Ok(Group { id: connection.last_insert_rowid(), topic })
}

fn last_seq(connection: &Connection) -> rusqlite::Result<i64> {
    let last = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'messages'", [], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// Whether a claim would find anything now, and when the next nacked message is due; a read only.
pub(super) fn has_work(connection: &Connection, group: Group, now: i64) -> rusqlite::Result<(bool, Option<i64>)> {
    let sql = "SELECT EXISTS (SELECT 1 FROM messages WHERE topic = ?1
        AND seq > (SELECT cursor FROM consumer_groups WHERE id = ?2))";
    let has_new: bool = connection.prepare_cached(sql)?.query_row([group.topic, group.id], |row| row.get(0))?;
    let next_due_at = next_due_at(connection, group)?;
    Ok((has_new || next_due_at.is_some_and(|due_at| due_at <= now), next_due_at))
}

/// When the next message that waits for a group is due.
pub(super) fn next_due_at(connection: &Connection, group: Group) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT min(due_at) FROM waiting WHERE consumer_group = ?")?
        .query_row([group.id], |row| row.get(0))
}

/// Ends a message for a group.
pub(super) fn ack(connection: &Connection, group: Group, seq: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM in_flight WHERE consumer_group = ? AND seq = ?")?
        .execute([group.id, seq])?;
    Ok(())
}

/// Lets a message of this member wait for its next delivery.
pub(super) fn nack(connection: &Connection, group: Group, member: i64, seq: i64, now: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM in_flight WHERE consumer_group = ? AND seq = ? AND member = ? RETURNING attempts";
    let attempts: Option<i64> =
        connection.prepare_cached(sql)?.query_row([group.id, seq, member], |row| row.get(0)).optional()?;
    let Some(attempts) = attempts else { return Ok(()) }; // another member has it
    let sql = "INSERT INTO waiting (consumer_group, due_at, seq, attempts) VALUES (?, ?, ?, ?)";
    let due_at = clock::after(now, backoff(attempts));
    connection.prepare_cached(sql)?.execute([group.id, due_at, seq, attempts.saturating_add(1)])?;
    Ok(())
}

fn backoff(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    (BACKOFF * 2u32.pow(doublings)).min(BACKOFF_LIMIT)
}

/// Gives back what a member has of a group, due at once.
pub(super) fn release(
    connection: &Connection,
    group: Group,
    member: i64,
    seqs: &[i64],
    now: i64,
) -> rusqlite::Result<()> {
    for seq in seqs {
        let sql = "INSERT INTO waiting (consumer_group, due_at, seq, attempts)
            SELECT consumer_group, ?, seq, attempts FROM in_flight WHERE consumer_group = ? AND seq = ? AND member = ?";
        connection.prepare_cached(sql)?.execute([now, group.id, *seq, member])?;
        let sql = "DELETE FROM in_flight WHERE consumer_group = ? AND seq = ? AND member = ?";
        connection.prepare_cached(sql)?.execute([group.id, *seq, member])?;
    }
    Ok(())
}

/// Adds a member.
pub(super) fn add_member(connection: &Connection, name: &str, app_id: &str, now: i64) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO members (name, app_id, pid, joined_at) VALUES (?, ?, ?, ?)";
    connection.execute(sql, params![name, app_id, std::process::id(), now])?;
    Ok(connection.last_insert_rowid())
}

/// All members as id and name.
pub(super) fn members(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached("SELECT id, name FROM members")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Ids that have something in flight and are no members any more.
pub(super) fn strangers(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT DISTINCT member FROM in_flight WHERE member NOT IN (SELECT id FROM members)";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Removes a member and gives back all it had; returns the topics where something was given back.
pub(super) fn remove_member(connection: &Connection, member: i64, now: i64) -> rusqlite::Result<Vec<i64>> {
    let sql =
        "SELECT DISTINCT g.topic FROM in_flight f JOIN consumer_groups g ON g.id = f.consumer_group WHERE f.member = ?";
    let topics = connection
        .prepare_cached(sql)?
        .query_map([member], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let sql = "INSERT INTO waiting (consumer_group, due_at, seq, attempts)
        SELECT consumer_group, ?, seq, attempts FROM in_flight WHERE member = ?";
    connection.execute(sql, [now, member])?;
    connection.execute("DELETE FROM in_flight WHERE member = ?", [member])?;
    connection.execute("DELETE FROM subscriptions WHERE member = ?", [member])?;
    connection.execute("DELETE FROM members WHERE id = ?", [member])?;
    Ok(topics)
}

/// Remembers that a member wants wake-ups for a topic.
pub(super) fn add_subscription(connection: &Connection, topic: i64, member: i64) -> rusqlite::Result<()> {
    connection.execute("INSERT OR IGNORE INTO subscriptions (topic, member) VALUES (?, ?)", [topic, member])?;
    Ok(())
}

/// Forgets it.
pub(super) fn remove_subscription(connection: &Connection, topic: i64, member: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM subscriptions WHERE topic = ? AND member = ?", [topic, member])?;
    Ok(())
}

/// The names of the other members that want wake-ups for a topic.
pub(super) fn listeners(connection: &Connection, topic: i64, own: Option<i64>) -> rusqlite::Result<Vec<String>> {
    let sql =
        "SELECT m.name FROM subscriptions s JOIN members m ON m.id = s.member WHERE s.topic = ? AND s.member IS NOT ?";
    connection.prepare_cached(sql)?.query_map(params![topic, own], |row| row.get(0))?.collect()
}

/// A number that changes when another connection has written.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<u128> = [0, 1, 2, 5, 6, 1000, i64::MAX].map(|attempts| backoff(attempts).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 3200, 5000, 5000, 5000]);
    }
}
