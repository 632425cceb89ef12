//! What is known of each handle, and the sums over it (decision 23).
//!
//! On the active node an entry says what was last emitted for a handle, on the standby what its owner
//! applied: 16 bytes each. The sums of the weights by bucket are kept with every change, so that a
//! comparison costs nothing but the reading. Each bucket knows the last sequence number that touched it.

use super::hash::{BUCKETS, bucket_of};
use crate::ids::SessionHandle;

/// Buckets of a group, and groups.
pub(super) const GROUP: usize = 256;

/// A handle's share.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The weight, 0 if there is none; of a refused session the reason.
    pub word: u64,
    /// Standby: what the owner holds, everything included.
    pub check: u32,
    /// The low bits of the datagram that carried it last.
    pub seq: u16,
    state: State,
    /// Of the table when this was written: what is of an earlier one is empty.
    life: u8,
}

const _: () = assert!(size_of::<Entry>() == 16);

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    #[default]
    Empty,
    Present,
    /// The scrubber has seen it in memory as it is here.
    Settled,
    Refused,
}

impl Entry {
    pub const fn present(word: u64, check: u32, seq: u64) -> Self {
        Self { word, check, seq: seq as u16, state: State::Present, life: 0 }
    }

    /// The partner could not take it, for this reason.
    pub const fn refused(reason: u8) -> Self {
        Self { word: reason as u64, check: 0, seq: 0, state: State::Refused, life: 0 }
    }

    pub const fn is_present(&self) -> bool {
        matches!(self.state, State::Present | State::Settled)
    }

    /// Why it was refused.
    pub const fn refusal(&self) -> Option<u8> {
        if matches!(self.state, State::Refused) { Some(self.word as u8) } else { None }
    }

    /// The scrubber has seen it in memory as it is here.
    pub const fn is_settled(&self) -> bool {
        matches!(self.state, State::Settled)
    }

    /// A present one is as the scrubber has seen it.
    pub const fn settle(&mut self, check: u32) {
        (self.check, self.state) = (check, State::Settled);
    }
}

/// The sum over a bucket.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Bucket {
    /// Of the weights, modulo 2^64.
    pub sum: u64,
    /// The last datagram that touched it.
    pub last: u64,
}

/// A change of a bucket.
#[derive(Clone, Copy, Debug)]
struct Change {
    bucket: u16,
    by: u64,
    seq: u64,
}

/// Changes that are made together: one after another each would wait for memory, since the buckets that
/// records change have no order.
const TOGETHER: usize = 128;

/// All handles and buckets of a node, in one of the two roles.
#[derive(Clone, Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Without `changes`.
    buckets: Vec<Bucket>,
    changes: Vec<Change>,
    /// Grows with each reset, which could not wait for all entries to be written.
    life: u8,
    sum: u64,
    present: u32,
}

impl Table {
    pub fn new(handles: u32) -> Self {
        Self {
            entries: vec![Entry::default(); handles as usize],
            buckets: vec![Bucket::default(); BUCKETS],
            changes: Vec::with_capacity(TOGETHER),
            life: 0,
            sum: 0,
            present: 0,
        }
    }

    pub const fn handles(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Forgets everything, in a time that does not grow with the table: a takeover waits for it.
    pub fn reset(&mut self) {
        self.life = self.life.wrapping_add(1);
        if self.life == 0 {
            self.entries.fill(Entry::default());
        }
        self.buckets.fill(Bucket::default());
        self.changes.clear();
        (self.sum, self.present) = (0, 0);
    }

    /// The whole digest, and how many sessions are in it.
    pub const fn total(&self) -> (u64, u32) {
        (self.sum, self.present)
    }

    #[inline]
    pub fn entry(&self, handle: SessionHandle) -> Entry {
        let entry = self.entries.get(handle.0 as usize);
        entry.filter(|entry| entry.life == self.life).copied().unwrap_or_default()
    }

    /// An entry that is not empty.
    pub fn entry_mut(&mut self, handle: SessionHandle) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(handle.0 as usize)?;
        (entry.life == self.life && entry.state != State::Empty).then_some(entry)
    }

