//! A session as it stands on the wire between the nodes: what the standby needs to carry it on.
//!
//! A record is *state*, not an operation (design §2): it says how a session stands under a version, so
//! that applying it twice or late does no harm. It is this crate's own type (decision 13); only the daemon
//! maps it to and from the session table.
//!
//! ```text
//! body of a data datagram:  prefix | run | run | …
//! run:                      kind:8 | length:8 | count:8 | count bodies of `length` bytes each
//! body of a record:         the fixed part of its kind | optional parts, in the order of their flag bits
//! ```
//!
//! Two releases run as a pair (X-18), by three rules. A run of an unknown kind is skipped by its length. A
//! body longer than what its flags announce is cut: a later release appends parts, behind a flag bit that
//! this one does not know. Whatever changes the meaning of what is there needs a new kind.
//!
//! What most sessions of a datagram share (term, policy generation, group) stands once in its
//! [`Prefix`](crate::datagram::Prefix) and is repeated in a record only where it differs. The TCP windows
//! are written as distances: `max_end` from the peer's ACK in units of the peer's scale, ACKs from what
//! they acknowledge. Where a distance does not fit, the exact numbers follow as an optional part, so that
//! nothing is ever rounded. An established IPv4 connection takes 51 bytes, a UDP flow 30.

mod decode;
mod encode;
mod layout;
mod lifetime;

pub(crate) use decode::wholes;
pub use decode::{Records, Run, Runs, Skipped};
pub use encode::{Canonical, RecordWriter, Shared};
pub use lifetime::Lifetime;

use crate::ids::{GroupId, Version};

/// Record kinds. 1 to 63 are records of this module, 64 and above belong to other messages in a stream.
pub mod kinds {
    /// A TCP session.
    pub const TCP: u8 = 1;
    /// A session of any other protocol.
    pub const FLOW: u8 = 2;
    /// A session is gone.
    pub const DELETE: u8 = 3;
    /// A key and its version, for repair.
    pub const MENTION: u8 = 4;
    /// The first kind that other messages may use.
    pub const FIRST_OTHER: u8 = 64;
}

/// IP protocol number of TCP.
pub const TCP: u8 = 6;

/// Source and destination, as the initiator's packets have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4, bytes in wire order.
    V4([[u8; 4]; 2]),
    /// IPv6, bytes in wire order.
    V6([[u8; 16]; 2]),
}

impl Addresses {
    /// True for IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        matches!(self, Self::V6(_))
    }

    /// Destination and source.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::V4([source, destination]) => Self::V4([destination, source]),
            Self::V6([source, destination]) => Self::V6([destination, source]),
        }
    }
}

/// Addresses and ports (or ids) of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Source and destination address.
    pub addresses: Addresses,
    /// Source and destination port; for ICMP echo and portless protocols as the session table has them.
    pub ports: [u16; 2],
}

impl Tuple {
    /// The tuple of the other direction, without NAT.
    #[must_use]
    pub const fn reversed(self) -> Self {
        let [source, destination] = self.ports;
        Self { addresses: self.addresses.reversed(), ports: [destination, source] }
    }
}

/// What names a session: the key of the initiator's packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// IP protocol number.
    pub proto: u8,
    /// Routing domain.
    pub vrf: u8,
}

/// Which rule admitted a session, under which policy (decision 27).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RuleRef {
    /// The rule's stable id.
    pub id: u32,
    /// The low half of the policy generation.
    pub generation: u16,
}

/// A session: everything that the standby needs to carry it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The initiator's key.
    pub key: Key,
    /// The reply's tuple where NAT makes it differ from the key's reversal. Must be of the key's family:
    /// a reply of the other family is not written.
    pub reply: Option<Tuple>,
    /// The version of this state.
    pub version: Version,
    /// The traffic group.
    pub group: GroupId,
    /// The rule that admitted it.
    pub rule: RuleRef,
    /// Logical ids of the initiator's and the responder's zone.
    pub zones: [u8; 2],
    /// Time left before the session expires if no further packet comes (decision 26).
    pub remaining: Lifetime,
    /// Where the protocol stands.
    pub state: State,
    /// Both ends have sent since the nodes lost each other (decision 35).
    pub two_way: bool,
    /// Seconds since the session was opened.
    pub age_s: Option<u32>,
    /// Traffic so far.
    pub counters: Option<Counters>,
}

/// Where a session's protocol stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A TCP connection. Its key's protocol is written as TCP.
    Tcp(TcpSnapshot),
    /// Any other protocol: the tracker's state byte.
    Flow(u8),
}

/// A TCP connection as the active node knew it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpSnapshot {
    /// The tracker's state, 4 bits.
    pub state: u8,
    /// The tracker's flags, 12 bits.
    pub flags: u16,
    /// The initiator's half, the responder's half.
    pub halves: [TcpHalf; 2],
    /// An unanswered SYN on the live connection: its sequence number and window scale (4 bits).
    pub mark: Option<(u32, u8)>,
    /// Nothing was in flight when this was written: the numbers are exact, not a snapshot of a moving
    /// connection (decision 39).
    pub idle: bool,
}

/// What is known of one end's sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpHalf {
    /// Highest sequence number sent, plus length.
    pub end: u32,
    /// Highest sequence number that it may send.
    pub max_end: u32,
    /// Highest ACK sent.
    pub ack: u32,
    /// Largest window announced, in units of its scale.
    pub max_window: u16,
    /// Window scale, 4 bits.
    pub scale: u8,
}

/// Traffic of a session, from the initiator and from the responder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bytes, modulo 2^48.
    pub bytes: [u64; 2],
    /// Packets, modulo 2^32.
    pub packets: [u32; 2],
}

/// A session is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delete {
    /// The initiator's key.
    pub key: Key,
    /// The version of the delete; with `exact`, of what is to be deleted.
    pub version: Version,
    /// The traffic group.
    pub group: GroupId,
    /// Only a session with exactly this version goes (decision 24); otherwise every older one too.
    pub exact: bool,
}

/// "I hold this key in this version": repair compares these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mention {
    /// The initiator's key.
    pub key: Key,
    /// The version held.
    pub version: Version,
    /// The traffic group.
    pub group: GroupId,
}

/// What a data datagram carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// A session as it stands.
    Session(Session),
    /// A session is gone.
    Delete(Delete),
    /// A key and its version.
    Mention(Mention),
}

impl Record {
    /// The initiator's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Session(session) => &session.key,
            Self::Delete(delete) => &delete.key,
            Self::Mention(mention) => &mention.key,
        }
    }

    /// The record's version.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::Session(session) => session.version,
            Self::Delete(delete) => delete.version,
            Self::Mention(mention) => mention.version,
        }
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
