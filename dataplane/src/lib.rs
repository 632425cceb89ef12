//! The parts of `understudyd`: what joins the engine, DPDK and the operator.
//!
//! | module | its job |
//! |---|---|
//! | [`args`] | the command line |
//! | [`config`] | from TOML to checked values |
//! | [`ruleset`] | from those to what workers read |
//! | [`launch`] | start and end, in order |
//! | [`memory`] | the session table's pages |
//! | [`worker`] | the packet loop |
//! | [`control`] | the operator's socket, neighbours, reload, the log |
//! | [`pair`] | the sync core: this node as one of two |
//! | [`clock`] | one time for all threads |
#![forbid(unsafe_code)]

pub mod args;
pub mod clock;
pub mod config;
pub mod control;
#[cfg(test)]
mod harness;
pub mod launch;
pub mod memory;
pub mod pair;
pub mod ruleset;
pub mod worker;
