//! Longest-prefix match: from an address to a small number, for routes and for the policy's classes.
//!
//! A first level of 65,536 slots, then nodes of 256 slots, one per octet. Neighbouring slots mostly hold
//! the same value, so no level stores its slots: it stores a bit per slot, "a new run starts here", and
//! the values of the runs; a population count finds the run. The first level is then 16 KB instead of
//! 256 KB and a node is one cache line, which is what matters to a worker whose caches belong to the
//! session table. IPv6 tries jump over octets in which no two prefixes differ, so that their depth follows
//! the number of prefixes and not the length of an address.

use std::mem::size_of_val;

/// Set in an entry that points to a node.
const NODE: u32 = 1 << 31;
/// Set in an entry that points to a skip.
const SKIP: u32 = 1 << 30;
const INNER: u32 = NODE | SKIP;
/// The largest value that a table can hold.
pub(crate) const VALUE_MAX: u32 = SKIP - 1;

/// Sixty-four slots: a bit for each slot in which a run starts (the first one always), and where the
/// values of these runs lie.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(16))]
struct Cell {
    starts: u64,
    /// One less than the place of the first run's value.
    base: u32,
}

impl Cell {
    /// The place of the value of slot `low` (0..64).
    #[inline(always)]
    fn place(self, low: u32) -> usize {
        // Shifting left by 63 - low drops the slots above; shift counts wrap at 64.
        let runs = self.starts.wrapping_shl(!low).count_ones();
        self.base.wrapping_add(runs) as usize
    }
}

