//! What goes into the decision maker and what comes out.

use super::{Mirror, Role};
use crate::heartbeat::{Beat, Difference};
use crate::ids::{Incarnation, Micros, PathId, Term};
use crate::lease::RoleWord;

/// Whether the node can forward at all. Judged by data ports, gateways and workers, as a cached verdict
/// of continuous probes; never by the sync link, which goes down together with the partner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Forwarding {
    /// It can.
    Able,
    /// No data port is up, or no gateway answers.
    Isolated,
    /// A worker is stuck, or a port failed.
    Fault,
}

/// How fit the node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fitness {
    /// Whether it can forward.
    pub forwarding: Forwarding,
    /// Whether it runs a valid configuration: always a veto.
    pub config_valid: bool,
    /// 0..=100, see [`super::quality`].
    pub quality: u8,
    /// Sessions with traffic both ways since the partner was last heard.
    pub activity: u32,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// An authenticated heartbeat arrived; `differs` compares its report with ours.
    Heard {
        /// The path.
        path: PathId,
        /// What it says.
        beat: Beat,
        /// What keeps the nodes from being one pair.
        differs: Option<Difference>,
    },
    /// Keys with this incarnation of the partner are confirmed both ways.
    PeerConfirmed(Incarnation),
    /// The heartbeats asked for went out, on at least one path.
    BeatsSent,
    /// After a stall: all that waited in the receive queues has been handed in.
    Drained,
    /// An own link of a path changed.
    PathLink {
        /// The path.
        path: PathId,
        /// Whether it is up.
        up: bool,
    },
    /// The monitors' verdict.
    Fitness(Fitness),
    /// The state of the mirror on this node, while it is not active.
    Mirror(Mirror),
    /// On the active node: whether the partner's mirror is proven equal, with nothing unprotected.
    Proven(bool),
    /// A term is on stable storage.
    Persisted(Term),
    /// All workers confirmed the role of this term.
    Installed(Term),
    /// This node is ready to be handed the role: next hops resolved, policy frozen.
    TargetPrepared,
    /// All workers park their bursts.
    Parked,
    /// The partner applied the last deltas.
    Flushed,
    /// An operator's wish.
    Command(Command),
}

/// An operator's wish.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Move the role to the other node, without loss.
    Switchover,
    /// This node is to be active, whatever its quality.
    ForceActive,
    /// This node is never to be active.
    ForceStandby,
    /// Back to the rules.
    Unforce,
    /// This node is about to stop: the partner is told that it is no failure.
    Leave,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Send [`super::State::beat`] on every path now and report [`Event::BeatsSent`].
    SendBeats,
    /// Show this word to the workers.
    Role(RoleWord),
    /// Hand in all that waits in the receive queues, then [`Event::Drained`].
    DrainQueues,
    /// Write the term to stable storage, then [`Event::Persisted`].
    Persist(Term),
    /// Workers take the role of this term: they discard stale frames (heartbeats, ARP and ND are still
    /// read) and confirm, then [`Event::Installed`].
    Install(Term),
    /// Announce the owned addresses in a burst: the virtual MAC, gratuitous ARP, unsolicited NA.
    Attract,
    /// Announce them once, as done periodically.
    Announce,
    /// Get ready to be handed the role, then [`Event::TargetPrepared`].
    PrepareTarget,
    /// Workers park bursts, then [`Event::Parked`].
    Park,
    /// Workers go on with what they parked.
    Unpark,
    /// Send the last deltas, then [`Event::Flushed`] when they are applied.
    Flush,
    /// Send parked and stray frames to the partner's physical MAC until then.
    Redirect(Micros),
    /// Ask the partner for its mirror of our sessions.
    RequestMirror,
    /// Give the mirror back to the restarted partner.
    OfferMirror,
    /// Empty the mirror.
    DiscardMirror,
    /// Offer the sessions with traffic since the split to the winner of the contest.
    OfferMerge,
    /// Take the loser's offer in, in our term.
    AcceptMerge,
    /// Tell the operator.
    Notice(Notice),
}

/// Why a role changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// Nobody was there when the boot delay was over.
    BootDelay,
    /// The partner fell silent.
    Silence,
    /// The partner voted for it.
    Vote,
    /// The active partner handed over.
    Grant,
    /// The active partner restarted without its memory.
    PeerRestarted,
    /// Somebody knew a higher term: the same node goes on above it.
    Jump,
    /// A grant was not used: the same node goes on above it.
    Lapse,
    /// Cannot forward any more.
    Unfit,
    /// Lost the contest after a split.
    ContestLost,
    /// Was stalled, and the partner took over meanwhile.
    Outlived,
    /// A grant came too late to be used.
    TooLate,
    /// An operator wants it.
    Forced,
    /// The mirror, the partner or the own fitness changed.
    Followed,
}

