//! Errors of the API by code and category, when the Configuration says `recordErrorCodes`.

use std::sync::Arc;

use super::table::Table;
use super::{Builder, counter};

/// The error counter.
pub struct ErrorCodeMetrics(Arc<Table>);

impl ErrorCodeMetrics {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let total = counter("dapr_error_code_total", "Errors the API answered with, by code.");
        Self(builder.table(&["category", "error_code"], vec![total]))
    }

    /// Counts an error under the labels of its row.
    pub fn record(&self, error_code: &str, category: &str) {
        self.0.with(&[category, error_code], |row| row.count(0));
    }
}
