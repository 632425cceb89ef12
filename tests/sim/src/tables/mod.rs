//! A node's session tables, as the engine keeps them: one owner a shard, versions, dirty marks, a bounded
//! ring of ends, bounded rings of records to apply, and a lookup by both keys.
//!
//! This is a model of the engine, not the engine; what it promises is what the seam between stream and
//! tables asks for. Everything that it does to a session that the other node may know goes into a log, which
//! the checkers read: they never look at what the protocol believes.

mod seam;
mod traffic;
mod worker;

pub use seam::{Owners, Told};

use crate::hash::Map;
use crate::rng::Rng;
use std::collections::VecDeque;
use sync::ids::{GroupId, Micros, SessionHandle, Term, Version};
use sync::lease::RoleWord;
use sync::membership::Role;
use sync::pair::Split;
use sync::record::{Addresses, Key, Record, Session, Tuple};
use sync::stream::{Ended, Outcome, Tag};

/// The zone that no node has: a record of it cannot be taken.
pub const NO_ZONE: u8 = 99;

/// Whether and why a session is the other node's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// To be replicated.
    Plain,
    /// Its rule keeps it here.
    Local,
    /// Its handshake is under way.
    HalfOpen,
    /// Its rule asks for that age first.
    Young {
        /// In the node's clock.
        until: Micros,
    },
}

/// A session in its slot.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// As it would stand on the wire, `remaining` aside.
    pub session: Session,
    /// Whose business.
    pub class: Class,
    last_seen: Micros,
    timeout: Micros,
    told_at: Micros,
    /// When a packet came last from the initiator, and from the other end.
    heard: [Option<Micros>; 2],
    /// The mirror that it comes from was stale: the initiator has to speak first (decision 36).
    doubtful: bool,
}

impl Entry {
    const fn reply(&self) -> Key {
        reply_key(&self.session)
    }

    fn keys(&self) -> [Key; 2] {
        [self.session.key, self.reply()]
    }

    fn is_plain(&self) -> bool {
        self.class == Class::Plain
    }

    /// Whether packets came from both ends since then.
    fn is_two_way(&self, since: Micros) -> bool {
        self.heard.iter().all(|at| at.is_some_and(|at| at >= since))
    }

    /// Whether packets came since a split began: if so, whether from both ends since it was noticed.
    fn since_split(&self, split: Option<Split>) -> Option<bool> {
        let split = split.filter(|split| self.last_seen >= split.since)?;
        Some(self.is_two_way(split.noticed))
    }
}

/// The key of the replies of a session.
#[must_use]
pub const fn reply_key(session: &Session) -> Key {
    let tuple = match session.reply {
        Some(tuple) => tuple,
        None => session.key.tuple.reversed(),
    };
    Key { tuple, ..session.key }
}

/// The steering bucket of a tuple, for both directions alike (decision 5).
#[must_use]
pub fn bucket(tuple: &Tuple) -> u16 {
    let words = |bytes: &[u8]| {
        bytes.chunks_exact(2).fold(0, |sum, pair| sum ^ u16::from_le_bytes([pair[0], pair[1]]))
    };
    let addresses = match &tuple.addresses {
        Addresses::V4(pair) => words(&pair[0]) ^ words(&pair[1]),
        Addresses::V6(pair) => words(&pair[0]) ^ words(&pair[1]),
    };
    let mixed = addresses ^ tuple.ports[0] ^ tuple.ports[1];
    (mixed ^ mixed >> 7) & 127
}

/// Why a session that the other node may know came, changed or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Traffic changed it here.
    Own,
    /// The loser of a contest had it, with the age that it has.
    Adopted,
    /// A record of the partner was stored.
    Mirrored,
    /// It ended here.
    Ended,
    /// A record of the partner deleted it.
    Deleted,
    /// A newer session has one of its keys.
    Displaced,
    /// The mirror was emptied.
    Purged,
}

/// One entry of the log.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// What happened.
    pub change: Change,
    /// The session afterwards, or as it was if it is gone.
    pub session: Session,
    /// For a delete, the version of the delete.
    pub by: Version,
    /// When the session was opened, if that was here.
    pub half_open: bool,
}

