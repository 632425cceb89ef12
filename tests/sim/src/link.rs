//! The ways between the nodes, each direction by itself.

use crate::rng::Rng;

/// How well one direction of a path works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quality {
    /// Anything passes at all.
    pub up: bool,
    /// Least time under way.
    pub delay_us: u64,
    /// What may come on top, evenly spread.
    pub jitter_us: u64,
    /// Lost, of a thousand.
    pub loss: u32,
    /// Delivered twice, of a thousand.
    pub duplicate: u32,
    /// Held back for up to ten times the ordinary delay, of a thousand.
    pub reorder: u32,
    /// Longer payloads never arrive.
    pub mtu: usize,
}

impl Quality {
    /// A cable.
    pub const CABLE: Self =
        Self { up: true, delay_us: 30, jitter_us: 40, loss: 0, duplicate: 0, reorder: 0, mtu: 1_472 };

    /// When copies of a datagram arrive, in microseconds from now.
    pub fn pass(&self, length: usize, rng: &mut Rng) -> [Option<u64>; 2] {
        if !self.up || length > self.mtu || rng.chance(self.loss) {
            return [None; 2];
        }
        let first = Some(self.time(rng));
        let second = if rng.chance(self.duplicate) { Some(self.time(rng) + 10) } else { None };
        [first, second]
    }

    fn time(&self, rng: &mut Rng) -> u64 {
        let held =
            if rng.chance(self.reorder) { rng.below(10 * (self.delay_us + self.jitter_us)) } else { 0 };
        self.delay_us + rng.below(self.jitter_us + 1) + held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_does_what_it_says() {
        let mut rng = Rng::new(3);
        let mut arrivals = |quality: Quality, length: usize| -> usize {
            (0..10_000).map(|_| quality.pass(length, &mut rng).iter().flatten().count()).sum()
        };
        assert_eq!(arrivals(Quality::CABLE, 1_472), 10_000);
        assert_eq!(arrivals(Quality::CABLE, 1_473), 0);
        assert_eq!(arrivals(Quality { up: false, ..Quality::CABLE }, 100), 0);
        let lossy = arrivals(Quality { loss: 200, ..Quality::CABLE }, 100);
        assert!((7_800..8_200).contains(&lossy), "{lossy}");
        let doubled = arrivals(Quality { duplicate: 50, ..Quality::CABLE }, 100);
        assert!((10_400..10_600).contains(&doubled), "{doubled}");
    }

    #[test]
    fn held_back_datagrams_are_overtaken() {
        let mut rng = Rng::new(4);
        let quality = Quality { reorder: 100, jitter_us: 0, delay_us: 100, ..Quality::CABLE };
        let late = (0..1_000).filter(|_| quality.pass(64, &mut rng)[0].is_some_and(|at| at > 100)).count();
        assert!((60..140).contains(&late), "{late}");
    }
}
