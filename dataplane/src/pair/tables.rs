//! The machine's view of the session tables: rings to and from the workers, entries through the seqlock.
//!
//! Nothing here waits. A full install ring is an answer (the stream comes again, and does not acknowledge
//! meanwhile, decision 13); the dirty rings have a place for each slot and are never full.

use super::cell::{RoleCell, WorkerCell};
use super::record;
use crate::worker::stats::WorkerStats;
use arrayvec::ArrayVec;
use engine::mirror::Imported;
use engine::publish::Reader;
use engine::snapshot::{Snapshot, Steering};
use engine::table::dirty::DirtyFlags;
use engine::table::{Ended, Read, Slot, SlotReader};
use engine::track::Timeouts;
use engine::{Ticks, WorkerId};
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::ids::{SessionHandle, Version};
use sync::record::{Record, Session};
use sync::stream::{self, Applied, Outcome, Reading, Refused, Sink, Source, Tag};
use wire::FlowKey;

/// Records under way to one worker, at most.
pub const INSTALLS: usize = 8192;
/// Ends of sessions that wait for the core, at most, for one worker.
pub const ENDS: usize = 65_536;

/// Changed slots that are taken out of a worker's ring together.
const POPPED: usize = 32;

/// What a worker is to do with its table.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Store a session.
    Store(Imported),
    /// Delete one.
    Remove {
        /// The initiator's key.
        key: FlowKey,
        /// The version of the delete, or of what is to go.
        version: u64,
        /// Only exactly that version.
        exact: bool,
    },
    /// Say whether there is one.
    Look(FlowKey),
    /// Take in what the partner offers after a split.
    Adopt {
        /// The session.
        session: Imported,
        /// Both its ends have sent since.
        two_way: bool,
    },
}

/// A task and what the stream wants to know again.
#[derive(Clone, Copy, Debug)]
pub struct Install {
    /// What to do.
    pub task: Task,
    /// Comes back with the outcome.
    pub tag: Tag,
}

/// The core's end of one worker.
pub struct CoreEnd {
    reader: SlotReader,
    flags: DirtyFlags<'static>,
    dirty: Consumer<u32>,
    ends: Consumer<Ended>,
    ends_lost: Arc<AtomicU64>,
    installs: Producer<Install>,
    outcomes: Consumer<Outcome>,
    cell: Arc<WorkerCell>,
}

/// A worker's end.
pub struct WorkerEnd {
    /// What to do.
    pub installs: Consumer<Install>,
    /// What came of it.
    pub outcomes: Producer<Outcome>,
    /// The handle of its slot 0.
    pub base: u32,
}

impl CoreEnd {
    /// Joins a shard to the core; `base` is the handle of its slot 0.
    pub fn join(shard: &mut engine::table::Shard, base: u32, cell: Arc<WorkerCell>) -> (Self, WorkerEnd) {
        let (flags, dirty) = shard.track_changes();
        let (ends, ends_lost) = shard.track_ends(ENDS);
        let (installs, to_do) = RingBuffer::new(INSTALLS);
        // Room for the answers to everything that is under way.
        let (done, outcomes) = RingBuffer::new(INSTALLS);
        let reader = shard.reader();
        let core = Self { reader, flags, dirty, ends, ends_lost, installs, outcomes, cell };
        (core, WorkerEnd { installs: to_do, outcomes: done, base })
    }

    /// Slots of the worker's shard.
    pub fn slots(&self) -> u32 {
        self.reader.slots()
    }
}

/// What workers changed.
pub struct Changes {
    ends: Vec<ChangeEnd>,
    slots: Slots,
    role: Arc<RoleCell>,
    snapshots: Reader<Snapshot>,
    now: Ticks,
    rounds: Rounds,
    /// Whose turn it is.
    next: usize,
    took: bool,
}

/// Rounds in which every worker has ended a turn. A worker may stop anywhere, also between a change and its
/// mark: only then it is known to be past that.
#[derive(Default)]
struct Rounds {
    workers: Vec<Arc<WorkerStats>>,
    /// Turns of each when the round began.
    began: Vec<u64>,
    ended: u64,
}

impl Rounds {
    fn new(workers: Vec<Arc<WorkerStats>>) -> Self {
        let began = workers.iter().map(|stats| stats.progress()).collect();
        Self { workers, began, ended: 0 }
    }

    fn look(&mut self) -> u64 {
        let turns = || self.workers.iter().map(|stats| stats.progress());
        if turns().zip(&self.began).all(|(turns, began)| turns != *began) {
            self.ended += 1;
            self.began.iter_mut().zip(&self.workers).for_each(|(began, stats)| *began = stats.progress());
        }
        self.ended
    }
}

