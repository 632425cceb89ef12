//! Numbers and how sure they are.

use serde::{Deserialize, Serialize};

/// Minimum, median and maximum over runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The fastest run.
    pub min: f64,
    /// The middle run.
    pub median: f64,
    /// The slowest run.
    pub max: f64,
}

impl Figure {
    /// Over these runs.
    pub fn of(mut runs: Vec<f64>) -> Figure {
        runs.sort_by(f64::total_cmp);
        let at = |i: usize| runs.get(i).copied().unwrap_or(f64::NAN);
        Figure { min: at(0), median: at(runs.len() / 2), max: at(runs.len().saturating_sub(1)) }
    }

    /// The same in another unit that grows with this one.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Figure {
        Figure { min: self.min * factor, median: self.median * factor, max: self.max * factor }
    }

    /// A rate out of a cost: `per / cost`. The cheapest run is the fastest.
    #[must_use]
    pub fn rate(self, per: f64) -> Figure {
        Figure { min: per / self.max, median: per / self.median, max: per / self.min }
    }

    /// How far the runs lie apart, as a part of the median: the machine's noise, if the work is constant.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The clocks of a run's turns. On a shared machine some turns are interrupted for milliseconds; the
/// slowest two in a hundred are left out of the mean.
#[derive(Default)]
pub struct Turns(Vec<(u64, u64)>);

impl Turns {
    /// A turn that took so many clocks for so many packets.
    #[inline(always)]
    pub fn add(&mut self, clocks: u64, packets: u64) {
        if packets > 0 {
            self.0.push((clocks, packets));
        }
    }

    /// True if no turn had packets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Clocks per packet.
    pub fn mean(mut self) -> f64 {
        self.0.sort_unstable_by_key(|(clocks, packets)| clocks / packets);
        let kept = (self.0.len() * 98).div_ceil(100).max(1);
        let sum = |(a, b): (u64, u64), (clocks, packets): &(u64, u64)| (a + clocks, b + packets);
        let (clocks, packets) = self.0.iter().take(kept).fold((0, 0), sum);
        clocks as f64 / packets as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_turns_the_order_round() {
        let rate = Figure::of(vec![4.0, 1.0, 2.0]).rate(8.0);
        assert_eq!((rate.min, rate.median, rate.max), (2.0, 4.0, 8.0));
        assert_eq!(Figure::of(vec![9.0, 10.0, 11.0]).spread(), 0.2);
    }

    #[test]
    fn interrupted_turns_do_not_count_and_empty_ones_neither() {
        let mut turns = Turns::default();
        for _ in 0..99 {
            turns.add(3_200, 32);
        }
        turns.add(10_000_000, 32);
        turns.add(50, 0);
        assert_eq!(turns.mean(), 100.0);
    }
}
