//! From a burst of frames to frames on their way: the staged pipeline.
//!
//! A burst passes four stages: parse and hash every packet and ask for its index line; look at the index
//! and ask for the session's lines; the same once more for the few keys that live in an alternate
//! bucket; then act on packet after packet in the order of arrival, so that nothing is reordered inside a
//! flow. By the time a packet is acted on, its session is in the cache. Packets that need more than the
//! common case take an outlined branch of the last stage: the slow lane is a lane of code, not a queue.
//!
//! The engine owns no I/O: it gets packets, and gives them to a [`PacketIo`].

mod apart;
mod ending;
mod engine;
mod forward;
mod local;
mod merge;
mod mirror;
mod open;
mod pending;
mod replies;
mod takeover;
#[cfg(test)]
mod tests;
mod watch;

pub use engine::{BURST, Burst, Engine, EngineConfig};
pub use mirror::Alike;

use crate::ids::{PortId, RuleId, WorkerId};
use wire::{Addr, FlowKey, MacAddr, PacketBuf};

/// Where packets go to and come from. Called inside a burst: must not block, log or allocate.
pub trait PacketIo {
    /// The frames of this port.
    type Buf: PacketBuf;

    /// An empty frame for a packet of the node's own; `None` if the pool is empty.
    fn alloc(&mut self) -> Option<Self::Buf>;

    /// Sends a frame on a port, in order. Transmission may wait until the end of the burst; what the
    /// port does not take is freed and counted by the implementation.
    fn send(&mut self, port: PortId, frame: Self::Buf);

    /// Gives a received frame to the worker that owns its session. False if that worker's ring is
    /// full: the frame is gone.
    fn hand_over(&mut self, to: WorkerId, ingress: PortId, frame: Self::Buf) -> bool;

    /// Gives a datagram of the partner's to the sync core. False if there is none or its ring is full: the
    /// frame is gone.
    fn to_core(&mut self, ingress: PortId, frame: Self::Buf) -> bool {
        let _ = (ingress, frame);
        false
    }
}

/// What a worker tells the control thread, through a bounded ring. A full ring loses the notice and
/// counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A packet waits for the MAC address of `addr`.
    NeighbourWanted {
        /// The port behind which it is.
        port: PortId,
        /// Its address.
        addr: Addr,
    },
    /// `addr` was said to be at `mac`.
    NeighbourHeard {
        /// The port on which it was said.
        port: PortId,
        /// The address.
        addr: Addr,
        /// Its MAC address.
        mac: MacAddr,
        /// True for an answer or a question that was meant for us, false for what everybody hears.
        answer: bool,
    },
    /// A rule with `log = true` admitted a session.
    SessionOpened {
        /// The initiator's key.
        key: FlowKey,
        /// The rule.
        rule: RuleId,
    },
    /// A session whose rule has `log = true` ended.
    SessionEnded {
        /// The initiator's key.
        key: FlowKey,
        /// The rule.
        rule: RuleId,
        /// Bytes from the initiator and from the responder.
        bytes: [u64; 2],
    },
    /// A session was ended on command, with word to its ends.
    SessionReset {
        /// The initiator's key.
        key: FlowKey,
        /// For the initiator and the responder: it was sent a reset at exactly the number that it expects,
        /// or has said that it has no such connection. False if it did not answer, and for sessions that
        /// need no reset.
        reset: [bool; 2],
    },
    /// A rule with `log = true` refused a packet.
    Refused {
        /// The packet's key.
        key: FlowKey,
        /// The rule.
        rule: RuleId,
    },
}
