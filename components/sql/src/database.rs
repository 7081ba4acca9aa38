//! One SQLite database behind a cheap handle: a writer thread that commits in groups and reader threads.
//!
//! *Job:* keeps SQLite off the async threads and shares one durable commit among all writes that wait. *Neighbours:*
//! `connection` opens, components pass closures over a [`Connection`]. *Invariant:* a write is answered only after the
//! transaction that holds it is committed, and one write's failure never touches another's.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{Target, failure};

mod job;

use job::{Job, Read, Write};

/// Most writes of one transaction: bounds how long another process waits for its turn.
const GROUP_MAX: usize = 256;
/// Operations that may wait; a full queue makes callers wait, up to their timeout.
const QUEUE: usize = 4096;
/// Reader threads: one that reads while another waits for the disk.
const READERS: usize = 2;

/// A handle; clones share the database.
#[derive(Clone)]
pub(crate) struct Database {
    writer: mpsc::Sender<Message>,
    /// The same queue as `writer` when the database has one connection.
    reader: mpsc::Sender<Message>,
    threads: usize,
    timeout: Duration,
}

enum Message {
    Write(Box<dyn Job>),
    Read(Box<dyn Job>),
    /// Finish what waits, close the connection, then answer.
    Stop(oneshot::Sender<()>),
}

impl Database {
    /// Opens the database, lets `prepare` bring its schema up to date, starts the threads. `timeout` limits each operation.
    ///
    /// # Errors
    /// As [`Target::open`] and `prepare`.
    pub(crate) async fn open<F>(
        target: Target,
        timeout: Duration,
        log: &Logger,
        prepare: F,
    ) -> Result<Self, ComponentError>
    where
        F: FnOnce(&Connection) -> Result<(), ComponentError> + Send + 'static,
    {
        let log = log.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let connection = target.open(&log)?;
            prepare(&connection)?;
            Self::start(connection, &target, timeout, &log)
        });
        opening.await.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "opening the SQLite database was interrupted", error)
        })?
    }

    fn start(connection: Connection, target: &Target, timeout: Duration, log: &Logger) -> Result<Self, ComponentError> {
        let readers = if target.is_private() { 0 } else { READERS };
        let readers: Vec<Connection> = (0..readers).map(|_| target.open(log)).collect::<Result<_, _>>()?;
        let threads = 1 + readers.len();
        let (writer, inbox) = mpsc::channel(QUEUE);
        let begin = target.begin();
        spawn("sqlite-writer", move || run_writer(connection, inbox, begin))?;
        let mut reader = writer.clone();
        if !readers.is_empty() {
            let (sender, inbox) = mpsc::channel(QUEUE);
            reader = sender;
            let inbox = Arc::new(Mutex::new(inbox));
            for connection in readers {
                let inbox = inbox.clone();
                spawn("sqlite-reader", move || run_reader(connection, &inbox))?;
            }
        }
        Ok(Self { writer, reader, threads, timeout })
    }

    /// Runs `work` on a reading connection.
    ///
    /// # Errors
    /// Those of `work`; `Timeout`; `Unavailable` after [`Self::close`].
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, ComponentError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ComponentError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.reader, Message::Read(Box::new(Read::new(work, reply))), answer).await
    }

    /// Runs `work` in a transaction it shares with other writes, and answers after the commit. `work` is run again when
    /// the shared transaction broke; it should be one statement, or several of which each is complete in itself.
    ///
    /// *Cancel safety:* a dropped call that has not begun is skipped; one that has begun is committed.
    ///
    /// # Errors
    /// Those of `work` and of the commit; `Timeout`; `Unavailable` after [`Self::close`].
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, ComponentError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, ComponentError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.writer, Message::Write(Box::new(Write::new(work, reply, false))), answer).await
    }

    /// As [`Self::write`] for several statements of which all or none take effect: an error of `work` undoes them.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn write_atomic<T, F>(&self, work: F) -> Result<T, ComponentError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, ComponentError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.writer, Message::Write(Box::new(Write::new(work, reply, true))), answer).await
    }

    async fn ask<T>(
        &self,
        queue: &mpsc::Sender<Message>,
        message: Message,
        answer: oneshot::Receiver<Result<T, ComponentError>>,
    ) -> Result<T, ComponentError> {
        let closed = || ComponentError::new(ErrorKind::Unavailable, "the SQLite database is closed");
        let asking = async {
            queue.send(message).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        tokio::time::timeout(self.timeout, asking).await.unwrap_or_else(|_| {
            let message = format!("the SQLite database did not answer within the timeout of {:?}", self.timeout);
            Err(ComponentError::new(ErrorKind::Timeout, message))
        })
    }

    /// Finishes what waits and closes all connections; later calls fail.
    pub(crate) async fn close(&self) {
        for _ in 1..self.threads {
            Self::stop(&self.reader).await;
        }
        Self::stop(&self.writer).await;
    }

    async fn stop(queue: &mpsc::Sender<Message>) {
        let (reply, answer) = oneshot::channel();
        if queue.send(Message::Stop(reply)).await.is_ok() {
            let _ = answer.await; // an error means that the thread is gone, which is what we want
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), ComponentError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned
        .map(drop)
        .map_err(|error| ComponentError::caused(ErrorKind::Internal, format!("cannot start thread {name}"), error))
}

fn run_reader(connection: Connection, inbox: &Mutex<mpsc::Receiver<Message>>) {
    loop {
        let message = inbox.lock().blocking_recv();
        match message {
            Some(Message::Read(mut job) | Message::Write(mut job)) => {
                if !job.is_abandoned() {
                    job.run(&connection);
                    job.answer(None);
                }
            }
            Some(Message::Stop(reply)) => {
                drop(connection);
                let _ = reply.send(()); // whoever asked may have gone
                return;
            }
            None => return,
        }
    }
}

fn run_writer(connection: Connection, mut inbox: mpsc::Receiver<Message>, begin: &str) {
    let mut group: Vec<Box<dyn Job>> = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = inbox.blocking_recv() {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Write(job) => {
                    group.push(job);
                    if group.len() < GROUP_MAX {
                        next = inbox.try_recv().ok();
                        continue;
                    }
                }
                // Only with a single connection: a read must not see what is not committed yet.
                Message::Read(mut job) => {
                    commit_group(&connection, begin, &mut group);
                    job.run(&connection);
                    job.answer(None);
                }
                Message::Stop(reply) => {
                    inbox.close();
                    commit_group(&connection, begin, &mut group);
                    drain(&connection, begin, &mut inbox);
                    drop(connection);
                    let _ = reply.send(()); // whoever asked may have gone
                    return;
                }
            }
        }
        commit_group(&connection, begin, &mut group);
    }
}

