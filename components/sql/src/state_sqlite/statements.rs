//! The SQL of `state.sqlite`: one table, shared with the original.
//!
//! *Job:* every statement on the state table, prepared once per connection. *Neighbours:* `state_sqlite` checks requests,
//! this file only binds. *Invariant:* table layout, time format (`YYYY-MM-DD HH:MM:SS`, UTC) and base64 of binary values are
//! the original's.
//!
//! *Source:* components-contrib state/sqlite, sqlite_dbaccess.go and sqlite_migrations.go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pillion_contract::{BulkGetItem, ComponentError, ErrorKind, KeysLikeResponse, StateItem};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use uuid::Uuid;

use crate::connection::failure;

/// What must hold of the row before a write.
pub(super) enum Expected {
    Anything,
    /// No row, or an expired one.
    Absent,
    ETag(String),
}

/// Statement texts with the table names filled in.
pub(super) struct Statements {
    schema: String,
    get: String,
    upsert: String,
    insert_if_absent: String,
    update_if_etag: String,
    delete: String,
    delete_if_etag: String,
    /// Walks the rows in order and stops when the page is full.
    keys_like_page: String,
    /// Looks only at the keys that begin as the pattern does, then sorts.
    keys_like_all: String,
    pub(super) claim_cleanup: String,
    pub(super) expired: String,
    pub(super) delete_expired: String,
}

