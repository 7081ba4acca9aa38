//! Components that were taken out of their block while calls may still use them.
//!
//! *Neighbours:* the tables of [`crate::state`] and [`crate::pubsub`] put a [`Usage`] into each entry; the sidecar closes what it gets as a
//! [`Retired`]. *Invariant:* a call costs nothing more for it: what is watched is the entry that a call holds anyway.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Part of a table's entry; its end is the end of the last call.
#[derive(Default)]
pub(crate) struct Usage(CancellationToken);

impl Usage {
    pub(crate) fn ended(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A component no new call gets.
pub struct Retired<C: ?Sized> {
    /// The component; to be closed once it is unused.
    pub component: Arc<C>,
    pub(crate) ended: CancellationToken,
}

impl<C: ?Sized> Retired<C> {
    /// Waits until the last call that began before has ended.
    pub async fn unused(&self) {
        self.ended.cancelled().await;
    }
}

impl<C: ?Sized> fmt::Debug for Retired<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retired").field("unused", &self.ended.is_cancelled()).finish_non_exhaustive()
    }
}
