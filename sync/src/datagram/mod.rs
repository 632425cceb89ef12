//! What goes between the nodes: the header of every datagram, and the bodies that are not records.
//!
//! ```text
//! | magic 2 | version 1 | needs 1 | kind 1 | pair 1 | sender 1 | path 1 |
//! | incarnation 8                                                      |
//! | key id 2 | counter 6                                               |
//! | body, encrypted                                                 …  |
//! | tag 16                                                             |
//! ```
//!
//! The header is readable by anybody and authenticated with the body. `version` says what the sender
//! speaks, `needs` the oldest release that can read it: a reader accepts later versions as long as it is
//! not older than `needs`, and skips what it does not know (X-18). The counter is the datagram's nonce
//! under its key and nothing else; the place in the stream lies inside, in the [`Prefix`], because one
//! sequence goes over all paths while each path has its own keys (decisions 19 and 29).

mod body;

pub use body::{Ack, Malformed, Prefix, Probe, ProbeStep};

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{Incarnation, NodeId, PairId, PathId};

/// UDP port of the stream, unless configured.
pub const STREAM_PORT: u16 = 689;
/// UDP port of heartbeats, unless configured.
pub const HEARTBEAT_PORT: u16 = 801;
/// The wire version that this release speaks.
pub const VERSION: u8 = 1;
/// The oldest release that can read what this one writes.
pub const NEEDS: u8 = 1;
/// The first two bytes of every datagram.
pub const MAGIC: [u8; 2] = *b"uS";
/// Bytes of the header.
pub const HEADER: usize = 24;
/// Bytes of the authentication tag at the end.
pub const TAG: usize = 16;
/// The longest datagram: an IPv6 packet on a jumbo link carries no more.
pub const MAX_DATAGRAM: usize = 9_000 - 48;
/// The counter of a key ends here.
pub const MAX_COUNTER: u64 = (1 << 48) - 1;

/// What a datagram is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A [`Prefix`] and records.
    Data = 1,
    /// An [`Ack`].
    Ack = 2,
    /// "I live": the body belongs to the membership.
    Heartbeat = 3,
    /// Announcements and the two Noise messages, sealed under the static keys.
    Handshake = 4,
    /// A [`Probe`]: the self-test of a path.
    Probe = 5,
    /// Proof that the traffic keys work, both ways.
    Confirm = 6,
}

impl Kind {
    /// Back from the wire.
    #[must_use]
    pub const fn from_wire(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Data,
            2 => Self::Ack,
            3 => Self::Heartbeat,
            4 => Self::Handshake,
            5 => Self::Probe,
            6 => Self::Confirm,
            _ => return None,
        })
    }

    /// Which keys seal it.
    #[must_use]
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Data | Self::Ack | Self::Probe | Self::Confirm => Purpose::Traffic,
            Self::Heartbeat => Purpose::Heartbeat,
            Self::Handshake => Purpose::Handshake,
        }
    }
}

/// What a key is for: never the same key for two of them (decision 29).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// Renewed every minute.
    Traffic = 1,
    /// As old as the pair of incarnations.
    Heartbeat = 2,
    /// From the static keys alone.
    Handshake = 3,
}

/// A datagram's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The sender's wire version.
    pub version: u8,
    /// What the datagram is for.
    pub kind: Kind,
    /// The pair.
    pub pair: PairId,
    /// The sender.
    pub sender: NodeId,
    /// The path that it was sent on.
    pub path: PathId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// Which key.
    pub key_id: u16,
    /// The nonce: 48 bits.
    pub counter: u64,
}

/// Why a header was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// Shorter than header and tag, or longer than any datagram.
    Truncated,
    /// Not one of ours.
    Magic,
    /// Written for later releases only.
    Version,
    /// A kind that this release does not know.
    Kind,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Wire {
    magic: [u8; 2],
    version: u8,
    needs: u8,
    kind: u8,
    pair: u8,
    sender: u8,
    path: u8,
    incarnation: U64,
    key_id: U16,
    counter: [u8; 6],
}

const _: () = assert!(size_of::<Wire>() == HEADER);

impl Header {
    /// Reads the header of a datagram.
    ///
    /// # Errors
    /// See [`HeaderError`]; nothing of a refused datagram may be used.
    pub fn read(datagram: &[u8]) -> Result<Self, HeaderError> {
        if datagram.len() < HEADER + TAG || datagram.len() > MAX_DATAGRAM {
            return Err(HeaderError::Truncated);
        }
        let (wire, _) = Wire::ref_from_prefix(datagram).map_err(|_| HeaderError::Truncated)?;
        if wire.magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        if wire.needs > VERSION || wire.version < NEEDS {
            return Err(HeaderError::Version);
        }
        let [a, b, c, d, e, f] = wire.counter;
        Ok(Self {
            version: wire.version,
            kind: Kind::from_wire(wire.kind).ok_or(HeaderError::Kind)?,
            pair: PairId(wire.pair),
            sender: NodeId(wire.sender),
            path: PathId(wire.path),
            incarnation: Incarnation(wire.incarnation.get()),
            key_id: wire.key_id.get(),
            counter: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        })
    }

    /// As it stands in front of a datagram of this release.
    #[must_use]
    pub fn to_wire(&self) -> [u8; HEADER] {
        let [a, b, c, d, e, f, _, _] = self.counter.to_le_bytes();
        zerocopy::transmute!(Wire {
            magic: MAGIC,
            version: self.version,
            needs: NEEDS,
            kind: self.kind as u8,
            pair: self.pair.0,
            sender: self.sender.0,
            path: self.path.0,
            incarnation: self.incarnation.0.into(),
            key_id: self.key_id.into(),
            counter: [a, b, c, d, e, f],
        })
    }
}

#[cfg(test)]
mod tests;
