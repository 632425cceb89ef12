//! Where the stream touches the session tables (decision 13).
//!
//! Both sides address sessions by handle (a worker and a slot). A key is known only to the worker that owns
//! it: everything that must be looked up by key goes through the owner's ring and comes back as an
//! [`Outcome`].

use crate::ids::{GroupId, SessionHandle, Version};
use crate::record::{Key, Record, Session};

/// What a session is at the moment of reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// As it stands.
    Session(Session),
    /// The slot is free, or holds a session that is not replicated: local, half-open, too young.
    Nothing,
    /// Its owner writes it all the time: to be read again later.
    Busy,
}

/// A replicated session that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Where it was. The slot may have another tenant by now.
    pub handle: SessionHandle,
    /// Its initiator's key.
    pub key: Key,
    /// Above every version that it ever had.
    pub version: Version,
    /// Its traffic group.
    pub group: GroupId,
}

/// The node's own sessions, as the sync core may see them: pulled, never pushed.
pub trait Source {
    /// All handles are below this number. It never changes.
    fn handles(&self) -> u32;
    /// The next session that its worker marked as changed. The mark is cleared before this returns, so a
    /// change after that marks it again (decision 3).
    fn next_changed(&mut self) -> Option<SessionHandle>;
    /// The next replicated session that ended (decision 20).
    fn next_ended(&mut self) -> Option<Ended>;
    /// How many ends found no room since the start. More than at the last look: digests must find them.
    fn ends_lost(&self) -> u64;
    /// How many changed sessions and ends wait, roughly: what is not yet protected.
    fn waiting(&self) -> u32;
    /// How many rounds the owners made: it grows when every one of them has ended what it was at when it
    /// grew last. What is read in one round is marked at the latest when the next but one begins.
    fn rounds(&mut self) -> u64;
    /// A consistent copy of a session.
    fn read(&mut self, handle: SessionHandle) -> Reading;
    /// The same of a session of which packets were seen since the nodes lost each other, and of no other
    /// one; `two_way` says whether they came from both ends since (decision 35).
    fn since_split(&mut self, _handle: SessionHandle) -> Reading {
        Reading::Nothing
    }
}

/// What the stream wants to know again when the owner has acted. The owner hands it back unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    /// Which datagram, or whatever else the stream likes.
    pub seq: u64,
    /// The record's digest, or whatever else.
    pub word: u64,
}

/// Why an owner could not take a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Refused {
    /// Its table is full.
    Full = 1,
    /// A zone that this node does not have.
    UnknownZone = 2,
    /// A protocol or address family that this release does not track.
    Unsupported = 3,
    /// This node is active itself: nobody writes into its table.
    NotMirroring = 4,
}

impl Refused {
    /// How many reasons there are.
    pub const COUNT: usize = 4;

    /// Back from the wire.
    #[must_use]
    pub const fn from_wire(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Full,
            2 => Self::UnknownZone,
            3 => Self::Unsupported,
            4 => Self::NotMirroring,
            _ => return None,
        })
    }
}

/// What an owner did with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// A session is stored as the record says.
    Installed {
        /// Where.
        handle: SessionHandle,
        /// Other sessions that had one of its two keys and an older version: they are gone (decision 22).
        displaced: [Option<SessionHandle>; 2],
    },
    /// The owner holds the key in this version, which is the record's or newer: nothing was changed. Also
    /// the answer to a mention of a key that is held.
    Held {
        /// Where.
        handle: SessionHandle,
        /// In which version.
        version: Version,
    },
    /// The session is deleted.
    Deleted {
        /// Where it was.
        handle: SessionHandle,
    },
    /// There is no session with this key: the answer to a delete or a mention.
    Absent,
    /// It cannot be taken.
    Refused(Refused),
}

/// The answer to a record that was handed over, in the order of handing over for each owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// As handed over.
    pub tag: Tag,
    /// What came of it.
    pub applied: Applied,
}

/// The owners of the node's sessions, as the sync core reaches them.
pub trait Sink {
    /// Hands a record to its owner: a session to store, a delete to carry out, a mention to look up. False
    /// if the owner's ring is full: nothing was taken, and the caller comes again (decision 13).
    #[must_use]
    fn hand(&mut self, record: &Record, tag: Tag) -> bool;
    /// Offers a session of the other node to its owner here, on a node that is active itself and won a
    /// contest (decision 35): inserted if it is missing and a rule admits it, kept or replaced if not. Any
    /// outcome will do. False if the owner's ring is full: it is offered again.
    #[must_use]
    fn adopt(&mut self, _session: &crate::record::Session, _tag: Tag) -> bool {
        false
    }
    /// How many more records the fullest owner's ring takes.
    fn room(&self) -> u32;
    /// The next outcome.
    fn next_outcome(&mut self) -> Option<Outcome>;
    /// What an owner holds at a handle, for the scrubber: only mirrored sessions count on a node that is
    /// not active.
    fn held(&mut self, handle: SessionHandle) -> Reading;
    /// Asks all owners to drop every mirrored session, in bounded steps of their own.
    fn purge(&mut self);
    /// True while a purge is under way. Records handed over meanwhile are applied after it.
    fn purging(&self) -> bool;
}
