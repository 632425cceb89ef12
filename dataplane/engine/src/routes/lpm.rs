//! Longest-prefix match: from an address to a small number, for routes and for the policy's classes.
//!
//! A first level of 65,536 slots, then nodes of 256 slots, one per octet. Neighbouring slots mostly hold
//! the same value, so no level stores its slots: it stores a bit per slot, "a new run starts here", and
//! the values of the runs; a population count finds the run. The first level is then 16 KB instead of
//! 256 KB and a node is one cache line, which is what matters to a worker whose caches belong to the
//! session table.
//!
//! An address that ends at the first level is done: under most addresses that a worker sees from one side
//! there are no prefixes, or there are always some, so the branch is guessed right. Below it IPv4 takes both
//! nodes, if need be an empty one: which addresses end there differs from packet to packet, and a branch
//! that is guessed wrong costs more than a node. IPv6 jumps over the octets in
//! which no two prefixes differ, so that its depth follows the number of prefixes and not the length of an
//! address; it takes one node in the same way and the others, where there are any, in a loop.

use std::mem::size_of_val;

/// Set in an entry that points to a node.
const NODE: u32 = 1 << 31;
/// Set in an entry that points to a prefix that stands alone.
const LONE: u32 = 1 << 30;
/// Where an entry that points to a node has the node's depth in octets.
const DEPTH_SHIFT: u32 = 26;
/// The number of a node or of a lone prefix.
const NUMBER: u32 = (1 << DEPTH_SHIFT) - 1;
/// The largest value that a table can hold.
pub(crate) const VALUE_MAX: u32 = LONE - 1;
/// The largest number of prefixes: each one adds two nodes at most.
pub(crate) const PREFIXES_MAX: usize = 1 << 24;

/// Sixty-four slots: a bit for each slot in which a run starts (the first one always), and where the
/// values of these runs lie.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(16))]
pub(crate) struct Cell {
    starts: u64,
    /// One less than the place of the first run's value.
    base: u32,
}

impl Cell {
    /// The place of the value of slot `low` (0..64).
    #[inline(always)]
    pub(crate) fn place(self, low: u32) -> usize {
        // Shifting left by 63 - low drops the slots above; shift counts wrap at 64.
        let runs = self.starts.wrapping_shl(!low).count_ones();
        self.base.wrapping_add(runs) as usize
    }
}

/// Writes `slots` as runs: one cell for each 64 of them, values appended.
pub(crate) fn compress<T: Copy + PartialEq + Default>(slots: &[T], cells: &mut [Cell], values: &mut Vec<T>) {
    if values.is_empty() {
        values.push(T::default()); // place 0 is never used, so that bases need no sign
    }
    for (cell, chunk) in cells.iter_mut().zip(slots.chunks(64)) {
        *cell = Cell { starts: 0, base: (values.len() - 1) as u32 };
        let mut last = None;
        for (low, &slot) in chunk.iter().enumerate() {
            if last != Some(slot) {
                cell.starts |= 1 << low;
                values.push(slot);
                last = Some(slot);
            }
        }
    }
}

/// A table from every 16-bit number to a value, stored as runs.
#[derive(Clone, Debug)]
pub(crate) struct Runs16 {
    cells: Box<[Cell; 1024]>,
    values: Vec<u32>,
}

impl Runs16 {
    /// The number of slots.
    pub(crate) const SLOTS: usize = 1 << 16;

    /// A table of these values; slots that are not given read as 0.
    pub(crate) fn new(slots: &[u32]) -> Self {
        let mut cells = Box::new([Cell::default(); 1024]);
        let mut values = Vec::new();
        compress(slots, cells.as_mut_slice(), &mut values);
        values.shrink_to_fit();
        Self { cells, values }
    }

    /// The value at `key`.
    #[inline(always)]
    pub(crate) fn get(&self, key: u16) -> u32 {
        let cell = self.cells[usize::from(key >> 6)];
        self.values.get(cell.place(u32::from(key & 63))).copied().unwrap_or(0)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.cells.as_slice()) + size_of_val(self.values.as_slice())
    }
}

/// A prefix with the value of the addresses under it; `left` holds the address from the top bit down, for
/// both families, and is 0 behind the first `len` bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    pub(crate) left: u128,
    pub(crate) len: u32,
    pub(crate) value: u32,
}

impl Entry {
    /// True if every address under `other` is under this prefix, too.
    pub(crate) fn covers(&self, other: &Entry) -> bool {
        self.len <= other.len && (self.left ^ other.left).leading_zeros() >= self.len
    }
}

/// Two hundred and fifty-six slots in one cache line.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(64))]
struct Node {
    cells: [Cell; 4],
}

