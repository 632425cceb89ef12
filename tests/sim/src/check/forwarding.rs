//! At most one node forwards where design §6 promises it.
//!
//! The promise holds while the nodes can hear each other: while on some path heartbeats pass both ways. What
//! passed is taken from the network, not from the nodes. What excuses two that forward: every path broken at
//! the same time, until a bound after one is whole again; and a sync core that hangs while its workers have
//! an endless lease, because no partner was ready (decision 32).

use super::Verdict;
use std::collections::VecDeque;

/// Heartbeats under way that are remembered, a direction.
const REMEMBERED: usize = 256;

/// Until when a node forwards if nothing happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// In the time of the world; 0 if it does not forward.
    pub until: u64,
    /// Its sync core hangs although its workers have no end of their lease.
    pub endless: bool,
}

/// Watches who forwards.
pub struct Forwarding {
    under_way: Vec<[VecDeque<u64>; 2]>,
    patience: u64,
    healing: u64,
    excused_until: u64,
    /// The longest that two forwarded without a break, and what that one is now.
    pub longest_overlap: u64,
    overlap: u64,
    /// All excused time.
    pub excused: u64,
}

impl Forwarding {
    /// For so many paths. A path is broken when nothing passes for `patience`; `healing` after a path is
    /// whole again two may no longer forward.
    #[must_use]
    pub fn new(paths: usize, patience: u64, healing: u64) -> Self {
        Self {
            under_way: (0..paths).map(|_| Default::default()).collect(),
            patience,
            healing,
            excused_until: 0,
            longest_overlap: 0,
            overlap: 0,
            excused: 0,
        }
    }

    /// A heartbeat left a node.
    pub fn sent(&mut self, node: usize, path: usize, at: u64) {
        let under_way = &mut self.under_way[path][node];
        if under_way.len() < REMEMBERED {
            under_way.push_back(at);
        }
    }

    /// A heartbeat that left a node at `sent` arrived.
    pub fn arrived(&mut self, from: usize, path: usize, sent: u64) {
        let under_way = &mut self.under_way[path][from];
        while under_way.front().is_some_and(|at| *at <= sent) {
            under_way.pop_front();
        }
    }

    /// A node started or ended: what it sent is of no interest any more, nor what was sent to it.
    pub fn restarted(&mut self) {
        self.under_way.iter_mut().flatten().for_each(VecDeque::clear);
    }

    /// Whether nothing passes on any path, in one direction at least.
    fn partitioned(&self, at: u64) -> bool {
        let broken = |directions: &[VecDeque<u64>; 2]| {
            directions.iter().any(|sent| sent.front().is_some_and(|first| at - first >= self.patience))
        };
        self.under_way.iter().all(broken)
    }

    /// Something else excuses two that forward, until then.
    pub fn excuse(&mut self, until: u64) {
        self.excused_until = self.excused_until.max(until);
    }

    /// Time passed in which nothing happened.
    ///
    /// # Errors
    /// If both forwarded and nothing excuses it.
    pub fn pass(&mut self, from: u64, to: u64, spans: [Span; 2]) -> Verdict {
        let both = spans[0].until.min(spans[1].until).min(to);
        if self.partitioned(to) || spans.iter().any(|span| span.endless) {
            self.excuse(to + self.healing);
        }
        if both <= from {
            self.overlap = 0;
            return Ok(());
        }
        self.overlap += both - from;
        self.longest_overlap = self.longest_overlap.max(self.overlap);
        if from <= self.excused_until {
            self.excused += both - from;
            return Ok(());
        }
        Err(format!("both forward, for {} us already, although they could hear each other", self.overlap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Span = Span { until: u64::MAX, endless: false };
    const OFF: Span = Span { until: 0, endless: false };

    #[test]
    fn two_that_forward_are_seen_at_once() {
        let mut watch = Forwarding::new(1, 20, 50);
        assert_eq!(watch.pass(0, 10, [ON, OFF]), Ok(()));
        assert!(watch.pass(10, 11, [ON, ON]).is_err());
        assert_eq!(watch.pass(11, 12, [ON, Span { until: 11, endless: false }]), Ok(()));
    }

    #[test]
    fn a_partition_excuses_until_it_healed() {
        let mut watch = Forwarding::new(2, 20, 50);
        watch.sent(0, 0, 100);
        watch.sent(1, 1, 100);
        assert_eq!(watch.pass(119, 120, [ON, ON]), Ok(()), "each path is broken in some direction");
        watch.arrived(0, 0, 100);
        watch.arrived(1, 1, 100);
        assert_eq!(watch.pass(120, 170, [ON, ON]), Ok(()));
        assert!(watch.pass(171, 172, [ON, ON]).is_err());
        // One whole path is enough for the promise.
        let mut watch = Forwarding::new(2, 20, 50);
        watch.sent(0, 0, 100);
        assert!(watch.pass(130, 131, [ON, ON]).is_err());
    }

    #[test]
    fn an_endless_lease_of_a_hung_core_excuses() {
        let mut watch = Forwarding::new(1, 20, 50);
        assert_eq!(watch.pass(0, 1, [Span { endless: true, ..ON }, ON]), Ok(()));
    }
}
