//! What the Configuration says about metrics, with its defaults.

use super::cell::{Bounds, LATENCY_MILLISECONDS};
use super::rules::Rules;

/// `spec.metrics` of a Configuration, and whose metrics they are.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// The label `app_id` of every metric.
    pub app_id: String,
    /// The label `namespace` of component metrics.
    pub namespace: String,
    /// `latencyDistributionBuckets`, in milliseconds; empty = the usual ones.
    pub latency_buckets: Vec<f64>,
    /// `http.increasedCardinality`: whether a path that nothing matches is a label as it is.
    pub increased_cardinality: bool,
    /// `http.pathMatching`.
    pub path_matching: Vec<String>,
    /// `http.excludeVerbs`.
    pub exclude_verbs: bool,
    /// `recordErrorCodes`.
    pub record_error_codes: bool,
    /// `rules`.
    pub rules: Rules,
}

impl MetricsOptions {
    /// The defaults for a sidecar. *Source:* spec metrics.md §1: cardinality is increased unless it is switched off.
    pub fn new(app_id: &str, namespace: &str) -> Self {
        Self {
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
            latency_buckets: Vec::new(),
            increased_cardinality: true,
            path_matching: Vec::new(),
            exclude_verbs: false,
            record_error_codes: false,
            rules: Rules::default(),
        }
    }

    /// Bounds of latencies, ascending; a bound of 0 counts nothing and is dropped.
    pub(super) fn latency_bounds(&self) -> Bounds {
        if self.latency_buckets.is_empty() {
            return Bounds::from(LATENCY_MILLISECONDS);
        }
        let mut bounds: Vec<f64> = self.latency_buckets.iter().copied().filter(|bound| *bound > 0.0).collect();
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        bounds.into()
    }
}
