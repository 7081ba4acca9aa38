//! Waiting for a condition that another process brings about.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Asks `probe` every 20 ms until it gives a value, and returns that value.
///
/// # Panics
/// After `limit`, naming `what` was waited for: a test cannot go on without it.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
