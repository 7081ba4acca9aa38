//! The database file: opened, created or refused.
//!
//! *Job:* give a connection whose schema is ours. *Invariant:* a file that is not ours, or of a newer version, is left as
//! it is; two processes may come here at the same moment.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::Fault;
use super::settings::Synchronous;
use crate::connection::patiently;

/// Marks the file as a broker's (`application_id` in the file header).
const APPLICATION_ID: i64 = 0x5049_4c42;
/// `user_version` this code writes and understands.
const SCHEMA_VERSION: i64 = 1;
/// How long a commit waits for other processes.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const BUSY_STEP: Duration = Duration::from_micros(200);
/// Pages of write-ahead log (4 KiB each) after which a commit itself moves it into the database; normally
/// [`super::checkpoint`] has done it before.
const CHECKPOINT_PAGES: i64 = 16_000;
const STATEMENTS_CACHED: usize = 64;

const SCHEMA: &str = "
CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, published_at INTEGER NOT NULL, expires_at INTEGER,
    content_type TEXT, metadata TEXT, data BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_topic ON messages (topic);
CREATE INDEX messages_by_expiry ON messages (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE consumer_groups (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, name TEXT NOT NULL, cursor INTEGER NOT NULL, UNIQUE (topic, name)
) STRICT;
CREATE TABLE members (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, app_id TEXT NOT NULL, pid INTEGER NOT NULL, joined_at INTEGER NOT NULL
) STRICT;
CREATE TABLE subscriptions (topic INTEGER NOT NULL, member INTEGER NOT NULL, PRIMARY KEY (topic, member)) STRICT, WITHOUT ROWID;
CREATE TABLE in_flight (
    consumer_group INTEGER NOT NULL, seq INTEGER NOT NULL, member INTEGER NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiting (
    consumer_group INTEGER NOT NULL, due_at INTEGER NOT NULL, seq INTEGER NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, due_at, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting_by_seq ON waiting (seq);
";

/// An open database and how to tell that it is still the file at its path.
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    file: Option<(u64, u64)>,
}

impl Database {
    /// Opens `broker.db` in a directory, makes both where they are missing.
    ///
    /// # Errors
    /// As [`super::create`].
    pub(super) fn open(directory: &Path, synchronous: Synchronous) -> Result<Self, ComponentError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            let message = format!("cannot create the broker directory {}", directory.display());
            ComponentError::caused(ErrorKind::Unavailable, message, error)
        })?;
        let path = directory.join("broker.db");
        let fault = |error: rusqlite::Error| Fault::sqlite("open the broker database", &path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
        connection.busy_handler(Some(wait_for_others)).map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // In one transaction: another process may be creating it between two looks.
        let looks = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred).map_err(fault)?;
        check_owner(&looks, &path).map_err(|problem| problem.unwrap_or_else(fault))?;
        looks.rollback().map_err(fault)?;
        let mode = use_write_ahead_log(&connection).map_err(fault)?;
        if !mode.eq_ignore_ascii_case("wal") {
            let message = format!(
                "the file system of {} cannot share a database between processes; set metadata field \"directory\"",
                path.display()
            );
            return Err(Fault::new(ErrorKind::Unavailable, message).into());
        }
        if connection.is_readonly("main").map_err(fault)? {
            let message =
                format!("the broker database {} is read-only; make it writable for this user", path.display());
            return Err(Fault::new(ErrorKind::Unavailable, message).into());
        }
        create_schema(&connection, &path).map_err(|problem| problem.unwrap_or_else(fault))?;
        prepare(&connection, synchronous).map_err(fault)?;
        let file = identity(&path);
        Ok(Self { connection, path, file })
    }

    /// Whether the file at the path is another one now, or none.
    pub(super) fn is_lost(&self) -> bool {
        identity(&self.path) != self.file
    }
}

/// Device and inode; looks without opening, which would drop SQLite's locks.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Called while another process writes; `false` gives up.
fn wait_for_others(calls_before: i32) -> bool {
    let waited = BUSY_STEP.saturating_mul(u32::try_from(calls_before).unwrap_or_default());
    if waited >= BUSY_LIMIT {
        return false;
    }
    std::thread::sleep(BUSY_STEP); // on the engine's own thread
    true
}

enum Problem {
    Sqlite(rusqlite::Error),
    Refused(Fault),
}

impl Problem {
    fn unwrap_or_else(self, fault: impl FnOnce(rusqlite::Error) -> Fault) -> ComponentError {
        match self {
            Self::Sqlite(error) => fault(error).into(),
            Self::Refused(fault) => fault.into(),
        }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.query_row(sql, [], |row| row.get(0))
}

/// Refuses what this code must not touch; returns whether there is a schema already.
fn check_owner(connection: &Connection, path: &Path) -> Result<bool, Problem> {
    let version = number(connection, "PRAGMA user_version")?;
    let owner = number(connection, "PRAGMA application_id")?;
    let is_empty = number(connection, "SELECT count(*) FROM sqlite_schema")? == 0;
    if is_empty && version == 0 {
        return Ok(false);
    }
    let (kind, message) = if owner != APPLICATION_ID {
        let text =
            "is a SQLite database of something else; set metadata field \"directory\" to another directory".to_owned();
        (ErrorKind::InvalidRequest, text)
    } else if version > SCHEMA_VERSION {
        let text = format!(
            "was written by a newer Pillion (schema version {version}, this one knows {SCHEMA_VERSION}); \
             use that version or set metadata field \"directory\" to another directory"
        );
        (ErrorKind::Unsupported, text)
    } else {
        return Ok(true);
    };
    Err(Problem::Refused(Fault::new(kind, format!("the broker database {} {message}", path.display()))))
}

fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<String> {
    patiently(BUSY_LIMIT, || {
        // Space of deleted messages can be given back; has an effect in a new database only.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
    })
}

fn create_schema(connection: &Connection, path: &Path) -> Result<(), Problem> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if !check_owner(&transaction, path)? {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    Ok(transaction.commit()?)
}

fn prepare(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    set_synchronous(connection, synchronous)
}

/// Changes how the next commits reach the disk; not inside a transaction.
pub(super) fn set_synchronous(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    let word = match synchronous {
        Synchronous::Off => "OFF",
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Result<Database, String> {
        Database::open(directory, Synchronous::Normal).map_err(|error| error.to_string())
    }

    #[test]
    fn many_may_create_it_at_once() {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a/b");
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    std::thread::spawn({
                        let path = path.clone();
                        move || open(&path).map(drop)
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.db");
        drop(open(directory.path()).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let newer = open(directory.path()).err().unwrap();
        assert!(newer.contains("newer Pillion (schema version 7, this one knows 1)"), "{newer}");
        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (a)").unwrap();
        let other = open(directory.path()).err().unwrap();
        assert!(other.contains("database of something else"), "{other}");
        let mode: String =
            Connection::open(&path).unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "delete", "the mode of a foreign database stays");
        fs::write(&path, "no database at all, but long enough to be looked at".repeat(100)).unwrap();
        let junk = open(directory.path()).err().unwrap();
        assert!(junk.contains("damaged or no broker database"), "{junk}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("no database"));
        let file = open(&path).err().unwrap();
        assert!(file.contains("cannot create the broker directory"), "{file}");
    }

    #[test]
    fn a_removed_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let database = open(directory.path()).unwrap();
        assert!(!database.is_lost());
        fs::remove_file(&database.path).unwrap();
        assert!(database.is_lost());
        let _other = open(directory.path()).unwrap();
        assert!(database.is_lost());
    }
}
