//! `state.sqlite` (also `state.sqlite3`): key/value state in one SQLite table, readable by the original and the reverse.
//!
//! *Job:* ETags, first-write, transactions, TTL and key search on the original's table. *Neighbours:* `statements` has the
//! SQL, `database` the threads and the group commit, `cleanup` removes expired rows. *Invariant:* every write is one
//! statement or is undone as a whole; an expired row counts as absent for everybody, removed or not.
//!
//! *Source:* components-contrib state/sqlite; spec components.md appendix B.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pillion_contract::{
    BulkGetItem, ComponentError, Concurrency, DeleteRequest, ErrorKind, GetRequest, InitContext, KeysLikeRequest,
    KeysLikeResponse, SetRequest, StateCapability, StateItem, StateOperation, StateStore, TransactionRequest,
    TransactionalStore,
};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use crate::connection::Target;
use crate::database::Database;
use crate::metadata::{Defaults, SqliteSettings};
use crate::migrations::migrate;

use statements::{Expected, Statements};

mod cleanup;
mod statements;

const DEFAULTS: Defaults = Defaults {
    timeout: Duration::from_secs(20),
    busy_timeout: Duration::from_secs(2),
    table: "state",
    cleanup_interval: None,
};

/// The component; see the module text.
pub struct SqliteState {
    database: Database,
    statements: Arc<Statements>,
    stop: CancellationToken,
}

impl Drop for SqliteState {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes the component: opens the database, creates the tables where they are missing, starts the cleanup if one is set.
///
/// # Errors
/// `InvalidRequest` for bad metadata or a database that cannot be opened; `Unavailable` when it stays locked.
pub async fn create(context: InitContext) -> Result<Arc<dyn StateStore>, ComponentError> {
    let settings = SqliteSettings::read(&context.metadata, &DEFAULTS)?;
    let target = Target::parse(&settings, &context.log)?;
    let statements = Arc::new(Statements::new(&settings.table, &settings.metadata_table));
    let (schema, metadata_table) = (statements.schema(), settings.metadata_table.clone());
    let prepare = move |connection: &Connection| migrate(connection, &metadata_table, "migrations", &[schema]);
    let database = Database::open(target, settings.timeout, &context.log, prepare).await?;
    let stop = context.cancel.child_token();
    if let Some(interval) = settings.cleanup_interval {
        cleanup::start(database.clone(), statements.clone(), interval, context.log.clone(), stop.clone());
    }
    Ok(Arc::new(SqliteState { database, statements, stop }))
}

/// A write that is ready to be bound: owned, checked, encoded.
enum Step {
    Set { key: String, value: String, is_binary: bool, lifetime: Option<String>, expected: Expected },
    Delete { key: String, etag: Option<String> },
}

impl Step {
    fn set(request: &SetRequest) -> Result<Self, ComponentError> {
        if request.key.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "missing key in set option"));
        }
        // The modifier ends in .999 because the column counts whole seconds: rounded up, an item never dies too early.
        let lifetime =
            request.ttl_in_seconds()?.filter(|seconds| *seconds > 0).map(|seconds| format!("+{seconds}.999 seconds"));
        let text = if request.value_is_json { std::str::from_utf8(&request.value).ok() } else { None };
        let is_binary = text.is_none();
        let value = text.map_or_else(|| STANDARD.encode(&request.value), str::to_owned);
        let expected = match (request.expected_etag(), request.concurrency) {
            (Some(etag), _) => Expected::ETag(etag.to_owned()),
            (None, Concurrency::FirstWrite) => Expected::Absent,
            (None, _) => Expected::Anything,
        };
        Ok(Self::Set { key: request.key.clone(), value, is_binary, lifetime, expected })
    }

    /// The original ignores `first-write` on deletes.
    fn delete(request: &DeleteRequest) -> Result<Self, ComponentError> {
        if request.key.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "missing key in delete operation"));
        }
        Ok(Self::Delete { key: request.key.clone(), etag: request.expected_etag().map(str::to_owned) })
    }

    fn operation(operation: &StateOperation) -> Result<Self, ComponentError> {
        match operation {
            StateOperation::Upsert(request) => Self::set(request),
            StateOperation::Delete(request) => Self::delete(request),
        }
    }

    fn apply(&self, connection: &Connection, statements: &Statements) -> Result<(), ComponentError> {
        match self {
            Self::Set { key, value, is_binary, lifetime, expected } => {
                statements.set(connection, key, value, *is_binary, lifetime.as_deref(), expected)
            }
            Self::Delete { key, etag } => statements.delete(connection, key, etag.as_deref()),
        }
    }
}

