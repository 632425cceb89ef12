//! Ending a session so that both its ends know (decision 41).
//!
//! A TCP connection can be reset only at the numbers that its two ends expect, and a firewall that took it
//! over may not know them. So it stops forwarding the connection's packets and says something to each end
//! that it must answer (RFC 9293 §3.10.7.4): a bare ACK from outside of its window. The answer's
//! acknowledgement is exactly the number that a reset to that end must have. Answers go no further.

use super::engine::{Context, Engine};
use super::local::source_mac;
use super::open::way_to;
use super::takeover::OUTSIDE;
use super::{Notice, PacketIo};
use crate::counters::Event;
use crate::neighbour::{AdjacencyState, NextHop};
use crate::snapshot::Snapshot;
use crate::table::{Entry, Path, Slot, flags};
use crate::time::Ticks;
use crate::track::{self, Dir, Segment, SynOptions, TcpConn, Verdict};
use wire::ether::Link;
use wire::tcp::Control;
use wire::{Desc, FlowKey, Kind, PacketBuf, Proto, craft, tcp_flags};

/// Between two questions to the same end: Linux answers what lies outside of its window twice a second.
const ASK_EVERY_MS: u32 = 600;
/// Questions to an end that does not answer.
const QUESTIONS: u8 = 3;
/// Sessions that can be on their way out at once.
const ENDING_MAX: usize = 256;

/// Sessions on their way out.
pub(super) struct Endings {
    list: Vec<Ending>,
}

/// A session on its way out.
#[derive(Clone, Copy)]
struct Ending {
    slot: Slot,
    key: FlowKey,
    asked: u8,
    next: Ticks,
    /// By end: it was reset, or has no such connection any more.
    done: [bool; 2],
}

impl Default for Endings {
    fn default() -> Self {
        Self { list: Vec::with_capacity(ENDING_MAX) }
    }
}

impl Endings {
    fn of(&mut self, slot: Slot) -> Option<&mut Ending> {
        self.list.iter_mut().find(|ending| ending.slot == slot)
    }
}

impl<B: PacketBuf> Engine<B> {
    /// Ends a session on command so that its ends know: nothing of it is forwarded from now on, and
    /// [`Notice::SessionReset`] says what came of it. Between bursts. False if there is no such session, if it
    /// is only mirrored here, or if too many are on their way out already.
    pub fn terminate_clean(&mut self, slot: Slot, now: Ticks) -> bool {
        let Some(entry) = self.shard.entry(slot).filter(|entry| entry.in_use()) else { return false };
        if !self.shard.is_serving() || self.endings.list.len() >= ENDING_MAX {
            return false;
        }
        let path = entry.path();
        if path.flags & flags::ENDING == 0 {
            self.doomed.retain(|doomed| *doomed != slot);
            // Without next hops, its packets leave the common way.
            let path = Path { next_hops: [NextHop::NONE; 2], flags: path.flags | flags::ENDING, ..path };
            entry.update(|e| e.path(path));
            let key = entry.keys()[0];
            self.endings.list.push(Ending { slot, key, asked: 0, next: now, done: [false; 2] });
        }
        true
    }

    /// Sessions on their way out go on as a mirror.
    pub(super) fn stop_endings(&mut self) {
        for ending in std::mem::take(&mut self.endings).list {
            if let Some(entry) = self.shard.entry(ending.slot).filter(|e| e.path().flags & flags::ENDING != 0)
            {
                let path = entry.path();
                entry.update(|e| e.path(Path { flags: path.flags & !flags::ENDING, ..path }));
            }
        }
    }

