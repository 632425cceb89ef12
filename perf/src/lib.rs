//! What Understudy costs, beside what the machine can do.
//!
//! | module | its job |
//! |---|---|
//! | [`flows`] | the stateless generator: flow number → frame, in random order over all flows |
//! | [`world`] | policy, routes and neighbours of every firewall under test |
//! | [`bed`] | an engine without ports, for the criterion benches and the instruction guard |
//! | [`rig`], [`subject`], [`load`] | the daemon's worker on ports made of rings, the ceiling, packets for both |
//! | [`rows`] | what is measured, a process each |
#![forbid(unsafe_code)]

pub mod bed;
pub mod figure;
pub mod flows;
pub mod load;
pub mod rig;
pub mod rows;
pub mod subject;
pub mod world;
