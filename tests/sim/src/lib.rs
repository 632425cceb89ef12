//! The pair in a world that can be repeated: two real protocol machines ([`sync::pair::Pair`]) around a
//! model of the session tables, links that lose, double, delay and reorder, nodes that crash, hang and come
//! back, operators that interfere, users that open and close sessions. Everything follows from one seed.
//!
//! Time is simulated: nothing waits, nothing runs in parallel, and the same seed takes the same course on
//! every machine. Checkers ([`check`]) stand apart from the system. A course that breaks one of them prints
//! its last events and the command that repeats it:
//!
//! ```text
//! cargo run --release -p sim -- --seed N --trace
//! ```
//!
//! What is modelled and not the real thing: the engine's tables ([`tables`]), workers (a step between two
//! bursts), the switch that knows where the virtual MAC address is (one place, the last announcement), and
//! datagrams without IP and UDP around them.
#![forbid(unsafe_code)]

pub mod check;
mod clock;
mod hash;
mod link;
mod node;
mod rng;
mod scenario;
mod setup;
pub mod tables;
mod workload;
mod world;

pub use link::Quality;
pub use node::Packets;
pub use rng::Rng;
pub use scenario::{random, run};
pub use setup::{Fault, Load, PathSetup, Setup, quick_membership};
pub use world::{Failure, World};

/// What a node is called.
#[must_use]
pub const fn name(node: usize) -> &'static str {
    if node == 0 { "a" } else { "b" }
}
