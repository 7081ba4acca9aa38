//! The table of `nameresolution.sqlite`, shared with the original.
//!
//! *Job:* every statement on the hosts table. *Neighbours:* `name_sqlite` decides when. *Invariant:* table and index names,
//! the empty namespace column and seconds since 1970 are the original's.
//!
//! *Source:* components-contrib nameresolution/sqlite, sqlite.go and sqlite_migrations.go.

use std::sync::Arc;
use std::time::Duration;

use pillion_contract::{ComponentError, ErrorKind, Registration};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::connection::failure;
use crate::database::Database;

/// A registration of this process.
pub(super) struct Host {
    id: String,
    pub(super) address: String,
    app_id: String,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Renewed,
    /// The row was gone.
    WrittenAgain,
    /// The address belongs to another registration now.
    Lost,
}

impl Host {
    /// # Errors
    /// `InvalidRequest` when something is missing.
    pub(super) fn new(id: String, registration: &Registration) -> Result<Self, ComponentError> {
        let missing = |what: &str| Err(ComponentError::new(ErrorKind::InvalidRequest, what));
        if registration.app_id.is_empty() {
            return missing("name is missing");
        }
        if registration.host.is_empty() {
            return missing("address is missing");
        }
        if registration.internal_port == 0 {
            return missing("port is missing or invalid");
        }
        let (host, port) = (&registration.host, registration.internal_port);
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Self { id, address, app_id: registration.app_id.clone() })
    }
}

/// Statement texts with the table names filled in.
pub(super) struct Hosts {
    schema: String,
    register: Arc<str>,
    renew: Arc<str>,
    owner: Arc<str>,
    unregister: Arc<str>,
    addresses: Arc<str>,
    claim_cleanup: Arc<str>,
    delete_stale: Arc<str>,
}

impl Hosts {
    pub(super) fn new(table: &str, metadata_table: &str, update_interval: Duration) -> Self {
        let (now, seconds) = ("unixepoch(CURRENT_TIMESTAMP)", update_interval.as_secs());
        Self {
            schema: format!(
                "CREATE TABLE {table} (registration_id TEXT NOT NULL PRIMARY KEY, address TEXT NOT NULL, app_id TEXT NOT NULL, \
                 namespace TEXT NOT NULL, last_update INTEGER NOT NULL); \
                 CREATE UNIQUE INDEX {table}_address_idx ON {table} (address); \
                 CREATE INDEX {table}_last_update_idx ON {table} (last_update);"
            ),
            register: format!(
                "REPLACE INTO {table} (registration_id, address, app_id, namespace, last_update) VALUES (?1, ?2, ?3, '', {now})"
            )
            .into(),
            renew: format!("UPDATE {table} SET last_update = {now} WHERE registration_id = ?1 AND address = ?2").into(),
            owner: format!("SELECT registration_id FROM {table} WHERE address = ?1").into(),
            unregister: format!("DELETE FROM {table} WHERE registration_id = ?1 AND address = ?2").into(),
            addresses: format!("SELECT address FROM {table} WHERE app_id = ?1 AND {now} - last_update < {seconds} ORDER BY address")
                .into(),
            claim_cleanup: format!(
                "INSERT INTO {metadata_table} (key, value) VALUES ('nr-last-cleanup', CURRENT_TIMESTAMP) \
                 ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP WHERE {now} - unixepoch(value) >= ?1"
            )
            .into(),
            // Twice the age at which a row stops being answered: its owner may be late.
            delete_stale: format!("DELETE FROM {table} WHERE {now} - last_update > {}", 2 * seconds).into(),
        }
    }

    /// Migration level 1.
    pub(super) fn schema(&self) -> String {
        self.schema.clone()
    }

    pub(super) async fn register(&self, database: &Database, host: &Arc<Host>) -> Result<(), ComponentError> {
        let (statement, host) = (self.register.clone(), host.clone());
        database.write(move |connection| insert(connection, &statement, &host)).await
    }

    pub(super) async fn renew(&self, database: &Database, host: &Arc<Host>) -> Result<Renewal, ComponentError> {
        let (renew, owner, register, host) =
            (self.renew.clone(), self.owner.clone(), self.register.clone(), host.clone());
        let work = move |connection: &Connection| {
            let failed = |error| failure("failed to renew the host registration", error);
            let changed =
                connection.prepare_cached(&renew).and_then(|mut renew| renew.execute([&host.id, &host.address]));
            if changed.map_err(failed)? > 0 {
                return Ok(Renewal::Renewed);
            }
            let owner = connection
                .query_row(&owner, [&host.address], |row| row.get::<_, String>(0))
                .optional()
                .map_err(failed)?;
            if owner.is_some() {
                return Ok(Renewal::Lost);
            }
            insert(connection, &register, &host).map(|()| Renewal::WrittenAgain)
        };
        database.write_atomic(work).await
    }

    pub(super) async fn unregister(&self, database: &Database, host: &Arc<Host>) -> Result<(), ComponentError> {
        let (statement, host) = (self.unregister.clone(), host.clone());
        let work = move |connection: &Connection| {
            let deleted = connection.execute(&statement, [&host.id, &host.address]);
            deleted.map(drop).map_err(|error| failure("failed to unregister host", error))
        };
        database.write(work).await
    }

    pub(super) async fn addresses(&self, database: &Database, app_id: String) -> Result<Vec<String>, ComponentError> {
        let statement = self.addresses.clone();
        let work = move |connection: &Connection| {
            let search = || -> rusqlite::Result<Vec<String>> {
                let mut statement = connection.prepare_cached(&statement)?;
                let rows = statement.query_map([&app_id], |row| row.get(0))?;
                rows.collect()
            };
            search().map_err(|error| failure("failed to look up address", error))
        };
        database.read(work).await
    }

    /// Deletes stale rows; `None` when another sidecar did it within the interval.
    pub(super) async fn clean_up(
        &self,
        database: &Database,
        interval: Duration,
    ) -> Result<Option<usize>, ComponentError> {
        let (claim, delete_stale) = (self.claim_cleanup.clone(), self.delete_stale.clone());
        let age = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        let work = move |connection: &Connection| {
            let clean = || -> rusqlite::Result<Option<usize>> {
                if connection.execute(&claim, params![age])? == 0 {
                    return Ok(None);
                }
                connection.execute(&delete_stale, []).map(Some)
            };
            clean().map_err(|error| failure("failed to delete stale hosts", error))
        };
        database.write_atomic(work).await
    }
}

fn insert(connection: &Connection, statement: &str, host: &Host) -> Result<(), ComponentError> {
    let inserted = connection.execute(statement, [&host.id, &host.address, &host.app_id]);
    inserted.map(drop).map_err(|error| failure("failed to register host", error))
}
