//! Each scenario of the decisions as a trace of two nodes.

mod pair;
mod random;
mod scenarios;
mod switchover;
