//! Removes expired rows of `state.sqlite` every `cleanupInterval`.
//!
//! *Job:* one sidecar of those that share the file sweeps per interval, which the row `last-cleanup` of the metadata table
//! decides. *Neighbours:* `statements`. *Invariant:* a sweep never holds the writer for longer than one page of rows.
//!
//! *Source:* components-contrib common/component/sql/cleanup.go.

use std::sync::Arc;
use std::time::Duration;

use pillion_contract::ComponentError;
use pillion_core::duration::format_go;
use pillion_core::log::Logger;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::statements::Statements;
use crate::connection::failure;
use crate::database::Database;

/// Rows deleted by one transaction.
const PAGE: i64 = 1000;
/// Tickers are not exact: an interval counts as over this much earlier.
const SLACK: Duration = Duration::from_millis(100);

/// Sweeps every `interval` until `stop`.
pub(super) fn start(
    database: Database,
    statements: Arc<Statements>,
    interval: Duration,
    log: Logger,
    stop: CancellationToken,
) {
    log.info(format_args!("Schedule expired data clean up every {}", format_go(interval)));
    let work = async move {
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match sweep(&database, &statements, interval).await {
                Ok(Some(count)) => log.info(format_args!("Removed {count} expired rows")),
                Ok(None) => log.debug("Last cleanup was performed too recently"),
                Err(error) => log.error(format_args!("Error removing expired data: {error}")),
            }
        }
    };
    tokio::spawn(async move {
        let _ = stop.run_until_cancelled(work).await; // the work has no other ending
    });
}

/// Deletes what has expired; `None` when another sidecar did it within the interval.
pub(super) async fn sweep(
    database: &Database,
    statements: &Arc<Statements>,
    interval: Duration,
) -> Result<Option<usize>, ComponentError> {
    let age = i64::try_from(interval.saturating_sub(SLACK).as_millis()).unwrap_or(i64::MAX);
    let texts = statements.clone();
    let claim = move |connection: &rusqlite::Connection| {
        let changed =
            connection.prepare_cached(&texts.claim_cleanup).and_then(|mut statement| statement.execute([age]));
        changed.map_err(|error| failure("failed to read last cleanup time from database", error))
    };
    if database.write(claim).await? == 0 {
        return Ok(None);
    }
    let (mut removed, mut after) = (0, i64::MIN);
    loop {
        let texts = statements.clone();
        let find = move |connection: &rusqlite::Connection| {
            let search = || -> rusqlite::Result<Vec<i64>> {
                let mut statement = connection.prepare_cached(&texts.expired)?;
                let rows = statement.query_map([after, PAGE], |row| row.get(0))?;
                rows.collect()
            };
            search().map_err(|error| failure("failed to look for expired rows", error))
        };
        let rows = database.read(find).await?;
        let Some(last) = rows.last() else { return Ok(Some(removed)) };
        after = *last;
        let texts = statements.clone();
        let delete = move |connection: &rusqlite::Connection| {
            let delete = || -> rusqlite::Result<usize> {
                let mut statement = connection.prepare_cached(&texts.delete_expired)?;
                rows.iter().try_fold(0, |count, row| Ok(count + statement.execute([row])?))
            };
            delete().map_err(|error| failure("failed to delete expired rows", error))
        };
        removed += database.write(delete).await?;
    }
}
