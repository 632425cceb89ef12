//! A node's session tables, as the engine keeps them: one owner a shard, versions, dirty marks, a bounded
//! ring of ends, bounded rings of records to apply, and a lookup by both keys.
//!
//! This is a model of the engine, not the engine; what it promises is what the seam between stream and
//! tables asks for. Everything that it does to a session that the other node may know goes into a log, which
//! the checkers read: they never look at what the protocol believes.

use crate::hash::Map;
use crate::rng::Rng;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use sync::ids::{GroupId, Micros, SessionHandle, Term, Version};
use sync::lease::RoleWord;
use sync::membership::Role;
use sync::record::{Addresses, Key, Lifetime, Record, Session, State, Tuple};
use sync::stream::{Applied, Ended, Outcome, Reading, Refused, Sink, Source, Tag};

/// Records that an owner applies between two bursts.
const APPLY_QUANTUM: usize = 32;
/// Slots that an owner clears between two bursts.
const PURGE_QUANTUM: usize = 32;
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

#[derive(Default)]
struct Shard {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    counter: u64,
    marked: Vec<bool>,
    dirty: VecDeque<u32>,
    ends: VecDeque<Ended>,
    install: VecDeque<(Record, Tag)>,
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

    // ---- what traffic does, on a node whose workers forward ----

    /// The first packet of a flow. False if there is no room, or a key of it is taken.
    pub fn open(&mut self, session: Session, class: Class, timeout: Micros) -> bool {
        let worker = self.owner(&session.key.tuple);
        let taken = [session.key, reply_key(&session)].iter().any(|key| self.index.contains_key(key));
        if taken || self.shards[worker].free.is_empty() {
            self.refused += 1;
            return false;
        }
        let version = self.next_version(worker, Version(0));
        let session = Session { version, ..session };
        let entry = Entry { session, class, last_seen: self.now, timeout, told_at: self.now };
        let Some(handle) = self.place(worker, entry) else { return false };
        if entry.is_plain() {
            self.note(Change::Own, session, version);
            self.mark(handle);
        }
        true
    }

    /// A packet of a session; `moves` its state far enough to be told. False if there is no such session.
    pub fn touch(&mut self, key: &Key, moves: bool) -> bool {
        let Some(&handle) = self.index.get(key) else { return false };
        let (now, worker) = (self.now, handle as usize / self.size.slots);
        let Some(entry) = self.slot_mut(handle) else { return false };
        entry.last_seen = now;
        let ripe = match entry.class {
            Class::Plain => false,
            Class::Local => return true,
            Class::HalfOpen => moves,
            Class::Young { until } => now >= until,
        };
        if ripe {
            entry.class = Class::Plain;
            if let State::Tcp(tcp) = &mut entry.session.state {
                tcp.state = tcp.state.max(4);
            }
        }
        let refresh = now.since(entry.told_at).0 > entry.timeout.0 / 2;
        if entry.class != Class::Plain || !(ripe || moves || refresh) {
            return true;
        }
        if let State::Tcp(tcp) = &mut entry.session.state {
            tcp.halves[0].end = tcp.halves[0].end.wrapping_add(1 << 20);
            tcp.halves[1].ack = tcp.halves[0].end;
        }
        entry.told_at = now;
        let held = entry.session.version;
        if self.defect == Some(Defect::ForgetsChanges) && self.rng.chance(100) {
            return true;
        }
        let version = self.next_version(worker, held);
        let Some(entry) = self.slot_mut(handle) else { return false };
        entry.session.version = version;
        let session = entry.session;
        self.note(Change::Own, session, version);
        self.mark(handle);
        true
    }

    /// The end of a session. False if there is none.
    pub fn close(&mut self, key: &Key) -> bool {
        let Some(&handle) = self.index.get(key) else { return false };
        let held = self.slot(handle).map_or(Version(0), |entry| entry.session.version);
        let version = self.next_version(handle as usize / self.size.slots, held);
        self.release(handle, Change::Ended, version);
        true
    }

    // ---- what a worker does between two bursts ----

    /// Takes the role word, clears, applies and expires a little. True if there is more to do.
    pub fn step(&mut self, worker: usize) -> bool {
        self.follow_role(worker);
        let purging = self.purge_step(worker);
        if !purging {
            self.apply_step(worker);
        }
        self.expire_step(worker);
        let shard = &self.shards[worker];
        shard.purge_from.is_some() || !shard.install.is_empty()
    }

    fn follow_role(&mut self, worker: usize) {
        let serving = self.word.role == Role::Active;
        if std::mem::replace(&mut self.shards[worker].serving, serving) && !serving {
            // What the other node never heard of ends here.
            for slot in 0..self.size.slots as u32 {
                let handle = self.handle(worker, slot);
                if self.slot(handle).is_some_and(|entry| !entry.is_plain()) {
                    self.release(handle, Change::Ended, Version(0));
                }
            }
        }
    }

