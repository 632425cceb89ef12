//! The slow look at memory itself: what no mark, no datagram and no digest would tell.
//!
//! On the active node the scrubber compares key and version of every session with what was emitted, and so
//! finds changes whose mark was lost and ends that found no room. On the standby it compares everything
//! with what was applied. A difference may just be on its way: it is a suspect first, and looked at again
//! when everything that was under way then has come to its end, however long that takes. On the active node
//! that is when owners have gone on since (one may have stopped between a change and its mark) and, after
//! that, all marks and ends were read that they had left; on the standby, when all records that were with
//! the owners have come back.

use std::collections::VecDeque;

use super::digest::Entry;
use super::hash::bucket_of;
use super::outcome::{Errand, Label};
use super::{Damage, Reading, Sink, Source, Stream};
use crate::ids::{Micros, SessionHandle};
use crate::record::{Delete, Record, Session};

/// Handles of a pass that must not be slow.
const SWEEP_QUANTUM: u32 = 8_192;
/// Suspects at a time; further ones are found in the next pass.
const SUSPECTS: usize = 256;
/// Turns that the count waits for an owner to leave a session alone.
const COUNT_TRIES: u32 = 1_000;
/// How long a suspect is left alone on the standby.
const PROBATION: Micros = Micros::from_millis(20);
/// Rounds until owners have surely ended what they were at: the one under way may have begun before.
const ROUNDS: u64 = 2;
/// Between two looks.
const TICK: Micros = Micros::from_millis(2);

/// A handle whose memory was not what it should be.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    handle: SessionHandle,
    entry: Entry,
    seen: Option<(u64, u32)>,
    /// Not to be judged before.
    from: Micros,
    /// What must be over first: rounds whose marks are to be read, or records that are to come back.
    awaits: u64,
}

/// Where the scrubber is.
#[derive(Debug)]
pub(super) struct Scrub {
    at: u32,
    next: Micros,
    /// What the pace has earned and not yet used, in millionths of a handle.
    credit: u64,
    last: Micros,
    /// Handles left of a pass that must not be slow.
    sweep: u32,
    /// How often the next handle of that could not be read.
    tries: u32,
    suspects: VecDeque<Suspect>,
}

impl Scrub {
    pub const fn new(now: Micros) -> Self {
        Self { at: 0, next: now, credit: 0, last: now, sweep: 0, tries: 0, suspects: VecDeque::new() }
    }

    pub fn clear(&mut self) {
        self.suspects.clear();
        self.sweep = 0;
    }

    pub const fn deadline(&self) -> Micros {
        if self.sweep > 0 { Micros(0) } else { self.next }
    }

    /// How many handles are due.
    fn quantum(&mut self, handles: u32, pass: Micros, most: u32, now: Micros) -> u32 {
        if self.sweep > 0 {
            let quantum = self.sweep.min(SWEEP_QUANTUM);
            self.sweep -= quantum;
            return quantum;
        }
        if now < self.next {
            return 0;
        }
        let since = now.since(self.last).0.min(1_000_000);
        self.last = now;
        self.next = now.after(TICK);
        self.credit += since * u64::from(handles) * 1_000_000 / pass.0.max(1);
        let due = (self.credit / 1_000_000).min(u64::from(most)) as u32;
        // What could not be done is not owed: a caller that was away does not pay with a long turn.
        self.credit = if due == most { 0 } else { self.credit % 1_000_000 };
        due
    }

    fn step(&mut self, handles: u32) -> SessionHandle {
        let at = if self.at < handles { self.at } else { 0 };
        self.at = at + 1;
        SessionHandle(at)
    }

    /// A pass that must not miss anything comes back to a handle that could not be read, and to what is
    /// behind it; not for ever.
    const fn wait_for(&mut self, handle: SessionHandle, left: u32) -> bool {
        self.tries += 1;
        if self.tries >= COUNT_TRIES {
            self.tries = 0;
            return false;
        }
        self.at = handle.0;
        self.sweep += left;
        true
    }

    fn suspect(&mut self, suspect: Suspect) {
        if self.suspects.len() < SUSPECTS {
            self.suspects.push_back(suspect);
        }
    }

    fn next_suspect(&mut self, now: Micros, over: u64) -> Option<Suspect> {
        self.suspects.pop_front_if(|suspect| suspect.from <= now && suspect.awaits <= over)
    }
}

impl Stream {
    /// All handles are to be looked at, soon.
    pub(super) fn sweep(&mut self) {
        self.scrub.sweep = self.table.handles();
    }

