//! One connection, both of its ends (RFC 9293 §3.3.2, as far as both behave).

use super::Side;

/// Where a connection is. A phase that waits names who has to send next, or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not there.
    Closed,
    /// The initiator's SYN, or first datagram, is under way.
    Asked,
    /// It arrived; the answer is to be sent or under way.
    Answering,
    /// That arrived; the initiator's ACK is to be sent or under way.
    Confirming,
    /// Data pass.
    Open,
    /// The initiator's FIN is under way.
    Leaving,
    /// It arrived; the responder's FIN is to be sent or under way.
    Following,
    /// That arrived; the last ACK is to be sent or under way.
    Left,
}

impl Phase {
    /// Who sends in this phase; in [`Phase::Open`] both do.
    pub fn sender(self) -> Option<Side> {
        match self {
            Phase::Closed | Phase::Asked | Phase::Confirming | Phase::Leaving | Phase::Left => {
                Some(Side::Lan)
            }
            Phase::Answering | Phase::Following => Some(Side::Wan),
            Phase::Open => None,
        }
    }

    /// What the arrival of this phase's packet leads to.
    pub fn next(self) -> Phase {
        match self {
            Phase::Closed | Phase::Open => self,
            Phase::Asked => Phase::Answering,
            Phase::Answering => Phase::Confirming,
            Phase::Confirming => Phase::Open,
            Phase::Leaving => Phase::Following,
            Phase::Following => Phase::Left,
            Phase::Left => Phase::Closed,
        }
    }
}

/// A connection's state: 28 bytes, for there are millions.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The next sequence number of each end.
    pub sent: [u32; 2],
    /// As far as it has arrived at the other one.
    pub arrived: [u32; 2],
    /// When it last moved: milliseconds.
    pub moved: u32,
    /// Data packets until it closes.
    pub left: u32,
    /// Which of the flow's connections this is.
    pub life: u16,
    /// Where it is.
    pub phase: Phase,
    /// How often the packet of this phase was sent again.
    pub tries: u8,
}

impl Flow {
    /// No connection yet.
    pub const NEW: Flow =
        Flow { sent: [0; 2], arrived: [0; 2], moved: 0, left: 0, life: 0, phase: Phase::Closed, tries: 0 };

    /// True if everything that was sent has arrived.
    pub fn is_quiet(&self) -> bool {
        self.sent == self.arrived
    }

    /// Bytes of an end that are under way.
    pub fn under_way(&self, from: Side) -> u32 {
        let [sent, arrived] = match from {
            Side::Lan => [self.sent[0], self.arrived[0]],
            Side::Wan => [self.sent[1], self.arrived[1]],
        };
        sent.wrapping_sub(arrived)
    }
}