    fn purge_step(&mut self, worker: usize) -> bool {
        let Some(from) = self.shards[worker].purge_from else { return false };
        let until = (from + PURGE_QUANTUM).min(self.size.slots);
        for slot in from..until {
            let handle = self.handle(worker, slot as u32);
            if self.slot(handle).is_some_and(|entry| entry.is_plain()) {
                self.release(handle, Change::Purged, Version(0));
            }
        }
        self.shards[worker].purge_from = (until < self.size.slots).then_some(until);
        self.news = true;
        true
    }

    fn apply_step(&mut self, worker: usize) {
        for _ in 0..APPLY_QUANTUM {
            let Some((record, tag)) = self.shards[worker].install.pop_front() else { return };
            let applied = self.apply(worker, &record);
            if self.defect != Some(Defect::AnswersEarly) {
                self.shards[worker].outcomes.push_back(Outcome { tag, applied });
            }
            self.news = true;
        }
    }

    fn apply(&mut self, worker: usize, record: &Record) -> Applied {
        match record {
            Record::Session(session) => self.import(worker, session),
            Record::Delete(delete) => {
                let held = self.index.get(&delete.key).copied();
                let held = held.and_then(|at| Some((at, self.slot(at).as_ref()?.session)));
                let Some((handle, session)) = held.filter(|(_, held)| held.key == delete.key) else {
                    return Applied::Absent;
                };
                let goes = if delete.exact {
                    session.version == delete.version
                } else {
                    session.version < delete.version
                };
                if !goes || self.shards[worker].serving {
                    return Applied::Held { handle: SessionHandle(handle), version: session.version };
                }
                if self.defect != Some(Defect::KeepsDeleted) {
                    self.release(handle, Change::Deleted, delete.version);
                }
                Applied::Deleted { handle: SessionHandle(handle) }
            }
            Record::Mention(mention) => match self.index.get(&mention.key) {
                Some(&handle) if self.slot(handle).is_some_and(|e| e.session.key == mention.key) => {
                    let version = self.slot(handle).map_or(Version(0), |entry| entry.session.version);
                    Applied::Held { handle: SessionHandle(handle), version }
                }
                _ => Applied::Absent,
            },
        }
    }

    fn import(&mut self, worker: usize, session: &Session) -> Applied {
        if self.shards[worker].serving {
            return Applied::Refused(Refused::NotMirroring);
        }
        if session.zones.contains(&NO_ZONE) {
            return Applied::Refused(Refused::UnknownZone);
        }
        let keys = [session.key, reply_key(session)];
        let mut holders = keys.map(|key| self.index.get(&key).copied());
        if holders[0] == holders[1] {
            holders[1] = None;
        }
        for handle in holders.into_iter().flatten() {
            let Some(entry) = self.slot(handle) else { continue };
            let older = session.version <= entry.session.version;
            if older && self.defect != Some(Defect::OlderOverNewer) {
                return Applied::Held { handle: SessionHandle(handle), version: entry.session.version };
            }
        }
        let same = holders[0].filter(|at| self.slot(*at).is_some_and(|entry| entry.keys() == keys));
        let mut displaced = [None; 2];
        for (place, handle) in displaced.iter_mut().zip(holders) {
            if let Some(handle) = handle.filter(|at| Some(*at) != same) {
                self.release(handle, Change::Displaced, session.version);
                *place = Some(SessionHandle(handle));
            }
        }
        let timeout = timeout(session);
        let spent = timeout.since(Micros::from_millis(session.remaining.as_ms()));
        let mut entry = Entry {
            session: *session,
            class: Class::Plain,
            last_seen: Micros(self.now.0.saturating_sub(spent.0)),
            timeout,
            told_at: self.now,
        };
        if self.defect == Some(Defect::Garbles) && self.rng.chance(20) {
            entry.session.rule.id ^= 1;
        }
        let handle = match same {
            Some(handle) => {
                *self.slot_mut(handle) = Some(entry);
                handle
            }
            None => match self.place(worker, entry) {
                Some(handle) => handle,
                None => return Applied::Refused(Refused::Full),
            },
        };
        let counter = &mut self.shards[worker].counter;
        *counter = (*counter).max(session.version.counter());
        self.note(Change::Mirrored, entry.session, session.version);
        Applied::Installed { handle: SessionHandle(handle), displaced }
    }

