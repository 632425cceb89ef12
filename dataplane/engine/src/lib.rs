//! The stateful firewall engine: no I/O, no DPDK, no clock, no thread.
//!
//! A worker owns an [`Engine`] and through it one [`table::Shard`] of the session table. It hands bursts
//! of frames to [`Engine::process`] together with the current [`Snapshot`] (policy, routes, neighbours,
//! always as a whole) and gets them back through a [`PacketIo`].
//!
//! ```text
//!   frames ─► pipeline ─► wire::parse ─► table (index, entry) ─► track ─► neighbour ─► frames
//!                 │ unknown flow                                   │ changed
//!                 └─► routes, policy ─► table::Shard::create       └─► table::dirty ─► (sync core)
//! ```
#![deny(unsafe_code)]

mod atomics;
#[cfg(not(loom))]
pub mod counters;
#[cfg_attr(loom, allow(dead_code))]
mod hash;
pub mod ids;
#[cfg(not(loom))]
pub mod mirror;
#[cfg(not(loom))]
pub mod neighbour;
#[cfg(not(loom))]
pub mod pipeline;
#[cfg(not(loom))]
pub mod policy;
pub mod publish;
pub mod role;
#[cfg(not(loom))]
pub mod routes;
#[cfg(not(loom))]
pub mod session;
#[cfg(not(loom))]
pub mod snapshot;
pub mod table;
pub mod time;
#[cfg_attr(loom, allow(dead_code))]
pub mod track;

pub use ids::{GroupId, PortId, RuleId, WorkerId, ZoneId};
#[cfg(not(loom))]
pub use mirror::{Adoption, AdoptionRefused, Import, ImportRefused, Imported, ImportedState, Removal};
#[cfg(not(loom))]
pub use pipeline::{BURST, Burst, Engine, EngineConfig, Notice, PacketIo};
pub use role::RoleView;
#[cfg(not(loom))]
pub use snapshot::{ControlPorts, PairView, PortView, Ports, Snapshot, Steering};
pub use time::Ticks;
