//! What goes through a stream beside records, each as the body of a run (see [`crate::record`]).
//!
//! From the active node, in data datagrams:
//!
//! | kind | body |
//! | --- | --- |
//! | 64 digests | token 4, level 1, spare 1, then up to 17 of: number 2, sum 8, lag 4 |
//! | 65 ask | token 4, then up to 120 bucket numbers of 2 |
//! | 66 mark | state 1, spare 3, sessions 4, sum 8 |
//!
//! From the standby, behind an ack:
//!
//! | kind | body |
//! | --- | --- |
//! | 4 mention | a record |
//! | 80 have | term 4, mirror 1, spare 3, sessions 4, sum 8 |
//! | 81 nak | low half of the datagram's number 2, place among its sessions 1, reason 1 |
//! | 82 verdicts | token 4, level 1, spare 1, then up to 80 of: number 2, verdict 1 |
//! | 83 mentioned | token 4, buckets 4 |
//! | 84 want | up to 120 bucket numbers of 2 |
//!
//! `lag` is the distance from the datagram's own number to the last one that touched what is summed. A
//! reader skips kinds that it does not know and takes whole items only, so that a body may grow.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::Term;
use crate::membership::Mirror;

/// Kinds of the messages.
pub(super) mod kind {
    use crate::record::kinds::FIRST_OTHER;

    pub const DIGESTS: u8 = FIRST_OTHER;
    pub const ASK: u8 = FIRST_OTHER + 1;
    pub const MARK: u8 = FIRST_OTHER + 2;
    pub const HAVE: u8 = 80;
    pub const NAK: u8 = 81;
    pub const VERDICTS: u8 = 82;
    pub const MENTIONED: u8 = 83;
    pub const WANT: u8 = 84;
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    /// 256 buckets together.
    Group,
    /// One bucket.
    Bucket,
}

impl Level {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Group => 0,
            Self::Bucket => 1,
        }
    }

    const fn from_wire(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::Group),
            1 => Some(Self::Bucket),
            _ => None,
        }
    }
}

/// One sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sum {
    /// Of a group or a bucket.
    pub number: u16,
    pub sum: u64,
    /// The last datagram that touched it.
    pub last: u64,
}

/// What a comparison said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Equal: whatever is under way, this is proven.
    Equal,
    /// Applied through what the sum covers, nothing newer, and yet different.
    Differs,
    /// Not comparable now.
    Busy,
}

