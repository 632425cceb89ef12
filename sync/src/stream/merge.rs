//! After a split (decision 35): both nodes were active, each for its own side, and one of them gave in.
//!
//! The loser follows already. It *offers* every session of its own that had traffic since the split, behind
//! its acks; the owner at the winner inserts what is missing there, in the winner's own term, and keeps or
//! replaces what it has. Each offer names the loser's handle, and is repeated until the winner says that its
//! owner has answered: nothing is numbered, nothing is remembered but a bit for each handle, and an offer
//! that comes twice changes nothing.
//!
//! Meanwhile the winner tells nothing of its table, as if it had no link: what it would say could overwrite
//! what is about to be offered. When all is said (or it took too long, or the partner is gone) digests and
//! repair make the loser's table equal, and what was not taken goes by exact deletes (decision 24).
//!
//! ```text
//!   loser    walk all handles ─► offer, offer, … ───────────► all offered ─┐
//!   winner   silent from the first sign of a conflict ─► taken, taken, …   └─► over ─► verify, mend
//! ```

use std::collections::VecDeque;

use super::marks::Marks;
use super::message::{LISTED_HANDLES, kind, write_handles};
use super::outcome::{Errand, Label};
use super::{Outcome, Reading, Role, Sink, Source, Stream};
use crate::ids::{Micros, SessionHandle};
use crate::record::{Record, RecordWriter, Session};

/// How long a merge may take once the nodes are connected.
const LONGEST: Micros = Micros::from_secs(2);
/// Between two tries of the same offers.
const AGAIN: Micros = Micros::from_millis(20);
/// Handles that one turn looks at for sessions to offer.
const QUANTUM: u32 = 8_192;
/// Offers that wait for an answer, at most.
const UNDER_WAY: u32 = 2_048;
/// Answers that wait to be sent, at most. What does not fit is offered again.
const MAX_TAKEN: usize = 8_192;

/// Where a merge is. Its time begins to run when the nodes are connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Window {
    Closed,
    Waiting,
    Open { until: Micros },
}

impl Window {
    /// False when it is over.
    fn keep_open(&mut self, connected: bool, now: Micros) -> bool {
        match *self {
            Self::Closed => return false,
            Self::Waiting if connected => *self = Self::Open { until: now.after(LONGEST) },
            Self::Open { until } if now >= until => *self = Self::Closed,
            _ => {}
        }
        *self != Self::Closed
    }

    const fn deadline(self) -> Micros {
        match self {
            Self::Open { until } => until,
            Self::Waiting | Self::Closed => Micros::NEVER,
        }
    }
}

/// What both sides keep of a merge.
#[derive(Debug)]
pub(super) struct Merge {
    /// The loser: until when it offers.
    offering: Window,
    /// Sessions to offer, or offered and not answered.
    marks: Marks,
    /// The next handle to look at; nothing when all were.
    walk: Option<u32>,
    /// The next offer comes from here on.
    at: u32,
    /// When those behind it are offered again.
    again_at: Micros,
    under_way: u32,
    /// When it is said next that all was offered.
    say_at: Micros,
    /// The winner: both nodes are active still.
    contested: bool,
    /// Until when it takes offers.
    accepting: Window,
    /// Whose handle the next session of an ack has.
    named: Option<u32>,
    taken: VecDeque<u32>,
    /// The loser has offered everything, and is to hear that it is over.
    over: bool,
}

impl Merge {
    pub fn new(handles: u32) -> Self {
        Self {
            offering: Window::Closed,
            marks: Marks::new(handles),
            walk: None,
            at: 0,
            again_at: Micros(0),
            under_way: 0,
            say_at: Micros(0),
            contested: false,
            accepting: Window::Closed,
            named: None,
            taken: VecDeque::new(),
            over: false,
        }
    }

    fn stop_offering(&mut self) {
        self.offering = Window::Closed;
        self.marks.clear_all();
        self.walk = None;
    }

    /// Nothing is to be merged any more.
    pub fn clear(&mut self) {
        self.stop_offering();
        self.accepting = Window::Closed;
        self.taken = VecDeque::new();
        (self.named, self.over) = (None, false);
    }

