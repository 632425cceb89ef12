//! The session entry: 128 bytes, two cache lines, both families (decision 1).
//!
//! Line 0 is read for every packet and written a few times in a session's life; line 1 is written by
//! every packet. All words are atomics that only the owning worker writes, with plain moves; everybody
//! else copies an entry through the seqlock ([`SlotReader`]).
//!
//! | word | contents (bit 0 on the left) |
//! | --- | --- |
//! | 0-3 | IPv4: word 0 the initiator's address pair, word 1 the reply's, word 2 the initiator's ports, word 3 the reply's; IPv6: the initiator's addresses, the reply key is their reversal |
//! | 4 | key tail (ports, protocol, VRF, family: 49 bits), status (15 bits, [`IN_USE`]) |
//! | 5 | version: counter:44, term:20 |
//! | 6 | rule id:32, policy generation:16, initiator's zone:8, responder's zone:8 |
//! | 7 | next hop towards the responder:24, towards the initiator:24, traffic group:8, flags:8 |
//! | 8 | last seen:32, sequence:32 |
//! | 9-12 | TCP windows of both halves ([`crate::track::TcpConn::pack`]) |
//! | 13 | bytes from the initiator:48, tracker state, low half:16 |
//! | 14 | bytes from the responder:48, tracker state, high half:16 |
//! | 15 | packets from the initiator:32, from the responder:32 |
//!
//! Byte counters wrap at 2^48, packet counters at 2^32.

use super::seqlock;
use crate::atomics::{AtomicU64, Ordering};
use crate::ids::{GroupId, RuleId, ZoneId};
use crate::neighbour::NextHop;
use crate::time::Ticks;
use crate::track::{Dir, tcp};
use wire::key::{TAIL_MASK, TAIL_V6};
use wire::{FlowKey, TcpFields};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// Words in an entry.
pub(crate) const WORDS: usize = 16;
const TAIL: usize = 4;
const VERSION: usize = 5;
const BINDING: usize = 6;
const PATH: usize = 7;
const SEEN: usize = 8;
const WINDOWS: usize = 9;
/// The first two of them by half, and the other two.
const REACH: usize = WINDOWS;
const SAID: usize = WINDOWS + 2;
const BYTES: [usize; 2] = [13, 14];
const PACKETS: usize = 15;

/// Status bit in word 4: the slot holds a session.
pub(crate) const IN_USE: u64 = 1 << 63;
const COUNT_MASK: u64 = (1 << 48) - 1;
/// Both ports in a key's tail.
const PORTS: u64 = 0xffff_ffff;

/// A session's place in its worker's table. Stable for the session's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

/// Flags of a session, in word 7's last byte.
pub mod flags {
    /// The rule lets the session be mirrored.
    pub const REPLICATE: u8 = 1;
    /// The session is younger than its rule's `sync-after-s`: not mirrored yet.
    pub const YOUNG: u8 = 2;
    /// The rule asks for a log line when the session ends.
    pub const LOG: u8 = 4;
    /// The other node has heard of it, or will: its end must be told (decision 20).
    pub const SHARED: u8 = 8;
    /// Mirrored under a rule that this node does not know: to be asked for before anything passes
    /// (decision 27). Never with next hops.
    pub const INERT: u8 = 16;
    /// On its way out: nothing of it is forwarded any more (decision 41). Never with next hops.
    pub const ENDING: u8 = 32;
    /// Its initiator has sent since the nodes lost each other, if the last packet is younger than that.
    pub const FROM_INITIATOR: u8 = 64;
    /// The same of its responder.
    pub const FROM_RESPONDER: u8 = 128;
    /// Both of them.
    pub const SINCE_SPLIT: u8 = FROM_INITIATOR | FROM_RESPONDER;
}

/// What a session is bound to: rule, zones and generation of the policy that let it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The rule that admitted the session.
    pub rule: RuleId,
    /// The low half of the policy generation under which `rule` was chosen.
    pub generation: u16,
    /// Zone of the initiator and of the responder.
    pub zones: [ZoneId; 2],
}

