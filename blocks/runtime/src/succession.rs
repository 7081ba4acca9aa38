//! The connections of a server outlive it: they go on with the server that takes its place.
//!
//! *Job:* tell a connection who answers its next call, and count it among the connections of that server. *Neighbours:* the servers of the
//! public APIs and of other sidecars are [`Server`]s; the sidecar says who succeeds whom. *Invariant:* a connection is always counted by
//! the server that answers its next call, so that none of them ends under a call.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A server whose connections another one can take over.
pub trait Server: Clone {
    /// Counts its connections and calls. It has ended when there are none.
    fn tasks(&self) -> &TaskTracker;

    /// Who takes over.
    fn succession(&self) -> &Succession<Self>;
}

/// Who takes a server's connections over when it is told to end; nobody at first. Copies are one.
pub struct Succession<S>(Arc<OnceLock<(S, CancellationToken)>>);

impl<S> Clone for Succession<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Default for Succession<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S> fmt::Debug for Succession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Succession").field("is_settled", &self.is_settled()).finish()
    }
}

impl<S> Succession<S> {
    /// Names who takes over, before the server itself is told to end; `cancel` will tell the successor. The first one stays.
    pub fn settle(&self, successor: S, cancel: CancellationToken) {
        let _ = self.0.set((successor, cancel));
    }

    /// Whether somebody takes over.
    pub fn is_settled(&self) -> bool {
        self.0.get().is_some()
    }
}

/// A connection's place at the server that answers its calls.
pub struct Seat<S> {
    /// Answers the calls.
    pub server: S,
    /// Tells that this server is to end.
    pub cancel: CancellationToken,
    /// The server waits for this.
    _token: TaskTrackerToken,
}

impl<S: Server> Seat<S> {
    /// A place at a server that is told by `cancel` to end.
    pub fn new(server: S, cancel: CancellationToken) -> Self {
        let token = server.tasks().token();
        Self { server, cancel, _token: token }
    }

    /// Goes on to the last successor there is; whether there is one.
    pub fn move_on(&mut self) -> bool {
        let mut has_moved = false;
        while let Some((server, cancel)) = self.server.succession().0.get() {
            // Counted first: this one may be told to end meanwhile, and its own successor is looked for after that.
            *self = Self::new(server.clone(), cancel.clone());
            has_moved = true;
        }
        has_moved
    }

    /// Waits for `first`, wherever the connection goes meanwhile; `None` when the last server was told to end.
    pub async fn until_stopped<T>(&mut self, first: impl Future<Output = T>) -> Option<T> {
        let mut first = std::pin::pin!(first);
        loop {
            if let Some(first) = self.cancel.run_until_cancelled(first.as_mut()).await {
                return Some(first);
            }
            if !self.move_on() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Numbered {
        number: u32,
        tasks: TaskTracker,
        succession: Succession<Self>,
    }

    impl Server for Numbered {
        fn tasks(&self) -> &TaskTracker {
            &self.tasks
        }

        fn succession(&self) -> &Succession<Self> {
            &self.succession
        }
    }

    #[test]
    fn a_connection_goes_to_the_last_in_the_line_and_is_counted_there() {
        let servers: Vec<Numbered> = (0..3).map(|number| Numbered { number, ..Numbered::default() }).collect();
        let mut seat = Seat::new(servers[0].clone(), CancellationToken::new());
        assert!(!seat.move_on());
        let count = || servers.iter().map(|server| server.tasks.len()).collect::<Vec<_>>();
        assert_eq!(count(), [1, 0, 0]);
        for pair in servers.windows(2) {
            pair[0].succession.settle(pair[1].clone(), CancellationToken::new());
        }
        assert!(seat.move_on());
        assert_eq!((seat.server.number, count()), (2, vec![0, 0, 1]));
        drop(seat);
        assert_eq!(count(), [0, 0, 0]);
    }
}
