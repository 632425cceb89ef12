//! Reading records: everything borrowed, nothing trusted, what cannot be read counted and skipped.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::encode::RUN_HEAD;
use super::layout::{Bound, Counted, Exact, Flow, Head, Mark, Tcp, Tuple4, Tuple6, bits, from_48};
use super::{
    Addresses, Counters, Delete, Key, Lifetime, Mention, Record, RuleRef, Session, Shared, State, TCP,
    TcpHalf, TcpSnapshot, Tuple, kinds,
};
use crate::ids::{GroupId, Term, Version};

/// One body of a run, whatever its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run<'a> {
    /// The kind: see [`kinds`].
    pub kind: u8,
    /// The body.
    pub body: &'a [u8],
}

/// Walks over the bodies in a datagram.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    rest: &'a [u8],
    kind: u8,
    length: usize,
    left: u8,
    torn: bool,
}

impl<'a> Runs<'a> {
    /// The runs in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, kind: 0, length: 0, left: 0, torn: false }
    }

    /// The walk ended before the bytes did: a run announced more than there was.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }
}

/// A run: bodies of one kind and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whole<'a> {
    pub kind: u8,
    pub count: u8,
    length: usize,
    bodies: &'a [u8],
}

impl<'a> Whole<'a> {
    /// The bodies.
    pub fn bodies(&self) -> impl Iterator<Item = Run<'a>> + use<'a> {
        let Whole { kind, count, length, bodies } = *self;
        // Bodies of no length are bodies, too.
        (0..usize::from(count)).map_while(move |at| {
            let body = bodies.get(at * length..(at + 1) * length)?;
            Some(Run { kind, body })
        })
    }
}

/// Walks over the runs in a datagram as wholes: `None` in place of one that is torn, and nothing behind it.
pub(crate) fn wholes(bytes: &[u8]) -> impl Iterator<Item = Option<Whole<'_>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(([kind, length, count], bodies)) = std::mem::take(&mut rest).split_first_chunk::<RUN_HEAD>()
        else {
            return Some(None);
        };
        let length = usize::from(*length);
        let Some((bodies, behind)) = bodies.split_at_checked(length * usize::from(*count)) else {
            return Some(None);
        };
        rest = behind;
        Some(Some(Whole { kind: *kind, count: *count, length, bodies }))
    })
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        while self.left == 0 {
            let Some((head, rest)) = self.rest.split_first_chunk::<RUN_HEAD>() else {
                self.torn |= !self.rest.is_empty();
                self.rest = &[];
                return None;
            };
            let [kind, length, count] = *head;
            (self.kind, self.length, self.left, self.rest) = (kind, usize::from(length), count, rest);
        }
        let Some((body, rest)) = self.rest.split_at_checked(self.length) else {
            (self.torn, self.left, self.rest) = (true, 0, &[]);
            return None;
        };
        self.left -= 1;
        self.rest = rest;
        Some(Run { kind: self.kind, body })
    }
}

/// What a reader passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Skipped {
    /// Bodies of kinds that this release does not know, or that are not records.
    pub unknown: u32,
    /// Bodies of a known kind that are shorter than what they announce, or say what cannot be.
    pub malformed: u32,
    /// Datagrams whose last run was cut.
    pub torn: u32,
}

/// Walks over the records in a datagram and counts what it skips.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    runs: Runs<'a>,
    shared: Shared,
    skipped: Skipped,
}

impl<'a> Records<'a> {
    /// The records in `bytes`, which come with `shared` in common.
    #[must_use]
    pub fn new(bytes: &'a [u8], shared: Shared) -> Self {
        Self { runs: Runs::new(bytes), shared, skipped: Skipped::default() }
    }

    /// What was skipped so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        Skipped { torn: u32::from(self.runs.is_torn()), ..self.skipped }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let run = self.runs.next()?;
            if !(kinds::TCP..=kinds::MENTION).contains(&run.kind) {
                self.skipped.unknown += 1;
                continue;
            }
            match Record::decode(run, &self.shared) {
                Some(record) => return Some(record),
                None => self.skipped.malformed += 1,
            }
        }
    }
}

impl Record {
    /// The record in a body: `None` if its kind is not a record's or it is malformed.
    #[must_use]
    pub fn decode(run: Run<'_>, shared: &Shared) -> Option<Self> {
        let mut parts = Parts { rest: run.body };
        let head = *parts.take::<Head>()?;
        let flags = head.flags.get();
        let named = Named { counter: from_48(head.counter), flags, tuple: parts.tuple(flags)? };
        match run.kind {
            kinds::TCP | kinds::FLOW => parts.session(run.kind, &named, shared).map(Self::Session),
            kinds::DELETE | kinds::MENTION => {
                let [proto] = *parts.take::<[u8; 1]>()?;
                let common = parts.common(flags & !bits::GENERATION, shared)?;
                let key = Key { tuple: named.tuple, proto, vrf: common.vrf };
                let version = common.version(named.counter);
                let group = common.group;
                Some(if run.kind == kinds::DELETE {
                    Self::Delete(Delete { key, version, group, exact: flags & bits::PRECISE != 0 })
                } else {
                    Self::Mention(Mention { key, version, group })
                })
            }
            _ => None,
        }
    }
}

