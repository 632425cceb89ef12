//! A worker's own sessions: the only writer of its slots.
//!
//! Lookups return slots. Sessions end in [`Shard::housekeep`] only, between bursts, so a slot that a
//! lookup returned stays what it was through the burst (decision 6).
//!
//! What the other node of a pair is told of sessions is in [`told`], what it tells in [`mirror`].

mod mirror;
mod queue;
mod told;

pub(crate) use mirror::Adopted;
pub use told::Ended;

use super::dirty::DirtyMarker;
use super::entry::{Binding, Entry, Hot, Path, Slot, SlotReader, flags};
use super::index::{HashKey, Index, KeyHash};
use super::memory::Memory;
use super::timers::Timers;
use super::{prefetch_line, prefetch_read};
use crate::session::Life;
use crate::time::Ticks;
use crate::track::Dir;
use arrayvec::ArrayVec;
use queue::Queue;
use wire::{FlowKey, Proto};

/// Slots kept free for a burst's new sessions while half-open ones can be evicted instead.
const RESERVE: usize = 64;
/// Sessions ended between two bursts, at most.
const ENDS_PER_BURST: usize = 64;
/// Slots looked at between two bursts after the timeouts changed.
const JUDGED_PER_BURST: usize = 128;
/// A new session asks for the lines of the one that is so many sessions later.
const AHEAD: usize = 3;
/// Stale entries of the half-open queue looked at when it is full.
const ROTATIONS: usize = 8;

/// How a shard is set up.
#[derive(Clone, Copy)]
pub struct ShardConfig {
    /// Half-open TCP sessions beyond this number push out the oldest ones.
    pub half_open_max: u32,
    /// The index's secret, new at each boot.
    pub hash_key: HashKey,
    /// The term that versions carry (decision 17); below 2^20.
    pub term: u32,
}

/// A session to be.
pub struct NewSession<'a> {
    /// Key of packets from the initiator and from the responder.
    pub keys: &'a [FlowKey; 2],
    /// The two keys' hashes.
    pub hashes: [KeyHash; 2],
    /// Rule, zones, generation.
    pub binding: Binding,
    /// Next hops, group, flags.
    pub path: Path,
    /// Packed TCP windows, or zeros.
    pub windows: [u64; 4],
    /// Packed tracker state.
    pub state: u32,
    /// Length in bytes of the packet that opens it, which is counted.
    pub first_len: u16,
    /// True while a TCP handshake is under way.
    pub half_open: bool,
    /// When to look at it first.
    pub next_check: Ticks,
    /// When it is old enough to be mirrored, if it is too young at first.
    pub of_age: Ticks,
}

impl NewSession<'_> {
    /// The per-packet half after the first packet.
    fn hot(&self) -> Hot {
        let mut hot = Hot::new(self.windows, self.state);
        hot.count(Dir::Initiator, self.first_len);
        hot
    }
}

/// Every slot is taken, or the index has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo.
    Icmp,
    /// Other IP protocols.
    Other,
}

