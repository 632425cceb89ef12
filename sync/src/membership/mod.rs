//! Who is active: the one decision maker of a node, a pure function of its state and an event.
//!
//! [`step`] takes the state, one event and the time, and returns the state and what is to be done. It
//! reads no clock, draws no number and sends nothing, so the same function runs in the daemon, in the
//! simulator and in the model check.
//!
//! # Rules that keep two nodes from forwarding at once
//! 1. A node becomes active in one of three ways only: the partner was *silent* on all paths for the dead
//!    time; the partner, not active itself, *votes* for it; the active partner *grants* it the role. A new
//!    incarnation is never active by what it remembers.
//! 2. Silence counts only for a node that is *armed*: the partner confirmed, after this node became ready,
//!    that its workers' lease is finite. Who is not armed waits for the boot delay. Silence is counted
//!    from the end of an own stall, and a stalled node drains its queues before it judges.
//! 3. A node whose lease ran out forwards again only when the partner answered a heartbeat sent after that
//!    and is not active, or is silent.
//! 4. Votes and grants are worth something only as long as the partner cannot yet have given up on us:
//!    both are dated by the echo of the receiver's own clock. A node that votes cannot be voted for.
//! 5. A term belongs to one node for ever (parity), and is written down before it is needed.
//!
//! What is left is a partition: then both forward, each for its own side, and the contest ends it.
//!
//! ```text
//!           heard active            complete                 silence | vote | grant
//!   init ───────────────► syncing ◄─────────► standby ─────────────────────────────► active
//!     │ boot delay           ▲  own ports or gateways        lost a contest, a grant    │
//!     └──────────────► active │ └──────► isolated / fault ◄──── or the ability to ◄─────┘
//!                             └── recovering (restarted, copies its table back)  forward
//! ```

mod config;
mod contest;
mod event;
mod follow;
mod handover;
mod lead;
mod merge;
mod quality;
mod relative;
mod state;
#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, OnActiveRestart};
pub use contest::{ACTIVITY_FACTOR, Contender, Standing, first_wins};
pub use event::{Cause, Command, Effect, Event, Fitness, Forwarding, Loss, Notice, Presence, Refusal};
pub use merge::{MergeVerdict, StaleVerdict, after_stale_takeover, merge};
pub use quality::{Monitor, quality};
#[doc(hidden)]
pub use relative::Origin;
pub use state::State;

use crate::ids::{Micros, Term};

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// Just started: listens.
    Init = 0,
    /// Standby whose copy is not complete yet.
    Syncing = 1,
    /// Ready to take over.
    Standby = 2,
    /// Forwards.
    Active = 3,
    /// Cut off from the networks it should serve.
    Isolated = 4,
    /// Cannot forward: a stuck worker, a port that failed.
    Fault = 5,
    /// Restarted as the former active; gets its table back from the partner first.
    Recovering = 6,
}

impl Role {
    /// All of them, by their number on the wire.
    pub const ALL: [Self; 7] = [
        Self::Init,
        Self::Syncing,
        Self::Standby,
        Self::Active,
        Self::Isolated,
        Self::Fault,
        Self::Recovering,
    ];

    /// The role behind a number.
    #[must_use]
    pub fn from_wire(raw: u8) -> Option<Self> {
        Self::ALL.get(usize::from(raw)).copied()
    }

    /// The name that operators see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Syncing => "syncing",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Isolated => "isolated",
            Self::Fault => "fault",
            Self::Recovering => "recovering",
        }
    }
}

/// How good a standby's copy of the sessions is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Mirror {
    /// Nothing.
    None = 0,
    /// Some of it.
    Partial = 1,
    /// Was complete when the sync link went down.
    Stale = 2,
    /// Proven equal and kept up to date.
    Complete = 3,
}

impl Mirror {
    /// The state behind a number.
    #[must_use]
    pub fn from_wire(raw: u8) -> Option<Self> {
        [Self::None, Self::Partial, Self::Stale, Self::Complete].get(usize::from(raw)).copied()
    }
}

/// Where a node is in handing over the role, as it shows it to the partner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Nowhere.
    Idle,
    /// Asks the active node to hand over.
    Request,
    /// The active node asks its partner to get ready.
    Prepare,
    /// The partner is ready.
    Prepared,
    /// The active node stopped; the partner may claim `term` until its own clock reads `until`.
    Grant {
        /// The term that is granted.
        term: Term,
        /// In the clock of the node to which it is granted.
        until: Micros,
    },
    /// The active node will not hand over now.
    Refused,
}

impl Phase {
    /// As three numbers.
    #[must_use]
    pub const fn to_wire(self) -> (u8, Term, Micros) {
        match self {
            Self::Idle => (0, Term::ZERO, Micros(0)),
            Self::Request => (1, Term::ZERO, Micros(0)),
            Self::Prepare => (2, Term::ZERO, Micros(0)),
            Self::Prepared => (3, Term::ZERO, Micros(0)),
            Self::Grant { term, until } => (4, term, until),
            Self::Refused => (5, Term::ZERO, Micros(0)),
        }
    }

    /// The phase behind the numbers.
    #[must_use]
    pub const fn from_wire(raw: u8, term: Term, until: Micros) -> Option<Self> {
        match raw {
            0 => Some(Self::Idle),
            1 => Some(Self::Request),
            2 => Some(Self::Prepare),
            3 => Some(Self::Prepared),
            4 => Some(Self::Grant { term, until }),
            5 => Some(Self::Refused),
            _ => None,
        }
    }
}

/// The decision maker: one event at `now` changes the state and asks for effects, in this order.
///
/// The caller hands in what arrived before it hands in a [`Event::Tick`], and calls at the latest at
/// [`State::deadline`]. Time that runs backwards is taken as standing still.
#[must_use]
pub fn step(mut state: State, event: Event, now: Micros) -> (State, Vec<Effect>) {
    let effects = state.advance(event, now);
    (state, effects)
}
