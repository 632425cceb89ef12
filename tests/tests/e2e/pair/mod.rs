//! The pair in the lab: two nodes between the hosts, and every fault that a test can make.

mod announce;
mod cables;
mod hostile;
mod loss;
mod mtu;
mod overload;
mod policy;
mod protocols;
mod restart;
mod roles;
mod severed;
mod soak;
mod split;
mod swaps;
mod takeover;
mod tool;
mod unlike;
