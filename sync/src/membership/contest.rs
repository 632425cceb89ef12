//! Two active nodes that meet after a split: who stays (decision 34).
//!
//! The node on whose side the users were keeps the role: many more sessions with two-way traffic since the
//! split outweigh everything. Only then term, quality, preference and node id decide. Both nodes compare
//! the same frozen numbers, so they come to opposite verdicts without asking each other.

use crate::ids::{NodeId, Term};

/// How many times as many sessions outweigh everything else.
pub const ACTIVITY_FACTOR: u64 = 4;

/// What a node puts into the scales, frozen when it noticed the conflict.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Standing {
    /// Whether it may be active at all.
    pub able: bool,
    /// Sessions with traffic both ways since the split.
    pub activity: u32,
    /// 0..=100.
    pub quality: u8,
}

/// One side of a contest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Contender {
    /// The frozen numbers.
    pub standing: Standing,
    /// The term in which it is active.
    pub term: Term,
    /// Whether the configuration prefers it.
    pub preferred: bool,
    /// Who it is; the lower id wins when all else is equal.
    pub node: NodeId,
}

/// Whether the first of two active nodes stays.
#[must_use]
pub fn first_wins(first: &Contender, second: &Contender) -> bool {
    if first.standing.able != second.standing.able {
        return first.standing.able;
    }
    let (mine, theirs) = (u64::from(first.standing.activity), u64::from(second.standing.activity));
    if mine > ACTIVITY_FACTOR * theirs || theirs > ACTIVITY_FACTOR * mine {
        return mine > theirs;
    }
    let rank =
        |side: &Contender| (side.term, side.standing.quality, side.preferred, std::cmp::Reverse(side.node));
    rank(first) > rank(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side(node: u8, term: u32, activity: u32, quality: u8, preferred: bool) -> Contender {
        Contender {
            standing: Standing { able: true, activity, quality },
            term: Term::new(term).unwrap(),
            preferred,
            node: NodeId(node),
        }
    }

    #[test]
    fn decision_34_users_then_term_then_quality_then_preference_then_id() {
        let beats = |a, b| {
            assert!(first_wins(&a, &b), "{a:?} against {b:?}");
            assert!(!first_wins(&b, &a), "{b:?} against {a:?}");
        };
        beats(side(1, 1, 401, 0, false), side(0, 2, 100, 100, true));
        beats(side(0, 2, 100, 0, false), side(1, 1, 400, 100, true));
        beats(side(0, 2, 10, 91, false), side(1, 2, 10, 90, true));
        beats(side(1, 2, 10, 90, true), side(0, 2, 10, 90, false));
        beats(side(0, 2, 10, 90, true), side(1, 2, 10, 90, true));
        let unable = Contender { standing: Standing::default(), ..side(0, 9, 0, 0, true) };
        beats(side(1, 1, 0, 0, false), unable);
    }

    proptest! {
        #[test]
        fn decision_34_exactly_one_of_two_stays(
            a in (0u32..9, 0u32..50, 0u8..=100, any::<bool>(), any::<bool>()),
            b in (0u32..9, 0u32..50, 0u8..=100, any::<bool>(), any::<bool>()),
        ) {
            let make = |node, (term, activity, quality, preferred, able)| {
                let mut side = side(node, term, activity, quality, preferred);
                side.standing.able = able;
                side
            };
            let (a, b) = (make(0, a), make(1, b));
            prop_assert_ne!(first_wins(&a, &b), first_wins(&b, &a));
        }
    }
}
