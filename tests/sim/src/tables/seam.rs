//! The tables as the stream sees them.

use super::{Class, Defect, Shard, Tables, Task};
use std::cell::RefCell;
use std::rc::Rc;
use sync::ids::SessionHandle;
use sync::record::{Lifetime, Record, Session};
use sync::stream::{Applied, Ended, Outcome, Reading, Sink, Source, Tag};

impl Tables {
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

    /// Owners act in no time here: each instant is a round of its own.
    fn rounds(&mut self) -> u64 {
        self.0.borrow().now.0
    }

    fn read(&mut self, handle: SessionHandle) -> Reading {
        self.0.borrow_mut().reading(handle)
    }

    fn since_split(&mut self, handle: SessionHandle) -> Reading {
        let tables = &mut *self.0.borrow_mut();
        let Some(entry) = *tables.slot(handle.0) else { return Reading::Nothing };
        match (entry.since_split(tables.split), tables.reading(handle)) {
            (Some(two_way), Reading::Session(session)) => Reading::Session(Session { two_way, ..session }),
            (Some(_), Reading::Busy) => Reading::Busy,
            _ => Reading::Nothing,
        }
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
        tables.shards[worker].install.push_back((Task::Apply(*record), tag));
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

    fn adopt(&mut self, session: &Session, tag: Tag) -> bool {
        let tables = &mut *self.0.borrow_mut();
        let worker = tables.owner(&session.key.tuple);
        let room = tables.shards[worker].install.len() < tables.size.ring;
        if room {
            tables.shards[worker].install.push_back((Task::Adopt(*session), tag));
        }
        room
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