    fn is_all_offered(&self) -> bool {
        self.walk.is_none() && self.marks.is_empty()
    }

    /// When the loser has something to say or to look for.
    fn offer_deadline(&self) -> Micros {
        let Window::Open { until } = self.offering else { return Micros::NEVER };
        let next = if self.walk.is_some() {
            Micros(0)
        } else if self.marks.is_empty() {
            self.say_at
        } else if self.may_offer() {
            Micros(0)
        } else {
            self.again_at
        };
        next.min(until)
    }

    /// The loser has something to say at once.
    pub fn speaks(&self, now: Micros) -> bool {
        let open = matches!(self.offering, Window::Open { .. });
        open && (self.may_offer() || self.is_all_offered() && now >= self.say_at)
    }

    /// There is an offer that was not made in this round.
    fn may_offer(&self) -> bool {
        self.under_way < UNDER_WAY && self.marks.next_from(self.at).is_some()
    }
}

impl Stream {
    /// This node lost a contest and follows from now on: it offers what its users did since the split.
    pub fn offer_merge(&mut self) {
        let merge = &mut self.merge;
        merge.clear();
        merge.offering = Window::Waiting;
        merge.walk = Some(0);
        (merge.at, merge.under_way) = (0, 0);
        (merge.again_at, merge.say_at) = (Micros(0), Micros(0));
    }

    /// This node won: it takes the loser's sessions before it tells of its own.
    pub fn accept_merge(&mut self) {
        self.merge.clear();
        self.merge.accepting = Window::Waiting;
    }

    /// While both nodes are active, nothing is told: the other one's table is not a mirror yet.
    pub fn contest(&mut self, contested: bool) {
        self.merge.contested = contested;
    }

    /// Leading: the partner's sessions are not in the own table yet.
    pub(super) fn is_merging(&self) -> bool {
        self.role == Role::Leading && (self.merge.contested || self.merge.accepting != Window::Closed)
    }

    // ---- the loser ----

    /// The loser's share of a turn: looks for what is to be offered.
    pub(super) fn turn_offering(&mut self, now: Micros, source: &mut impl Source) {
        let connected = self.connected();
        let merge = &mut self.merge;
        if merge.offering == Window::Closed {
            return;
        }
        if !self.here || !merge.offering.keep_open(connected, now) {
            return merge.stop_offering();
        }
        if let Some(from) = merge.walk {
            let to = self.table.handles().min(from.saturating_add(QUANTUM));
            for handle in from..to {
                if source.since_split(SessionHandle(handle)) != Reading::Nothing {
                    merge.marks.set(handle);
                }
            }
            merge.walk = (to < self.table.handles()).then_some(to);
        }
        if !merge.may_offer() && now >= merge.again_at {
            (merge.at, merge.under_way) = (0, 0);
        }
    }

    pub(super) fn offer_deadline(&self) -> Micros {
        self.merge.offer_deadline()
    }

    /// Writes offers behind an ack until the datagram is full.
    pub(super) fn write_offers(
        &mut self,
        writer: &mut RecordWriter<'_>,
        source: &mut impl Source,
        now: Micros,
    ) {
        let merge = &mut self.merge;
        if !matches!(merge.offering, Window::Open { .. }) {
            return;
        }
        while merge.under_way < UNDER_WAY
            && let Some(handle) = merge.marks.next_from(merge.at)
        {
            match source.since_split(SessionHandle(handle)) {
                Reading::Session(session) => {
                    let named = writer.push_raw(kind::OFFER, write_handles(&[handle]).bytes());
                    if !named || !writer.push(&Record::Session(session)) {
                        return;
                    }
                    merge.under_way += 1;
                    merge.again_at = now.after(AGAIN);
                    self.counters.offered += 1;
                }
                Reading::Nothing => {
                    merge.marks.clear(handle);
                }
                Reading::Busy => merge.again_at = now.after(AGAIN),
            }
            merge.at = handle + 1;
        }
        if merge.is_all_offered() && now >= merge.say_at {
            let whole = writer.push_raw(kind::ALL_OFFERED, write_handles(&[0]).bytes());
            merge.say_at = if whole { now.after(AGAIN) } else { now };
        }
    }