impl Statements {
    pub(super) fn new(table: &str, metadata_table: &str) -> Self {
        let live = "(expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP)";
        // An upsert keeps the place of the row where the original's replace moves it to the end: half of the pages to write.
        let upsert = format!(
            "INSERT INTO {table} (key, value, is_binary, etag, expiration_time, update_time) \
             VALUES (?1, ?2, ?3, ?4, DATETIME('now', ?5), CURRENT_TIMESTAMP) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, is_binary = excluded.is_binary, etag = excluded.etag, \
             expiration_time = excluded.expiration_time, update_time = excluded.update_time"
        );
        Self {
            // The layout matters by position too: the original inserts without column names.
            schema: format!(
                "CREATE TABLE IF NOT EXISTS {table} (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL, \
                 etag TEXT NOT NULL, expiration_time TIMESTAMP DEFAULT NULL, update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            ),
            get: format!(
                "SELECT value, is_binary, etag, strftime('%Y-%m-%dT%H:%M:%SZ', expiration_time) FROM {table} WHERE key = ?1 AND {live}"
            ),
            insert_if_absent: format!("{upsert} WHERE NOT {live}"),
            upsert,
            update_if_etag: format!(
                "UPDATE {table} SET value = ?2, is_binary = ?3, etag = ?4, expiration_time = DATETIME('now', ?5), \
                 update_time = CURRENT_TIMESTAMP WHERE key = ?1 AND etag = ?6 AND {live}"
            ),
            delete: format!("DELETE FROM {table} WHERE key = ?1"),
            delete_if_etag: format!("DELETE FROM {table} WHERE key = ?1 AND etag = ?2"),
            keys_like_page: format!(
                "SELECT key, rowid FROM {table} WHERE key >= ?1 AND key < ?2 AND key LIKE ?3 ESCAPE '\\' \
                 AND rowid > ?4 AND {live} ORDER BY rowid LIMIT ?5"
            ),
            // The plus signs keep the planner from the order of rows, which leaves it the index of keys.
            keys_like_all: format!(
                "SELECT key, rowid FROM {table} WHERE key >= ?1 AND key < ?2 AND key LIKE ?3 ESCAPE '\\' \
                 AND +rowid > ?4 AND {live} ORDER BY +rowid LIMIT ?5"
            ),
            claim_cleanup: format!(
                "INSERT INTO {metadata_table} (key, value) VALUES ('last-cleanup', CURRENT_TIMESTAMP) \
                 ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP \
                 WHERE (unixepoch(CURRENT_TIMESTAMP) - unixepoch(value)) * 1000 > ?1"
            ),
            expired: format!(
                "SELECT rowid FROM {table} WHERE rowid > ?1 AND expiration_time IS NOT NULL AND expiration_time < CURRENT_TIMESTAMP \
                 ORDER BY rowid LIMIT ?2"
            ),
            delete_expired: format!(
                "DELETE FROM {table} WHERE rowid = ?1 AND expiration_time IS NOT NULL AND expiration_time < CURRENT_TIMESTAMP"
            ),
        }
    }

    /// Migration level 1.
    pub(super) fn schema(&self) -> String {
        self.schema.clone()
    }

    pub(super) fn get(&self, connection: &Connection, key: &str) -> Result<Option<StateItem>, ComponentError> {
        let found = connection
            .prepare_cached(&self.get)
            .and_then(|mut statement| statement.query_row([key], row_of).optional());
        found.map_err(|error| failure("failed to read from the state table", error))?.map(RawItem::decode).transpose()
    }

    /// One answer per key, in order, all of one moment.
    pub(super) fn bulk_get(
        &self,
        connection: &Connection,
        keys: Vec<String>,
    ) -> Result<Vec<BulkGetItem>, ComponentError> {
        let moment = connection
            .unchecked_transaction()
            .map_err(|error| failure("failed to read from the state table", error))?;
        let answer = |key: String| match self.get(&moment, &key) {
            Ok(item) => BulkGetItem { key, item, error: None },
            Err(error) => BulkGetItem { key, item: None, error: Some(error.to_string()) },
        };
        Ok(keys.into_iter().map(answer).collect())
    }

    /// Writes one row with a new ETag.
    pub(super) fn set(
        &self,
        connection: &Connection,
        key: &str,
        value: &str,
        is_binary: bool,
        lifetime: Option<&str>,
        expected: &Expected,
    ) -> Result<(), ComponentError> {
        let mut buffer = Uuid::encode_buffer();
        let etag: &str = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        let changed = match expected {
            Expected::Anything => change(connection, &self.upsert, params![key, value, is_binary, etag, lifetime])?,
            Expected::Absent => {
                change(connection, &self.insert_if_absent, params![key, value, is_binary, etag, lifetime])?
            }
            Expected::ETag(current) => {
                change(connection, &self.update_if_etag, params![key, value, is_binary, etag, lifetime, current])?
            }
        };
        if changed == 0 { Err(mismatch()) } else { Ok(()) }
    }

    pub(super) fn delete(&self, connection: &Connection, key: &str, etag: Option<&str>) -> Result<(), ComponentError> {
        match etag {
            None => change(connection, &self.delete, [key]).map(drop),
            Some(etag) if change(connection, &self.delete_if_etag, [key, etag])? == 0 => Err(mismatch()),
            Some(_) => Ok(()),
        }
    }

    /// Keys in the order of their rows, after row `after`; the token is the last row of a full page, as in the original.
    pub(super) fn keys_like(
        &self,
        connection: &Connection,
        pattern: &str,
        after: i64,
        page_size: Option<usize>,
    ) -> Result<KeysLikeResponse, ComponentError> {
        let page_size = page_size.filter(|size| *size > 0);
        // One more than asked for tells whether there is a next page; SQLite takes -1 as no limit.
        let limit = page_size.map_or(-1, |size| i64::try_from(size.saturating_add(1)).unwrap_or(-1));
        let (from, to) = literal_range(pattern);
        let search = || -> rusqlite::Result<Vec<(String, i64)>> {
            let statement = if page_size.is_some() { &self.keys_like_page } else { &self.keys_like_all };
            let mut statement = connection.prepare_cached(statement)?;
            let rows =
                statement.query_map(params![from, to, pattern, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let mut found = search().map_err(|error| failure("failed to search keys in the state table", error))?;
        let mut token = None;
        if let Some(size) = page_size.filter(|size| found.len() > *size) {
            found.truncate(size);
            token = found.last().map(|(_, row)| row.to_string());
        }
        Ok(KeysLikeResponse { keys: found.into_iter().map(|(key, _)| key).collect(), token })
    }
}

/// The keys that can match: from the text before the first wildcard up to its successor.
fn literal_range(pattern: &str) -> (String, String) {
    let mut from = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' => break,
            '\\' => match chars.next() {
                Some(escaped) => from.push(escaped),
                None => break,
            },
            other => from.push(other),
        }
    }
    // U+10FFFF is no character: no key that begins with `from` sorts behind it.
    let to = format!("{from}\u{10FFFF}");
    (from, to)
}

fn change(connection: &Connection, statement: &str, params: impl Params) -> Result<usize, ComponentError> {
    let changed = connection.prepare_cached(statement).and_then(|mut statement| statement.execute(params));
    changed.map_err(|error| failure("failed to write to the state table", error))
}

fn mismatch() -> ComponentError {
    ComponentError::new(ErrorKind::ETagMismatch, "possible etag mismatch. error from state store")
}

/// A row before its value is decoded.
struct RawItem {
    value: Vec<u8>,
    is_binary: bool,
    etag: String,
    expires: Option<String>,
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<RawItem> {
    let value = match row.get_ref(0)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => row.get::<_, String>(0)?.into_bytes(), // an error that names the type
    };
    Ok(RawItem { value, is_binary: row.get(1)?, etag: row.get(2)?, expires: row.get(3)? })
}

impl RawItem {
    fn decode(self) -> Result<StateItem, ComponentError> {
        let data = if self.is_binary {
            let decoded = STANDARD.decode(&self.value);
            decoded
                .map_err(|error| ComponentError::caused(ErrorKind::Internal, "failed to decode binary data", error))?
        } else {
            self.value
        };
        let metadata = self.expires.map(|at| ("ttlExpireTime".to_owned(), at)).into_iter().collect();
        Ok(StateItem { data: Bytes::from(data), etag: Some(self.etag), metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_narrows_the_keys_to_look_at() {
        let cases = [("app||%", "app||"), ("%x", ""), ("a\\_b_c", "a_b"), ("plain", "plain"), ("end\\", "end")];
        for (pattern, from) in cases {
            assert_eq!(literal_range(pattern), (from.to_owned(), format!("{from}\u{10FFFF}")), "{pattern}");
        }
    }
}
