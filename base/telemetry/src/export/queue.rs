//! What waits to be sent: a list of bounded length between those who record and one worker.
//!
//! *Invariant:* putting something in never waits and wakes the worker only at the beginning of a batch and when it is full, so
//! that what is recorded with each request does not cost a wake-up each time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::BatchSettings;

#[derive(Debug)]
pub(crate) struct Queue<W> {
    items: Mutex<Items<W>>,
    /// The worker waits on it.
    changed: Notify,
    queue_max: usize,
    batch_max: usize,
    /// Dropped since the log told of it last.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Items<W> {
    waiting: W,
    closed: bool,
}

/// The form in which things wait.
pub(crate) trait Waiting: Default {
    /// What an encoder gets.
    type Batch: Send + 'static;
    /// A batch is a body but for its ends.
    const IS_WRITTEN: bool;

    /// How many wait.
    fn count(&self) -> usize;

    /// At most `count_max` of them, the oldest first, and their number.
    fn take(&mut self, count_max: usize) -> (Self::Batch, usize);
}

impl<T: Send + 'static> Waiting for Vec<T> {
    type Batch = Self;
    const IS_WRITTEN: bool = false;

    fn count(&self) -> usize {
        self.len()
    }

    fn take(&mut self, count_max: usize) -> (Self, usize) {
        let batch = if self.len() <= count_max {
            let next = Self::with_capacity(self.len());
            std::mem::replace(self, next)
        } else {
            self.drain(..count_max).collect()
        };
        let count = batch.len();
        (batch, count)
    }
}

/// Things that are written when they come, a page for each batch.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// With the number of things on each.
    pages: VecDeque<(Vec<u8>, usize)>,
    count: usize,
    /// Room for the next page: what the last one took.
    page_bytes: usize,
}

impl Waiting for Pages {
    type Batch = Vec<u8>;
    const IS_WRITTEN: bool = true;

    fn count(&self) -> usize {
        self.count
    }

    fn take(&mut self, _count_max: usize) -> (Vec<u8>, usize) {
        let (page, count) = self.pages.pop_front().unwrap_or_default(); // none is longer than that
        self.count -= count;
        self.page_bytes = page.len() + page.len() / 8;
        (page, count)
    }
}

impl Queue<Pages> {
    /// Lets one be put at the end of a page; nothing is written when there is no room.
    pub(crate) fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.put(|waiting| {
            let page_bytes = waiting.page_bytes;
            match waiting.pages.back_mut().filter(|(_, count)| *count < self.batch_max) {
                Some((page, count)) => {
                    write(page);
                    *count += 1;
                }
                None => {
                    let mut page = Vec::with_capacity(page_bytes);
                    write(&mut page);
                    waiting.pages.push_back((page, 1));
                }
            }
            waiting.count += 1;
        });
    }
}

impl<T: Send + 'static> Queue<Vec<T>> {
    /// Puts one in; it is dropped when there is no room.
    pub(crate) fn push(&self, item: T) {
        self.put(|list| list.push(item));
    }
}

impl<W: Waiting> Queue<W> {
    pub(crate) fn new(settings: &BatchSettings) -> Self {
        let queue_max = settings.queue_max.max(1);
        Self {
            items: Mutex::new(Items { waiting: W::default(), closed: false }),
            changed: Notify::new(),
            queue_max,
            batch_max: settings.batch_max.clamp(1, queue_max),
            lost: AtomicU64::new(0),
        }
    }

    /// `put` is dropped when there is no room.
    fn put(&self, put: impl FnOnce(&mut W)) {
        let mut items = self.items.lock();
        if items.closed || items.waiting.count() >= self.queue_max {
            drop(items); // what it brings goes after the lock
            self.lose(1);
            return;
        }
        put(&mut items.waiting);
        let length = items.waiting.count();
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
        while self.items.lock().waiting.count() < count {
            self.changed.notified().await; // a change before this is not missed: there is one worker
        }
    }

    pub(crate) fn has_enough(&self) -> bool {
        self.items.lock().waiting.count() >= self.batch_max
    }

    /// A batch, the oldest first, and how many are in it; empty when there is nothing.
    pub(crate) fn take(&self) -> (W::Batch, usize) {
        self.items.lock().waiting.take(self.batch_max)
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
        let queue: Queue<Vec<i32>> =
            Queue::new(&BatchSettings { queue_max: 5, batch_max: 3, ..BatchSettings::default() });
        (0..7).for_each(|number| queue.push(number));
        queue.enough().await;
        assert_eq!((queue.take(), queue.take_lost()), ((vec![0, 1, 2], 3), 2));
        assert_eq!((queue.take(), queue.take_lost()), ((vec![3, 4], 2), 0));
        assert_eq!(queue.take(), (Vec::new(), 0));
        queue.close();
        queue.push(8);
        assert_eq!((queue.take().1, queue.take_lost()), (0, 1));
    }

    #[tokio::test]
    async fn what_is_written_at_once_waits_in_pages() {
        let queue: Queue<Pages> = Queue::new(&BatchSettings { queue_max: 5, batch_max: 3, ..BatchSettings::default() });
        for letter in *b"abcdefg" {
            queue.write(|page| page.push(letter));
        }
        queue.enough().await;
        assert_eq!((queue.take(), queue.take_lost()), ((b"abc".to_vec(), 3), 2));
        queue.write(|page| page.push(b'h'));
        assert_eq!(queue.take(), (b"deh".to_vec(), 3));
        assert_eq!(queue.take(), (Vec::new(), 0));
        queue.write(|page| page.push(b'i'));
        queue.close();
        queue.write(|page| page.push(b'j'));
        assert_eq!((queue.take(), queue.take_lost()), ((b"i".to_vec(), 1), 1));
    }
}
