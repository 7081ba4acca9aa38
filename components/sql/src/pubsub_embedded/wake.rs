//! Wake-ups: who waits for a topic in this process, and the datagrams between processes.
//!
//! *Job:* make a subscription look at the database at once. *Invariant:* a wake-up is a hint; a lost one costs at most a
//! poll interval, a needless one a short read.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UnixDatagram;
use tokio::sync::Notify;

/// More topics than this in one datagram become "all".
const TOPICS_LIMIT: usize = 64;
const ID_BYTES: usize = size_of::<i64>();

/// The subscriptions of one component that wait, by topic id; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Wakers(Arc<Mutex<HashMap<i64, Vec<Arc<Notify>>>>>);

impl Wakers {
    /// Adds a waiter; returns whether it is the first of its topic.
    pub(super) fn add(&self, topic: i64, waiter: Arc<Notify>) -> bool {
        let mut waiters = self.0.lock();
        let waiters = waiters.entry(topic).or_default();
        waiters.push(waiter);
        waiters.len() == 1
    }

    /// Removes a waiter; returns whether it was the last of its topic.
    pub(super) fn remove(&self, topic: i64, waiter: &Arc<Notify>) -> bool {
        let mut all = self.0.lock();
        let Some(waiters) = all.get_mut(&topic) else { return false };
        waiters.retain(|other| !Arc::ptr_eq(other, waiter));
        let was_last = waiters.is_empty();
        if was_last {
            all.remove(&topic);
        }
        was_last
    }

    /// The topics somebody waits for.
    pub(super) fn topics(&self) -> Vec<i64> {
        self.0.lock().keys().copied().collect()
    }

    /// Wakes the waiters of some topics.
    pub(super) fn wake(&self, topics: impl IntoIterator<Item = i64>) {
        let waiters = self.0.lock();
        for waiter in topics.into_iter().filter_map(|topic| waiters.get(&topic)).flatten() {
            waiter.notify_one();
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        for waiter in self.0.lock().values().flatten() {
            waiter.notify_one();
        }
    }

    /// Wakes as the datagrams of other processes say, until aborted.
    pub(super) async fn listen(self, socket: std::os::unix::net::UnixDatagram) {
        let Ok(socket) = UnixDatagram::from_std(socket) else { return }; // polling has to do
        let mut buffer = [0; TOPICS_LIMIT * ID_BYTES];
        while let Ok(length) = socket.recv(&mut buffer).await {
            match decode(&buffer[..length]) {
                Some(topics) => self.wake(topics),
                None => self.wake_all(),
            }
        }
    }
}

/// A datagram that names topics, or none for all.
pub(super) fn encode(topics: &[i64]) -> Vec<u8> {
    if topics.len() > TOPICS_LIMIT {
        return Vec::new();
    }
    topics.iter().flat_map(|topic| topic.to_le_bytes()).collect()
}

fn decode(datagram: &[u8]) -> Option<impl Iterator<Item = i64> + '_> {
    let (ids, rest) = datagram.as_chunks::<ID_BYTES>();
    (rest.is_empty() && !ids.is_empty()).then(|| ids.iter().map(|id| i64::from_le_bytes(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_name_topics_or_all() {
        let topics = |ids: &[i64]| decode(&encode(ids)).map(Iterator::collect::<Vec<_>>);
        assert_eq!(topics(&[1, i64::MAX]), Some(vec![1, i64::MAX]));
        assert_eq!(topics(&[]), None);
        assert_eq!(topics(&[7; TOPICS_LIMIT + 1]), None);
        assert!(decode(b"junk").is_none());
    }

    #[tokio::test]
    async fn only_waiters_of_the_topic_wake() {
        let wakers = Wakers::default();
        let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        assert!(wakers.add(1, one.clone()) && !wakers.add(1, one.clone()) && wakers.add(2, two.clone()));
        wakers.wake([1, 3]);
        one.notified().await;
        let quiet = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(quiet, two.notified()).await.is_err());
        wakers.wake_all();
        two.notified().await;
        assert!(wakers.remove(2, &two) && wakers.remove(1, &one) && !wakers.remove(1, &one));
        assert!(wakers.topics().is_empty());
    }
}
