//! The neighbour table as workers see it: an array addressed by the next hops that sessions hold, and a
//! map from addresses for sessions that have none yet.

use crate::ids::PortId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
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
    by_address: HashMap<(PortId, Addr), NextHop, BuildHasherDefault<AddressHasher>>,
}

impl NeighbourTable {
    /// A table of these places, of which `addresses` names the ones in use. Two tables with different
    /// contents have different revisions.
    pub fn new(
        revision: u64,
        places: Vec<Adjacency>,
        addresses: impl IntoIterator<Item = (PortId, Addr, NextHop)>,
    ) -> Self {
        let by_address = addresses.into_iter().map(|(port, addr, hop)| ((port, addr), hop)).collect();
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

    /// The neighbour with this address.
    pub fn find(&self, port: PortId, addr: Addr) -> Option<NextHop> {
        self.by_address.get(&(port, addr)).copied()
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
        self.by_address.iter().filter_map(|((port, addr), hop)| Some((*port, *addr, self.get(*hop)?)))
    }
}

/// A few multiplications instead of SipHash: the map's size is bounded by the resolver, and what gets in
/// has been asked for by our own routes.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
}
