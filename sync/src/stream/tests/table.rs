//! A session table with its owner's ring, as small as the seam allows, and in the same rules.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::ids::{GroupId, SessionHandle, Term, Version};
use crate::membership::{MergeVerdict, merge};
use crate::record::{
    Addresses, Delete, Key, Lifetime, Record, RuleRef, Session, State, TcpHalf, TcpSnapshot, Tuple,
};
use crate::stream::{Applied, Ended, Outcome, Reading, Refused, Sink, Source, Tag};

/// Places in the delete ring.
const ENDED: usize = 256;

pub struct Sessions {
    pub slots: Vec<Option<Session>>,
    pub index: HashMap<Key, u32>,
    free: Vec<u32>,
    pub term: Term,
    counter: u64,
    changed: VecDeque<u32>,
    /// The owner stopped between writing and marking: what it has to mark.
    pub half_done: Option<Vec<u32>>,
    rounds: u64,
    marked: HashSet<u32>,
    ended: VecDeque<Ended>,
    pub ends_lost: u64,
    /// What was handed over and is not applied.
    ring: VecDeque<(Record, Tag)>,
    pub ring_size: usize,
    /// What the other node offers and is not judged.
    offers: VecDeque<(Session, Tag)>,
    outcomes: VecDeque<Outcome>,
    /// Records that the owner applies in a step.
    pub speed: usize,
    /// Only this many sessions fit.
    pub limit: usize,
    /// This node is active: nobody writes into its table.
    pub active: bool,
    pub busy: HashSet<u32>,
    /// Every second reading of a handle finds its owner busy; here are those that were read once.
    pub read_once: Option<HashSet<u32>>,
    /// What the next session that is installed drives out.
    pub displace_next: Option<u32>,
    /// Sessions with traffic since the split; true if both ways.
    pub since: HashMap<Key, bool>,
    /// Numbers whose keys belong to another session here.
    pub taken: HashSet<Key>,
    /// What became of offers: inserted, replaced, kept.
    pub merged: [u32; 3],
    /// Somebody changes what the partner said: versions mean nothing.
    pub tampered: bool,
    /// Highest version that each key ever had here by way of the stream: never older over newer.
    seen: HashMap<Key, Version>,
    /// Deletes that came by way of the stream: what they deleted must not come back.
    gone: HashMap<Key, Version>,
}

pub fn key(number: u32) -> Key {
    let [a, b, c, d] = number.to_be_bytes();
    if number.is_multiple_of(5) {
        let mut v6 = [[0xfd; 16], [0xfe; 16]];
        v6[0][12..].copy_from_slice(&[a, b, c, d]);
        return Key { tuple: Tuple { addresses: Addresses::V6(v6), ports: [1, 53] }, proto: 17, vrf: 0 };
    }
    let addresses = Addresses::V4([[10, b, c, d], [10, 2, 0, a]]);
    let proto = if number % 5 < 3 { 6 } else { 17 };
    Key { tuple: Tuple { addresses, ports: [40_000, 443] }, proto, vrf: 0 }
}

