//! Counter slots: which place in the workers' counter arrays belongs to which rule.
//!
//! Counters are dense arrays, rules come and go. A rule keeps its slot over every reload, also while it is
//! out of the policy, for as long as no new rule needs the place; so counters survive a reload, and a rule
//! that comes back finds its own.

use std::collections::HashMap;

use crate::ids::RuleId;

/// The largest number of rules in a policy.
pub const MAX_RULES: usize = 4096;
/// The size of a counter array: a slot for each rule and slot 0 for default deny.
pub const COUNTER_SLOTS: usize = MAX_RULES + 1;

#[derive(Clone, Copy, Debug)]
struct Owner {
    id: RuleId,
    /// The last compilation that had this rule.
    seen: u64,
}

/// The assignment of counter slots to rules.
///
/// It outlives the policies. Compile with a clone and keep that clone only if the policy goes into
/// service: a slot taken from a rule that is still being used would mix two rules' counters.
#[derive(Clone, Debug, Default)]
pub struct RuleSlots {
    /// The owner of slot `i + 1`.
    owners: Vec<Owner>,
    slot_of: HashMap<RuleId, u16>,
    compilation: u64,
    recycled: Vec<u16>,
}

impl RuleSlots {
    /// No rule has a slot yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The slot of a rule, 0 for [`RuleId::DEFAULT_DENY`]; `None` if it never had one or lost it.
    pub fn slot(&self, id: RuleId) -> Option<u16> {
        if id == RuleId::DEFAULT_DENY { Some(0) } else { self.slot_of.get(&id).copied() }
    }

    /// The slots that the last compilation took from rules that are gone: their counters start anew.
    pub fn recycled(&self) -> &[u16] {
        &self.recycled
    }

    /// One slot for each of `ids`: at most [`MAX_RULES`], all different, none of them default deny.
    pub(super) fn assign(&mut self, ids: &[RuleId]) -> Vec<u16> {
        debug_assert!(ids.len() <= MAX_RULES);
        self.compilation += 1;
        self.recycled.clear();
        for id in ids {
            if let Some(owner) = self.slot_of.get(id).and_then(|&s| self.owners.get_mut(usize::from(s) - 1)) {
                owner.seen = self.compilation;
            }
        }
        // The gone rules, the one that is gone for longest last.
        let mut gone: Vec<u16> = Vec::new();
        if self.owners.len() + ids.len() > MAX_RULES {
            gone = (1..=self.owners.len() as u16).filter(|&s| !self.is_live(s)).collect();
            gone.sort_by_key(|&s| std::cmp::Reverse(self.owners[usize::from(s) - 1].seen));
        }
        ids.iter().map(|&id| self.slot(id).unwrap_or_else(|| self.place(id, &mut gone))).collect()
    }

    fn is_live(&self, slot: u16) -> bool {
        self.owners.get(usize::from(slot) - 1).is_some_and(|o| o.seen == self.compilation)
    }

    fn place(&mut self, id: RuleId, gone: &mut Vec<u16>) -> u16 {
        let owner = Owner { id, seen: self.compilation };
        let slot = if self.owners.len() < MAX_RULES {
            self.owners.push(owner);
            self.owners.len() as u16
        } else {
            // More rules than slots are refused before: some slot has no rule in service.
            let Some(slot) = gone.pop() else { return 0 };
            let before = std::mem::replace(&mut self.owners[usize::from(slot) - 1], owner);
            self.slot_of.remove(&before.id);
            self.recycled.push(slot);
            slot
        };
        self.slot_of.insert(id, slot);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u32>) -> Vec<RuleId> {
        range.map(|i| RuleId(i + 1)).collect()
    }

    #[test]
    fn a_rule_keeps_its_slot_over_reloads_and_absence() {
        let mut slots = RuleSlots::new();
        assert_eq!(slots.assign(&[RuleId(7), RuleId(8)]), [1, 2]);
        assert_eq!(slots.assign(&[RuleId(8), RuleId(9)]), [2, 3]);
        assert_eq!(slots.assign(&[RuleId(9), RuleId(7), RuleId(8)]), [3, 1, 2]);
        assert_eq!(slots.slot(RuleId::DEFAULT_DENY), Some(0));
        assert_eq!((slots.slot(RuleId(9)), slots.slot(RuleId(10))), (Some(3), None));
    }

    #[test]
    fn slots_of_gone_rules_are_taken_only_when_needed_and_the_oldest_first() {
        let mut slots = RuleSlots::new();
        slots.assign(&ids(0..4096));
        slots.assign(&ids(1..4096)); // rule 1 goes first
        slots.assign(&ids(2..4096)); // then rule 2
        assert!(slots.recycled().is_empty());
        assert_eq!((slots.slot(RuleId(1)), slots.slot(RuleId(2))), (Some(1), Some(2)));

        let mut next = ids(2..4096);
        next.push(RuleId(90_000));
        assert_eq!(slots.assign(&next).last(), Some(&1));
        assert_eq!(slots.recycled(), [1]);
        assert_eq!((slots.slot(RuleId(1)), slots.slot(RuleId(2))), (None, Some(2)));
    }

    #[test]
    fn a_full_house_can_be_replaced_whole() {
        let mut slots = RuleSlots::new();
        slots.assign(&ids(0..4096));
        let mut fresh = slots.assign(&ids(10_000..14_096));
        fresh.sort_unstable();
        assert_eq!(fresh, (1..=4096).collect::<Vec<u16>>());
        assert_eq!(slots.recycled().len(), 4096);
        assert!(usize::from(fresh[4095]) < COUNTER_SLOTS);
    }
}
