//! The active node's side: where it is on the way to a proven mirror.
//!
//! A partner without memory gets a bulk. One that has a table of its own (it was active before, or the
//! link was cut) is not sent anything that it may have: the own table is *counted* as if it had been sent,
//! except for what was written in the own term, and the digests then say what really differs.

use std::collections::VecDeque;

use super::flight::{Flight, Lost};
use super::hash::BUCKETS;
use super::marks::Marks;
use super::mend::Mend;
use super::message::Have;
use super::verify::Verify;
use super::{Config, Event, Refused, Source, Stream};
use crate::ids::{Micros, SessionHandle};
use crate::membership::Mirror;
use crate::record::Delete;

/// Deletes that wait to be sent, at most; what does not fit is asked about by bucket.
pub(super) const MAX_BACKLOG: usize = 1 << 13;

/// A partner without sessions gets all of them in a bulk if there are so many: else digests do as well.
const WORTH_A_BULK: u32 = 16;
/// Refused sessions that are tried to find out whether it is worth while.
const FEW: usize = 16;
/// Refused sessions that are tried at once.
const MANY: usize = 1 << 14;

/// Where the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No partner was ever here.
    Alone,
    /// Counting the own table: all handles below this one are done.
    Count(u32),
    /// Sending the own table.
    Bulk(u32),
    /// Comparing digests.
    Verify,
    /// Repairing what differs.
    Mend,
    /// Equal.
    Proven,
}

/// A bulk or a repair under way, for its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub since: Micros,
    pub bulk: bool,
    pub buckets: u32,
    pub sessions: u64,
    pub bytes: u64,
}

/// What the active node keeps.
#[derive(Debug)]
pub(super) struct Leader {
    pub flight: Flight,
    pub phase: Phase,
    /// The partner has not said yet whether it holds anything of the table that is counted as sent.
    pub assumed: bool,
    /// Changed sessions: of the suspension, or that the partner has already.
    pub refresh: Marks,
    /// Sessions of lost datagrams.
    pub lost: Marks,
    /// Sessions of buckets that differ.
    pub repair: Marks,
    /// Sessions that the partner could not take.
    pub refused: Marks,
    pub refusals: [u32; Refused::COUNT],
    /// Since the last try there was a refusal.
    pub refused_again: bool,
    /// Refused sessions were tried again, and nobody knows yet.
    pub retrying: bool,
    pub refusal_told: [bool; Refused::COUNT],
    /// Deletes to be sent: lost ones, and answers to mentions.
    pub backlog: VecDeque<Delete>,
    /// Buckets in which deletes were not sent.
    pub unknown: Marks,
    pub ends_lost: u64,
    /// The standby's table, as it numbers them.
    pub life: Option<u16>,
    pub verify: Verify,
    pub mend: Mend,
    /// The policy generation that most sessions have.
    pub generation: u16,
    pub task: Option<Task>,
    /// What the partner should know of its mirror, until it is sent.
    pub mark: Option<Mirror>,
    /// The datagram that told it last.
    pub mark_sent: Option<(u64, Mirror)>,
    /// What it was told last, or is about to be told.
    pub shown: Mirror,
    /// The source had nothing more when it was last asked.
    pub drained: bool,
    /// Rounds of the owners at the last turn.
    pub rounds: u64,
    /// All that they left in so many rounds was read.
    pub rounds_read: u64,
    /// What waited in the source at the last turn.
    pub source_waits: u32,
    /// Since when changes wait without a pause.
    pub waiting_since: Option<Micros>,
    /// That is so long that the partner cannot be called up to date.
    pub late: bool,
    /// Something is left over from the last call.
    pub hurry: bool,
    pub retry_at: Micros,
    pub resync_credit: Credit,
    pub byte_credit: Credit,
}

/// Something of which there is so much a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    at: Micros,
    left: i64,
}

impl Credit {
    pub const fn new(now: Micros) -> Self {
        Self { at: now, left: 0 }
    }

