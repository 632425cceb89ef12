//! Heartbeats: what they say, how they lie on the wire, and what their arrival proves.
//!
//! A heartbeat is state, not a command: it says all that the other node must know, so that any one that
//! arrives makes up for all that were lost. Handing over the role works the same way: each side shows the
//! phase that it is in, and a lost datagram costs a repetition, never a wrong turn.
//!
//! The layout is fixed, big-endian, without padding; sealing it is the caller's. Bytes behind the known
//! part are skipped, so that a later release may say more.

mod areas;
mod paths;
mod progress;
mod wire;

pub use areas::{AreaHashes, Areas, MAX_AREAS};
pub use paths::{Echo, Path};
pub use progress::ProgressWatch;
pub use wire::{DecodeError, WIRE_SIZE};

use crate::ids::{GroupId, Incarnation, Micros, NodeId, PathId, Term};
use crate::membership::{Mirror, Phase, Role, Standing};
use crate::stream::Groups;

/// Workers whose progress words a heartbeat can carry.
pub const MAX_WORKERS: usize = 32;
/// Tables whose digests a heartbeat carries.
pub const TABLES: usize = 4;
/// Kinds of sessions that a heartbeat counts.
pub const PROTOCOLS: usize = 4;
/// Databases whose versions a heartbeat carries.
pub const DATABASES: usize = 4;

/// One heartbeat, on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender.
    pub node: NodeId,
    /// The path it was sent on.
    pub path: PathId,
    /// The traffic group it speaks of.
    pub group: GroupId,
    /// What the election reads.
    pub beat: Beat,
    /// What else the partner wants to know.
    pub report: Report,
}

/// The part of a heartbeat that the election reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Beat {
    /// Who says it and when: incarnation, number (one round over all paths has one number), own clock.
    pub said: Echo,
    /// What the sender heard last from the receiver on this path.
    pub echo: Echo,
    /// What the sender is and wants.
    pub claim: Claim,
}

/// What a node is and wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// The role.
    pub role: Role,
    /// The term of the active node that it is or follows.
    pub term: Term,
    /// The highest term that it knows of.
    pub seen: Term,
    /// The term that it will claim if it becomes active.
    pub reserve: Term,
    /// The partner's reserved term if the sender, not active itself, wants the partner to claim it.
    pub vote: Option<Term>,
    /// Whether it may be active at all: can forward, valid configuration, not told to stand by.
    pub able: bool,
    /// Whether it would take over if the receiver fell silent.
    pub may_take_over: bool,
    /// Whether its workers' lease ends (or would end) by itself, since it knows that the receiver may
    /// take over.
    pub fenced: bool,
    /// Whether the configuration prefers it.
    pub preferred: bool,
    /// Whether an operator forced it to be active.
    pub forced_active: bool,
    /// Whether it is about to stop on purpose, to come back or not.
    pub leaving: bool,
    /// How good its copy of the sessions is.
    pub mirror: Mirror,
    /// 0..=100, how fit it is.
    pub quality: u8,
    /// Where it is in handing over the role.
    pub phase: Phase,
    /// What it puts into the scales of a contest, frozen when it noticed the conflict.
    pub contest: Option<Standing>,
}

/// What a heartbeat reports besides the election.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The wire version that the sender speaks.
    pub wire_version: u16,
    /// The oldest one that it still understands.
    pub wire_oldest: u16,
    /// Hash of the part of the configuration that must be equal.
    pub config_hash: u64,
    /// The same for each area of it; none from a release that does not tell.
    pub areas: AreaHashes,
    /// Generation of the policy.
    pub policy_generation: u32,
    /// Versions of the databases.
    pub databases: [u32; DATABASES],
    /// Digests of the replicated tables.
    pub digests: [u64; TABLES],
    /// Number of entries behind them.
    pub entries: [u32; TABLES],
    /// Sessions in the sender's table, those that it keeps to itself included: TCP, UDP, ICMP, others.
    pub held: [u32; PROTOCOLS],
    /// What an operator of the sender wants of the receiver.
    pub wishes: Wishes,
    /// What came of what the receiver wanted.
    pub verdict: Verdict,
    /// How many workers the sender runs.
    pub workers: u8,
    /// Their progress words.
    pub progress: [u32; MAX_WORKERS],
}

/// What the standby wants of the active node: numbers that grow with each wish, 0 for none yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Wishes {
    /// A comparison of all digests.
    pub verify: u16,
    /// Everything sent again.
    pub resync: u16,
}

/// What came of the partner's latest comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The wish, 0 for none.
    pub of: u16,
    /// Buckets that differed.
    pub differing: u32,
    /// Groups in which they are.
    pub groups: Groups,
}

/// What keeps two nodes from being one pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Difference {
    /// Neither understands the other's release.
    WireVersion,
    /// The configurations differ, in these areas; in none that is known if that is all that can be said.
    Config(Areas),
    /// A database differs, by its place in the report.
    Database(u8),
}

impl Report {
    /// The first difference that makes a standby not ready, if any. Digests are compared elsewhere: with
    /// traffic they differ at any one moment.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Option<Difference> {
        if self.wire_version < other.wire_oldest || other.wire_version < self.wire_oldest {
            return Some(Difference::WireVersion);
        }
        if let Some(areas) = self.differing_areas(other) {
            return Some(Difference::Config(areas));
        }
        let differing = self.databases.iter().zip(&other.databases).position(|(a, b)| a != b)?;
        Some(Difference::Database(differing as u8))
    }

    /// Where the configurations differ, if they do. The hash over everything counts between releases that
    /// hash the same areas only: one that knows more of them is no difference.
    fn differing_areas(&self, other: &Self) -> Option<Areas> {
        let areas = self.areas.differing(&other.areas);
        let (ours, theirs) = (self.areas.as_slice().len(), other.areas.as_slice().len());
        let comparable = ours == theirs || ours == 0 || theirs == 0;
        (!areas.is_empty() || comparable && self.config_hash != other.config_hash).then_some(areas)
    }
}

impl Beat {
    /// How old our heartbeat is that this one echoes; `None` if it echoes none of `ours`. A clock from our
    /// own future is no echo either.
    #[must_use]
    pub fn echo_age(&self, ours: Incarnation, now: Micros) -> Option<Micros> {
        let known = self.echo.incarnation == ours && self.echo.number > 0 && self.echo.clock <= now;
        known.then(|| now.since(self.echo.clock))
    }
}
