//! A node's clock: its own beginning, its own speed. Nothing in the protocol may compare two of them.

use sync::ids::Micros;

/// How a node tells the time of the world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it shows when the world begins.
    pub offset: u64,
    /// How much faster it runs, in millionths.
    pub drift_ppm: i64,
}

impl Clock {
    /// What it shows at a time of the world.
    #[must_use]
    pub fn shows(&self, world: u64) -> Micros {
        // Years of a world fit.
        let drift = world as i64 * self.drift_ppm / 1_000_000;
        Micros((self.offset + world).wrapping_add_signed(drift))
    }

    /// The first time of the world at which it shows `local`.
    #[must_use]
    pub fn when(&self, local: Micros) -> u64 {
        if local.0 <= self.offset {
            return 0;
        }
        if local == Micros::NEVER {
            return u64::MAX;
        }
        let elapsed = local.0 - self.offset;
        let speed = (1_000_000 + self.drift_ppm) as u64;
        let mut world = elapsed / speed * 1_000_000 + elapsed % speed * 1_000_000 / speed;
        while self.shows(world) < local {
            world += 1;
        }
        while world > 0 && self.shows(world - 1) >= local {
            world -= 1;
        }
        world
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for drift_ppm in [-20_000, -100, 0, 3, 20_000] {
            let clock = Clock { offset: 5_000_000, drift_ppm };
            for world in [0, 1, 999, 1_000_000, 86_400_000_000] {
                let when = clock.when(clock.shows(world));
                assert!(when <= world && clock.shows(when) == clock.shows(world), "{drift_ppm} {world}");
            }
        }
        assert_eq!(Clock { offset: 9, drift_ppm: 1 }.when(Micros::NEVER), u64::MAX);
    }
}
