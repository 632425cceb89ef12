//! Deletes that overtook something (decision 19).
//!
//! A delete is remembered until everything below it was received or passed: a delayed insert of the same
//! key, which the owner could not tell from a new session any more, finds it here. A delete that comes in
//! order needs no tombstone. When there is no room, the datagram with the delete is not taken and the
//! sender repairs it: slower, never wrong. There is always room for those of one datagram: one that never
//! fitted would be refused for as long as anything below it is missing, and two such in turn for ever.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;

use crate::ids::Version;
use crate::record::{Delete, Key, Session};

/// Deletes that a datagram carries, at most.
pub(super) const DELETES_AT_ONCE: u32 = 64;

#[derive(Clone, Copy, Debug)]
struct Tombstone {
    seq: u64,
    version: Version,
}

/// Deletes whose number is above what was received in order.
#[derive(Clone, Debug)]
pub(super) struct Tombstones {
    /// Only ever asked for a key, so its order, which differs from run to run, shows nowhere.
    by_key: HashMap<Key, Tombstone, RandomState>,
    capacity: usize,
    highest: u64,
    pruned_at: u64,
}

impl Tombstones {
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(DELETES_AT_ONCE as usize);
        Self { by_key: HashMap::default(), capacity, highest: 0, pruned_at: 0 }
    }

    pub fn clear(&mut self) {
        self.by_key.clear();
        (self.highest, self.pruned_at) = (0, 0);
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many more there is room for.
    pub fn room(&self) -> usize {
        self.capacity - self.by_key.len()
    }

    /// Remembers a delete that came in datagram `seq`.
    pub fn bury(&mut self, delete: &Delete, seq: u64) {
        if self.by_key.len() >= self.capacity && !self.by_key.contains_key(&delete.key) {
            return;
        }
        self.highest = self.highest.max(seq);
        self.by_key
            .entry(delete.key)
            .and_modify(|old| {
                *old = Tombstone { seq: old.seq.max(seq), version: old.version.max(delete.version) };
            })
            .or_insert(Tombstone { seq, version: delete.version });
    }

    /// True if a session that came in datagram `seq` was deleted by a later one. A delete of exactly one
    /// version covers older ones too: they were sent before it, and nobody knows of them any more.
    pub fn covers(&self, session: &Session, seq: u64) -> bool {
        if self.by_key.is_empty() {
            return false;
        }
        self.by_key.get(&session.key).is_some_and(|stone| seq < stone.seq && session.version <= stone.version)
    }

    /// Drops what nothing can arrive for any more.
    pub fn prune(&mut self, received_through: u64) {
        if self.by_key.is_empty() {
            return;
        }
        if received_through >= self.highest.saturating_sub(1) {
            self.clear();
        } else if received_through >= self.pruned_at + 64 || self.room() == 0 {
            self.pruned_at = received_through;
            self.by_key.retain(|_, stone| stone.seq > received_through + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, Term};
    use crate::record::{Addresses, Lifetime, RuleRef, State, Tuple};

    fn key(port: u16) -> Key {
        let addresses = Addresses::V4([[10, 0, 0, 1], [10, 0, 0, 2]]);
        Key { tuple: Tuple { addresses, ports: [port, 80] }, proto: 17, vrf: 0 }
    }

    fn session(port: u16, counter: u64) -> Session {
        Session {
            key: key(port),
            reply: None,
            version: Version::new(Term::ZERO, counter),
            group: GroupId(0),
            rule: RuleRef::default(),
            zones: [0, 1],
            remaining: Lifetime::default(),
            state: State::Flow(0),
            two_way: false,
            age_s: None,
            counters: None,
        }
    }

    fn delete(port: u16, counter: u64, exact: bool) -> Delete {
        Delete { key: key(port), version: Version::new(Term::ZERO, counter), group: GroupId(0), exact }
    }

    #[test]
    fn decision_19_a_delayed_insert_finds_the_delete_that_overtook_it() {
        let mut stones = Tombstones::new(2);
        stones.bury(&delete(1, 50, false), 10);
        assert!(stones.covers(&session(1, 49), 9));
        assert!(!stones.covers(&session(1, 49), 11), "emitted after the delete: the sender knows better");
        assert!(!stones.covers(&session(1, 51), 9), "newer than the delete");
        assert!(!stones.covers(&session(2, 1), 9));
        stones.bury(&delete(2, 7, true), 12);
        assert!(stones.covers(&session(2, 7), 11) && stones.covers(&session(2, 6), 11));
        let most = DELETES_AT_ONCE as u16;
        (3..=most).for_each(|port| stones.bury(&delete(port, 7, true), 12));
        assert_eq!(stones.room(), 0);
        stones.bury(&delete(most + 1, 7, true), 12);
        assert_eq!(stones.len(), usize::from(most));
        stones.prune(9);
        assert_eq!(stones.len(), usize::from(most) - 1);
        stones.prune(11);
        assert_eq!(stones.len(), 0);
    }
}
