//! The pair in the lab: two nodes between the hosts, and every fault that a test can make.

mod announce;
mod cables;
mod hostile;
mod loss;
mod restart;
mod roles;
mod soak;
mod takeover;
mod tool;
