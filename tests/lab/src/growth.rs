//! A number that is watched until it stays as it is. What it took is the time until its last change, and not
//! the time in which somebody waited for another one.

use std::time::{Duration, Instant};

/// The number, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// What it is.
    pub value: u64,
    /// When it last became something else.
    pub since: Instant,
}

impl Growth {
    /// A number that begins at nothing.
    pub fn new(now: Instant) -> Self {
        Self { value: 0, since: now }
    }

    /// Looks at it.
    pub fn see(&mut self, value: u64, now: Instant) {
        if value != self.value {
            *self = Self { value, since: now };
        }
    }

    /// How long nothing came.
    pub fn still(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_more_is_no_part_of_what_it_took() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut growth = Growth::new(start);
        for (value, ms) in [(0, 10), (7, 20), (9, 30), (9, 40), (9, 8_000)] {
            growth.see(value, at(ms));
        }
        assert_eq!(growth, Growth { value: 9, since: at(30) });
        assert_eq!(growth.still(at(8_000)), Duration::from_millis(7_970));
        // What is flushed and comes again is not there before it has come again.
        growth.see(0, at(9_000));
        growth.see(9, at(9_500));
        assert_eq!(growth.since, at(9_500));
    }
}
