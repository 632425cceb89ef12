//! The neighbour table as workers see it: an array addressed by the next hops that sessions hold, and a
//! map from addresses for sessions that have none yet.

use crate::hash::{FACTOR, OFFSET, fold};
use crate::ids::PortId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
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
    by_address: HashMap<Place, NextHop, BuildHasherDefault<PlaceHasher>>,
}

impl NeighbourTable {
    /// A table of these places, of which `addresses` names the ones in use. Two tables with different
    /// contents have different revisions.
    pub fn new(
        revision: u64,
        places: Vec<Adjacency>,
        addresses: impl IntoIterator<Item = (PortId, Addr, NextHop)>,
    ) -> Self {
        let by_address =
            addresses.into_iter().map(|(port, addr, hop)| (Place::new(port, addr), hop)).collect();
        Self { revision, places, by_address }
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
    #[inline]
    pub fn find(&self, port: PortId, addr: Addr) -> Option<NextHop> {
        self.by_address.get(&Place::new(port, addr)).copied()
    }

    /// Neighbours in the table.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// All neighbours, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, Addr, &Adjacency)> {
        self.by_address.iter().filter_map(|(place, hop)| Some((place.port, place.addr(), self.get(*hop)?)))
    }
}

/// A neighbour's address as the map compares and hashes it: as words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    addr: u128,
    port: PortId,
    v6: bool,
}

impl Place {
    #[inline(always)]
    fn new(port: PortId, addr: Addr) -> Self {
        match addr {
            Addr::V4(octets) => Self { addr: u32::from_ne_bytes(octets).into(), port, v6: false },
            Addr::V6(octets) => Self { addr: u128::from_ne_bytes(octets), port, v6: true },
        }
    }

    fn addr(&self) -> Addr {
        if self.v6 { Addr::V6(self.addr.to_ne_bytes()) } else { Addr::V4((self.addr as u32).to_ne_bytes()) }
    }
}

impl Hash for Place {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.addr as u64 ^ u64::from(self.port.0) << 56);
        if self.v6 {
            state.write_u64((self.addr >> 64) as u64);
        }
    }
}

/// A multiplication or two instead of SipHash: the map's size is bounded by the resolver, and what gets in
/// has been asked for by our own routes.
#[derive(Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    #[inline(always)]
    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value ^ OFFSET, FACTOR);
    }
}
