//! Which traces are recorded: the caller's decision counts, else a share of the trace ids.
//!
//! *Source:* spec metrics.md §5.1.

use std::fmt;

use super::context::TraceContext;

/// The rate of a `samplingRate` that is empty or not a number.
pub const DEFAULT_RATE: f64 = 0.0001;

/// Reads `samplingRate`; empty or unreadable counts as [`DEFAULT_RATE`], which is not off.
pub fn sampling_rate(text: &str) -> f64 {
    text.parse().unwrap_or(DEFAULT_RATE)
}

/// Decides about new traces; cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    rate: f64,
    /// Ids below it are recorded; compared with 63 bits of the id.
    bound: u64,
}

impl Sampler {
    /// Records this share of the traces that begin here.
    pub fn new(rate: f64) -> Self {
        let rate = if rate.is_nan() { 0.0 } else { rate };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^63, at most 2^63")]
        let bound = (rate.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { rate, bound }
    }

    /// Whether the spans of a call are recorded.
    pub(super) fn records(&self, parent: Option<TraceContext>, trace_id: [u8; 16]) -> bool {
        if let Some(parent) = parent {
            return parent.is_sampled();
        }
        let [.., a, b, c, d, e, f, g, h] = trace_id;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
    }
}

impl fmt::Display for Sampler {
    /// The words of the original's log line, which its tests look for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentBased{root:")?;
        if self.rate >= 1.0 {
            f.write_str("AlwaysOnSampler")?;
        } else {
            write!(f, "TraceIDRatioBased{{{}}}", self.rate.max(0.0))?;
        }
        f.write_str(
            ",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,\
             localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_the_original_does() {
        for (text, rate) in
            [("", DEFAULT_RATE), ("x", DEFAULT_RATE), ("0", 0.0), ("0.0", 0.0), ("1", 1.0), ("0.25", 0.25)]
        {
            assert_eq!(sampling_rate(text).to_bits(), rate.to_bits(), "{text}");
        }
    }

    #[test]
    fn the_parent_decides_else_the_rate() {
        let parent = |flags| Some(TraceContext { trace_id: [1; 16], span_id: [1; 8], flags });
        let (all, none, half) = (Sampler::new(1.0), Sampler::new(0.0), Sampler::new(0.5));
        let low = [0; 16];
        let high = [0xff; 16];
        for (sampler, parent, id, records) in [
            (all, None, high, true),
            (none, None, low, false),
            (half, None, low, true),
            (half, None, high, false),
            (none, parent(1), high, true),
            (all, parent(0), low, false),
            (all, parent(2), low, false),
        ] {
            assert_eq!(sampler.records(parent, id), records, "{sampler} {parent:?}");
        }
    }

    #[test]
    fn it_says_what_it_does() {
        assert!(Sampler::new(1.0).to_string().starts_with("ParentBased{root:AlwaysOnSampler,remoteParentSampled:"));
        assert!(Sampler::new(0.0).to_string().starts_with("ParentBased{root:TraceIDRatioBased{0},"));
        assert!(Sampler::new(0.0001).to_string().starts_with("ParentBased{root:TraceIDRatioBased{0.0001},"));
    }
}
