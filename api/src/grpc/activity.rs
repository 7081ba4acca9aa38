//! Whether a connection carries calls, so that one that nobody uses can be closed.
//!
//! *Invariant:* a call counts from its request until its answer has gone out or was given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The calls of one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Activity(Arc<Calls>);

struct Calls {
    open: AtomicUsize,
    last_end: Mutex<Instant>,
}

/// A call that is under way until this is dropped.
pub(super) struct Call {
    calls: Arc<Calls>,
    /// Whoever answers waits for its end.
    _token: TaskTrackerToken,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Calls { open: AtomicUsize::new(0), last_end: Mutex::new(Instant::now()) }))
    }

    /// Counts a call, also for whoever gave the token.
    pub(super) fn begin(&self, token: TaskTrackerToken) -> Call {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Call { calls: self.0.clone(), _token: token }
    }

    /// Waits until there was no call for `limit`. *Cancel safe.*
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let since = *self.0.last_end.lock();
            let left = limit.saturating_sub(since.elapsed());
            match (self.0.open.load(Ordering::Relaxed), left) {
                (0, Duration::ZERO) => return,
                (0, left) => tokio::time::sleep(left).await,
                _ => tokio::time::sleep(limit).await,
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.calls.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.calls.last_end.lock() = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_call_ended_long_ago() {
        const LIMIT: Duration = Duration::from_secs(180);
        let activity = Activity::new();
        let call = activity.begin(tokio_util::task::TaskTracker::new().token());
        let start = Instant::now();
        let end_later = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(call);
        };
        tokio::join!(activity.idle(LIMIT), end_later);
        let passed = start.elapsed().as_secs();
        assert!((1180..1181).contains(&passed), "{passed} s");
    }
}
