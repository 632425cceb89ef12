//! How long packets take, as a histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Clocks between sending and arrival.
pub struct Latency {
    histogram: Histogram<u64>,
}

/// What is quoted of it, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of all packets took less.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// Packets that were timed.
    pub samples: u64,
}

/// Bits of a stamp.
const STAMP_MASK: u64 = (1 << 48) - 1;
/// Longer ones count as that: several seconds on any processor.
const LONGEST: u64 = 1 << 36;

impl Latency {
    /// Nothing timed yet. `None` only if a histogram of these bounds cannot be.
    pub fn new() -> Option<Self> {
        Histogram::new_with_bounds(1, LONGEST, 3).ok().map(|histogram| Self { histogram })
    }

    /// A packet that was stamped at `stamp` arrived at `now`.
    #[inline]
    pub fn record(&mut self, stamp: u64, now: u64) {
        self.histogram.saturating_record(now.wrapping_sub(stamp) & STAMP_MASK);
    }

    /// What another one has seen, too.
    pub fn add(&mut self, other: &Latency) {
        // Both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// The percentiles, on a clock of `hz`.
    pub fn percentiles(&self, hz: f64) -> Percentiles {
        let us = |clocks: u64| clocks as f64 * 1e6 / hz;
        let at = |quantile| us(self.histogram.value_at_quantile(quantile));
        if self.histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.histogram.max()),
            samples: self.histogram.len(),
        }
    }
}

/// The stamp of a moment: never zero, which means "not timed".
pub fn stamp(now: u64) -> u64 {
    (now & STAMP_MASK).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_in_microseconds_and_pass_the_wrap_of_a_stamp() {
        let mut latency = Latency::new().unwrap();
        for clocks in 1..=1_000 {
            let sent = (1 << 48) - 500;
            latency.record(stamp(sent), sent + clocks * 2_300);
        }
        let got = latency.percentiles(2.3e9);
        for (got, expected) in
            [(got.p50_us, 500.0), (got.p99_us, 990.0), (got.p999_us, 999.0), (got.max_us, 1_000.0)]
        {
            assert!((got / expected - 1.0).abs() < 0.002, "{got} {expected}");
        }
        assert_eq!(got.samples, 1_000);
        let mut both = Latency::new().unwrap();
        both.add(&latency);
        both.add(&latency);
        assert_eq!(both.percentiles(2.3e9).samples, 2_000);
        both.clear();
        assert_eq!(both.percentiles(2.3e9).samples, 0);
        assert_eq!(Latency::new().unwrap().percentiles(1.0).samples, 0);
    }
}
