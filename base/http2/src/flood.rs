//! A budget for what a peer does that costs us work and gets nobody an answer.
//!
//! *Job:* resets of calls that were not answered, empty frames, frames that break rules of their stream. *Invariant:* a
//! burst is forgiven, a constant stream is not; who does nothing of the kind never reads the clock here.

use std::time::Instant;

/// As many calls may be cancelled at once: with a stalled app thousands reach their deadline together.
const BURST: u32 = 65_536;
const PER_SECOND: u32 = 8192;

/// How much of the budget is used.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    used: u32,
    since: Option<Instant>,
}

impl Flood {
    /// Takes from the budget; `false`: it is used up.
    pub(crate) fn charge(&mut self, cost: u32) -> bool {
        self.used += cost;
        if self.used <= BURST {
            self.since.get_or_insert_with(Instant::now);
            return true;
        }
        let now = Instant::now();
        let elapsed = self.since.map_or(0, |since| now.duration_since(since).as_millis());
        let back = u32::try_from(elapsed * u128::from(PER_SECOND) / 1000).unwrap_or(u32::MAX);
        self.used = self.used.saturating_sub(back);
        self.since = Some(now);
        self.used <= BURST
    }
}
