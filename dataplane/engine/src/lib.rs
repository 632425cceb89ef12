//! The stateful firewall engine: no I/O, no DPDK, no clock, no thread.
#![deny(unsafe_code)]

pub mod ids;
pub mod time;
pub mod track;

pub use ids::{GroupId, PortId, RuleId, WorkerId, ZoneId};
pub use time::Ticks;
