//! Event loops that connections are shared out to.
//!
//! *Job:* run each connection, with all that its calls do, on one loop of one thread. *Neighbours:* the process makes the loops, the
//! servers hand their connections over, the pools of outgoing connections lend only to the loop that made a connection
//! ([`Here`]). *Invariant:* what such a pool lends belongs to the loop that asks: waking another thread costs more than most calls. (The
//! one connection to an app over h2c is shared by all loops.)

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Handle, Id, RuntimeMetrics};

/// The loops of a process; without any, connections run where they were accepted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Loops(Arc<[Loop]>);

struct Loop {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// Counts a connection until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loops {
    /// Loops that somebody else drives.
    pub fn new(handles: impl IntoIterator<Item = Handle>) -> Self {
        Self(handles.into_iter().map(|handle| Loop { handle, connections: Arc::default() }).collect())
    }

    /// Runs a connection on the loop that has the fewest. `begin` is called there, so that the system tells that loop of the
    /// connection's readiness.
    pub fn spawn<F>(&self, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = self.0.iter().min_by_key(|one| one.connections.load(Ordering::Relaxed));
        let Some(one) = fewest else {
            tokio::spawn(begin());
            return;
        };
        one.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(one.connections.clone());
        let connection = async move {
            let _place = place;
            begin().await;
        };
        one.handle.spawn(connection);
    }

    /// What the loops say of themselves.
    pub fn metrics(&self) -> impl Iterator<Item = RuntimeMetrics> {
        self.0.iter().map(|one| one.handle.metrics())
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|one| one.handle.id())).finish()
    }
}

/// The loop something was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here(Id);

impl Here {
    /// The loop of the caller.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn now() -> Self {
        Self(Handle::current().id())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are() {
        let runtimes: Vec<_> =
            (0..2).map(|_| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()).collect();
        let loops = Loops::new(runtimes.iter().map(|runtime| runtime.handle().clone()));
        let (tell, told) = mpsc::channel();
        let open = || {
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let tell = tell.clone();
            loops.spawn(move || async move {
                tell.send(Here::now()).unwrap();
                let _ = ended.await;
            });
            (told.recv().unwrap(), end)
        };
        let (first, second) = (open(), open());
        assert_ne!(first.0, second.0);
        drop(first.1);
        while loops.0.iter().all(|one| one.connections.load(Ordering::Relaxed) > 0) {
            std::thread::yield_now();
        }
        assert_eq!(open().0, first.0, "a place was free there");
    }

    #[tokio::test]
    async fn without_loops_connections_stay() {
        let here = Here::now();
        let (tell, told) = tokio::sync::oneshot::channel();
        Loops::default().spawn(move || async move { tell.send(Here::now()).unwrap() });
        assert_eq!(told.await.unwrap(), here);
    }
}
