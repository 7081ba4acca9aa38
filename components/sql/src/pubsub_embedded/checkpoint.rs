//! Moves the write-ahead log into the database beside the thread that commits.
//!
//! *Job:* a checkpoint waits for the disk twice; here that delays no publish. *Invariant:* at most one runs per component,
//! and none after [`Checkpoints::finish`].

use std::path::Path;
use std::sync::mpsc;

use rusqlite::{Connection, OpenFlags};

/// Pages of 4 KiB written since the last checkpoint that start another one.
const PAGES: usize = 4000;
/// What a small commit writes besides its data: a page each of some tables and indexes.
const PAGES_PER_COMMIT: usize = 5;
const PAGE_BYTES: usize = 4096;

/// Counts what is written and starts checkpoints.
pub(super) struct Checkpoints {
    runtime: tokio::runtime::Handle,
    pages: usize,
    running: Option<mpsc::Receiver<()>>,
}

impl Checkpoints {
    pub(super) fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { runtime, pages: 0, running: None }
    }

    /// Notes a commit with so many bytes of messages; starts a checkpoint when there is enough to move.
    pub(super) fn note_commit(&mut self, path: &Path, bytes: usize) {
        self.pages += PAGES_PER_COMMIT + bytes / PAGE_BYTES;
        if self.pages < PAGES || !self.is_idle() {
            return;
        }
        self.pages = 0;
        let (done, running) = mpsc::sync_channel(1);
        let path = path.to_owned();
        self.runtime.spawn_blocking(move || {
            // A checkpoint that fails or is busy is done by a later one, or by a commit when the log gets long.
            let _ = run_beside(&path);
            let _ = done.send(()); // nobody waits
        });
        self.running = Some(running);
    }

    fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(|running| !matches!(running.try_recv(), Err(mpsc::TryRecvError::Empty)))
    }

    /// Waits for a checkpoint that is running.
    pub(super) fn finish(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.recv(); // an error means that it never began
        }
    }
}

fn run_beside(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    run(&Connection::open_with_flags(path, flags)?)
}

/// Moves what it can without waiting for anybody.
pub(super) fn run(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
