//! The pair in the lab: two nodes between the hosts, and every fault that a test can make.

mod cables;
mod roles;
mod takeover;