impl Sessions {
    pub fn new(capacity: u32) -> Self {
        Self {
            slots: vec![None; capacity as usize],
            index: HashMap::new(),
            free: (0..capacity).rev().collect(),
            term: Term::ZERO,
            counter: 1,
            changed: VecDeque::new(),
            half_done: None,
            rounds: 0,
            marked: HashSet::new(),
            ended: VecDeque::new(),
            ends_lost: 0,
            ring: VecDeque::new(),
            ring_size: 4_096,
            outcomes: VecDeque::new(),
            speed: usize::MAX,
            limit: capacity as usize,
            active: false,
            busy: HashSet::new(),
            read_once: None,
            displace_next: None,
            since: HashMap::new(),
            taken: HashSet::new(),
            merged: [0; 3],
            offers: VecDeque::new(),
            tampered: false,
            seen: HashMap::new(),
            gone: HashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    fn version(&mut self) -> Version {
        self.counter += 1;
        Version::new(self.term, self.counter)
    }

    fn mark(&mut self, slot: u32) {
        if let Some(to_mark) = &mut self.half_done {
            return to_mark.push(slot);
        }
        if self.marked.insert(slot) {
            self.changed.push_back(slot);
        }
    }

    /// Opens a session or, if it is there, changes it.
    pub fn touch(&mut self, number: u32) -> bool {
        let version = self.version();
        let key = key(number);
        if let Some(&slot) = self.index.get(&key) {
            self.slots[slot as usize].as_mut().unwrap().version = version;
            self.mark(slot);
            return true;
        }
        if self.index.len() >= self.limit {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let half = TcpHalf { end: number, max_end: number + 1_000, ack: 7, max_window: 1_000, scale: 0 };
        let tcp = TcpSnapshot { state: 3, flags: 1, halves: [half; 2], mark: None, idle: false };
        let session = Session {
            key,
            reply: None,
            version,
            group: GroupId(0),
            rule: RuleRef { id: 99, generation: 4 },
            zones: [0, 1],
            remaining: Lifetime::from_ms(30_000),
            state: if key.proto == 6 { State::Tcp(tcp) } else { State::Flow(1) },
            two_way: false,
            age_s: None,
            counters: None,
        };
        self.slots[slot as usize] = Some(session);
        self.index.insert(key, slot);
        self.mark(slot);
        true
    }

    /// The owner marks a session for no reason.
    pub fn mark_only(&mut self, number: u32) {
        let slot = self.index[&key(number)];
        self.mark(slot);
    }

    /// An owner that stopped goes on.
    pub fn go_on(&mut self) {
        for slot in self.half_done.take().into_iter().flatten() {
            self.mark(slot);
        }
    }

    /// A packet passes: the numbers move, and nobody is told.
    pub fn pass(&mut self, number: u32) {
        let Some(&slot) = self.index.get(&key(number)) else { return };
        if let State::Tcp(tcp) = &mut self.slots[slot as usize].as_mut().unwrap().state {
            tcp.halves[0].end = tcp.halves[0].end.wrapping_add(100);
        }
    }

    pub fn end(&mut self, number: u32) -> bool {
        let Some(slot) = self.index.remove(&key(number)) else { return false };
        let version = self.version();
        let session = self.slots[slot as usize].take().unwrap();
        self.free.push(slot);
        if self.ended.len() < ENDED {
            let handle = SessionHandle(slot);
            self.ended.push_back(Ended { handle, key: session.key, version, group: GroupId(0) });
        } else {
            self.ends_lost += 1;
        }
        true
    }

    /// Makes this node active: its versions are above all that it has.
    pub fn lead(&mut self, term: Term) {
        self.term = term;
        self.counter += 1_000_000;
        if !std::mem::replace(&mut self.active, true) {
            self.changed.clear();
            self.marked.clear();
            self.ended.clear();
        }
    }

    /// The owner applies what was handed over.
    pub fn step(&mut self) {
        self.rounds += u64::from(self.half_done.is_none());
        for _ in 0..self.speed {
            if let Some((session, tag)) = self.offers.pop_front() {
                let applied = self.judge_offer(&session);
                self.outcomes.push_back(Outcome { tag, applied });
                continue;
            }
            let Some((record, tag)) = self.ring.pop_front() else { return };
            let applied = self.apply(&record);
            self.outcomes.push_back(Outcome { tag, applied });
        }
    }

    /// A packet passes while both nodes are active.
    pub fn use_since(&mut self, number: u32, two_way: bool) {
        self.pass(number);
        *self.since.entry(key(number)).or_default() |= two_way;
    }

    /// As an owner judges what the loser of a contest offers (decision 35).
    fn judge_offer(&mut self, session: &Session) -> Applied {
        if !self.active {
            return Applied::Refused(Refused::NotMirroring);
        }
        let held = self.index.get(&session.key).copied();
        let ours = held.map(|_| self.since.get(&session.key).copied().unwrap_or(false));
        let verdict = merge(ours, session.two_way, self.taken.contains(&session.key));
        self.merged[verdict as usize] += 1;
        if verdict == MergeVerdict::Keep {
            return held.map_or(Applied::Absent, |slot| self.held_at(slot));
        }
        let Some(slot) = held.or_else(|| self.free.pop()) else { return Applied::Refused(Refused::Full) };
        self.counter = self.counter.max(session.version.counter());
        let version = self.version();
        self.slots[slot as usize] = Some(Session { version, ..*session });
        self.index.insert(session.key, slot);
        self.since.insert(session.key, session.two_way);
        self.mark(slot);
        Applied::Installed { handle: SessionHandle(slot), displaced: [None; 2] }
    }

    fn apply(&mut self, record: &Record) -> Applied {
        let held = self.index.get(record.key()).copied();
        match record {
            Record::Mention(_) => match held {
                Some(slot) => self.held_at(slot),
                None => Applied::Absent,
            },
            _ if self.active => Applied::Refused(Refused::NotMirroring),
            Record::Delete(delete) => self.apply_delete(delete, held),
            Record::Session(session) => self.apply_session(session, held),
        }
    }

    fn held_at(&self, slot: u32) -> Applied {
        Applied::Held { handle: SessionHandle(slot), version: self.slots[slot as usize].unwrap().version }
    }

    /// A stream of another node or term begins: what it says need not be newer.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.gone.clear();
    }

    fn apply_delete(&mut self, delete: &Delete, held: Option<u32>) -> Applied {
        if !delete.exact {
            let gone = self.gone.entry(delete.key).or_default();
            *gone = delete.version.max(*gone);
        }
        let Some(slot) = held else { return Applied::Absent };
        let version = self.slots[slot as usize].unwrap().version;
        let goes = if delete.exact { version == delete.version } else { version <= delete.version };
        if !goes {
            return self.held_at(slot);
        }
        self.drop_slot(slot);
        Applied::Deleted { handle: SessionHandle(slot) }
    }

    fn apply_session(&mut self, session: &Session, held: Option<u32>) -> Applied {
        if let Some(slot) = held {
            if self.slots[slot as usize].unwrap().version >= session.version {
                return self.held_at(slot);
            }
            self.slots[slot as usize] = Some(*session);
            return Applied::Installed { handle: SessionHandle(slot), displaced: [None; 2] };
        }
        if self.index.len() >= self.limit {
            return Applied::Refused(Refused::Full);
        }
        let seen = self.seen.entry(session.key).or_default();
        assert!(self.tampered || session.version >= *seen, "an older session came back: {session:?}");
        *seen = session.version;
        let gone = self.gone.get(&session.key).is_some_and(|gone| session.version <= *gone);
        assert!(self.tampered || !gone, "a deleted session came back: {session:?}");
        let slot = self.free.pop().unwrap();
        let displaced = self.displace_next.take();
        if let Some(slot) = displaced {
            self.drop_slot(slot);
        }
        self.slots[slot as usize] = Some(*session);
        self.index.insert(session.key, slot);
        Applied::Installed { handle: SessionHandle(slot), displaced: [displaced.map(SessionHandle), None] }
    }

    /// The owner or the stream has something to do here.
    pub fn is_active(&self) -> bool {
        !(self.ring.is_empty()
            && self.outcomes.is_empty()
            && self.changed.is_empty()
            && self.ended.is_empty())
    }

    pub fn drop_slot(&mut self, slot: u32) {
        let session = self.slots[slot as usize].take().unwrap();
        self.index.remove(&session.key);
        self.free.push(slot);
    }

    /// What must be equal on both nodes.
    pub fn versions(&self) -> HashMap<Key, Version> {
        self.slots.iter().flatten().map(|session| (session.key, session.version)).collect()
    }
}

impl Source for Sessions {
    fn handles(&self) -> u32 {
        self.slots.len() as u32
    }

    fn next_changed(&mut self) -> Option<SessionHandle> {
        let slot = self.changed.pop_front()?;
        self.marked.remove(&slot);
        Some(SessionHandle(slot))
    }

    fn next_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    fn ends_lost(&self) -> u64 {
        self.ends_lost
    }

    fn waiting(&self) -> u32 {
        (self.changed.len() + self.ended.len()) as u32
    }

    fn rounds(&mut self) -> u64 {
        self.rounds
    }

    fn read(&mut self, handle: SessionHandle) -> Reading {
        let spoiled = self.read_once.as_mut().is_some_and(|once| {
            let second = !once.insert(handle.0);
            second && once.remove(&handle.0)
        });
        if spoiled || self.busy.contains(&handle.0) {
            return Reading::Busy;
        }
        self.slots[handle.0 as usize].map_or(Reading::Nothing, Reading::Session)
    }

    fn since_split(&mut self, handle: SessionHandle) -> Reading {
        let Reading::Session(session) = self.read(handle) else { return self.read(handle) };
        let two_way = self.since.get(&session.key);
        two_way.map_or(Reading::Nothing, |&two_way| Reading::Session(Session { two_way, ..session }))
    }
}

impl Sink for Sessions {
    fn hand(&mut self, record: &Record, tag: Tag) -> bool {
        if self.ring.len() >= self.ring_size {
            return false;
        }
        self.ring.push_back((*record, tag));
        true
    }

    fn adopt(&mut self, session: &Session, tag: Tag) -> bool {
        let room = self.offers.len() < self.ring_size;
        if room {
            self.offers.push_back((*session, tag));
        }
        room
    }

    fn room(&self) -> u32 {
        (self.ring_size - self.ring.len()) as u32
    }

    fn next_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn held(&mut self, handle: SessionHandle) -> Reading {
        self.read(handle)
    }

    fn purge(&mut self) {
        let slots: Vec<u32> = self.index.values().copied().collect();
        slots.into_iter().for_each(|slot| self.drop_slot(slot));
    }

    fn purging(&self) -> bool {
        false
    }
}
