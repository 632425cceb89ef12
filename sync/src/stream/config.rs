//! What a stream is told once.

use crate::datagram::{HEADER, TAG};
use crate::ids::{GroupId, Micros};

/// Settings of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of the body of a full datagram; see [`super::Stream::resize`].
    pub max_body: usize,
    /// Sessions a second that are sent again after a loss; 0 is no limit (B-23).
    pub resync_rate: u32,
    /// Bytes of bodies a second in all; 0 is no limit. For a path that is shared with others.
    pub byte_rate: u64,
    /// The traffic group whose sessions this stream carries.
    pub group: GroupId,
    /// How long an ack waits for company.
    pub ack_delay: Micros,
    /// Deletes that may wait for what they overtook; as many as a datagram carries at least.
    pub tombstones: usize,
    /// How long the scrubber takes for all handles, unless `scrub_quantum` stops it.
    pub scrub_pass: Micros,
    /// Handles that one call of `turn` looks at, at most.
    pub scrub_quantum: u32,
    /// Time between two comparisons of all digests, and between two tries of refused sessions.
    pub verify_every: Micros,
}

impl Config {
    /// The least body that a stream works with.
    pub const LEAST_BODY: usize = 512;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body: 1_500 - 20 - 8 - HEADER - TAG,
            resync_rate: 0,
            byte_rate: 0,
            group: GroupId(0),
            ack_delay: Micros(500),
            tombstones: 1 << 14,
            scrub_pass: Micros::from_millis(1_500),
            scrub_quantum: 2_048,
            verify_every: Micros::from_secs(1),
        }
    }
}
