//! Which parts of a sidecar are not ready yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// A set of targets that must all be ready. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Readiness(Arc<Mutex<Targets>>);

#[derive(Default)]
struct Targets {
    known: usize,
    unready: BTreeSet<&'static str>,
}

impl Readiness {
    /// Adds a target, unready.
    pub(crate) fn add(&self, name: &'static str) {
        let mut targets = self.0.lock();
        targets.known += 1;
        targets.unready.insert(name);
    }

    /// Marks a target ready.
    pub(crate) fn ready(&self, name: &'static str) {
        self.0.lock().unready.remove(name);
    }

    /// The targets that are not ready.
    pub(crate) fn unready(&self) -> Vec<String> {
        self.0.lock().unready.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Whether there are targets and all are ready.
    pub(crate) fn is_ready(&self) -> bool {
        let targets = self.0.lock();
        targets.known > 0 && targets.unready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn ready_means_all_of_at_least_one() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready());
        readiness.add("a");
        readiness.add("b");
        readiness.ready("a");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.unready(), ["b"]);
        readiness.ready("b");
        assert!(readiness.is_ready());
    }
}
