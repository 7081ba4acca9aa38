//! The thread that owns the database connection.
//!
//! *Job:* take what is queued, do all of it in one transaction, answer after the commit (a group commit: while one runs,
//! the next batch gathers), then wake who waits. *Neighbours:* [`super::engine`] queues, [`super::queries`] is the SQL,
//! [`super::transaction`] the meaning of a command, [`super::maintenance`] does what a tick asks for. *Invariant:* no answer before its commit; one bad command fails alone.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use pillion_contract::{ComponentError, ErrorKind};
use pillion_core::log::Logger;
use rusqlite::{ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use super::checkpoint::{self, Checkpoints};
use super::claim::Claimed;
use super::clock::now_ms;
use super::database::{self, Database};
use super::engine::Command;
use super::fault::Fault;
use super::member::{Folder, Presence};
use super::purge::Purge;
use super::queries;
use super::settings::{Settings, Synchronous};
use super::transaction::{Wakes, Work};
use super::wake::{Wakers, encode};

const BATCH_COMMANDS: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Topic ids kept in memory.
const TOPICS_CACHED: usize = 10_000;
/// A busy thread does a step of removing old messages this often.
const PURGE_STEP_INTERVAL: Duration = Duration::from_millis(20);

/// This component as a member; made when it first subscribes.
pub(super) struct Member {
    pub(super) id: i64,
    listener: Option<tokio::task::AbortHandle>,
    _presence: Presence,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// See the module text.
pub(super) struct Worker {
    pub(super) database: Database,
    pub(super) folder: Folder,
    pub(super) member: Option<Member>,
    pub(super) wakers: Wakers,
    pub(super) purge: Purge,
    /// Set when nothing will work again.
    pub(super) failure: Option<Fault>,
    /// A wake-up met nobody: a member has died.
    pub(super) must_reap: bool,
    pub(super) version: i64,
    pub(super) has_complained: bool,
    pub(super) log: Logger,
    settings: Settings,
    app_id: String,
    commands: mpsc::Receiver<Command>,
    runtime: tokio::runtime::Handle,
    checkpoints: Checkpoints,
    socket: UnixDatagram,
    topics: HashMap<String, i64>,
    last_purge_step: Instant,
    is_full: bool,
}

impl Worker {
    /// Opens the database and prepares the directory.
    pub(super) fn open(
        settings: Settings,
        app_id: String,
        commands: mpsc::Receiver<Command>,
        runtime: tokio::runtime::Handle,
        log: Logger,
    ) -> Result<Self, ComponentError> {
        let database = Database::open(&settings.directory, settings.synchronous)?;
        let unusable = |error: io::Error| {
            let message = format!("cannot use the broker directory {}", settings.directory.display());
            ComponentError::caused(ErrorKind::Unavailable, message, error)
        };
        let folder = Folder::open(&settings.directory).map_err(unusable)?;
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(unusable)?;
        let purge = Purge::new(settings.retention);
        let mut worker = Self {
            database,
            folder,
            member: None,
            wakers: Wakers::default(),
            purge,
            failure: None,
            must_reap: false,
            version: 0,
            has_complained: false,
            log,
            settings,
            app_id,
            commands,
            checkpoints: Checkpoints::new(runtime.clone()),
            runtime,
            socket,
            topics: HashMap::new(),
            last_purge_step: Instant::now(),
            is_full: false,
        };
        let path = worker.database.path.clone();
        worker.tidy_members().map_err(|error| Fault::sqlite("read the broker database", &path, &error))?;
        Ok(worker)
    }

    /// Works until it is closed or nobody can send commands any more.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next_command() {
            let (mut batch, mut tick, mut close) = (Vec::new(), false, None);
            let (mut bytes, mut next) = (0, Some(first));
            while let Some(command) = next {
                match command {
                    Command::Tick => tick = true,
                    Command::Close(done) => {
                        close = Some(done);
                        break;
                    }
                    command => {
                        bytes += size(&command);
                        batch.push(command);
                    }
                }
                next = if batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
                    self.commands.try_recv().ok()
                } else {
                    None
                };
            }
            self.work_on(batch);
            if close.is_none() && (tick || self.must_reap) {
                self.look_around(tick);
            }
            if let Some(done) = close {
                self.leave();
                self.checkpoints.finish();
                drop(self); // closes the database, so that whoever waits may remove the directory
                let _ = done.send(()); // nobody waits
                return;
            }
        }
        self.leave();
    }

    /// The next command; removes old messages meanwhile, or now and then when there is no meanwhile.
    fn next_command(&mut self) -> Option<Command> {
        while self.purge.is_active() {
            if self.last_purge_step.elapsed() >= PURGE_STEP_INTERVAL || self.commands.is_empty() {
                self.purge_step();
                self.last_purge_step = Instant::now();
            }
            match self.commands.try_recv() {
                Ok(command) => return Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
        }
        self.commands.blocking_recv()
    }

    fn work_on(&mut self, batch: Vec<Command>) {
        let mut batch = self.answer_idle_claims(batch);
        if batch.is_empty() {
            return;
        }
        let fault = match self.failure.clone() {
            Some(fault) => fault,
            None => match self.attempt_with_room(&mut batch) {
                Ok(wakes) => return self.finish(batch, wakes),
                Err(error) => {
                    if batch.len() > 1 && error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
                        return batch.into_iter().for_each(|command| self.work_on(vec![command]));
                    }
                    Fault::sqlite("write to the broker database", &self.database.path, &error)
                }
            },
        };
        for command in batch {
            command.fail(&fault);
        }
    }

    /// On a full disk the log still has room, once what it holds is in the database; acks and claims must get it.
    fn attempt_with_room(&mut self, batch: &mut [Command]) -> rusqlite::Result<Wakes> {
        let result = self.attempt(batch);
        let Err(error) = &result else { return result };
        self.topics.clear(); // may name rows that were rolled back
        if error.sqlite_error_code() != Some(ErrorCode::DiskFull) {
            return result;
        }
        let _ = checkpoint::run(&self.database.connection); // then the second attempt fails, too
        self.attempt(batch)
    }

    /// Answers claims that would find nothing without a transaction that writes.
    fn answer_idle_claims(&self, batch: Vec<Command>) -> Vec<Command> {
        let mut rest = Vec::with_capacity(batch.len());
        for command in batch {
            match command {
                Command::Settle { subscription, settlement, limit, mut answer }
                    if settlement.is_empty() && self.failure.is_none() =>
                {
                    match queries::has_work(&self.database.connection, subscription.group, now_ms()) {
                        Ok((false, next_due_at)) => {
                            answer.keep(Claimed { next_due_at, ..Claimed::default() });
                            answer.send();
                        }
                        // An error shows again in the transaction.
                        Ok((true, _)) | Err(_) => {
                            rest.push(Command::Settle { subscription, settlement, limit, answer })
                        }
                    }
                }
                command => rest.push(command),
            }
        }
        rest
    }

    /// Does a batch in one transaction; returns whom to wake for which topics.
    fn attempt(&mut self, batch: &mut [Command]) -> rusqlite::Result<Wakes> {
        let publishes = batch.iter().any(|command| matches!(command, Command::Publish { .. }));
        self.choose_synchronous(publishes)?;
        if self.member.is_none() && batch.iter().any(|command| matches!(command, Command::Join { .. })) {
            self.member = Some(self.enter()?);
        }
        if self.topics.len() > TOPICS_CACHED {
            self.topics.clear();
        }
        let transaction = Transaction::new_unchecked(&self.database.connection, TransactionBehavior::Immediate)?;
        let mut work = Work {
            connection: &transaction,
            topics: &mut self.topics,
            member: self.member.as_ref().map(|member| member.id),
            wakers: &self.wakers,
            settings: &self.settings,
            now: now_ms(),
            wake: BTreeSet::new(),
        };
        for command in batch {
            work.execute(command)?;
        }
        let wakes = Wakes::find(&transaction, work.wake, work.member)?;
        transaction.commit()?;
        Ok(wakes)
    }

    /// With `full`, only publishing waits for the disk: a lost ack or claim only means one more delivery.
    fn choose_synchronous(&mut self, publishes: bool) -> rusqlite::Result<()> {
        if self.settings.synchronous == Synchronous::Full && self.is_full != publishes {
            let wanted = if publishes { Synchronous::Full } else { Synchronous::Normal };
            database::set_synchronous(&self.database.connection, wanted)?;
            self.is_full = publishes;
        }
        Ok(())
    }

    /// Makes a member of this component.
    pub(super) fn enter(&self) -> rusqlite::Result<Member> {
        let (presence, socket) = self.folder.enter().map_err(cannot_enter)?;
        let id = queries::add_member(&self.database.connection, &presence.name, &self.app_id, now_ms())?;
        let listener = socket.map(|socket| self.runtime.spawn(self.wakers.clone().listen(socket)).abort_handle());
        Ok(Member { id, listener, _presence: presence })
    }

    fn finish(&mut self, batch: Vec<Command>, wakes: Wakes) {
        self.checkpoints.note_commit(&self.database.path, batch.iter().map(size).sum());
        for command in batch {
            match command {
                Command::Publish { answer, .. } | Command::Leave { answer, .. } => answer.send(),
                Command::Settle { answer, .. } => answer.send(),
                Command::Join { answer, .. } => {
                    if let Some(subscription) = answer.value() {
                        self.wakers.add(subscription.group.topic, subscription.waiter.clone());
                    }
                    answer.send();
                }
                Command::Tick | Command::Close(_) => {}
            }
        }
        self.send(wakes);
    }

    /// Wakes own subscriptions and other processes.
    pub(super) fn send(&mut self, wakes: Wakes) {
        self.wakers.wake(wakes.topics);
        for (name, topics) in wakes.members {
            match self.socket.send_to(&encode(&topics), self.folder.socket_path(&name)) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.must_reap = true,
                _ => {} // sent; or its buffer is full, then it wakes anyway; or it polls
            }
        }
    }
}

/// A text the caller of a subscription gets; an error of SQLite as the others, so that one path reports all.
fn cannot_enter(error: io::Error) -> rusqlite::Error {
    let text = format!("no file can be made in its members folder: {error}");
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(text))
}

fn size(command: &Command) -> usize {
    match command {
        Command::Publish { messages, .. } => messages.iter().map(|message| message.data.len()).sum(),
        _ => 0,
    }
}
