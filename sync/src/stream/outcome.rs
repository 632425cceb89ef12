//! What comes back from the owners, and the tags by which it is recognised.
//!
//! ```text
//! seq:   kind 2 | epoch 6 | place among the datagram's sessions 8 | low half of its number 16 | check 32
//! word:  the weight of the session; for a mention its place in the list of those under way
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
            _ => Errand::Scrub,
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
            self.follow.returned += u64::from(label.errand != Errand::Mention);
            match label.errand {
                Errand::Record if self.role == Role::Following => self.record_outcome(now, label, outcome),
                Errand::Scrub if self.role == Role::Following => self.scrub_outcome(outcome),
                Errand::Mention if self.role == Role::Leading && label.epoch == self.epoch => {
                    self.mention_outcome(outcome, source);
                }
                _ => {}
            }
        }
        self.follow.hurry = true;
    }

    fn record_outcome(&mut self, now: Micros, label: Label, outcome: Outcome) {
        let current = label.epoch == self.epoch;
        let seq = if current { self.follow.applied(label.low, now) } else { None };
        let touched = seq.unwrap_or_else(|| self.follow.window.applied_through());
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
            Applied::Held { .. } | Applied::Absent => self.counters.older_refused += 1,
            Applied::Refused(reason) => {
                if let Some(seq) = seq {
                    self.follow.naks.push_back(Nak { seq, index: label.index, reason: reason as u8 });
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
    pub(super) fn nak(&mut self, low: u16, index: u8, reason: u8) {
        let Some(known) = Refused::from_wire(reason) else { return };
        let Some((seq, handle)) = self.lead.flight.session_at(low, index) else { return };
        let entry = self.table.entry(handle);
        if !entry.is_present() || entry.seq != seq as u16 {
            return;
        }
        self.table.set(handle, Entry::refused(reason), seq);
        self.lead.refused.set(handle.0);
        let place = usize::from(reason) - 1;
        self.lead.refusals[place] += 1;
        self.lead.refused_again = true;
        if !std::mem::replace(&mut self.lead.refusal_told[place], true) {
            self.tell(super::Event::Unprotected { reason: known });
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
        for errand in [Errand::Record, Errand::Mention, Errand::Scrub] {
            let label = Label { errand, epoch: 63, index: 200, low: 0xfedc, check: 0x8765_4321 };
            assert_eq!(Label::of(label.tag(9)), label);
        }
    }
}
