//! The role word and its lease: what keeps a node from forwarding that its sync core no longer speaks for
//! (decision 32).
//!
//! A stopped or hung sync core sends no heartbeats, so the partner takes over; the workers of the hung
//! node may run on. They therefore compare one word with their clock once a burst and forward nothing when
//! the lease in it is over. The sync core renews it only after a heartbeat went out, for a little less
//! than the time after which the partner would call the node dead, counted from the sending: the partner
//! heard that heartbeat no earlier, so it cannot judge before the workers have stopped.

use crate::ids::{Micros, Term};
use crate::membership::Role;

/// Role, term and lease deadline, as the workers read them: one `u64`, so that it is replaced at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RoleWord {
    /// What the node is.
    pub role: Role,
    /// The term in which it is that.
    pub term: Term,
    /// Until when workers may forward; [`Micros::NEVER`] while no partner could take over.
    pub deadline: Micros,
}

const ROLE_BITS: u32 = 4;
const DEADLINE_BITS: u32 = 64 - ROLE_BITS - Term::BITS;
const DEADLINE_MASK: u64 = (1 << DEADLINE_BITS) - 1;
/// A step of the packed deadline: 256 µs, so that 40 bits last for nine years of one process.
const STEP_SHIFT: u32 = 8;

impl RoleWord {
    /// A word that lets nobody forward.
    #[must_use]
    pub const fn closed(role: Role, term: Term) -> Self {
        Self { role, term, deadline: Micros(0) }
    }

    /// Whether a worker may forward at `now`. A deadline is the first moment at which it may not.
    #[must_use]
    pub fn forwards(self, now: Micros) -> bool {
        self.role == Role::Active && now < self.deadline
    }

    /// The word as one integer. The deadline is rounded down: early is safe, late is not.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let steps = if self.deadline.0 == u64::MAX {
            DEADLINE_MASK
        } else {
            let steps = self.deadline.0 >> STEP_SHIFT;
            if steps < DEADLINE_MASK { steps } else { DEADLINE_MASK - 1 }
        };
        (self.role as u64) << (64 - ROLE_BITS) | (self.term.get() as u64) << DEADLINE_BITS | steps
    }

    /// The word behind an integer. An unknown role reads as [`Role::Fault`], which forwards nothing.
    #[must_use]
    pub fn unpack(word: u64) -> Self {
        let role = Role::from_wire((word >> (64 - ROLE_BITS)) as u8).unwrap_or(Role::Fault);
        let term = ((word >> DEADLINE_BITS) & ((1 << Term::BITS) - 1)) as u32;
        let steps = word & DEADLINE_MASK;
        let deadline = if steps == DEADLINE_MASK { Micros::NEVER } else { Micros(steps << STEP_SHIFT) };
        Self { role, term: Term::new(term).unwrap_or(Term::MAX), deadline }
    }
}

/// How long a heartbeat that went out lets the workers forward.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeaseRules {
    /// `misses × interval`: the partner's patience.
    pub dead: Micros,
    /// What is taken off for delay, jitter and the turn of a burst.
    pub margin: Micros,
}

impl LeaseRules {
    /// The deadline after a heartbeat that was sent at `sent`: never earlier than the one that holds,
    /// infinite while no partner is known that may take over.
    #[must_use]
    pub fn renew(self, held: Micros, sent: Micros, partner_may_take_over: bool) -> Micros {
        if !partner_may_take_over {
            return Micros::NEVER;
        }
        let deadline = sent.after(self.dead.since(self.margin));
        if held == Micros::NEVER { deadline } else { deadline.max(held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: LeaseRules = LeaseRules { dead: Micros::from_millis(300), margin: Micros::from_millis(20) };

    #[test]
    fn a_lease_ends_before_the_partner_may_judge() {
        let deadline = RULES.renew(Micros(0), Micros::from_millis(1_000), true);
        assert_eq!(deadline, Micros::from_millis(1_280));
        let word = RoleWord { role: Role::Active, term: Term::ZERO, deadline };
        assert!(word.forwards(Micros::from_millis(1_279)));
        assert!(!word.forwards(Micros::from_millis(1_280)));
    }

    #[test]
    fn it_is_infinite_only_while_nobody_may_take_over() {
        assert_eq!(RULES.renew(Micros(0), Micros(5), false), Micros::NEVER);
        let ended = RULES.renew(Micros::NEVER, Micros::from_millis(100), true);
        assert_eq!(ended, Micros::from_millis(380));
        // An older send never shortens what a newer one gave.
        assert_eq!(RULES.renew(ended, Micros::from_millis(40), true), ended);
    }

    #[test]
    fn only_an_active_word_forwards() {
        for role in Role::ALL {
            let word = RoleWord { role, term: Term::ZERO, deadline: Micros::NEVER };
            assert_eq!(word.forwards(Micros(1)), role == Role::Active, "{role:?}");
            assert!(!RoleWord::closed(role, Term::ZERO).forwards(Micros(0)));
        }
        assert_eq!(RoleWord::unpack(u64::MAX).role, Role::Fault);
    }

    proptest! {
        #[test]
        fn a_packed_word_comes_back_never_later(role in 0..Role::ALL.len(), term in 0u32..1 << 20, at: u64) {
            let word =
                RoleWord { role: Role::ALL[role], term: Term::new(term).unwrap(), deadline: Micros(at) };
            let back = RoleWord::unpack(word.pack());
            prop_assert_eq!((back.role, back.term), (word.role, word.term));
            prop_assert!(back.deadline <= word.deadline);
            prop_assert_eq!(back.pack(), word.pack());
            if at < 1 << 48 {
                prop_assert!(word.deadline.since(back.deadline) < Micros(256));
            }
        }

        #[test]
        fn any_integer_is_a_word(word: u64) {
            let _ = RoleWord::unpack(word);
        }
    }
}
