//! Expiry without a sweep (decision 8): a cursor passes over every slot's `next_check` once a second, a
//! slice a burst, and looks at a session only when its time has come. Packets write nothing here but the
//! session's own time stamp.

use crate::time::Ticks;

/// One pass over all slots takes this long.
const PASS_MS: u32 = 1_000;
/// A worker that slept does not catch up more than this at once.
const CATCH_UP_MAX_MS: u32 = 100;
/// Free slots are looked at this seldom.
const IDLE_MS: u32 = Ticks::MAX_SPAN_MS;
/// Slots looked at together; a power of two that fills a vector register or two.
const CHUNK: usize = 16;

/// The timers of one shard.
pub(crate) struct Timers {
    next_check: &'static mut [u32],
    cursor: usize,
    passed: Ticks,
}

impl Timers {
    pub fn new(next_check: &'static mut [u32], now: Ticks) -> Self {
        next_check.fill(now.after(IDLE_MS).0);
        Self { next_check, cursor: 0, passed: now }
    }

    /// The slot is to be looked at when `deadline` has come.
    #[inline(always)]
    pub fn set(&mut self, slot: usize, deadline: Ticks) {
        if let Some(check) = self.next_check.get_mut(slot) {
            *check = deadline.0;
        }
    }

    /// Asks for the line that [`set`](Self::set) will write.
    #[inline(always)]
    pub fn prefetch(&self, slot: usize) {
        super::prefetch_read(self.next_check, slot);
    }

    /// As [`set`](Self::set), but never later than it stands now.
    #[inline(always)]
    pub fn advance(&mut self, slot: usize, deadline: Ticks) {
        if let Some(check) = self.next_check.get_mut(slot)
            && Ticks(*check).reached(deadline)
        {
            *check = deadline.0;
        }
    }

    /// The slot became free.
    pub fn clear(&mut self, slot: usize, now: Ticks) {
        self.set(slot, now.after(IDLE_MS));
    }

    /// Moves the cursor as far as time has, and collects what is due, `due` at most. Each collected slot
    /// must be [`set`](Self::set) or [`clear`](Self::clear)ed by the caller.
    pub fn pass<const N: usize>(&mut self, now: Ticks, due: &mut arrayvec::ArrayVec<u32, N>) {
        let elapsed_ms = now.since(self.passed).min(CATCH_UP_MAX_MS);
        if elapsed_ms == 0 {
            return;
        }
        self.passed = now;
        let slots = self.next_check.len();
        let mut budget = (slots * elapsed_ms as usize).div_ceil(PASS_MS as usize).min(slots);
        while budget > 0 {
            let end = (self.cursor + CHUNK.min(budget)).min(slots);
            let chunk = self.next_check.get(self.cursor..end).unwrap_or(&[]);
            if due.remaining_capacity() < chunk.len() {
                return;
            }
            let mut any = false;
            for check in chunk {
                any |= now.reached(Ticks(*check));
            }
            if any {
                for (i, check) in chunk.iter().enumerate() {
                    if now.reached(Ticks(*check)) {
                        due.push((self.cursor + i) as u32);
                    }
                }
            }
            budget -= end - self.cursor;
            self.cursor = if end == slots { 0 } else { end };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrayvec::ArrayVec;

    fn timers(slots: usize) -> Timers {
        Timers::new(vec![0; slots].leak(), Ticks(0))
    }

    #[test]
    fn a_due_slot_is_found_within_one_pass_whatever_the_steps() {
        for step_ms in [1, 7, 90] {
            let mut timers = timers(10_001);
            timers.set(9_999, Ticks(500));
            let mut found = Vec::new();
            for now in (0..=1_700).step_by(step_ms) {
                let mut due = ArrayVec::<u32, 64>::new();
                timers.pass(Ticks(now), &mut due);
                for slot in due {
                    found.push((slot, now));
                    timers.clear(slot as usize, Ticks(now));
                }
            }
            assert_eq!(found.len(), 1, "step {step_ms}: {found:?}");
            assert_eq!(found[0].0, 9_999);
            assert!((500..=1_600).contains(&found[0].1), "step {step_ms}: {found:?}");
        }
    }

    #[test]
    fn a_full_list_stops_the_cursor_and_loses_nothing() {
        let mut timers = timers(1_000);
        (0..1_000).for_each(|slot| timers.set(slot, Ticks(1)));
        let mut found = 0;
        for now in 2..4_000 {
            let mut due = ArrayVec::<u32, 32>::new();
            timers.pass(Ticks(now), &mut due);
            found += due.len();
            due.iter().for_each(|slot| timers.clear(*slot as usize, Ticks(now)));
        }
        assert_eq!(found, 1_000);
    }

    #[test]
    fn advance_never_delays() {
        let mut timers = timers(1);
        timers.set(0, Ticks(100));
        timers.advance(0, Ticks(200));
        assert_eq!(timers.next_check[0], 100);
        timers.advance(0, Ticks(50));
        assert_eq!(timers.next_check[0], 50);
    }
}