/// Does what arrived before the queue was closed.
fn drain(connection: &Connection, begin: &str, inbox: &mut mpsc::Receiver<Message>) {
    while let Ok(message) = inbox.try_recv() {
        match message {
            Message::Write(job) => commit_group(connection, begin, &mut vec![job]),
            Message::Read(mut job) => {
                job.run(connection);
                job.answer(None);
            }
            Message::Stop(reply) => drop(reply),
        }
    }
}

/// Runs the group in one transaction and answers each of its jobs.
fn commit_group(connection: &Connection, begin: &str, group: &mut Vec<Box<dyn Job>>) {
    group.retain(|job| !job.is_abandoned());
    if group.is_empty() {
        return;
    }
    if let Err(error) = run_group(connection, begin, group) {
        answer_all(group, Some(&error));
        return;
    }
    if !connection.is_autocommit() {
        let committed = connection.execute_batch("COMMIT");
        if committed.is_err() && !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK"); // the first error is the one to tell
        }
        answer_all(group, committed.err().as_ref());
        return;
    }
    // A statement's error (a full disk, for example) ended the whole transaction: each job gets one of its own.
    for mut job in group.drain(..) {
        let outcome = run_group(connection, begin, std::slice::from_mut(&mut job))
            .and_then(|()| if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("COMMIT") });
        if outcome.is_err() && !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK"); // the first error is the one to tell
        }
        job.answer(outcome.err().as_ref());
    }
}

/// Starts a transaction and runs jobs in it until one of them ends it.
fn run_group(connection: &Connection, begin: &str, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    connection.prepare_cached(begin)?.execute([])?;
    for job in group {
        job.run(connection);
        if connection.is_autocommit() {
            break;
        }
    }
    Ok(())
}

fn answer_all(group: &mut Vec<Box<dyn Job>>, error: Option<&rusqlite::Error>) {
    for job in group.drain(..) {
        job.answer(error);
    }
}

/// The error a job gets when the shared transaction failed.
fn shared_failure(error: &rusqlite::Error) -> ComponentError {
    let copy = match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => return ComponentError::new(ErrorKind::Internal, format!("the write was not committed: {other}")),
    };
    failure("the write was not committed", copy)
}

#[cfg(test)]
mod tests;
