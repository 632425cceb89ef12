//! Connection tracking: what a packet means for the session that it belongs to.
//!
//! Pure functions over small plain values: no table, no clock, no allocation. The session table keeps the
//! values in packed words, the pipeline asks one tracker per packet and gets a [`Verdict`]. A packet that
//! does not fit either passes without teaching the tracker anything (what the end host will answer by
//! itself: old duplicates, a RST or SYN that only RFC 5961's challenge ACK can settle) or is invalid;
//! both say [`Why`], and each `Why` is a counter.

pub mod icmp;
pub mod other;
pub mod tcp;
pub mod timeouts;
pub mod udp;
mod why;

pub use tcp::{Half, Segment, SynOptions, TcpConn, TcpState};
pub use timeouts::{TimeoutError, Timeouts};
pub use why::Why;

/// A packet's direction relative to the session's initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dir {
    /// From the end that opened the session.
    Initiator = 0,
    /// From the other end.
    Responder = 1,
}

impl Dir {
    /// 0 for the initiator, 1 for the responder.
    #[inline(always)]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The opposite direction.
    #[inline(always)]
    #[must_use]
    pub fn other(self) -> Dir {
        match self {
            Dir::Initiator => Dir::Responder,
            Dir::Responder => Dir::Initiator,
        }
    }
}

/// What becomes of a packet of a known session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes and the tracker has learned from it. `changed`: the session's state is another one now, or
    /// its numbers are far from what they were, which the partner and the session's timeout should hear of.
    Accept {
        /// The state (not only the windows) changed.
        changed: bool,
    },
    /// It passes and nothing was learned: the end host judges it. It must not lengthen the session's life.
    PassUnlearned(Why),
    /// It is dropped and counted.
    Invalid(Why),
    /// It passes, and the session has begun anew in place: the responder answered a SYN that came while
    /// the session was alive. The handshake is open again.
    Restart,
    /// A SYN on a finished session: policy decides as for a new flow, then `tcp::open` in place. If it
    /// came from the responder, the session is replaced by one with the roles exchanged.
    Reopen,
}

impl Verdict {
    /// True if the packet goes on to its next hop without further questions.
    #[inline(always)]
    pub fn passes(self) -> bool {
        matches!(self, Verdict::Accept { .. } | Verdict::PassUnlearned(_) | Verdict::Restart)
    }
}

/// The state of a session whose protocol has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FlowState {
    /// Only the initiator has sent.
    New = 0,
    /// Both ends have sent.
    Replied = 1,
}

impl FlowState {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            FlowState::New => "new",
            FlowState::Replied => "replied",
        }
    }

    /// As the session table keeps it.
    #[inline(always)]
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// Back from [`FlowState::bits`].
    #[inline(always)]
    pub fn from_bits(bits: u8) -> FlowState {
        if bits & 1 == 0 { FlowState::New } else { FlowState::Replied }
    }

    /// Such a session is replicated from its first packet on (a rule may ask for a minimum age).
    #[inline(always)]
    pub fn is_replicated(self) -> bool {
        true
    }

    /// A packet came from `dir`: true if this changed the state.
    #[inline(always)]
    fn advance(&mut self, dir: Dir) -> bool {
        let replied = dir == Dir::Responder && *self == FlowState::New;
        if replied {
            *self = FlowState::Replied;
        }
        replied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_have_opposites() {
        assert_eq!((Dir::Initiator.other(), Dir::Responder.other()), (Dir::Responder, Dir::Initiator));
        assert_eq!((Dir::Initiator.index(), Dir::Responder.index()), (0, 1));
    }

    #[test]
    fn flow_states_survive_packing() {
        for state in [FlowState::New, FlowState::Replied] {
            assert_eq!(FlowState::from_bits(state.bits()), state);
        }
    }

    #[test]
    fn only_some_verdicts_pass() {
        assert!(Verdict::Accept { changed: false }.passes());
        assert!(Verdict::PassUnlearned(Why::OldDuplicate).passes());
        assert!(Verdict::Restart.passes());
        assert!(!Verdict::Invalid(Why::BadFlags).passes());
        assert!(!Verdict::Reopen.passes(), "policy decides first");
    }
}