    /// Puts an entry into a handle's place; the bucket of what it replaces is touched too.
    pub fn set(&mut self, handle: SessionHandle, entry: Entry, seq: u64) {
        let Some(place) = self.entries.get_mut(handle.0 as usize) else { return };
        let old = std::mem::replace(place, Entry { life: self.life, ..entry });
        if old.is_present() && old.life == self.life {
            self.weigh(old.word, 0_u64.wrapping_sub(old.word), seq);
            self.present -= 1;
        }
        if entry.is_present() {
            self.weigh(entry.word, entry.word, seq);
            self.present += 1;
        }
    }

    /// Empties a handle's place.
    pub fn remove(&mut self, handle: SessionHandle, seq: u64) {
        self.set(handle, Entry::default(), seq);
    }

    #[inline]
    fn weigh(&mut self, word: u64, change: u64, seq: u64) {
        self.sum = self.sum.wrapping_add(change);
        self.change(Change { bucket: bucket_of(word), by: change, seq });
    }

    #[inline]
    fn change(&mut self, change: Change) {
        self.changes.push(change);
        if self.changes.len() == TOGETHER {
            self.settle_buckets();
        }
    }

    /// Makes the changes that wait.
    fn settle_buckets(&mut self) {
        for change in self.changes.drain(..) {
            let bucket = &mut self.buckets[usize::from(change.bucket)];
            bucket.sum = bucket.sum.wrapping_add(change.by);
            bucket.last = bucket.last.max(change.seq);
        }
    }

    /// A bucket was touched by something that changes no weight.
    pub fn touch(&mut self, bucket: u16, seq: u64) {
        self.change(Change { bucket, by: 0, seq });
    }

    /// A new sequence space: nothing is newer than anything in it.
    pub fn forget_sequence(&mut self) {
        self.settle_buckets();
        self.buckets.iter_mut().for_each(|bucket| bucket.last = 0);
    }

    pub fn bucket(&mut self, bucket: u16) -> Bucket {
        self.settle_buckets();
        self.buckets[usize::from(bucket)]
    }

    /// The sum over a group of buckets.
    pub fn group(&mut self, group: u8) -> Bucket {
        self.settle_buckets();
        let first = usize::from(group) * GROUP;
        let buckets = &self.buckets[first..first + GROUP];
        buckets.iter().fold(Bucket::default(), |sum, bucket| Bucket {
            sum: sum.sum.wrapping_add(bucket.sum),
            last: sum.last.max(bucket.last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_every_change() {
        let mut table = Table::new(4);
        let word = |bucket: u64, rest: u64| bucket << 48 | rest;
        table.set(SessionHandle(1), Entry::present(word(0x0102, 5), 0, 10), 10);
        table.set(SessionHandle(2), Entry::present(word(0x0102, 6), 0, 11), 11);
        table.set(SessionHandle(9), Entry::present(word(1, 6), 0, 11), 11);
        assert_eq!(table.total(), (word(0x0204, 11), 2));
        assert_eq!((table.bucket(0x0102).sum, table.bucket(0x0102).last), (word(0x0204, 11), 11));
        // The slot has a new tenant in another bucket: both were touched.
        table.set(SessionHandle(1), Entry::present(word(0x0203, 7), 0, 12), 12);
        assert_eq!((table.bucket(0x0102).sum, table.bucket(0x0102).last), (word(0x0102, 6), 12));
        assert_eq!((table.group(2).sum, table.group(2).last), (word(0x0203, 7), 12));
        table.set(SessionHandle(2), Entry::refused(1), 13);
        assert_eq!(table.entry(SessionHandle(2)).refusal(), Some(1));
        table.remove(SessionHandle(1), 14);
        assert_eq!(table.total(), (0, 0));
        assert_eq!(table.group(1).sum, 0);
    }

    #[test]
    fn a_reset_forgets_everything_however_often() {
        let mut table = Table::new(2);
        let handle = SessionHandle(1);
        for round in 0..600_u64 {
            assert_eq!((table.entry(handle), table.total()), (Entry::default(), (0, 0)), "round {round}");
            assert!(table.entry_mut(handle).is_none());
            assert_eq!(table.bucket(3).sum, 0);
            table.set(handle, Entry::present(3 << 48 | 1, 0, round), round);
            assert_eq!((table.total().1, table.bucket(3).sum), (1, 3 << 48 | 1));
            if let Some(entry) = table.entry_mut(handle) {
                entry.settle(9);
            }
            assert!(table.entry(handle).is_settled() && table.entry(handle).is_present());
            table.reset();
        }
    }
}
