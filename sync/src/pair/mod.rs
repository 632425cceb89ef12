//! One node of a pair, whole: keys, heartbeats, the decision maker and the stream behind one door.
//!
//! Daemon and simulator drive the same machine. Datagrams, links, commands and the time go in; datagrams
//! and effects come out through a [`Host`], which also lends the session tables. The contract:
//!
//! 1. [`Pair::handle`] for everything that waits in the receive queues, then [`Pair::turn`]; the latter at
//!    the latest at [`Pair::deadline`], and whenever tables may have news.
//! 2. A host answers [`Order::Persist`], [`Order::Install`], [`Order::PrepareTarget`] and [`Order::Park`]
//!    with the matching [`Pair::report`], when it is done and not before.
//!
//! ```text
//!   datagram ─► Keys ─┬─ heartbeat ─► membership ─► orders: role word, install, announce …
//!                     ├─ data, ack ─► Stream ◄───► Source, Sink (the tables)
//!                     └─ probe ─────► paths: which sizes pass, how long it takes
//! ```

mod machine;
mod path;
mod split;
mod status;
#[cfg(test)]
mod tests;
mod wishes;

pub use machine::Pair;
pub use path::PathStatus;
pub use split::Split;
pub use status::PairStatus;

use crate::heartbeat::Difference;
use crate::ids::{GroupId, Micros, PathId, Term};
use crate::keys;
use crate::lease::RoleWord;
use crate::membership::{self, Notice};
use crate::stream::{self, Sink, Source};
use std::sync::Arc;

/// One way to the partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathConfig {
    /// Bytes of UDP payload that the own link takes.
    pub datagram_max: usize,
    /// Bytes of sessions a second that it is used for at most; 0 is no limit. For paths that are shared.
    pub byte_rate: u64,
}

/// What a machine is made of. The membership's `paths` say which of them carry sessions.
pub struct PairConfig {
    /// The decision maker's settings.
    pub membership: Arc<membership::Config>,
    /// By [`PathId`], as many as the membership knows.
    pub paths: Vec<PathConfig>,
    /// The stream's settings.
    pub stream: stream::Config,
    /// The traffic group.
    pub group: GroupId,
    /// The term on stable storage, [`Term::ZERO`] if there is none.
    pub persisted: Term,
}

/// What the machine asks its host to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Show this word to the workers.
    Role(RoleWord),
    /// Write the term to stable storage, then [`Report::Persisted`].
    Persist(Term),
    /// Workers take the role of this term and discard stale frames, then [`Report::Installed`].
    Install(Term),
    /// Announce the owned addresses in a burst.
    Attract,
    /// Announce them once.
    Announce,
    /// Resolve next hops and freeze the policy, then [`Report::TargetPrepared`].
    PrepareTarget,
    /// Workers park their bursts, then [`Report::Parked`].
    Park,
    /// Workers go on with what they parked.
    Unpark,
    /// Send parked and stray frames to the partner's physical MAC address until then.
    Redirect(Micros),
    /// A split begins or ends: while it lasts, note from which ends sessions have traffic.
    Split(Split),
    /// Tell the operator.
    Notice(Notice),
    /// Tell the operator about the stream.
    Stream(stream::Event),
    /// Tell the operator about the keys.
    Keys(keys::Event),
    /// Tell the operator that a path takes smaller datagrams than its link promises, in bytes of payload.
    PathSize {
        /// The path.
        path: PathId,
        /// What passes.
        size: usize,
        /// What the own link promises.
        expected: usize,
    },
}

/// What a host reports to the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A term is on stable storage.
    Persisted(Term),
    /// All workers took the role of this term.
    Installed(Term),
    /// Ready to be handed the role.
    TargetPrepared,
    /// All workers park.
    Parked,
    /// An own link changed.
    Link {
        /// The path.
        path: PathId,
        /// Whether it is up.
        up: bool,
    },
    /// The monitors' verdict.
    Fitness(membership::Fitness),
    /// An operator's wish.
    Command(membership::Command),
    /// Compare both tables now; a standby asks the active node, and is told what came of it.
    Verify,
    /// Send everything again; a standby asks the active node.
    Resync,
}

/// The node around the machine.
pub trait Host {
    /// The sessions that it owns.
    type Source: Source;
    /// Their owners.
    type Sink: Sink;
    /// Both.
    fn tables(&mut self) -> (&mut Self::Source, &mut Self::Sink);
    /// Sends a datagram on a path. False if it certainly did not leave.
    fn send(&mut self, path: PathId, datagram: &[u8]) -> bool;
    /// Does something, or begins to.
    fn carry_out(&mut self, order: Order);
    /// The role is about to come, with a mirror that was kept up to date until so long ago: with 0, until
    /// the end (decision 36). Comes before [`Order::Install`].
    fn mirror_age(&mut self, _age: Micros) {}
    /// What keeps the two from being one pair, as the partner's last heartbeat shows it. Comes before
    /// anything else of that heartbeat takes effect.
    fn differs(&mut self, _difference: Option<Difference>) {}
    /// What the node says of itself in its heartbeats; digests are the machine's.
    fn describe(&self) -> crate::heartbeat::Report;
}
