//! Schema levels in the metadata table, shared with the original.
//!
//! *Job:* brings the tables of a component to the level it needs, once, whichever sidecar comes first. *Neighbours:* each
//! component has its own level key in the same metadata table. *Invariant:* a level is raised in the same exclusive
//! transaction that makes it true; a higher level than we know is left alone.
//!
//! *Source:* components-contrib common/component/sql/migrations.

use pillion_contract::{ComponentError, ErrorKind};
use rusqlite::{Connection, OptionalExtension as _};

use crate::connection::failure;

/// Raises the level `key` of `metadata_table` to the number of `steps`, executing the missing ones; blocks.
///
/// # Errors
/// `Internal` for a level that is no number, otherwise as SQLite.
pub(crate) fn migrate(
    connection: &Connection,
    metadata_table: &str,
    key: &str,
    steps: &[String],
) -> Result<(), ComponentError> {
    let begun = connection.execute_batch("BEGIN EXCLUSIVE");
    begun.map_err(|error| failure("failed to perform migrations: failed to begin transaction", error))?;
    let done = migrate_in_transaction(connection, metadata_table, key, steps).and_then(|()| {
        connection.execute_batch("COMMIT").map_err(|error| failure("failed to perform migrations", error))
    });
    if done.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK"); // the first error is the one to tell
    }
    done
}

fn migrate_in_transaction(
    connection: &Connection,
    metadata_table: &str,
    key: &str,
    steps: &[String],
) -> Result<(), ComponentError> {
    let failed = |error| failure("failed to perform migrations", error);
    let known = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?)";
    if !connection.query_row(known, [metadata_table], |row| row.get::<_, bool>(0)).map_err(failed)? {
        let create =
            format!("CREATE TABLE IF NOT EXISTS {metadata_table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)");
        connection.execute_batch(&create).map_err(failed)?;
    }
    let query = format!("SELECT CAST(value AS TEXT) FROM {metadata_table} WHERE key = ?");
    let level: Option<String> = connection.query_row(&query, [key], |row| row.get(0)).optional().map_err(failed)?;
    let level: usize = match level {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let message = format!(
                "invalid migration level found in metadata table {metadata_table}, key {key}: {text:?} is no number"
            );
            ComponentError::new(ErrorKind::Internal, message)
        })?,
    };
    for (index, step) in steps.iter().enumerate().skip(level) {
        connection.execute_batch(step).map_err(failed)?;
        let replace = format!("REPLACE INTO {metadata_table} (key, value) VALUES (?, ?)");
        connection.execute(&replace, [key, &(index + 1).to_string()]).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(connection: &Connection) -> String {
        connection.query_row("SELECT value FROM m WHERE key = 'k'", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn each_step_runs_once_and_a_failed_one_leaves_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        let mut steps = vec!["CREATE TABLE a (x)".to_owned()];
        migrate(&connection, "m", "k", &steps).unwrap();
        migrate(&connection, "m", "k", &steps).unwrap();
        steps.push("CREATE TABLE b (x)".to_owned());
        steps.push("CREATE TABLE a (x)".to_owned());
        migrate(&connection, "m", "k", &steps).unwrap_err();
        assert_eq!(level(&connection), "1");
        connection.query_row("SELECT count(*) FROM b", [], |_| Ok(())).unwrap_err();
        steps.pop();
        migrate(&connection, "m", "k", &steps).unwrap();
        assert_eq!(level(&connection), "2");
        migrate(&connection, "m", "k", &steps[..1]).unwrap();
        assert_eq!(level(&connection), "2", "a newer schema is left alone");
    }

    #[test]
    fn a_level_that_is_no_number_is_told() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE m (key, value); INSERT INTO m VALUES ('k', 'x')").unwrap();
        let error = migrate(&connection, "m", "k", &[]).unwrap_err().to_string();
        assert_eq!(error, "invalid migration level found in metadata table m, key k: \"x\" is no number");
        assert!(connection.is_autocommit());
    }
}
