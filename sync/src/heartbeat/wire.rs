//! The heartbeat's bytes.

use super::{
    AreaHashes, Beat, Claim, DATABASES, Echo, Heartbeat, MAX_AREAS, MAX_WORKERS, PROTOCOLS, Report, TABLES,
    Verdict, Wishes,
};
use crate::ids::{GroupId, Incarnation, Micros, NodeId, PathId, Term};
use crate::membership::{Mirror, Phase, Role, Standing};
use crate::stream::Groups;
use thiserror::Error;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a heartbeat.
pub const WIRE_SIZE: usize = size_of::<Whole>();
/// Bytes of a heartbeat in the first layout.
const FIRST_WIRE_SIZE: usize = size_of::<Wire>();
/// Version of this layout. A higher one only appends.
const LAYOUT: u8 = 2;
/// The first one: ends with the workers' progress.
const FIRST_LAYOUT: u8 = 1;

const ABLE: u8 = 1;
const MAY_TAKE_OVER: u8 = 1 << 1;
const FENCED: u8 = 1 << 2;
const PREFERRED: u8 = 1 << 3;
const FORCED_ACTIVE: u8 = 1 << 4;
const VOTES: u8 = 1 << 5;
const CONTESTS: u8 = 1 << 6;
const CONTEST_ABLE: u8 = 1 << 7;

/// Flags of the second layout; unknown ones are skipped.
const LEAVING: u8 = 1;

/// Why bytes are no heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// Fewer bytes than the first layout had.
    #[error("heartbeat of {0} bytes is too short")]
    Short(usize),
    /// A layout from before the first one.
    #[error("unknown heartbeat layout {0}")]
    Layout(u8),
    /// A number that names nothing, or one out of its range.
    #[error("heartbeat with an invalid {0}")]
    Invalid(&'static str),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct WireEcho {
    incarnation: U64,
    number: U64,
    clock: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Wire {
    layout: u8,
    node: u8,
    path: u8,
    group: u8,
    said: WireEcho,
    echo: WireEcho,
    role: u8,
    flags: u8,
    mirror: u8,
    quality: u8,
    term: U32,
    seen: U32,
    reserve: U32,
    vote: U32,
    phase: u8,
    contest_quality: u8,
    workers: u8,
    reserved: u8,
    phase_term: U32,
    contest_activity: U32,
    phase_until: U64,
    wire_version: U16,
    wire_oldest: U16,
    config_hash: U64,
    policy_generation: U32,
    databases: [U32; DATABASES],
    digests: [U64; TABLES],
    entries: [U32; TABLES],
    progress: [U32; MAX_WORKERS],
}

/// What the second layout appended.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct More {
    areas_known: u8,
    flags: u8,
    reserved: [u8; 2],
    areas: [U32; MAX_AREAS],
    held: [U32; PROTOCOLS],
    wish_verify: U16,
    wish_resync: U16,
    verdict_of: U16,
    reserved_too: U16,
    verdict_differing: U32,
    verdict_groups: [U64; 4],
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Whole {
    wire: Wire,
    more: More,
}

const _: () = assert!(FIRST_WIRE_SIZE == 300 && WIRE_SIZE == 396);

impl Heartbeat {
    /// The bytes to seal.
    #[must_use]
    pub fn encode(&self) -> [u8; WIRE_SIZE] {
        let (beat, claim, report) = (&self.beat, &self.beat.claim, &self.report);
        let contest = claim.contest.unwrap_or_default();
        let (phase, phase_term, phase_until) = claim.phase.to_wire();
        let wire = Wire {
            layout: LAYOUT,
            node: self.node.0,
            path: self.path.0,
            group: self.group.0,
            said: WireEcho::from(beat.said),
            echo: WireEcho::from(beat.echo),
            role: claim.role as u8,
            flags: flags(claim),
            mirror: claim.mirror as u8,
            quality: claim.quality,
            term: claim.term.get().into(),
            seen: claim.seen.get().into(),
            reserve: claim.reserve.get().into(),
            vote: claim.vote.unwrap_or_default().get().into(),
            phase,
            contest_quality: contest.quality,
            workers: report.workers,
            reserved: 0,
            phase_term: phase_term.get().into(),
            contest_activity: contest.activity.into(),
            phase_until: phase_until.0.into(),
            wire_version: report.wire_version.into(),
            wire_oldest: report.wire_oldest.into(),
            config_hash: report.config_hash.into(),
            policy_generation: report.policy_generation.into(),
            databases: report.databases.map(U32::new),
            digests: report.digests.map(U64::new),
            entries: report.entries.map(U32::new),
            progress: report.progress.map(U32::new),
        };
        zerocopy::transmute!(Whole { wire, more: More::of(self) })
    }

    /// Reads a heartbeat from authenticated bytes. Bytes behind the known part are skipped.
    ///
    /// # Errors
    /// If the bytes are no heartbeat.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (wire, rest) = Wire::read_from_prefix(bytes).map_err(|_| DecodeError::Short(bytes.len()))?;
        let more = match wire.layout {
            ..FIRST_LAYOUT => return Err(DecodeError::Layout(wire.layout)),
            FIRST_LAYOUT => None,
            _ => Some(More::read_from_prefix(rest).map_err(|_| DecodeError::Short(bytes.len()))?.0),
        };
        if usize::from(wire.workers) > MAX_WORKERS {
            return Err(DecodeError::Invalid("number of workers"));
        }
        Ok(Self {
            node: NodeId(wire.node),
            path: PathId(wire.path),
            group: GroupId(wire.group),
            beat: Beat {
                said: wire.said.into(),
                echo: wire.echo.into(),
                claim: claim(&wire, more.as_ref())?,
            },
            report: Report {
                wire_version: wire.wire_version.get(),
                wire_oldest: wire.wire_oldest.get(),
                config_hash: wire.config_hash.get(),
                areas: more.as_ref().map_or(Ok(AreaHashes::default()), More::areas)?,
                policy_generation: wire.policy_generation.get(),
                databases: wire.databases.map(U32::get),
                digests: wire.digests.map(U64::get),
                entries: wire.entries.map(U32::get),
                held: more.as_ref().map(|more| more.held.map(U32::get)).unwrap_or_default(),
                wishes: more.as_ref().map(More::wishes).unwrap_or_default(),
                verdict: more.as_ref().map(More::verdict).unwrap_or_default(),
                workers: wire.workers,
                progress: wire.progress.map(U32::get),
            },
        })
    }
}

