//! The time after a takeover: segments that do not fit what is known of their connection, resets that
//! nothing confirms yet, and connections that the other node took with it (decisions 39 and 40).

use super::PacketIo;
use super::engine::{Context, Engine, destination};
use super::forward::is_intact;
use super::local::source_mac;
use super::open::{is_spoofed, way_to};
use crate::counters::Event;
use crate::policy::{Action, Query};
use crate::table::{Entry, Slot};
use crate::time::Ticks;
use crate::track::{self, Dir, Segment, SynOptions, TcpConn, Verdict, Why};
use wire::ether::Link;
use wire::tcp::Control;
use wire::{Desc, Kind, PacketBuf, Proto, craft, tcp_flags};

/// A connection's end is asked once in so long about resets in its name. Hosts limit their answers as well,
/// and one that is gone answers each question with a reset.
const PROBE_EVERY_MS: u32 = 1_000;
/// Sessions whose last probe is remembered.
const PROBED: usize = 256;
/// This far below what a host expects, a segment lies outside of any window: it must be answered (RFC 9293
/// §3.10.7.4).
pub(super) const OUTSIDE: u32 = 1 << 30;

/// When which session's end was asked last, by slot.
pub(super) struct Probed(Box<[(u32, Ticks); PROBED]>);

impl Default for Probed {
    fn default() -> Self {
        Self(Box::new([(u32::MAX, Ticks(0)); PROBED]))
    }
}

impl Probed {
    fn is_due(&mut self, slot: Slot, now: Ticks) -> bool {
        let Some(last) = self.0.get_mut(slot.0 as usize % PROBED) else { return false };
        let is_due = last.0 != slot.0 || now.since(last.1) >= PROBE_EVERY_MS;
        if is_due {
            *last = (slot.0, now);
        }
        is_due
    }
}

impl<B: PacketBuf> Engine<B> {
    /// A TCP session's state changed: it may have to do with what is known of it since a takeover.
    pub(super) fn relearned(&mut self, before: u32, after: u32) {
        if before >> track::tcp::KNOWN_SHIFT == 0 {
            return;
        }
        self.shard.relearned(Proto::TCP, before, after);
        let is_relaxed = track::tcp::is_relaxed;
        let state = track::tcp::state_of(after);
        if state == track::TcpState::Closed {
            self.counters.count(Event::RstVerified, 1);
        } else if is_relaxed(before) && !is_relaxed(after) && !state.is_half_open() {
            self.counters.count(Event::Relearned, 1);
        }
    }

    /// A segment that does not belong to its connection, as far as is known. True if it passes after all.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn misfit<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        (slot, dir): (Slot, Dir),
        entry: &Entry,
        why: Why,
        frame: &B,
        io: &mut I,
    ) -> bool {
        let why = match self.forget_and_try(cx, desc, (slot, dir), entry) {
            Some(Ok(())) => return true,
            Some(Err(still)) => still,
            None => why,
        };
        self.counters.dropped(why.into());
        if why == Why::RstUnverified && self.probed.is_due(slot, cx.now) {
            let conn = TcpConn::unpack(&entry.hot().windows, entry.state());
            self.probe(cx, desc, dir, &conn, frame, io);
        }
        false
    }

    /// A session of this node's own from before the other one was active: nobody told how far it got, so
    /// its numbers are no better than a snapshot's. `None` if it is no such session.
    fn forget_and_try(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        (slot, dir): (Slot, Dir),
        entry: &Entry,
    ) -> Option<Result<(), Why>> {
        let is_old = self.took_over.is_some_and(|then| !entry.last_seen().reached(then));
        if !is_old || desc.tcp.flags & tcp_flags::SYN != 0 {
            return None;
        }
        let mut hot = entry.hot();
        let before = track::tcp::forgotten(&hot.windows, hot.state)?;
        self.shard.relearned(Proto::TCP, hot.state, before);
        hot.state = before;
        let segment = Segment { fields: desc.tcp, options: SynOptions::default() };
        let verdict = track::tcp::track_packed(&mut hot.windows, &mut hot.state, dir, &segment);
        if let Verdict::Accept { .. } = verdict {
            hot.count(dir, desc.ip_len);
        }
        let is_seen = matches!(verdict, Verdict::Accept { .. });
        entry.store_hot(&hot, if is_seen { cx.now } else { entry.last_seen() });
        match verdict {
            Verdict::Accept { changed } => {
                if changed {
                    self.state_changed(cx, slot, entry, before, hot.state);
                }
                Some(Ok(()))
            }
            Verdict::PassUnlearned(why) => {
                self.counters.passed_unlearned(why);
                Some(Ok(()))
            }
            Verdict::Invalid(why) => Some(Err(why)),
            // Only a SYN or a SYN-ACK says so.
            Verdict::Restart | Verdict::Reopen => None,
        }
    }

    /// Asks the claimed sender of a reset whether it lives: with a bare ACK that it must answer. If it does,
    /// its answer tells its numbers; if it is gone, its next answer to the other end is a reset that this
    /// end's ACK confirms.
    fn probe<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        dir: Dir,
        conn: &TcpConn,
        frame: &B,
        io: &mut I,
    ) {
        if !self.replies.take(cx.now) {
            return self.counters.count(Event::IcmpErrorsLimited, 1);
        }
        let link = Link { src: cx.mac, dst: source_mac(frame) };
        let other = &conn.halves[dir.other().index()];
        let seq = other.end.wrapping_sub(OUTSIDE);
        let control = Control { seq, ack: desc.tcp.seq, flags: tcp_flags::ACK, window: 0 };
        let sent = self.emit(cx, io, |out| craft::tcp_control(out, link, &desc.key.reversed(), &control));
        self.counters.count(Event::ProbesSent, sent.is_sent().into());
    }

    /// A segment of a connection that this node never heard of, soon after it took over: if a rule would
    /// admit the connection, in whichever direction it was opened, its sender is told to open it anew.
    #[cold]
    pub(super) fn reset_unknown<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        frame: &B,
        io: &mut I,
    ) {
        let limit_ms = cx.snapshot.pair.reset_unknown_ms;
        let is_time = self.took_over.is_some_and(|then| cx.now.since(then) < limit_ms);
        let is_opening = desc.tcp.flags & (tcp_flags::SYN | tcp_flags::RST) != 0;
        if !is_time || desc.kind != Kind::Tcp || is_opening || !is_intact(frame, desc) {
            return;
        }
        let (snapshot, key) = (cx.snapshot, desc.key);
        let back = way_to(snapshot, key.src());
        let (Some((_, egress)), Some(_)) = (way_to(snapshot, destination(desc)), back) else { return };
        if is_spoofed(cx, key.src(), back) || snapshot.is_local(key.dst()) || snapshot.is_group(key.dst()) {
            return;
        }
        let (from, to) = (cx.port.zone, egress.zone);
        let admits = |from, to, key| {
            snapshot.policy.classify(&Query { from, to, key, echo: false }).action == Action::Allow
        };
        if !admits(from, to, key) && !admits(to, from, key.reversed()) {
            return;
        }
        if !self.replies.take(cx.now) {
            return self.counters.count(Event::IcmpErrorsLimited, 1);
        }
        let link = Link { src: cx.mac, dst: source_mac(frame) };
        let sent = self.emit(cx, io, |out| craft::tcp_reset(out, link, desc));
        self.counters.count(Event::UnknownReset, sent.is_sent().into());
    }
}
