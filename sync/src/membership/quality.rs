//! How fit a node is, as one number.

/// One weighted monitor: a link, a gateway, a disk, a process, a script.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Monitor {
    /// How much it matters.
    pub weight: u16,
    /// How good it is, 0..=100; more counts as 100.
    pub health: u8,
}

/// The weighted mean in whole percent, rounded down: 0..=100. A node that watches nothing is fully fit.
#[must_use]
pub fn quality(monitors: &[Monitor]) -> u8 {
    let (sum, weights) = monitors.iter().fold((0u64, 0u64), |(sum, weights), monitor| {
        let weight = u64::from(monitor.weight);
        (sum + weight * u64::from(monitor.health.min(100)), weights + weight)
    });
    sum.checked_div(weights).map_or(100, |mean| mean as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn s_16_the_documented_example_gives_63_percent() {
        let monitor = |weight, up| Monitor { weight, health: if up { 100 } else { 0 } };
        assert_eq!(quality(&[monitor(100, true), monitor(100, false), monitor(75, true)]), 63);
        assert_eq!(quality(&[monitor(100, true), monitor(100, true), monitor(75, true)]), 100);
        assert_eq!(quality(&[]), 100);
        assert_eq!(quality(&[monitor(0, false)]), 100);
    }

    proptest! {
        #[test]
        fn s_16_it_is_a_percentage_and_no_better_monitor_lowers_it(
            monitors in proptest::collection::vec((0u16.., 0u8..), 1..20), at: prop::sample::Index
        ) {
            let mut monitors: Vec<Monitor> =
                monitors.into_iter().map(|(weight, health)| Monitor { weight, health }).collect();
            let before = quality(&monitors);
            prop_assert!(before <= 100);
            let at = at.index(monitors.len());
            monitors[at].health = 100;
            prop_assert!(quality(&monitors) >= before);
        }
    }
}