    pub(super) const fn is_sweeping(&self) -> bool {
        self.scrub.sweep > 0
    }

    fn quantum(&mut self, now: Micros) -> u32 {
        let handles = self.table.handles();
        let due = self.scrub.quantum(handles, self.config.scrub_pass, self.config.scrub_quantum, now);
        self.counters.scrubbed += u64::from(due);
        due
    }

    /// The active node's share.
    pub(super) fn scrub_leading(&mut self, now: Micros, source: &mut impl Source) {
        // Before anything is read: what is read now is marked when these rounds and two more are over.
        self.lead.rounds = source.rounds();
        while let Some(suspect) = self.scrub.next_suspect(now, self.lead.rounds_read) {
            if let Some(bucket) = self.judge_leading(suspect, source) {
                self.damaged(suspect.handle, bucket, Damage::Unmarked);
            }
        }
        let sweeping = self.is_sweeping();
        let due = self.quantum(now);
        for done in 0..due {
            let handle = self.scrub.step(self.table.handles());
            let entry = self.table.entry(handle);
            let Some(seen) = self.read_own(handle, source) else {
                if sweeping && self.scrub.wait_for(handle, due - done) {
                    return;
                }
                continue;
            };
            if !self.is_suspicious(handle, entry, seen) {
                continue;
            }
            if sweeping {
                // What is looked for now is known to be there: ends that found no room. It is put right by
                // this reading, since nobody comes back to it and the next one may not succeed.
                self.put_right(handle, entry, seen);
            } else {
                let seen = seen.map(|word| (word, 0));
                let awaits = self.lead.rounds + ROUNDS;
                self.scrub.suspect(Suspect { handle, entry, seen, from: now, awaits });
            }
        }
    }

    /// The weight of what is there, if anything; nothing at all if it cannot be read now.
    fn read_own(&mut self, handle: SessionHandle, source: &mut impl Source) -> Option<Option<u64>> {
        match source.read(handle) {
            Reading::Busy => None,
            Reading::Session(session) if session.group == self.config.group => {
                Some(Some(self.hasher.word(&session)))
            }
            _ => Some(None),
        }
    }

    fn is_suspicious(&self, handle: SessionHandle, entry: Entry, seen: Option<u64>) -> bool {
        let emitted = entry.is_present().then_some(entry.word);
        if seen.is_none() {
            // A mark would find nothing to send.
            return emitted.is_some();
        }
        let known = self.lead.refresh.contains(handle.0)
            || self.lead.lost.contains(handle.0)
            || self.lead.repair.contains(handle.0)
            || entry.refusal().is_some();
        let reached = entry.is_present() || self.walked().is_none_or(|walked| handle.0 < walked);
        emitted != seen && !known && reached
    }

    /// The bucket of what is really wrong, which is put right.
    fn judge_leading(&mut self, suspect: Suspect, source: &mut impl Source) -> Option<u16> {
        let Suspect { handle, entry, seen, .. } = suspect;
        let again = self.read_own(handle, source)?;
        let same = self.table.entry(handle) == entry && again == seen.map(|(word, _)| word);
        if !same || !self.is_suspicious(handle, entry, again) {
            return None;
        }
        Some(self.put_right(handle, entry, again))
    }

    /// Sees to it that the partner hears of a handle whose memory is not what was emitted. Its bucket.
    fn put_right(&mut self, handle: SessionHandle, entry: Entry, seen: Option<u64>) -> u16 {
        let bucket = bucket_of(seen.unwrap_or(entry.word));
        if seen.is_some() {
            self.mark_changed(handle);
        } else {
            // It ended, and nobody said so.
            self.table.remove(handle, 0);
            self.lead.unknown.set(u32::from(bucket));
        }
        bucket
    }

    /// The standby's share.
    pub(super) fn scrub_following(&mut self, now: Micros, sink: &mut impl Sink) {
        if sink.purging() {
            return;
        }
        self.count_own(sink);
        while let Some(suspect) = self.scrub.next_suspect(now, self.follow.returned) {
            self.judge_following(suspect, now, sink);
        }
        for _ in 0..self.quantum(now) {
            let handle = self.scrub.step(self.table.handles());
            if self.follow.counting.is_some_and(|counted| handle.0 >= counted) {
                continue;
            }
            let entry = self.table.entry(handle);
            let Some(seen) = self.look(handle, sink) else { continue };
            if self.damage(entry, &seen).is_none() {
                self.settle(handle, entry, &seen);
                continue;
            }
            let seen = seen.as_ref().map(|session| self.weigh(session));
            let awaits = self.follow.handed;
            self.scrub.suspect(Suspect { handle, entry, seen, from: now.after(PROBATION), awaits });
        }
    }

