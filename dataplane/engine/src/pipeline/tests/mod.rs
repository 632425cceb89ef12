//! The whole engine on heap buffers, told as traces: a frame goes in at a port, and what comes out and
//! every counter that moved is stated exactly. Any surprise fails and prints everything.
//!
//! Each trace runs in both families: [`net::nets`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod buffers;
mod firewall;
mod net;
mod pair;
mod step;

mod apart;
mod burst;
mod capacity;
mod ending;
mod errors;
mod garbage;
mod mirror;
mod neighbours;
mod policy;
mod records;
mod reuse;
mod roles;
mod segments;
mod sessions;
mod spoof;
mod takeover;
mod workers;