struct ChangeEnd {
    reader: SlotReader,
    flags: DirtyFlags<'static>,
    dirty: Consumer<u32>,
    /// Slots out of `dirty` whose marks are cleared and that are yet to be read, the next one last.
    popped: ArrayVec<u32, POPPED>,
    ends: Consumer<Ended>,
    lost: Arc<AtomicU64>,
}

impl ChangeEnd {
    /// The next changed slot. Its mark is cleared before it is read: what changes from there on marks it anew
    /// (decision 3).
    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.popped.is_empty() {
            self.pop_some();
        }
        self.popped.pop()
    }

    /// Several at a time, since the lines of the first are asked for before it is needed.
    fn pop_some(&mut self) {
        while !self.popped.is_full()
            && let Ok(slot) = self.dirty.pop()
        {
            self.reader.foresee(&self.flags, Slot(slot));
            self.popped.push(slot);
        }
        self.popped.iter().for_each(|slot| self.flags.take(*slot));
        self.popped.reverse();
    }

    fn waiting(&self) -> usize {
        self.popped.len() + self.dirty.slots() + self.ends.slots()
    }
}

/// Who does what the stream says.
pub struct Owners {
    ends: Vec<OwnerEnd>,
    slots: Slots,
    steering: Steering,
    role: Arc<RoleCell>,
    /// Answers to what no worker can be asked.
    own: VecDeque<Outcome>,
    next: usize,
    moved: bool,
    /// The partner's zones are not ours: none of its sessions is taken (B-07).
    foreign: bool,
}

struct OwnerEnd {
    installs: Producer<Install>,
    outcomes: Consumer<Outcome>,
    cell: Arc<WorkerCell>,
}

/// All workers' slots as one range of handles.
#[derive(Clone)]
struct Slots {
    readers: Vec<(u32, SlotReader)>,
}

