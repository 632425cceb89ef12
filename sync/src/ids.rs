//! The numbers that name things between the two nodes, each its own type.
//!
//! An id from one space must never be taken for one of another (a term for an incarnation, a slot for a
//! worker), because most of them are plain small integers on the wire. Time is passed into every machine
//! of this crate as [`Micros`]: a node's own monotonic clock, never compared with the partner's.

use std::fmt;

/// One of the two nodes of a pair. The lower id initiates handshakes and owns the even terms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u8);

/// The pair that two nodes form; also the last byte of their virtual MAC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PairId(pub u8);

/// A traffic group: sessions that change their active node together (decision 28). 0 by default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u8);

/// A way between the nodes: the sync links first, then the data interfaces, in configuration order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PathId(pub u8);

/// A number drawn at each process start. A node that shows a new one has lost its memory.
///
/// Two incarnations can be told apart, not ordered: the number is random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// Grows by one with each change of the active node; the higher term wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Term(u32);

impl Term {
    /// Bits of a term inside a [`Version`].
    pub const BITS: u32 = 20;
    /// The last term that fits.
    pub const MAX: Self = Self((1 << Self::BITS) - 1);
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// A term, if it fits.
    #[must_use]
    pub const fn new(term: u32) -> Option<Self> {
        if term <= Self::MAX.0 { Some(Self(term)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The lowest term above `self` that `node` may claim: terms are unique by the parity of the node's
    /// id (decision 18), so two nodes can never claim the same one. `None` at the end of the space.
    #[must_use]
    pub const fn next_for(self, node: NodeId) -> Option<Self> {
        let parity = node.0 as u32 & 1;
        let next = self.0 + 1;
        if next & 1 == parity { Self::new(next) } else { Self::new(next + 1) }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The age of a session's state: term:20 | counter:44, compared as one number (decision 17).
///
/// The counter belongs to a worker and is never restarted for a session, so that a tuple that is deleted
/// and opened again is newer than its delete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

impl Version {
    /// Bits of the counter.
    pub const COUNTER_BITS: u32 = 44;
    const COUNTER_MASK: u64 = (1 << Self::COUNTER_BITS) - 1;

    /// Puts a version together; the counter is taken modulo 2^44.
    #[must_use]
    pub const fn new(term: Term, counter: u64) -> Self {
        Self((term.0 as u64) << Self::COUNTER_BITS | counter & Self::COUNTER_MASK)
    }

    /// The term in which the state was written.
    #[must_use]
    pub const fn term(self) -> Term {
        Term((self.0 >> Self::COUNTER_BITS) as u32)
    }

    /// The writing worker's counter.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & Self::COUNTER_MASK
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term(), self.counter())
    }
}

/// Names a session to the caller (a worker and a slot, packed as the caller likes). This crate hands it
/// back and never looks inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionHandle(pub u32);

/// A datagram's place in one sender's sequence space. Starts at 1; 0 means "nothing yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A point in a node's own monotonic time, or a span of it, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// Never: later than every time.
    pub const NEVER: Self = Self(u64::MAX);

    /// A span in milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// A span in seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1_000_000))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// This time and `span` later; [`Micros::NEVER`] stays never.
    #[must_use]
    pub const fn after(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_of_two_nodes_never_meet() {
        let (a, b) = (NodeId(0), NodeId(1));
        assert_eq!(Term::ZERO.next_for(b), Term::new(1));
        assert_eq!(Term::ZERO.next_for(a), Term::new(2));
        assert_eq!(Term::new(7).unwrap().next_for(b), Term::new(9));
        assert_eq!(Term::new(7).unwrap().next_for(a), Term::new(8));
        assert_eq!(Term::MAX.next_for(a), None);
        assert_eq!(Term::MAX.next_for(b), None);
        assert_eq!(Term::new(1 << 20), None);
    }

    #[test]
    fn a_version_of_a_higher_term_is_newer_whatever_its_counter() {
        let old = Version::new(Term::new(4).unwrap(), u64::MAX);
        let new = Version::new(Term::new(5).unwrap(), 0);
        assert!(new > old);
        assert_eq!((old.term(), old.counter()), (Term::new(4).unwrap(), (1 << 44) - 1));
        assert_eq!(new.to_string(), "5.0");
    }

    #[test]
    fn time_never_runs_below_zero_or_past_never() {
        assert_eq!(Micros(5).since(Micros(9)), Micros(0));
        assert_eq!(Micros::NEVER.after(Micros(1)), Micros::NEVER);
        assert_eq!(Micros::from_millis(3).after(Micros::from_secs(1)), Micros(1_003_000));
    }
}
