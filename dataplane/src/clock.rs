//! From the time-stamp counter to the engine's time, without a system call.
//!
//! All threads read the same counter (constant and synchronised on every processor that the baseline
//! admits), so their ticks are comparable.

use engine::Ticks;
use std::time::Duration;
use sync::ids::Micros;

/// Where time begins: five minutes before the millisecond count wraps, so that whatever cannot stand the
/// wrap fails in the first test that runs for longer, and not after 49 days of service.
const FIRST: Ticks = Ticks(0_u32.wrapping_sub(5 * 60 * 1000));

/// Turns counts of cycles into [`Ticks`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: u64,
    hz: u64,
    /// Milliseconds in a cycle, times 2^64.
    ms_per_cycle: u64,
}

impl Clock {
    /// A clock that begins at `origin` and counts `hz` cycles a second.
    pub fn new(origin: u64, hz: u64) -> Self {
        // A rate below a megahertz is no counter of a processor: it must not overflow the factor.
        let hz = hz.max(1_000_000);
        let factor = (1000_u128 << 64) / u128::from(hz);
        Self { origin, hz, ms_per_cycle: u64::try_from(factor).unwrap_or(u64::MAX) }
    }

    /// The tick of a count. Counts before the origin are the origin's.
    #[inline(always)]
    pub fn ticks(&self, cycles: u64) -> Ticks {
        let elapsed = cycles.saturating_sub(self.origin);
        let ms = (u128::from(elapsed) * u128::from(self.ms_per_cycle)) >> 64;
        FIRST.after(ms as u32)
    }

    /// Microseconds since the origin: the pair's time. Counts before the origin are the origin's.
    #[inline(always)]
    pub fn micros(&self, cycles: u64) -> Micros {
        let elapsed = cycles.saturating_sub(self.origin);
        // In two steps, so that no count and no rate overflows the product.
        let ms = (u128::from(elapsed) * u128::from(self.ms_per_cycle)) >> 32;
        Micros(((ms * 1000) >> 32) as u64)
    }

    /// How many cycles a span has.
    pub fn cycles(&self, span: Duration) -> u64 {
        let cycles = span.as_nanos().saturating_mul(u128::from(self.hz)) / 1_000_000_000;
        u64::try_from(cycles).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_299_998_765;

    #[test]
    fn ticks_are_milliseconds_and_pass_the_wrap() {
        let clock = Clock::new(1_000, HZ);
        let at = |ms: u64| clock.ticks(1_000 + clock.cycles(Duration::from_millis(ms)) + 10_000);
        let start = clock.ticks(1_000);
        for ms in [0, 1, 2, 999, 1_000, 299_999, 300_000, 300_001, 86_400_000, 1 << 31] {
            assert_eq!(at(ms).0.wrapping_sub(start.0), ms as u32, "{ms}");
        }
        assert_eq!(at(300_000), Ticks(0), "the wrap comes after five minutes");
        assert_eq!(clock.ticks(0), start, "never before the origin");
    }

    #[test]
    fn the_factor_is_exact_enough_for_years() {
        let clock = Clock::new(0, HZ);
        let year_ms = 365 * 86_400_000_u64;
        let counted = clock.ticks(HZ / 1000 * year_ms).0.wrapping_sub(FIRST.0);
        // HZ / 1000 is itself rounded down: compare with the exact quotient.
        let exact = (u128::from(HZ / 1000) * u128::from(year_ms) * 1000 / u128::from(HZ)) as u32;
        assert!(exact.wrapping_sub(counted) <= 1, "{exact} {counted}");
    }

    #[test]
    fn microseconds_run_beside_ticks() {
        let clock = Clock::new(1_000, HZ);
        for seconds in [0, 1, 86_400, 31_536_000] {
            let cycles = 1_000 + clock.cycles(Duration::from_secs(seconds));
            let off = clock.micros(cycles).0.abs_diff(seconds * 1_000_000);
            assert!(off <= 1 + seconds / 1_000, "{seconds} s: {off}");
        }
        assert_eq!(clock.micros(0), Micros(0));
    }

    #[test]
    fn absurd_rates_do_not_overflow() {
        for hz in [0, 1, 999_999, u64::MAX] {
            let clock = Clock::new(0, hz);
            clock.ticks(u64::MAX);
            clock.micros(u64::MAX);
            clock.cycles(Duration::MAX);
        }
    }
}
