//! The active node's side of repair (decision 24).
//!
//! A bucket that differs is *pushed*: every session in it that was emitted is sent again as it stands. And
//! it is *asked* about: the standby mentions what it holds there, the owner here looks each key up, and
//! what is not there is answered by a delete of exactly that version. Nothing is ever deleted because it
//! was not mentioned. A bucket in which only deletes are missing is asked about and not pushed.
//!
//! A mention that is lost costs nothing but another round: the digests say in the end whether it worked.

use super::hash::{BUCKETS, bucket_of};
use super::marks::Marks;
use super::message::{LISTED, kind, write_buckets};
use super::outcome::{Errand, Label};
use super::phase::{MAX_BACKLOG, Phase, Task};
use super::{Applied, Event, Outcome, Reading, Sink, Source, Stream};
use crate::ids::{Micros, SessionHandle};
use crate::record::{Delete, Mention, Record, RecordWriter};

/// Mentions that are being looked up, at most.
const LOOKUPS: usize = 8_192;
/// Mentions that one question should lead to.
const EXPECTED: u64 = 4_096;
/// Buckets in one question.
const LEAST_BATCH: u64 = 16;
const LARGEST_BATCH: u64 = 16 * LISTED as u64;
/// Handles that one turn looks through for sessions to push.
const PUSH_QUANTUM: u32 = 16_384;
const LONGEST_PAUSE: Micros = Micros::from_secs(1);

/// A question under way.
#[derive(Debug)]
struct Batch {
    buckets: Vec<u16>,
    /// Buckets that were sent.
    sent: usize,
    until: Micros,
    tries: u32,
}

/// A repair.
#[derive(Debug)]
pub(super) struct Mend {
    /// Buckets to be repaired next: pushed and asked about.
    pub wanted: Marks,
    /// Buckets of this repair.
    targets: Marks,
    push: Marks,
    /// Where the search for sessions to push stands.
    walk: Option<u32>,
    ask: Marks,
    batch: Option<Batch>,
    token: u32,
    lookups: Vec<Option<Mention>>,
    free: Vec<u16>,
    /// Repairs since everything was equal.
    attempts: u32,
    not_before: Micros,
}

impl Mend {
    pub fn new() -> Self {
        let buckets = || Marks::new(BUCKETS as u32);
        Self {
            wanted: buckets(),
            targets: buckets(),
            push: buckets(),
            walk: None,
            ask: buckets(),
            batch: None,
            token: 0,
            lookups: vec![None; LOOKUPS],
            free: (0..LOOKUPS as u16).rev().collect(),
            attempts: 0,
            not_before: Micros(0),
        }
    }

    /// Forgets everything: the partner has nothing that could differ.
    pub fn clear(&mut self) {
        self.stop();
        self.wanted.clear_all();
        self.attempts = 0;
        self.not_before = Micros(0);
    }

    fn stop(&mut self) {
        self.targets.clear_all();
        self.push.clear_all();
        self.ask.clear_all();
        (self.walk, self.batch) = (None, None);
        self.lookups.fill(None);
        self.free = (0..LOOKUPS as u16).rev().collect();
    }

    fn lookups_under_way(&self) -> usize {
        LOOKUPS - self.free.len()
    }

    /// Everything is equal.
    pub const fn succeeded(&mut self) {
        self.attempts = 0;
        self.not_before = Micros(0);
    }

    pub fn targets(&self) -> &Marks {
        &self.targets
    }
}

impl Stream {
    /// Something is to be repaired, and it is time.
    pub(super) fn mend_due(&self, now: Micros) -> bool {
        let any = !self.lead.mend.wanted.is_empty() || !self.lead.unknown.is_empty();
        any && now >= self.lead.mend.not_before
    }

    /// When a repair is due that has to wait.
    pub(super) fn mend_deadline(&self) -> Micros {
        let any = !self.lead.mend.wanted.is_empty() || !self.lead.unknown.is_empty();
        match (&self.lead.mend.batch, self.lead.phase) {
            (Some(batch), Phase::Mend) => batch.until,
            (None, Phase::Mend) if self.lead.mend.walk.is_some() => Micros(0),
            (_, Phase::Verify | Phase::Proven) if any => self.lead.mend.not_before,
            _ => Micros::NEVER,
        }
    }