/// What stands in front of every record.
struct Named {
    counter: u64,
    flags: u16,
    tuple: Tuple,
}

/// What a record shares with its datagram or says itself.
struct Common {
    term: Term,
    generation: u16,
    group: GroupId,
    vrf: u8,
}

impl Common {
    fn version(&self, counter: u64) -> Version {
        Version::new(self.term, counter)
    }
}

/// The parts of a body that are not yet read.
struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline(always)]
    fn take<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Option<&'a T> {
        let (part, rest) = T::ref_from_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(part)
    }

    fn tuple(&mut self, flags: u16) -> Option<Tuple> {
        Some(if flags & bits::V6 != 0 {
            let t = self.take::<Tuple6>()?;
            Tuple { addresses: Addresses::V6(t.addresses), ports: t.ports.map(U16::get) }
        } else {
            let t = self.take::<Tuple4>()?;
            Tuple { addresses: Addresses::V4(t.addresses), ports: t.ports.map(U16::get) }
        })
    }

    fn common(&mut self, flags: u16, shared: &Shared) -> Option<Common> {
        let mut common =
            Common { term: shared.term, generation: shared.generation, group: shared.group, vrf: 0 };
        if flags & bits::TERM != 0 {
            common.term = Term::new(self.take::<U32>()?.get())?;
        }
        if flags & bits::GENERATION != 0 {
            common.generation = self.take::<U16>()?.get();
        }
        if flags & bits::GROUP != 0 {
            common.group = GroupId(self.take::<[u8; 1]>()?[0]);
        }
        if flags & bits::VRF != 0 {
            common.vrf = self.take::<[u8; 1]>()?[0];
        }
        Some(common)
    }

    fn session(&mut self, kind: u8, named: &Named, shared: &Shared) -> Option<Session> {
        let flags = named.flags;
        let bound = *self.take::<Bound>()?;
        let (proto, mut state) = if kind == kinds::TCP {
            (TCP, State::Tcp(snapshot(self.take::<Tcp>()?, flags)))
        } else {
            let flow = self.take::<Flow>()?;
            (flow.proto, State::Flow(flow.state))
        };
        let reply = if flags & bits::REPLY != 0 { Some(self.tuple(flags)?) } else { None };
        let common = self.common(flags, shared)?;
        if let State::Tcp(tcp) = &mut state {
            self.tcp_parts(flags, tcp)?;
        }
        let age_s = if flags & bits::AGE != 0 { Some(self.take::<U32>()?.get()) } else { None };
        let counters = if flags & bits::COUNTERS != 0 {
            let counted = self.take::<Counted>()?;
            Some(Counters { bytes: counted.bytes.map(from_48), packets: counted.packets.map(U32::get) })
        } else {
            None
        };
        Some(Session {
            key: Key { tuple: named.tuple, proto, vrf: common.vrf },
            reply,
            version: common.version(named.counter),
            group: common.group,
            rule: RuleRef { id: bound.rule.get(), generation: common.generation },
            zones: bound.zones,
            remaining: Lifetime::from_wire(bound.remaining.get()),
            state,
            two_way: flags & bits::TWO_WAY != 0,
            age_s,
            counters,
        })
    }

    fn tcp_parts(&mut self, flags: u16, tcp: &mut TcpSnapshot) -> Option<()> {
        if flags & bits::EXACT != 0 {
            let exact = self.take::<Exact>()?;
            for (half, (max_end, ack)) in tcp.halves.iter_mut().zip(exact.max_end.iter().zip(&exact.ack)) {
                (half.max_end, half.ack) = (max_end.get(), ack.get());
            }
        }
        if flags & bits::MARK != 0 {
            let mark = self.take::<Mark>()?;
            tcp.mark = Some((mark.seq.get(), mark.scale & 15));
        }
        Some(())
    }
}

fn snapshot(wire: &Tcp, flags: u16) -> TcpSnapshot {
    let state = wire.state.get();
    let scales = [wire.scales & 15, wire.scales >> 4];
    let end = wire.end.map(U32::get);
    let ack = [
        end[1].wrapping_sub(u32::from(wire.lag[0].get())),
        end[0].wrapping_sub(u32::from(wire.lag[1].get())),
    ];
    let half = |own: usize, peer: usize| TcpHalf {
        end: end[own],
        max_end: ack[peer].wrapping_add(u32::from(wire.room[own].get()) << scales[peer]),
        ack: ack[own],
        max_window: wire.max_window[own].get(),
        scale: scales[own],
    };
    TcpSnapshot {
        state: state as u8 & 15,
        flags: state >> 4,
        halves: [half(0, 1), half(1, 0)],
        mark: None,
        idle: flags & bits::PRECISE != 0,
    }
}
