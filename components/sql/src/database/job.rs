//! What the threads of a database run: a closure, its outcome, and whoever waits for it.

use pillion_contract::ComponentError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::shared_failure;
use crate::connection::failure;

/// One operation.
pub(super) trait Job: Send {
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Does the work and keeps the outcome; a later run replaces it.
    fn run(&mut self, connection: &Connection);
    /// Tells the outcome, or the error of the transaction around it.
    fn answer(self: Box<Self>, error: Option<&rusqlite::Error>);
}

type Reply<T> = oneshot::Sender<Result<T, ComponentError>>;

/// A job that is run once.
pub(super) struct Read<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, ComponentError>>,
    reply: Reply<T>,
}

impl<T, F> Read<T, F> {
    pub(super) fn new(work: F, reply: Reply<T>) -> Self {
        Self { work: Some(work), outcome: None, reply }
    }
}

impl<T, F> Job for Read<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, ComponentError> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) {
        if let Some(work) = self.work.take() {
            self.outcome = Some(work(connection));
        }
    }

    fn answer(self: Box<Self>, _: Option<&rusqlite::Error>) {
        if let Some(outcome) = self.outcome {
            let _ = self.reply.send(outcome); // nobody waits any more
        }
    }
}

/// A job inside a transaction.
pub(super) struct Write<T, F> {
    work: F,
    is_atomic: bool,
    outcome: Option<Result<T, ComponentError>>,
    reply: Reply<T>,
}

impl<T, F> Write<T, F>
where
    F: FnMut(&Connection) -> Result<T, ComponentError>,
{
    pub(super) fn new(work: F, reply: Reply<T>, is_atomic: bool) -> Self {
        Self { work, is_atomic, outcome: None, reply }
    }

    /// Runs the work between savepoints, so that its error undoes it alone.
    fn run_atomically(&mut self, connection: &Connection) -> Result<T, ComponentError> {
        let execute = |statement: &str| -> Result<(), ComponentError> {
            let done = connection.prepare_cached(statement).and_then(|mut statement| statement.execute([]));
            done.map(drop).map_err(|error| failure("cannot separate one write from the others", error))
        };
        execute("SAVEPOINT one")?;
        let outcome = (self.work)(connection);
        if connection.is_autocommit() {
            return outcome; // the whole transaction is gone, the savepoint with it
        }
        if outcome.is_err() {
            execute("ROLLBACK TO one")?;
        }
        execute("RELEASE one")?;
        outcome
    }
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, ComponentError> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) {
        let outcome = if self.is_atomic { self.run_atomically(connection) } else { (self.work)(connection) };
        self.outcome = Some(outcome);
    }

    fn answer(self: Box<Self>, error: Option<&rusqlite::Error>) {
        let answer = match (self.outcome, error) {
            (Some(Ok(_)) | None, Some(error)) => Err(shared_failure(error)),
            (Some(outcome), _) => outcome,
            (None, None) => return,
        };
        let _ = self.reply.send(answer); // nobody waits any more
    }
}
