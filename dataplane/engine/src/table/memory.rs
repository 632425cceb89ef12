//! One region of memory, cut into what a shard needs.

use super::entry::Entry;
use super::index::{Bucket, MAX_SLOTS, buckets_for};
use crate::atomics::AtomicU8;
use std::mem::size_of;
use zerocopy::FromBytes;

/// The parts of a shard's region. Sessions cost 128 bytes for the entry, 15.1 for two index places at 85 %
/// load, 4 for the timer, 4 for the free list, 4 for when it was told and 1 for the dirty mark: 156.1 bytes
/// each.
pub struct Memory {
    pub(crate) entries: &'static [Entry],
    pub(crate) buckets: &'static mut [Bucket],
    pub(crate) next_check: &'static mut [u32],
    pub(crate) free: &'static mut [u32],
    pub(crate) told: &'static mut [u32],
    pub(crate) dirty: &'static [AtomicU8],
}

impl Memory {
    /// Bytes that `slots` sessions need; a multiple of 128.
    pub fn bytes(slots: u32) -> usize {
        let each = size_of::<Entry>() + 3 * size_of::<u32>() + 1;
        (slots as usize * each + Self::index_bytes(slots)).next_multiple_of(128)
    }

    /// How many of them are the index's.
    pub fn index_bytes(slots: u32) -> usize {
        buckets_for(slots as usize) * size_of::<Bucket>()
    }

    /// Cuts a zeroed region. `None` if it is too small for `slots`, not aligned to 128 bytes, or `slots`
    /// is more than an index can address.
    pub fn carve(region: &'static mut [u8], slots: u32) -> Option<Memory> {
        let slots = slots as usize;
        if slots > MAX_SLOTS || slots == 0 {
            return None;
        }
        let (entries, rest) = <[Entry]>::mut_from_prefix_with_elems(region, slots).ok()?;
        let (buckets, rest) = <[Bucket]>::mut_from_prefix_with_elems(rest, buckets_for(slots)).ok()?;
        let (next_check, rest) = <[u32]>::mut_from_prefix_with_elems(rest, slots).ok()?;
        let (free, rest) = <[u32]>::mut_from_prefix_with_elems(rest, slots).ok()?;
        let (told, rest) = <[u32]>::mut_from_prefix_with_elems(rest, slots).ok()?;
        let (dirty, _) = <[AtomicU8]>::mut_from_prefix_with_elems(rest, slots).ok()?;
        Some(Memory { entries, buckets, next_check, free, told, dirty })
    }

    /// A region on the heap, for tests and benches. It is never given back.
    pub fn on_heap(slots: u32) -> Option<Memory> {
        let bytes = Self::bytes(slots) + 128;
        let region: &'static mut [u8] = vec![0; bytes].leak();
        let skip = region.as_ptr().align_offset(128);
        Self::carve(region.get_mut(skip..)?, slots)
    }
}
