//! Writing records into a buffer that the caller lends.

use zerocopy::{Immutable, IntoBytes};

use super::layout::{
    Bound, Connection4, Counted, Exact, Flow, Head, MAX_BODY, Mark, Tcp, Tuple4, Tuple6, bits, to_48,
};
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
        self.place(|body, shared| body.record(record, shared))
    }

    /// Appends a session. False if it does not fit: the datagram is full.
    #[must_use]
    pub fn push_session(&mut self, session: &Session) -> bool {
        self.place(|body, shared| body.session(session, shared))
    }

    /// Appends the body that `write` makes where it will stand, as long as there is room for any; only at the
    /// end of a datagram is it made elsewhere first.
    #[inline(always)]
    fn place(&mut self, write: impl FnOnce(&mut Body<'_>, &Shared) -> u8) -> bool {
        // Most bodies continue the run that is open.
        let at = self.used + if self.run.is_some() { 0 } else { RUN_HEAD };
        let room = self.buf.get_mut(at..).and_then(|room| room.first_chunk_mut::<{ MAX_BODY + RUN_HEAD }>());
        let Some(room) = room.and_then(|room| room.first_chunk_mut()) else {
            let mut room = [0; MAX_BODY];
            let mut body = Body { bytes: &mut room, len: 0 };
            let kind = write(&mut body, &self.shared);
            let len = body.len;
            return self.push_raw(kind, &room[..len]);
        };
        let mut body = Body { bytes: room, len: 0 };
        let kind = write(&mut body, &self.shared);
        let len = body.len;
        // No body is longer than a run can say: see the layout.
        let length = len as u8;
        if !self.continues(kind, length) {
            if at == self.used {
                self.buf.copy_within(at..at + len, at + RUN_HEAD);
            }
            self.buf[self.used..self.used + RUN_HEAD].copy_from_slice(&[kind, length, 0]);
            self.run = Some(self.used);
            self.used += RUN_HEAD;
        }
        self.count(len);
        true
    }

    /// Whether a body of this kind and length goes into the run that is open.
    #[inline(always)]
    fn continues(&self, kind: u8, length: u8) -> bool {
        let head = self.run.and_then(|at| self.buf.get(at..));
        matches!(head, Some([k, l, n, ..]) if *k == kind && *l == length && *n < u8::MAX)
    }

    /// A body of this length was appended to the run that is open.
    #[inline(always)]
    fn count(&mut self, len: usize) {
        if let Some(count) = self.run.and_then(|at| self.buf.get_mut(at + 2)) {
            *count += 1;
        }
        self.used += len;
        self.records += 1;
    }

    /// Appends the body of any kind: for messages that are not records. False if it does not fit.
    #[must_use]
    pub fn push_raw(&mut self, kind: u8, body: &[u8]) -> bool {
        let Ok(length) = u8::try_from(body.len()) else { return false };
        let open = self.continues(kind, length);
        let head = if open { 0 } else { RUN_HEAD };
        let end = self.used + head + body.len();
        let Some(space) = self.buf.get_mut(self.used..end) else { return false };
        space[head..].copy_from_slice(body);
        if !open {
            space[..RUN_HEAD].copy_from_slice(&[kind, length, 0]);
            self.run = Some(self.used);
            self.used += RUN_HEAD;
        }
        self.count(body.len());
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
pub struct Canonical {
    bytes: [u8; MAX_BODY + 1],
    len: usize,
}

impl Canonical {
    /// Of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
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
        let mut bytes = [0; MAX_BODY + 1];
        let mut len = 0;
        if let Some((kind, room)) = bytes.split_first_mut()
            && let Some(room) = room.first_chunk_mut()
        {
            let mut body = Body { bytes: room, len: 0 };
            *kind = body.record(&steady, &Shared::default());
            len = 1 + body.len;
        }
        Self { bytes, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A record's body under construction; [`MAX_BODY`] is room for every combination of parts.
struct Body<'b> {
    bytes: &'b mut [u8; MAX_BODY],
    len: usize,
}

impl Body<'_> {
    #[inline(always)]
    fn put<T: IntoBytes + Immutable + ?Sized>(&mut self, part: &T) {
        let part = part.as_bytes();
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn head(&mut self, flags: u16, version: Version) {
        self.put(&head(flags, version));
    }

    fn front(&mut self, flags: u16, session: &Session, bound: &Bound) {
        self.head(flags, session.version);
        self.tuple(&session.key.tuple);
        self.put(bound);
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
        let same_family = |reply: &&Tuple| reply.addresses.is_v6() == key.tuple.addresses.is_v6();
        let reply = session.reply.as_ref().filter(same_family);
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
        let bound = Bound {
            rule: session.rule.id.into(),
            zones: session.zones,
            remaining: session.remaining.to_wire().into(),
        };
        let kind = match (&session.state, key.tuple.addresses) {
            (State::Tcp(tcp), Addresses::V4(addresses)) => {
                // What most records are, in one piece.
                let tuple = Tuple4 { addresses, ports: key.tuple.ports.map(Into::into) };
                let (head, tcp) =
                    (head(flags, session.version), tcp_part(tcp, distances.unwrap_or_default()));
                self.put(&Connection4 { head, tuple, bound, tcp });
                kinds::TCP
            }
            (State::Tcp(tcp), Addresses::V6(_)) => {
                self.front(flags, session, &bound);
                self.put(&tcp_part(tcp, distances.unwrap_or_default()));
                kinds::TCP
            }
            (State::Flow(state), _) => {
                self.front(flags, session, &bound);
                self.put(&Flow { proto: key.proto, state: *state });
                kinds::FLOW
            }
        };
        if let Some(reply) = reply {
            self.tuple(reply);
        }
        if flags & (bits::TERM | bits::GENERATION | bits::GROUP | bits::VRF) != 0 {
            self.common_parts(flags, key, session.version, session.group, Some(session.rule.generation));
        }
        if flags & (bits::EXACT | bits::MARK | bits::AGE | bits::COUNTERS) != 0 {
            self.session_parts(flags, session, tcp);
        }
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
    let [i, r] = &tcp.halves;
    let scales = [r, i].map(|other| u32::from(other.scale & 15));
    let rooms = [i.max_end.wrapping_sub(r.ack), r.max_end.wrapping_sub(i.ack)];
    let lags = [r.end.wrapping_sub(i.ack), i.end.wrapping_sub(r.ack)];
    let units = [rooms[0] >> scales[0], rooms[1] >> scales[1]];
    let rounded = rooms[0] ^ units[0] << scales[0] | rooms[1] ^ units[1] << scales[1];
    let large = (units[0] | units[1] | lags[0] | lags[1]) >> u16::BITS;
    let fits = rounded | large == 0;
    fits.then_some(Distances { room: units.map(|unit| unit as u16), lag: lags.map(|lag| lag as u16) })
}

#[inline(always)]
fn head(flags: u16, version: Version) -> Head {
    Head { flags: flags.into(), counter: to_48(version.counter()) }
}

#[inline(always)]
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