/// The generation and the zone that a packet's session must be bound to, in place in word 6's upper half:
/// for a packet from the initiator, and for one from the responder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    masks: [u32; 2],
    values: [u32; 2],
}

impl Bound {
    /// No packet passes without questions.
    pub const NEVER: Self = Self { masks: [0; 2], values: [1; 2] };

    /// For packets that come in from this zone.
    pub fn new(generation: u16, zone: ZoneId) -> Self {
        let (generation, zone) = (u32::from(generation), u32::from(zone.0));
        Self { masks: [0x00ff_ffff, 0xff00_ffff], values: [generation | zone << 16, generation | zone << 24] }
    }
}

/// Where a session's packets go: next hop by direction of the packet, group and [`flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Next hop of packets from the initiator and from the responder.
    pub next_hops: [NextHop; 2],
    /// The traffic group.
    pub group: GroupId,
    /// Bits of [`flags`].
    pub flags: u8,
}

/// One session as it lies in shared memory.
#[derive(FromBytes, IntoBytes, KnownLayout)]
#[repr(C, align(128))]
pub(crate) struct Entry {
    words: [AtomicU64; WORDS],
}

const _: () = assert!(size_of::<Entry>() == 128 && align_of::<Entry>() == 128);

/// The per-packet half of an entry, in registers while its packet is worked on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hot {
    pub windows: [u64; 4],
    pub state: u32,
    bytes: [u64; 2],
    packets: u64,
}

impl Hot {
    /// A session that has seen no packet.
    pub fn new(windows: [u64; 4], state: u32) -> Self {
        Self { windows, state, bytes: [0; 2], packets: 0 }
    }

    /// The same with the traffic that it had elsewhere.
    pub fn with_traffic(windows: [u64; 4], state: u32, bytes: [u64; 2], packets: [u32; 2]) -> Self {
        let packets = u64::from(packets[0]) | u64::from(packets[1]) << 32;
        Self { windows, state, bytes: bytes.map(|bytes| bytes & COUNT_MASK), packets }
    }

    /// Bytes from the initiator and from the responder.
    pub fn bytes(&self) -> [u64; 2] {
        self.bytes
    }

    /// Counts a packet of `len` bytes.
    #[inline(always)]
    pub fn count(&mut self, dir: Dir, len: u16) {
        let bytes = &mut self.bytes[dir.index()];
        *bytes = more_bytes(*bytes, len);
        self.packets = one_more_packet(self.packets, dir);
    }
}

