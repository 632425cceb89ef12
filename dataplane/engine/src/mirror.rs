//! Sessions on their way between two nodes' tables: what a record says, in the engine's own words.
//!
//! Applying is idempotent and ordered by version (decision 17): never older over newer, and of two sessions
//! that claim the same key the newer one stays (decision 22). A mirrored session is stored in its final
//! form, bound to rule and next hops, under the sender's version; it carries a lifetime, not a deadline, and
//! nothing on this node ends it before a takeover (decisions 26, 8).

use crate::ids::{GroupId, RuleId, ZoneId};
use crate::session;
use crate::table::{SessionView, Slot, flags};
use crate::time::Ticks;
use crate::track::{TcpConn, Timeouts, tcp};
use wire::{FlowKey, Proto};

/// A session as the other node's record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Imported {
    /// Key of packets from the initiator and from the responder.
    pub keys: [FlowKey; 2],
    /// term:20 | counter:44.
    pub version: u64,
    /// The rule that admitted it.
    pub rule: RuleId,
    /// The low half of the policy generation under which it did, at the sender.
    pub generation: u16,
    /// Zone of the initiator and of the responder.
    pub zones: [ZoneId; 2],
    /// The traffic group.
    pub group: GroupId,
    /// What is left of its life if no further packet comes.
    pub remaining_ms: u32,
    /// Where the protocol stands.
    pub state: ImportedState,
    /// Bytes from the initiator and from the responder, modulo 2^48; 0 if not told.
    pub bytes: [u64; 2],
    /// Packets, modulo 2^32.
    pub packets: [u32; 2],
}

/// Where a session's protocol stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportedState {
    /// A TCP connection.
    Tcp {
        /// Its numbers.
        conn: TcpConn,
        /// Nothing is in flight: the numbers are exact (decision 39).
        idle: bool,
    },
    /// Any other protocol: the tracker's state byte.
    Flow(u8),
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Import {
    /// It is stored.
    Stored {
        /// Where.
        slot: Slot,
        /// Older sessions that had one of its keys: they are gone.
        displaced: [Option<Slot>; 2],
    },
    /// A session with one of its keys and the same or a newer version stays.
    Held {
        /// Where.
        slot: Slot,
        /// Its version.
        version: u64,
    },
    /// It cannot be taken.
    Refused(ImportRefused),
}

/// Why a record cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportRefused {
    /// No free slot.
    Full,
    /// A zone that no port of this node has.
    UnknownZone,
    /// What this release does not track: a routing domain, a handshake under way, a reply key that is no
    /// reply's.
    Unsupported,
    /// This node is active itself.
    NotMirroring,
}

/// What became of a delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// The session is gone.
    Removed(Slot),
    /// It stays: another version than the one that was to go, or this node is active itself.
    Held {
        /// Where.
        slot: Slot,
        /// Its version.
        version: u64,
    },
    /// There is no session that this initiator's key names.
    Absent,
}

/// What became of a session that the other node offers after a split (decision 35).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adoption {
    /// It was missing, and lives here from now on.
    Inserted(Slot),
    /// It took the place of this node's copy.
    Replaced(Slot),
    /// This node's copy stays, or another session with one of its keys.
    Kept(Slot),
    /// It cannot be taken.
    Refused(AdoptionRefused),
}

/// Why a session is not taken after a split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdoptionRefused {
    /// This node is not active: the other one's sessions are mirrored, not merged.
    NotActive,
    /// What this release does not track.
    Unsupported,
    /// No rule or no route here lets it in.
    NotAdmitted,
    /// No free slot.
    Full,
}

impl Imported {
    /// A session of this node's as the other node is to hear of it.
    pub fn of(view: &SessionView, now: Ticks, timeouts: &Timeouts) -> Imported {
        let state = match view.tcp() {
            Some((conn, idle)) => ImportedState::Tcp { conn, idle },
            None => ImportedState::Flow(view.state as u8),
        };
        Imported {
            keys: view.keys,
            version: view.version,
            rule: view.binding.rule,
            generation: view.binding.generation,
            zones: view.binding.zones,
            group: view.path.group,
            remaining_ms: view.remaining_ms(now, timeouts),
            state,
            bytes: view.bytes,
            packets: view.packets,
        }
    }

    /// The tracker's words; `None` if this release cannot track it.
    pub(crate) fn packed(&self) -> Option<([u64; 4], u32)> {
        let [forward, reply] = &self.keys;
        let same = (forward.proto(), forward.is_v6(), forward.vrf()) == (reply.proto(), reply.is_v6(), 0);
        // An IPv6 reply's key is not stored: it follows from the initiator's.
        let can_reply = !forward.is_v6() || *reply == forward.reversed();
        if !same || !can_reply || reply.vrf() != 0 || forward == reply {
            return None;
        }
        match self.state {
            ImportedState::Tcp { conn, idle } if forward.proto() == Proto::TCP => {
                (!conn.state.is_half_open()).then(|| conn.taken_over(idle).pack())
            }
            ImportedState::Flow(state) if forward.proto() != Proto::TCP => Some(([0; 4], state.into())),
            _ => None,
        }
    }
}

impl SessionView {
    /// True if the other node is to have this session: its rule says so, it is old enough, its handshake is
    /// complete.
    pub fn is_replicable(&self) -> bool {
        self.path.flags & (flags::REPLICATE | flags::YOUNG) == flags::REPLICATE
            && session::is_replicated(self.keys[0].proto(), self.state)
    }

    /// A TCP session's connection, and whether its numbers are exact because nothing is in flight.
    pub fn tcp(&self) -> Option<(TcpConn, bool)> {
        (self.keys[0].proto() == Proto::TCP)
            .then(|| (TcpConn::unpack(&self.windows, self.state).told(), tcp::is_idle(self.state)))
    }

    /// What is left of its life if no further packet comes.
    pub fn remaining_ms(&self, now: Ticks, timeouts: &Timeouts) -> u32 {
        let timeout_ms = session::timeout_ms(self.keys[0].proto(), self.state, timeouts);
        timeout_ms.saturating_sub(now.since(self.last_seen))
    }
}
