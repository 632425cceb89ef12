//! What Understudy costs, beside what the machine can do.
//!
//! | module | its job |
//! |---|---|
//! | [`flows`] | the stateless generator: flow number → frame, in random order over all flows |
//! | [`pktgen`] | the stateful one: connections that open, send and close; rates, latency |
//! | [`world`] | policy, routes and neighbours of every firewall under test |
//! | [`bed`] | an engine without ports, for the criterion benches and the instruction guard |
//! | [`quiet`], [`figure`] | moments in which nobody else shared the core; minimum, median, maximum |
//! | [`rig`], [`subject`], [`load`] | the daemon's worker on ports made of rings, the ceiling, packets for both |
//! | [`cores`] | the same with a processor for each, and several workers at a time |
//! | [`transfer`] | all sessions from one table to another |
//! | [`rows`] | what is measured, a process each |
//! | [`run`], [`budgets`] | all rows, the table, what was promised |
//! | [`guard`] | instructions of the hot paths against a committed baseline |
//! | [`commands`] | the generator and the ceiling on any ports of DPDK's |
#![forbid(unsafe_code)]

pub mod bed;
pub mod budgets;
pub mod commands;
pub mod cores;
pub mod figure;
pub mod flows;
pub mod guard;
pub mod load;
pub mod pktgen;
pub mod quiet;
pub mod rig;
pub mod rows;
pub mod run;
pub mod subject;
pub mod transfer;
pub mod world;