/// Sorted, each prefix once, values up to [`VALUE_MAX`]: what the tables are built of.
fn is_proper(entries: &[Entry]) -> bool {
    entries.len() <= PREFIXES_MAX
        && entries.iter().all(|e| e.value <= VALUE_MAX)
        && entries.is_sorted_by(|a, b| (a.left, a.len) < (b.left, b.len))
}

/// A longest-prefix match over IPv4.
#[derive(Clone, Debug)]
pub(crate) struct Lpm4 {
    root: Runs16,
    /// Node 0 is nobody's: where a path ends early it goes on here, to no effect.
    nodes: Vec<Node>,
    values: Vec<u32>,
}

impl Lpm4 {
    /// A table of these prefixes, sorted, each one once. What none covers reads as `default`.
    pub(crate) fn build(entries: &[Entry], default: u32) -> Self {
        debug_assert!(is_proper(entries));
        let mut table = Self { root: Runs16::new(&[]), nodes: vec![Node::default()], values: vec![0] };
        let mut slots = vec![default; Runs16::SLOTS];
        fill(entries, 0, 16, &mut slots, &mut |inside, depth, inherited| {
            table.node(inside, depth, inherited)
        });
        table.root = Runs16::new(&slots);
        table.nodes.shrink_to_fit();
        table.values.shrink_to_fit();
        table
    }

    fn node(&mut self, entries: &[Entry], depth: u32, inherited: u32) -> u32 {
        let mut slots = [inherited; 256];
        fill(entries, depth, 8, &mut slots, &mut |inside, depth, inherited| {
            self.node(inside, depth, inherited)
        });
        let mut node = Node::default();
        compress(&slots, &mut node.cells, &mut self.values);
        self.nodes.push(node);
        NODE | (self.nodes.len() - 1) as u32
    }

    /// The value of the longest prefix that covers `key`.
    #[inline(always)]
    pub(crate) fn lookup(&self, key: u32) -> u32 {
        let entry = self.root.get((key >> 16) as u16);
        if entry & NODE == 0 { entry } else { self.below(entry, key) }
    }

    #[inline(always)]
    fn below(&self, entry: u32, key: u32) -> u32 {
        let entry = self.step(entry, (key >> 8) as u8);
        self.step(entry, key as u8)
    }

    /// The entry below `entry`, or `entry` itself if it is a value.
    #[inline(always)]
    fn step(&self, entry: u32, octet: u8) -> u32 {
        let inner = mask(entry & NODE != 0);
        let Some(node) = self.nodes.get((entry & inner & NUMBER) as usize) else { return 0 };
        let place = node.cells[usize::from(octet >> 6)].place(u32::from(octet & 63));
        let below = self.values.get(place).copied().unwrap_or(0);
        pick(inner, below, entry)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.root.memory_bytes() + size_of_val(self.nodes.as_slice()) + size_of_val(self.values.as_slice())
    }
}

/// What must hold for a path to go on, and the answers where it does not.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// The bits that every address behind the gate starts with.
    bits: u128,
    /// How many of them count.
    len: u16,
    /// How many of them suffice for `near`: a shorter prefix around all that is behind the gate.
    near_len: u16,
    /// The answer behind the gate, if no node is there.
    value: u32,
    near: u32,
    /// The answer for everybody else.
    fallback: u32,
}

impl Gate {
    /// `behind` for addresses that pass.
    #[inline(always)]
    fn pass(&self, key: u128, behind: u32) -> u32 {
        let same = (key ^ self.bits).leading_zeros();
        let outside = pick(mask(same >= u32::from(self.near_len)), self.near, self.fallback);
        pick(mask(same >= u32::from(self.len)), behind, outside)
    }
}

/// A longest-prefix match over IPv6.
#[derive(Clone, Debug)]
pub(crate) struct Lpm6 {
    root: Runs16,
    /// The first one of these, of the gates and of the lone prefixes is nobody's, as in [`Lpm4`].
    nodes: Vec<Node>,
    /// One for each node.
    gates: Vec<Gate>,
    /// Prefixes with no other one near them.
    lones: Vec<Gate>,
    values: Vec<u32>,
}

impl Lpm6 {
    /// A table of these prefixes, sorted, each one once. What none covers reads as `default`.
    pub(crate) fn build(entries: &[Entry], default: u32) -> Self {
        debug_assert!(is_proper(entries));
        let mut table = Self {
            root: Runs16::new(&[]),
            nodes: vec![Node::default()],
            gates: vec![Gate::default()],
            lones: vec![Gate::default()],
            values: vec![0],
        };
        let mut slots = vec![default; Runs16::SLOTS];
        fill(entries, 0, 16, &mut slots, &mut |inside, _, inherited| table.subtree(inside, inherited));
        table.root = Runs16::new(&slots);
        table.nodes.shrink_to_fit();
        table.gates.shrink_to_fit();
        table.lones.shrink_to_fit();
        table.values.shrink_to_fit();
        table
    }

