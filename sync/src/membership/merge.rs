//! What becomes of single sessions after a split and after a takeover with a stale mirror.

use crate::ids::Micros;

/// What the winner does with a session that the loser of a contest offers (decision 35).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MergeVerdict {
    /// Insert it, in the winner's term.
    Insert,
    /// Replace the winner's copy.
    Replace,
    /// Keep the winner's copy.
    Keep,
}

/// Merges one session of the loser. `ours` says whether the winner has the session and, if so, whether
/// traffic passed there both ways since the split; `theirs` the same of the loser's; `collides` whether
/// one of its keys belongs to another session of the winner. Only sessions with traffic are offered.
#[must_use]
pub const fn merge(ours: Option<bool>, theirs: bool, collides: bool) -> MergeVerdict {
    match ours {
        _ if collides => MergeVerdict::Keep,
        None => MergeVerdict::Insert,
        Some(false) if theirs => MergeVerdict::Replace,
        Some(_) => MergeVerdict::Keep,
    }
}

/// What a node that took over with a stale mirror does with a session in it (decision 36).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StaleVerdict {
    /// Use it.
    Use,
    /// It outlived its timeout while nobody told us.
    Drop,
    /// Use it after the inside host spoke.
    ConfirmFromInside,
}

/// Judges a session of a mirror that went stale `stale_for` ago.
#[must_use]
pub fn after_stale_takeover(is_tcp: bool, timeout: Micros, stale_for: Micros) -> StaleVerdict {
    if stale_for.0 == 0 {
        StaleVerdict::Use
    } else if is_tcp {
        StaleVerdict::ConfirmFromInside
    } else if stale_for >= timeout {
        StaleVerdict::Drop
    } else {
        StaleVerdict::Use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_35_the_side_with_the_users_keeps_its_copy() {
        assert_eq!(merge(None, true, false), MergeVerdict::Insert);
        assert_eq!(merge(None, false, false), MergeVerdict::Insert);
        assert_eq!(merge(Some(false), true, false), MergeVerdict::Replace);
        assert_eq!(merge(Some(true), true, false), MergeVerdict::Keep);
        assert_eq!(merge(Some(false), false, false), MergeVerdict::Keep);
        assert_eq!(merge(None, true, true), MergeVerdict::Keep);
        assert_eq!(merge(Some(false), true, true), MergeVerdict::Keep);
    }

    #[test]
    fn decision_36_a_stale_mirror_is_used_with_care() {
        let s = Micros::from_secs;
        assert_eq!(after_stale_takeover(true, s(7_440), s(0)), StaleVerdict::Use);
        assert_eq!(after_stale_takeover(true, s(7_440), s(1)), StaleVerdict::ConfirmFromInside);
        assert_eq!(after_stale_takeover(false, s(30), s(29)), StaleVerdict::Use);
        assert_eq!(after_stale_takeover(false, s(30), s(30)), StaleVerdict::Drop);
    }
}
