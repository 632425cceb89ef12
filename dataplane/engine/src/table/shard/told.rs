//! What the other node is told of a session, and when: that it changed (decision 3), that it ended (decision
//! 20), that it is still alive (decision 26), that its numbers are exact (decision 39).
//!
//! Marks cost a store and a swap. Everything that depends on time is decided where timers are, so that no
//! packet pays for it; when a session was told of last is kept beside the timers, four bytes each.

use super::super::dirty::DirtyFlags;
use super::{Entry, Path, Shard, Slot, SlotReader, flags, prefetch_line};
use crate::atomics::{Arc, AtomicU64, Ordering};
use crate::ids::GroupId;
use crate::session::{self, Life};
use crate::time::Ticks;
use wire::FlowKey;

/// A TCP session that was silent for so long is told once more, with exact numbers (decision 39).
const IDLE_AFTER_MS: u32 = 10_000;
/// A session that may have to be told of at its next packet is looked at this seldom, at least.
const LOOK_EVERY_MIN_MS: u32 = 1_000;

/// A session that the other node knows has ended, or is none of its business any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Where it was. The slot may have another tenant by now.
    pub slot: Slot,
    /// The initiator's key.
    pub key: FlowKey,
    /// Above every version that it ever had.
    pub version: u64,
    /// Its traffic group.
    pub group: GroupId,
}

/// The ring to the sync core, and what found no room in it.
pub(super) struct Ends {
    ring: rtrb::Producer<Ended>,
    lost: Arc<AtomicU64>,
}

impl Shard {
    /// Tells the ends of sessions that the other node knows: while this node serves, each goes into the
    /// returned ring, and what finds it full is counted (decision 20).
    pub fn track_ends(&mut self, places: usize) -> (rtrb::Consumer<Ended>, Arc<AtomicU64>) {
        let (ring, rx) = rtrb::RingBuffer::new(places);
        let lost = Arc::new(AtomicU64::new(0));
        self.ends = Some(Ends { ring, lost: Arc::clone(&lost) });
        (rx, lost)
    }

    /// A session that is mirrored from its first packet on: dirty mark, under the version it was born with.
    pub(crate) fn announce(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot) else { return };
        let path = entry.path();
        if let Some(marker) = &mut self.marker
            && self.serving
            && path.flags & (flags::REPLICATE | flags::YOUNG) == flags::REPLICATE
        {
            if path.flags & flags::SHARED == 0 {
                entry.update(|e| e.path(Path { flags: path.flags | flags::SHARED, ..path }));
            }
            marker.mark(slot.0);
            self.set_told(slot, self.now);
        }
    }

    /// The other node is to forget the session, if it knows it: it ends, or is kept to this node.
    pub(crate) fn unshare(&mut self, slot: Slot, entry: &Entry) {
        let ended = self.end_of(slot, entry);
        self.tell_end(ended);
    }

    /// The end of a session that the other node knows, to be told when nobody can read the session any more:
    /// whoever hears of an end looks who is in the slot now.
    pub(super) fn end_of(&mut self, slot: Slot, entry: &Entry) -> Option<Ended> {
        let path = entry.path();
        if path.flags & flags::SHARED == 0 || !self.serving {
            return None;
        }
        let version = self.next_version(entry.version());
        entry.update(|e| {
            e.version(version);
            e.path(Path { flags: path.flags & !flags::SHARED, ..path });
        });
        Some(Ended { slot, key: entry.keys()[0], version, group: path.group })
    }

    pub(super) fn tell_end(&mut self, ended: Option<Ended>) {
        if let (Some(ends), Some(ended)) = (&mut self.ends, ended)
            && ends.ring.push(ended).is_err()
        {
            ends.lost.store(ends.lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// A living session's timer fired: it may be old enough to be mirrored now, idle enough for exact
    /// numbers, or not told of for half of its life.
    pub(super) fn look(&mut self, slot: Slot, entry: &Entry, life: Life) {
        let path = entry.path();
        if path.flags & flags::YOUNG != 0 && self.now.reached(self.told(slot)) {
            entry.update(|e| e.path(Path { flags: path.flags & !flags::YOUNG, ..path }));
            self.changed(slot, session::is_replicated(entry.proto(), entry.state()));
        } else if self.is_told_of(entry) {
            let seen = entry.last_seen();
            let told = self.told(slot);
            let is_stale = !told.reached(seen) && self.now.since(told) >= life.timeout_ms / 2;
            let is_known = self.serving_since.is_none_or(|since| seen.reached(since));
            let is_idle = is_known && self.now.since(seen) >= IDLE_AFTER_MS;
            if (is_idle && entry.settle()) || is_stale {
                self.changed(slot, true);
            }
        }
        let next = self.next_look(slot, entry, life);
        self.timers.set(slot.0 as usize, next);
    }

    /// True if changes of this session are told to another node.
    fn is_told_of(&self, entry: &Entry) -> bool {
        self.marker.is_some()
            && self.serving
            && entry.path().flags & (flags::REPLICATE | flags::YOUNG) == flags::REPLICATE
            && session::is_replicated(entry.proto(), entry.state())
    }

    /// When to look at a session again: at the end of its life, or before if it has to be told of.
    pub(super) fn next_look(&self, slot: Slot, entry: &Entry, life: Life) -> Ticks {
        let earlier = |a: Ticks, b: Ticks| if a.reached(b) { b } else { a };
        if entry.path().flags & flags::YOUNG != 0 {
            return earlier(self.told(slot), life.deadline);
        }
        if !self.is_told_of(entry) {
            return life.deadline;
        }
        let mut next = self.told(slot).after(life.timeout_ms / 2);
        if self.now.reached(next) {
            // Nothing new so far; the next packet will be.
            next = self.now.after((life.timeout_ms / 8).max(LOOK_EVERY_MIN_MS));
        }
        if entry.may_settle() {
            let idle_from = entry.last_seen().after(IDLE_AFTER_MS);
            let idle_from =
                if self.now.reached(idle_from) { self.now.after(IDLE_AFTER_MS) } else { idle_from };
            next = earlier(next, idle_from);
        }
        earlier(next, life.deadline)
    }

    fn told(&self, slot: Slot) -> Ticks {
        self.told.get(slot.0 as usize).copied().map_or(self.now, Ticks)
    }

    pub(super) fn set_told(&mut self, slot: Slot, when: Ticks) {
        if let Some(told) = self.told.get_mut(slot.0 as usize) {
            *told = when.0;
        }
    }

    /// The worker has done its turn: what changed is told.
    #[inline]
    pub(crate) fn tell_changes(&mut self) {
        if let Some(marker) = &mut self.marker {
            marker.tell();
        }
    }
}

impl SlotReader {
    /// True if nothing is in the slot at this moment: cheaper to know than what is.
    #[inline]
    pub fn is_free(&self, slot: Slot) -> bool {
        self.entries.get(slot.0 as usize).is_none_or(|entry| !entry.in_use())
    }

    /// Asks for the lines of a session and of its mark: whoever looks at many does so before the first.
    #[inline]
    pub fn foresee(&self, marks: &DirtyFlags<'_>, slot: Slot) {
        marks.foresee(slot.0);
        if let Some(entry) = self.entries.get(slot.0 as usize) {
            prefetch_line(entry, 0);
            prefetch_line(entry, 64);
        }
    }
}
