//! Counts over the last moments: a ring of buckets of equal length.
//!
//! *Source:* Sentinel's leap array: the window moves by whole buckets, the current one included.

/// What happened in one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) completed: u64,
    /// Sum of the times of what completed.
    pub(super) milliseconds: u64,
    /// Shortest time of what completed; 0 = nothing did, or within a millisecond.
    pub(super) milliseconds_min: Option<u64>,
    /// Completed, and too slow for a breaker.
    pub(super) slow: u64,
}

/// A sliding window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bucket_ms: u64,
    /// Buckets in the window; one more is kept, for what was before it.
    count: u64,
    buckets: Vec<(u64, Counts)>,
}

impl Window {
    /// A window of `interval_ms`, divided into `count` buckets.
    pub(super) fn new(interval_ms: u64, count: u64) -> Self {
        let count = count.max(1);
        let buckets = (0..=count).map(|_| (0, Counts::default())).collect();
        Self { bucket_ms: (interval_ms / count).max(1), count, buckets }
    }

    pub(super) fn is_like(&self, interval_ms: u64, count: u64) -> bool {
        self.count == count && self.bucket_ms * count == interval_ms
    }

    /// The bucket of a moment.
    pub(super) fn at(&mut self, now_ms: u64) -> &mut Counts {
        let number = now_ms / self.bucket_ms;
        let slots = self.buckets.len() as u64;
        let (of, counts) = &mut self.buckets[usize::try_from(number % slots).unwrap_or_default()];
        if *of != number {
            *of = number;
            *counts = Counts::default();
        }
        counts
    }

    fn at_end(&self, now_ms: u64) -> impl Iterator<Item = &Counts> {
        let last = now_ms / self.bucket_ms;
        let inside = move |number: u64| number <= last && number + self.count > last;
        self.buckets.iter().filter(move |(number, _)| inside(*number)).map(|(_, counts)| counts)
    }

    /// A sum over the window that ends now.
    pub(super) fn sum(&self, now_ms: u64, read: impl Fn(&Counts) -> u64) -> u64 {
        self.at_end(now_ms).map(read).sum()
    }

    /// What passed per second in the window that ended one bucket ago.
    pub(super) fn previous_per_second(&self, now_ms: u64) -> f64 {
        let passed = self.sum(now_ms.saturating_sub(self.bucket_ms), |counts| counts.passed);
        float(passed) * 1000.0 / float(self.bucket_ms * self.count)
    }

    /// What passes per second.
    pub(super) fn per_second(&self, now_ms: u64) -> f64 {
        float(self.sum(now_ms, |counts| counts.passed)) * 1000.0 / float(self.bucket_ms * self.count)
    }

    /// The most that completed in one bucket, as a rate per second.
    pub(super) fn completed_per_second_max(&self, now_ms: u64) -> f64 {
        float(self.at_end(now_ms).map(|counts| counts.completed).max().unwrap_or(0)) * 1000.0 / float(self.bucket_ms)
    }

    /// The shortest time of what completed.
    pub(super) fn milliseconds_min(&self, now_ms: u64) -> Option<u64> {
        self.at_end(now_ms).filter_map(|counts| counts.milliseconds_min).min()
    }

    pub(super) fn clear(&mut self) {
        self.buckets.iter_mut().for_each(|(_, counts)| *counts = Counts::default());
    }
}

/// Counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts of one window are far below 2^52")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_move_by_buckets() {
        let mut window = Window::new(1000, 2);
        for now in [10_000, 10_499, 10_500, 10_999] {
            window.at(now).passed += 1;
        }
        assert_eq!(window.sum(10_999, |counts| counts.passed), 4);
        assert_eq!(window.sum(11_000, |counts| counts.passed), 2);
        assert_eq!(window.sum(11_500, |counts| counts.passed), 0);
        assert!((window.previous_per_second(11_400) - 4.0).abs() < f64::EPSILON);
        window.at(12_000).passed += 1;
        assert_eq!(window.sum(12_000, |counts| counts.passed), 1);
    }
}
