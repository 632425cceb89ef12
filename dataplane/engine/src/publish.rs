//! Publication of immutable snapshots to workers (decision 7).
//!
//! The control thread publishes; a worker looks once a burst at one number and, when it moved, takes the
//! new snapshot without waiting (if the control thread is just replacing it, the worker carries on with
//! what it holds and looks again a burst later). Nothing is ever freed by a worker: the control thread
//! keeps every replaced snapshot until it is the last holder. With a plain shared count the last worker
//! to let go would free megabytes in the middle of a burst.

use crate::atomics::{Arc, AtomicU64, Mutex, Ordering};

/// The published value and its number.
struct Shared<T> {
    epoch: AtomicU64,
    current: Mutex<Arc<T>>,
}

/// The control thread's end.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    epoch: u64,
    retired: Vec<Arc<T>>,
}

impl<T> Publisher<T> {
    /// Starts with `first` as epoch 1.
    pub fn new(first: Arc<T>) -> Self {
        let shared = Arc::new(Shared { epoch: AtomicU64::new(1), current: Mutex::new(first) });
        Self { shared, epoch: 1, retired: Vec::new() }
    }

    /// A worker's end, holding what is current now.
    pub fn reader(&self) -> Reader<T> {
        let held = lock(&self.shared.current).clone();
        Reader { shared: self.shared.clone(), held, epoch: self.epoch }
    }

    /// Makes `next` current and keeps what it replaces until no worker holds it. Returns the new epoch.
    pub fn publish(&mut self, next: Arc<T>) -> u64 {
        let mut current = lock(&self.shared.current);
        let replaced = std::mem::replace(&mut *current, next);
        self.epoch += 1;
        self.shared.epoch.store(self.epoch, Ordering::Release);
        drop(current);
        self.retired.push(replaced);
        self.epoch
    }

    /// Frees what no worker holds any more; returns how many snapshots still wait. Call it now and then.
    pub fn reclaim(&mut self) -> usize {
        self.retired.retain(|old| Arc::strong_count(old) > 1);
        self.retired.len()
    }
}

/// A worker's end.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    held: Arc<T>,
    epoch: u64,
}

impl<T> Reader<T> {
    /// Takes the newest snapshot if there is a newer one and it can be had without waiting. True if
    /// another one is held than before.
    #[inline(always)]
    pub fn refresh(&mut self) -> bool {
        self.shared.epoch.load(Ordering::Acquire) != self.epoch && self.take()
    }

    /// The snapshot in use, and its epoch.
    #[inline(always)]
    pub fn current(&self) -> (&T, u64) {
        (&self.held, self.epoch)
    }

    #[cold]
    fn take(&mut self) -> bool {
        // Only one thread publishes, and it holds the lock for a few instructions: not having it is
        // no reason to wait.
        let Ok(current) = self.shared.current.try_lock() else { return false };
        self.held = current.clone();
        self.epoch = self.shared.epoch.load(Ordering::Relaxed);
        true
    }
}

fn lock<T>(current: &Mutex<Arc<T>>) -> impl std::ops::DerefMut<Target = Arc<T>> {
    // Nothing can panic while the lock is held, so a poisoned lock still holds a whole value.
    current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_publisher_frees_and_only_what_nobody_holds() {
        let first = Arc::new(1);
        let watch = Arc::downgrade(&first);
        let mut publisher = Publisher::new(first);
        let mut reader = publisher.reader();
        assert!(!reader.refresh(), "nothing new");
        assert_eq!(publisher.publish(Arc::new(2)), 2);
        assert_eq!(publisher.reclaim(), 1, "the reader still holds it");
        assert_eq!(reader.current(), (&1, 1));
        assert!(reader.refresh());
        assert_eq!(reader.current(), (&2, 2));
        assert!(watch.upgrade().is_some(), "a worker never frees");
        assert_eq!(publisher.reclaim(), 0);
        assert!(watch.upgrade().is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// A value that tells who dropped it.
    struct Snapshot(u64, loom::thread::ThreadId, bool);

    impl Drop for Snapshot {
        fn drop(&mut self) {
            assert!(self.2 || loom::thread::current().id() == self.1, "freed by a worker");
        }
    }

    /// The worker never sees an older snapshot after a newer one, its number and its content belong
    /// together once the publisher is quiet, and only the publisher frees.
    #[test]
    fn loom_snapshots_are_freed_by_the_publisher() {
        loom::model(|| {
            let me = loom::thread::current().id();
            let mut publisher = Publisher::new(Arc::new(Snapshot(1, me, false)));
            let mut reader = publisher.reader();
            let worker = loom::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..2 {
                    reader.refresh();
                    let seen = reader.current().0.0;
                    assert!(seen >= last, "older after newer");
                    last = seen;
                }
                reader
            });
            publisher.publish(Arc::new(Snapshot(2, me, true)));
            publisher.reclaim();
            let Ok(mut reader) = worker.join() else { panic!("the worker panicked") };
            reader.refresh();
            assert_eq!((reader.current().0.0, reader.current().1), (2, 2));
            assert_eq!(publisher.reclaim(), 0);
        });
    }
}
