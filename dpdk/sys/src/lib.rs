//! DPDK's C interface, as far as the `dpdk` crate uses it: generated from the installed headers (22.11
//! on Debian 12, 24.11 on Debian 13), plus a small C shim for what the headers define as static inlines.
//!
//! No policy and no safety here. Two things are shaped by what the headers do to bindgen: flags that are
//! `RTE_BIT64` macros appear as typed `US_…` constants, and `rte_mbuf` is opaque with its fields' offsets
//! in [`us_mbuf_layout`], because they lie in anonymous unions that differ between releases.
#![no_std]

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    dead_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