/// Ways to break a table, for the tests of the checkers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Stores older versions over newer ones.
    OlderOverNewer,
    /// Shows local sessions to the stream.
    TellsLocal,
    /// Answers before anything is applied, and applies later.
    AnswersEarly,
    /// Says that it deleted and does not; hides what it kept.
    KeepsDeleted,
    /// Ends mirrored sessions by itself.
    Ages,
    /// Loses a change together with its mark, now and then; nobody can find it out before the next one.
    ForgetsChanges,
    /// Stores something else than the record said.
    Garbles,
    /// Takes nothing of what the loser of a contest offers, and says nothing of it.
    IgnoresOffers,
}

/// How large everything is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Owners.
    pub workers: usize,
    /// Sessions of each.
    pub slots: usize,
    /// Records that wait for each.
    pub ring: usize,
    /// Ends that wait in each.
    pub ends: usize,
}

/// What the sync core wants of an owner.
#[derive(Clone, Copy)]
enum Task {
    Apply(Record),
    /// The loser of a contest offers it (decision 35).
    Adopt(Session),
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    counter: u64,
    marked: Vec<bool>,
    dirty: VecDeque<u32>,
    ends: VecDeque<Ended>,
    install: VecDeque<(Task, Tag)>,
    outcomes: VecDeque<Outcome>,
    purge_from: Option<usize>,
    serving: bool,
    expire_from: usize,
}

/// All tables of a node.
pub struct Tables {
    size: Size,
    shards: Vec<Shard>,
    index: Map<Key, u32>,
    ends_lost: u64,
    next_shard: usize,
    /// The node's clock at this moment.
    pub now: Micros,
    /// What the workers see.
    pub word: RoleWord,
    /// For the checkers.
    pub log: Vec<Logged>,
    /// Reads that find a busy owner, of a thousand.
    pub busy: u32,
    /// What is broken.
    pub defect: Option<Defect>,
    /// The first worker has news for the sync core.
    pub news: bool,
    rng: Rng,
    /// New sessions that found no room or no free key.
    pub refused: u64,
    /// The time in which this node is active apart from its partner, or was the last time.
    pub split: Option<Split>,
    /// How old the mirror is that it takes over with.
    pub mirror_age: Micros,
    /// Offered sessions that an owner had reason not to take over, for the checker.
    pub kept_out: Vec<Key>,
}

impl Tables {
    /// Empty ones.
    #[must_use]
    pub fn new(size: Size, rng: Rng) -> Self {
        let shard = || Shard {
            slots: vec![None; size.slots],
            free: (0..size.slots as u32).rev().collect(),
            marked: vec![false; size.slots],
            ..Shard::default()
        };
        Self {
            size,
            shards: (0..size.workers).map(|_| shard()).collect(),
            index: Map::default(),
            ends_lost: 0,
            next_shard: 0,
            now: Micros(0),
            word: RoleWord::closed(Role::Init, Term::ZERO),
            log: Vec::new(),
            busy: 0,
            defect: None,
            news: false,
            rng,
            refused: 0,
            split: None,
            mirror_age: Micros(0),
            kept_out: Vec::new(),
        }
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.size.workers
    }

    /// Which worker owns a tuple.
    #[must_use]
    pub fn owner(&self, tuple: &Tuple) -> usize {
        usize::from(bucket(tuple)) % self.size.workers
    }

    /// Everything that is replicated or mirrored here, in no particular order.
    pub fn shared(&self) -> impl Iterator<Item = &Session> {
        let entries = self.shards.iter().flat_map(|shard| shard.slots.iter().flatten());
        entries.filter(|entry| entry.is_plain()).map(|entry| &entry.session)
    }

