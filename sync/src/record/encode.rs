//! Writing records into a buffer that the caller lends.

use zerocopy::{Immutable, IntoBytes};

use super::layout::{Bound, Counted, Exact, Flow, Head, MAX_BODY, Mark, Tcp, Tuple4, Tuple6, bits, to_48};
use super::{Addresses, Key, Lifetime, Record, Session, State, TCP, TcpSnapshot, Tuple, kinds};
use crate::ids::{GroupId, Term, Version};

/// What the records of a datagram have in common unless they say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shared {
    /// Term of the versions.
    pub term: Term,
    /// Policy generation of the rules.
    pub generation: u16,
    /// The traffic group.
    pub group: GroupId,
}

/// Bytes before the bodies of a run: kind, length, count.
pub(super) const RUN_HEAD: usize = 3;

/// Fills a buffer with runs of records.
///
/// A record is written whole or not at all, so that what was written so far is always well formed.
#[derive(Debug)]
pub struct RecordWriter<'b> {
    buf: &'b mut [u8],
    used: usize,
    run: Option<usize>,
    shared: Shared,
    records: u32,
}

impl<'b> RecordWriter<'b> {
    /// Starts at the front of `buf`.
    pub fn new(buf: &'b mut [u8], shared: Shared) -> Self {
        Self { buf, used: 0, run: None, shared, records: 0 }
    }

    /// Appends a record. False if it does not fit: the datagram is full.
    #[must_use]
    pub fn push(&mut self, record: &Record) -> bool {
        let mut body = Body::new();
        let kind = body.record(record, &self.shared);
        self.push_raw(kind, body.bytes())
    }

