//! Counters, gauges and histograms: what one labelled series of one metric holds.
//!
//! *Invariant:* recording is a few atomic additions, without lock and without allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Upper bounds of the buckets of a histogram, ascending. *Source:* a sample equal to a bound is counted above it.
pub(super) type Bounds = Arc<[f64]>;

/// Milliseconds. *Source:* spec metrics.md §1 "Bucket bounds".
pub(super) const LATENCY_MILLISECONDS: [f64; 34] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 130.0, 160.0,
    200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100_000.0,
];
/// Bytes. *Source:* spec metrics.md §1 "Bucket bounds".
pub(super) const SIZE_BYTES: [f64; 13] = [
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// What a metric measures.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A sum that only grows; it appears with its first addition.
    Counter,
    /// A value that is set; it appears with its first setting.
    Gauge,
    /// A distribution over these bounds; it appears with its first sample.
    Histogram(Bounds),
}

impl Kind {
    /// The word of the `# TYPE` line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One series of one metric.
#[derive(Debug)]
pub(super) enum Cell {
    Counter(AtomicU64),
    /// The value, shifted by one bit; 0 = never set.
    Gauge(AtomicI64),
    Histogram(Histogram),
}

#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) bounds: Bounds,
    /// One more than bounds: the last counts what is above all of them.
    buckets: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Cell {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(AtomicU64::new(0)),
            Kind::Gauge => Self::Gauge(AtomicI64::new(0)),
            Kind::Histogram(bounds) => Self::Histogram(Histogram {
                bounds: bounds.clone(),
                buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                sum: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn add(&self, number: u64) {
        if let Self::Counter(value) = self {
            value.fetch_add(number, Ordering::Relaxed);
        }
    }

    pub(super) fn set(&self, number: i32) {
        if let Self::Gauge(value) = self {
            value.store(i64::from(number) * 2 + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn observe(&self, sample: f64) {
        if let Self::Histogram(histogram) = self {
            histogram.observe(sample);
        }
    }

    /// The value of a gauge that was set.
    pub(super) fn gauge(&self) -> Option<i64> {
        match self {
            Self::Gauge(value) => {
                Some(value.load(Ordering::Relaxed)).filter(|value| *value != 0).map(|value| value >> 1)
            }
            _ => None,
        }
    }
}

impl Histogram {
    fn observe(&self, sample: f64) {
        let index = self.bounds.partition_point(|bound| *bound <= sample);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits: u64| Some((f64::from_bits(bits) + sample).to_bits());
        // The closure always gives a value.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The counts of the buckets, not cumulative, and the sum.
    pub(super) fn read(&self) -> (Vec<u64>, f64) {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (counts, f64::from_bits(self.sum.load(Ordering::Relaxed)))
    }
}
