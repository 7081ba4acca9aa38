//! Where rendered lines wait and how they are written.
//!
//! *Job:* write a line at once, or together with others a moment later. *Neighbours:* `log` renders into [`Output`]. *Invariant:*
//! lines come out in the order they went in: whoever writes holds the sink while it takes what waits. What waits is bounded; a
//! sink that does not keep up is waited for.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::LogSink;
use super::render::Clock;

/// How long a line of a request waits for others at most.
const WAIT: Duration = Duration::from_millis(50);
/// So much is written without waiting.
const ENOUGH_BYTES: usize = 64 * 1024;
/// With so much waiting, whoever has a line writes it himself: the thread is behind.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// A buffer that grew beyond this is given back after it was written.
const KEPT_BYTES_MAX: usize = 256 * 1024;
const STACK_BYTES: usize = 128 * 1024;

pub(super) struct Output {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    sink: Mutex<Sink>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    clock: Clock,
    thread: Thread,
    closed: bool,
}

/// The thread that writes lines that wait.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Thread {
    /// Not needed yet.
    #[default]
    None,
    /// Cannot be started: nothing waits.
    Impossible,
    /// Has nothing to do.
    Idle,
    /// Will write what waits.
    Awake,
}

struct Sink {
    target: LogSink,
    /// Swapped with the lines that wait, so that both keep their memory.
    lines: Vec<u8>,
}

/// Ends the thread; owned by whoever owns the log.
pub(super) struct Owned(pub(super) Arc<Output>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.waiting.lock().closed = true;
        self.0.wake.notify_all();
        self.0.flush();
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    pub(super) fn new(target: LogSink) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            sink: Mutex::new(Sink { target, lines: Vec::new() }),
        })
    }

    /// Writes a line, and before it all that wait.
    pub(super) fn now(&self, render: impl FnOnce(&mut Vec<u8>, &mut Clock)) {
        let mut waiting = self.waiting.lock();
        let Waiting { lines, clock, .. } = &mut *waiting;
        render(lines, clock);
        drop(waiting);
        self.flush();
    }

    /// Writes a line a moment later, together with others.
    pub(super) fn soon(self: &Arc<Self>, render: impl FnOnce(&mut Vec<u8>, &mut Clock)) {
        let mut waiting = self.waiting.lock();
        let Waiting { lines, clock, .. } = &mut *waiting;
        let before = lines.len();
        render(lines, clock);
        let after = lines.len();
        let wake = match waiting.thread {
            Thread::None => {
                waiting.thread = if self.start_thread() { Thread::Awake } else { Thread::Impossible };
                false
            }
            Thread::Idle => {
                waiting.thread = Thread::Awake;
                true
            }
            Thread::Awake => before < ENOUGH_BYTES && after >= ENOUGH_BYTES,
            Thread::Impossible => false,
        };
        let write = waiting.thread == Thread::Impossible || after >= WAITING_BYTES_MAX;
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
        if write {
            self.flush();
        }
    }

    /// Writes all that waits.
    pub(super) fn flush(&self) {
        let mut sink = self.sink.lock();
        let Sink { target, lines } = &mut *sink;
        std::mem::swap(lines, &mut self.waiting.lock().lines);
        if !lines.is_empty() {
            let _ = target.write_all(lines); // a closed standard output must not stop the sidecar
            let _ = target.flush(); // as above
            lines.clear();
            lines.shrink_to(KEPT_BYTES_MAX);
        }
    }

    fn start_thread(self: &Arc<Self>) -> bool {
        let output = self.clone();
        let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || output.write_what_waits()).is_ok()
    }

    fn write_what_waits(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.lines.is_empty() && !waiting.closed {
                waiting.thread = Thread::Idle;
                self.wake.wait(&mut waiting);
            }
            waiting.thread = Thread::Awake;
            if !waiting.closed && waiting.lines.len() < ENOUGH_BYTES {
                // Ends early when there is enough, or no more to come.
                let _ = self.wake.wait_for(&mut waiting, WAIT);
            }
            let closed = waiting.closed;
            drop(waiting);
            self.flush();
            if closed {
                return;
            }
        }
    }
}
