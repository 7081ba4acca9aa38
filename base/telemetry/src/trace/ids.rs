//! Trace and span ids: random enough to be unique, cheap enough for every request.
//!
//! *Invariant:* no id is all zeros, which W3C takes for no id.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// The odd number nearest to 2^64 divided by the golden ratio: the step of the SplitMix64 generator.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes ids from two random keys and a counter; nothing here has to be a secret.
#[derive(Debug)]
pub(super) struct IdGenerator {
    next: AtomicU64,
    key: u64,
}

impl IdGenerator {
    pub(super) fn new() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let (other, _) = Uuid::new_v4().as_u64_pair();
        Self { next: AtomicU64::new(low), key: high ^ other.rotate_left(32) }
    }

    pub(super) fn span_id(&self) -> [u8; 8] {
        self.number().to_be_bytes()
    }

    pub(super) fn trace_id(&self) -> [u8; 16] {
        let (high, low) = (self.number() ^ self.key, self.number());
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }

    fn number(&self) -> u64 {
        let mixed = mix(self.next.fetch_add(STEP, Ordering::Relaxed));
        mixed.max(1)
    }
}

/// The finaliser of SplitMix64: each counter gives a different number that looks random.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_never_zero() {
        let (one, other) = (IdGenerator::new(), IdGenerator::new());
        let ids: HashSet<[u8; 16]> = (0..1000).flat_map(|_| [one.trace_id(), other.trace_id()]).collect();
        assert_eq!(ids.len(), 2000);
        assert!((0..1000).all(|_| one.span_id() != [0; 8]));
    }
}
