//! From a Dapr connection string to an open SQLite connection.
//!
//! *Job:* reads `path?parameters` as the original does (`_pragma`, `_txlock`, SQLite's own URI parameters), decides the
//! journal mode, opens connections. *Neighbours:* `metadata` has the settings, `database` the threads that use the
//! connections. *Invariant:* what `busyTimeout` and `disableWAL` decide cannot be overruled by the connection string.
//!
//! *Source:* components-contrib common/authentication/sqlite.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::metadata::SqliteSettings;

/// Statements kept prepared on each connection.
const PREPARED_STATEMENTS: usize = 32;

/// Between two tries of what finds the database busy.
const BUSY_STEP: Duration = Duration::from_millis(1);

/// A connection string, understood.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: String,
    /// For messages: the string without its parameters.
    path: String,
    pragmas: Vec<String>,
    /// `None` leaves a file that cannot be written as it is.
    journal_mode: Option<&'static str>,
    /// The statement that starts a write.
    begin: &'static str,
    is_private: bool,
    busy_timeout: Duration,
}

/// Parameters that are for the original's driver and not for SQLite.
const DRIVER_PARAMETERS: [&str; 4] = ["_time_format", "_time_integer_format", "_inttotime", "_texttotime"];
/// Pragmas that have a metadata field of their own, or none on purpose.
const FORBIDDEN_PRAGMAS: [(&str, &str); 3] = [
    ("busy_timeout", "; use the metadata field 'busyTimeout' instead"),
    ("journal_mode", "; use the metadata field 'disableWAL' instead"),
    ("foreign_keys", ""),
];

impl Target {
    /// Reads the connection string.
    ///
    /// # Errors
    /// `InvalidRequest` for a forbidden or malformed pragma and for an unknown lock mode.
    pub(crate) fn parse(settings: &SqliteSettings, log: &Logger) -> Result<Self, ComponentError> {
        let text = settings.connection_string.as_str();
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let has_prefix = path.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:"));
        let name = if has_prefix { path.get(5..).unwrap_or_default() } else { path };
        let is_nameless = name.to_ascii_lowercase().starts_with(":memory:");
        let mut is_private = is_nameless;
        let mut is_read_only = false;
        let mut pragmas = Vec::new();
        let mut begin = "BEGIN IMMEDIATE";
        let mut passed: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
        for (key, value) in parameters(query) {
            match key.as_ref() {
                "_pragma" => pragmas.push(checked_pragma(&value)?),
                "_txlock" => begin = begin_statement(&value, log)?,
                "cache" if is_nameless => {} // ours alone: two components never share a database that has no name
                driver if DRIVER_PARAMETERS.contains(&driver) => {}
                _ if passed.iter().any(|(other, _)| *other == key) => {} // the first one counts
                _ => {
                    is_read_only |= (key == "mode" && value == "ro") || (key == "immutable" && value == "1");
                    is_private |= key == "mode" && value == "memory";
                    passed.push((key, value));
                }
            }
        }
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> =
            passed.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let separator = if query.is_empty() { "" } else { "?" };
        let journal_mode = match (is_private, is_read_only, settings.disable_wal) {
            (true, _, _) => Some("MEMORY"),
            (false, true, _) => None,
            (false, false, true) => Some("DELETE"),
            (false, false, false) => Some("WAL"),
        };
        let uri = format!("file:{name}{separator}{}", query.join("&"));
        Ok(Self {
            uri,
            path: path.to_owned(),
            pragmas,
            journal_mode,
            begin,
            is_private,
            busy_timeout: settings.busy_timeout,
        })
    }

    /// The connection string without its parameters.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the database lives in memory and therefore on one connection only.
    pub(crate) fn is_private(&self) -> bool {
        self.is_private
    }

    /// The statement that starts a write transaction.
    pub(crate) fn begin(&self) -> &'static str {
        self.begin
    }

    /// Opens a connection; blocks.
    ///
    /// # Errors
    /// `InvalidRequest` when the file cannot be opened or is no database, `Unavailable` when it stays locked.
    pub(crate) fn open(&self, log: &Logger) -> Result<Connection, ComponentError> {
        let failed = |error| failure(&format!("failed to open SQLite database {:?}", self.path), error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.uri, flags).map_err(failed)?;
        connection.busy_timeout(self.busy_timeout).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        // `LIKE` tells cases apart, as in the other stores; SQLite's own default would find keys of other apps.
        connection.execute_batch("PRAGMA case_sensitive_like = ON").map_err(failed)?;
        for pragma in &self.pragmas {
            connection.execute_batch(&format!("PRAGMA {pragma}")).map_err(failed)?;
        }
        let Some(wanted) = self.journal_mode else { return Ok(connection) };
        let query = format!("PRAGMA journal_mode = {wanted}");
        let journal_mode: String =
            patiently(self.busy_timeout, || connection.query_row(&query, [], |row| row.get(0))).map_err(failed)?;
        if wanted == "WAL" && !journal_mode.eq_ignore_ascii_case("wal") {
            log.warn(format_args!(
                "SQLite database {:?} cannot use a write-ahead log, its journal mode is {journal_mode}",
                self.path
            ));
        }
        Ok(connection)
    }
}

/// Tries again, for `limit` at most, what finds the database busy. For changes of the journal mode: SQLite itself does not wait when
/// two make one at the same time. Blocks.
pub(crate) fn patiently<T>(limit: Duration, mut change: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let started = Instant::now();
    loop {
        match change() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && started.elapsed() < limit => {
                std::thread::sleep(BUSY_STEP); // on a thread for blocking work
            }
            result => return result,
        }
    }
}

/// Splits a query string as a form does.
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let text = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

