//! Which of the ways between the nodes carry heartbeats, both ways.
//!
//! A path lives while heartbeats arrive on it *that echo a recent one of ours on the same path*. The echo
//! is what proves life: a recorded heartbeat, replayed or held back by somebody in between, is authentic
//! but answers nothing that we said lately (decision 31). It also finds one-way cuts.
//!
//! The echo is our own clock, as we wrote it into the heartbeat that the partner heard last. So no clock is
//! ever compared with the other node's, and no history of what was sent is kept.

use crate::ids::{Incarnation, Micros};

/// What a node says it heard last on a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Echo {
    /// Whose heartbeat: the incarnation that sent it. 0 before the first one.
    pub incarnation: Incarnation,
    /// Its number.
    pub number: u64,
    /// Its sender's clock at sending.
    pub clock: Micros,
}

/// One path as one node sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// Whether session sync runs over it: a sync link, or a data interface as fall-back.
    pub carries_sync: bool,
    /// Whether the own link is up.
    pub link_up: bool,
    heard: Echo,
    credit_at: Option<Micros>,
    alive: bool,
}

impl Path {
    /// A path on which nothing was heard yet.
    #[must_use]
    pub const fn new(carries_sync: bool) -> Self {
        Self {
            carries_sync,
            link_up: true,
            heard: Echo { incarnation: Incarnation(0), number: 0, clock: Micros(0) },
            credit_at: None,
            alive: false,
        }
    }

    /// What to echo on this path.
    #[must_use]
    pub const fn echo(&self) -> Echo {
        self.heard
    }

    /// When the partner last proved to be alive on this path.
    #[must_use]
    pub const fn credit_at(&self) -> Option<Micros> {
        self.credit_at
    }

    /// Whether it carried heartbeats both ways when it was last judged.
    #[must_use]
    pub const fn alive(&self) -> bool {
        self.alive
    }

    /// Takes a heartbeat in. `said` names it, `echo_age` is how old our heartbeat is that it echoes, if it
    /// echoes one of this incarnation. Returns whether it counts as life. Copies and late arrivals do not.
    pub fn heard(&mut self, said: Echo, echo_age: Option<Micros>, dead: Micros, now: Micros) -> bool {
        if said.incarnation == self.heard.incarnation && said.number <= self.heard.number {
            return false;
        }
        self.heard = said;
        let counts = echo_age.is_some_and(|age| age < dead);
        if counts {
            self.credit_at = Some(now);
        }
        counts
    }

    /// Judges the path at `now`; `Some(alive)` when the verdict changed.
    pub fn judge(&mut self, dead: Micros, now: Micros) -> Option<bool> {
        let alive = self.link_up && self.credit_at.is_some_and(|at| now.since(at) < dead);
        (alive != std::mem::replace(&mut self.alive, alive)).then_some(alive)
    }

    /// The partner came back without its memory: what it said before counts for nothing.
    pub fn forget_peer(&mut self) {
        self.heard = Echo::default();
        self.credit_at = None;
    }

    /// Passes what was heard and when through functions: a model uses it to make states comparable.
    pub(crate) fn map(&mut self, heard: &mut dyn FnMut(&mut Echo), own: &mut dyn FnMut(&mut Micros)) {
        heard(&mut self.heard);
        if let Some(at) = &mut self.credit_at {
            own(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Micros = Micros::from_millis(300);

    fn beat(number: u64) -> Echo {
        Echo { incarnation: Incarnation(7), number, clock: Micros(number) }
    }

    fn ms(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    #[test]
    fn b_27_a_path_dies_after_the_third_missing_heartbeat() {
        let mut path = Path::new(true);
        assert_eq!(path.judge(DEAD, ms(0)), None);
        assert!(path.heard(beat(1), Some(ms(1)), DEAD, ms(100)));
        assert_eq!(path.judge(DEAD, ms(100)), Some(true));
        assert_eq!(path.judge(DEAD, ms(399)), None);
        assert_eq!(path.judge(DEAD, ms(400)), Some(false));
        assert!(!path.alive());
    }

    #[test]
    fn decision_31_an_echo_older_than_the_dead_time_gives_no_credit() {
        let mut path = Path::new(true);
        assert!(!path.heard(beat(1), None, DEAD, ms(100)));
        assert!(!path.heard(beat(2), Some(DEAD), DEAD, ms(200)));
        assert_eq!(path.judge(DEAD, ms(200)), None);
        // It is still echoed: that is how the partner proves itself with its next one.
        assert_eq!(path.echo(), beat(2));
        assert!(path.heard(beat(3), Some(ms(299)), DEAD, ms(300)));
        assert_eq!(path.judge(DEAD, ms(300)), Some(true));
    }

    #[test]
    fn decision_31_replayed_and_reordered_heartbeats_do_not_prolong_life() {
        let mut path = Path::new(false);
        assert!(path.heard(beat(5), Some(ms(1)), DEAD, ms(100)));
        assert!(!path.heard(beat(5), Some(ms(1)), DEAD, ms(150)));
        assert!(!path.heard(beat(4), Some(ms(1)), DEAD, ms(160)));
        assert_eq!(path.credit_at(), Some(ms(100)));
        assert_eq!(path.echo(), beat(5));
    }

    #[test]
    fn an_own_link_that_is_down_needs_no_waiting() {
        let mut path = Path::new(false);
        path.heard(beat(1), Some(ms(1)), DEAD, ms(100));
        path.judge(DEAD, ms(100));
        path.link_up = false;
        assert_eq!(path.judge(DEAD, ms(101)), Some(false));
    }

    #[test]
    fn a_new_incarnation_starts_its_numbers_again() {
        let mut path = Path::new(true);
        assert!(path.heard(beat(900), Some(ms(1)), DEAD, ms(100)));
        path.forget_peer();
        assert_eq!(path.echo(), Echo::default());
        assert_eq!(path.judge(DEAD, ms(101)), None);
        let first = Echo { incarnation: Incarnation(8), number: 1, clock: Micros(3) };
        assert!(path.heard(first, Some(ms(1)), DEAD, ms(110)));
    }
}
