//! What goes through a stream beside records, each as the body of a run (see [`crate::record`]).
//!
//! From the active node, in data datagrams:
//!
//! | kind | body |
//! | --- | --- |
//! | 64 digests | token 4, level 1, spare 1, then up to 17 of: number 2, sum 8, lag 4 |
//! | 65 ask | token 4, then up to 120 bucket numbers of 2 |
//! | 66 mark | state 1, spare 3, sessions 4, sum 8 |
//! | 67 taken | up to 60 of the standby's handles of 4 |
//! | 68 merged | spare 4 |
//!
//! From the standby, behind an ack:
//!
//! | kind | body |
//! | --- | --- |
//! | 4 mention | a record |
//! | 80 have | term 4, mirror 1, spare 1, life 2, received through 8, sessions 4, sum 8 |
//! | 81 nak | low half of the datagram's number 2, reason 1, block of 64 sessions 1, bits 8 |
//! | 82 verdicts | token 4, level 1, spare 1, then up to 80 of: number 2, verdict 1 |
//! | 83 mentioned | token 4, buckets 4 |
//! | 84 want | up to 120 bucket numbers of 2 |
//! | 85 offer | the standby's handle 4, of the session that follows as a record |
//! | 86 all offered | spare 4 |
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
    pub const TAKEN: u8 = FIRST_OTHER + 3;
    pub const MERGED: u8 = FIRST_OTHER + 4;
    pub const HAVE: u8 = 80;
    pub const NAK: u8 = 81;
    pub const VERDICTS: u8 = 82;
    pub const MENTIONED: u8 = 83;
    pub const WANT: u8 = 84;
    pub const OFFER: u8 = 85;
    pub const ALL_OFFERED: u8 = 86;
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
    /// Nothing is comparable now: ask again in a while.
    Later,
}

