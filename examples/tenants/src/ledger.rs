//! What a consumer has received: a count of deliveries and the set of ids. The two differ when a
//! message is delivered twice, which at-least-once delivery allows; a lost message is an id that is missing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The body of `GET /stats` of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Deliveries that were accepted, repeats included.
    pub count: u64,
    /// Ids of the accepted deliveries.
    pub ids: BTreeSet<String>,
    /// Deliveries that are not this consumer's business (an SMS service without a phone number).
    #[serde(default)]
    pub skipped: u64,
    /// Deliveries from the dead letter topic.
    #[serde(default)]
    pub dead: u64,
    /// Ids of the deliveries from the dead letter topic.
    #[serde(default)]
    pub dead_ids: BTreeSet<String>,
}

/// Stats shared by the handlers of one service.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Stats>);

impl Ledger {
    /// Notes an accepted delivery.
    pub fn accept(&self, id: String) {
        let mut stats = self.lock();
        stats.count += 1;
        stats.ids.insert(id);
    }

    /// Notes a delivery that was skipped.
    pub fn skip(&self) {
        self.lock().skipped += 1;
    }

    /// Notes a delivery from the dead letter topic.
    pub fn bury(&self, id: String) {
        let mut stats = self.lock();
        stats.dead += 1;
        stats.dead_ids.insert(id);
    }

    /// A copy of the figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lock().clone()
    }

    /// The figures are consistent after every statement, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_counts_twice_but_is_one_id() {
        let ledger = Ledger::default();
        ledger.accept("7".to_owned());
        ledger.accept("7".to_owned());
        ledger.bury("8".to_owned());
        ledger.skip();
        assert_eq!(
            serde_json::to_string(&ledger.stats()).expect("JSON"),
            r#"{"count":2,"ids":["7"],"skipped":1,"dead":1,"deadIds":["8"]}"#
        );
    }
}
