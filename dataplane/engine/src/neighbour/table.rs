//! The neighbour table as workers see it: an array addressed by the next hops that sessions hold, and a
//! table of addresses for sessions that have none yet.

use crate::hash::{FACTOR, OFFSET, fold};
use crate::ids::PortId;
use std::collections::HashMap;
use wire::{Addr, MacAddr};

/// A place in the neighbour table as a session keeps it: 20 bits of place, 4 bits of generation. The
/// generation moves on when a place gets another neighbour, so an old session never sends to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NextHop(pub u32);

impl NextHop {
    /// Bits in use.
    pub const MASK: u32 = (1 << 24) - 1;
    /// Not resolved yet: to be looked up by address.
    pub const NONE: NextHop = NextHop(Self::MASK);
    /// The most neighbours.
    pub const PLACES: usize = (1 << 20) - 1;

    /// A place and its generation.
    pub fn new(place: u32, generation: u8) -> Self {
        NextHop(place & 0xf_ffff | u32::from(generation & 0xf) << 20)
    }

    /// The place in the table.
    #[inline(always)]
    pub fn place(self) -> usize {
        (self.0 & 0xf_ffff) as usize
    }

    #[inline(always)]
    fn generation(self) -> u8 {
        (self.0 >> 20) as u8 & 0xf
    }
}

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdjacencyState {
    /// Asked, not answered: packets wait.
    Incomplete,
    /// The MAC address is known.
    Resolved,
    /// Did not answer: packets are dropped for a while.
    Failed,
}

/// A neighbour: everything that a packet to it needs, in 32 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Adjacency {
    /// Destination and source MAC address as they stand at a frame's start.
    pub macs: [u8; 12],
    /// The port behind which the neighbour is.
    pub port: PortId,
    /// The port's MTU in bytes.
    pub mtu: u16,
    /// What is known.
    pub state: AdjacencyState,
    generation: u8,
}

impl Adjacency {
    /// An adjacency; `generation` is that of its place.
    pub fn new(
        port: PortId,
        mtu: u16,
        own: MacAddr,
        neighbour: MacAddr,
        state: AdjacencyState,
        generation: u8,
    ) -> Self {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&neighbour.0);
        macs[6..].copy_from_slice(&own.0);
        Self { macs, port, mtu, state, generation }
    }

    /// The neighbour's MAC address.
    pub fn mac(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = self.macs;
        MacAddr([a, b, c, d, e, f])
    }
}

/// The part of a snapshot that says where frames go. Immutable.
#[derive(Default, Debug, Clone)]
pub struct NeighbourTable {
    revision: u64,
    places: Vec<Adjacency>,
    /// Addresses, each where its hash says or behind: a power of two, half empty at least, or none at all.
    by_address: Vec<Known>,
    len: usize,
}

impl NeighbourTable {
    /// A table of these places, of which `addresses` names the ones in use. Two tables with different
    /// contents have different revisions.
    pub fn new(
        revision: u64,
        places: Vec<Adjacency>,
        addresses: impl IntoIterator<Item = (PortId, Addr, NextHop)>,
    ) -> Self {
        let known: HashMap<Place, NextHop> =
            addresses.into_iter().map(|(port, addr, hop)| (Place::new(port, addr), hop)).collect();
        let mut table = Self {
            revision,
            places,
            by_address: vec![Known::NOBODY; slots_for(known.len())],
            len: known.len(),
        };
        for (place, hop) in known {
            table.insert(Known { place, hop });
        }
        table
    }

