//! The active node's side of comparing digests (decision 23).
//!
//! A round asks about all 256 groups, then about the buckets of those that were not equal, again and again
//! until each is equal or differs. Nothing is kept about single questions: what was not answered is asked
//! again. A difference counts when it was seen twice while nothing waited to be sent, since a datagram
//! that is lost and not yet sent again looks like one.

use super::digest::GROUP;
use super::hash::BUCKETS;
use super::marks::Marks;
use super::message::{Level, SUMS, Sum, Verdict, write_digests};
use super::{Event, Groups, Stream};
use crate::ids::Micros;
use crate::record::RecordWriter;

/// Sums that are asked about at once.
const AT_ONCE: u32 = 4_096 - SUMS as u32;
/// After so many answers "busy" a group is looked at by bucket.
const PATIENCE: u8 = 3;
/// Between two questions that were not all answered with "equal".
const PAUSE: Micros = Micros::from_millis(2);
const LONGEST_PAUSE: Micros = Micros::from_millis(50);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    Pause(Micros),
    /// Sums of this level are being sent, from this number on.
    Send(Level, u32),
    Wait(Micros),
}

/// A round of comparisons.
#[derive(Debug)]
pub(super) struct Verify {
    stage: Stage,
    token: u32,
    groups: Marks,
    buckets: Marks,
    busy: Box<[u8; GROUP]>,
    /// Buckets that differed once.
    struck: Marks,
    /// Buckets that differ.
    pub differs: Marks,
    sent: u32,
    answered: u32,
    /// Something was neither equal nor looked at more closely.
    troubled: bool,
    /// Something was learned.
    moved: bool,
    pause: Micros,
    /// This round goes over everything.
    full: bool,
    /// The next round has to.
    pub full_due: bool,
    /// Somebody wants to know how it ends.
    pub asked: bool,
    /// When the next round begins by itself.
    pub next_at: Micros,
}

impl Verify {
    pub fn new(now: Micros) -> Self {
        let buckets = || Marks::new(BUCKETS as u32);
        Self {
            stage: Stage::Idle,
            token: 0,
            groups: Marks::new(GROUP as u32),
            buckets: buckets(),
            busy: Box::new([0; GROUP]),
            struck: buckets(),
            differs: buckets(),
            sent: 0,
            answered: 0,
            troubled: false,
            moved: false,
            pause: PAUSE,
            full: false,
            full_due: true,
            asked: false,
            next_at: now,
        }
    }

    /// Ends a round before its end. One that goes over everything is still due then.
    pub fn stop(&mut self) {
        self.full_due |= self.full && self.stage != Stage::Idle;
        self.stage = Stage::Idle;
        self.groups.clear_all();
        self.buckets.clear_all();
        self.struck.clear_all();
        self.differs.clear_all();
    }

    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Begins a round: over everything if that is due, else over `scope`.
    pub fn start(&mut self, scope: Option<&Marks>, now: Micros) {
        self.stop();
        let scope = scope.filter(|_| !self.full_due);
        self.full = scope.is_none();
        match scope {
            Some(scope) => scope.iter().for_each(|bucket| {
                self.buckets.set(bucket);
            }),
            None => (0..GROUP as u32).for_each(|group| {
                self.groups.set(group);
            }),
        }
        self.full_due = false;
        self.busy.fill(0);
        self.pause = PAUSE;
        self.stage = Stage::Pause(now);
    }

    const fn deadline(&self) -> Micros {
        match self.stage {
            Stage::Idle => Micros::NEVER,
            Stage::Pause(until) | Stage::Wait(until) => until,
            Stage::Send(..) => Micros(0),
        }
    }

    fn ask(&mut self) {
        self.token = self.token.wrapping_add(1);
        (self.sent, self.answered, self.troubled, self.moved) = (0, 0, false, false);
        self.stage = Stage::Send(Level::Group, 0);
    }

    /// The next numbers to ask about.
    fn batch(&self, level: Level, mut from: u32, out: &mut [u16; SUMS]) -> usize {
        let marks = if level == Level::Group { &self.groups } else { &self.buckets };
        let mut found = 0;
        while let Some(number) = marks.next_from(from).filter(|_| found < SUMS) {
            out[found] = number as u16;
            found += 1;
            from = number + 1;
        }
        found
    }

    fn answer(&mut self, level: Level, number: u16, verdict: Verdict, quiet: bool) {
        let number = u32::from(number);
        let marks = if level == Level::Group { &mut self.groups } else { &mut self.buckets };
        if !marks.contains(number) {
            return;
        }
        self.answered += 1;
        match (level, verdict) {
            (_, Verdict::Equal) => {
                self.moved = true;
                marks.clear(number);
            }
            (_, Verdict::Later) => self.troubled = true,
            (Level::Group, Verdict::Busy) if self.busy[number as usize] < PATIENCE => {
                self.busy[number as usize] += 1;
                self.troubled = true;
            }
            (Level::Group, _) => {
                self.moved = true;
                self.groups.clear(number);
                let first = number * GROUP as u32;
                (first..first + GROUP as u32).for_each(|bucket| {
                    self.buckets.set(bucket);
                });
            }
            (Level::Bucket, Verdict::Differs) if quiet => {
                self.moved = true;
                if self.struck.set(number) {
                    self.troubled = true;
                } else {
                    self.buckets.clear(number);
                    self.differs.set(number);
                }
            }
            (Level::Bucket, _) => self.troubled = true,
        }
    }

