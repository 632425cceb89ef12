//! Packets that wait for a neighbour's MAC address, bounded in number and time.

use super::PacketIo;
use super::engine::Engine;
use super::forward::set_macs;
use crate::counters::{Event, Refusal};
use crate::ids::PortId;
use crate::neighbour::AdjacencyState;
use crate::snapshot::Snapshot;
use crate::time::Ticks;
use std::collections::VecDeque;
use wire::{Addr, PacketBuf};

/// Packets that may wait for one neighbour (RFC 1122 §2.3.2.2 asks for at least one).
const PER_NEIGHBOUR: usize = 8;
/// No packet waits longer: the resolver has given up by then.
const WAIT_MAX_MS: u32 = 3_500;

/// A packet that is ready to go but for its MAC addresses.
pub(super) struct Waiting<B> {
    frame: B,
    port: PortId,
    next_hop: Addr,
    since: Ticks,
}

/// All waiting packets of a worker.
pub(super) struct Pending<B> {
    packets: VecDeque<Waiting<B>>,
    max: usize,
}

impl<B> Pending<B> {
    pub fn new(max: usize) -> Self {
        Self { packets: VecDeque::with_capacity(max), max }
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets all; returns how many there were.
    pub fn clear(&mut self) -> usize {
        let waited = self.packets.len();
        self.packets.clear();
        waited
    }

    /// False if too many wait, in all or for this neighbour: the packet is gone.
    pub fn add(&mut self, frame: B, port: PortId, next_hop: Addr, since: Ticks) -> bool {
        let same = self.packets.iter().filter(|w| w.next_hop == next_hop && w.port == port).count();
        if self.packets.len() >= self.max || same >= PER_NEIGHBOUR {
            return false;
        }
        self.packets.push_back(Waiting { frame, port, next_hop, since });
        true
    }
}

impl<B: PacketBuf> Engine<B> {
    /// Looks at the waiting packets: when there is a new neighbour table, before anything that came
    /// after them, and now and then because of the time.
    pub(super) fn settle_pending<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        io: &mut I,
    ) {
        let revision = snapshot.neighbours.revision();
        let fresh = std::mem::replace(&mut self.settled_for, revision) != revision;
        if !self.pending.is_empty() {
            self.flush_pending(now, snapshot, fresh, io);
        }
    }

    /// Sends what can be sent, in order of arrival, and drops what waited in vain. With `fresh` false
    /// nothing can have become sendable and only time is looked at.
    #[cold]
    fn flush_pending<I: PacketIo<Buf = B>>(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        fresh: bool,
        io: &mut I,
    ) {
        let timed_out = self.pending.packets.front().is_some_and(|w| now.since(w.since) > WAIT_MAX_MS);
        if !fresh && !timed_out {
            return;
        }
        for _ in 0..self.pending.packets.len() {
            let Some(mut w) = self.pending.packets.pop_front() else { break };
            let adjacency =
                snapshot.neighbours.find(w.port, w.next_hop).and_then(|hop| snapshot.neighbours.get(hop));
            match adjacency.map(|a| (a.state, a)) {
                Some((AdjacencyState::Resolved, adjacency)) => {
                    set_macs(&mut w.frame, adjacency);
                    self.counters.count(Event::Forwarded, 1);
                    io.send(adjacency.port, w.frame);
                }
                Some((AdjacencyState::Failed, _)) => {
                    self.counters.dropped(Refusal::NeighbourUnreachable.into());
                    self.host_unreachable(snapshot, now, &w.frame, io);
                }
                _ if now.since(w.since) > WAIT_MAX_MS => {
                    self.counters.dropped(Refusal::NeighbourTimeout.into());
                }
                _ => self.pending.packets.push_back(w),
            }
        }
    }
}