    /// What is held; nothing at all if it cannot be read now.
    fn look(&mut self, handle: SessionHandle, sink: &mut impl Sink) -> Option<Option<Session>> {
        match sink.held(handle) {
            Reading::Busy => None,
            Reading::Session(session) if session.group == self.config.group => Some(Some(session)),
            _ => Some(None),
        }
    }

    fn weigh(&self, session: &Session) -> (u64, u32) {
        (self.hasher.word(session), self.hasher.check(session))
    }

    fn damage(&self, entry: Entry, seen: &Option<Session>) -> Option<Damage> {
        match seen {
            None => entry.is_present().then_some(Damage::Dropped),
            Some(_) if !entry.is_present() => Some(Damage::Added),
            Some(session) => {
                let (word, check) = self.weigh(session);
                let changed = word != entry.word || entry.is_settled() && check != entry.check;
                changed.then_some(Damage::Changed)
            }
        }
    }

    /// The first look after a session was applied: from now on it must stay what it is. An owner may store
    /// less than a record says; that is counted, and no damage.
    fn settle(&mut self, handle: SessionHandle, entry: Entry, seen: &Option<Session>) {
        let Some(session) = seen.as_ref().filter(|_| !entry.is_settled()) else { return };
        let check = self.hasher.check(session);
        self.counters.stored_otherwise += u64::from(check != entry.check);
        if let Some(entry) = self.table.entry_mut(handle) {
            entry.settle(check);
        }
    }

    fn judge_following(&mut self, suspect: Suspect, now: Micros, sink: &mut impl Sink) {
        let handle = suspect.handle;
        let entry = self.table.entry(handle);
        let Some(seen) = self.look(handle, sink) else { return };
        let weight = seen.as_ref().map(|session| self.weigh(session));
        if entry != suspect.entry || weight != suspect.seen {
            return;
        }
        let Some(damage) = self.damage(entry, &seen) else { return };
        let touched = self.follow.window.applied_through();
        let mut bucket = bucket_of(entry.word);
        match (damage, &seen) {
            (Damage::Changed, Some(session)) => {
                // It must go before it can come again in the same version.
                let delete =
                    Delete { key: session.key, version: session.version, group: session.group, exact: true };
                let label = Label { errand: Errand::Scrub, epoch: self.epoch, index: 0, low: 0, check: 0 };
                if !sink.hand(&Record::Delete(delete), label.tag(0)) {
                    return;
                }
                self.follow.handed += 1;
                self.table.remove(handle, touched);
                self.follow.answers.want(self.hasher.bucket(&session.key), now);
            }
            (Damage::Added, Some(session)) => {
                let (word, check) = self.weigh(session);
                bucket = bucket_of(word);
                self.table.set(handle, Entry::present(word, check, 0), touched);
            }
            _ => self.table.remove(handle, touched),
        }
        self.follow.answers.want(bucket, now);
        self.damaged(handle, bucket, damage);
    }

    /// Takes what is held into account, if nothing is known of the handle.
    /// False if it cannot be read now.
    pub(super) fn count_one(&mut self, handle: SessionHandle, touched: u64, sink: &mut impl Sink) -> bool {
        if self.table.entry(handle).is_present() {
            return true;
        }
        let Some(seen) = self.look(handle, sink) else { return false };
        if let Some(session) = seen {
            let (word, check) = self.weigh(&session);
            let mut entry = Entry::present(word, check, 0);
            entry.settle(check);
            self.table.set(handle, entry, touched);
        }
        true
    }

    /// A node that was active before, or whose mirror was kept, counts what it holds.
    fn count_own(&mut self, sink: &mut impl Sink) {
        let Some(from) = self.follow.counting else { return };
        let to = self.table.handles().min(from.saturating_add(SWEEP_QUANTUM));
        let mut at = from;
        while at < to {
            let counted = self.count_one(SessionHandle(at), 0, sink);
            self.follow.count_tries += u32::from(!counted);
            if !counted && self.follow.count_tries < COUNT_TRIES {
                break;
            }
            // What nobody can read the slow pass will find in the end.
            self.follow.count_tries = 0;
            at += 1;
        }
        self.follow.counting = (at < self.table.handles()).then_some(at);
        self.follow.hurry |= self.follow.counting.is_some();
        if self.follow.counting.is_none() && self.table.total().1 == 0 {
            self.follow.found_nothing();
        }
    }
}