fn checked_pragma(pragma: &str) -> Result<String, ComponentError> {
    let lower = pragma.trim().to_ascii_lowercase();
    for (name, hint) in FORBIDDEN_PRAGMAS {
        if lower.starts_with(name) {
            let message = format!("found forbidden option '_pragma={name}' in the connection string{hint}");
            return Err(ComponentError::new(ErrorKind::InvalidRequest, message));
        }
    }
    if lower.is_empty() || lower.contains(';') {
        let message = format!(
            "invalid option '_pragma={pragma}' in the connection string: expected one pragma such as cache_size(-2000)"
        );
        return Err(ComponentError::new(ErrorKind::InvalidRequest, message));
    }
    Ok(pragma.to_owned())
}

/// Writes are collected into transactions that know they will write, so a deferred start would only fail later.
fn begin_statement(lock: &str, log: &Logger) -> Result<&'static str, ComponentError> {
    match lock.to_ascii_lowercase().as_str() {
        "immediate" => Ok("BEGIN IMMEDIATE"),
        "exclusive" => Ok("BEGIN EXCLUSIVE"),
        "deferred" => {
            log.warn(
                "option '_txlock=deferred' in the connection string has no effect: writes start as with 'immediate'",
            );
            Ok("BEGIN IMMEDIATE")
        }
        _ => {
            let message = format!(
                "invalid option '_txlock={lock}' in the connection string: expected immediate, exclusive or deferred"
            );
            Err(ComponentError::new(ErrorKind::InvalidRequest, message))
        }
    }
}

/// An error of SQLite with what was being done.
pub(crate) fn failure(doing: &str, error: rusqlite::Error) -> ComponentError {
    let kind = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::OperationInterrupted,
        ) => ErrorKind::Unavailable,
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::TooBig) => ErrorKind::InvalidRequest,
        Some(ErrorCode::PermissionDenied) => ErrorKind::Unauthorized,
        _ => ErrorKind::Internal,
    };
    ComponentError::caused(kind, doing, error)
}

#[cfg(test)]
mod tests {
    use pillion_contract::Metadata;

    use super::*;
    use crate::metadata::Defaults;

    fn settings(connection_string: &str, disable_wal: bool) -> SqliteSettings {
        let second = Duration::from_secs(1);
        let defaults = Defaults { timeout: second, busy_timeout: second, table: "t", cleanup_interval: None };
        let disable_wal = if disable_wal { "true" } else { "" };
        SqliteSettings::read(&Metadata::new([("url", connection_string), ("disableWAL", disable_wal)]), &defaults)
            .unwrap()
    }

    fn parse(connection_string: &str) -> Result<Target, ComponentError> {
        Target::parse(&settings(connection_string, false), &Logger::silent())
    }

    #[test]
    fn a_new_database_can_be_opened_by_many_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = directory.path().join(format!("{round}.db"));
            let target = parse(path.to_str().unwrap()).unwrap();
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let open = || {
                    start.wait();
                    target.open(&Logger::silent()).map(drop)
                };
                let opened: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                for opened in opened {
                    opened.join().unwrap().unwrap();
                }
            });
        }
    }

    #[test]
    fn paths_and_uris_become_uris() {
        let cases = [
            ("data.db", "file:data.db", Some("WAL"), false),
            (
                "FILE:a b.db?cache=shared&cache=private&_txlock=Exclusive",
                "file:a b.db?cache=shared",
                Some("WAL"),
                false,
            ),
            ("file:///x/y.db?mode=ro&_time_format=sqlite", "file:///x/y.db?mode=ro", None, false),
            ("x.db?immutable=1&vfs=a+b%26", "file:x.db?immutable=1&vfs=a%20b%26", None, false),
            (":memory:", "file::memory:", Some("MEMORY"), true),
            ("file::Memory:?cache=shared", "file::Memory:", Some("MEMORY"), true),
            ("file:name?mode=memory&cache=shared", "file:name?mode=memory&cache=shared", Some("MEMORY"), true),
        ];
        for (text, uri, journal_mode, is_private) in cases {
            let target = parse(text).unwrap();
            assert_eq!(
                (target.uri.as_str(), target.journal_mode, target.is_private),
                (uri, journal_mode, is_private),
                "{text}"
            );
        }
        assert_eq!(Target::parse(&settings("a.db", true), &Logger::silent()).unwrap().journal_mode, Some("DELETE"));
    }

    #[test]
    fn options_that_have_a_field_are_refused() {
        let cases = [
            (
                "a.db?_pragma=busy_timeout(1)",
                "found forbidden option '_pragma=busy_timeout' in the connection string; use the metadata field 'busyTimeout' instead",
            ),
            (
                "a.db?_pragma=Journal_Mode%3Doff",
                "found forbidden option '_pragma=journal_mode' in the connection string; use the metadata field 'disableWAL' instead",
            ),
            ("a.db?_pragma=foreign_keys(1)", "found forbidden option '_pragma=foreign_keys' in the connection string"),
            (
                "a.db?_pragma=",
                "invalid option '_pragma=' in the connection string: expected one pragma such as cache_size(-2000)",
            ),
            (
                "a.db?_txlock=never",
                "invalid option '_txlock=never' in the connection string: expected immediate, exclusive or deferred",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn pragmas_are_applied_and_missing_folders_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.db");
        let text = format!("{}?_pragma=synchronous(1)&_pragma=cache_size%3D-99", path.display());
        let connection = parse(&text).unwrap().open(&Logger::silent()).unwrap();
        let value =
            |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((value("synchronous"), value("cache_size"), value("busy_timeout")), (1, -99, 1000));
        let error = parse("/nowhere/at/all.db").unwrap().open(&Logger::silent()).unwrap_err();
        assert!(
            error.to_string().starts_with("failed to open SQLite database \"/nowhere/at/all.db\": unable to open"),
            "{error}"
        );
    }
}