    /// Whether anything may be spent at `now`; no rate is no limit. Unspent credit lasts for 20 ms.
    pub fn may_spend(&mut self, rate: u64, now: Micros) -> bool {
        if rate == 0 {
            return true;
        }
        let earned = (u128::from(rate) * u128::from(now.since(self.at).0) / 1_000_000) as i64;
        if earned > 0 {
            self.at = now;
            self.left = self.left.saturating_add(earned).min((rate / 50).max(1) as i64);
        }
        self.left > 0
    }

    pub const fn spend(&mut self, amount: u64) {
        self.left = self.left.saturating_sub_unsigned(amount);
    }

    /// When there will be something to spend again.
    pub const fn deadline(&self, rate: u64) -> Micros {
        if rate == 0 || self.left > 0 {
            return self.at;
        }
        let missing = 1 + self.left.unsigned_abs();
        self.at.after(Micros(missing.saturating_mul(1_000_000) / rate + 1))
    }
}

impl Leader {
    pub fn new(config: &Config, handles: u32, now: Micros) -> Self {
        Self {
            flight: Flight::new(config.ack_delay),
            phase: Phase::Alone,
            assumed: false,
            refresh: Marks::new(handles),
            lost: Marks::new(handles),
            repair: Marks::new(handles),
            refused: Marks::new(handles),
            refusals: [0; Refused::COUNT],
            refused_again: false,
            retrying: false,
            refusal_told: [false; Refused::COUNT],
            backlog: VecDeque::new(),
            unknown: Marks::new(BUCKETS as u32),
            ends_lost: 0,
            life: None,
            verify: Verify::new(now),
            mend: Mend::new(),
            generation: 0,
            task: None,
            mark: None,
            mark_sent: None,
            shown: Mirror::None,
            drained: false,
            rounds: 0,
            rounds_read: 0,
            source_waits: 0,
            waiting_since: None,
            late: false,
            hurry: true,
            retry_at: now,
            resync_credit: Credit::new(now),
            byte_credit: Credit::new(now),
        }
    }

    /// Forgets what of the own table the partner does not have.
    fn clear_marks(&mut self) {
        self.refresh.clear_all();
        self.lost.clear_all();
        self.repair.clear_all();
        self.refused.clear_all();
        self.refusals = [0; Refused::COUNT];
        self.refused_again = false;
        self.retrying = false;
        self.life = None;
        self.backlog.clear();
        self.unknown.clear_all();
        self.mend.clear();
        self.verify.stop();
        self.verify.full_due = true;
    }
}

impl Stream {
    /// The table was reset: nothing is emitted in this term.
    pub(super) fn start_leading(&mut self, now: Micros) {
        self.lead.clear_marks();
        self.abandon_flight();
        self.lead.hurry = true;
        self.lead.retry_at = now;
        if self.partner.is_some() {
            self.lead.phase = Phase::Count(0);
            self.lead.assumed = true;
            self.lead.task = None;
            self.show(Mirror::Partial);
        } else {
            self.lead.phase = Phase::Alone;
        }
    }

    /// The same node leads in a new term: what is under way will be refused.
    pub(super) fn restart_proof(&mut self, now: Micros) {
        self.lose_everything();
        self.lead.hurry = true;
        self.show(Mirror::Partial);
        // A look at all handles may have been interrupted that was to find lost ends.
        self.sweep();
        self.prove_again(now);
    }

    /// A partner without memory: everything is to be sent.
    pub(super) fn begin_bulk(&mut self, now: Micros) {
        self.table.reset();
        self.lead.clear_marks();
        self.abandon_flight();
        self.lead.phase = Phase::Bulk(0);
        self.lead.assumed = false;
        self.lead.hurry = true;
        let bytes = self.counters.bytes_sent;
        self.lead.task = Some(Task { since: now, bulk: true, buckets: 0, sessions: 0, bytes });
        self.show(Mirror::Partial);
        self.tell(Event::BulkBegan);
    }

    /// Operator: everything again.
    pub fn resync(&mut self, now: Micros) {
        if self.role == super::Role::Leading && self.partner.is_some() {
            self.begin_bulk(now);
        }
    }

    pub(super) fn show(&mut self, mirror: Mirror) {
        self.lead.mark = Some(mirror);
        self.lead.mark_sent = None;
        self.lead.shown = mirror;
    }

