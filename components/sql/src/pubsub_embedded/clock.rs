//! Wall clock as the database keeps it: milliseconds since 1970, comparable between processes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now.
pub(super) fn now_ms() -> i64 {
    after(0, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time later by `duration`; the end of time where that does not fit.
pub(super) fn after(time_ms: i64, duration: Duration) -> i64 {
    time_ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// A time earlier by `duration`; the beginning of time where that does not fit.
pub(super) fn before(time_ms: i64, duration: Duration) -> i64 {
    time_ms.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