    /// Appends the body of any kind: for messages that are not records. False if it does not fit.
    #[must_use]
    pub fn push_raw(&mut self, kind: u8, body: &[u8]) -> bool {
        let Ok(length) = u8::try_from(body.len()) else { return false };
        let open = self.run.filter(|&at| {
            matches!(self.buf.get(at..), Some([k, l, n, ..]) if *k == kind && *l == length && *n < u8::MAX)
        });
        let head = if open.is_some() { 0 } else { RUN_HEAD };
        let end = self.used + head + body.len();
        let Some(space) = self.buf.get_mut(self.used..end) else { return false };
        if open.is_none() {
            space[..RUN_HEAD].copy_from_slice(&[kind, length, 0]);
            self.run = Some(self.used);
        }
        space[head..].copy_from_slice(body);
        if let Some(count) = self.run.and_then(|at| self.buf.get_mut(at + 2)) {
            *count += 1;
        }
        self.used = end;
        self.records += 1;
        true
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// True while nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Records written so far.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }
}

/// The bytes over which a record's digest goes (decision 23): its kind and body as if nothing were shared,
/// without what differs between two correct tables (remaining time, age, counters).
pub struct Canonical(Body);

impl Canonical {
    /// Of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut body = Body::new();
        body.put(&[0_u8]);
        let steady = match record {
            Record::Session(session) => Record::Session(Session {
                remaining: Lifetime::default(),
                two_way: false,
                age_s: None,
                counters: None,
                ..*session
            }),
            other => *other,
        };
        body.bytes[0] = body.record(&steady, &Shared::default());
        Self(body)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A record's body under construction; [`MAX_BODY`] is room for every combination of parts,
/// one more byte for the kind of a [`Canonical`].
struct Body {
    bytes: [u8; MAX_BODY + 1],
    len: usize,
}

impl Body {
    fn new() -> Self {
        Self { bytes: [0; MAX_BODY + 1], len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline(always)]
    fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, part: &T) {
        let part = part.as_bytes();
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn head(&mut self, flags: u16, version: Version) {
        self.put(&Head { flags: flags.into(), counter: to_48(version.counter()) });
    }

    fn tuple(&mut self, tuple: &Tuple) {
        let ports = tuple.ports.map(Into::into);
        match tuple.addresses {
            Addresses::V4(addresses) => self.put(&Tuple4 { addresses, ports }),
            Addresses::V6(addresses) => self.put(&Tuple6 { addresses, ports }),
        }
    }

    /// Any record; returns its kind.
    fn record(&mut self, record: &Record, shared: &Shared) -> u8 {
        match record {
            Record::Session(session) => self.session(session, shared),
            Record::Delete(delete) => {
                let precise = if delete.exact { bits::PRECISE } else { 0 };
                self.name(&delete.key, delete.version, delete.group, precise, shared);
                kinds::DELETE
            }
            Record::Mention(mention) => {
                self.name(&mention.key, mention.version, mention.group, 0, shared);
                kinds::MENTION
            }
        }
    }

    /// Delete and mention: a key and its version.
    fn name(&mut self, key: &Key, version: Version, group: GroupId, precise: u16, shared: &Shared) {
        let flags = precise | common_flags(key, version, group, shared);
        self.head(flags, version);
        self.tuple(&key.tuple);
        self.put(&[key.proto]);
        self.common_parts(flags, key, version, group, None);
    }

    fn session(&mut self, session: &Session, shared: &Shared) -> u8 {
        let key = &session.key;
        let reply = session.reply.filter(|r| r.addresses.is_v6() == key.tuple.addresses.is_v6());
        let mut flags = common_flags(key, session.version, session.group, shared)
            | flag(reply.is_some(), bits::REPLY)
            | flag(session.rule.generation != shared.generation, bits::GENERATION)
            | flag(session.age_s.is_some(), bits::AGE)
            | flag(session.counters.is_some(), bits::COUNTERS)
            | flag(session.two_way, bits::TWO_WAY);
        let tcp = match &session.state {
            State::Tcp(tcp) => Some(tcp),
            State::Flow(_) => None,
        };
        let distances = tcp.and_then(distances);
        if let Some(tcp) = tcp {
            flags |= flag(distances.is_none(), bits::EXACT)
                | flag(tcp.mark.is_some(), bits::MARK)
                | flag(tcp.idle, bits::PRECISE);
        }
        self.head(flags, session.version);
        self.tuple(&key.tuple);
        self.put(&Bound {
            rule: session.rule.id.into(),
            zones: session.zones,
            remaining: session.remaining.to_wire().into(),
        });
        let kind = match session.state {
            State::Tcp(tcp) => {
                self.put(&tcp_part(&tcp, distances.unwrap_or_default()));
                kinds::TCP
            }
            State::Flow(state) => {
                self.put(&Flow { proto: key.proto, state });
                kinds::FLOW
            }
        };
        if let Some(reply) = &reply {
            self.tuple(reply);
        }
        self.common_parts(flags, key, session.version, session.group, Some(session.rule.generation));
        self.session_parts(flags, session, tcp);
        kind
    }

    /// The parts announced by TERM to VRF.
    fn common_parts(
        &mut self,
        flags: u16,
        key: &Key,
        version: Version,
        group: GroupId,
        generation: Option<u16>,
    ) {
        if flags & bits::TERM != 0 {
            self.put(&version.term().get().to_le_bytes());
        }
        if let Some(generation) = generation.filter(|_| flags & bits::GENERATION != 0) {
            self.put(&generation.to_le_bytes());
        }
        if flags & bits::GROUP != 0 {
            self.put(&[group.0]);
        }
        if flags & bits::VRF != 0 {
            self.put(&[key.vrf]);
        }
    }

    /// The parts announced by EXACT to COUNTERS.
    fn session_parts(&mut self, flags: u16, session: &Session, tcp: Option<&TcpSnapshot>) {
        if let Some(tcp) = tcp.filter(|_| flags & bits::EXACT != 0) {
            let [i, r] = &tcp.halves;
            self.put(&Exact {
                max_end: [i.max_end.into(), r.max_end.into()],
                ack: [i.ack.into(), r.ack.into()],
            });
        }
        if let Some((seq, scale)) = tcp.and_then(|tcp| tcp.mark) {
            self.put(&Mark { seq: seq.into(), scale });
        }
        if let Some(age_s) = session.age_s {
            self.put(&age_s.to_le_bytes());
        }
        if let Some(counters) = session.counters {
            let packets = counters.packets.map(Into::into);
            self.put(&Counted { bytes: counters.bytes.map(to_48), packets });
        }
    }
}

#[inline(always)]
const fn flag(set: bool, bit: u16) -> u16 {
    if set { bit } else { 0 }
}

fn common_flags(key: &Key, version: Version, group: GroupId, shared: &Shared) -> u16 {
    flag(key.tuple.addresses.is_v6(), bits::V6)
        | flag(version.term() != shared.term, bits::TERM)
        | flag(group != shared.group, bits::GROUP)
        | flag(key.vrf != 0, bits::VRF)
}

/// The windows of both halves as distances: `None` if one does not fit without rounding.
#[derive(Clone, Copy, Default)]
struct Distances {
    room: [u16; 2],
    lag: [u16; 2],
}

fn distances(tcp: &TcpSnapshot) -> Option<Distances> {
    let mut found = Distances::default();
    for (own, peer) in [(0, 1), (1, 0)] {
        let (half, other) = (&tcp.halves[own], &tcp.halves[peer]);
        let scale = u32::from(other.scale & 15);
        let room = half.max_end.wrapping_sub(other.ack);
        if room & ((1 << scale) - 1) != 0 {
            return None;
        }
        found.room[own] = u16::try_from(room >> scale).ok()?;
        found.lag[own] = u16::try_from(other.end.wrapping_sub(half.ack)).ok()?;
    }
    Some(found)
}

fn tcp_part(tcp: &TcpSnapshot, distances: Distances) -> Tcp {
    let [i, r] = &tcp.halves;
    Tcp {
        state: (u16::from(tcp.state & 15) | tcp.flags << 4).into(),
        scales: i.scale & 15 | r.scale << 4,
        end: [i.end.into(), r.end.into()],
        room: distances.room.map(Into::into),
        lag: distances.lag.map(Into::into),
        max_window: [i.max_window.into(), r.max_window.into()],
    }
}

const _: () = assert!(TCP == 6);