    /// The winner's owners have answered these offers.
    pub(super) fn offers_taken(&mut self, handles: impl Iterator<Item = u32>) {
        let merge = &mut self.merge;
        for handle in handles {
            if merge.marks.clear(handle) {
                merge.under_way = merge.under_way.saturating_sub(1);
            }
        }
        self.follow.hurry = true;
    }

    /// The winner takes nothing more: everything was offered, or its time is up.
    pub(super) fn merge_over(&mut self) {
        self.merge.stop_offering();
    }

    // ---- the winner ----

    /// Takes its share of the turn; true while nothing else is to be told.
    pub(super) fn turn_merging(&mut self, now: Micros, source: &mut impl Source) -> bool {
        if !self.is_merging() {
            return false;
        }
        self.lead.drained = false;
        self.absorb(source);
        let connected = self.connected();
        let merge = &mut self.merge;
        let gone = !self.here;
        if merge.accepting != Window::Closed && (gone || !merge.accepting.keep_open(connected, now)) {
            self.end_merge(now);
        }
        self.is_merging()
    }

    fn end_merge(&mut self, now: Micros) {
        self.merge.accepting = Window::Closed;
        self.merge.named = None;
        self.lead.hurry = true;
        self.prove_again(now);
    }

    pub(super) fn merging_deadline(&self) -> Micros {
        let says = !self.merge.taken.is_empty() || self.merge.over;
        if says && self.lead.flight.may_send() {
            return Micros(0);
        }
        self.merge.accepting.deadline().min(self.lead.flight.wakes_at())
    }

    /// The next session of this ack is the loser's, at this handle.
    pub(super) fn named_offer(&mut self, handle: Option<u32>) {
        self.merge.named = handle;
    }

    /// The loser offers a session: its owner here decides.
    pub(super) fn offered(&mut self, session: &Session, sink: &mut impl Sink) {
        let Some(handle) = self.merge.named.take() else {
            self.counters.skipped += 1;
            return;
        };
        if self.merge.accepting == Window::Closed {
            // Unless it has not begun yet, the loser need not go on.
            self.merge.over |= !self.merge.contested;
            return;
        }
        if session.group != self.config.group {
            return;
        }
        let label = Label { errand: Errand::Offer, epoch: self.epoch, index: 0, low: 0, check: 0 };
        if !sink.adopt(session, label.tag(u64::from(handle))) {
            self.counters.offers_dropped += 1;
        }
    }

    /// The owner has decided, whatever it was.
    pub(super) fn offer_outcome(&mut self, outcome: Outcome) {
        if self.merge.taken.len() < MAX_TAKEN {
            self.merge.taken.push_back(outcome.tag.word as u32);
            self.counters.offers_taken += 1;
        } else {
            self.counters.offers_dropped += 1;
        }
        self.lead.hurry = true;
    }

    /// The loser has offered everything and got an answer to all of it.
    pub(super) fn all_offered(&mut self, now: Micros) {
        self.merge.over |= !self.merge.contested;
        if self.merge.accepting != Window::Closed {
            self.end_merge(now);
        }
    }

    /// Writes answers into a datagram; true if it is full.
    pub(super) fn fill_taken(&mut self, writer: &mut RecordWriter<'_>) -> bool {
        let merge = &mut self.merge;
        while !merge.taken.is_empty() {
            let mut handles = [0; LISTED_HANDLES];
            let count = handles.iter_mut().zip(&merge.taken).map(|(place, taken)| *place = *taken).count();
            if !writer.push_raw(kind::TAKEN, write_handles(&handles[..count]).bytes()) {
                return true;
            }
            merge.taken.drain(..count);
        }
        if merge.over {
            merge.over = !writer.push_raw(kind::MERGED, write_handles(&[0]).bytes());
        }
        merge.over
    }
}
