//! A worker's own sessions: the only writer of its slots.
//!
//! Lookups return slots. Sessions end in [`Shard::housekeep`] only, between bursts, so a slot that a
//! lookup returned stays what it was through the burst (decision 6).

use super::dirty::DirtyMarker;
use super::entry::{Binding, Entry, Hot, Path, Slot, SlotReader, flags};
use super::index::{HashKey, Index, KeyHash};
use super::memory::Memory;
use super::timers::Timers;
use super::{prefetch_line, prefetch_read};
use crate::atomics::{Arc, AtomicU64, Ordering};
use crate::ids::GroupId;
use crate::session::Life;
use crate::time::Ticks;
use crate::track::Dir;
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use wire::{FlowKey, Proto};

/// Slots kept free for a burst's new sessions while half-open ones can be evicted instead.
const RESERVE: usize = 64;
/// Sessions ended between two bursts, at most.
const ENDS_PER_BURST: usize = 64;
/// Slots looked at between two bursts after the timeouts changed.
const JUDGED_PER_BURST: usize = 128;
/// A TCP session that was silent for so long is told once more, with exact numbers (decision 39).
const IDLE_AFTER_MS: u32 = 10_000;
/// A session that may have to be told of at its next packet is looked at this seldom, at least.
const LOOK_EVERY_MIN_MS: u32 = 1_000;
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
struct Ends {
    ring: rtrb::Producer<Ended>,
    lost: Arc<AtomicU64>,
}

