//! Log lines about sessions whose rules ask for them, and a bound on how many.
//!
//! A rule with `log = true` in front of a flood must not turn the log into a second flood: beyond a rate
//! the lines are counted, and the count is logged once a second.

use super::names::Names;
use engine::{Notice, RuleId};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::FlowKey;

/// Lines a second, and at once after a quiet time.
const RATE_PER_S: u32 = 200;
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Writes session events to the log.
pub struct EventLog {
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
    summarised: Instant,
    suppressed_total: u64,
}

impl EventLog {
    /// Full of tokens.
    pub fn new(now: Instant) -> Self {
        Self { tokens: RATE_PER_S, refilled: now, suppressed: 0, summarised: now, suppressed_total: 0 }
    }

    /// Logs a notice that is about a session; others are not for the log.
    pub fn notice(&mut self, notice: &Notice, names: &Names, now: Instant) {
        if !self.take(now) {
            return;
        }
        match notice {
            Notice::SessionOpened { key, rule } => {
                let Parties { proto, from, to } = parties(key);
                tracing::info!(
                    event = "session-opened",
                    rule = rule_name(names, *rule),
                    proto,
                    from,
                    to,
                    "session opened"
                );
            }
            Notice::SessionEnded { key, rule, bytes: [fwd, rev] } => {
                let Parties { proto, from, to } = parties(key);
                let rule = rule_name(names, *rule);
                tracing::info!(
                    event = "session-ended",
                    rule,
                    proto,
                    from,
                    to,
                    bytes_fwd = fwd,
                    bytes_rev = rev,
                    "session ended"
                );
            }
            Notice::Refused { key, rule } => {
                let Parties { proto, from, to } = parties(key);
                tracing::info!(
                    event = "packet-refused",
                    rule = rule_name(names, *rule),
                    proto,
                    from,
                    to,
                    "packet refused"
                );
            }
            Notice::SessionReset { key, reset: [from_reset, to_reset] } => {
                let Parties { proto, from, to } = parties(key);
                tracing::info!(
                    event = "session-reset",
                    proto,
                    from,
                    to,
                    from_reset,
                    to_reset,
                    "session ended on command"
                );
            }
            Notice::NeighbourWanted { .. } | Notice::NeighbourHeard { .. } => {}
        }
    }

    /// To be called now and then: says how many lines were left out.
    pub fn tick(&mut self, now: Instant) {
        if self.suppressed > 0 && now.duration_since(self.summarised) >= SUMMARY_EVERY {
            tracing::warn!(
                event = "log-suppressed",
                count = self.suppressed,
                "session events were not logged one by one: too many"
            );
            self.suppressed = 0;
            self.summarised = now;
        }
    }

    /// Lines left out since the start.
    pub fn suppressed_total(&self) -> u64 {
        self.suppressed_total
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed_ms = now.duration_since(self.refilled).as_millis();
        let fresh = u32::try_from(elapsed_ms * u128::from(RATE_PER_S) / 1000).unwrap_or(RATE_PER_S);
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(RATE_PER_S);
            self.refilled = now;
        }
        if let Some(left) = self.tokens.checked_sub(1) {
            self.tokens = left;
            return true;
        }
        self.suppressed += 1;
        self.suppressed_total += 1;
        false
    }
}

struct Parties {
    proto: String,
    from: String,
    to: String,
}

fn parties(key: &FlowKey) -> Parties {
    Parties {
        proto: proto::Protocol(key.proto().0).to_string(),
        from: endpoint(key.src().into(), key.sport()),
        to: endpoint(key.dst().into(), key.dport()),
    }
}

fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn rule_name(names: &Names, rule: RuleId) -> &str {
    names.rule(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut log = EventLog::new(start);
        let taken = (0..1_000).filter(|_| log.take(start)).count();
        assert_eq!((taken, log.suppressed, log.suppressed_total()), (200, 800, 800));
        let later = start + Duration::from_millis(50);
        assert_eq!((0..100).filter(|_| log.take(later)).count(), 10, "200 a second");
        log.tick(start + Duration::from_millis(1_001));
        assert_eq!((log.suppressed, log.suppressed_total()), (0, 890));
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..1_000).filter(|_| log.take(much_later)).count(), 200, "no more than a second's worth");
    }

    #[test]
    fn endpoints_read_as_usual() {
        let key = FlowKey::v6([0xfd; 16], [0x20; 16], wire::Proto::TCP, 40_000, 443);
        let Parties { proto, from, .. } = parties(&key);
        assert_eq!(
            (proto.as_str(), from.as_str()),
            ("tcp", "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:40000")
        );
    }
}