impl Verdict {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Differs => 1,
            Self::Busy => 2,
            Self::Later => 3,
        }
    }

    const fn from_wire(raw: u8) -> Self {
        match raw {
            0 => Self::Equal,
            1 => Self::Differs,
            3 => Self::Later,
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

/// Handles in a body, at most.
pub(super) const LISTED_HANDLES: usize = 60;

/// Handles of the standby: of a session that is offered, or of sessions that were answered.
pub(super) fn write_handles(handles: &[u32]) -> Body {
    let mut body = Body::new();
    for &handle in handles.iter().take(LISTED_HANDLES) {
        body.put(&U32::from(handle));
    }
    body
}

pub(super) fn read_handles(body: &[u8]) -> impl Iterator<Item = u32> + '_ {
    body.as_chunks().0.iter().map(|&handle| u32::from_le_bytes(handle))
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
    /// How good its mirror is.
    pub mirror: Mirror,
    /// Another number than before: its table was thrown away meanwhile.
    pub life: u16,
    /// Everything up to here arrived or was passed, whether it is applied or not.
    pub received: u64,
    pub sessions: u32,
    pub sum: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HaveWire {
    term: U32,
    mirror: u8,
    spare: u8,
    life: U16,
    received: U64,
    sessions: U32,
    sum: U64,
}

impl Have {
    pub fn write(&self) -> Body {
        let mut body = Body::new();
        body.put(&HaveWire {
            term: self.term.get().into(),
            mirror: self.mirror as u8,
            spare: 0,
            life: self.life.into(),
            received: self.received.into(),
            sessions: self.sessions.into(),
            sum: self.sum.into(),
        });
        body
    }

    pub fn read(body: &[u8]) -> Option<Self> {
        let (wire, _) = HaveWire::ref_from_prefix(body).ok()?;
        Some(Self {
            term: Term::new(wire.term.get())?,
            mirror: Mirror::from_wire(wire.mirror)?,
            life: wire.life.get(),
            received: wire.received.get(),
            sessions: wire.sessions.get(),
            sum: wire.sum.get(),
        })
    }
}

/// Sessions of a datagram that their owners could not take: up to 64 neighbours, for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nak {
    /// The datagram that carried them; from the wire its low half.
    pub seq: u64,
    /// See [`super::Refused`].
    pub reason: u8,
    /// The place of the first among the sessions of the datagram, divided by 64.
    pub block: u8,
    /// Bit i: the i-th of the block.
    pub places: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct NakWire {
    low: U16,
    reason: u8,
    block: u8,
    places: U64,
}

impl Nak {
    /// Bytes of a body.
    pub const LEN: usize = size_of::<NakWire>();

    pub fn write(&self) -> Body {
        let mut body = Body::new();
        let (low, places) = ((self.seq as u16).into(), self.places.into());
        body.put(&NakWire { low, reason: self.reason, block: self.block, places });
        body
    }

    pub fn read(body: &[u8]) -> Option<Self> {
        let (wire, _) = NakWire::ref_from_prefix(body).ok()?;
        let seq = u64::from(wire.low.get());
        Some(Self { seq, reason: wire.reason, block: wire.block & 3, places: wire.places.get() })
    }

    /// The places among the sessions of the datagram.
    pub fn indices(&self) -> impl Iterator<Item = u8> + use<> {
        let (block, places) = (self.block, self.places);
        (0..64_u8).filter(move |bit| places >> bit & 1 == 1).map(move |bit| block << 6 | bit)
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Wire version 1: one message a line, its name and its bytes. Never change a line: another release
    /// reads and writes it.
    const VECTORS: &str = include_str!("../../tests/vectors/stream.txt");

    fn vector(name: &str) -> String {
        let line = VECTORS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn check(name: &str, body: &Body) -> Vec<u8> {
        let mut hex = String::new();
        body.bytes().iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        assert_eq!(vector(name), hex, "vector {name}");
        // A later release may append.
        [body.bytes(), &[0xff]].concat()
    }

    fn term() -> Term {
        Term::new(6).unwrap()
    }

    #[test]
    fn x18_every_message_of_version_1_is_what_it_was() {
        let sums = [
            Sum { number: 0x0102, sum: 0x1122_3344_5566_7788, last: 0x1_0000_0000 },
            Sum { number: 0xffff, sum: 1, last: 0 },
        ];
        let seq = 0x1_0000_0010;
        let body = check("digests", &write_digests(0xa1b2_c3d4, Level::Bucket, seq, &sums));
        let (token, level, read) = read_digests(&body, seq).unwrap();
        // Older than a lag can say is "long ago".
        let long_ago = Sum { last: seq - u64::from(u32::MAX), ..sums[1] };
        assert_eq!(
            (token, level, read.collect::<Vec<_>>()),
            (0xa1b2_c3d4, Level::Bucket, vec![sums[0], long_ago])
        );

        let body = check("ask", &write_buckets(Some(7), &[1, 0x0203, 0xffff]));
        let (token, read) = read_ask(&body).unwrap();
        assert_eq!((token, read.collect::<Vec<_>>()), (7, vec![1, 0x0203, 0xffff]));

        let mark = Mark { mirror: Mirror::Complete, sessions: 500_000, sum: 0x0102_0304_0506_0708 };
        let body = check("mark", &mark.write());
        assert_eq!(Mark::read(&body), Some(mark));

        let have = Have {
            term: term(),
            mirror: Mirror::Stale,
            life: 3,
            received: 0x0a0b_0c0d_0e0f,
            sessions: 499_999,
            sum: 9,
        };
        let body = check("have", &have.write());
        assert_eq!(Have::read(&body), Some(have));

        let nak = Nak { seq: 0x1234_5678, reason: 1, block: 2, places: 1 << 63 | 5 };
        let body = check("nak", &nak.write());
        assert_eq!(Nak::read(&body), Some(Nak { seq: 0x5678, ..nak }));
        assert_eq!(nak.indices().collect::<Vec<_>>(), [128, 130, 191]);

        let verdicts = [(0, Verdict::Equal), (0x0102, Verdict::Differs), (255, Verdict::Busy)];
        let body = check("verdicts", &write_verdicts(5, Level::Group, &verdicts));
        let (token, level, read) = read_verdicts(&body).unwrap();
        assert_eq!((token, level, read.collect::<Vec<_>>()), (5, Level::Group, verdicts.to_vec()));

        let later = [(1, Verdict::Later)];
        let body = write_verdicts(5, Level::Bucket, &later);
        let (_, _, read) = read_verdicts(body.bytes()).unwrap();
        assert_eq!(read.collect::<Vec<_>>(), later);

        let body = check("mentioned", &write_mentioned(7, 1_920));
        assert_eq!(read_mentioned(&body), Some((7, 1_920)));

        let body = check("want", &write_buckets(None, &[0x0102, 3]));
        assert_eq!(read_want(&body).collect::<Vec<_>>(), [0x0102, 3]);
    }

    #[test]
    fn a_body_holds_as_many_as_are_announced() {
        let sum = Sum { number: 1, sum: 2, last: 3 };
        assert_eq!(write_digests(1, Level::Group, 9, &[sum; 100]).bytes().len(), 6 + SUMS * 14);
        assert_eq!(
            write_verdicts(1, Level::Group, &[(1, Verdict::Busy); 100]).bytes().len(),
            6 + VERDICTS * 3
        );
        assert_eq!(write_buckets(Some(1), &[1; 200]).bytes().len(), 4 + LISTED * 2);
    }
}
