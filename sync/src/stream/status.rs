//! What an operator and the other machines may know of a stream.

use super::Refused;
use crate::ids::{Micros, SessionHandle, Term};

/// What a scrubber found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A session in memory is not what was applied.
    Changed,
    /// A session that was applied is not in memory.
    Dropped,
    /// A session is in memory that was never applied.
    Added,
    /// Active node: a change whose mark was lost.
    Unmarked,
}

/// Groups of 256 buckets: a set of numbers of one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Groups([u64; 4]);

impl Groups {
    /// These.
    #[must_use]
    pub fn of(groups: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self::default();
        for group in groups {
            set.0[usize::from(group >> 6)] |= 1 << (group & 63);
        }
        set
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |group| self.0[usize::from(group >> 6)] & 1 << (group & 63) != 0)
    }

    /// As words, the lowest numbers first.
    #[must_use]
    pub const fn to_words(self) -> [u64; 4] {
        self.0
    }

    /// From words.
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }
}

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// All sessions are being sent.
    BulkBegan,
    /// All sessions were sent and the digests are equal.
    BulkDone {
        /// Sessions that were sent in the bulk.
        sessions: u32,
        /// From beginning to proof.
        took: Micros,
    },
    /// Differences are being repaired.
    RepairBegan {
        /// Buckets that are to be gone through.
        buckets: u32,
    },
    /// The digests are equal again.
    Repaired {
        /// Buckets that were gone through.
        buckets: u32,
        /// Sessions that were sent again, and deletes.
        sessions: u32,
        /// Bytes of all datagrams meanwhile.
        bytes: u64,
        /// From beginning to proof.
        took: Micros,
    },
    /// The scrubber found memory that is not what it should be; repair follows.
    Corrupt {
        /// Where.
        handle: SessionHandle,
        /// Its bucket.
        bucket: u16,
        /// How.
        damage: Damage,
    },
    /// A comparison of all digests has ended.
    Verified {
        /// Everything was equal.
        equal: bool,
        /// Buckets that were not.
        buckets: u32,
        /// Groups of buckets in which they are.
        groups: Groups,
        /// It was asked for.
        asked: bool,
    },
    /// Data of a term that is over came in and was refused. Once a term.
    LateTerm {
        /// Which.
        term: Term,
    },
    /// A session cannot be protected. Once until all of that reason are protected again.
    Unprotected {
        /// Why.
        reason: Refused,
    },
}

/// Records and bytes of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Their bytes, without headers.
    pub bytes: u64,
}

/// What was sent, by why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SentByKind {
    /// Sessions that the partner did not have.
    pub new: Amount,
    /// Sessions that it had.
    pub refresh: Amount,
    /// Deletes.
    pub delete: Amount,
    /// Again after a loss.
    pub lost: Amount,
    /// Because digests differ.
    pub repair: Amount,
    /// In a bulk.
    pub bulk: Amount,
}

/// Counters that only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// What was sent, by why.
    pub sent: SentByKind,
    /// Data datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of their bodies.
    pub bytes_sent: u64,
    /// Data datagrams given up and repaired.
    pub datagrams_lost: u64,
    /// Times that nothing was heard for a whole timeout.
    pub timeouts: u64,
    /// Acks sent.
    pub acks_sent: u64,
    /// Data datagrams taken.
    pub datagrams_received: u64,
    /// Records in them.
    pub records_received: u64,
    /// Sessions and deletes that owners applied.
    pub applied: u64,
    /// Sessions and deletes that were older than what an owner had, or the same.
    pub older_refused: u64,
    /// Sessions that a later delete had overtaken.
    pub buried: u64,
    /// Sessions that lost a key to a newer one (decision 22).
    pub displaced: u64,
    /// Datagrams refused: here before, or below the floor.
    pub refused_late: u64,
    /// Times that the partner's sequence was begun anew, since nothing but late datagrams came.
    pub astray: u64,
    /// Datagrams refused: further ahead than a sender may be.
    pub refused_ahead: u64,
    /// Datagrams refused: an owner's ring was full.
    pub refused_room: u64,
    /// Datagrams refused: no room for more tombstones.
    pub refused_tombstones: u64,
    /// Datagrams refused: no room to say which sessions could not be taken.
    pub refused_naks: u64,
    /// Datagrams refused: a term that is over.
    pub refused_late_term: u64,
    /// Datagrams refused: a term that has not begun here, or not for this node.
    pub refused_other_term: u64,
    /// Datagrams of the partner that never came.
    pub passed: u64,
    /// Records that this release does not know, or that were malformed.
    pub skipped: u64,
    /// Deletes whose bucket has to be asked about, because there was no room to keep them.
    pub deletes_unknown: u64,
    /// Changes that were the same as what was sent already.
    pub unchanged: u64,
    /// Readings that a busy owner spoiled.
    pub busy: u64,
    /// Mentions looked up.
    pub mentions: u64,
    /// Mentions that found no room and come again.
    pub mentions_dropped: u64,
    /// Sessions offered after a contest was lost, repetitions included.
    pub offered: u64,
    /// Offers of the loser that owners have answered.
    pub offers_taken: u64,
    /// Offers that found no room and come again.
    pub offers_dropped: u64,
    /// Comparisons of all digests that ended.
    pub rounds: u64,
    /// Handles that the scrubber looked at.
    pub scrubbed: u64,
    /// What it found.
    pub damaged: u64,
    /// Sessions that an owner stored otherwise than the record said.
    pub stored_otherwise: u64,
    /// Events that nobody fetched in time.
    pub events_dropped: u64,
}

/// A stream as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Age of the oldest change that is not known to be applied at the partner.
    pub lag_ms: u64,
    /// Sessions and deletes that wait to be sent, those in the source at the last turn included.
    pub dirty: u32,
    /// Sessions and deletes that are sent and not acknowledged.
    pub in_flight: u32,
    /// Sessions that the partner refused, by [`Refused`] minus one.
    pub refused: [u32; Refused::COUNT],
    /// All three together: what would be lost now.
    pub unprotected: u32,
    /// Handles that the bulk (or the count after a change of role) has passed, and all.
    pub bulk: Option<(u32, u32)>,
    /// Tombstones kept.
    pub tombstones: u32,
    /// Smoothed round trip, until an owner at the partner has applied.
    pub round_trip: Micros,
    /// Bytes of bodies a second at most, on the path that carries it now; 0 is no limit.
    pub byte_rate: u64,
    /// The rest.
    pub counters: Counters,
}
