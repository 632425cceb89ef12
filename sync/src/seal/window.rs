//! The replay window of a key: which of the last 4,096 counters were seen (RFC 6479, without its rounding).

const WORDS: usize = 64;
const SPAN: u64 = 64 * WORDS as u64;

/// What the window says to a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not seen yet.
    Fresh,
    /// Seen.
    Replayed,
    /// Before everything that the window remembers, or 0, which nobody sends.
    TooOld,
}

/// Which counters were seen. Bit `n % 4096` belongs to counter n, for the last 4,096 up to the highest.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { highest: 0, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// How many counters it remembers.
    pub const SPAN: u64 = SPAN;

    /// Looks; changes nothing.
    #[must_use]
    pub fn check(&self, counter: u64) -> Verdict {
        if counter > self.highest {
            return Verdict::Fresh;
        }
        if counter == 0 || self.highest - counter >= SPAN {
            return Verdict::TooOld;
        }
        let (word, bit) = place(counter);
        if self.seen[word] & bit == 0 { Verdict::Fresh } else { Verdict::Replayed }
    }

    /// Remembers a counter that [`ReplayWindow::check`] found fresh and whose datagram was authentic.
    pub fn record(&mut self, counter: u64) {
        if counter > self.highest {
            self.advance(counter);
        } else if self.highest - counter >= SPAN {
            return;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }

    /// Forgets the counters that share a bit with those from `highest + 1` to `counter`.
    fn advance(&mut self, counter: u64) {
        if counter - self.highest >= SPAN {
            self.seen = [0; WORDS];
        } else {
            let mut next = self.highest + 1;
            while next <= counter {
                let last = (next | 63).min(counter);
                let (word, _) = place(next);
                let bits = last - next + 1;
                let ones = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
                self.seen[word] &= !(ones << (next & 63));
                next = last + 1;
            }
        }
        self.highest = counter;
    }
}

fn place(counter: u64) -> (usize, u64) {
    ((counter % SPAN / 64) as usize, 1 << (counter & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Everything ever seen, and the highest.
    #[derive(Default)]
    struct Model {
        seen: HashSet<u64>,
        highest: u64,
    }

    impl Model {
        fn check(&self, counter: u64) -> Verdict {
            if counter == 0 || counter + SPAN <= self.highest {
                Verdict::TooOld
            } else if self.seen.contains(&counter) {
                Verdict::Replayed
            } else {
                Verdict::Fresh
            }
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.check(0), Verdict::TooOld);
        assert_eq!(window.check(1), Verdict::Fresh);
        window.record(SPAN);
        assert_eq!(window.check(1), Verdict::Fresh);
        assert_eq!(window.check(SPAN), Verdict::Replayed);
        window.record(SPAN + 1);
        assert_eq!(window.check(1), Verdict::TooOld);
        assert_eq!(window.check(2), Verdict::Fresh);
        window.record(u64::MAX);
        assert_eq!(window.check(SPAN + 1), Verdict::TooOld);
        assert_eq!(window.check(u64::MAX - SPAN + 1), Verdict::Fresh);
        assert_eq!(window.check(u64::MAX), Verdict::Replayed);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ahead(u64),
        Behind(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (1_u64..80).prop_map(Step::Ahead),
            2 => (1_u64..2 * SPAN).prop_map(Step::Ahead),
            8 => (0_u64..200).prop_map(Step::Behind),
            4 => (0_u64..SPAN + 70).prop_map(Step::Behind),
        ]
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_perfect_memory(steps in vec(step(), 1..400)) {
            let (mut window, mut model) = (ReplayWindow::default(), Model::default());
            for step in steps {
                let counter = match step {
                    Step::Ahead(by) => model.highest + by,
                    Step::Behind(by) => model.highest.saturating_sub(by),
                };
                let verdict = window.check(counter);
                prop_assert_eq!(verdict, model.check(counter), "counter {}", counter);
                if verdict == Verdict::Fresh {
                    window.record(counter);
                    model.seen.insert(counter);
                    model.highest = model.highest.max(counter);
                }
            }
        }
    }
}
