//! The stream between the nodes: what the active node's sessions look like on the standby, and the proof
//! that they do.
//!
//! The machine pulls changed sessions through a [`Source`] and hands received ones to their owners through
//! a [`Sink`]. Neither ever blocks: a source says that it has nothing now, a sink that its ring is full.

mod seam;

pub use seam::{Applied, Ended, Outcome, Reading, Refused, Sink, Source, Tag};
