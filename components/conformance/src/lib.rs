//! Conformance suites: what every component of one building block must do, as async functions over the traits.
//!
//! *Job:* one suite per trait, run by the tests of each implementation (spec components.md §4). *Neighbours:* only
//! `contract`. *Invariant:* a suite states behaviour and panics with the name of the broken rule; it looks at a store's
//! capability and skips what the store does not claim.

#![allow(clippy::missing_panics_doc, reason = "suites report by panicking, as tests do")]

pub mod bindings;
pub mod name_resolution;
pub mod pubsub;
pub mod secrets;
pub mod state;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Waits until a condition holds, at most `limit`; returns whether it did.
pub async fn eventually<F, Fut>(limit: Duration, mut condition: F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = Instant::now() + limit;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Gives names no other run uses, so that suites can share one server.
pub struct Unique {
    run: u128,
    next: AtomicU64,
}

impl Default for Unique {
    fn default() -> Self {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self { run, next: AtomicU64::new(0) }
    }
}

impl Unique {
    /// A new name that starts with `label`.
    pub fn name(&self, label: &str) -> String {
        format!("{label}-{}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
