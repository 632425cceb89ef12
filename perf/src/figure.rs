//! Numbers and how sure they are.

use crate::quiet::Probe;
use serde::{Deserialize, Serialize};

/// Minimum, median and maximum over runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The fastest run.
    pub min: f64,
    /// The middle run, or the mean of the middle two.
    pub median: f64,
    /// The slowest run.
    pub max: f64,
    /// Where quiet moments were told from others: the three above are of those, this is of all.
    pub overall: Option<Overall>,
}

/// What came of all moments, also of those in which a stranger shared the core.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Overall {
    /// The middle run.
    pub median: f64,
    /// The part of the work that was done in quiet moments; the figure is of all if there were too few.
    pub quiet: f64,
}

impl Figure {
    /// Over these runs.
    pub fn of(mut runs: Vec<f64>) -> Figure {
        runs.sort_by(f64::total_cmp);
        let at = |i: usize| runs.get(i).copied().unwrap_or(f64::NAN);
        let last = runs.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Figure { min: at(0), median, max: at(last), overall: None }
    }

    /// Over the quiet moments of these runs, or over all if no run had enough of those.
    pub fn of_runs(runs: &[Run]) -> Figure {
        let all = Figure::of(runs.iter().map(|run| run.all).collect());
        let quiet: Vec<f64> = runs.iter().filter_map(|run| run.quiet).collect();
        let part = Figure::of(runs.iter().map(|run| run.part).collect()).median;
        let figure = if quiet.is_empty() { all } else { Figure::of(quiet) };
        Figure { overall: Some(Overall { median: all.median, quiet: part }), ..figure }
    }

    /// The same in another unit that grows with this one.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Figure {
        self.each(|value| value * factor)
    }

    /// A rate out of a cost: `per / cost`. The cheapest run is the fastest.
    #[must_use]
    pub fn rate(self, per: f64) -> Figure {
        let Figure { min, max, .. } = self;
        Figure { min: max, max: min, ..self }.each(|cost| per / cost)
    }

    fn each(self, of: impl Fn(f64) -> f64) -> Figure {
        let overall = self.overall.map(|all| Overall { median: of(all.median), ..all });
        Figure { min: of(self.min), median: of(self.median), max: of(self.max), overall }
    }

    /// How far the runs lie apart, as a part of the median: the machine's noise, if the work is constant.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// What one run brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// In quiet moments; nothing if there were too few.
    pub quiet: Option<f64>,
    /// In all moments.
    pub all: f64,
    /// The part of the work that was done in quiet ones.
    pub part: f64,
}

impl Run {
    /// Costs of so much work in quiet moments and in all: (sum, work) each.
    pub fn of(quiet: (f64, f64), all: (f64, f64)) -> Run {
        let mean = |(sum, work): (f64, f64)| sum / work;
        let part = if all.1 > 0.0 { quiet.1 / all.1 } else { 0.0 };
        Run { quiet: (part >= ENOUGH).then(|| mean(quiet)), all: mean(all), part }
    }

    /// Of quiet moments if there are enough.
    pub fn best_known(&self) -> f64 {
        self.quiet.unwrap_or(self.all)
    }

    /// The same in another unit that grows with this one.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Run {
        Run { quiet: self.quiet.map(|cost| cost * factor), all: self.all * factor, ..self }
    }

    /// What follows from two of them.
    #[must_use]
    pub fn with(self, other: Run, of: impl Fn(f64, f64) -> f64) -> Run {
        let quiet = self.quiet.zip(other.quiet).map(|(one, two)| of(one, two));
        Run { quiet, all: of(self.all, other.all), part: self.part.min(other.part) }
    }
}

/// The part of a run that must have been quiet for its quiet moments to count.
const ENOUGH: f64 = 0.02;

/// The clocks of a run's turns, and whether nobody shared the core meanwhile. On a shared machine some turns are
/// interrupted for milliseconds; the slowest two in a hundred are left out of the means.
#[derive(Default)]
pub struct Turns {
    probe: Probe,
    turns: Vec<Turn>,
}

struct Turn {
    clocks: u64,
    packets: u64,
    is_quiet: bool,
}

impl Turns {
    /// A turn that ended just now and took so many clocks for so many packets.
    #[inline]
    pub fn add(&mut self, clocks: u64, packets: u64) {
        if packets > 0 {
            let is_quiet = self.probe.quiet_since();
            self.turns.push(Turn { clocks, packets, is_quiet });
        }
    }

    /// True if no turn had packets.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Clocks per packet.
    pub fn mean(mut self) -> Run {
        self.turns.sort_unstable_by_key(|turn| turn.clocks / turn.packets);
        let sum = |(clocks, packets): (f64, f64), turn: &Turn| {
            (clocks + turn.clocks as f64, packets + turn.packets as f64)
        };
        let mean = |turns: &mut dyn Iterator<Item = &Turn>, count: usize| {
            turns.take((count * 98).div_ceil(100).max(1)).fold((0.0, 0.0), sum)
        };
        let quiet = self.turns.iter().filter(|turn| turn.is_quiet).count();
        Run::of(
            mean(&mut self.turns.iter().filter(|turn| turn.is_quiet), quiet),
            mean(&mut self.turns.iter(), self.turns.len()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_turns_the_order_round() {
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert!(Figure::of(vec![]).median.is_nan());
        let rate = Figure::of(vec![4.0, 1.0, 2.0]).rate(8.0);
        assert_eq!((rate.min, rate.median, rate.max), (2.0, 4.0, 8.0));
        assert_eq!(Figure::of(vec![9.0, 10.0, 11.0]).spread(), 0.2);
    }

    fn turns(of: &[(u64, u64, bool)]) -> Turns {
        let turn = |(clocks, packets, is_quiet): &_| Turn {
            clocks: *clocks,
            packets: *packets,
            is_quiet: *is_quiet,
        };
        Turns { turns: of.iter().map(turn).collect(), ..Turns::default() }
    }

    #[test]
    fn interrupted_turns_do_not_count_and_empty_ones_neither() {
        let mut all = vec![(3_200, 32, false); 99];
        all.push((10_000_000, 32, false));
        let mut turns = turns(&all);
        turns.add(50, 0);
        assert_eq!(turns.mean(), Run { quiet: None, all: 100.0, part: 0.0 });
    }

    #[test]
    fn quiet_moments_are_kept_apart_if_there_are_enough() {
        let mut all = vec![(6_400, 32, false); 90];
        all.extend([(3_200, 32, true); 10]);
        let run = turns(&all).mean();
        assert_eq!((run.quiet, run.best_known()), (Some(100.0), 100.0));
        assert!((189.0..191.0).contains(&run.all) && (0.1..0.11).contains(&run.part), "{run:?}");
        let figure = Figure::of_runs(&[run, Run { quiet: None, all: 500.0, part: 0.01 }]);
        assert_eq!((figure.min, figure.median, figure.max), (100.0, 100.0, 100.0));
        assert_eq!(figure.overall.map(|all| all.median), Some(f64::midpoint(run.all, 500.0)));
        assert_eq!(turns(&all[..90]).mean().best_known(), 200.0);
    }

    #[test]
    fn what_follows_from_two_runs_follows_for_quiet_moments_by_themselves() {
        let (one, two) =
            (Run { quiet: Some(3.0), all: 6.0, part: 0.5 }, Run { quiet: Some(1.0), all: 2.0, part: 0.25 });
        assert_eq!(one.with(two, |one, two| one - two), Run { quiet: Some(2.0), all: 4.0, part: 0.25 });
        assert_eq!(one.with(Run { quiet: None, ..two }, |one, two| one + two).quiet, None);
    }
}
