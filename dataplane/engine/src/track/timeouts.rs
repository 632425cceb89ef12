//! How long an idle session lives, by protocol and state.
//!
//! The established default follows RFC 5382 REQ-5 (not less than 2 h 4 min), UDP's RFC 4787 REQ-5 (not
//! less than 2 min). All are milliseconds and bounded by what wrapping ticks can compare.

use thiserror::Error;

use super::{FlowState, TcpState};
use crate::time::Ticks;

/// Idle timeouts in milliseconds; the configuration's `[timeouts]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    pub tcp_syn_ms: u32,
    /// TCP established.
    pub tcp_established_ms: u32,
    /// TCP with a FIN seen, until both are acknowledged.
    pub tcp_closing_ms: u32,
    /// TCP closed in order, kept for stragglers.
    pub tcp_time_wait_ms: u32,
    /// TCP reset, kept for stragglers.
    pub tcp_close_ms: u32,
    /// UDP without a reply.
    pub udp_new_ms: u32,
    /// UDP with a reply.
    pub udp_ms: u32,
    /// ICMP echo.
    pub icmp_ms: u32,
    /// Other protocols without a reply.
    pub other_new_ms: u32,
    /// Other protocols with a reply.
    pub other_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_ms: 30_000,
            tcp_established_ms: 7_440_000,
            tcp_closing_ms: 120_000,
            tcp_time_wait_ms: 120_000,
            tcp_close_ms: 10_000,
            udp_new_ms: 30_000,
            udp_ms: 120_000,
            icmp_ms: 30_000,
            other_new_ms: 60_000,
            other_ms: 600_000,
        }
    }
}

/// A timeout that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimeoutError {
    /// Zero would end sessions at once.
    #[error("timeouts.{name} is 0: a session would end at once")]
    Zero {
        /// The configuration key.
        name: &'static str,
    },
    /// Longer than ticks can compare.
    #[error("timeouts.{name} is {ms} ms: at most {max} ms (12 days) are possible", max = Ticks::MAX_SPAN_MS)]
    TooLong {
        /// The configuration key.
        name: &'static str,
        /// The value.
        ms: u32,
    },
}

impl Timeouts {
    /// Checks each value; the first wrong one is named by its configuration key.
    pub fn validate(&self) -> Result<(), TimeoutError> {
        for (name, ms) in self.named() {
            if ms == 0 {
                return Err(TimeoutError::Zero { name });
            }
            if ms > Ticks::MAX_SPAN_MS {
                return Err(TimeoutError::TooLong { name, ms });
            }
        }
        Ok(())
    }

    /// The timeout of a TCP session in this state.
    #[inline(always)]
    pub fn tcp_ms(&self, state: TcpState) -> u32 {
        match state {
            TcpState::Established => self.tcp_established_ms,
            TcpState::SynSent | TcpState::SynReceived | TcpState::SimultaneousOpen => self.tcp_syn_ms,
            TcpState::FinWait | TcpState::Closing | TcpState::LastAck => self.tcp_closing_ms,
            TcpState::TimeWait => self.tcp_time_wait_ms,
            TcpState::Closed => self.tcp_close_ms,
        }
    }

    /// The timeout of a UDP session.
    #[inline(always)]
    pub fn udp_ms(&self, state: FlowState) -> u32 {
        if state == FlowState::Replied { self.udp_ms } else { self.udp_new_ms }
    }

    /// The timeout of an ICMP echo session.
    #[inline(always)]
    pub fn icmp_ms(&self) -> u32 {
        self.icmp_ms
    }

    /// The timeout of a session of another protocol.
    #[inline(always)]
    pub fn other_ms(&self, state: FlowState) -> u32 {
        if state == FlowState::Replied { self.other_ms } else { self.other_new_ms }
    }

    /// Every value with its configuration key.
    fn named(&self) -> [(&'static str, u32); 10] {
        [
            ("tcp-syn", self.tcp_syn_ms),
            ("tcp-established", self.tcp_established_ms),
            ("tcp-closing", self.tcp_closing_ms),
            ("tcp-time-wait", self.tcp_time_wait_ms),
            ("tcp-close", self.tcp_close_ms),
            ("udp-new", self.udp_new_ms),
            ("udp", self.udp_ms),
            ("icmp", self.icmp_ms),
            ("other-new", self.other_new_ms),
            ("other", self.other_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_state_has_its_own() {
        let t = Timeouts::default();
        assert_eq!(t.validate(), Ok(()));
        assert_eq!(t.tcp_ms(TcpState::SynSent), 30_000);
        assert_eq!(t.tcp_ms(TcpState::SimultaneousOpen), 30_000);
        assert_eq!(t.tcp_ms(TcpState::Established), 7_440_000);
        assert_eq!(t.tcp_ms(TcpState::LastAck), 120_000);
        assert_eq!(t.tcp_ms(TcpState::TimeWait), 120_000);
        assert_eq!(t.tcp_ms(TcpState::Closed), 10_000);
        assert_eq!((t.udp_ms(FlowState::New), t.udp_ms(FlowState::Replied)), (30_000, 120_000));
        assert_eq!((t.other_ms(FlowState::New), t.other_ms(FlowState::Replied)), (60_000, 600_000));
        assert_eq!(t.icmp_ms(), 30_000);
    }

    #[test]
    fn impossible_values_are_named() {
        let t = Timeouts { udp_new_ms: 0, ..Timeouts::default() };
        assert_eq!(t.validate(), Err(TimeoutError::Zero { name: "udp-new" }));
        let longest = Timeouts { other_ms: Ticks::MAX_SPAN_MS, ..Timeouts::default() };
        assert_eq!(longest.validate(), Ok(()));
        let t = Timeouts { other_ms: Ticks::MAX_SPAN_MS + 1, ..Timeouts::default() };
        let error = t.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "timeouts.other is 1073741825 ms: at most 1073741824 ms (12 days) are possible"
        );
    }
}