    pub(super) fn begin_mend(&mut self, now: Micros) {
        let mend = &mut self.lead.mend;
        mend.stop();
        while let Some(bucket) = mend.wanted.take_next() {
            mend.push.set(bucket);
            mend.ask.set(bucket);
            mend.targets.set(bucket);
        }
        while let Some(bucket) = self.lead.unknown.take_next() {
            mend.ask.set(bucket);
            mend.targets.set(bucket);
        }
        mend.walk = (!mend.push.is_empty()).then_some(0);
        mend.attempts += 1;
        let pause = Micros(1_000 << mend.attempts.min(10));
        mend.not_before = if mend.attempts > 2 { now.after(pause.min(LONGEST_PAUSE)) } else { now };
        let buckets = mend.targets.len();
        self.lead.phase = Phase::Mend;
        self.lead.verify.stop();
        match &mut self.lead.task {
            Some(task) => task.buckets = task.buckets.max(buckets),
            None => {
                let bytes = self.counters.bytes_sent;
                self.lead.task = Some(Task { since: now, bulk: false, buckets, sessions: 0, bytes });
            }
        }
        self.tell(Event::RepairBegan { buckets });
    }

    /// A repair that is interrupted: what it was about is still to be repaired.
    pub(super) fn interrupt_mend(&mut self) {
        if self.lead.phase != Phase::Mend {
            return;
        }
        let mend = &mut self.lead.mend;
        while let Some(bucket) = mend.targets.take_next() {
            if mend.push.contains(bucket) {
                mend.wanted.set(bucket);
            } else {
                self.lead.unknown.set(bucket);
            }
        }
        mend.stop();
    }

    /// True when all was sent and answered.
    pub(super) fn advance_mend(&mut self, now: Micros) -> bool {
        self.walk_push();
        self.advance_batch(now);
        let mend = &self.lead.mend;
        mend.walk.is_none()
            && mend.batch.is_none()
            && mend.ask.is_empty()
            && mend.lookups_under_way() == 0
            && self.waits() == 0
    }

    fn walk_push(&mut self) {
        let Some(from) = self.lead.mend.walk else { return };
        let to = self.table.handles().min(from.saturating_add(PUSH_QUANTUM));
        for handle in from..to {
            let entry = self.table.entry(SessionHandle(handle));
            if entry.is_present() && self.lead.mend.push.contains(u32::from(bucket_of(entry.word))) {
                self.lead.repair.set(handle);
            }
        }
        self.lead.mend.walk = (to < self.table.handles()).then_some(to);
        self.lead.hurry = true;
    }

    fn advance_batch(&mut self, now: Micros) {
        let sessions = u64::from(self.table.total().1.max(1));
        let mend = &mut self.lead.mend;
        let occupied = mend.ask.is_empty() || mend.lookups_under_way() > LOOKUPS / 2;
        match &mut mend.batch {
            Some(batch) if batch.sent == batch.buckets.len() && now >= batch.until => {
                // Not answered: ask again, and in the end let the digests tell what is left.
                batch.tries += 1;
                batch.sent = 0;
                if batch.tries > 8 {
                    mend.batch = None;
                }
                self.lead.hurry = true;
            }
            Some(_) => {}
            None if occupied => {}
            None => {
                let size = (EXPECTED * BUCKETS as u64 / sessions).clamp(LEAST_BATCH, LARGEST_BATCH) as usize;
                let mut buckets = Vec::with_capacity(size);
                while let Some(bucket) = mend.ask.take_next() {
                    buckets.push(bucket as u16);
                    if buckets.len() == size {
                        break;
                    }
                }
                mend.token = mend.token.wrapping_add(1);
                mend.batch = Some(Batch { buckets, sent: 0, until: Micros::NEVER, tries: 0 });
                self.lead.hurry = true;
            }
        }
    }

