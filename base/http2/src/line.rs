//! Streams that wait in line.
//!
//! *Neighbours:* `pump` and `output` have those that wait to send, and to be opened. *Invariant:* who leaves costs the
//! same however long the line is, and a line is never much longer than those who wait in it.

use std::collections::VecDeque;

/// As many who have left are borne in any line.
const LEFT_BORNE: usize = 32;

/// Places with the serial of the stream that waits, first come first served.
#[derive(Default)]
pub(crate) struct Line {
    waiting: VecDeque<(u32, u64)>,
    left: usize,
}

impl Line {
    pub(crate) fn push(&mut self, key: u32, serial: u64) {
        self.waiting.push_back((key, serial));
    }

    /// The first, who may have left.
    pub(crate) fn pop(&mut self) -> Option<(u32, u64)> {
        self.waiting.pop_front()
    }

    /// The first was one who had left.
    pub(crate) fn had_left(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Somebody leaves; `waits` tells who has not.
    pub(crate) fn leave(&mut self, waits: impl Fn(u32, u64) -> bool) {
        self.left += 1;
        if self.left > LEFT_BORNE && self.left * 2 > self.waiting.len() {
            self.waiting.retain(|(key, serial)| waits(*key, *serial));
            self.left = 0;
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.len() == self.left
    }

    /// At least as many as wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_forgotten_in_time() {
        let mut line = Line::default();
        for number in 0..1000 {
            line.push(number, 1);
        }
        for number in 0..990 {
            line.leave(|key, _| key > number);
        }
        assert!(line.len() < 100, "{}", line.len());
        assert!(!line.is_empty());
        for number in 990..1000 {
            line.leave(|key, _| key > number);
        }
        assert!(line.is_empty());
        while line.pop().is_some() {
            line.had_left();
        }
        assert_eq!((line.is_empty(), line.len()), (true, 0));
    }
}
