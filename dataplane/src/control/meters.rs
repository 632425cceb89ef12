//! Figures that need two looks: how busy a worker was lately, and when a rule last decided.

use engine::counters::Counters;
use std::sync::Arc;
use std::time::Instant;

/// The share of the time between two looks that a worker spent on packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct BusyMeter {
    busy_cycles: u64,
    cycles: u64,
    permille: u32,
    progress: u64,
    stuck: bool,
}

impl BusyMeter {
    /// Looks at a worker's figures, at `cycles`.
    pub fn look(&mut self, busy_cycles: u64, progress: u64, cycles: u64) {
        let span = cycles.saturating_sub(self.cycles);
        let busy = busy_cycles.saturating_sub(self.busy_cycles);
        if span > 0 {
            self.permille = (u128::from(busy) * 1000 / u128::from(span)).min(1000) as u32;
        }
        self.stuck = self.cycles != 0 && progress == self.progress;
        (self.busy_cycles, self.cycles, self.progress) = (busy_cycles, cycles, progress);
    }

    /// Thousandths.
    pub fn permille(&self) -> u32 {
        self.permille
    }

    /// True if the worker did not finish a single turn between the last two looks.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }
}

/// What a rule did, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Sessions that it admitted.
    pub sessions: u64,
    /// Packets that it refused.
    pub refused: u64,
    /// Since it last decided, to the second; `None` if it never did.
    pub last_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// What the slot's former rule had counted.
    base: (u64, u64),
    /// Sessions and refusals at the last look.
    seen: u64,
    last: Option<Instant>,
}

/// The rules' counters, by counter slot.
pub struct RuleMeter {
    places: Vec<Place>,
}

impl RuleMeter {
    /// So many slots, nothing seen.
    pub fn new(slots: usize) -> Self {
        Self { places: vec![Place::default(); slots] }
    }

    /// Looks at these slots.
    pub fn look(&mut self, slots: impl Iterator<Item = u16>, workers: &[Arc<Counters>], now: Instant) {
        for slot in slots {
            let (sessions, refused) = sum(workers, slot);
            if let Some(place) = self.places.get_mut(usize::from(slot)) {
                let seen = sessions.wrapping_add(refused);
                if seen != place.seen {
                    place.last = Some(now);
                }
                place.seen = seen;
            }
        }
    }

    /// A slot that got another rule counts from zero.
    pub fn restart(&mut self, slot: u16, workers: &[Arc<Counters>]) {
        let (sessions, refused) = sum(workers, slot);
        if let Some(place) = self.places.get_mut(usize::from(slot)) {
            *place = Place { base: (sessions, refused), seen: sessions.wrapping_add(refused), last: None };
        }
    }

    /// What the rule with this slot did.
    pub fn hits(&self, slot: u16, workers: &[Arc<Counters>], now: Instant) -> Hits {
        let (sessions, refused) = sum(workers, slot);
        let place = self.places.get(usize::from(slot)).copied().unwrap_or_default();
        let fresh = sessions.wrapping_add(refused) != place.seen;
        let last = if fresh { Some(now) } else { place.last };
        Hits {
            sessions: sessions.wrapping_sub(place.base.0),
            refused: refused.wrapping_sub(place.base.1),
            last_ms: last.map(|last| now.duration_since(last).as_millis() as u64),
        }
    }
}

fn sum(workers: &[Arc<Counters>], slot: u16) -> (u64, u64) {
    workers.iter().map(|counters| counters.rule(slot)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_was_spent_since_the_last_look() {
        let mut meter = BusyMeter::default();
        meter.look(0, 1, 1_000_000);
        meter.look(250_000, 2, 2_000_000);
        assert_eq!((meter.permille(), meter.is_stuck()), (250, false));
        meter.look(250_000, 2, 3_000_000);
        assert_eq!((meter.permille(), meter.is_stuck()), (0, true));
        meter.look(9_999_999, 3, 3_000_010);
        assert_eq!((meter.permille(), meter.is_stuck()), (1_000, false), "a turn may have begun before");
    }

    #[test]
    fn a_rule_that_never_decided_has_no_last_time() {
        let workers = [Arc::new(Counters::new(4)), Arc::new(Counters::new(4))];
        let mut meter = RuleMeter::new(4);
        let now = Instant::now();
        meter.look(0..4, &workers, now);
        assert_eq!(meter.hits(1, &workers, now), Hits::default());
        meter.restart(1, &workers);
        assert_eq!(meter.hits(1, &workers, now), Hits::default());
        assert_eq!(meter.hits(4_000, &workers, now), Hits::default(), "out of range");
    }
}