/// A session in the state that the other node's record says.
pub(crate) struct Adopted<'a> {
    pub keys: &'a [FlowKey; 2],
    pub hashes: [KeyHash; 2],
    pub version: u64,
    pub binding: Binding,
    pub path: Path,
    pub hot: Hot,
    /// So that the lifetime that is left follows from it.
    pub last_seen: Ticks,
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
    half_open: VecDeque<(Slot, u32)>,
    population: Population,
    counter: u64,
    /// The first slot that was not looked at since the timeouts changed.
    judged_to: usize,
    config: ShardConfig,
    marker: Option<DirtyMarker<'static, rtrb::Producer<u32>>>,
    ends: Option<Ends>,
    /// This node decides over its sessions; otherwise it mirrors the other one's.
    serving: bool,
    /// The next slot of a walk that drops sessions.
    sweep_from: u32,
    dirty: &'static [crate::atomics::AtomicU8],
    /// By slot: when the session was last told to the other node, or when it will be old enough for that.
    told: &'static mut [u32],
    /// The time of this burst.
    now: Ticks,
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
            half_open: VecDeque::with_capacity(config.half_open_max as usize * 2 + RESERVE),
            population: Population::default(),
            counter: 0,
            judged_to: slots,
            config,
            marker: None,
            ends: None,
            serving: true,
            sweep_from: 0,
            dirty,
            told,
            now,
        }
    }

    /// A burst begins.
    #[inline(always)]
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.now = now;
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

    /// Tells the ends of sessions that the other node knows: while this node serves, each goes into the
    /// returned ring, and what finds it full is counted (decision 20).
    pub fn track_ends(&mut self, places: usize) -> (rtrb::Consumer<Ended>, Arc<AtomicU64>) {
        let (ring, rx) = rtrb::RingBuffer::new(places);
        let lost = Arc::new(AtomicU64::new(0));
        self.ends = Some(Ends { ring, lost: Arc::clone(&lost) });
        (rx, lost)
    }

    /// From now on this worker decides over its sessions, and versions carry this term.
    pub(crate) fn serve(&mut self, term: u32) {
        self.config.term = term;
        self.serving = true;
    }

    /// True while this node decides over its sessions.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving
    }

    /// The term that versions carry.
    pub fn term(&self) -> u32 {
        self.config.term
    }

    /// From now on its sessions are a mirror: none ends by itself, none is announced.
    pub(crate) fn stop_serving(&mut self) {
        self.serving = false;
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
    pub fn create(&mut self, new: &NewSession<'_>, now: Ticks) -> Result<Slot, TableFull> {
        let slot = self.place(new.hashes)?;
        let entry = self.entry(slot).ok_or(TableFull)?;
        if let Some(next) = self.free[..self.free_len].last() {
            // The next new session's lines, long before it needs them.
            self.prefetch_slot(Slot(*next));
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
        self.unshare(slot, entry);
        let version = self.next_version(entry.version());
        entry.create(new.keys, version, new.binding, new.path, &new.hot(), now);
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

    /// A living session's timer fired: it may be old enough to be mirrored now, idle enough for exact
    /// numbers, or not told of for half of its life.
    fn look(&mut self, slot: Slot, entry: &Entry, life: Life) {
        let path = entry.path();
        if path.flags & flags::YOUNG != 0 && self.now.reached(self.told(slot)) {
            entry.update(|e| e.path(Path { flags: path.flags & !flags::YOUNG, ..path }));
            self.changed(slot, crate::session::is_replicated(entry.proto(), entry.state()));
        } else if self.is_told_of(entry) {
            let seen = entry.last_seen();
            let told = self.told(slot);
            let is_stale = !told.reached(seen) && self.now.since(told) >= life.timeout_ms / 2;
            if (self.now.since(seen) >= IDLE_AFTER_MS && entry.settle()) || is_stale {
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
            && crate::session::is_replicated(entry.proto(), entry.state())
    }

    /// When to look at a session again: at the end of its life, or before if it has to be told of.
    fn next_look(&self, slot: Slot, entry: &Entry, life: Life) -> Ticks {
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

    fn set_told(&mut self, slot: Slot, when: Ticks) {
        if let Some(told) = self.told.get_mut(slot.0 as usize) {
            *told = when.0;
        }
    }

    fn release(&mut self, slot: Slot, now: Ticks) {
        let Some(entry) = self.entries.get(slot.0 as usize) else { return };
        self.unshare(slot, entry);
        let keys = entry.keys();
        self.unindex(slot, &keys);
        let class = Class::of(keys[0].proto());
        self.population.in_use[class as usize] -= 1;
        if class == Class::Tcp && crate::session::is_half_open(entry.state()) {
            self.handshake_changed(slot, true, false);
        }
        self.relearned(keys[0].proto(), entry.state(), 0);
        entry.clear();
        self.timers.clear(slot.0 as usize, now);
        self.free[self.free_len] = slot.0;
        self.free_len += 1;
    }

    /// The other node is to forget the session, if it knows it: it ends, or is kept to this node.
    pub(crate) fn unshare(&mut self, slot: Slot, entry: &Entry) {
        let path = entry.path();
        if path.flags & flags::SHARED == 0 || !self.serving {
            return;
        }
        let version = self.next_version(entry.version());
        entry.update(|e| {
            e.version(version);
            e.path(Path { flags: path.flags & !flags::SHARED, ..path });
        });
        if let Some(ends) = &mut self.ends {
            let ended = Ended { slot, key: entry.keys()[0], version, group: path.group };
            if ends.ring.push(ended).is_err() {
                ends.lost.store(ends.lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        }
    }

    /// Stores a session as the other node's record says: at `held`, which has the same two keys, or in a
    /// free slot; then the caller has looked both keys up and found neither.
    pub(crate) fn adopt(
        &mut self,
        held: Option<Slot>,
        new: &Adopted<'_>,
        now: Ticks,
    ) -> Result<Slot, TableFull> {
        let slot = match held {
            Some(slot) => slot,
            None => self.place(new.hashes)?,
        };
        let entry = self.entry(slot).ok_or(TableFull)?;
        let class = Class::of(new.keys[0].proto());
        if held.is_none() {
            self.population.in_use[class as usize] += 1;
        } else if class == Class::Tcp && crate::session::is_half_open(entry.state()) {
            self.handshake_changed(slot, true, false);
        }
        if held.is_some() {
            self.relearned(entry.proto(), entry.state(), 0);
        }
        self.relearned(new.keys[0].proto(), 0, new.hot.state);
        self.counter = self.counter.max(new.version & COUNTER_MASK);
        entry.create(new.keys, new.version, new.binding, new.path, &new.hot, new.last_seen);
        self.timers.clear(slot.0 as usize, now);
        self.set_told(slot, now);
        Ok(slot)
    }

    /// A free slot, both hashes in the index.
    fn place(&mut self, [hash, reply_hash]: [KeyHash; 2]) -> Result<Slot, TableFull> {
        let slot = Slot(*self.free[..self.free_len].last().ok_or(TableFull)?);
        if self.index.insert(hash, slot, Dir::Initiator).is_err() {
            return Err(TableFull);
        }
        if self.index.insert(reply_hash, slot, Dir::Responder).is_err() {
            self.index.remove(hash, slot, Dir::Initiator);
            return Err(TableFull);
        }
        self.free_len -= 1;
        Ok(slot)
    }

    /// Slots that are free.
    pub(crate) fn room(&self) -> usize {
        self.free_len
    }

    /// The next session to be created does not get the slot that was given back last, if there is
    /// another one.
    pub(crate) fn rest_last_slot(&mut self) {
        if let Some(([.., before, last], _)) = self.free.split_at_mut_checked(self.free_len) {
            std::mem::swap(before, last);
        }
    }

    /// Drops sessions that `gone` names, looking at `slots` slots at most. True when the walk has come to
    /// the last slot; the next call begins anew then.
    pub(crate) fn sweep(&mut self, slots: u32, mut gone: impl FnMut(&Entry) -> bool, now: Ticks) -> bool {
        let end = self.sweep_from.saturating_add(slots).min(self.slots());
        for slot in self.sweep_from..end {
            if let Some(entry) = self.entry(Slot(slot))
                && entry.in_use()
                && gone(entry)
            {
                self.release(Slot(slot), now);
            }
        }
        let is_done = end == self.slots();
        self.sweep_from = if is_done { 0 } else { end };
        is_done
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

    fn opened_half(&mut self, slot: Slot, version: u64) {
        self.population.half_open += 1;
        if self.half_open.len() == self.half_open.capacity() {
            for _ in 0..ROTATIONS {
                let Some(front) = self.half_open.pop_front() else { break };
                if !self.is_half_open(front) {
                    break;
                }
                self.half_open.push_back(front);
            }
        }
        if self.half_open.len() < self.half_open.capacity() {
            self.half_open.push_back((slot, version as u32));
        }
    }

    fn oldest_half_open(&mut self) -> Option<Slot> {
        while let Some(front) = self.half_open.pop_front() {
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