impl More {
    fn of(heartbeat: &Heartbeat) -> Self {
        let told = heartbeat.report.areas.as_slice();
        let mut areas = [U32::ZERO; MAX_AREAS];
        areas.iter_mut().zip(told).for_each(|(place, hash)| place.set(*hash));
        let flags = if heartbeat.beat.claim.leaving { LEAVING } else { 0 };
        let report = &heartbeat.report;
        Self {
            areas_known: told.len() as u8,
            flags,
            reserved: [0; 2],
            areas,
            held: report.held.map(U32::new),
            wish_verify: report.wishes.verify.into(),
            wish_resync: report.wishes.resync.into(),
            verdict_of: report.verdict.of.into(),
            reserved_too: U16::ZERO,
            verdict_differing: report.verdict.differing.into(),
            verdict_groups: report.verdict.groups.to_words().map(U64::new),
        }
    }

    fn wishes(&self) -> Wishes {
        Wishes { verify: self.wish_verify.get(), resync: self.wish_resync.get() }
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            of: self.verdict_of.get(),
            differing: self.verdict_differing.get(),
            groups: Groups::from_words(self.verdict_groups.map(U64::get)),
        }
    }

    fn areas(&self) -> Result<AreaHashes, DecodeError> {
        let hashes = self.areas.map(U32::get);
        let known = hashes.get(..usize::from(self.areas_known)).and_then(AreaHashes::new);
        known.ok_or(DecodeError::Invalid("number of areas"))
    }
}