/// Divides the ends into the machine's two views.
pub fn tables(
    ends: Vec<CoreEnd>,
    role: Arc<RoleCell>,
    snapshots: Reader<Snapshot>,
    steering: Steering,
) -> (Changes, Owners) {
    let (mut changes, mut owners, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    let mut base = 0;
    for end in ends {
        readers.push((base, end.reader));
        base += end.reader.slots();
        changes.push(ChangeEnd {
            reader: end.reader,
            flags: end.flags,
            dirty: end.dirty,
            popped: ArrayVec::new(),
            ends: end.ends,
            lost: end.ends_lost,
        });
        owners.push(OwnerEnd { installs: end.installs, outcomes: end.outcomes, cell: end.cell });
    }
    let slots = Slots { readers };
    let changes = Changes {
        ends: changes,
        slots: slots.clone(),
        role: Arc::clone(&role),
        snapshots,
        now: Ticks(0),
        rounds: Rounds::default(),
        next: 0,
        took: false,
    };
    let owners = Owners {
        ends: owners,
        slots,
        steering,
        role,
        own: VecDeque::new(),
        next: 0,
        moved: false,
        foreign: false,
    };
    (changes, owners)
}

impl Slots {
    fn count(&self) -> u32 {
        self.readers.last().map_or(0, |(base, reader)| base + reader.slots())
    }

    fn handle(&self, worker: usize, slot: u32) -> SessionHandle {
        SessionHandle(self.readers.get(worker).map_or(0, |(base, _)| *base) + slot)
    }

    #[inline]
    fn look(&self, handle: SessionHandle) -> Read {
        let owner = self.readers.iter().rev().find(|(base, _)| *base <= handle.0);
        owner.map_or(Read::Free, |(base, reader)| {
            let slot = Slot(handle.0 - base);
            if reader.is_free(slot) { Read::Free } else { reader.look(slot) }
        })
    }

    #[inline]
    fn read(&self, handle: SessionHandle, now: Ticks, timeouts: &Timeouts) -> Reading {
        match self.look(handle) {
            Read::Busy => Reading::Busy,
            Read::Free => Reading::Nothing,
            Read::Session(view) => match record::session(&view, now, timeouts) {
                Some(session) => Reading::Session(session),
                None => Reading::Nothing,
            },
        }
    }
}

impl Changes {
    /// The workers whose changes these are: they are asked how far they are.
    #[must_use]
    pub fn of(self, workers: Vec<Arc<WorkerStats>>) -> Self {
        Self { rounds: Rounds::new(workers), ..self }
    }

    /// The time of this turn: lifetimes are told as what is left of them.
    pub fn set_time(&mut self, now: Ticks) {
        self.now = now;
        self.snapshots.refresh();
    }

    /// True if anything was taken since the last question.
    pub fn took_something(&mut self) -> bool {
        std::mem::take(&mut self.took)
    }
}

impl Source for Changes {
    fn handles(&self) -> u32 {
        self.slots.count()
    }

    fn next_changed(&mut self) -> Option<SessionHandle> {
        for _ in 0..self.ends.len() {
            let worker = self.next;
            self.next = (self.next + 1) % self.ends.len();
            let Some(end) = self.ends.get_mut(worker) else { continue };
            if let Some(slot) = end.next() {
                self.took = true;
                return Some(self.slots.handle(worker, slot));
            }
        }
        None
    }

    fn next_ended(&mut self) -> Option<stream::Ended> {
        for (worker, end) in self.ends.iter_mut().enumerate() {
            if let Ok(ended) = end.ends.pop() {
                self.took = true;
                return Some(stream::Ended {
                    handle: self.slots.handle(worker, ended.slot.0),
                    key: record::key(&ended.key),
                    version: Version(ended.version),
                    group: sync::ids::GroupId(ended.group.0),
                });
            }
        }
        None
    }

    fn ends_lost(&self) -> u64 {
        self.ends.iter().map(|end| end.lost.load(Ordering::Relaxed)).sum()
    }

    fn waiting(&self) -> u32 {
        self.ends.iter().map(|end| end.waiting() as u32).sum()
    }

    fn rounds(&mut self) -> u64 {
        self.rounds.look()
    }

    #[inline]
    fn read(&mut self, handle: SessionHandle) -> Reading {
        self.slots.read(handle, self.now, &self.snapshots.current().0.timeouts)
    }

    fn since_split(&mut self, handle: SessionHandle) -> Reading {
        let Some(split) = self.role.last_split() else { return Reading::Nothing };
        let view = match self.slots.look(handle) {
            Read::Busy => return Reading::Busy,
            Read::Free => return Reading::Nothing,
            Read::Session(view) => view,
        };
        let Some(two_way) = view.since_split(split.since, split.noticed) else { return Reading::Nothing };
        let told = record::session(&view, self.now, &self.snapshots.current().0.timeouts);
        told.map_or(Reading::Nothing, |session| Reading::Session(Session { two_way, ..session }))
    }
}

impl Owners {
    /// True if records or outcomes moved since the last question.
    pub fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether the partner's ports and zones are other ones than ours, so that the numbers of zones in its
    /// sessions mean something else here.
    pub fn set_foreign(&mut self, foreign: bool) {
        self.foreign = foreign;
    }

    fn refuse(&mut self, reason: Refused, tag: Tag) -> bool {
        self.own.push_back(Outcome { tag, applied: Applied::Refused(reason) });
        true
    }

    /// Hands a task to the worker that owns the key.
    #[inline]
    fn give(&mut self, key: &FlowKey, task: Task, tag: Tag) -> bool {
        let WorkerId(owner) = self.steering.owner_of(key);
        let Some(end) = self.ends.get_mut(usize::from(owner)) else { return false };
        let taken = end.installs.push(Install { task, tag }).is_ok();
        self.moved |= taken;
        taken
    }

    /// The same for a session of the partner's; one that cannot be taken here is answered at once.
    #[inline]
    fn give_session(&mut self, session: &Session, tag: Tag, task: impl FnOnce(Imported) -> Task) -> bool {
        if self.foreign {
            return self.refuse(Refused::UnknownZone, tag);
        }
        let Some(imported) = record::imported(session) else { return self.refuse(Refused::Unsupported, tag) };
        let [key, _] = imported.keys;
        self.give(&key, task(imported), tag)
    }
}

impl Sink for Owners {
    fn hand(&mut self, record: &Record, tag: Tag) -> bool {
        let (key, version, exact) = match record {
            Record::Session(session) => return self.give_session(session, tag, Task::Store),
            Record::Delete(delete) => (&delete.key, Some(delete.version.0), delete.exact),
            Record::Mention(mention) => (&mention.key, None, false),
        };
        let Some(key) = record::flow_key(key) else { return self.refuse(Refused::Unsupported, tag) };
        let task = match version {
            Some(version) => Task::Remove { key, version, exact },
            None => Task::Look(key),
        };
        self.give(&key, task, tag)
    }

    fn adopt(&mut self, session: &Session, tag: Tag) -> bool {
        let two_way = session.two_way;
        self.give_session(session, tag, |session| Task::Adopt { session, two_way })
    }

    fn room(&self) -> u32 {
        self.ends.iter().map(|end| end.installs.slots() as u32).min().unwrap_or(0)
    }

    fn next_outcome(&mut self) -> Option<Outcome> {
        if let Some(outcome) = self.own.pop_front() {
            return Some(outcome);
        }
        for _ in 0..self.ends.len() {
            let end = self.ends.get_mut(self.next);
            if let Some(Ok(outcome)) = end.map(|end| end.outcomes.pop()) {
                self.moved = true;
                return Some(outcome);
            }
            self.next = (self.next + 1) % self.ends.len();
        }
        None
    }

    fn held(&mut self, handle: SessionHandle) -> Reading {
        // The scrubber compares what does not pass with time: lifetimes are not asked for.
        self.slots.read(handle, Ticks(0), &Timeouts::default())
    }

    fn purge(&mut self) {
        self.role.ask_purge();
    }

    fn purging(&self) -> bool {
        let asked = self.role.purges();
        self.ends.iter().any(|end| end.cell.purged() != asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::table::{HashKey, Memory, Shard, ShardConfig};
    use sync::ids::GroupId;
    use sync::record::{Addresses, Delete, Key, Lifetime, RuleRef, State, Tuple};
    use wire::steer::ToeplitzKey;

    /// One worker's shard without a worker, as its owner's end and the ring to it.
    fn owners() -> (Owners, WorkerEnd) {
        let config = ShardConfig { half_open_max: 8, hash_key: HashKey::new([1, 2, 3]), term: 1 };
        let mut shard = Shard::new(Memory::on_heap(256).unwrap(), config, Ticks(0));
        let (end, worker) = CoreEnd::join(&mut shard, 0, Arc::default());
        let owner = OwnerEnd { installs: end.installs, outcomes: end.outcomes, cell: end.cell };
        let owners = Owners {
            ends: vec![owner],
            slots: Slots { readers: vec![(0, end.reader)] },
            steering: Steering::new(ToeplitzKey::default(), 1),
            role: Arc::default(),
            own: VecDeque::new(),
            next: 0,
            moved: false,
            foreign: false,
        };
        (owners, worker)
    }

    fn session() -> Session {
        let addresses = Addresses::V4([[10, 1, 0, 10], [10, 2, 0, 10]]);
        Session {
            key: Key { tuple: Tuple { addresses, ports: [5_000, 53] }, proto: 17, vrf: 0 },
            reply: None,
            version: Version(9),
            group: GroupId(0),
            rule: RuleRef { id: 1, generation: 0 },
            zones: [0, 1],
            remaining: Lifetime::from_ms(30_000),
            state: State::Flow(1),
            two_way: true,
            age_s: None,
            counters: None,
        }
    }

    #[test]
    fn x_03_a_round_is_over_when_every_worker_has_ended_a_turn() {
        let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerStats::new(1))).collect();
        let mut rounds = Rounds::new(workers.clone());
        assert_eq!(rounds.look(), 0);
        workers[0].turn(0, 0, 0);
        assert_eq!(rounds.look(), 0, "the other one is still at it");
        workers[1].turn(0, 0, 0);
        assert_eq!((rounds.look(), rounds.look()), (1, 1), "and the next one begins");
        (0..3).for_each(|_| workers[1].turn(0, 0, 0));
        assert_eq!(rounds.look(), 1);
        workers[0].turn(1, 32, 100);
        assert_eq!(rounds.look(), 2);
    }

    #[test]
    fn b_07_no_session_is_installed_while_zones_mean_something_else_here() {
        let (mut owners, mut worker) = owners();
        let tag = |word| Tag { seq: 0, word };
        let (session, key) = (session(), session().key);
        owners.set_foreign(true);
        assert!(owners.hand(&Record::Session(session), tag(1)) && owners.adopt(&session, tag(2)));
        assert!(worker.installs.pop().is_err(), "nothing reaches the worker");
        for word in [1, 2] {
            let applied = Applied::Refused(Refused::UnknownZone);
            assert_eq!(owners.next_outcome(), Some(Outcome { tag: tag(word), applied }));
        }
        // What is here goes all the same, and what is agreed on again comes.
        let delete = Delete { key, version: Version(10), group: GroupId(0), exact: false };
        assert!(owners.hand(&Record::Delete(delete), tag(3)));
        assert!(matches!(worker.installs.pop(), Ok(Install { task: Task::Remove { .. }, .. })));
        owners.set_foreign(false);
        assert!(owners.hand(&Record::Session(session), tag(4)));
        assert!(matches!(worker.installs.pop(), Ok(Install { task: Task::Store(_), .. })));
        assert_eq!(owners.next_outcome(), None);
    }
}
