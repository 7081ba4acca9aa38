//! Whose turn it is among several sidecars of an app.
//!
//! *Neighbours:* [`crate::outbound`] asks once per call. *Invariant:* calls of one app go to its sidecars in turn, whatever other apps
//! are called in between; no lock and no allocation.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Apps that share a counter by chance take turns together, which is only less even.
const COUNTERS: usize = 64;

/// See the module text.
pub(crate) struct Rotation([AtomicUsize; COUNTERS]);

impl Default for Rotation {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(0)))
    }
}

impl Rotation {
    /// An index below `count`, which is at least 1.
    pub(crate) fn next(&self, app_id: &str, count: usize) -> usize {
        if count == 1 {
            return 0;
        }
        // FNV-1a, short as ids are.
        let hash =
            app_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        self.0[hash as usize % COUNTERS].fetch_add(1, Ordering::Relaxed) % count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_that_are_called_by_turns_reach_all_their_sidecars() {
        let rotation = Rotation::default();
        let mut reached = [[0; 2], [0; 2]];
        for _ in 0..10 {
            for (index, app_id) in ["orders", "payments"].iter().enumerate() {
                reached[index][rotation.next(app_id, 2)] += 1;
            }
        }
        assert_eq!(reached, [[5, 5], [5, 5]]);
        assert_eq!(rotation.next("orders", 1), 0);
    }
}
