//! The stream between the nodes: what the active node's sessions look like on the standby, and the proof
//! that they do.
//!
//! The machine pulls changed sessions through a [`Source`] and hands received ones to their owners through
//! a [`Sink`]. Neither ever blocks: a source says that it has nothing now, a sink that its ring is full.
//!
//! ```text
//!  active                                                             standby
//!  Source ──► transmit: deletes > new > refresh > lost > repair > bulk ──► data ──► Sink (owners)
//!     ▲            │ names of what is under way (flight)                    │           │ outcomes
//!     └─ marks ◄── ack ◄─────────────── applied through, bitmap, naks ◄─────┴───────────┘
//!
//!  bulk ──► verify ──► proven          digests by group, then by bucket; a difference is asked about
//!             ▲  └──► mend ──┐         (mentions), answered by exact deletes and by sending again
//!             └──────────────┘
//! ```
//!
//! One sequence space for everything (decision 19), restarted by nothing in the life of a process: a
//! partner that begins in the middle learns the floor from any datagram. The machine never keeps bytes of
//! sessions; everything that it must remember of one is a bit in [`marks`] or 16 bytes in [`digest`].

mod acked;
mod compare;
mod config;
mod digest;
mod flight;
mod hash;
mod marks;
mod mend;
mod merge;
mod message;
mod outcome;
mod phase;
mod receive;
mod scrub;
mod seam;
mod status;
#[cfg(test)]
mod tests;
mod tombstones;
mod transmit;
mod verify;
mod window;

use std::collections::VecDeque;

pub use config::Config;
pub use seam::{Applied, Ended, Outcome, Reading, Refused, Sink, Source, Tag};
pub use status::{Amount, Counters, Damage, Event, Groups, SentByKind, Status};

use self::digest::Table;
use self::hash::Hasher;
use self::merge::Merge;
use self::phase::Leader;
use self::receive::Follower;
use self::scrub::Scrub;
use crate::ids::{Incarnation, Micros, Term};
use crate::membership::Mirror;

/// The partner, as this node's other machines know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Not heard.
    Absent,
    /// Alive.
    Here {
        /// Its process. The one that was here before still has its memory.
        incarnation: Incarnation,
    },
}

/// What this node does in the stream: nothing, until it is told what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Resting,
    Leading,
    Following,
}

/// Events that wait to be fetched, at most.
const MAX_EVENTS: usize = 256;

/// One node's end of the stream.
#[derive(Debug)]
pub struct Stream {
    config: Config,
    hasher: Hasher,
    table: Table,
    role: Role,
    term: Term,
    /// Grows with each change of role or term: outcomes of an earlier one are told apart by it.
    epoch: u8,
    partner: Option<Incarnation>,
    here: bool,
    link: bool,
    lead: Leader,
    follow: Follower,
    scrub: Scrub,
    merge: Merge,
    counters: Counters,
    events: VecDeque<Event>,
    late_term_told: bool,
}

impl Stream {
    /// A stream that rests. All handles of source and sink are below `handles`; memory for them is taken
    /// here and never again.
    #[must_use]
    pub fn new(config: Config, digest_key: [u8; 16], handles: u32, now: Micros) -> Self {
        let config = Config { max_body: config.max_body.max(Config::LEAST_BODY), ..config };
        Self {
            config,
            hasher: Hasher::new(digest_key),
            table: Table::new(handles),
            role: Role::Resting,
            term: Term::ZERO,
            epoch: 0,
            partner: None,
            here: false,
            link: false,
            lead: Leader::new(&config, handles, now),
            follow: Follower::new(&config),
            scrub: Scrub::new(now),
            merge: Merge::new(handles),
            counters: Counters::default(),
            events: VecDeque::with_capacity(MAX_EVENTS),
            late_term_told: false,
        }
    }

    /// This node is active in `term`: it sends.
    pub fn lead(&mut self, term: Term, now: Micros) {
        if self.role == Role::Leading && self.term == term {
            return;
        }
        let was_leading = self.role == Role::Leading;
        self.change(Role::Leading, term);
        if was_leading {
            self.restart_proof(now);
        } else {
            self.table.reset();
            self.merge.clear();
            self.start_leading(now);
        }
    }

    /// This node mirrors the one that is active in `term`.
    pub fn follow(&mut self, term: Term, now: Micros) {
        if self.role == Role::Following && self.term == term {
            return;
        }
        let was_following = self.role == Role::Following;
        self.change(Role::Following, term);
        self.start_following(was_following, now);
    }

    fn change(&mut self, role: Role, term: Term) {
        self.role = role;
        self.term = term;
        self.next_epoch();
        self.late_term_told = false;
        self.scrub.clear();
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1) & outcome::EPOCH_MASK;
        // Epochs come round; outcomes do not stay away for that long.
        self.follow.discarded_in = self.follow.discarded_in.filter(|&epoch| epoch != self.epoch);
    }

    /// The partner was heard or lost. One that comes back in the same process is repaired where it
    /// differs, one in a new process gets everything.
    pub fn peer(&mut self, peer: Peer, now: Micros) {
        let was = self.connected();
        match peer {
            Peer::Absent => self.here = false,
            Peer::Here { incarnation } => {
                let new = self.partner != Some(incarnation);
                self.partner = Some(incarnation);
                self.here = true;
                if new {
                    self.new_partner(now);
                }
            }
        }
        self.connection_changed(was, now);
    }

    /// Whether some path carries the stream. While none does, nothing is sent and memory stays flat.
    pub fn link(&mut self, up: bool, now: Micros) {
        let was = self.connected();
        self.link = up;
        self.connection_changed(was, now);
    }

    const fn connected(&self) -> bool {
        self.here && self.link
    }

    fn new_partner(&mut self, now: Micros) {
        match self.role {
            Role::Leading => self.begin_bulk(now),
            Role::Following => self.begin_sequence(),
            Role::Resting => {}
        }
    }

    fn connection_changed(&mut self, was: bool, now: Micros) {
        let is = self.connected();
        match self.role {
            Role::Leading if was && !is => self.suspend(),
            Role::Leading if !was && is => self.resume(now),
            Role::Following if was && !is => self.follow.disconnected(),
            Role::Following if !was && is => self.follow.ack_by(now),
            _ => {}
        }
    }

    /// The largest body of a datagram changed.
    pub fn resize(&mut self, max_body: usize) {
        self.config.max_body = max_body.max(Config::LEAST_BODY);
    }

    /// Another path carries the stream: so many bytes of bodies a second at most, 0 for no limit.
    pub const fn pace(&mut self, byte_rate: u64) {
        self.config.byte_rate = byte_rate;
    }

    /// Drops every mirrored session here: they are of another lineage.
    pub fn discard(&mut self, sink: &mut impl Sink) {
        sink.purge();
        self.merge.clear();
        if self.role == Role::Following {
            self.table.reset();
            self.next_epoch();
            self.follow.discarded_in = Some(self.epoch);
            self.follow.discarded();
        }
    }

    /// How good this node's mirror is, while it follows.
    #[must_use]
    pub fn mirror(&self) -> Mirror {
        if self.role == Role::Following { self.follow.mirror() } else { Mirror::None }
    }

    /// The digest of everything emitted (leading) or held (following), and how many sessions are in it.
    #[must_use]
    pub const fn digest(&self) -> (u64, u32) {
        self.table.total()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.counters.events_dropped += 1;
        }
    }
}
