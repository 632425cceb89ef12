//! The index: from a flow key's hash to candidate slots (decision 4).
//!
//! A bucket is one cache line of ten 16-bit fingerprints and ten 32-bit slots. A key lives in its primary
//! bucket or, when that was full, in its alternate one; the primary counts how many of its keys live
//! elsewhere, so the second line is touched only when that count is not zero. The alternate follows from
//! the bucket and the fingerprint alone, both ways, so an entry can be moved without knowing its key.
//!
//! The memory is private to the worker. Everybody else addresses slots, so moves disturb nobody.

use super::entry::Slot;
use crate::hash::fold;
use crate::track::Dir;
use wire::FlowKey;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries in a bucket.
pub const LANES: usize = 10;
/// Share of the index in use when every slot is: room for two keys a session at 85 % load.
const LOAD_PERCENT: usize = 85;

/// Entries moved to make room for one, at most.
const MOVES: u32 = 2;

const DIR_BIT: u32 = 1 << 31;
const ALTERNATE_BIT: u32 = 1 << 30;
const SLOT_MASK: u32 = ALTERNATE_BIT - 1;

/// The most slots that an index can address.
pub const MAX_SLOTS: usize = SLOT_MASK as usize;

/// A key's hash: keyed per boot and unrelated to the steering hash, so that nobody outside can aim at a
/// bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Bits that a table of a few keys can be cut by.
    #[inline(always)]
    pub(super) fn low(self) -> u32 {
        self.0 as u32
    }
}

/// The secret of the hash.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 3]);

impl HashKey {
    /// From random words; the low bits are set so that no multiplier is even.
    pub fn new(random: [u64; 3]) -> Self {
        Self(random.map(|word| word | 1))
    }

    /// Hashes a key: two folded multiplications for IPv4, four for IPv6.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey) -> KeyHash {
        let mut h = fold(key.a[0] ^ self.0[0], key.tail ^ self.0[1]);
        if key.is_v6() {
            h = fold(h ^ key.a[1], self.0[2] ^ key.a[2]);
            h = fold(h ^ key.a[3], self.0[0]);
        }
        KeyHash(fold(h ^ self.0[2], self.0[1]))
    }
}

/// One cache line. A fingerprint of 0 marks a free lane.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    fingerprints: [u16; LANES],
    overflow: u16,
    spare: u16,
    slots: [u32; LANES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Bits that stand for a lane in a mask of lanes: the lower one is set if the lane matches.
const LANE_BITS: usize = 2;
const LANE_MASK: u32 = 0x5_5555;

impl Bucket {
    /// The lanes with this fingerprint.
    #[cfg(target_feature = "avx2")]
    #[inline(always)]
    fn lanes(&self, fingerprint: u16) -> u32 {
        use core::arch::x86_64::{
            _mm256_cmpeq_epi16, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi16,
        };
        let line = std::ptr::from_ref(self);
        // SAFETY: a bucket is 64 bytes, of which the first 32 are read, without any claim on their
        // alignment; AVX2 is enabled for the whole build.
        let same = unsafe {
            let first_half = _mm256_loadu_si256(line.cast());
            _mm256_movemask_epi8(_mm256_cmpeq_epi16(first_half, _mm256_set1_epi16(fingerprint as i16)))
        };
        same as u32 & LANE_MASK
    }

    /// The same for builds without AVX2.
    #[cfg(not(target_feature = "avx2"))]
    fn lanes(&self, fingerprint: u16) -> u32 {
        let matches = self.fingerprints.iter().enumerate().filter(|(_, print)| **print == fingerprint);
        matches.fold(0, |mask, (lane, _)| mask | 1 << (lane * LANE_BITS))
    }
}

/// Buckets for so many slots.
pub(crate) fn buckets_for(slots: usize) -> usize {
    (slots * 2 * 100).div_ceil(LANES * LOAD_PERCENT).max(4)
}

/// Where an entry may be: the lanes of one bucket whose fingerprint matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidates {
    bucket: u32,
    lanes: u32,
}