/// Why something of the partner is gone (N-12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Loss {
    /// Nobody said that it would go.
    Failure,
    /// The partner had announced that it would stop.
    Maintenance,
}

impl Loss {
    /// The name that operators see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Maintenance => "maintenance",
        }
    }
}

/// The partner, as far as its being there goes (S-17).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Presence {
    /// It is heard.
    Here,
    /// It announced that it would stop, or did so not long ago.
    Restarting,
    /// It is not heard.
    Absent,
}

/// Why a switchover is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The partner is not heard.
    NoPartner,
    /// No node is active.
    NobodyActive,
    /// The partner is not standby.
    NotStandby,
    /// The partner's mirror is not proven equal.
    NotInSync,
    /// No sync link works, over which the nodes hear each other while bursts are parked.
    NoSyncLink,
    /// The partner cannot be active.
    PartnerUnfit,
    /// The nodes differ.
    Differs,
    /// Another one is under way.
    Busy,
    /// The active partner said no.
    ByPartner,
    /// Not in time.
    Timeout,
}

/// What an operator is told, each with a stable id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notice {
    /// The role changed.
    RoleChanged {
        /// What it was.
        from: Role,
        /// What it is.
        to: Role,
        /// Why.
        cause: Cause,
    },
    /// A path stopped carrying heartbeats.
    PathDown(PathId),
    /// A path carries heartbeats.
    PathUp(PathId),
    /// The partner says that it is about to stop.
    PeerLeaving,
    /// The partner is silent on all paths.
    PeerGone(Loss),
    /// The partner stopped on purpose, and has not come back for so long that it does not restart.
    PeerAbsent,
    /// The partner is heard again.
    PeerBack,
    /// The partner restarted.
    PeerRestarted,
    /// No path carries session sync while the partner lives.
    SyncLost(Loss),
    /// Session sync has a path again.
    SyncBack,
    /// Both nodes are active.
    ConflictBothActive,
    /// The conflict ended for this node.
    ContestWon,
    /// Took over with a mirror that was not kept up to date.
    StaleMirror,
    /// Took over with an incomplete mirror.
    IncompleteMirror,
    /// Claimed a term that is not on stable storage.
    TermNotPersisted,
    /// No terms are left.
    TermsExhausted,
    /// This node was away that long.
    OwnStall(Micros),
    /// The lease ran out: forwards nothing until the partner's state is known.
    Fenced,
    /// The partner is silent, but this node is the one that is cut off or unfit.
    TakeoverVetoed,
    /// The own mirror is of another lineage and was discarded.
    OtherLineage,
    /// Announced before all workers confirmed.
    Unconfirmed,
    /// A switchover was refused.
    SwitchoverRefused(Refusal),
    /// A switchover was called off or its grant lapsed.
    SwitchoverLapsed,
    /// The nodes differ.
    Differs(Difference),
    /// They do not differ any more.
    Agrees,
}

impl Notice {
    /// The id that logs, events and monitoring use. It never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::RoleChanged { .. } => "role_changed",
            Self::PathDown(_) => "path_down",
            Self::PathUp(_) => "path_up",
            Self::PeerLeaving => "peer_leaving",
            Self::PeerGone(_) => "peer_gone",
            Self::PeerAbsent => "peer_absent",
            Self::PeerBack => "peer_back",
            Self::PeerRestarted => "peer_restarted",
            Self::SyncLost(_) => "hasync_connection_failed_timeout",
            Self::SyncBack => "hasync_connection_restored",
            Self::ConflictBothActive => "conflict_both_peers_active",
            Self::ContestWon => "conflict_resolved",
            Self::StaleMirror => "takeover_stale_mirror",
            Self::IncompleteMirror => "takeover_incomplete_mirror",
            Self::TermNotPersisted => "term_not_persisted",
            Self::TermsExhausted => "terms_exhausted",
            Self::OwnStall(_) => "own_stall",
            Self::Fenced => "lease_expired",
            Self::TakeoverVetoed => "takeover_vetoed",
            Self::OtherLineage => "mirror_other_lineage",
            Self::Unconfirmed => "announced_unconfirmed",
            Self::SwitchoverRefused(_) => "switchover_refused",
            Self::SwitchoverLapsed => "switchover_lapsed",
            Self::Differs(_) => "pair_differs",
            Self::Agrees => "pair_agrees",
        }
    }
}
