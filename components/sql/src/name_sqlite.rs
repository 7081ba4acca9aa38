//! `nameresolution.sqlite`: sidecars that share a SQLite file find each other through its table `hosts`.
//!
//! *Job:* keeps the row of this sidecar fresh, answers with the rows of an app that are fresh. *Neighbours:* `hosts` has the
//! SQL, `database` the threads. *Invariant:* rows are those of the original and both kinds of sidecar see each other; a row
//! that was not renewed within `updateInterval` is never answered.
//!
//! *Source:* components-contrib nameresolution/sqlite. Two things are ours on purpose: the cleanup deletes stale rows (the
//! original's comparison is turned round, it deletes live ones), and a row that somebody deleted is written again instead of
//! ending the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind, InitContext, NameResolver, Registration, ResolveRequest};
use pillion_core::log::Logger;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connection::Target;
use crate::database::Database;
use crate::metadata::{Defaults, SqliteSettings, duration};
use crate::migrations::migrate;

use hosts::{Host, Hosts, Renewal};

mod hosts;

const DEFAULTS: Defaults = Defaults {
    timeout: Duration::from_secs(1),
    busy_timeout: Duration::from_millis(800),
    table: "hosts",
    cleanup_interval: Some(Duration::from_secs(3600)),
};
/// How often a sidecar renews its row, when not told otherwise.
const UPDATE_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between tries to renew while the database fails.
const RENEWAL_RETRY: Duration = Duration::from_millis(50);
/// An answer this young is given without asking the database.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Apps remembered at most; beyond it every question goes to the database.
const ANSWERS_MAX: usize = 4096;

/// The component; see the module text.
pub struct SqliteResolver {
    shared: Arc<Shared>,
    answers: Mutex<HashMap<String, (Instant, Vec<String>)>>,
    own: Mutex<Vec<Arc<Host>>>,
    stop: CancellationToken,
}

/// What the background work needs too.
struct Shared {
    database: Database,
    hosts: Hosts,
    /// Table and database, for messages.
    place: String,
    timeout: Duration,
    update_interval: Duration,
    log: Logger,
}

impl Drop for SqliteResolver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes the component: opens the database, creates the tables where they are missing, starts the cleanup.
///
/// # Errors
/// `InvalidRequest` for bad metadata or a database that cannot be opened; `Unavailable` when it stays locked.
pub async fn create(context: InitContext) -> Result<Arc<dyn NameResolver>, ComponentError> {
    let settings = SqliteSettings::read(&context.metadata, &DEFAULTS)?;
    let update_interval = duration(&context.metadata, &["updateInterval"])?.unwrap_or(UPDATE_INTERVAL);
    if update_interval.subsec_nanos() != 0 {
        return Err(ComponentError::new(
            ErrorKind::InvalidRequest,
            "update interval must not contain fractions of seconds",
        ));
    }
    if update_interval < settings.timeout + Duration::from_secs(1) {
        return Err(ComponentError::new(
            ErrorKind::InvalidRequest,
            "update interval must be at least 1s greater than timeout",
        ));
    }
    let target = Target::parse(&settings, &context.log)?;
    if target.is_private() {
        let consequence = "Service invocation across different apps will not work.";
        context.log.warn(format_args!("Configuring name resolution with an in-memory SQLite database. {consequence}"));
    } else {
        context.log.info(format_args!("Configuring SQLite name resolution with path {}", target.path()));
    }
    let hosts = Hosts::new(&settings.table, &settings.metadata_table, update_interval);
    let place = format!("table {} of the SQLite database {}", settings.table, target.path());
    let (schema, metadata_table) = (hosts.schema(), settings.metadata_table.clone());
    let prepare =
        move |connection: &rusqlite::Connection| migrate(connection, &metadata_table, "nr-migrations", &[schema]);
    let database = Database::open(target, settings.timeout, &context.log, prepare).await?;
    let shared = Arc::new(Shared {
        database,
        hosts,
        place,
        timeout: settings.timeout,
        update_interval,
        log: context.log.clone(),
    });
    let stop = context.cancel.child_token();
    if let Some(interval) = settings.cleanup_interval {
        spawn_until(&stop, shared.clone().clean_up(interval));
    }
    Ok(Arc::new(SqliteResolver { shared, answers: Mutex::default(), own: Mutex::default(), stop }))
}