impl Entry {
    #[inline(always)]
    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }

    /// True if `key` names this session in direction `dir`.
    #[inline(always)]
    pub fn matches(&self, key: &FlowKey, dir: Dir) -> bool {
        let tail = self.get(TAIL);
        if key.tail & TAIL_V6 == 0 {
            // The words that a direction has; the family and the protocol are in the tail alone.
            let (pair, ports) = (self.get(dir.index()), self.get(2 + dir.index()));
            (pair ^ key.a[0]) | ((ports ^ key.tail) & PORTS) | ((tail ^ (key.tail | IN_USE)) >> 32) == 0
        } else {
            self.matches_v6(key, dir, tail)
        }
    }

    #[inline]
    fn matches_v6(&self, key: &FlowKey, dir: Dir, tail: u64) -> bool {
        let key = match dir {
            Dir::Initiator => *key,
            Dir::Responder => key.reversed(),
        };
        let same = (self.get(0) ^ key.a[0])
            | (self.get(1) ^ key.a[1])
            | (self.get(2) ^ key.a[2])
            | (self.get(3) ^ key.a[3])
            | ((tail & (TAIL_MASK | IN_USE)) ^ (key.tail | IN_USE));
        same == 0
    }

    /// The key of packets from the initiator, and of packets from the responder.
    pub fn keys(&self) -> [FlowKey; 2] {
        keys_of(&std::array::from_fn(|word| self.get(word)))
    }

    /// The initiator's key only: what the index needs first.
    pub fn in_use(&self) -> bool {
        self.get(TAIL) & IN_USE != 0
    }

    #[inline(always)]
    pub fn proto(&self) -> wire::Proto {
        wire::Proto((self.get(TAIL) >> 32) as u8)
    }

    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.get(VERSION)
    }

    #[inline(always)]
    pub fn binding(&self) -> Binding {
        binding_of(self.get(BINDING))
    }

    /// True if packets from `dir` pass without asking the policy or the zone.
    #[inline(always)]
    pub fn is_bound(&self, bound: &Bound, dir: Dir) -> bool {
        let is = (self.get(BINDING) >> 32) as u32;
        is & bound.masks[dir.index()] == bound.values[dir.index()]
    }

    /// The next hop of packets from `dir`.
    #[inline(always)]
    pub fn next_hop(&self, dir: Dir) -> NextHop {
        NextHop((self.get(PATH) >> (24 * dir as u32)) as u32 & NextHop::MASK)
    }

    #[inline(always)]
    pub fn path(&self) -> Path {
        path_of(self.get(PATH))
    }

    #[inline(always)]
    pub fn last_seen(&self) -> Ticks {
        Ticks(self.get(SEEN) as u32)
    }

    /// The per-packet half.
    #[inline(always)]
    pub fn hot(&self) -> Hot {
        let (b0, b1) = (self.get(BYTES[0]), self.get(BYTES[1]));
        Hot {
            windows: [self.get(WINDOWS), self.get(WINDOWS + 1), self.get(WINDOWS + 2), self.get(WINDOWS + 3)],
            state: (b0 >> 48) as u32 | ((b1 >> 48) as u32) << 16,
            bytes: [b0 & COUNT_MASK, b1 & COUNT_MASK],
            packets: self.get(PACKETS),
        }
    }

    /// The state word alone.
    #[inline(always)]
    pub fn state(&self) -> u32 {
        (self.get(BYTES[0]) >> 48) as u32 | ((self.get(BYTES[1]) >> 48) as u32) << 16
    }

    /// True if the session is a TCP connection whose numbers may be exact when it falls silent.
    pub fn may_settle(&self) -> bool {
        self.proto() == wire::Proto::TCP && tcp::may_settle(self.state())
    }

    /// Owner: a TCP connection with nothing in flight has been silent: its numbers are exact. False if
    /// that is nothing new, or not so.
    pub fn settle(&self) -> bool {
        let mut hot = self.hot();
        let settled =
            if self.proto() == wire::Proto::TCP { tcp::settled(&hot.windows, hot.state) } else { None };
        let Some(state) = settled else { return false };
        hot.state = state;
        self.store_hot(&hot, self.last_seen());
        true
    }

    /// Owner: an ordinary segment of an established connection. Tracks and counts it; true if the other
    /// node is to hear of it. `None`, with nothing written, for everything else.
    #[inline(always)]
    pub fn pass_segment(&self, dir: Dir, fields: &TcpFields, len: u16, now: Ticks) -> Option<bool> {
        let (own, peer) = (dir.index(), dir.other().index());
        let half = |at: usize| tcp::HalfWords { reach: self.get(REACH + at), said: self.get(SAID + at) };
        let passed = tcp::advance(half(own), half(peer), self.state(), dir, fields)?;
        let odd = seqlock::begin(&self.words[SEEN], now.0);
        self.set(REACH + own, passed.sender.reach);
        self.set(SAID + own, passed.sender.said);
        self.set(REACH + peer, passed.receiver_reach);
        self.count(dir, len);
        seqlock::end(&self.words[SEEN], odd);
        Some(passed.is_far)
    }

    /// Owner: a packet that changes nothing but the counts.
    #[inline(always)]
    pub fn pass_counted(&self, dir: Dir, len: u16, now: Ticks) {
        let odd = seqlock::begin(&self.words[SEEN], now.0);
        self.count(dir, len);
        seqlock::end(&self.words[SEEN], odd);
    }

    /// Inside a seqlock section.
    #[inline(always)]
    fn count(&self, dir: Dir, len: u16) {
        let at = BYTES[0] + dir.index();
        self.set(at, more_bytes(self.get(at), len));
        self.set(PACKETS, one_more_packet(self.get(PACKETS), dir));
    }

    /// Owner: writes the per-packet half of a TCP session back.
    #[inline(always)]
    pub fn store_hot(&self, hot: &Hot, now: Ticks) {
        let odd = seqlock::begin(&self.words[SEEN], now.0);
        for (i, word) in hot.windows.iter().enumerate() {
            self.set(WINDOWS + i, *word);
        }
        self.store_counts(hot);
        seqlock::end(&self.words[SEEN], odd);
    }

    /// Owner: the same for protocols without windows.
    #[inline(always)]
    pub fn store_counted(&self, hot: &Hot, now: Ticks) {
        let odd = seqlock::begin(&self.words[SEEN], now.0);
        self.store_counts(hot);
        seqlock::end(&self.words[SEEN], odd);
    }

    #[inline(always)]
    fn store_counts(&self, hot: &Hot) {
        self.set(BYTES[0], hot.bytes[0] | u64::from(hot.state & 0xffff) << 48);
        self.set(BYTES[1], hot.bytes[1] | u64::from(hot.state >> 16) << 48);
        self.set(PACKETS, hot.packets);
    }

    /// Owner: a change of the read-mostly half, as one seqlock section.
    pub fn update(&self, change: impl FnOnce(&Writer<'_>)) {
        let odd = seqlock::begin(&self.words[SEEN], self.get(SEEN) as u32);
        change(&Writer { entry: self });
        seqlock::end(&self.words[SEEN], odd);
    }

    /// Owner: the slot is free. Its keys stay readable for nobody.
    pub fn clear(&self) {
        self.update(|_| {
            for word in (0..WORDS).filter(|word| *word != SEEN) {
                self.set(word, 0);
            }
        });
    }

    /// Owner: a new session in a free slot (or a successor in place). Only the fields of line 0 and
    /// `hot`; `now` is its first sight.
    #[inline(always)]
    pub fn create(
        &self,
        keys: &[FlowKey; 2],
        version: u64,
        binding: Binding,
        path: Path,
        hot: &Hot,
        now: Ticks,
    ) {
        let odd = seqlock::begin(&self.words[SEEN], now.0);
        let [forward, reply] = keys;
        if forward.is_v6() {
            for (word, value) in forward.a.iter().enumerate() {
                self.set(word, *value);
            }
        } else {
            self.set(0, forward.a[0]);
            self.set(1, reply.a[0]);
            self.set(2, forward.tail & PORTS);
            self.set(3, reply.tail & PORTS);
        }
        self.set(TAIL, forward.tail | IN_USE);
        self.set(VERSION, version);
        self.set(BINDING, binding_word(binding));
        self.set(PATH, path_word(path));
        for (i, word) in hot.windows.iter().enumerate() {
            self.set(WINDOWS + i, *word);
        }
        self.store_counts(hot);
        seqlock::end(&self.words[SEEN], odd);
    }
}