impl Class {
    /// The class of a protocol.
    #[inline(always)]
    pub fn of(proto: Proto) -> Class {
        match proto {
            Proto::TCP => Class::Tcp,
            Proto::UDP => Class::Udp,
            Proto::ICMP | Proto::ICMP6 => Class::Icmp,
            _ => Class::Other,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its time ran out.
    Expired,
    /// A half-open session made room.
    Evicted,
}

/// What to do with a session whose timer fired.
pub enum Due {
    /// Its time ran out.
    Expire,
    /// It lives, until then if it stays idle.
    Again(Life),
}

/// Numbers of sessions, kept as they come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Population {
    /// By [`Class`].
    pub in_use: [u32; 4],
    /// TCP handshakes under way.
    pub half_open: u32,
    /// Taken-over TCP connections whose numbers are not known again yet.
    pub relaxed: u32,
}

/// The table of one worker.
pub struct Shard {
    entries: &'static [Entry],
    index: Index,
    timers: Timers,
    free: &'static mut [u32],
    free_len: usize,
    half_open: Queue,
    population: Population,
    counter: u64,
    /// The first slot that was not looked at since the timeouts changed.
    judged_to: usize,
    config: ShardConfig,
    marker: Option<DirtyMarker<'static, rtrb::Producer<u32>>>,
    ends: Option<told::Ends>,
    /// This node decides over its sessions; otherwise it mirrors the other one's.
    serving: bool,
    /// Since when, if it mirrored before: what was not seen since then stands where nobody knows.
    serving_since: Option<Ticks>,
    /// The next slot of a walk that drops sessions.
    sweep_from: u32,
    dirty: &'static [crate::atomics::AtomicU8],
    /// By slot: when the session was last told to the other node, or when it will be old enough for that.
    told: &'static mut [u32],
    /// The time of this burst.
    now: Ticks,
    /// The keys that came into the index in this burst.
    fresh: Fresh,
}

const COUNTER_MASK: u64 = (1 << 44) - 1;

impl Shard {
    /// An empty shard in zeroed memory.
    pub fn new(memory: Memory, config: ShardConfig, now: Ticks) -> Self {
        let Memory { entries, buckets, next_check, free, told, dirty } = memory;
        let slots = free.len();
        // The lowest slot is handed out first.
        for (place, slot) in free.iter_mut().zip((0..slots as u32).rev()) {
            *place = slot;
        }
        Self {
            entries,
            index: Index::new(buckets),
            timers: Timers::new(next_check, now),
            free_len: slots,
            free,
            half_open: Queue::new(config.half_open_max as usize * 2 + RESERVE),
            population: Population::default(),
            counter: 0,
            judged_to: slots,
            config,
            marker: None,
            ends: None,
            serving: true,
            serving_since: None,
            sweep_from: 0,
            dirty,
            told,
            now,
            fresh: Fresh::default(),
        }
    }

    /// A burst begins.
    #[inline(always)]
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.now = now;
        self.fresh = Fresh::default();
    }

    /// False if no session with this key was created since the burst began: what an early stage did not find
    /// is not there then.
    #[inline(always)]
    pub(crate) fn may_be_fresh(&self, hash: KeyHash) -> bool {
        self.fresh.may_have(hash)
    }

    /// Stage 3 for a flow that is new: asks for the line where its reply's key will go, if that is not the
    /// one that stage 2 asked for.
    #[inline(always)]
    pub(crate) fn prefetch_room(&self, hash: KeyHash) {
        self.index.prefetch_room(hash);
    }

    /// The view for other threads.
    pub fn reader(&self) -> SlotReader {
        SlotReader { entries: self.entries }
    }

    /// Turns dirty marks on: changed slots go into the returned ring, which has a place for each slot.
    pub fn track_changes(&mut self) -> (super::dirty::DirtyFlags<'static>, rtrb::Consumer<u32>) {
        let (tx, rx) = rtrb::RingBuffer::new(self.entries.len());
        self.marker = Some(DirtyMarker::new(self.dirty, tx));
        (super::dirty::DirtyFlags::new(self.dirty), rx)
    }

    /// The term that versions carry.
    pub fn term(&self) -> u32 {
        self.config.term
    }

    /// Slots, used or not.
    pub fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Sessions by class.
    pub fn population(&self) -> Population {
        self.population
    }