/// Runs work that has no ending of its own.
fn spawn_until(stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move {
        let _ = stop.run_until_cancelled(work).await; // both endings mean the same: stop
    });
}

impl Shared {
    /// Removes stale rows now and then. The first claim comes at once: it also keeps the originals that share the file from
    /// their own cleanup, which would delete live rows.
    async fn clean_up(self: Arc<Self>, interval: Duration) {
        loop {
            match self.hosts.clean_up(&self.database, interval).await {
                Ok(Some(count)) => self.log.debug(format_args!("Removed {count} stale hosts")),
                Ok(None) => self.log.debug("Last cleanup of hosts was performed too recently"),
                Err(error) => self.log.error(format_args!("Error removing stale hosts: {error}")),
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// Renews a row until another sidecar takes its address. A row may be as old as `updateInterval`, and a renewal may
    /// take as long as `timeout`.
    async fn keep_fresh(self: Arc<Self>, host: Arc<Host>) {
        let every = self.update_interval - self.timeout;
        loop {
            tokio::time::sleep(every).await;
            match self.renew(&host).await {
                Ok(Renewal::Renewed) => {}
                Ok(Renewal::WrittenAgain) => {
                    self.log.warn(format_args!(
                        "Host registration of {} had been deleted and was written again",
                        host.address
                    ));
                }
                Ok(Renewal::Lost) => {
                    let message =
                        "another sidecar has registered the same address; this one will not be found any more";
                    return self.log.error(format_args!("Host registration of {} lost: {message}", host.address));
                }
                Err(error) => self.log.error(format_args!("Failed to update host registration: {error}")),
            }
        }
    }

    async fn renew(&self, host: &Arc<Host>) -> Result<Renewal, ComponentError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.hosts.renew(&self.database, host).await {
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    tokio::time::sleep(RENEWAL_RETRY).await
                }
                outcome => return outcome,
            }
        }
    }
}

#[async_trait]
impl NameResolver for SqliteResolver {
    /// Takes over any earlier registration of the same address.
    async fn register(&self, registration: Registration) -> Result<(), ComponentError> {
        let host = Arc::new(Host::new(Uuid::new_v4().to_string(), &registration)?);
        self.shared.hosts.register(&self.shared.database, &host).await?;
        self.own.lock().push(host.clone());
        self.answers.lock().clear();
        spawn_until(&self.stop, self.shared.clone().keep_fresh(host));
        Ok(())
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Vec<String>, ComponentError> {
        if let Some((asked_at, addresses)) = self.answers.lock().get(&request.app_id)
            && asked_at.elapsed() < FRESH_FOR
        {
            return Ok(addresses.clone());
        }
        let addresses = self.shared.hosts.addresses(&self.shared.database, request.app_id.clone()).await?;
        let mut answers = self.answers.lock();
        if addresses.is_empty() {
            answers.remove(&request.app_id);
            let message = format!(
                "no host found with the given ID: {} (no sidecar of it renewed its registration within {:?} in {}; check that the app runs, its app ID, and that it uses the same database)",
                request.app_id, self.shared.update_interval, self.shared.place
            );
            return Err(ComponentError::new(ErrorKind::NotFound, message));
        }
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (asked_at, _)| asked_at.elapsed() < FRESH_FOR);
        }
        if answers.len() < ANSWERS_MAX {
            answers.insert(request.app_id.clone(), (Instant::now(), addresses.clone()));
        }
        Ok(addresses)
    }

    fn report_failure(&self, request: &ResolveRequest, _address: &str) {
        self.answers.lock().remove(&request.app_id);
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        let own = std::mem::take(&mut *self.own.lock());
        let mut outcome = Ok(());
        for host in own {
            outcome = outcome.and(self.shared.hosts.unregister(&self.shared.database, &host).await);
        }
        self.shared.database.close().await;
        outcome
    }
}

#[cfg(test)]
mod tests;
