//! `pktgen`: connections in the millions that open, send in both directions and close as real ones do.
//!
//! One generator plays both ends of every connection. It is closed-loop where TCP is: a SYN-ACK is sent
//! when the SYN has come out of the other side, data acknowledge what has arrived, a FIN waits until
//! nothing is under way. So a firewall that tracks state accepts all of it, and whatever does not come out
//! was dropped by what lies between. Everything else is open-loop: packets leave at the rate that was asked
//! for, whatever comes back.
//!
//! The [`Generator`] has no clock and no port: [`Wire`] carries its frames, over in-process rings, memif or
//! any port of DPDK's.

mod drive;
mod flow;
mod frame;
mod generator;
mod latency;
mod neighbour;
mod pace;
mod wire;

pub use drive::{Drive, Outcome, drive};
pub use flow::Phase;
pub use generator::{Arrival, Counts, Generator, Plan, Sizes};
pub use latency::{Latency, Percentiles};
pub use neighbour::Neighbours;
pub use pace::Pace;
pub use wire::{PortWire, Wire};

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The initiators'.
    Lan = 0,
    /// The responders'.
    Wan = 1,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::Lan, Side::Wan];

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Lan => Side::Wan,
            Side::Wan => Side::Lan,
        }
    }
}
