//! After a split nothing of what users did on one side only is lost (decision 35).
//!
//! When a node gives in, the sessions that had packets from both ends since the split on exactly one side are
//! noted. The split began when the last datagram of that side arrived at the other one, whenever the nodes
//! noticed. When the pair has found itself again, each of them is in both tables, unless a user ended it
//! meanwhile, or its owner at the winner had reason to keep it out: a key of it belongs to another session
//! there, or there is no room. What disturbs the merge itself (a fault, another change of roles) ends the
//! demand.

use super::Verdict;
use crate::hash::Map;
use crate::tables::{Change, Logged, Tables};
use sync::ids::Micros;
use sync::record::Key;

/// When datagrams of a node came in at the other one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    last: u64,
    /// The last long silence: when it began, and when it ended.
    silence: (u64, u64),
}

impl Heard {
    /// A datagram arrives; `long` is a silence that makes a split.
    pub fn arrived(&mut self, now: u64, long: u64) {
        let last = std::mem::replace(&mut self.last, now);
        if now - last >= long {
            self.silence = (last, now);
        }
    }

    /// Since when the other node has not known what this one does, if both are active since then.
    pub fn split_at(&self, both_active: u64) -> u64 {
        let (began, ended) = self.silence;
        if (began..=ended).contains(&both_active) { began } else { both_active }
    }
}

/// Watches what becomes of both sides' sessions.
#[derive(Default)]
pub struct Merged {
    /// Who has it: the winner, if true.
    wanted: Map<Key, bool>,
    winner: usize,
    /// Sessions of losers and of winners that were found in both tables after a merge.
    pub found: [u64; 2],
}

impl Merged {
    /// A node gives in: what it has, and the winner, each with its own time of the split.
    pub fn begins(&mut self, winner: usize, loser_has: (&Tables, Micros), winner_has: (&Tables, Micros)) {
        self.winner = winner;
        let of = |(tables, split): (&Tables, Micros)| {
            tables.two_way(split).map(|session| (session.key, ())).collect::<Map<_, ()>>()
        };
        let (loser, winner) = (of(loser_has), of(winner_has));
        let alone = |one: &Map<Key, ()>, other: &Map<Key, ()>, side: bool| {
            one.keys().filter(|key| !other.contains_key(key)).map(|key| (*key, side)).collect::<Vec<_>>()
        };
        self.wanted = alone(&loser, &winner, false).into_iter().chain(alone(&winner, &loser, true)).collect();
    }

    /// Something else disturbs.
    pub fn give_up(&mut self) {
        self.wanted.clear();
    }

    /// Something happened to a session on a node.
    pub fn see(&mut self, node: usize, logged: &Logged) {
        if node == self.winner && logged.change == Change::Ended {
            self.wanted.remove(&logged.session.key);
        }
    }

    /// An owner at the winner had reason not to take an offered session.
    pub fn kept_out(&mut self, key: &Key) {
        self.wanted.remove(key);
    }

    /// The pair has found itself.
    ///
    /// # Errors
    /// If a session is missing.
    pub fn check(&mut self, tables: [&Tables; 2]) -> Verdict {
        for (key, of_winner) in std::mem::take(&mut self.wanted) {
            for (tables, node) in tables.iter().zip([0, 1]) {
                if tables.find(&key).is_none_or(|entry| entry.session.key != key) {
                    let side = if of_winner { "winner" } else { "loser" };
                    return Err(format!(
                        "after the split {} does not have a session of the {side}'s users: {:?}",
                        crate::name(node),
                        key.tuple
                    ));
                }
            }
            self.found[usize::from(of_winner)] += 1;
        }
        Ok(())
    }
}