    /// Between bursts: first resets, questions, ends.
    pub(super) fn further_endings<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        io: &mut I,
    ) {
        let mut at = 0;
        while let Some(ending) = self.endings.list.get(at).copied() {
            let entry = self.shard.entry(ending.slot);
            let held = entry.filter(|e| e.path().flags & flags::ENDING != 0 && e.keys()[0] == ending.key);
            let is_over = match held {
                Some(entry) => self.further(now, snapshot, at, ending, entry, io),
                // It ended in another way meanwhile.
                None => true,
            };
            if is_over {
                let done = self.endings.list.swap_remove(at).done;
                self.notify(Notice::SessionReset { key: ending.key, reset: done });
                if held.is_some() {
                    self.end(ending.slot, now);
                }
            } else {
                at += 1;
            }
        }
    }

    /// True if the session is to be dropped now.
    fn further<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        at: usize,
        ending: Ending,
        entry: &Entry,
        io: &mut I,
    ) -> bool {
        if entry.proto() != Proto::TCP || ending.done == [true; 2] {
            return true;
        }
        let conn = TcpConn::unpack(&entry.hot().windows, entry.state());
        if conn.is_over_or_half_open() {
            return true;
        }
        if !now.reached(ending.next) {
            return false;
        }
        let keys = entry.keys();
        let exact = (ending.asked == 0).then(|| conn.exact_resets()).flatten();
        let mut done = ending.done;
        for dir in [Dir::Initiator, Dir::Responder] {
            let end = dir.index();
            if done[end] || (exact.is_none() && ending.asked >= QUESTIONS) {
                continue;
            }
            let control = match exact {
                Some(numbers) => reset(numbers[end]),
                None => {
                    let (own, other) = (&conn.halves[end], &conn.halves[dir.other().index()]);
                    let seq = other.end.wrapping_sub(OUTSIDE);
                    Control { seq, ack: own.end, flags: tcp_flags::ACK, window: 0 }
                }
            };
            let sent = self.say(now, snapshot, &keys[end].reversed(), &control, io);
            done[end] |= exact.is_some() && sent;
        }
        if let Some(ending) = self.endings.list.get_mut(at) {
            (ending.asked, ending.next, ending.done) = (ending.asked + 1, now.after(ASK_EVERY_MS), done);
        }
        // The last question has had its time.
        done == [true; 2] || ending.asked >= QUESTIONS
    }

    /// A packet of a session that is on its way out: it goes no further, but it may be the answer that
    /// tells the number of the reset to its sender.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_to_ending<I: PacketIo<Buf = B>>(
        &mut self,
        cx: &Context<'_>,
        desc: &Desc,
        (slot, dir): (Slot, Dir),
        entry: &Entry,
        frame: &B,
        io: &mut I,
    ) {
        self.counters.dropped(crate::counters::Refusal::SessionEnding.into());
        let is_open = self.endings.of(slot).is_some_and(|ending| !ending.done[dir.index()]);
        if !is_open || desc.kind != Kind::Tcp || !super::forward::is_intact(frame, desc) {
            return;
        }
        let mut hot = entry.hot();
        let segment = Segment { fields: desc.tcp, options: SynOptions::default() };
        let is_rst = desc.tcp.flags & tcp_flags::RST != 0;
        let answers = desc.tcp.flags & (tcp_flags::ACK | tcp_flags::SYN) == tcp_flags::ACK;
        // An end without the connection answers at the number that it was asked with.
        let is_gone =
            is_rst && desc.tcp.seq == TcpConn::unpack(&hot.windows, hot.state).halves[dir.index()].end;
        let verdict = track::tcp::track_packed(&mut hot.windows, &mut hot.state, dir, &segment);
        let done = match verdict {
            _ if is_gone => true,
            Verdict::Accept { .. } if is_rst => true,
            Verdict::Accept { .. } if answers => {
                let link = Link { src: cx.mac, dst: source_mac(frame) };
                let control = reset(desc.tcp.ack);
                let key = desc.key.reversed();
                let sent = self.emit(cx, io, |out| craft::tcp_control(out, link, &key, &control)).is_sent();
                self.counters.count(Event::ResetsSent, sent.into());
                sent
            }
            _ => false,
        };
        if let Some(ending) = self.endings.of(slot)
            && done
        {
            ending.done[dir.index()] = true;
        }
    }

    /// Sends a segment of the firewall's own to one end of a session. False if the way to it is not known.
    fn say<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        key: &FlowKey,
        control: &Control,
        io: &mut I,
    ) -> bool {
        let Some((hit, _)) = way_to(snapshot, key.dst()) else { return false };
        let found = snapshot.neighbours.find(hit.port, hit.next_hop);
        let adjacency = found.and_then(|hop| snapshot.neighbours.get(hop));
        let Some(adjacency) = adjacency.filter(|a| a.state == AdjacencyState::Resolved) else {
            self.notify(Notice::NeighbourWanted { port: hit.port, addr: hit.next_hop });
            return false;
        };
        let Some(cx) = Context::new(now, snapshot, hit.port) else { return false };
        let link = Link { src: cx.mac, dst: adjacency.mac() };
        let sent = self.emit(&cx, io, |out| craft::tcp_control(out, link, key, control));
        let is_reset = control.flags & tcp_flags::RST != 0;
        let event = if is_reset { Event::ResetsSent } else { Event::ProbesSent };
        self.counters.count(event, sent.is_sent().into());
        sent.is_sent()
    }
}

fn reset(seq: u32) -> Control {
    Control { seq, ack: 0, flags: tcp_flags::RST, window: 0 }
}
