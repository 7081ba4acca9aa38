//! What waits to be sent: a list of bounded length between those who record and one worker.
//!
//! *Invariant:* putting something in never waits and wakes the worker only at the beginning of a batch and when it is full, so
//! that what is recorded with each request does not cost a wake-up each time.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::BatchSettings;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: Mutex<Items<T>>,
    /// The worker waits on it.
    changed: Notify,
    queue_max: usize,
    batch_max: usize,
    /// Dropped since the log told of it last.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Items<T> {
    list: Vec<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(settings: &BatchSettings) -> Self {
        let queue_max = settings.queue_max.max(1);
        Self {
            items: Mutex::new(Items { list: Vec::new(), closed: false }),
            changed: Notify::new(),
            queue_max,
            batch_max: settings.batch_max.clamp(1, queue_max),
            lost: AtomicU64::new(0),
        }
    }

    /// Puts one in; it is dropped when there is no room.
    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock();
        if items.closed || items.list.len() >= self.queue_max {
            drop(items); // the item goes after the lock
            self.lose(1);
            return;
        }
        items.list.push(item);
        let length = items.list.len();
        drop(items);
        if length == 1 || length == self.batch_max {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something.
    pub(crate) async fn some(&self) {
        self.at_least(1).await;
    }

    /// Waits until there is enough for a batch.
    pub(crate) async fn enough(&self) {
        self.at_least(self.batch_max).await;
    }

    async fn at_least(&self, count: usize) {
        while self.items.lock().list.len() < count {
            self.changed.notified().await; // a change before this is not missed: there is one worker
        }
    }

    pub(crate) fn has_enough(&self) -> bool {
        self.items.lock().list.len() >= self.batch_max
    }

    /// A batch, the oldest first; empty when there is nothing.
    pub(crate) fn take(&self) -> Vec<T> {
        let list = &mut self.items.lock().list;
        if list.len() <= self.batch_max {
            let next = Vec::with_capacity(list.len());
            return std::mem::replace(list, next);
        }
        list.drain(..self.batch_max).collect()
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.items.lock().closed = true;
    }

    pub(crate) fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// How many were dropped since this was asked last.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn length_max(&self) -> usize {
        self.queue_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let queue = Queue::new(&BatchSettings { queue_max: 5, batch_max: 3, ..BatchSettings::default() });
        (0..7).for_each(|number| queue.push(number));
        queue.enough().await;
        assert_eq!((queue.take(), queue.take_lost()), (vec![0, 1, 2], 2));
        assert_eq!((queue.take(), queue.take_lost()), (vec![3, 4], 0));
        assert_eq!(queue.take(), Vec::<i32>::new());
        queue.close();
        queue.push(8);
        assert_eq!((queue.take().len(), queue.take_lost()), (0, 1));
    }
}