    /// The entry for a group of prefixes; where none of them covers, `inherited` holds.
    fn subtree(&mut self, entries: &[Entry], inherited: u32) -> u32 {
        let Some((first, rest)) = entries.split_first() else { return inherited };
        let mut gate = Gate { bits: first.left, near: inherited, fallback: inherited, ..Gate::default() };
        let around = entries.last().is_some_and(|last| first.covers(last));
        let alone = match rest {
            [] => Some(first),
            [inner] if around => Some(inner),
            _ => None,
        };
        if around && !rest.is_empty() {
            (gate.near_len, gate.near) = (first.len as u16, first.value);
        }
        if let Some(prefix) = alone {
            self.lones.push(Gate { bits: prefix.left, len: prefix.len as u16, value: prefix.value, ..gate });
            return LONE | (self.lones.len() - 1) as u32;
        }
        // The prefix around the others is at the gate, unless its end lies inside the node.
        let mut inside = if around { rest } else { entries };
        let mut depth = depth_of(inside);
        if depth < u32::from(gate.near_len) {
            inside = entries;
            depth = depth_of(inside);
            (gate.near_len, gate.near) = (0, inherited);
        }
        let mut slots = [gate.near; 256];
        fill(inside, depth, 8, &mut slots, &mut |inside, _, inherited| self.subtree(inside, inherited));
        let mut node = Node::default();
        compress(&slots, &mut node.cells, &mut self.values);
        self.nodes.push(node);
        self.gates.push(Gate { bits: inside.first().map_or(0, |e| e.left), len: depth as u16, ..gate });
        NODE | (depth >> 3) << DEPTH_SHIFT | (self.nodes.len() - 1) as u32
    }

    /// The value of the longest prefix that covers `key`.
    #[inline(always)]
    pub(crate) fn lookup(&self, key: u128) -> u32 {
        let entry = self.root.get((key >> 112) as u16);
        if entry & (NODE | LONE) == 0 { entry } else { self.below(entry, key) }
    }

    #[inline(always)]
    fn below(&self, entry: u32, key: u128) -> u32 {
        let mut entry = self.step(entry, key);
        // The depth grows with every node: this ends.
        while entry & NODE != 0 {
            entry = self.step(entry, key);
        }
        let lone = mask(entry & LONE != 0);
        let Some(prefix) = self.lones.get((entry & lone & NUMBER) as usize) else { return 0 };
        pick(lone, prefix.pass(key, prefix.value), entry)
    }

    /// The entry below `entry`, or `entry` itself if it does not point to a node.
    #[inline(always)]
    fn step(&self, entry: u32, key: u128) -> u32 {
        let inner = mask(entry & NODE != 0);
        let number = (entry & inner & NUMBER) as usize;
        let depth = entry >> (DEPTH_SHIFT - 3) & 0x78;
        let (Some(node), Some(gate)) = (self.nodes.get(number), self.gates.get(number)) else { return 0 };
        let octet = octet_at(key, depth);
        let place = node.cells[usize::from(octet >> 6)].place(u32::from(octet & 63));
        let below = self.values.get(place).copied().unwrap_or(0);
        pick(inner, gate.pass(key, below), entry)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.gates.as_slice())
            + size_of_val(self.lones.as_slice())
            + size_of_val(self.values.as_slice())
    }
}

/// The depth of a node for these prefixes, two or more: the octet in which they first differ or one ends.
fn depth_of(entries: &[Entry]) -> u32 {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return 0 };
    // Sorted: what the first and the last share, all share. A node takes prefixes longer than its depth.
    let shared = (first.left ^ last.left).leading_zeros();
    let shortest = entries.iter().map(|e| e.len).min().unwrap_or(1);
    shared.min(shortest - 1) & !7
}

/// All ones for `true`. With [`pick`] a choice that the compiler has no reason to make a branch of.
#[inline(always)]
fn mask(condition: bool) -> u32 {
    u32::from(condition).wrapping_neg()
}

/// `yes` where `mask` is all ones, `no` where it is 0.
#[inline(always)]
fn pick(mask: u32, yes: u32, no: u32) -> u32 {
    yes & mask | no & !mask
}

/// The octet that starts `depth` bits from the left.
#[inline(always)]
fn octet_at(key: u128, depth: u32) -> u8 {
    let half = if depth < 64 { (key >> 64) as u64 } else { key as u64 };
    // 56 less the depth within the half; shift counts wrap at 64.
    half.wrapping_shr(depth ^ 56) as u8
}

