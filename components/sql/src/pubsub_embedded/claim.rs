//! How a member gets messages.
//!
//! *Job:* choose, mark and read what a subscription may have next. *Neighbours:* [`super::transaction`] calls it inside one
//! transaction. *Invariant:* what is returned is in `in_flight` when the transaction commits, and nowhere else.

use std::collections::BTreeMap;

use bytes::Bytes;
use pillion_contract::Message;
use rusqlite::{Connection, Row, params};

use super::queries::{Group, next_due_at};

/// A claim ends early when its messages have this many bytes together.
const BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// A message a member has now.
#[derive(Debug)]
pub(super) struct ClaimedMessage {
    pub(super) seq: i64,
    pub(super) message: Message,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub(super) messages: Vec<ClaimedMessage>,
    /// A limit ended the claim; another one may bring more at once.
    pub(super) may_have_more: bool,
    /// When the next nacked message of the group is due.
    pub(super) next_due_at: Option<i64>,
}

/// Who claims.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub(super) group: Group,
    pub(super) topic: &'a str,
    pub(super) member: i64,
    pub(super) now: i64,
    /// Older messages have passed their retention.
    pub(super) published_since: i64,
}

/// Gives a member up to `limit` messages in order: first what others gave back and nacked ones that are due, the latter at
/// most half of all so that new ones get through, then new ones.
pub(super) fn claim(connection: &Connection, claimant: Claimant<'_>, limit: usize) -> rusqlite::Result<Claimed> {
    let mut claim = Claim { connection, claimant, bytes: 0, claimed: Claimed::default() };
    if limit > 0 {
        let more_due = claim.take_due(limit)?;
        let more_new = claim.take_new(limit - claim.claimed.messages.len())?;
        claim.claimed.may_have_more = more_due || more_new;
        claim.claimed.messages.sort_by_key(|message| message.seq);
    }
    claim.claimed.next_due_at = next_due_at(connection, claimant.group)?;
    Ok(claim.claimed)
}

struct Claim<'a> {
    connection: &'a Connection,
    claimant: Claimant<'a>,
    bytes: usize,
    claimed: Claimed,
}

/// A row of `waiting`.
struct Due {
    seq: i64,
    attempts: i64,
    due_at: i64,
    message: Option<ClaimedMessage>,
}

impl Claim<'_> {
    /// Returns whether there may be more; a message that is gone or too old is dropped.
    fn take_due(&mut self, limit: usize) -> rusqlite::Result<bool> {
        let sql = "SELECT w.seq, w.attempts, w.due_at, m.published_at, m.expires_at, m.content_type, m.metadata, m.data
            FROM waiting w LEFT JOIN messages m ON m.seq = w.seq
            WHERE w.consumer_group = ? AND w.due_at <= ? ORDER BY w.due_at, w.seq LIMIT ?";
        let (mut due, mut nacked, mut more) = (Vec::new(), 0, false);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.claimant.group.id, self.claimant.now, limit])?;
        while let Some(row) = rows.next()? {
            let attempts: i64 = row.get(1)?;
            nacked += usize::from(attempts > 0);
            if nacked > limit.div_ceil(2) || self.bytes >= BYTES_LIMIT {
                more = true;
                break;
            }
            due.push(Due { seq: row.get(0)?, attempts, due_at: row.get(2)?, message: self.read(row)? });
        }
        drop(rows);
        more |= due.len() == limit;
        for Due { seq, attempts, due_at, message } in due {
            let sql = "DELETE FROM waiting WHERE consumer_group = ? AND due_at = ? AND seq = ?";
            self.connection.prepare_cached(sql)?.execute([self.claimant.group.id, due_at, seq])?;
            if let Some(message) = message {
                self.take(message, attempts)?;
            }
        }
        Ok(more)
    }

    /// As [`Self::take_due`].
    fn take_new(&mut self, limit: usize) -> rusqlite::Result<bool> {
        let sql = "SELECT seq, NULL, NULL, published_at, expires_at, content_type, metadata, data FROM messages
            WHERE topic = ? AND seq > (SELECT cursor FROM consumer_groups WHERE id = ?) ORDER BY seq LIMIT ?";
        let (mut messages, mut looked_at, mut cursor) = (Vec::new(), 0, None);
        let group = self.claimant.group;
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![group.topic, group.id, limit])?;
        while self.bytes < BYTES_LIMIT
            && let Some(row) = rows.next()?
        {
            looked_at += 1;
            cursor = Some(row.get::<_, i64>(0)?);
            messages.extend(self.read(row)?);
        }
        drop(rows);
        if let Some(cursor) = cursor {
            self.connection
                .prepare_cached("UPDATE consumer_groups SET cursor = ? WHERE id = ?")?
                .execute([cursor, group.id])?;
        }
        for message in messages {
            self.take(message, 0)?;
        }
        Ok(looked_at == limit || self.bytes >= BYTES_LIMIT)
    }

    fn take(&mut self, message: ClaimedMessage, attempts: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO in_flight (consumer_group, seq, member, attempts) VALUES (?, ?, ?, ?)";
        let Claimant { group, member, .. } = self.claimant;
        self.connection.prepare_cached(sql)?.execute([group.id, message.seq, member, attempts])?;
        self.claimed.messages.push(message);
        Ok(())
    }

    /// The message of a row; `None` when it is gone, expired or past its retention.
    fn read(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<ClaimedMessage>> {
        let (published_at, expires_at): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let Some(data) = row.get_ref(7)?.as_blob_or_null()? else { return Ok(None) };
        if expires_at.is_some_and(|at| at <= self.claimant.now)
            || published_at.is_some_and(|at| at < self.claimant.published_since)
        {
            return Ok(None);
        }
        self.bytes += data.len();
        let metadata = row.get_ref(6)?.as_str_or_null()?.map(serde_json::from_str::<BTreeMap<String, String>>);
        let message = Message {
            topic: self.claimant.topic.to_owned(),
            data: Bytes::copy_from_slice(data),
            content_type: row.get(5)?,
            metadata: metadata.and_then(Result::ok).unwrap_or_default(), // publish wrote it
        };
        Ok(Some(ClaimedMessage { seq: row.get(0)?, message }))
    }
}
