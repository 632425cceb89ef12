//! Time as the packet path knows it.

/// Milliseconds of a monotonic clock, wrapping after 49.7 days: only differences mean something, and
/// every timeout is shorter than [`Ticks::MAX_SPAN_MS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ticks(pub u32);

impl Ticks {
    /// The longest timeout that wrapping comparison can carry: 2^30 ms, 12.4 days.
    pub const MAX_SPAN_MS: u32 = 1 << 30;

    /// This time plus `span_ms`.
    #[inline(always)]
    #[must_use]
    pub fn after(self, span_ms: u32) -> Ticks {
        Ticks(self.0.wrapping_add(span_ms))
    }

    /// Milliseconds from `earlier` to this time, 0 if it lies ahead.
    #[inline(always)]
    pub fn since(self, earlier: Ticks) -> u32 {
        let span = self.0.wrapping_sub(earlier.0);
        if span > u32::MAX / 2 { 0 } else { span }
    }

    /// True if this time is `deadline` or later.
    #[inline(always)]
    pub fn reached(self, deadline: Ticks) -> bool {
        self.0.wrapping_sub(deadline.0) <= u32::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_survive_the_wrap() {
        let before = Ticks(u32::MAX - 5);
        let after = before.after(10);
        assert_eq!(after, Ticks(4));
        assert!(after.reached(before) && !before.reached(after) && before.reached(before));
        assert_eq!((after.since(before), before.since(after)), (10, 0));
    }
}