    /// Only a node that serves ends sessions by itself.
    fn expire_step(&mut self, worker: usize) {
        if !self.shards[worker].serving && self.defect != Some(Defect::Ages) {
            return;
        }
        let from = self.shards[worker].expire_from;
        let until = (from + PURGE_QUANTUM).min(self.size.slots);
        for slot in from..until {
            let handle = self.handle(worker, slot as u32);
            let Some(entry) = self.slot(handle) else { continue };
            if self.now.since(entry.last_seen) >= entry.timeout {
                let key = entry.session.key;
                self.close(&key);
            }
        }
        self.shards[worker].expire_from = if until < self.size.slots { until } else { 0 };
    }

    // ---- debug verbs ----

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
                };
                self.place(worker, entry).map(SessionHandle)
            }
        }
    }

    fn reading(&mut self, handle: SessionHandle) -> Reading {
        if handle.0 as usize >= self.size.workers * self.size.slots {
            return Reading::Nothing;
        }
        if self.busy > 0 && self.rng.chance(self.busy) {
            return Reading::Busy;
        }
        let tells_local = self.defect == Some(Defect::TellsLocal);
        match self.slot(handle.0) {
            Some(entry) if entry.is_plain() || (tells_local && entry.class == Class::Local) => {
                let left = entry.timeout.since(self.now.since(entry.last_seen));
                let remaining = Lifetime::from_ms(left.as_millis());
                Reading::Session(Session { remaining, ..entry.session })
            }
            _ => Reading::Nothing,
        }
    }
}

/// The life of a session without packets, by what its record says: short ones for some.
#[must_use]
pub fn timeout(session: &Session) -> Micros {
    if session.rule.generation & 1 == 1 { Micros::from_millis(300) } else { Micros::from_secs(60) }
}

/// The stream's view of the tables as what is to be told.
pub struct Told(pub Rc<RefCell<Tables>>);

impl Source for Told {
    fn handles(&self) -> u32 {
        let tables = self.0.borrow();
        (tables.size.workers * tables.size.slots) as u32
    }

    fn next_changed(&mut self) -> Option<SessionHandle> {
        let tables = &mut *self.0.borrow_mut();
        for _ in 0..tables.size.workers {
            tables.next_shard = (tables.next_shard + 1) % tables.size.workers;
            let worker = tables.next_shard;
            if let Some(slot) = tables.shards[worker].dirty.pop_front() {
                tables.shards[worker].marked[slot as usize] = false;
                return Some(SessionHandle(tables.handle(worker, slot)));
            }
        }
        None
    }

    fn next_ended(&mut self) -> Option<Ended> {
        self.0.borrow_mut().shards.iter_mut().find_map(|shard| shard.ends.pop_front())
    }

    fn ends_lost(&self) -> u64 {
        self.0.borrow().ends_lost
    }

    fn waiting(&self) -> u32 {
        self.0.borrow().shards.iter().map(|shard| (shard.dirty.len() + shard.ends.len()) as u32).sum()
    }

    fn read(&mut self, handle: SessionHandle) -> Reading {
        self.0.borrow_mut().reading(handle)
    }
}

/// The stream's view of the tables as those who apply.
pub struct Owners(pub Rc<RefCell<Tables>>);

impl Sink for Owners {
    fn hand(&mut self, record: &Record, tag: Tag) -> bool {
        let tables = &mut *self.0.borrow_mut();
        let worker = tables.owner(&record.key().tuple);
        let places = tables.size.ring;
        if tables.shards[worker].install.len() >= places {
            return false;
        }
        tables.shards[worker].install.push_back((*record, tag));
        if tables.defect == Some(Defect::AnswersEarly) {
            let handle = SessionHandle(tables.handle(worker, 0));
            let applied = match record {
                Record::Session(_) => Applied::Installed { handle, displaced: [None; 2] },
                _ => Applied::Absent,
            };
            tables.shards[worker].outcomes.push_back(Outcome { tag, applied });
        }
        true
    }

    fn room(&self) -> u32 {
        let tables = self.0.borrow();
        let room = |shard: &Shard| (tables.size.ring - shard.install.len()) as u32;
        tables.shards.iter().map(room).min().unwrap_or(0)
    }

    fn next_outcome(&mut self) -> Option<Outcome> {
        self.0.borrow_mut().shards.iter_mut().find_map(|shard| shard.outcomes.pop_front())
    }

    fn held(&mut self, handle: SessionHandle) -> Reading {
        let tables = &mut *self.0.borrow_mut();
        if tables.defect == Some(Defect::KeepsDeleted) {
            return Reading::Busy;
        }
        tables.reading(handle)
    }

    fn purge(&mut self) {
        for shard in &mut self.0.borrow_mut().shards {
            shard.purge_from = Some(0);
        }
    }

    fn purging(&self) -> bool {
        self.0.borrow().shards.iter().any(|shard| shard.purge_from.is_some())
    }
}

impl Tables {
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
