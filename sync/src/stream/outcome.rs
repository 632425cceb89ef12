//! What comes back from the owners, and the tags by which it is recognised.
//!
//! ```text
//! seq:   kind 2 | epoch 6 | place among the datagram's sessions 8 | low half of its number 16 | check 32
//! word:  the weight of the session; for a mention its place in the list of those under way, for an offer
//!        its handle at the partner
//! ```

use super::digest::Entry;
use super::message::Nak;
use super::{Applied, Damage, Outcome, Refused, Role, Sink, Source, Stream, Tag};
use crate::ids::{Micros, SessionHandle};
use crate::membership::Mirror;

/// Epochs that a tag can tell apart, less one.
pub(super) const EPOCH_MASK: u8 = 63;

/// What was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    /// A session or a delete of a datagram.
    Record,
    /// A mention of the partner, to be looked up here.
    Mention,
    /// A delete of what the scrubber found damaged.
    Scrub,
    /// A session that the loser of a contest offers.
    Offer,
}

/// A tag, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label {
    pub errand: Errand,
    pub epoch: u8,
    pub index: u8,
    pub low: u16,
    pub check: u32,
}

impl Label {
    pub const fn tag(self, word: u64) -> Tag {
        let errand = match self.errand {
            Errand::Record => 0_u64,
            Errand::Mention => 1,
            Errand::Scrub => 2,
            Errand::Offer => 3,
        };
        let seq = errand << 62
            | ((self.epoch & EPOCH_MASK) as u64) << 56
            | (self.index as u64) << 48
            | (self.low as u64) << 32
            | self.check as u64;
        Tag { seq, word }
    }

    pub const fn of(tag: Tag) -> Self {
        let errand = match tag.seq >> 62 {
            0 => Errand::Record,
            1 => Errand::Mention,
            2 => Errand::Scrub,
            _ => Errand::Offer,
        };
        Self {
            errand,
            epoch: (tag.seq >> 56) as u8 & EPOCH_MASK,
            index: (tag.seq >> 48) as u8,
            low: (tag.seq >> 32) as u16,
            check: tag.seq as u32,
        }
    }
}

/// Outcomes that one turn takes.
const QUANTUM: u32 = 16_384;

impl Stream {
    /// Takes in what the owners did since the last turn.
    pub(super) fn take_outcomes(&mut self, now: Micros, source: &mut impl Source, sink: &mut impl Sink) {
        for _ in 0..QUANTUM {
            let Some(outcome) = sink.next_outcome() else { return };
            let label = Label::of(outcome.tag);
            self.follow.returned += u64::from(matches!(label.errand, Errand::Record | Errand::Scrub));
            match label.errand {
                Errand::Record if self.role == Role::Following => {
                    self.record_outcome(now, label, outcome, sink);
                }
                Errand::Scrub if self.role == Role::Following => self.scrub_outcome(outcome),
                Errand::Mention if self.role == Role::Leading && label.epoch == self.epoch => {
                    self.mention_outcome(outcome, source);
                }
                Errand::Offer if self.role == Role::Leading && label.epoch == self.epoch => {
                    self.offer_outcome(outcome);
                }
                _ => {}
            }
        }
        self.follow.hurry = true;
    }

    /// It was handed over in this epoch or since.
    fn is_since(&self, epoch: u8, label: Label) -> bool {
        let age = |epoch: u8| self.epoch.wrapping_sub(epoch) & EPOCH_MASK;
        age(label.epoch) <= age(epoch)
    }

    /// What was handed over before the mirror was thrown away went with it, or came just after: memory
    /// says which. While it is being emptied nothing counts; everything is counted after that.
    fn old_outcome(&mut self, outcome: Outcome, touched: u64, sink: &mut impl Sink) {
        if let (Applied::Installed { handle, .. }, false) = (outcome.applied, sink.purging()) {
            self.count_one(handle, touched, sink);
        }
    }

    fn record_outcome(&mut self, now: Micros, label: Label, outcome: Outcome, sink: &mut impl Sink) {
        let current = self.is_since(self.follow.window_epoch, label);
        let seq = if current { self.follow.applied(label.low, now) } else { None };
        let touched = seq.unwrap_or_else(|| self.follow.window.applied_through());
        if self.follow.discarded_in.is_some_and(|epoch| !self.is_since(epoch, label)) {
            return self.old_outcome(outcome, touched, sink);
        }
        match outcome.applied {
            Applied::Installed { handle, displaced } => {
                self.counters.applied += 1;
                for handle in displaced.into_iter().flatten() {
                    self.counters.displaced += 1;
                    self.table.remove(handle, touched);
                }
                let entry = Entry::present(outcome.tag.word, label.check, touched);
                self.table.set(handle, entry, touched);
                if self.follow.mirror == Mirror::None {
                    self.follow.mirror = Mirror::Partial;
                }
            }
            Applied::Deleted { handle } => {
                self.counters.applied += 1;
                self.table.remove(handle, touched);
            }
            Applied::Held { handle, .. } => {
                self.counters.older_refused += 1;
                self.count_one(handle, touched, sink);
            }
            Applied::Absent => self.counters.older_refused += 1,
            Applied::Refused(reason) => {
                // A delete that is refused deletes nothing; only sessions are wanted.
                if let Some(seq) = seq.filter(|_| outcome.tag.word != 0) {
                    self.follow.refuse(seq, label.index, reason as u8);
                }
            }
        }
    }

    fn scrub_outcome(&mut self, outcome: Outcome) {
        if let Applied::Deleted { handle } = outcome.applied {
            let touched = self.follow.window.applied_through();
            self.table.remove(handle, touched);
        }
    }

    /// The reasons that the partner gave, by session. A refusal clears the session from what counts as
    /// emitted: the partner does not hold it, and the digests shall say so.
    pub(super) fn nak(&mut self, nak: &Nak) {
        let Some(reason) = Refused::from_wire(nak.reason) else { return };
        for index in nak.indices() {
            if let Some((seq, handle)) = self.lead.flight.session_at(nak.seq as u16, index) {
                self.refused(seq, handle, reason);
            }
        }
    }

    fn refused(&mut self, seq: u64, handle: SessionHandle, reason: Refused) {
        let entry = self.table.entry(handle);
        if !entry.is_present() || entry.seq != seq as u16 {
            return;
        }
        self.table.set(handle, Entry::refused(reason as u8), seq);
        self.lead.refused.set(handle.0);
        let place = reason as usize - 1;
        self.lead.refusals[place] += 1;
        self.lead.refused_again = true;
        if !std::mem::replace(&mut self.lead.refusal_told[place], true) {
            self.tell(super::Event::Unprotected { reason });
        }
    }

    /// Forgets that the partner refused a session.
    pub(super) fn unrefuse(&mut self, handle: SessionHandle) {
        let Some(reason) = self.table.entry(handle).refusal() else { return };
        self.lead.refused.clear(handle.0);
        if let Some(count) = self.lead.refusals.get_mut(usize::from(reason) - 1) {
            *count = count.saturating_sub(1);
        }
        self.table.remove(handle, 0);
    }

    pub(super) fn damaged(&mut self, handle: SessionHandle, bucket: u16, damage: Damage) {
        self.counters.damaged += 1;
        self.tell(super::Event::Corrupt { handle, bucket, damage });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_back_as_it_went() {
        for errand in [Errand::Record, Errand::Mention, Errand::Scrub, Errand::Offer] {
            let label = Label { errand, epoch: 63, index: 200, low: 0xfedc, check: 0x8765_4321 };
            assert_eq!(Label::of(label.tag(9)), label);
        }
    }
}
