//! What a worker does between two bursts: it takes the role, empties, applies, expires.

use super::{Change, Class, Defect, Entry, NO_ZONE, Tables, Task, reply_key, timeout};
use sync::ids::{Micros, SessionHandle, Version};
use sync::membership::{MergeVerdict, Role, merge};
use sync::record::{Record, Session, TCP};
use sync::stream::{Applied, Outcome, Refused};

/// Records that an owner applies between two bursts.
const APPLY_QUANTUM: usize = 32;
/// Slots that an owner clears between two bursts.
const PURGE_QUANTUM: usize = 32;

impl Tables {
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

    pub(super) fn follow_role(&mut self, worker: usize) {
        let serving = self.word.role == Role::Active;
        let served = std::mem::replace(&mut self.shards[worker].serving, serving);
        if served && !serving {
            // What the other node never heard of ends here.
            for slot in 0..self.size.slots as u32 {
                let handle = self.handle(worker, slot);
                if self.slot(handle).is_some_and(|entry| !entry.is_plain()) {
                    self.release(handle, Change::Ended, Version(0));
                }
            }
        } else if serving && !served && self.mirror_age > Micros(0) {
            self.take_stale(worker);
        }
    }

    /// Takes over with a mirror that nobody told for so long (decision 36).
    fn take_stale(&mut self, worker: usize) {
        for slot in 0..self.size.slots as u32 {
            let handle = self.handle(worker, slot);
            let age = self.mirror_age;
            let Some(entry) = self.slot_mut(handle).as_mut().filter(|entry| entry.is_plain()) else {
                continue;
            };
            let (key, tcp) = (entry.session.key, entry.session.key.proto == TCP);
            entry.doubtful = tcp;
            if !tcp && entry.timeout <= age {
                self.close(&key);
            }
        }
    }

    pub(super) fn purge_step(&mut self, worker: usize) -> bool {
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

    pub(super) fn apply_step(&mut self, worker: usize) {
        for _ in 0..APPLY_QUANTUM {
            let Some((task, tag)) = self.shards[worker].install.pop_front() else { return };
            let applied = match &task {
                Task::Apply(record) => self.apply(worker, record),
                Task::Adopt(session) => self.adopt(worker, session),
            };
            if self.defect != Some(Defect::AnswersEarly) {
                self.shards[worker].outcomes.push_back(Outcome { tag, applied });
            }
            self.news = true;
        }
    }

    pub(super) fn apply(&mut self, worker: usize, record: &Record) -> Applied {
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

    pub(super) fn import(&mut self, worker: usize, session: &Session) -> Applied {
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
            heard: [None; 2],
            doubtful: false,
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

    /// The loser of a contest offers a session (decision 35).
    fn adopt(&mut self, worker: usize, session: &Session) -> Applied {
        if !self.shards[worker].serving {
            return Applied::Refused(Refused::NotMirroring);
        }
        if self.defect == Some(Defect::IgnoresOffers) {
            return Applied::Absent;
        }
        let keys = [session.key, reply_key(session)];
        let holders = keys.map(|key| self.index.get(&key).copied());
        let held = holders[0].and_then(|at| Some((at, (*self.slot(at))?)));
        let same = held.filter(|(_, held)| held.keys() == keys && held.is_plain());
        let collides = same.is_none() && holders != [None; 2];
        let ours = same.map(|(_, held)| held.since_split(self.split) == Some(true));
        let refused = session.zones.contains(&NO_ZONE) || self.shards[worker].free.is_empty();
        let verdict = merge(ours, session.two_way, collides);
        if verdict == MergeVerdict::Keep || refused {
            if collides || refused {
                self.kept_out.push(session.key);
            }
            return held.map_or(Applied::Absent, |(at, held)| Applied::Held {
                handle: SessionHandle(at),
                version: held.session.version,
            });
        }
        let newest = same.map_or(session.version, |(_, held)| held.session.version.max(session.version));
        let version = self.next_version(worker, newest);
        let heard = if session.two_way { [Some(self.now); 2] } else { [None; 2] };
        let adopted = Session { version, two_way: false, ..*session };
        let (now, timeout) = (self.now, timeout(session));
        let entry = Entry {
            session: adopted,
            class: Class::Plain,
            last_seen: now,
            timeout,
            told_at: now,
            heard,
            doubtful: false,
        };
        let handle = match same {
            Some((handle, _)) => {
                *self.slot_mut(handle) = Some(entry);
                handle
            }
            None => match self.place(worker, entry) {
                Some(handle) => handle,
                None => return Applied::Refused(Refused::Full),
            },
        };
        self.note(Change::Adopted, adopted, version);
        self.mark(handle);
        Applied::Installed { handle: SessionHandle(handle), displaced: [None; 2] }
    }

    /// Only a node that serves ends sessions by itself.
    pub(super) fn expire_step(&mut self, worker: usize) {
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
}
