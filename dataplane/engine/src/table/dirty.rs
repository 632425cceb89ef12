//! Dirty marks: which sessions changed since the sync core last looked (decision 3).
//!
//! A mark is one byte a session beside a ring of slot numbers. The worker writes the session, then sets
//! the mark with an unconditional swap and pushes the slot only if the mark was clear; the sync core pops,
//! clears the mark with a swap and *then* reads the session. So ten changes before the sync core looks
//! cost one record, and the ring, which has as many places as the shard has sessions, cannot overflow.
//! Neither side may look at the mark before it swaps: a load that is served from the store buffer would
//! skip the push of a change that the other side has not read yet.
//!
//! A swap waits until everything that was stored before has left for the cache, and a new session is stored in
//! lines that are on their way from memory. So marks are gathered, and swapped together when the worker has
//! done its turn, or when there are many.

use crate::atomics::{AtomicU8, Ordering};
use arrayvec::ArrayVec;

/// Where slot numbers go: a wait-free ring in the product, anything in a model.
pub trait SlotQueue {
    /// Appends a slot; false if there is no room, which a ring of the right size never says.
    fn push_slot(&mut self, slot: u32) -> bool;
}

impl SlotQueue for rtrb::Producer<u32> {
    #[inline(always)]
    fn push_slot(&mut self, slot: u32) -> bool {
        self.push(slot).is_ok()
    }
}

/// Marks that are gathered, at most.
const GATHERED: usize = 64;

/// The worker's end.
pub struct DirtyMarker<'m, Q> {
    flags: &'m [AtomicU8],
    queue: Q,
    gathered: ArrayVec<u32, GATHERED>,
    lost: u64,
}

impl<'m, Q: SlotQueue> DirtyMarker<'m, Q> {
    /// `queue` must have room for `flags.len()` slots.
    pub fn new(flags: &'m [AtomicU8], queue: Q) -> Self {
        Self { flags, queue, gathered: ArrayVec::new(), lost: 0 }
    }

    /// Marks a session as changed. Call it after the session's words are written. The other side hears of it
    /// at the next [`tell`](Self::tell) at the latest.
    #[inline(always)]
    pub fn mark(&mut self, slot: u32) {
        if self.gathered.is_full() {
            self.tell();
        }
        self.gathered.push(slot);
    }

    /// The worker has done its turn: what it marked is told.
    #[inline]
    pub fn tell(&mut self) {
        for slot in self.gathered.drain(..) {
            let Some(flag) = self.flags.get(slot as usize) else { continue };
            if flag.swap(1, Ordering::AcqRel) == 0 && !self.queue.push_slot(slot) {
                self.lost += 1;
            }
        }
    }

    /// Marks that found the ring full: 0 unless the ring was made too small.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// The sync core's end: the flags, to be cleared for each slot popped from the ring.
#[derive(Clone, Copy)]
pub struct DirtyFlags<'m> {
    flags: &'m [AtomicU8],
}

impl<'m> DirtyFlags<'m> {
    /// The flags that a [`DirtyMarker`] sets.
    pub fn new(flags: &'m [AtomicU8]) -> Self {
        Self { flags }
    }

    /// Asks for the line of a slot's mark.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn foresee(&self, slot: u32) {
        super::prefetch_read(self.flags, slot as usize);
    }

    /// Clears a popped slot's mark. Read the session after this, not before.
    #[inline(always)]
    pub fn take(&self, slot: u32) {
        if let Some(flag) = self.flags.get(slot as usize) {
            flag.swap(0, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ten_changes_cost_one_entry_and_the_next_look_sees_the_next_change() {
        let flags: Vec<AtomicU8> = (0..4).map(|_| AtomicU8::new(0)).collect();
        let (tx, mut rx) = rtrb::RingBuffer::new(4);
        let mut marker = DirtyMarker::new(&flags, tx);
        for _ in 0..10 {
            marker.mark(2);
        }
        marker.mark(0);
        assert_eq!(rx.pop().ok(), None, "nothing is told before the end of the turn");
        marker.tell();
        let flags = DirtyFlags::new(&flags);
        assert_eq!((rx.pop().ok(), rx.pop().ok(), rx.pop().ok()), (Some(2), Some(0), None));
        marker.mark(2);
        marker.tell();
        assert_eq!(rx.pop().ok(), None, "the mark still stands");
        flags.take(2);
        marker.mark(2);
        marker.tell();
        assert_eq!(rx.pop().ok(), Some(2));
        assert_eq!(marker.lost(), 0);
    }

    #[test]
    fn marks_beyond_what_is_gathered_are_told_at_once() {
        let flags: Vec<AtomicU8> = (0..200).map(|_| AtomicU8::new(0)).collect();
        let (tx, mut rx) = rtrb::RingBuffer::new(200);
        let mut marker = DirtyMarker::new(&flags, tx);
        (0..150).for_each(|slot| marker.mark(slot));
        assert_eq!(rx.slots(), 2 * GATHERED);
        marker.tell();
        assert!((0..150).all(|slot| rx.pop().ok() == Some(slot)));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::atomics::{Arc, AtomicU64, Mutex};
    use std::collections::VecDeque;

    #[derive(Clone)]
    struct Queue(Arc<Mutex<VecDeque<u32>>>);

    impl SlotQueue for Queue {
        fn push_slot(&mut self, slot: u32) -> bool {
            self.0.lock().is_ok_and(|mut q| {
                q.push_back(slot);
                q.len() <= 1
            })
        }
    }

    /// Decision 3's scenario: whatever the interleaving, the last value written is either read by the
    /// sync core or still announced, and the ring of one place for one session never overflows.
    #[test]
    fn loom_dirty_marks_lose_no_change() {
        lose_no_change(1);
    }

    /// The same if both changes are told together.
    #[test]
    fn loom_gathered_dirty_marks_lose_no_change() {
        lose_no_change(2);
    }

    /// Changes are told when there are so many.
    fn lose_no_change(together: u64) {
        loom::model(move || {
            let flags: &'static [AtomicU8] = Box::leak(Box::new([AtomicU8::new(0)]));
            let body = Arc::new(AtomicU64::new(0));
            let queue = Queue(Arc::new(Mutex::new(VecDeque::new())));
            let worker = {
                let (body, queue) = (body.clone(), queue.clone());
                loom::thread::spawn(move || {
                    let mut marker = DirtyMarker::new(flags, queue);
                    for value in 1..=2 {
                        body.store(value, Ordering::Relaxed);
                        marker.mark(0);
                        if value % together == 0 {
                            marker.tell();
                        }
                    }
                    marker.lost()
                })
            };
            let core = DirtyFlags::new(flags);
            let mut seen = 0;
            let mut look = || {
                let popped = queue.0.lock().ok().and_then(|mut q| q.pop_front());
                if let Some(slot) = popped {
                    core.take(slot);
                    seen = body.load(Ordering::Relaxed);
                }
            };
            look();
            let lost = worker.join();
            assert!(matches!(lost, Ok(0)), "the ring overflowed");
            look();
            look();
            assert_eq!(seen, 2, "the last change was never announced");
        });
    }
}