impl SqliteState {
    async fn apply(&self, step: Step) -> Result<(), ComponentError> {
        let statements = self.statements.clone();
        self.database.write(move |connection| step.apply(connection, &statements)).await
    }

    /// Applies steps each on its own; answers with the first error after trying all.
    async fn apply_each(
        &self,
        steps: impl Iterator<Item = Result<Step, ComponentError>>,
    ) -> Result<(), ComponentError> {
        let mut first = None;
        let mut ready = Vec::new();
        for step in steps {
            match step {
                Ok(step) => ready.push(step),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        if !ready.is_empty() {
            let statements = self.statements.clone();
            let all = move |connection: &Connection| {
                let mut first = Ok(());
                for step in &ready {
                    first = first.and(step.apply(connection, &statements));
                }
                Ok(first)
            };
            let outcome = self.database.write(all).await?;
            first = first.or(outcome.err());
        }
        first.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl StateStore for SqliteState {
    fn capability(&self) -> StateCapability {
        StateCapability {
            etag: true,
            transactional: true,
            query: false,
            ttl: true,
            delete_with_prefix: false,
            keys_like: true,
            actor: true,
        }
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<StateItem>, ComponentError> {
        if request.key.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "missing key in get operation"));
        }
        let (key, statements) = (request.key.clone(), self.statements.clone());
        self.database.read(move |connection| statements.get(connection, &key)).await
    }

    async fn set(&self, request: &SetRequest) -> Result<(), ComponentError> {
        self.apply(Step::set(request)?).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<(), ComponentError> {
        self.apply(Step::delete(request)?).await
    }

    async fn bulk_get(&self, requests: &[GetRequest]) -> Result<Vec<BulkGetItem>, ComponentError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = requests.iter().map(|request| request.key.clone()).collect();
        let statements = self.statements.clone();
        self.database.read(move |connection| statements.bulk_get(connection, keys)).await
    }

    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<(), ComponentError> {
        self.apply_each(requests.iter().map(Step::set)).await
    }

    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<(), ComponentError> {
        self.apply_each(requests.iter().map(Step::delete)).await
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse, ComponentError> {
        if request.pattern.is_empty() {
            return Err(ComponentError::new(ErrorKind::InvalidRequest, "keys like pattern cannot be empty"));
        }
        let after = match &request.token {
            Some(token) => token.parse::<i64>().map_err(|_| {
                ComponentError::new(
                    ErrorKind::InvalidRequest,
                    format!("continuation token {token:?} was not given by this store"),
                )
            })?,
            None => i64::MIN,
        };
        let (pattern, page_size, statements) = (request.pattern.clone(), request.page_size, self.statements.clone());
        self.database.read(move |connection| statements.keys_like(connection, &pattern, after, page_size)).await
    }

    fn transactional(&self) -> Option<&dyn TransactionalStore> {
        Some(self)
    }

    async fn close(&self) -> Result<(), ComponentError> {
        self.stop.cancel();
        self.database.close().await;
        Ok(())
    }
}

#[async_trait]
impl TransactionalStore for SqliteState {
    async fn transact(&self, request: &TransactionRequest) -> Result<(), ComponentError> {
        let mut steps = request.operations.iter().map(Step::operation).collect::<Result<Vec<_>, _>>()?;
        if steps.len() < 2 {
            return match steps.pop() {
                Some(step) => self.apply(step).await,
                None => Ok(()),
            };
        }
        let statements = self.statements.clone();
        let all = move |connection: &Connection| steps.iter().try_for_each(|step| step.apply(connection, &statements));
        self.database.write_atomic(all).await
    }
}

#[cfg(test)]
mod tests;
