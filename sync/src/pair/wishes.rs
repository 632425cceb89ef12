//! What a standby wants of the active node: that it compares both tables now, or sends everything again.
//!
//! An operator may ask on either node. Only the active one can do it, so the standby shows the number of its
//! latest wish in its heartbeats, and the active node fulfils each number once. What came of a comparison
//! goes back the same way, under the wish's number: a lost heartbeat costs a repetition.

use crate::heartbeat::{Report, Verdict, Wishes};
use crate::stream::Groups;

/// Both halves: what this node wants, and what it does for the partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Errands {
    own: Wishes,
    /// The own comparison that has no answer yet.
    open: Option<u16>,
    /// The partner's wishes up to here are fulfilled; none before its first heartbeat.
    fulfilled: Option<Wishes>,
    /// The partner's comparison that is under way here.
    under_way: Option<u16>,
    verdict: Verdict,
}

/// What the partner's heartbeat asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Asked {
    pub verify: bool,
    pub resync: bool,
}

impl Errands {
    /// This node's operator wants a comparison.
    pub fn want_verify(&mut self) {
        self.own.verify = next(self.own.verify);
        self.open = Some(self.own.verify);
    }

    /// This node's operator wants everything to be sent again.
    pub fn want_resync(&mut self) {
        self.own.resync = next(self.own.resync);
    }

    /// The partner is a new process: its numbers begin anew, and it knows nothing of ours.
    pub fn new_partner(&mut self) {
        (self.fulfilled, self.under_way, self.verdict) = (None, None, Verdict::default());
    }

    /// What the partner wants that it had not wanted before. What was wanted before this node came to hear
    /// of it, or of a node that does not lead, is not done later on.
    pub fn hear(&mut self, report: &Report, leads: bool) -> Asked {
        let wishes = report.wishes;
        let known = self.fulfilled.replace(wishes).unwrap_or(wishes);
        let asked = Asked {
            verify: leads && wishes.verify != known.verify,
            resync: leads && wishes.resync != known.resync,
        };
        if asked.verify {
            self.under_way = Some(wishes.verify);
        }
        asked
    }

    /// The partner's answer to the own comparison, once.
    pub fn answered(&mut self, report: &Report) -> Option<Verdict> {
        let verdict = report.verdict;
        (self.open? == verdict.of).then(|| {
            self.open = None;
            verdict
        })
    }

    /// A comparison that was asked for has ended here. True if the partner wants to know.
    pub fn ended(&mut self, differing: u32, groups: Groups) -> bool {
        let Some(of) = self.under_way.take() else { return false };
        self.verdict = Verdict { of, differing, groups };
        true
    }

    /// For the own heartbeats.
    pub fn describe(&self, report: &mut Report) {
        (report.wishes, report.verdict) = (self.own, self.verdict);
    }
}

/// Numbers come round; 0 is none.
fn next(number: u16) -> u16 {
    number.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errands: &Errands) -> Report {
        let mut report = Report::default();
        errands.describe(&mut report);
        report
    }

    #[test]
    fn n_13_a_wish_is_fulfilled_once_and_answered_once() {
        let (mut active, mut standby) = (Errands::default(), Errands::default());
        assert_eq!(active.hear(&said(&standby), true), Asked::default());
        standby.want_verify();
        assert_eq!(standby.answered(&said(&active)), None);
        assert_eq!(active.hear(&said(&standby), true), Asked { verify: true, resync: false });
        assert_eq!(active.hear(&said(&standby), true), Asked::default(), "the same heartbeat again");
        assert_eq!(standby.answered(&said(&active)), None, "not yet");
        let groups = Groups::of([3, 200]);
        assert!(active.ended(2, groups) && !active.ended(0, Groups::default()));
        assert_eq!(standby.answered(&said(&active)), Some(Verdict { of: 1, differing: 2, groups }));
        assert_eq!(standby.answered(&said(&active)), None, "told once");
        standby.want_resync();
        assert_eq!(active.hear(&said(&standby), true), Asked { verify: false, resync: true });
    }

    #[test]
    fn n_13_old_wishes_are_not_done_by_a_new_process_or_after_a_change_of_role() {
        let mut standby = Errands::default();
        standby.want_verify();
        standby.want_resync();
        let mut fresh = Errands::default();
        assert_eq!(fresh.hear(&said(&standby), true), Asked::default());
        standby.want_verify();
        assert_eq!(fresh.hear(&said(&standby), false), Asked::default(), "it does not lead");
        assert_eq!(fresh.hear(&said(&standby), true), Asked::default());
        fresh.new_partner();
        assert_eq!(fresh.hear(&said(&Errands::default()), true), Asked::default());
    }

    #[test]
    fn numbers_come_round_and_leave_out_none() {
        assert_eq!((next(0), next(7), next(u16::MAX)), (1, 8, 1));
    }
}