    /// The partner is not reached any more.
    pub(super) fn suspend(&mut self) {
        self.lose_everything();
        // Deletes are bounded, an absence is not.
        while let Some(delete) = self.lead.backlog.pop_front() {
            self.delete_unknown(&delete);
        }
        self.lead.hurry = true;
    }

    /// It is back, with the memory that it had.
    pub(super) fn resume(&mut self, now: Micros) {
        self.lead.hurry = true;
        self.lead.flight.encourage();
        match self.lead.phase {
            Phase::Alone => self.begin_bulk(now),
            Phase::Count(_) | Phase::Bulk(_) => self.show(Mirror::Partial),
            _ => {
                // It calls its mirror stale by now, and stays with that until it is proven.
                self.lead.shown = Mirror::Stale;
                self.lead.mark = None;
                self.prove_again(now);
            }
        }
    }

    /// Everything is to be compared again. What the partner was told of its mirror stands until then, but
    /// it will be told anew.
    pub(super) fn prove_again(&mut self, now: Micros) {
        self.interrupt_mend();
        self.lead.verify.full_due = true;
        if !matches!(self.lead.phase, Phase::Alone | Phase::Count(_) | Phase::Bulk(_)) {
            self.lead.phase = Phase::Verify;
            self.lead.verify.start(None, now);
        }
    }

    /// The phases as they follow one another.
    pub(super) fn advance(&mut self, now: Micros) {
        match self.lead.phase {
            Phase::Alone | Phase::Count(_) | Phase::Bulk(_) => {}
            Phase::Mend => {
                if self.advance_mend(now) {
                    self.lead.phase = Phase::Verify;
                    self.lead.verify.start(Some(self.lead.mend.targets()), now);
                }
            }
            Phase::Verify | Phase::Proven if self.mend_due(now) && !self.is_sweeping() => {
                self.begin_mend(now);
            }
            Phase::Verify | Phase::Proven => {
                if self.advance_verify(now) {
                    self.round_ended(now);
                } else if self.lead.verify.is_idle() && self.round_due(now) {
                    self.lead.verify.full_due = true;
                    self.lead.verify.start(None, now);
                }
            }
        }
        self.show_mirror();
    }

    fn round_due(&self, now: Micros) -> bool {
        let nothing_else = self.lead.mend.wanted.is_empty() && self.lead.unknown.is_empty();
        nothing_else && (self.lead.phase == Phase::Verify || now >= self.lead.verify.next_at)
    }

    /// A round found everything equal.
    pub(super) fn proved(&mut self, now: Micros) {
        let first = self.lead.phase != Phase::Proven;
        self.lead.mend.succeeded();
        if self.lead.verify.full_due || !first {
            // A repair is over in the middle of something larger.
            return;
        }
        self.lead.phase = Phase::Proven;
        self.lead.assumed = false;
        self.lead.hurry = true;
        let Some(task) = self.lead.task.take() else { return };
        let (sessions, took) = (u32::try_from(task.sessions).unwrap_or(u32::MAX), now.since(task.since));
        let bytes = self.counters.bytes_sent - task.bytes;
        self.tell(if task.bulk {
            Event::BulkDone { sessions, took }
        } else {
            Event::Repaired { buckets: task.buckets, sessions, bytes, took }
        });
    }

    /// Tells the partner how good its mirror is.
    fn show_mirror(&mut self) {
        let clean = self.lead.refused.is_empty() && !self.lead.retrying;
        let good = self.lead.phase == Phase::Proven && clean;
        if good && self.lead.shown != Mirror::Complete {
            self.show(Mirror::Complete);
        } else if self.lead.shown == Mirror::Complete && (self.lead.phase == Phase::Mend || !clean) {
            self.show(Mirror::Partial);
        }
    }

    /// Tries refused sessions again: a few to find out, all of them if those were taken.
    pub(super) fn retry_refused(&mut self, now: Micros) {
        if now < self.lead.retry_at {
            return;
        }
        self.lead.retry_at = now.after(self.config.verify_every);
        let again = std::mem::take(&mut self.lead.refused_again);
        if self.lead.refused.is_empty() {
            self.lead.retrying = false;
            self.lead.refusal_told = [false; Refused::COUNT];
            return;
        }
        let most = if again || !self.lead.retrying { FEW } else { usize::MAX };
        let tries: Vec<u32> = self.lead.refused.iter().take(most.min(MANY)).collect();
        for handle in tries {
            self.lead.repair.set(handle);
        }
        self.lead.retrying = true;
    }