    /// A key's hash for this table.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey) -> KeyHash {
        self.config.hash_key.hash(key)
    }

    /// Stage 1: asks for the index line.
    #[inline(always)]
    pub fn prefetch_index(&self, hash: KeyHash) {
        self.index.prefetch(hash);
    }

    /// Stage 2: the first candidate of the primary bucket, its two lines asked for. Without one, asks
    /// for the alternate bucket's line where there is one to look at.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: KeyHash) -> Guess {
        let mut candidates = self.index.candidates(hash);
        match self.index.next(&mut candidates) {
            Some((slot, dir)) => {
                self.prefetch_slot(slot);
                Guess::Slot(slot, dir)
            }
            None if self.index.prefetch_alternate(hash) => Guess::Alternate,
            None => Guess::Nothing,
        }
    }

    /// Stage 3: the same for the alternate bucket.
    #[inline]
    pub fn prefetch_alternate_entry(&self, hash: KeyHash) -> Guess {
        let Some(mut candidates) = self.index.alternate(hash) else { return Guess::Nothing };
        let Some((slot, dir)) = self.index.next(&mut candidates) else { return Guess::Nothing };
        self.prefetch_slot(slot);
        Guess::Slot(slot, dir)
    }

    #[inline(always)]
    fn prefetch_slot(&self, slot: Slot) {
        prefetch_read(self.entries, slot.0 as usize);
        if let Some(entry) = self.entries.get(slot.0 as usize) {
            prefetch_line(entry, 64);
        }
    }

    /// True if the guess of an earlier stage is this key's session.
    #[inline(always)]
    pub(crate) fn confirm(&self, slot: Slot, dir: Dir, key: &FlowKey) -> Option<&'static Entry> {
        let entry = self.entries.get(slot.0 as usize)?;
        entry.matches(key, dir).then_some(entry)
    }

    /// The session of a key and the direction in which the key names it.
    pub fn find(&self, key: &FlowKey, hash: KeyHash) -> Option<(Slot, Dir)> {
        self.among(self.index.candidates(hash), key).or_else(|| self.among(self.index.alternate(hash)?, key))
    }

    #[inline]
    fn among(&self, mut candidates: super::index::Candidates, key: &FlowKey) -> Option<(Slot, Dir)> {
        while let Some((slot, dir)) = self.index.next(&mut candidates) {
            if self.confirm(slot, dir, key).is_some() {
                return Some((slot, dir));
            }
        }
        None
    }

    #[inline(always)]
    pub(crate) fn entry(&self, slot: Slot) -> Option<&'static Entry> {
        self.entries.get(slot.0 as usize)
    }

    /// Adds a session. The caller has looked both keys up and found neither.
    #[inline(always)]
    pub fn create(&mut self, new: &NewSession<'_>, now: Ticks) -> Result<Slot, TableFull> {
        let slot = self.place(new.hashes)?;
        let entry = self.entry(slot).ok_or(TableFull)?;
        if let Some(next) = self.free.get(self.free_len.wrapping_sub(AHEAD)) {
            // A later session's lines, long before it needs them.
            self.prefetch_slot(Slot(*next));
            self.timers.prefetch(*next as usize);
        }
        let version = self.next_version(0);
        entry.create(new.keys, version, new.binding, new.path, &new.hot(), now);
        self.timers.set(slot.0 as usize, new.next_check);
        if new.path.flags & flags::YOUNG != 0 {
            self.set_told(slot, new.of_age);
        }
        self.population.in_use[Class::of(new.keys[0].proto()) as usize] += 1;
        if new.half_open {
            self.opened_half(slot, version);
        }
        Ok(slot)
    }

    /// A successor between the same ends in place (ports used again): new version, counters from zero.
    /// The initiator may be the other end now; the two keys are the same two.
    pub(crate) fn succeed(&mut self, slot: Slot, new: &NewSession<'_>, was_half_open: bool, now: Ticks) {
        let Some(entry) = self.entry(slot) else { return };
        let old = entry.keys();
        if old[0] != new.keys[0] {
            self.unindex(slot, &old);
            for (hash, dir) in new.hashes.into_iter().zip([Dir::Initiator, Dir::Responder]) {
                // Two places were just given back, so there is room.
                let inserted = self.index.insert(hash, slot, dir);
                debug_assert!(inserted.is_ok());
            }
        }
        let ended = self.end_of(slot, entry);
        let version = self.next_version(entry.version());
        entry.create(new.keys, version, new.binding, new.path, &new.hot(), now);
        self.tell_end(ended);
        self.timers.set(slot.0 as usize, new.next_check);
        if new.path.flags & flags::YOUNG != 0 {
            self.set_told(slot, new.of_age);
        }
        if was_half_open {
            self.population.half_open -= 1;
        }
        if new.half_open {
            self.opened_half(slot, version);
        }
    }

    /// The session's life is another one: it is to be looked at no later than that demands.
    pub(crate) fn check_by(&mut self, slot: Slot, entry: &Entry, life: Life) {
        let next = self.next_look(slot, entry, life);
        self.timers.advance(slot.0 as usize, next);
    }

    /// Counts a connection whose numbers are relaxed from now on, or are not any more.
    pub(crate) fn relearned(&mut self, proto: Proto, before: u32, after: u32) {
        if proto == Proto::TCP {
            let relaxed = &mut self.population.relaxed;
            *relaxed = (*relaxed + u32::from(crate::track::tcp::is_relaxed(after)))
                .saturating_sub(crate::track::tcp::is_relaxed(before).into());
        }
    }

    /// A TCP session's handshake came to an end, or began anew.
    pub(crate) fn handshake_changed(&mut self, slot: Slot, was_half_open: bool, is_half_open: bool) {
        match (was_half_open, is_half_open) {
            (true, false) => self.population.half_open = self.population.half_open.saturating_sub(1),
            (false, true) => {
                let version = self.entry(slot).map_or(0, Entry::version);
                self.opened_half(slot, version);
            }
            _ => {}
        }
    }

    /// The session changed in a way that the other node must know: new version, dirty mark. Local and
    /// too-young sessions only get the version. Half-open ones, of which nobody else hears, keep theirs:
    /// it names them among those that can be evicted.
    #[inline]
    pub(crate) fn changed(&mut self, slot: Slot, replicated: bool) {
        let Some(entry) = self.entry(slot) else { return };
        if entry.proto() == Proto::TCP && crate::session::is_half_open(entry.state()) {
            return;
        }
        let version = self.next_version(entry.version());
        entry.update(|e| e.version(version));
        if replicated {
            self.announce(slot);
        }
    }

    /// The timeouts changed: every session is put to `judge` anew, a few between two bursts, and its timer
    /// set by what it says now.
    pub(crate) fn judge_all(&mut self) {
        self.judged_to = 0;
    }

    /// Sets the timers of the next few slots; sessions that ought to have ended are due at once.
    #[cold]
    fn judge_some(&mut self, now: Ticks, judge: &mut impl FnMut(&Entry) -> Due) {
        let end = (self.judged_to + JUDGED_PER_BURST).min(self.entries.len());
        for slot in self.judged_to..end {
            if let Some(entry) = self.entries.get(slot)
                && entry.in_use()
            {
                let deadline = match judge(entry) {
                    Due::Expire => now,
                    Due::Again(life) => self.next_look(Slot(slot as u32), entry, life),
                };
                self.timers.advance(slot, deadline);
            }
        }
        self.judged_to = end;
    }

    /// Between bursts: timers that fired are put to `judge`, half-open sessions make room. `ended` hears
    /// of each session that ends, before it is gone. Returns how many ended.
    pub(crate) fn housekeep(
        &mut self,
        now: Ticks,
        mut judge: impl FnMut(&Entry) -> Due,
        mut ended: impl FnMut(&Entry, End),
    ) -> usize {
        let mut ends = 0;
        if self.judged_to < self.entries.len() {
            self.judge_some(now, &mut judge);
        }
        let mut due = ArrayVec::<u32, ENDS_PER_BURST>::new();
        self.timers.pass(now, &mut due);
        for slot in due {
            let Some(entry) = self.entries.get(slot as usize) else { continue };
            if !entry.in_use() {
                self.timers.clear(slot as usize, now);
                continue;
            }
            match judge(entry) {
                Due::Expire => {
                    ended(entry, End::Expired);
                    self.release(Slot(slot), now);
                    ends += 1;
                }
                Due::Again(life) => self.look(Slot(slot), entry, life),
            }
        }
        while ends < ENDS_PER_BURST && self.wants_room() {
            let Some(slot) = self.oldest_half_open() else { break };
            if let Some(entry) = self.entry(slot) {
                ended(entry, End::Evicted);
            }
            self.release(slot, now);
            ends += 1;
        }
        ends
    }

    /// Ends a session on command; false if the slot is free. Between bursts only.
    pub fn terminate(&mut self, slot: Slot, now: Ticks) -> bool {
        let in_use = self.entry(slot).is_some_and(Entry::in_use);
        if in_use {
            self.release(slot, now);
        }
        in_use
    }

    fn wants_room(&self) -> bool {
        self.population.half_open > self.config.half_open_max
            || (self.free_len < RESERVE.min(self.entries.len() / 2) && self.population.half_open > 0)
    }

    fn release(&mut self, slot: Slot, now: Ticks) {
        let Some(entry) = self.entries.get(slot.0 as usize) else { return };
        let ended = self.end_of(slot, entry);
        let keys = entry.keys();
        self.unindex(slot, &keys);
        let class = Class::of(keys[0].proto());
        self.population.in_use[class as usize] -= 1;
        if class == Class::Tcp && crate::session::is_half_open(entry.state()) {
            self.handshake_changed(slot, true, false);
        }
        self.relearned(keys[0].proto(), entry.state(), 0);
        entry.clear();
        self.tell_end(ended);
        self.timers.clear(slot.0 as usize, now);
        self.free[self.free_len] = slot.0;
        self.free_len += 1;
    }

    /// A free slot, both hashes in the index.
    #[inline(always)]
    fn place(&mut self, [hash, reply_hash]: [KeyHash; 2]) -> Result<Slot, TableFull> {
        let last = self.free_len.wrapping_sub(1);
        let slot = Slot(*self.free.get(last).ok_or(TableFull)?);
        if self.index.insert(hash, slot, Dir::Initiator).is_err() {
            return Err(TableFull);
        }
        if self.index.insert(reply_hash, slot, Dir::Responder).is_err() {
            self.index.remove(hash, slot, Dir::Initiator);
            return Err(TableFull);
        }
        self.fresh.add(hash);
        self.fresh.add(reply_hash);
        self.free_len = last;
        Ok(slot)
    }

    fn unindex(&mut self, slot: Slot, keys: &[FlowKey; 2]) {
        for (key, dir) in keys.iter().zip([Dir::Initiator, Dir::Responder]) {
            let hash = self.hash(key);
            let removed = self.index.remove(hash, slot, dir);
            debug_assert!(removed, "a session's key was not in the index");
        }
    }

    /// Lamport: above everything this worker has written and above the slot's own (decision 17).
    #[inline(always)]
    fn next_version(&mut self, slot_version: u64) -> u64 {
        self.counter = self.counter.max(slot_version & COUNTER_MASK) + 1;
        u64::from(self.config.term) << 44 | self.counter & COUNTER_MASK
    }

    /// A version of this worker's, above everything here and above that one.
    pub(crate) fn version_above(&mut self, version: u64) -> u64 {
        self.next_version(version)
    }

    #[inline(always)]
    fn opened_half(&mut self, slot: Slot, version: u64) {
        self.population.half_open += 1;
        if self.half_open.is_full() {
            self.forget_some_half_open();
        }
        self.half_open.push((slot, version as u32));
    }

    /// The queue of half-open sessions is full: takes one out that is none any more, if there is one among
    /// the oldest.
    #[cold]
    fn forget_some_half_open(&mut self) {
        for _ in 0..ROTATIONS {
            let Some(front) = self.half_open.pop() else { break };
            if !self.is_half_open(front) {
                break;
            }
            self.half_open.push(front);
        }
    }

    fn oldest_half_open(&mut self) -> Option<Slot> {
        while let Some(front) = self.half_open.pop() {
            if self.is_half_open(front) {
                return Some(front.0);
            }
        }
        None
    }

    /// True if the queue's entry still names a handshake under way, and not the slot's next tenant:
    /// a handshake never changes its version.
    fn is_half_open(&self, (slot, version): (Slot, u32)) -> bool {
        self.entry(slot).is_some_and(|entry| {
            entry.in_use()
                && entry.version() as u32 == version
                && entry.proto() == Proto::TCP
                && crate::session::is_half_open(entry.state())
        })
    }
}

/// Some keys out of very many: says of nearly each other key that it is none of them, never of one of them.
#[derive(Clone, Copy, Default)]
struct Fresh([u64; FRESH_WORDS]);

/// Sixteen bits for each of a burst's new keys.
const FRESH_WORDS: usize = 16;

impl Fresh {
    #[inline(always)]
    fn add(&mut self, hash: KeyHash) {
        let (word, bit) = Self::place(hash);
        self.0[word] |= bit;
    }

    #[inline(always)]
    fn may_have(&self, hash: KeyHash) -> bool {
        let (word, bit) = Self::place(hash);
        self.0[word] & bit != 0
    }

    #[inline(always)]
    fn place(hash: KeyHash) -> (usize, u64) {
        let bits = hash.low();
        (bits as usize >> 6 & (FRESH_WORDS - 1), 1 << (bits & 63))
    }
}

/// What an early stage found in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// A fingerprint matches: probably this session.
    Slot(Slot, Dir),
    /// Nothing in the primary bucket, but keys of it live in another one.
    Alternate,
    /// No session.
    Nothing,
}
