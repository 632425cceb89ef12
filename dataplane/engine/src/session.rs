//! What a session's packed state means: how long it lives, whether it is half-open, what the other node
//! hears of it, and how people call it.

use crate::table::Entry;
use crate::time::Ticks;
use crate::track::{FlowState, TcpState, Timeouts};
use wire::Proto;

/// After a takeover no session ends for want of packets before this, or half of its timeout.
const GRACE_MAX_MS: u32 = 60_000;

/// How long a session of this protocol and state may be idle, in milliseconds.
#[inline(always)]
pub fn timeout_ms(proto: Proto, state: u32, timeouts: &Timeouts) -> u32 {
    match proto {
        Proto::TCP => timeouts.tcp_ms(tcp_state(state)),
        Proto::UDP => timeouts.udp_ms(FlowState::from_bits(state as u8)),
        Proto::ICMP | Proto::ICMP6 => timeouts.icmp_ms(),
        _ => timeouts.other_ms(FlowState::from_bits(state as u8)),
    }
}

/// When an idle session ends.
#[inline(always)]
pub fn deadline(proto: Proto, state: u32, last_seen: Ticks, timeouts: &Timeouts) -> Ticks {
    last_seen.after(timeout_ms(proto, state, timeouts))
}

/// How long an idle session may live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// When it ends.
    pub deadline: Ticks,
    /// How long it may be idle.
    pub timeout_ms: u32,
}

/// A session's life. After a takeover nothing ends before it has had the time to show that it lives (decision
/// 8).
#[inline]
pub(crate) fn life(entry: &Entry, took_over: Option<Ticks>, timeouts: &Timeouts) -> Life {
    let timeout_ms = timeout_ms(entry.proto(), entry.state(), timeouts);
    let deadline = entry.last_seen().after(timeout_ms);
    let deadline = match took_over {
        Some(then) => {
            let grace = then.after((timeout_ms / 2).min(GRACE_MAX_MS));
            if grace.reached(deadline) { grace } else { deadline }
        }
        None => deadline,
    };
    Life { deadline, timeout_ms }
}

/// True while a TCP handshake is under way. Only asked of TCP sessions.
#[inline(always)]
pub fn is_half_open(state: u32) -> bool {
    tcp_state(state).is_half_open()
}

/// True if the other node mirrors a session in this state (B-20: TCP once the handshake is complete).
#[inline]
pub fn is_replicated(proto: Proto, state: u32) -> bool {
    proto != Proto::TCP || tcp_state(state).is_replicated()
}

/// The state's name as operators know it.
pub fn state_name(proto: Proto, state: u32) -> &'static str {
    match proto {
        Proto::TCP => tcp_state(state).name(),
        _ => FlowState::from_bits(state as u8).name(),
    }
}

#[inline(always)]
fn tcp_state(state: u32) -> TcpState {
    crate::track::tcp::state_of(state)
}