/// Writes `slots` as runs: one cell for each 64 of them, values appended.
fn compress(slots: &[u32], cells: &mut [Cell], values: &mut Vec<u32>) {
    if values.is_empty() {
        values.push(0); // place 0 is never used, so that bases need no sign
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

/// An address as a number, most significant bit first.
pub(crate) trait Key: Copy {
    /// Whether octets without a branch are jumped over. IPv4 has at most two nodes on a path, and a node
    /// costs no branch; a skip does.
    const SKIPS: bool;
    fn from_left(left: u128) -> Self;
    fn top16(self) -> u16;
    /// The octet that starts `depth` bits from the left.
    fn octet(self, depth: u32) -> u8;
    fn shared_bits(self, other: Self) -> u32;
}

impl Key for u32 {
    const SKIPS: bool = false;

    fn from_left(left: u128) -> Self {
        (left >> 96) as u32
    }

    #[inline(always)]
    fn top16(self) -> u16 {
        (self >> 16) as u16
    }

    #[inline(always)]
    fn octet(self, depth: u32) -> u8 {
        self.wrapping_shr(24_u32.wrapping_sub(depth)) as u8
    }

    #[inline(always)]
    fn shared_bits(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }
}

impl Key for u128 {
    const SKIPS: bool = true;

    fn from_left(left: u128) -> Self {
        left
    }

    #[inline(always)]
    fn top16(self) -> u16 {
        (self >> 112) as u16
    }

    #[inline(always)]
    fn octet(self, depth: u32) -> u8 {
        let half = if depth < 64 { (self >> 64) as u64 } else { self as u64 };
        half.wrapping_shr(56_u32.wrapping_sub(depth)) as u8
    }

    #[inline(always)]
    fn shared_bits(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
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

/// "Go on with `next` if the first `len` bits are these, else the answer is `fallback`."
#[derive(Clone, Copy, Debug)]
struct Skip<K> {
    bits: K,
    len: u8,
    /// The depth of the node in `next`, if it is one.
    depth: u8,
    fallback: u32,
    next: u32,
}

/// A longest-prefix match over one family.
#[derive(Clone, Debug)]
pub(crate) struct Lpm<K> {
    root: Runs16,
    nodes: Vec<Node>,
    skips: Vec<Skip<K>>,
    values: Vec<u32>,
}

impl<K: Key> Lpm<K> {
    /// A table of these prefixes: sorted, each one once, values up to [`VALUE_MAX`]. What none covers
    /// reads as `default`.
    pub(crate) fn build(entries: &[Entry], default: u32) -> Self {
        let mut builder = Builder { nodes: Vec::new(), skips: Vec::new(), values: Vec::new() };
        let mut slots = vec![default; Runs16::SLOTS];
        builder.fill(entries, 0, 16, &mut slots);
        builder.nodes.shrink_to_fit();
        builder.skips.shrink_to_fit();
        builder.values.shrink_to_fit();
        let Builder { nodes, skips, values } = builder;
        Self { root: Runs16::new(&slots), nodes, skips, values }
    }

    /// The value of the longest prefix that covers `key`.
    #[inline(always)]
    pub(crate) fn lookup(&self, key: K) -> u32 {
        let mut entry = self.root.get(key.top16());
        let mut depth = 16;
        // The depth grows with every node and a skip never leads to itself: this ends.
        while entry & INNER != 0 {
            if K::SKIPS && entry & SKIP != 0 {
                let Some(skip) = self.skips.get((entry & VALUE_MAX) as usize) else { return 0 };
                if key.shared_bits(skip.bits) < u32::from(skip.len) {
                    return skip.fallback;
                }
                entry = skip.next;
                depth = u32::from(skip.depth);
                continue;
            }
            let Some(node) = self.nodes.get((entry & VALUE_MAX) as usize) else { return 0 };
            let octet = key.octet(depth);
            let place = node.cells[usize::from(octet >> 6)].place(u32::from(octet & 63));
            entry = self.values.get(place).copied().unwrap_or(0);
            depth += 8;
        }
        entry
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.skips.as_slice())
            + size_of_val(self.values.as_slice())
    }
}

struct Builder<K> {
    nodes: Vec<Node>,
    skips: Vec<Skip<K>>,
    values: Vec<u32>,
}

impl<K: Key> Builder<K> {
    /// Writes `entries` into slots that stand for the `width` bits behind `depth`. Every entry lies under
    /// these slots; sorted as they are, a prefix comes before those inside it.
    fn fill(&mut self, entries: &[Entry], depth: u32, width: u32, slots: &mut [u32]) {
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
                slots[slot] = self.subtree(inside, depth + width, slots[slot]).0;
                rest = behind;
            }
        }
    }

    /// The entry for a group of prefixes of which the first `known` bits are the same and already
    /// compared, and the depth of its node. Where none of them covers, `inherited` holds.
    fn subtree(&mut self, entries: &[Entry], known: u32, inherited: u32) -> (u32, u32) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return (inherited, 0) };
        let covered = if first.covers(last) { first.len } else { 0 };
        if K::SKIPS && covered > known {
            let next = self.subtree(&entries[1..], covered, first.value);
            return (self.skip(first.left, covered, inherited, next), 0);
        }
        // Sorted: what the first and the last share, all share. A node takes prefixes longer than its depth.
        let shared = (first.left ^ last.left).leading_zeros();
        let shortest = entries.iter().map(|e| e.len).min().unwrap_or(0);
        let depth = shared.min(shortest - 1) & !7;
        if K::SKIPS && depth > known {
            let node = self.node(entries, depth, inherited);
            return (self.skip(first.left, depth, inherited, (node, depth)), 0);
        }
        let depth = if K::SKIPS { depth } else { known };
        (self.node(entries, depth, inherited), depth)
    }

    fn skip(&mut self, left: u128, len: u32, fallback: u32, (next, depth): (u32, u32)) -> u32 {
        let skip = Skip { bits: K::from_left(left), len: len as u8, depth: depth as u8, fallback, next };
        self.skips.push(skip);
        SKIP | (self.skips.len() - 1) as u32
    }

    fn node(&mut self, entries: &[Entry], depth: u32, inherited: u32) -> u32 {
        let mut slots = [inherited; 256];
        self.fill(entries, depth, 8, &mut slots);
        let mut node = Node::default();
        compress(&slots, &mut node.cells, &mut self.values);
        self.nodes.push(node);
        NODE | (self.nodes.len() - 1) as u32
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
        assert_eq!(Lpm::<u32>::build(&[], 5).lookup(0x0a00_0001), 5);
        assert_eq!(Lpm::<u128>::build(&[], 5).lookup(1), 5);
    }

    #[test]
    fn ipv4_prefixes_of_every_length_nest() {
        let left = u128::from(0x0a01_0203_u32) << 96;
        let masked = |len: u32| if len == 0 { 0 } else { left & u128::MAX << (128 - len) };
        let entries: Vec<Entry> = (0..=32).map(|len| entry(masked(len), len, len + 100)).collect();
        let table = Lpm::<u32>::build(&entries, 0);
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
        let table = Lpm::<u128>::build(&entries, 0);
        assert_eq!(table.lookup(left), 228);
        for len in 0..128 {
            assert_eq!(table.lookup(left ^ 1 << (127 - len)), len + 100, "{len}");
        }
    }

    #[test]
    fn a_lone_long_prefix_costs_one_skip() {
        let table = Lpm::<u128>::build(&[entry(v6("fd00::1"), 128, 7)], 3);
        assert_eq!((table.lookup(v6("fd00::1")), table.lookup(v6("fd00::2"))), (7, 3));
        assert_eq!((table.nodes.len(), table.skips.len()), (0, 1));
        assert!(table.memory_bytes() < 21_000, "{}", table.memory_bytes());
    }

    #[test]
    fn skips_answer_with_what_covers_them() {
        let entries = [
            entry(v6("fd00::"), 16, 1),
            entry(v6("fd00:1::"), 32, 2),
            entry(v6("fd00:1:0:1::"), 64, 3),
            entry(v6("fd00:1:0:2::"), 64, 4),
            entry(v6("fd00:1:0:2::8"), 128, 5),
        ];
        let table = Lpm::<u128>::build(&entries, 0);
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
