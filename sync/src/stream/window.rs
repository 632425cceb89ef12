//! Which datagrams of the partner's sequence arrived, and which are applied (decisions 19 and 21).
//!
//! "Received" and "applied" advance apart: an owner applies in the order of handing over, so what matters
//! for a late insert is what was received, while only what was applied may be acknowledged.

/// How far beyond what is applied a datagram may lie. An ack's bitmap reaches as far: 255 bytes.
pub(super) const REACH: u64 = 2_040;
const SLOTS: usize = 2_048;

const EMPTY: u16 = 0;
/// Received, nothing outstanding; a larger number is one more than the outcomes that are missing.
const DONE: u16 = 1;

/// What is to be done with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// Its records are wanted.
    Take,
    /// It lies below the floor or was here before.
    Late,
    /// It lies further ahead than any sender may be.
    Ahead,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Everything up to here is applied or passed.
    base: u64,
    /// Everything up to here was received or passed.
    received: u64,
    highest: u64,
    /// Outcomes that are to come for the datagrams in the window.
    pending: u64,
    slots: Box<[u16]>,
}

impl Window {
    pub fn new() -> Self {
        Self { base: 0, received: 0, highest: 0, pending: 0, slots: vec![EMPTY; SLOTS].into() }
    }

    pub fn reset(&mut self) {
        (self.base, self.received, self.highest, self.pending) = (0, 0, 0, 0);
        self.slots.fill(EMPTY);
    }

    /// Everything up to here is applied or passed.
    pub const fn applied_through(&self) -> u64 {
        self.base
    }

    /// Everything up to here was received or passed.
    pub const fn received_through(&self) -> u64 {
        self.received
    }

    /// Outcomes that are to come for the datagrams in the window. What was handed over beside those
    /// belongs to datagrams that were passed.
    pub const fn pending(&self) -> u64 {
        self.pending
    }

    #[cfg(test)]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    fn slot(&mut self, seq: u64) -> &mut u16 {
        &mut self.slots[seq as usize % SLOTS]
    }

    /// Passes what lies below `floor`, then looks at `seq`. The second number is how many datagrams were
    /// passed that never came.
    pub fn admit(&mut self, seq: u64, floor: u64) -> (Admission, u64) {
        let lost = self.pass(floor);
        let admission = if seq <= self.base || (seq <= self.highest && *self.slot(seq) != EMPTY) {
            Admission::Late
        } else if seq - self.base > REACH {
            Admission::Ahead
        } else {
            Admission::Take
        };
        (admission, lost)
    }

    fn pass(&mut self, floor: u64) -> u64 {
        let Some(through) = floor.checked_sub(1).filter(|&through| through > self.base) else { return 0 };
        let mut lost = 0;
        if through - self.base > SLOTS as u64 {
            lost += through - self.base - SLOTS as u64;
            self.base = through - SLOTS as u64;
            self.slots.fill(EMPTY);
            self.pending = 0;
        }
        while self.base < through {
            self.base += 1;
            let base = self.base;
            let slot = std::mem::replace(self.slot(base), EMPTY);
            lost += u64::from(slot == EMPTY);
            self.pending -= u64::from(slot.saturating_sub(DONE));
        }
        self.highest = self.highest.max(self.base);
        self.received = self.received.max(self.base);
        self.advance();
        lost
    }

    /// A datagram was received and `outcomes` of its records are to come. It must have been admitted.
    pub fn start(&mut self, seq: u64, outcomes: u16) {
        *self.slot(seq) = DONE.saturating_add(outcomes);
        self.pending += u64::from(outcomes);
        self.highest = self.highest.max(seq);
        self.advance();
    }

    /// An outcome came in for the datagram whose number ends in `low`: its number, and whether it was the
    /// last one; nothing if the datagram was passed or refused meanwhile.
    pub fn outcome(&mut self, low: u16) -> Option<(u64, bool)> {
        let ahead = low.wrapping_sub(self.base as u16);
        let seq = self.base + u64::from(ahead);
        if ahead == 0 || u64::from(ahead) > REACH || *self.slot(seq) <= DONE {
            return None;
        }
        *self.slot(seq) -= 1;
        self.pending -= 1;
        let complete = *self.slot(seq) == DONE;
        if complete {
            self.advance();
        }
        Some((seq, complete))
    }

    fn advance(&mut self) {
        while self.received < self.highest && *self.slot(self.received + 1) != EMPTY {
            self.received += 1;
        }
        while self.base < self.received && *self.slot(self.base + 1) == DONE {
            self.base += 1;
            let base = self.base;
            *self.slot(base) = EMPTY;
        }
    }

    /// Something beyond what is applied in order is applied or missing.
    pub const fn has_gap(&self) -> bool {
        self.received < self.highest
    }

    /// The bitmap of an ack: bit i is number `applied_through + 1 + i`. Its length in bytes.
    pub fn bitmap(&self, out: &mut [u8; 255]) -> usize {
        let mut length = 0;
        for ahead in 1..=(self.highest - self.base).min(REACH) {
            if self.slots[(self.base + ahead) as usize % SLOTS] == DONE {
                let bit = ahead as usize - 1;
                out[bit / 8] |= 1 << (bit % 8);
                length = bit / 8 + 1;
            }
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(window: &Window) -> Vec<u8> {
        let mut out = [0; 255];
        let length = window.bitmap(&mut out);
        out[..length].to_vec()
    }

    #[test]
    fn applied_follows_the_slowest_owner_and_received_the_wire() {
        let mut window = Window::new();
        for (seq, outcomes) in [(1, 2), (2, 0), (4, 1)] {
            assert_eq!(window.admit(seq, 1), (Admission::Take, 0));
            window.start(seq, outcomes);
        }
        assert_eq!((window.applied_through(), window.received_through(), window.highest()), (0, 2, 4));
        assert_eq!(bitmap(&window), [0b10]);
        assert_eq!(window.admit(2, 1), (Admission::Late, 0));
        assert_eq!(window.outcome(1), Some((1, false)));
        assert_eq!(window.outcome(4), Some((4, true)));
        assert_eq!(bitmap(&window), [0b1010]);
        assert_eq!(window.outcome(1), Some((1, true)));
        assert_eq!(window.outcome(1), None);
        assert_eq!((window.applied_through(), window.received_through()), (2, 2));
        // Number 3 is lost and never comes: the floor passes it.
        assert_eq!(window.admit(5, 4), (Admission::Take, 1));
        window.start(5, 0);
        assert_eq!((window.applied_through(), window.received_through()), (5, 5));
        assert_eq!(window.admit(3, 4), (Admission::Late, 0));
    }

    #[test]
    fn a_new_follower_begins_at_the_floor() {
        let mut window = Window::new();
        assert_eq!(window.admit(1_000_007, 1_000_000), (Admission::Take, 999_999));
        window.start(1_000_007, 1);
        assert_eq!(window.applied_through(), 999_999);
        assert_eq!(window.admit(999_999 + REACH + 1, 1_000_000).0, Admission::Ahead);
        assert_eq!(window.admit(999_999 + REACH, 1_000_000).0, Admission::Take);
        assert_eq!(window.outcome((1_000_007_u64 % 65_536) as u16), Some((1_000_007, true)));
        assert_eq!(window.admit(u64::MAX, u64::MAX).0, Admission::Take);
        assert_eq!(window.applied_through(), u64::MAX - 1);
    }
}