    /// Writes questions into a datagram; true if it is full.
    pub(super) fn fill_asks(&mut self, writer: &mut RecordWriter<'_>, now: Micros) -> bool {
        let timeout = self.lead.flight.timeout();
        let token = self.lead.mend.token;
        let Some(batch) = &mut self.lead.mend.batch else { return false };
        while batch.sent < batch.buckets.len() {
            let rest = &batch.buckets[batch.sent..];
            let body = write_buckets(Some(token), rest);
            if !writer.push_raw(kind::ASK, body.bytes()) {
                return true;
            }
            batch.sent += rest.len().min(LISTED);
            // The partner walks over all of its handles.
            let walk = Micros(u64::from(self.table.handles()) / 10);
            batch.until = now.after(Micros(2 * timeout.0)).after(walk);
        }
        false
    }

    /// The standby has mentioned all that it holds in so many buckets.
    pub(super) fn mentioned(&mut self, token: u32, buckets: u32) {
        let mend = &mut self.lead.mend;
        if token == mend.token && mend.batch.as_ref().is_some_and(|b| b.buckets.len() == buckets as usize) {
            mend.batch = None;
            self.lead.hurry = true;
        }
    }

    /// Buckets in which the standby found damage.
    pub(super) fn wanted(&mut self, buckets: impl Iterator<Item = u16>) {
        for bucket in buckets.map(u32::from) {
            let under_repair = self.lead.phase == Phase::Mend && self.lead.mend.push.contains(bucket);
            if !under_repair {
                self.lead.mend.wanted.set(bucket);
            }
        }
        self.lead.hurry = true;
    }

    /// The standby holds this: the owner here is asked for it.
    pub(super) fn mention(&mut self, mention: &Mention, sink: &mut impl Sink) {
        if self.lead.phase != Phase::Mend {
            return;
        }
        self.counters.mentions += 1;
        let Some(place) = self.lead.mend.free.pop() else {
            self.ask_again(mention);
            return;
        };
        let label = Label { errand: Errand::Mention, epoch: self.epoch, index: 0, low: 0, check: 0 };
        if sink.hand(&Record::Mention(*mention), label.tag(u64::from(place))) {
            self.lead.mend.lookups[usize::from(place)] = Some(*mention);
        } else {
            self.lead.mend.free.push(place);
            self.ask_again(mention);
        }
    }

    fn ask_again(&mut self, mention: &Mention) {
        self.counters.mentions_dropped += 1;
        let bucket = self.hasher.bucket(&mention.key);
        self.lead.mend.ask.set(u32::from(bucket));
    }

    /// The owner has looked a mentioned key up.
    pub(super) fn mention_outcome(&mut self, outcome: Outcome, source: &mut impl Source) {
        let place = outcome.tag.word as usize;
        let Some(mention) = self.lead.mend.lookups.get_mut(place).and_then(Option::take) else { return };
        self.lead.mend.free.push(place as u16);
        let handle = match outcome.applied {
            Applied::Held { handle, version } if version != mention.version => handle,
            // Equal: whatever differs in this bucket, it is not this one.
            Applied::Held { handle, .. } if self.table.entry(handle).is_present() => return,
            Applied::Held { handle, .. } => handle,
            _ => return self.delete_exactly(&mention),
        };
        match source.read(handle) {
            Reading::Session(session) if session.key == mention.key && session.group == self.config.group => {
                if session.version < mention.version {
                    // Of another lineage, and newer than anything that would be sent.
                    self.delete_exactly(&mention);
                }
                self.lead.repair.set(handle.0);
            }
            Reading::Busy => {
                self.lead.repair.set(handle.0);
            }
            _ => self.delete_exactly(&mention),
        }
    }

    fn delete_exactly(&mut self, mention: &Mention) {
        let delete = Delete { key: mention.key, version: mention.version, group: mention.group, exact: true };
        if self.lead.backlog.len() < MAX_BACKLOG {
            self.lead.backlog.push_back(delete);
        } else {
            self.delete_unknown(&delete);
        }
        if let Some(task) = &mut self.lead.task {
            task.sessions += 1;
        }
    }
}