/// Sets fields of the read-mostly half inside [`Entry::update`].
pub(crate) struct Writer<'e> {
    entry: &'e Entry,
}

impl Writer<'_> {
    pub fn version(&self, version: u64) {
        self.entry.set(VERSION, version);
    }

    pub fn binding(&self, binding: Binding) {
        self.entry.set(BINDING, binding_word(binding));
    }

    pub fn path(&self, path: Path) {
        self.entry.set(PATH, path_word(path));
    }
}

/// A consistent copy of a session for people and for the sync core.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Key of packets from the initiator and from the responder.
    pub keys: [FlowKey; 2],
    /// term:20 | counter:44.
    pub version: u64,
    /// Rule, zones, policy generation.
    pub binding: Binding,
    /// Next hops, group, flags.
    pub path: Path,
    /// When the last packet was seen.
    pub last_seen: Ticks,
    /// Packed TCP windows; zero for other protocols.
    pub windows: [u64; 4],
    /// Packed tracker state.
    pub state: u32,
    /// Bytes from the initiator and from the responder, modulo 2^48.
    pub bytes: [u64; 2],
    /// Packets from the initiator and from the responder, modulo 2^32.
    pub packets: [u32; 2],
}

/// What another thread finds in a slot.
#[derive(Clone, Debug)]
pub enum Read {
    /// A session.
    Session(SessionView),
    /// Nothing.
    Free,
    /// Its owner kept writing.
    Busy,
}