    fn insert(&mut self, known: Known) {
        let mask = self.by_address.len().wrapping_sub(1);
        let mut at = known.place.hash() as usize & mask;
        while let Some(slot) = self.by_address.get_mut(at) {
            if slot.is_nobody() {
                *slot = known;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Which table this is.
    #[inline(always)]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The neighbour at `hop`, unless the place has been given to another one since.
    #[inline(always)]
    pub fn get(&self, hop: NextHop) -> Option<&Adjacency> {
        self.places.get(hop.place()).filter(|adjacency| adjacency.generation == hop.generation())
    }

    /// The same, if its MAC address is known.
    #[inline(always)]
    pub fn resolved(&self, hop: NextHop) -> Option<&Adjacency> {
        self.get(hop).filter(|adjacency| adjacency.state == AdjacencyState::Resolved)
    }

    /// The neighbour with this address.
    #[inline(always)]
    pub fn find(&self, port: PortId, addr: Addr) -> Option<NextHop> {
        let place = Place::new(port, addr);
        let mask = self.by_address.len().wrapping_sub(1);
        let mut at = place.hash() as usize & mask;
        // Half of the slots are nobody's: this ends.
        loop {
            let known = self.by_address.get(at)?;
            if known.place == place {
                return Some(known.hop);
            }
            if known.is_nobody() {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Neighbours in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All neighbours, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, Addr, &Adjacency)> {
        let known = self.by_address.iter().filter(|known| !known.is_nobody());
        known.filter_map(|known| Some((known.place.port(), known.place.addr(), self.get(known.hop)?)))
    }
}

/// Slots for so many addresses.
fn slots_for(addresses: usize) -> usize {
    if addresses == 0 { 0 } else { (addresses * 2).next_power_of_two() }
}

/// A neighbour's address, and its place in the table.
#[derive(Clone, Copy, Debug)]
struct Known {
    place: Place,
    hop: NextHop,
}

impl Known {
    /// What is in an empty slot: no place of ours has this tag.
    const NOBODY: Known = Known { place: Place { addr: 0, tag: u32::MAX }, hop: NextHop::NONE };

    #[inline(always)]
    fn is_nobody(&self) -> bool {
        self.place.tag == u32::MAX
    }
}

/// A neighbour's address as the table compares and hashes it: as words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    addr: u128,
    /// The port, and whether the address is of IPv6.
    tag: u32,
}

const TAG_V6: u32 = 1 << 8;

impl Place {
    #[inline(always)]
    fn new(port: PortId, addr: Addr) -> Self {
        let port = u32::from(port.0);
        match addr {
            Addr::V4(octets) => Self { addr: u32::from_ne_bytes(octets).into(), tag: port },
            Addr::V6(octets) => Self { addr: u128::from_ne_bytes(octets), tag: port | TAG_V6 },
        }
    }

    fn port(&self) -> PortId {
        PortId(self.tag as u8)
    }

    fn addr(&self) -> Addr {
        if self.tag & TAG_V6 != 0 {
            Addr::V6(self.addr.to_ne_bytes())
        } else {
            Addr::V4((self.addr as u32).to_ne_bytes())
        }
    }

    /// A multiplication instead of SipHash: the table's size is bounded by the resolver, and what gets in has
    /// been asked for by our own routes.
    #[inline(always)]
    fn hash(&self) -> u64 {
        let word = self.addr as u64 ^ ((self.addr >> 64) as u64).rotate_left(32);
        fold(word ^ OFFSET ^ u64::from(self.tag) << 48, FACTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(n: u16) -> Addr {
        Addr::V4([10, 1, (n >> 8) as u8, n as u8])
    }

    fn v6(n: u16) -> Addr {
        Addr::from([0xfd00, 1, 0, 0, 0, 0, 0, n])
    }

    #[test]
    fn an_empty_table_knows_nobody() {
        for table in [NeighbourTable::default(), NeighbourTable::new(1, Vec::new(), [])] {
            assert_eq!(table.find(PortId(0), v4(1)), None);
            assert!(table.is_empty() && table.iter().count() == 0);
        }
    }

    #[test]
    fn addresses_differ_by_port_and_family() {
        let zero = |octets: usize| if octets == 4 { Addr::V4([0; 4]) } else { Addr::V6([0; 16]) };
        let list = [
            (PortId(0), zero(4), NextHop::new(1, 0)),
            (PortId(1), zero(4), NextHop::new(2, 0)),
            (PortId(0), zero(16), NextHop::new(3, 0)),
            (PortId(0), zero(4), NextHop::new(4, 0)),
        ];
        let table = NeighbourTable::new(1, Vec::new(), list);
        assert_eq!(table.len(), 3);
        assert_eq!(table.find(PortId(0), zero(4)), Some(NextHop::new(4, 0)), "the last one counts");
        assert_eq!(table.find(PortId(1), zero(4)), Some(NextHop::new(2, 0)));
        assert_eq!(table.find(PortId(0), zero(16)), Some(NextHop::new(3, 0)));
        assert_eq!(table.find(PortId(1), zero(16)), None);
    }

    proptest! {
        /// Whatever is in the table is found, nothing else is.
        #[test]
        fn the_table_equals_a_map(
            list in prop::collection::hash_map((0_u8..3, 0_u16..300, any::<bool>()), 0_u32..1000, 0..300),
        ) {
            let addr = |n, is_v6| if is_v6 { v6(n) } else { v4(n) };
            let addresses =
                list.iter().map(|(&(port, n, is_v6), &hop)| (PortId(port), addr(n, is_v6), NextHop(hop)));
            let table = NeighbourTable::new(1, Vec::new(), addresses);
            prop_assert_eq!(table.len(), list.len());
            for (port, n, is_v6) in (0..3).flat_map(|p| (0..300).flat_map(move |n| [(p, n, false), (p, n, true)])) {
                let expected = list.get(&(port, n, is_v6)).map(|&hop| NextHop(hop));
                prop_assert_eq!(table.find(PortId(port), addr(n, is_v6)), expected);
            }
        }
    }
}
