//! A small map that forgets what was not used for the longest time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A map of at most `capacity` entries.
pub(super) struct Lru<V> {
    capacity: usize,
    clock: u64,
    entries: HashMap<Arc<str>, (u64, V)>,
    order: BTreeMap<u64, Arc<str>>,
}

impl<V: Clone> Lru<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), clock: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    /// The value of a key, made when it is not there.
    pub(super) fn get_or_insert_with(&mut self, key: &str, make: impl FnOnce() -> V) -> V {
        self.clock += 1;
        if let Some((used, value)) = self.entries.get_mut(key) {
            if let Some(name) = self.order.remove(used) {
                self.order.insert(self.clock, name);
            }
            *used = self.clock;
            return value.clone();
        }
        if self.entries.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let name: Arc<str> = key.into();
        let value = make();
        self.order.insert(self.clock, name.clone());
        self.entries.insert(name, (self.clock, value.clone()));
        value
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key.as_ref(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_entry_goes() {
        let mut lru = Lru::new(2);
        for key in ["a", "b", "a", "c"] {
            lru.get_or_insert_with(key, || key.to_owned());
        }
        let mut keys: Vec<&str> = lru.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["a", "c"]);
    }
}