impl Verdict {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Differs => 1,
            Self::Busy => 2,
        }
    }

    const fn from_wire(raw: u8) -> Self {
        match raw {
            0 => Self::Equal,
            1 => Self::Differs,
            _ => Self::Busy,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TableHead {
    token: U32,
    level: u8,
    spare: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SumWire {
    number: U16,
    sum: U64,
    lag: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct VerdictWire {
    number: U16,
    verdict: u8,
}

/// A body under construction.
#[derive(Debug)]
pub(super) struct Body {
    bytes: [u8; 255],
    used: usize,
}

impl Body {
    const fn new() -> Self {
        Self { bytes: [0; 255], used: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    fn put<T: IntoBytes + Immutable>(&mut self, part: &T) {
        let part = part.as_bytes();
        self.bytes[self.used..self.used + part.len()].copy_from_slice(part);
        self.used += part.len();
    }
}

/// Sums in a body, at most.
pub(super) const SUMS: usize = 17;

/// Up to [`SUMS`] sums, sent in datagram `seq`.
pub(super) fn write_digests(token: u32, level: Level, seq: u64, sums: &[Sum]) -> Body {
    let mut body = Body::new();
    body.put(&TableHead { token: token.into(), level: level.to_wire(), spare: 0 });
    for sum in sums.iter().take(SUMS) {
        // Older than the lag can say is old enough.
        let lag = u32::try_from(seq.saturating_sub(sum.last)).unwrap_or(u32::MAX);
        body.put(&SumWire { number: sum.number.into(), sum: sum.sum.into(), lag: lag.into() });
    }
    body
}

/// The sums in a body that came in datagram `seq`.
pub(super) fn read_digests(body: &[u8], seq: u64) -> Option<(u32, Level, impl Iterator<Item = Sum> + '_)> {
    let (head, items) = TableHead::ref_from_prefix(body).ok()?;
    let level = Level::from_wire(head.level)?;
    let sums = items.chunks_exact(size_of::<SumWire>()).filter_map(move |item| {
        let wire = SumWire::ref_from_bytes(item).ok()?;
        let last = seq.saturating_sub(u64::from(wire.lag.get()));
        Some(Sum { number: wire.number.get(), sum: wire.sum.get(), last })
    });
    Some((head.token.get(), level, sums))
}

/// Verdicts in a body, at most.
pub(super) const VERDICTS: usize = 80;

pub(super) fn write_verdicts(token: u32, level: Level, verdicts: &[(u16, Verdict)]) -> Body {
    let mut body = Body::new();
    body.put(&TableHead { token: token.into(), level: level.to_wire(), spare: 0 });
    for (number, verdict) in verdicts.iter().take(VERDICTS) {
        body.put(&VerdictWire { number: (*number).into(), verdict: verdict.to_wire() });
    }
    body
}

pub(super) fn read_verdicts(body: &[u8]) -> Option<(u32, Level, impl Iterator<Item = (u16, Verdict)> + '_)> {
    let (head, items) = TableHead::ref_from_prefix(body).ok()?;
    let level = Level::from_wire(head.level)?;
    let verdicts = items.chunks_exact(size_of::<VerdictWire>()).filter_map(|item| {
        let wire = VerdictWire::ref_from_bytes(item).ok()?;
        Some((wire.number.get(), Verdict::from_wire(wire.verdict)))
    });
    Some((head.token.get(), level, verdicts))
}

/// Buckets in a body, at most.
pub(super) const LISTED: usize = 120;

/// "Mention what you hold in these buckets", or with no token "send these buckets again".
pub(super) fn write_buckets(token: Option<u32>, buckets: &[u16]) -> Body {
    let mut body = Body::new();
    if let Some(token) = token {
        body.put(&U32::from(token));
    }
    for &bucket in buckets.iter().take(LISTED) {
        body.put(&U16::from(bucket));
    }
    body
}

fn buckets(items: &[u8]) -> impl Iterator<Item = u16> + '_ {
    items.chunks_exact(2).map(|item| u16::from_le_bytes([item[0], item[1]]))
}

pub(super) fn read_ask(body: &[u8]) -> Option<(u32, impl Iterator<Item = u16> + '_)> {
    let (token, items) = U32::ref_from_prefix(body).ok()?;
    Some((token.get(), buckets(items)))
}

pub(super) fn read_want(body: &[u8]) -> impl Iterator<Item = u16> + '_ {
    buckets(body)
}

/// How the partner's mirror stands as the active node knows it; `sessions` and `sum` of what it emitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub mirror: Mirror,
    pub sessions: u32,
    pub sum: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MarkWire {
    mirror: u8,
    spare: [u8; 3],
    sessions: U32,
    sum: U64,
}

impl Mark {
    pub fn write(&self) -> Body {
        let mut body = Body::new();
        let (sessions, sum) = (self.sessions.into(), self.sum.into());
        body.put(&MarkWire { mirror: self.mirror as u8, spare: [0; 3], sessions, sum });
        body
    }

    pub fn read(body: &[u8]) -> Option<Self> {
        let (wire, _) = MarkWire::ref_from_prefix(body).ok()?;
        let mirror = Mirror::from_wire(wire.mirror)?;
        Some(Self { mirror, sessions: wire.sessions.get(), sum: wire.sum.get() })
    }
}

/// What the standby has, in front of everything else behind an ack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Have {
    /// The term of the stream that the ack belongs to.
    pub term: Term,
    pub mark: Mark,
}

impl Have {
    pub fn write(&self) -> Body {
        let mut body = Body::new();
        body.put(&U32::from(self.term.get()));
        let mark = self.mark.write();
        body.put(&[0_u8; size_of::<MarkWire>()]);
        body.bytes[4..4 + size_of::<MarkWire>()].copy_from_slice(mark.bytes());
        body
    }

    pub fn read(body: &[u8]) -> Option<Self> {
        let (term, mark) = U32::ref_from_prefix(body).ok()?;
        Some(Self { term: Term::new(term.get())?, mark: Mark::read(mark)? })
    }
}

/// A session that its owner could not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nak {
    /// The datagram that carried it.
    pub seq: u64,
    /// Its place among the sessions of the datagram.
    pub index: u8,
    /// See [`super::Refused`].
    pub reason: u8,
}

impl Nak {
    /// Bytes of a body.
    pub const LEN: usize = 4;

    pub fn write(&self) -> [u8; Self::LEN] {
        let [low, high] = (self.seq as u16).to_le_bytes();
        [low, high, self.index, self.reason]
    }

    /// The low half of the number, the place, the reason.
    pub fn read(body: &[u8]) -> Option<(u16, u8, u8)> {
        let [low, high, index, reason] = *body.first_chunk()?;
        Some((u16::from_le_bytes([low, high]), index, reason))
    }
}

/// "All that I hold in so many buckets of this question was mentioned."
pub(super) fn write_mentioned(token: u32, buckets: u32) -> Body {
    let mut body = Body::new();
    body.put(&[U32::from(token), U32::from(buckets)]);
    body
}

pub(super) fn read_mentioned(body: &[u8]) -> Option<(u32, u32)> {
    let ([token, buckets], _) = <[U32; 2]>::ref_from_prefix(body).ok()?;
    Some((token.get(), buckets.get()))
}
