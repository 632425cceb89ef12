//! Frames that the firewall itself sends, and the builder that tests use.

mod frame;

pub use frame::{DST_MAC, Frame, SRC_MAC};
