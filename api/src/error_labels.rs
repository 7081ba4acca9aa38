//! Which error an answer tells of, for whoever counts answers.
//!
//! *Job:* travel with an answer from where an [`ApiError`] becomes one to the front that counts it. *Neighbours:* `respond`
//! and `status` attach it, the two `observe` modules read it. *Invariant:* never on the wire.

use std::fmt;
use std::sync::Arc;

use http::Extensions;
use pillion_core::error::{ApiError, ErrorSpec};
use pillion_telemetry::metrics::Metrics;
use tonic::Status;

/// Labels of `dapr_error_code_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorLabels {
    error_code: &'static str,
    category: &'static str,
}

impl fmt::Display for ErrorLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error_code)
    }
}

impl std::error::Error for ErrorLabels {}

impl ErrorLabels {
    /// `None` for an error that is not counted.
    fn of(error: &ApiError) -> Option<Self> {
        error.metric_labels().map(|(error_code, category)| Self { error_code, category })
    }

    /// Marks an HTTP answer.
    pub(crate) fn mark(extensions: &mut Extensions, error: &ApiError) {
        if let Some(labels) = Self::of(error) {
            extensions.insert(labels);
        }
    }

    /// Marks an HTTP answer that is an app's and counts as an error of the API all the same.
    pub(crate) fn mark_as(extensions: &mut Extensions, row: &'static ErrorSpec) {
        if let Some((error_code, category)) = row.metric_labels() {
            extensions.insert(Self { error_code, category });
        }
    }

    /// Marks a gRPC status, which tonic keeps with the answer it makes of it.
    pub(crate) fn mark_status(status: &mut Status, error: &ApiError) {
        if let Some(labels) = Self::of(error) {
            status.set_source(Arc::new(labels));
        }
    }

    /// Counts the error an answer was marked with, if it was.
    pub(crate) fn count(metrics: &Metrics, extensions: &Extensions) {
        let Some(counter) = metrics.error_code() else { return };
        let of_status = || std::error::Error::source(extensions.get::<Status>()?)?.downcast_ref::<Self>();
        if let Some(labels) = extensions.get::<Self>().or_else(of_status) {
            counter.record(labels.error_code, labels.category);
        }
    }
}