    /// The questions that were asked are answered, or will not be.
    fn settle(&mut self, now: Micros) {
        let unanswered = self.answered < self.sent;
        if self.groups.is_empty() && self.buckets.is_empty() {
            self.stage = Stage::Idle;
        } else if self.troubled || unanswered {
            self.pause = if self.moved { PAUSE } else { Micros(self.pause.0 * 2).min(LONGEST_PAUSE) };
            self.stage = Stage::Pause(now.after(self.pause));
        } else {
            self.stage = Stage::Pause(now);
        }
    }
}

impl Stream {
    /// Operator: compare all digests now, and look at all of the own memory before.
    pub fn verify(&mut self, now: Micros) {
        match self.role {
            super::Role::Leading => {
                self.lead.verify.asked = true;
                self.sweep();
                self.prove_again(now);
            }
            super::Role::Following => self.sweep(),
            super::Role::Resting => {}
        }
    }

    /// True when a round has just ended.
    pub(super) fn advance_verify(&mut self, now: Micros) -> bool {
        let verify = &mut self.lead.verify;
        match verify.stage {
            Stage::Pause(until) if now >= until => {
                if self.waits() == 0 && !self.is_sweeping() {
                    self.lead.verify.ask();
                    self.lead.hurry = true;
                } else {
                    self.lead.verify.stage = Stage::Pause(now.after(PAUSE));
                }
                false
            }
            Stage::Wait(until) if verify.answered >= verify.sent || now >= until => {
                verify.settle(now);
                verify.is_idle()
            }
            _ => false,
        }
    }

    pub(super) const fn verify_deadline(&self) -> Micros {
        self.lead.verify.deadline()
    }

    /// Writes sums into a datagram; true if it is full.
    pub(super) fn fill_digests(&mut self, writer: &mut RecordWriter<'_>, seq: u64, now: Micros) -> bool {
        while let Stage::Send(level, from) = self.lead.verify.stage {
            let mut numbers = [0; SUMS];
            let found = self.lead.verify.batch(level, from, &mut numbers);
            if found == 0 || self.lead.verify.sent >= AT_ONCE {
                self.lead.verify.stage = if level == Level::Group && found == 0 {
                    Stage::Send(Level::Bucket, 0)
                } else {
                    let timeout = self.lead.flight.timeout();
                    Stage::Wait(now.after(Micros(2 * timeout.0)).after(self.lead.verify.pause))
                };
                continue;
            }
            let mut sums = [Sum { number: 0, sum: 0, last: 0 }; SUMS];
            for (sum, &number) in sums.iter_mut().zip(&numbers[..found]) {
                let bucket = match level {
                    Level::Group => self.table.group(number as u8),
                    Level::Bucket => self.table.bucket(number),
                };
                *sum = Sum { number, sum: bucket.sum, last: bucket.last };
            }
            let body = write_digests(self.lead.verify.token, level, seq, &sums[..found]);
            if !writer.push_raw(super::message::kind::DIGESTS, body.bytes()) {
                return true;
            }
            self.lead.verify.sent += found as u32;
            let next = u32::from(numbers[found - 1]) + 1;
            self.lead.verify.stage = Stage::Send(level, next);
        }
        false
    }

    pub(super) fn verdicts(
        &mut self,
        token: u32,
        level: Level,
        verdicts: impl Iterator<Item = (u16, Verdict)>,
    ) {
        let asked = matches!(self.lead.verify.stage, Stage::Send(..) | Stage::Wait(_));
        if !asked || token != self.lead.verify.token {
            return;
        }
        let quiet = self.waits() == 0;
        for (number, verdict) in verdicts {
            self.lead.verify.answer(level, number, verdict, quiet);
        }
    }

    /// A round has ended: everything was equal, or its differences are to be repaired.
    pub(super) fn round_ended(&mut self, now: Micros) {
        let buckets = self.lead.verify.differs.len();
        self.counters.rounds += u64::from(self.lead.verify.full);
        let asked = self.lead.verify.full && std::mem::take(&mut self.lead.verify.asked);
        if asked || buckets > 0 {
            let groups =
                Groups::of(self.lead.verify.differs.iter().map(|bucket| (bucket / GROUP as u32) as u8));
            self.tell(Event::Verified { equal: buckets == 0, buckets, groups, asked });
        }
        self.lead.verify.next_at = now.after(self.config.verify_every);
        if buckets == 0 {
            self.proved(now);
            return;
        }
        for bucket in self.lead.verify.differs.iter() {
            self.lead.mend.wanted.set(bucket);
        }
    }
}