    /// The standby says what it has. One that lost its completeness unseen from here gets a new proof, one
    /// that turns out to be empty gets everything: it started anew before this node was active.
    pub(super) fn standby_has(&mut self, have: &Have, acked: u64, now: Micros) {
        let empty = have.mirror == Mirror::None && have.sessions == 0;
        // While it counts, it says that it holds something, and no number.
        self.lead.assumed &= have.sessions == 0;
        if self.lead.assumed && empty && self.table.total().1 >= WORTH_A_BULK {
            return self.begin_bulk(now);
        }
        let before = self.lead.life.replace(have.life);
        let discarded = before.is_some_and(|life| life != have.life);
        let told = self.lead.mark.is_none() && self.lead.mark_sent.is_some_and(|(seq, _)| seq <= acked);
        let complete = [self.lead.shown, have.mirror].map(|mirror| mirror == Mirror::Complete);
        if discarded || told && complete == [true, false] {
            self.lead.shown = have.mirror;
            self.prove_again(now);
        }
    }

    /// Ends that found no room: only a look at all handles finds them.
    pub(super) fn look_at_lost_ends(&mut self, source: &impl Source, now: Micros) {
        let lost = source.ends_lost();
        if lost != self.lead.ends_lost {
            self.lead.ends_lost = lost;
            if self.lead.phase != Phase::Alone {
                self.sweep();
                self.prove_again(now);
            }
        }
    }

    /// Nothing of what is under way matters any more.
    fn abandon_flight(&mut self) {
        while self.lead.flight.next_under_way().is_some() {}
        self.lead.flight.forget_lost();
    }

    /// Everything under way has to be sent again.
    pub(super) fn lose_everything(&mut self) {
        while let Some(lost) = self.lead.flight.next_under_way() {
            self.lose(&lost);
        }
        self.lead.flight.forget_lost();
    }

    /// Marks what a lost datagram carried, unless a later one carried it again.
    pub(super) fn lose(&mut self, lost: &Lost) {
        self.counters.datagrams_lost += 1;
        for handle in self.lead.flight.sessions_of(lost) {
            let entry = self.table.entry(handle);
            if entry.is_present() && entry.seq == lost.seq as u16 {
                self.lead.lost.set(handle.0);
            }
        }
        let room = MAX_BACKLOG.saturating_sub(self.lead.backlog.len());
        for (at, delete) in self.lead.flight.deletes_of(lost).enumerate() {
            if at < room {
                self.lead.backlog.push_back(*delete);
            } else {
                self.counters.deletes_unknown += 1;
                self.lead.unknown.set(u32::from(self.hasher.bucket(&delete.key)));
            }
        }
        if let Some((_, mirror)) = self.lead.mark_sent.filter(|&(seq, _)| seq == lost.seq) {
            self.show(mirror);
        }
    }

    /// A delete that cannot be kept: its bucket will be asked about.
    pub(super) fn delete_unknown(&mut self, delete: &Delete) {
        self.counters.deletes_unknown += 1;
        self.lead.unknown.set(u32::from(self.hasher.bucket(&delete.key)));
    }

    /// The bulk or the count has passed all handles.
    pub(super) fn passed_all(&mut self) {
        self.lead.phase = Phase::Verify;
        self.lead.verify.full_due = true;
        self.lead.hurry = true;
    }

    /// Handles that the walk has passed.
    pub(super) const fn walked(&self) -> Option<u32> {
        match self.lead.phase {
            Phase::Count(at) | Phase::Bulk(at) => Some(at),
            _ => None,
        }
    }

    pub(super) fn waits(&self) -> u32 {
        self.lead.refresh.len()
            + self.lead.lost.len()
            + self.lead.repair.len()
            + self.lead.backlog.len() as u32
    }

    /// A handle that must be looked at again.
    pub(super) fn mark_changed(&mut self, handle: SessionHandle) {
        self.lead.refresh.set(handle.0);
    }
}
