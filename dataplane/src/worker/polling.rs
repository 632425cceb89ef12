//! When a worker that finds nothing to do may sleep.
//!
//! `busy` never does. `adaptive` spins for about 20 µs after the last packet, then sleeps 50 µs, 100 µs, …
//! up to 1 ms, in a pair up to an eighth of the heartbeat interval if that is shorter (decision 11). A packet
//! that comes in costs at most one such sleep, and an idle node next to nothing.

use crate::config::Polling;
use std::time::Duration;

/// Spun through before the first sleep.
pub const SPIN: Duration = Duration::from_micros(20);
const FIRST_SLEEP: Duration = Duration::from_micros(50);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);
/// A sleep is at most this part of the heartbeat interval.
const INTERVAL_PARTS: u32 = 8;

/// Decides after each turn of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Poller {
    adaptive: bool,
    spin_cycles: u64,
    /// The count at which spinning ends.
    spin_until: u64,
    sleep: Duration,
    longest: Duration,
}

impl Poller {
    /// `spin_cycles` are the cycles in [`SPIN`].
    pub fn new(polling: Polling, spin_cycles: u64) -> Self {
        Self {
            adaptive: polling == Polling::Adaptive,
            spin_cycles,
            spin_until: 0,
            sleep: FIRST_SLEEP,
            longest: LONGEST_SLEEP,
        }
    }

    /// The same for a node that sends heartbeats so often.
    pub fn with_heartbeats(self, interval: Duration) -> Self {
        let longest = (interval / INTERVAL_PARTS).clamp(FIRST_SLEEP, LONGEST_SLEEP);
        Self { longest, ..self }
    }

    /// A turn that began at `cycles` is over: how long to sleep before the next one, if at all.
    #[inline(always)]
    pub fn rest(&mut self, had_work: bool, cycles: u64) -> Option<Duration> {
        if had_work {
            self.spin_until = cycles.wrapping_add(self.spin_cycles);
            self.sleep = FIRST_SLEEP;
            return None;
        }
        if !self.adaptive || cycles < self.spin_until {
            return None;
        }
        let sleep = self.sleep;
        self.sleep = (sleep * 2).min(self.longest);
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN_CYCLES: u64 = 46_000;

    #[test]
    fn adaptive_spins_then_sleeps_longer_and_longer_up_to_a_millisecond() {
        let mut poller = Poller::new(Polling::Adaptive, SPIN_CYCLES);
        assert_eq!(poller.rest(true, 1_000), None);
        assert_eq!(poller.rest(false, 1_001), None);
        assert_eq!(poller.rest(false, 1_000 + SPIN_CYCLES - 1), None);
        let sleeps: Vec<u128> =
            (0..8).map(|i| poller.rest(false, 1_000 + SPIN_CYCLES + i).unwrap().as_micros()).collect();
        assert_eq!(sleeps, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn heartbeats_bound_the_longest_sleep() {
        let longest = |ms| {
            let poller = Poller::new(Polling::Adaptive, SPIN_CYCLES);
            let mut poller = poller.with_heartbeats(Duration::from_millis(ms));
            (0..12).filter_map(|i| poller.rest(false, SPIN_CYCLES + i)).max().unwrap().as_micros()
        };
        assert_eq!([100, 8, 5, 0].map(longest), [1_000, 1_000, 625, 50]);
    }

    #[test]
    fn a_packet_starts_it_all_over() {
        let mut poller = Poller::new(Polling::Adaptive, SPIN_CYCLES);
        for i in 0..10 {
            poller.rest(false, i);
        }
        assert_eq!(poller.rest(true, 100), None);
        assert_eq!(poller.rest(false, 100 + SPIN_CYCLES / 2), None, "spins again");
        assert_eq!(poller.rest(false, 100 + SPIN_CYCLES), Some(FIRST_SLEEP));
    }

    #[test]
    fn busy_never_sleeps() {
        let mut poller = Poller::new(Polling::Busy, SPIN_CYCLES);
        assert!((0..1_000).all(|i| poller.rest(false, i * 1_000_000).is_none()));
    }
}
