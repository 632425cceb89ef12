//! Rates and bursts: a token bucket over any count of clocks.

/// So much a second, and so much at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Tokens a clock, times 2^32; 0 is no limit.
    per_clock: u64,
    /// Tokens times 2^32.
    tokens: u64,
    most: u64,
    last: u64,
}

impl Pace {
    /// `per_second` on a clock of `hz`, with up to `burst` in one go; a rate of 0 is no limit.
    pub fn new(per_second: f64, burst: u32, hz: f64) -> Self {
        let per_clock = (per_second / hz * (1_u64 << 32) as f64) as u64;
        let most = u64::from(burst.max(1)) << 32;
        Self { per_clock: if per_second > 0.0 { per_clock.max(1) } else { 0 }, tokens: most, most, last: 0 }
    }

    /// How many may leave at `now`, of `wanted`; whatever is granted is spent.
    #[inline]
    pub fn take(&mut self, now: u64, wanted: u32) -> u32 {
        if self.per_clock == 0 {
            return wanted;
        }
        let fresh = now.saturating_sub(self.last).saturating_mul(self.per_clock);
        self.last = now;
        self.tokens = self.tokens.saturating_add(fresh).min(self.most);
        let granted = wanted.min((self.tokens >> 32) as u32);
        self.tokens -= u64::from(granted) << 32;
        granted
    }

    /// Takes back what was granted and not used.
    pub fn give_back(&mut self, count: u32) {
        self.tokens = (self.tokens + (u64::from(count) << 32)).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_and_the_burst() {
        let mut pace = Pace::new(1_000.0, 8, 1e6);
        let sent: u32 = (0..1_000_000).map(|now| pace.take(now, 32)).sum();
        assert!((1_007..=1_008).contains(&sent), "a burst and a thousand: {sent}");
        assert_eq!(pace.take(5_000_000, 32), 8, "after a pause a burst, not the pause's share");
        assert_eq!(Pace::new(0.0, 1, 1e6).take(0, 32), 32);
    }

    #[test]
    fn what_is_not_used_is_there_again() {
        let mut pace = Pace::new(1.0, 4, 1e6);
        assert_eq!(pace.take(0, 4), 4);
        pace.give_back(3);
        assert_eq!(pace.take(0, 4), 3);
    }
}
