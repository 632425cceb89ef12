//! Neighbours: who is behind an address on a port's link.
//!
//! Workers only read [`NeighbourTable`], a part of the published snapshot, and tell the control thread
//! what they want and what they heard. The control thread owns [`Resolver`], a machine without clock or
//! I/O that asks, retries, refreshes, gives up, and builds the next table (ARP: RFC 826; neighbour
//! discovery: RFC 4861 §7).

mod resolver;
mod table;

pub use resolver::{Resolver, ResolverConfig, Solicitation};
pub use table::{Adjacency, AdjacencyState, NeighbourTable, NextHop};