fn flags(claim: &Claim) -> u8 {
    [
        (claim.able, ABLE),
        (claim.may_take_over, MAY_TAKE_OVER),
        (claim.fenced, FENCED),
        (claim.preferred, PREFERRED),
        (claim.forced_active, FORCED_ACTIVE),
        (claim.vote.is_some(), VOTES),
        (claim.contest.is_some(), CONTESTS),
        (claim.contest.is_some_and(|standing| standing.able), CONTEST_ABLE),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

fn claim(wire: &Wire, more: Option<&More>) -> Result<Claim, DecodeError> {
    let set = |bit| wire.flags & bit != 0;
    if wire.quality > 100 || wire.contest_quality > 100 {
        return Err(DecodeError::Invalid("quality"));
    }
    let phase_term = term(wire.phase_term)?;
    let vote = term(wire.vote)?;
    Ok(Claim {
        role: Role::from_wire(wire.role).ok_or(DecodeError::Invalid("role"))?,
        term: term(wire.term)?,
        seen: term(wire.seen)?,
        reserve: term(wire.reserve)?,
        vote: set(VOTES).then_some(vote),
        able: set(ABLE),
        may_take_over: set(MAY_TAKE_OVER),
        fenced: set(FENCED),
        preferred: set(PREFERRED),
        forced_active: set(FORCED_ACTIVE),
        leaving: more.is_some_and(|more| more.flags & LEAVING != 0),
        mirror: Mirror::from_wire(wire.mirror).ok_or(DecodeError::Invalid("mirror state"))?,
        quality: wire.quality,
        phase: Phase::from_wire(wire.phase, phase_term, Micros(wire.phase_until.get()))
            .ok_or(DecodeError::Invalid("phase"))?,
        contest: set(CONTESTS).then(|| Standing {
            able: set(CONTEST_ABLE),
            activity: wire.contest_activity.get(),
            quality: wire.contest_quality,
        }),
    })
}

fn term(raw: U32) -> Result<Term, DecodeError> {
    Term::new(raw.get()).ok_or(DecodeError::Invalid("term"))
}

impl From<Echo> for WireEcho {
    fn from(echo: Echo) -> Self {
        Self {
            incarnation: echo.incarnation.0.into(),
            number: echo.number.into(),
            clock: echo.clock.0.into(),
        }
    }
}

impl From<WireEcho> for Echo {
    fn from(wire: WireEcho) -> Self {
        Self {
            incarnation: Incarnation(wire.incarnation.get()),
            number: wire.number.get(),
            clock: Micros(wire.clock.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Areas, Difference};
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Heartbeat {
        let echo = |n: u64| Echo { incarnation: Incarnation(n << 32), number: n, clock: Micros(n * 1_000) };
        Heartbeat {
            node: NodeId(1),
            path: PathId(2),
            group: GroupId(3),
            beat: Beat {
                said: echo(4),
                echo: echo(5),
                claim: Claim {
                    role: Role::Standby,
                    term: Term::new(6).unwrap(),
                    seen: Term::new(7).unwrap(),
                    reserve: Term::new(9).unwrap(),
                    vote: Term::new(8),
                    able: true,
                    may_take_over: false,
                    fenced: true,
                    preferred: false,
                    forced_active: true,
                    leaving: true,
                    mirror: Mirror::Complete,
                    quality: 63,
                    phase: Phase::Grant { term: Term::new(11).unwrap(), until: Micros(258) },
                    contest: Some(Standing { able: true, activity: 77, quality: 5 }),
                },
            },
            report: Report {
                wire_version: 2,
                wire_oldest: 1,
                config_hash: 0x1122_3344_5566_7788,
                areas: AreaHashes::new(&[0xa0a1_a2a3, 0xb0b1_b2b3, 0xc0c1_c2c3]).unwrap(),
                policy_generation: 12,
                databases: [1, 2, 3, 4],
                digests: [10, 20, 30, 40],
                entries: [5, 6, 7, 8],
                held: [21, 22, 23, 24],
                wishes: Wishes { verify: 3, resync: 2 },
                verdict: Verdict { of: 9, differing: 2, groups: Groups::of([1, 255]) },
                workers: 2,
                progress: std::array::from_fn(|worker| worker as u32),
            },
        }
    }

    /// Golden vector: a change of these bytes is a change of the protocol.
    #[test]
    fn x_18_the_head_of_a_heartbeat_lies_where_it_lay() {
        let bytes = sample().encode();
        assert_eq!(&bytes[..4], &[2, 1, 2, 3]);
        assert_eq!(
            &bytes[4..28],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x0f, 0xa0]
        );
        assert_eq!(&bytes[52..56], &[2, 0b1111_0101, 3, 63]);
        assert_eq!(&bytes[56..72], &[0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 8]);
        assert_eq!(&bytes[72..84], &[4, 5, 2, 0, 0, 0, 0, 11, 0, 0, 0, 77]);
        assert_eq!(&bytes[84..92], &[0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(&bytes[92..104], &[0, 2, 0, 1, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    }

    /// Golden vector of what the second layout appended.
    #[test]
    fn x_18_what_a_layout_appended_stays_where_it_is() {
        let bytes = sample().encode();
        assert_eq!(&bytes[300..308], &[3, 1, 0, 0, 0xa0, 0xa1, 0xa2, 0xa3]);
        assert_eq!(&bytes[308..316], &[0xb0, 0xb1, 0xb2, 0xb3, 0xc0, 0xc1, 0xc2, 0xc3]);
        assert_eq!(&bytes[316..336], &[0; 20]);
        assert_eq!(&bytes[336..352], &[0, 0, 0, 21, 0, 0, 0, 22, 0, 0, 0, 23, 0, 0, 0, 24]);
        assert_eq!(&bytes[352..364], &[0, 3, 0, 2, 0, 9, 0, 0, 0, 0, 0, 2]);
        assert_eq!((&bytes[364..372], &bytes[372..388]), (&[0, 0, 0, 0, 0, 0, 0, 2][..], &[0; 16][..]));
        assert_eq!(&bytes[388..], &[0x80, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// Two releases run as a pair: the first layout says what it says, and nothing of what it cannot know.
    #[test]
    fn x_18_a_heartbeat_of_the_first_layout_is_understood() {
        let mut bytes = sample().encode();
        bytes[0] = 1;
        let mut expected = sample();
        expected.report = Report {
            areas: AreaHashes::default(),
            held: [0; PROTOCOLS],
            wishes: Wishes::default(),
            verdict: Verdict::default(),
            ..expected.report
        };
        expected.beat.claim.leaving = false;
        for length in [FIRST_WIRE_SIZE, WIRE_SIZE] {
            assert_eq!(Heartbeat::decode(&bytes[..length]), Ok(expected.clone()), "{length}");
        }
        let ours = sample().report;
        assert_eq!(ours.differs(&expected.report), None, "no areas to compare, and the hash is the same");
        let other = Report { config_hash: 1, ..expected.report };
        assert_eq!(ours.differs(&other), Some(Difference::Config(Areas::default())));
    }

    #[test]
    fn x_18_a_longer_heartbeat_of_a_later_release_is_understood() {
        let mut bytes = sample().encode().to_vec();
        bytes[0] = 3;
        bytes.extend([0xff; 40]);
        assert_eq!(Heartbeat::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn bytes_that_are_no_heartbeat_are_refused_with_the_reason() {
        let bytes = sample().encode();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            Heartbeat::decode(&bytes)
        };
        for cut in [0, 299, 300, 395] {
            assert_eq!(Heartbeat::decode(&bytes[..cut]), Err(DecodeError::Short(cut)));
        }
        assert_eq!(with(0, 0), Err(DecodeError::Layout(0)));
        assert_eq!(with(52, 9), Err(DecodeError::Invalid("role")));
        assert_eq!(with(54, 4), Err(DecodeError::Invalid("mirror state")));
        assert_eq!(with(55, 101), Err(DecodeError::Invalid("quality")));
        assert_eq!(with(56, 1), Err(DecodeError::Invalid("term")));
        assert_eq!(with(72, 99), Err(DecodeError::Invalid("phase")));
        assert_eq!(with(74, 33), Err(DecodeError::Invalid("number of workers")));
        assert_eq!(with(300, 9), Err(DecodeError::Invalid("number of areas")));
    }

    #[test]
    fn x_13_a_difference_is_named() {
        let ours = sample().report;
        assert_eq!(ours.differs(&ours), None);
        let newer = Report { wire_version: 9, wire_oldest: 3, ..ours.clone() };
        assert_eq!(ours.differs(&newer), Some(Difference::WireVersion));
        assert_eq!(newer.differs(&ours), Some(Difference::WireVersion));
        let config = Report { config_hash: 1, ..ours.clone() };
        assert_eq!(ours.differs(&config), Some(Difference::Config(Areas::default())));
        let areas = AreaHashes::new(&[0xa0a1_a2a3, 5, 6]).unwrap();
        let swapped = Report { config_hash: 1, areas, ..ours.clone() };
        assert_eq!(ours.differs(&swapped), Some(Difference::Config(Areas::of(&[1, 2]))));
        // A release that hashes more areas has another hash over everything.
        let areas = AreaHashes::new(&[0xa0a1_a2a3, 0xb0b1_b2b3, 0xc0c1_c2c3, 9]).unwrap();
        assert_eq!(ours.differs(&Report { config_hash: 1, areas, ..ours.clone() }), None);
        let database = Report { databases: [1, 2, 0, 4], ..ours.clone() };
        assert_eq!(ours.differs(&database), Some(Difference::Database(2)));
    }

    #[test]
    fn an_echo_of_another_incarnation_or_of_the_future_is_none() {
        let beat = sample().beat;
        let ours = Incarnation(5 << 32);
        assert_eq!(beat.echo_age(ours, Micros(5_100)), Some(Micros(100)));
        assert_eq!(beat.echo_age(ours, Micros(4_999)), None);
        assert_eq!(beat.echo_age(Incarnation(1), Micros(5_100)), None);
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_again(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), sane: bool) {
            if sane && bytes.len() >= WIRE_SIZE {
                bytes[..WIRE_SIZE].copy_from_slice(&sample().encode());
            }
            if let Ok(heartbeat) = Heartbeat::decode(&bytes) {
                let again = heartbeat.encode();
                prop_assert_eq!(Heartbeat::decode(&again), Ok(heartbeat));
            }
        }
    }
}