/// Reads a shard's sessions from another thread.
#[derive(Clone, Copy)]
pub struct SlotReader {
    pub(crate) entries: &'static [Entry],
}

/// Attempts before a reader gives a busy entry up for this time.
const READ_ATTEMPTS: usize = 16;

impl SlotReader {
    /// Slots in the shard, used or not.
    pub fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// A copy of a session: `None` if the slot is free, out of range, or its owner kept writing
    /// through 16 attempts.
    pub fn read(&self, slot: Slot) -> Option<SessionView> {
        match self.look(slot) {
            Read::Session(view) => Some(view),
            Read::Free | Read::Busy => None,
        }
    }

    /// The same for those who must know why there is none: a busy session has to be read again.
    #[inline]
    pub fn look(&self, slot: Slot) -> Read {
        let Some(entry) = self.entries.get(slot.0 as usize) else { return Read::Free };
        let Some(words) = (0..READ_ATTEMPTS).find_map(|_| seqlock::read(&entry.words, SEEN)) else {
            return Read::Busy;
        };
        if words[TAIL] & IN_USE == 0 {
            return Read::Free;
        }
        Read::Session(SessionView {
            keys: keys_of(&words),
            version: words[VERSION],
            binding: binding_of(words[BINDING]),
            path: path_of(words[PATH]),
            last_seen: Ticks(words[SEEN] as u32),
            windows: [words[WINDOWS], words[WINDOWS + 1], words[WINDOWS + 2], words[WINDOWS + 3]],
            state: (words[BYTES[0]] >> 48) as u32 | ((words[BYTES[1]] >> 48) as u32) << 16,
            bytes: [words[BYTES[0]] & COUNT_MASK, words[BYTES[1]] & COUNT_MASK],
            packets: [words[PACKETS] as u32, (words[PACKETS] >> 32) as u32],
        })
    }
}

/// A byte counter's word with `len` more, the state above it untouched.
#[inline(always)]
fn more_bytes(word: u64, len: u16) -> u64 {
    word & !COUNT_MASK | word.wrapping_add(len.into()) & COUNT_MASK
}

/// Both packet counters; the initiator's does not carry into the responder's.
#[inline(always)]
fn one_more_packet(packets: u64, dir: Dir) -> u64 {
    match dir {
        Dir::Initiator => packets & !0xffff_ffff | u64::from((packets as u32).wrapping_add(1)),
        Dir::Responder => packets.wrapping_add(1 << 32),
    }
}

fn keys_of(words: &[u64; WORDS]) -> [FlowKey; 2] {
    let tail = words[TAIL] & TAIL_MASK;
    if tail & TAIL_V6 != 0 {
        let forward = FlowKey { a: [words[0], words[1], words[2], words[3]], tail };
        [forward, forward.reversed()]
    } else {
        let forward = FlowKey { a: [words[0], 0, 0, 0], tail };
        let reply = FlowKey { a: [words[1], 0, 0, 0], tail: tail & !PORTS | words[3] };
        [forward, reply]
    }
}

#[inline(always)]
fn binding_word(b: Binding) -> u64 {
    u64::from(b.rule.0)
        | u64::from(b.generation) << 32
        | u64::from(b.zones[0].0) << 48
        | u64::from(b.zones[1].0) << 56
}

#[inline(always)]
fn binding_of(word: u64) -> Binding {
    Binding {
        rule: RuleId(word as u32),
        generation: (word >> 32) as u16,
        zones: [ZoneId((word >> 48) as u8), ZoneId((word >> 56) as u8)],
    }
}

#[inline(always)]
fn path_word(p: Path) -> u64 {
    u64::from(p.next_hops[0].0)
        | u64::from(p.next_hops[1].0) << 24
        | u64::from(p.group.0) << 48
        | u64::from(p.flags) << 56
}

#[inline(always)]
fn path_of(word: u64) -> Path {
    Path {
        next_hops: [NextHop(word as u32 & NextHop::MASK), NextHop((word >> 24) as u32 & NextHop::MASK)],
        group: GroupId((word >> 48) as u8),
        flags: (word >> 56) as u8,
    }
}
