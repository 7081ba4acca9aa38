//! The way to the database: a bounded queue to the one thread that works on it.
//!
//! *Job:* turn calls into commands and wait for their answers. *Neighbours:* [`super::worker`] is the thread. *Invariant:* an
//! answer comes after the commit; a caller that stops waiting changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;
use tokio::sync::{Notify, mpsc, oneshot};

use super::claim::Claimed;
use super::fault::Fault;
use super::queries::Group;
use super::settings::Settings;
use super::worker::Worker;

/// Commands that may wait for the thread; then callers wait.
const QUEUE_LIMIT: usize = 1024;

/// A message on its way into the database.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) data: Bytes,
    pub(super) content_type: Option<String>,
    /// As JSON; `None` when there is none.
    pub(super) metadata: Option<String>,
    pub(super) expires_at: Option<i64>,
}

/// A subscription the engine knows.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: String,
    pub(super) group: Group,
    /// Told when there may be something to claim.
    pub(super) waiter: Arc<Notify>,
}

/// What became of messages, by sequence number.
#[derive(Debug, Default)]
pub(super) struct Settlement {
    pub(super) acked: Vec<i64>,
    pub(super) nacked: Vec<i64>,
}

impl Settlement {
    pub(super) fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.nacked.is_empty()
    }
}

/// Where the answer of a command goes; the value is kept back until the commit.
#[derive(Debug)]
pub(super) struct Answer<T> {
    sender: oneshot::Sender<Result<T, Fault>>,
    value: Option<T>,
}

impl<T> Answer<T> {
    pub(super) fn keep(&mut self, value: T) {
        self.value = Some(value);
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    pub(super) fn send(self) {
        if let Some(value) = self.value {
            let _ = self.sender.send(Ok(value)); // the caller stopped waiting
        }
    }

    pub(super) fn fail(self, fault: &Fault) {
        let _ = self.sender.send(Err(fault.clone())); // as above
    }
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Store messages, all or none.
    Publish { messages: Vec<Outgoing>, answer: Answer<()> },
    /// Make this component a member of a group.
    Join { topic: String, group: String, answer: Answer<Arc<Subscription>> },
    /// Note what became of messages and claim up to `limit` new ones.
    Settle { subscription: Arc<Subscription>, settlement: Settlement, limit: usize, answer: Answer<Claimed> },
    /// End a subscription; what is nacked is due for others at once.
    Leave { subscription: Arc<Subscription>, settlement: Settlement, answer: Answer<()> },
    /// Look for what nobody told of.
    Tick,
    /// Leave the directory and end.
    Close(oneshot::Sender<()>),
}

impl Command {
    pub(super) fn fail(self, fault: &Fault) {
        match self {
            Self::Publish { answer, .. } | Self::Leave { answer, .. } => answer.fail(fault),
            Self::Join { answer, .. } => answer.fail(fault),
            Self::Settle { answer, .. } => answer.fail(fault),
            Self::Tick => {}
            Self::Close(done) => drop(done),
        }
    }
}

/// Cheap to clone; the thread ends when the last one is gone.
#[derive(Clone)]
pub(super) struct Engine {
    commands: mpsc::Sender<Command>,
}

impl Engine {
    /// Starts the thread and waits until the database is open.
    pub(super) async fn start(settings: &Settings, app_id: &str, log: &Logger) -> Result<Self, ComponentError> {
        let (commands, queue) = mpsc::channel(QUEUE_LIMIT);
        let (opened, is_open) = oneshot::channel();
        let (settings, app_id, log) = (settings.clone(), app_id.to_owned(), log.clone());
        let runtime = tokio::runtime::Handle::current();
        let thread = move || match Worker::open(settings, app_id, queue, runtime, log) {
            Ok(worker) => {
                if opened.send(Ok(())).is_ok() {
                    worker.run();
                }
            }
            Err(error) => {
                let _ = opened.send(Err(error)); // nobody waits any more
            }
        };
        let start = std::thread::Builder::new().name("pubsub.embedded".to_owned()).spawn(thread);
        start.map_err(|error| {
            ComponentError::caused(ErrorKind::Internal, "cannot start the thread of the embedded broker", error)
        })?;
        match is_open.await {
            Ok(result) => result.map(|()| Self { commands }),
            Err(_) => Err(ComponentError::new(
                ErrorKind::Internal,
                "the thread of the embedded broker ended while it started",
            )),
        }
    }

    /// Stores messages, all or none.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), Fault> {
        self.ask(|answer| Command::Publish { messages, answer }).await
    }

    /// See [`Command::Join`].
    pub(super) async fn join(&self, topic: String, group: String) -> Result<Arc<Subscription>, Fault> {
        self.ask(|answer| Command::Join { topic, group, answer }).await
    }

    /// See [`Command::Settle`].
    pub(super) async fn settle(
        &self,
        subscription: &Arc<Subscription>,
        settlement: Settlement,
        limit: usize,
    ) -> Result<Claimed, Fault> {
        let subscription = subscription.clone();
        self.ask(|answer| Command::Settle { subscription, settlement, limit, answer }).await
    }

    /// See [`Command::Leave`].
    pub(super) async fn leave(&self, subscription: &Arc<Subscription>, settlement: Settlement) -> Result<(), Fault> {
        let subscription = subscription.clone();
        self.ask(|answer| Command::Leave { subscription, settlement, answer }).await
    }

    /// See [`Command::Tick`]; a thread that has much to do needs none.
    pub(super) fn tick(&self) {
        let _ = self.commands.try_send(Command::Tick); // as said
    }

    /// See [`Command::Close`]; returns when the database is closed.
    pub(super) async fn close(&self) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = is_done.await; // an error means that it has ended, too
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        let command = command(Answer { sender, value: None });
        self.commands.send(command).await.map_err(|_| Fault::closed())?;
        answer.await.map_err(|_| Fault::closed())?
    }
}
