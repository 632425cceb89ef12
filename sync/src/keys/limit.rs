//! A token bucket: how often a handshake may be asked of us.

use crate::ids::Micros;

/// At most `BURST` at once, one more every `REFILL`.
pub struct Limit {
    tokens: u32,
    filled: Micros,
}

const BURST: u32 = 16;
const REFILL: Micros = Micros::from_millis(20);

impl Limit {
    pub fn new(now: Micros) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Micros) -> bool {
        let earned = now.since(self.filled).0 / REFILL.0;
        if earned > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.filled = Micros(self.filled.0 + earned * REFILL.0);
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}
