//! The HA protocol as a pure state machine: datagrams, ticks and commands with a time go in, datagrams,
//! deadlines and effects come out. No socket, no clock, no thread, no DPDK.
#![forbid(unsafe_code)]

pub mod datagram;
pub mod heartbeat;
pub mod ids;
pub mod keys;
pub mod lease;
pub mod membership;
pub mod pair;
pub mod record;
pub mod seal;
pub mod stream;
