//! The fixed parts of records, byte for byte, and the flags that announce what follows them.
//!
//! Numbers are little-endian, addresses as they lie in a packet.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Flag bits of a record. The parts that they announce follow the fixed part in the order of the bits.
pub mod bits {
    /// The tuple is IPv6: 36 bytes instead of 12. Stands right behind the head.
    pub const V6: u16 = 1 << 0;
    /// A reply tuple, of the same family.
    pub const REPLY: u16 = 1 << 1;
    /// The record's own term: 4 bytes.
    pub const TERM: u16 = 1 << 2;
    /// The record's own policy generation: 2 bytes.
    pub const GENERATION: u16 = 1 << 3;
    /// The record's own group: 1 byte.
    pub const GROUP: u16 = 1 << 4;
    /// A routing domain: 1 byte.
    pub const VRF: u16 = 1 << 5;
    /// TCP: `max_end` and `ack` of both halves as they are, 16 bytes; the distances are void.
    pub const EXACT: u16 = 1 << 6;
    /// TCP: a marked SYN, 5 bytes.
    pub const MARK: u16 = 1 << 7;
    /// Age in seconds: 4 bytes.
    pub const AGE: u16 = 1 << 8;
    /// Counters: 20 bytes.
    pub const COUNTERS: u16 = 1 << 9;
    /// No part: traffic both ways since the split.
    pub const TWO_WAY: u16 = 1 << 10;
    /// No part: TCP numbers of an idle connection; a delete of exactly this version.
    pub const PRECISE: u16 = 1 << 11;
}

/// What every record begins with; its tuple follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Head {
    /// See [`bits`].
    pub flags: U16,
    /// The version's counter, 48 bits of which 44 are used.
    pub counter: [u8; 6],
}

/// Addresses and ports, IPv4.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tuple4 {
    pub addresses: [[u8; 4]; 2],
    pub ports: [U16; 2],
}

/// Addresses and ports, IPv6.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tuple6 {
    pub addresses: [[u8; 16]; 2],
    pub ports: [U16; 2],
}

/// Behind the tuple of a session.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bound {
    pub rule: U32,
    pub zones: [u8; 2],
    pub remaining: U16,
}

/// Behind [`Bound`] in a TCP session.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// state:4 | flags:12.
    pub state: U16,
    /// Scale of the initiator (low half) and of the responder.
    pub scales: u8,
    pub end: [U32; 2],
    /// `max_end` minus the peer's ack, in units of the peer's scale.
    pub room: [U16; 2],
    /// The peer's `end` minus the ack.
    pub lag: [U16; 2],
    pub max_window: [U16; 2],
}

/// The parts of an IPv4 TCP session, one behind the other.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Connection4 {
    pub head: Head,
    pub tuple: Tuple4,
    pub bound: Bound,
    pub tcp: Tcp,
}

/// Behind [`Bound`] in a session of another protocol.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Flow {
    pub proto: u8,
    pub state: u8,
}

/// Announced by [`bits::EXACT`].
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Exact {
    pub max_end: [U32; 2],
    pub ack: [U32; 2],
}

/// Announced by [`bits::MARK`].
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Mark {
    pub seq: U32,
    pub scale: u8,
}

/// Announced by [`bits::COUNTERS`].
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Counted {
    pub bytes: [[u8; 6]; 2],
    pub packets: [U32; 2],
}

const FIXED_V4: usize = size_of::<Head>() + size_of::<Tuple4>() + size_of::<Bound>();
const _: () = assert!(FIXED_V4 + size_of::<Tcp>() == 51 && size_of::<Connection4>() == 51);
const _: () = assert!(FIXED_V4 + size_of::<Flow>() == 30);

/// The longest record that this release writes.
pub const MAX_BODY: usize = size_of::<Head>()
    + 2 * size_of::<Tuple6>()
    + size_of::<Bound>()
    + size_of::<Tcp>()
    + 4
    + 2
    + 1
    + 1
    + size_of::<Exact>()
    + size_of::<Mark>()
    + 4
    + size_of::<Counted>();
const _: () = assert!(MAX_BODY <= u8::MAX as usize);

pub const fn to_48(value: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = value.to_le_bytes();
    [a, b, c, d, e, f]
}

pub const fn from_48(bytes: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = bytes;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