/// Writes `entries` into slots that stand for the `width` bits behind `depth`; what lies deeper becomes a
/// subtree of (prefixes, depth, value around them). Every entry lies under these slots; sorted as they
/// are, a prefix comes before those inside it.
fn fill(
    entries: &[Entry],
    depth: u32,
    width: u32,
    slots: &mut [u32],
    subtree: &mut dyn FnMut(&[Entry], u32, u32) -> u32,
) {
    let slot_of = |e: &Entry| (e.left << depth >> (128 - width)) as usize;
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let slot = slot_of(first);
        if first.len <= depth + width {
            let span = 1_usize << (depth + width - first.len);
            slots[slot..slot + span].fill(first.value);
            rest = &rest[1..];
        } else {
            let count = rest.iter().take_while(|e| slot_of(e) == slot).count();
            let (inside, behind) = rest.split_at(count);
            slots[slot] = subtree(inside, depth + width, slots[slot]);
            rest = behind;
        }
    }
}

const _: () = assert!(size_of::<Node>() == 64 && size_of::<Cell>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(left: u128, len: u32, value: u32) -> Entry {
        Entry { left, len, value }
    }

    fn v6(text: &str) -> u128 {
        text.parse::<std::net::Ipv6Addr>().unwrap().to_bits()
    }

    #[test]
    fn runs_hold_every_slot() {
        let slots: Vec<u32> = (0..Runs16::SLOTS as u32).map(|i| (i / 7) % 3).collect();
        let runs = Runs16::new(&slots);
        assert!((0..=u16::MAX).all(|key| runs.get(key) == slots[usize::from(key)]));
        let one = Runs16::new(&vec![9; Runs16::SLOTS]);
        assert_eq!((one.get(0), one.get(63), one.get(64), one.get(u16::MAX)), (9, 9, 9, 9));
    }

    #[test]
    fn an_empty_table_answers_its_default() {
        assert_eq!(Lpm4::build(&[], 5).lookup(0x0a00_0001), 5);
        assert_eq!(Lpm6::build(&[], 5).lookup(1), 5);
    }

    #[test]
    fn ipv4_prefixes_of_every_length_nest() {
        let left = u128::from(0x0a01_0203_u32) << 96;
        let masked = |len: u32| if len == 0 { 0 } else { left & u128::MAX << (128 - len) };
        let entries: Vec<Entry> = (0..=32).map(|len| entry(masked(len), len, len + 100)).collect();
        let table = Lpm4::build(&entries, 0);
        assert_eq!(table.lookup(0x0a01_0203), 132);
        for len in 0..32 {
            let sibling = 0x0a01_0203 ^ 1 << (31 - len); // the first `len` bits are right, the next is not
            assert_eq!(table.lookup(sibling), len + 100, "{len}");
        }
    }

    #[test]
    fn ipv6_prefixes_of_every_length_nest() {
        let left = v6("2001:db8:aaaa:5555:1234:5678:9abc:def1");
        let masked = |len: u32| if len == 0 { 0 } else { left & u128::MAX << (128 - len) };
        let entries: Vec<Entry> = (0..=128).map(|len| entry(masked(len), len, len + 100)).collect();
        let table = Lpm6::build(&entries, 0);
        assert_eq!(table.lookup(left), 228);
        for len in 0..128 {
            assert_eq!(table.lookup(left ^ 1 << (127 - len)), len + 100, "{len}");
        }
    }

    #[test]
    fn a_lone_long_prefix_needs_no_node() {
        let table = Lpm6::build(&[entry(v6("fd00::1"), 128, 7)], 3);
        assert_eq!((table.lookup(v6("fd00::1")), table.lookup(v6("fd00::2"))), (7, 3));
        assert_eq!((table.nodes.len(), table.lones.len()), (1, 2));
        assert!(table.memory_bytes() < 21_000, "{}", table.memory_bytes());
    }

    #[test]
    fn jumps_answer_with_what_covers_them() {
        let entries = [
            entry(v6("fd00::"), 16, 1),
            entry(v6("fd00:1::"), 32, 2),
            entry(v6("fd00:1:0:1::"), 64, 3),
            entry(v6("fd00:1:0:2::"), 64, 4),
            entry(v6("fd00:1:0:2::8"), 128, 5),
        ];
        let table = Lpm6::build(&entries, 0);
        let cases = [
            ("fe80::1", 0),
            ("fd00:2::1", 1),
            ("fd00:1:1::1", 2),
            ("fd00:1:0:3::1", 2),
            ("fd00:1:0:1::1", 3),
            ("fd00:1:0:2::1", 4),
            ("fd00:1:0:2::8", 5),
        ];
        for (address, value) in cases {
            assert_eq!(table.lookup(v6(address)), value, "{address}");
        }
    }
}
