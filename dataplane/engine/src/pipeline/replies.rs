//! What the firewall says about packets that it does not forward: ICMP errors and resets, limited in rate
//! (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).

use super::PacketIo;
use super::engine::{Context, Engine};
use super::local::source_mac;
use crate::counters::{Event, Refusal};
use crate::snapshot::{PortView, Snapshot};
use crate::time::Ticks;
use wire::craft::{self, IcmpError};
use wire::ether::Link;
use wire::{Addr, Desc, Kind, PacketBuf};

/// Replies a second and worker.
const RATE_PER_S: u32 = 1_000;
/// Replies at once.
const BURST_MAX: u32 = 200;

/// A token bucket.
pub(super) struct RateLimit {
    tokens: u32,
    filled: Ticks,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { tokens: BURST_MAX, filled: Ticks(0) }
    }
}

impl RateLimit {
    /// Takes a token if there is one.
    pub fn take(&mut self, now: Ticks) -> bool {
        // Not `since`: the last reply may be longer ago than half of the clock's range.
        let elapsed_ms = now.0.wrapping_sub(self.filled.0).min(1_000);
        let earned = elapsed_ms * RATE_PER_S / 1_000;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(BURST_MAX);
            self.filled = now;
        }
        let granted = self.tokens > 0;
        self.tokens -= u32::from(granted);
        granted
    }
}

impl<B: PacketBuf> Engine<B> {
    /// The TTL ran out here.
    #[cold]
    pub(super) fn ttl_exceeded<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) {
        self.counters.dropped(Refusal::TtlExceeded.into());
        self.error(cx, desc, frame, IcmpError::TimeExceeded, io);
    }

    /// The packet does not fit the port that it must leave by. Fragmenting is not supported, so a sender
    /// that did not forbid it is told as well.
    #[cold]
    pub(super) fn too_big<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        mtu: u16,
        io: &mut I,
    ) {
        self.counters.dropped(Refusal::TooBig.into());
        self.error(cx, desc, frame, IcmpError::PacketTooBig { mtu }, io);
    }

    /// A reject rule: TCP is reset, everything else hears that it is prohibited.
    #[cold]
    pub(super) fn reject<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) {
        if desc.kind != Kind::Tcp {
            return self.error(cx, desc, frame, IcmpError::AdminProhibited, io);
        }
        if !self.replies.take(cx.now) {
            return self.counters.count(Event::IcmpErrorsLimited, 1);
        }
        let link = Link { src: cx.mac, dst: source_mac(frame) };
        let sent = self.emit(cx, io, |out| craft::tcp_reset(out, link, desc));
        self.counters.count(Event::ResetsSent, sent.is_sent().into());
    }

    fn error<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        error: IcmpError,
        io: &mut I,
    ) {
        let Some(from) = own_address(cx.port, desc) else { return };
        if !self.replies.take(cx.now) {
            return self.counters.count(Event::IcmpErrorsLimited, 1);
        }
        let link = Link { src: cx.mac, dst: source_mac(frame) };
        let sent = self.emit(cx, io, |out| craft::icmp_error(out, link, from, (frame.bytes(), desc), error));
        self.counters.count(Event::IcmpErrorsSent, sent.is_sent().into());
    }

    /// The next hop of a packet, which may have waited, does not answer. The port that it came in by is
    /// the one behind which its sender is.
    #[cold]
    pub(super) fn host_unreachable<I: PacketIo<Buf = B>>(
        &mut self,
        snapshot: &Snapshot,
        now: Ticks,
        frame: &B,
        io: &mut I,
    ) {
        let Ok(desc) = wire::parse(frame.bytes(), frame.frame_len()) else { return };
        let Some(hit) = snapshot.routes.lookup(desc.key.src()) else { return };
        if let Some(cx) = Context::new(now, snapshot, hit.port) {
            self.error(&cx, &desc, frame, IcmpError::HostUnreachable, io);
        }
    }
}

/// The port's address of the packet's family, a link-local one only where there is no other.
fn own_address(port: &PortView, desc: &Desc) -> Option<Addr> {
    let same_family = |addr: &&Addr| matches!(addr, Addr::V6(_)) == desc.key.is_v6();
    let is_global = |addr: &&Addr| !matches!(addr, Addr::V6([0xfe, 0x80, ..]));
    let mut own = port.addresses.iter().filter(same_family);
    own.clone().find(is_global).or_else(|| own.next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_limited_and_the_limit_refills() {
        let mut limit = RateLimit::default();
        let granted = |limit: &mut RateLimit, now| (0..10_000).filter(|_| limit.take(Ticks(now))).count();
        assert_eq!(granted(&mut limit, 0), 200);
        assert_eq!(granted(&mut limit, 1), 1);
        assert_eq!(granted(&mut limit, 51), 50);
        assert_eq!(granted(&mut limit, 100_000), 200);
        // Half of the clock's range later, and just before it wraps.
        assert_eq!(granted(&mut limit, 100_000 + (1 << 31) + 5), 200);
        assert_eq!(granted(&mut limit, u32::MAX), 200);
        assert_eq!(granted(&mut limit, 9), 10);
        assert_eq!(granted(&mut RateLimit::default(), u32::MAX - 300_000), 200);
    }
}
