//! The parts of `understudyd`: what joins the engine, DPDK and the operator.
#![forbid(unsafe_code)]

pub mod config;