    /// The session of a key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        let handle = *self.index.get(key)?;
        self.slot(handle).as_ref()
    }

    /// Sessions of which packets came from both ends since then (decision 35).
    pub fn two_way(&self, since: Micros) -> impl Iterator<Item = &Session> {
        let entries = self.shards.iter().flat_map(|shard| shard.slots.iter().flatten());
        let both = move |entry: &&Entry| entry.is_plain() && entry.is_two_way(since);
        entries.filter(both).map(|entry| &entry.session)
    }

    /// Entries of all index keys, for the checker: each must lead to a session that has the key.
    #[must_use]
    pub fn index_is_sound(&self) -> bool {
        let entries = self.shards.iter().flat_map(|shard| shard.slots.iter().flatten());
        let mut keys = 0;
        for entry in entries {
            for key in entry.keys() {
                keys += 1;
                if self.find(&key).is_none_or(|found| found.session.key != entry.session.key) {
                    return false;
                }
            }
        }
        keys == self.index.len()
    }

    fn slot(&self, handle: u32) -> &Option<Entry> {
        &self.shards[handle as usize / self.size.slots].slots[handle as usize % self.size.slots]
    }

    fn slot_mut(&mut self, handle: u32) -> &mut Option<Entry> {
        &mut self.shards[handle as usize / self.size.slots].slots[handle as usize % self.size.slots]
    }

    fn handle(&self, worker: usize, slot: u32) -> u32 {
        (worker * self.size.slots) as u32 + slot
    }

    fn next_version(&mut self, worker: usize, held: Version) -> Version {
        let shard = &mut self.shards[worker];
        shard.counter = shard.counter.max(held.counter()) + 1;
        Version::new(self.word.term, shard.counter)
    }

    fn note(&mut self, change: Change, session: Session, by: Version) {
        self.log.push(Logged { change, session, by, half_open: false });
    }

    fn mark(&mut self, handle: u32) {
        let (worker, slot) = (handle as usize / self.size.slots, handle as usize % self.size.slots);
        let shard = &mut self.shards[worker];
        if !std::mem::replace(&mut shard.marked[slot], true) {
            shard.dirty.push_back(slot as u32);
        }
        self.news = true;
    }

    fn place(&mut self, worker: usize, entry: Entry) -> Option<u32> {
        let slot = self.shards[worker].free.pop()?;
        let handle = self.handle(worker, slot);
        for key in entry.keys() {
            self.index.insert(key, handle);
        }
        *self.slot_mut(handle) = Some(entry);
        Some(handle)
    }

    fn release(&mut self, handle: u32, change: Change, by: Version) {
        let Some(entry) = self.slot_mut(handle).take() else { return };
        for key in entry.keys() {
            self.index.remove(&key);
        }
        let (worker, slot) = (handle as usize / self.size.slots, handle as usize % self.size.slots);
        self.shards[worker].free.push(slot as u32);
        if !entry.is_plain() {
            return;
        }
        self.note(change, entry.session, by);
        if change == Change::Ended {
            let ended = Ended {
                handle: SessionHandle(handle),
                key: entry.session.key,
                version: by,
                group: GroupId(0),
            };
            let places = self.size.ends;
            if self.shards[worker].ends.len() < places {
                self.shards[worker].ends.push_back(ended);
            } else {
                self.ends_lost += 1;
            }
            self.news = true;
        }
    }

    /// Changes, drops or adds one mirrored session behind the protocol's back.
    pub fn damage(&mut self, kind: u8, with: &Session) -> Option<SessionHandle> {
        let taken = |tables: &Self| {
            let plain = |handle: &u32| tables.slot(*handle).is_some_and(|entry| entry.is_plain());
            (0..(tables.size.workers * tables.size.slots) as u32).find(plain)
        };
        match kind {
            0 => {
                let handle = taken(self)?;
                if let Some(entry) = self.slot_mut(handle) {
                    entry.session.rule.id ^= 0x10;
                }
                Some(SessionHandle(handle))
            }
            1 => {
                let handle = taken(self)?;
                self.release(handle, Change::Purged, Version(0));
                Some(SessionHandle(handle))
            }
            _ => {
                let worker = self.owner(&with.key.tuple);
                let entry = Entry {
                    session: *with,
                    class: Class::Plain,
                    last_seen: self.now,
                    timeout: timeout(with),
                    told_at: self.now,
                    heard: [None; 2],
                    doubtful: false,
                };
                self.place(worker, entry).map(SessionHandle)
            }
        }
    }

    /// Records that wait for any worker, and outcomes that wait for the sync core.
    #[must_use]
    pub fn work(&self) -> [usize; 2] {
        let install = self.shards.iter().map(|s| s.install.len() + usize::from(s.purge_from.is_some())).sum();
        [install, self.shards.iter().map(|shard| shard.outcomes.len()).sum()]
    }

    /// Whether a worker has something to do.
    #[must_use]
    pub fn has_work(&self, worker: usize) -> bool {
        let shard = &self.shards[worker];
        let serving = self.word.role == Role::Active;
        shard.purge_from.is_some() || !shard.install.is_empty() || shard.serving != serving
    }

    /// A change of role that some worker has not seen.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.word.forwards(self.now)
    }
}

/// The life of a session without packets, by what its record says: short ones for some.
#[must_use]
pub fn timeout(session: &Session) -> Micros {
    if session.rule.generation & 1 == 1 { Micros::from_millis(300) } else { Micros::from_secs(60) }
}