/// The index of one shard.
pub(crate) struct Index {
    buckets: &'static mut [Bucket],
}

/// The index has no room for a key within its bounded search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Index {
    /// An empty index in zeroed memory.
    pub fn new(buckets: &'static mut [Bucket]) -> Self {
        Self { buckets }
    }

    #[inline(always)]
    fn primary(&self, hash: KeyHash) -> u32 {
        (((hash.0 >> 32) * self.buckets.len() as u64) >> 32) as u32
    }

    /// The other bucket of an entry with this fingerprint: an involution for any number of buckets.
    #[inline(always)]
    fn other(&self, bucket: u32, fingerprint: u16) -> u32 {
        let n = self.buckets.len() as u64;
        let spread = ((u64::from(fingerprint).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * n) >> 32;
        let sum = spread + n - u64::from(bucket);
        (if sum >= n { sum - n } else { sum }) as u32
    }

    /// Asks for the primary bucket's cache line.
    #[inline(always)]
    pub fn prefetch(&self, hash: KeyHash) {
        super::prefetch_read(self.buckets, self.primary(hash) as usize);
    }

    /// Matching lanes of the primary bucket.
    #[inline(always)]
    pub fn candidates(&self, hash: KeyHash) -> Candidates {
        let bucket = self.primary(hash);
        Candidates { bucket, lanes: self.lanes(bucket, fingerprint(hash)) }
    }

    /// Matching lanes of the alternate bucket; `None` if none of the primary's keys lives elsewhere.
    #[inline]
    pub fn alternate(&self, hash: KeyHash) -> Option<Candidates> {
        let primary = self.primary(hash);
        if self.buckets[primary as usize].overflow == 0 {
            return None;
        }
        let bucket = self.other(primary, fingerprint(hash));
        Some(Candidates { bucket, lanes: self.lanes(bucket, fingerprint(hash)) })
    }

    /// Asks for the alternate bucket's line if a key of the primary's lives elsewhere; false if not.
    #[inline]
    pub fn prefetch_alternate(&self, hash: KeyHash) -> bool {
        let primary = self.primary(hash);
        if self.buckets[primary as usize].overflow == 0 {
            return false;
        }
        super::prefetch_read(self.buckets, self.other(primary, fingerprint(hash)) as usize);
        true
    }

    /// Asks for the bucket where a new key would go if its primary one, which was asked for before, is full.
    #[inline(always)]
    pub fn prefetch_room(&self, hash: KeyHash) {
        let primary = self.primary(hash);
        if self.lanes(primary, 0) == 0 {
            super::prefetch_read(self.buckets, self.other(primary, fingerprint(hash)) as usize);
        }
    }

    #[inline(always)]
    fn lanes(&self, bucket: u32, fingerprint: u16) -> u32 {
        self.buckets[bucket as usize].lanes(fingerprint)
    }

    /// The next candidate, if any.
    #[inline(always)]
    pub fn next(&self, candidates: &mut Candidates) -> Option<(Slot, Dir)> {
        if candidates.lanes == 0 {
            return None;
        }
        let lane = candidates.lanes.trailing_zeros() as usize / LANE_BITS;
        candidates.lanes &= candidates.lanes - 1;
        let word = self.buckets[candidates.bucket as usize].slots.get(lane).copied()?;
        let dir = if word & DIR_BIT == 0 { Dir::Initiator } else { Dir::Responder };
        Some((Slot(word & SLOT_MASK), dir))
    }

    /// Adds a key. The caller has made sure that it is not there.
    #[inline(always)]
    pub fn insert(&mut self, hash: KeyHash, slot: Slot, dir: Dir) -> Result<(), NoRoom> {
        let print = fingerprint(hash);
        let word = slot.0 | if dir == Dir::Responder { DIR_BIT } else { 0 };
        let primary = self.primary(hash);
        if self.put(primary, print, word) { Ok(()) } else { self.insert_elsewhere(primary, print, word) }
    }

    /// The primary bucket is full.
    #[inline(never)]
    fn insert_elsewhere(&mut self, primary: u32, print: u16, word: u32) -> Result<(), NoRoom> {
        let alternate = self.other(primary, print);
        if self.put(alternate, print, word | ALTERNATE_BIT) {
            self.overflowed(primary);
            return Ok(());
        }
        if self.make_room(primary, MOVES - 1) {
            return if self.put(primary, print, word) { Ok(()) } else { Err(NoRoom) };
        }
        if self.make_room(alternate, MOVES - 1) && self.put(alternate, print, word | ALTERNATE_BIT) {
            self.overflowed(primary);
            return Ok(());
        }
        Err(NoRoom)
    }

    /// Removes a key of `slot`; false if it is not there.
    pub fn remove(&mut self, hash: KeyHash, slot: Slot, dir: Dir) -> bool {
        let word = slot.0 | if dir == Dir::Responder { DIR_BIT } else { 0 };
        let primary = self.primary(hash);
        if self.take(primary, word) {
            return true;
        }
        let alternate = self.other(primary, fingerprint(hash));
        if self.take(alternate, word | ALTERNATE_BIT) {
            let bucket = &mut self.buckets[primary as usize];
            bucket.overflow = bucket.overflow.saturating_sub(1);
            return true;
        }
        false
    }

    fn overflowed(&mut self, primary: u32) {
        let bucket = &mut self.buckets[primary as usize];
        bucket.overflow = bucket.overflow.saturating_add(1);
    }

    #[inline(always)]
    fn put(&mut self, bucket: u32, print: u16, word: u32) -> bool {
        let bucket = &mut self.buckets[bucket as usize];
        let lane = bucket.lanes(0).trailing_zeros() as usize / LANE_BITS;
        if lane >= LANES {
            return false;
        }
        bucket.fingerprints[lane] = print;
        bucket.slots[lane] = word;
        true
    }

    fn take(&mut self, bucket: u32, word: u32) -> bool {
        let bucket = &mut self.buckets[bucket as usize];
        let found = (0..LANES).find(|lane| bucket.slots[*lane] == word && bucket.fingerprints[*lane] != 0);
        if let Some(lane) = found {
            bucket.fingerprints[lane] = 0;
            bucket.slots[lane] = 0;
        }
        found.is_some()
    }

    /// Moves one entry of a full bucket to that entry's other bucket: ten candidates at first, then a
    /// hundred that need a second move. At 85 % load half of the buckets are full, so the first step
    /// fails about once in a million insertions and the second one never does.
    fn make_room(&mut self, bucket: u32, depth: u32) -> bool {
        (0..LANES).any(|lane| self.move_lane(bucket, lane))
            || (depth > 0
                && (0..LANES).any(|lane| {
                    let print = self.buckets[bucket as usize].fingerprints[lane];
                    let target = self.other(bucket, print);
                    target != bucket && self.make_room(target, depth - 1) && self.move_lane(bucket, lane)
                }))
    }

    /// Moves one entry to its other bucket; false if there is no free lane.
    fn move_lane(&mut self, bucket: u32, lane: usize) -> bool {
        let Bucket { fingerprints, slots, .. } = self.buckets[bucket as usize];
        let (print, word) = (fingerprints[lane], slots[lane]);
        let target = self.other(bucket, print);
        if target == bucket || !self.put(target, print, word ^ ALTERNATE_BIT) {
            return false;
        }
        let this = &mut self.buckets[bucket as usize];
        this.fingerprints[lane] = 0;
        this.slots[lane] = 0;
        if word & ALTERNATE_BIT == 0 {
            self.overflowed(bucket);
        } else {
            let home = &mut self.buckets[target as usize];
            home.overflow = home.overflow.saturating_sub(1);
        }
        true
    }
}

#[inline(always)]
fn fingerprint(hash: KeyHash) -> u16 {
    (hash.0 as u16).max(1)
}
