//! One node in the lab, with real programs and a few hand-made segments. A file per question that an
//! operator would ask.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod forwarding;
mod icmp;
mod interrupt;
mod lifecycle;
mod machinery;
mod neighbours;
mod operator;
mod pair;
mod policy;
mod sessions;
mod silence;
