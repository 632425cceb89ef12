//! The packet worker: one thread, one shard, one loop.
//!
//! A turn of the loop takes a burst from each of the worker's receive queues and from each ring of the
//! mesh, lets the engine act, reads the control thread's mail, lets timers run and sends what gathered.
//! Inside it there is no system call, no allocation, no lock, no log and no clock but the processor's
//! counter, read once. Only between turns, and only where nothing was to do, may it sleep ([`polling`]).

pub mod io;
pub mod mailbox;
pub mod mesh;
pub mod partner;
pub mod polling;
pub mod stats;
mod thread;

pub use thread::{WorkerThread, WorkerThreadError};

use crate::clock::Clock;
use dpdk::{Mbuf, RxQueue};
use engine::pipeline::{BURST, Burst, Engine};
use engine::publish::Reader;
use engine::snapshot::Snapshot;
use engine::{PortId, Ticks};
use io::WorkerIo;
use mailbox::Mail;
use mesh::Handed;
use partner::{Intake, Partner};
use polling::Poller;
use rtrb::Consumer;
use stats::WorkerStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames taken from one ring in a turn, at most: a busy neighbour must not keep a worker from its own
/// queues.
const RING_SHARE: usize = 4 * BURST;
/// Bursts that a full receive ring holds, the longest that is used.
const STALE_BURSTS: usize = 4096 / BURST;

/// What a worker is made of.
pub struct WorkerParts {
    /// Its sessions and its way with packets.
    pub engine: Engine<Mbuf>,
    /// Its ways out.
    pub io: WorkerIo,
    /// Its receive queues.
    pub rx: Vec<(PortId, RxQueue)>,
    /// Packets of its sessions that other workers received.
    pub handed: Vec<Consumer<Handed>>,
    /// Frames of workers that own no transmit queue on some port.
    pub to_send: Vec<Consumer<Handed>>,
    /// From the control thread.
    pub mail: Consumer<Mail>,
    /// Policy, routes, neighbours.
    pub snapshots: Reader<Snapshot>,
    /// What it tells of itself.
    pub stats: Arc<WorkerStats>,
    /// The time.
    pub clock: Clock,
    /// When to sleep.
    pub poller: Poller,
    /// The pair, if this node is one of two.
    pub partner: Option<Partner>,
}

/// A worker, to be run by its thread.
pub struct Worker {
    parts: WorkerParts,
    burst: Burst<Mbuf>,
}

/// What a turn found to do.
#[derive(Clone, Copy, Default)]
struct Work {
    bursts: u64,
    packets: u64,
    /// Frames from rings, mail.
    other: u64,
}

impl Work {
    #[inline(always)]
    fn any(&self) -> bool {
        self.packets | self.other != 0
    }
}

impl Worker {
    /// A worker that has not turned yet.
    pub fn new(parts: WorkerParts) -> Self {
        Self { parts, burst: Burst::new() }
    }

    /// Turns until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let cycles = dpdk::cycles();
            let had_work = self.turn(cycles);
            if let Some(rest) = self.parts.poller.rest(had_work, cycles) {
                std::thread::sleep(rest);
            }
        }
    }

    /// One turn, begun at `cycles`. True if there was something to do.
    pub fn turn(&mut self, cycles: u64) -> bool {
        let now = self.parts.clock.ticks(cycles);
        self.parts.snapshots.refresh();
        let mut work = Work::default();
        let intake = self.follow_role(now, cycles);
        match intake {
            Intake::Open => self.receive(now, &mut work),
            Intake::Stale => self.discard_stale(now, &mut work),
            Intake::Parked => {}
        }
        if intake != Intake::Parked {
            self.take_handed(now, &mut work);
        }
        self.send_for_others(&mut work);
        self.read_mail(now, &mut work);
        let WorkerParts { engine, io, snapshots, stats, partner, .. } = &mut self.parts;
        if let Some(partner) = partner {
            work.other += u64::from(partner.apply(engine, snapshots.current().0, now));
        }
        engine.housekeep(now, snapshots.current().0, io);
        engine.tell_changes();
        io.flush();
        let spent = if work.any() { dpdk::cycles().saturating_sub(cycles) } else { 0 };
        stats.turn(work.bursts, work.packets, spent);
        work.any()
    }

    #[inline(always)]
    fn follow_role(&mut self, now: Ticks, cycles: u64) -> Intake {
        let WorkerParts { engine, clock, partner, .. } = &mut self.parts;
        match partner {
            Some(partner) => partner.follow(engine, now, clock.micros(cycles)),
            None => Intake::Open,
        }
    }

    #[inline(always)]
    fn receive(&mut self, now: Ticks, work: &mut Work) {
        let WorkerParts { engine, io, rx, snapshots, partner, .. } = &mut self.parts;
        let snapshot = snapshots.current().0;
        for (port, queue) in rx {
            let count = queue.burst(&mut self.burst);
            if count > 0 {
                work.bursts += 1;
                work.packets += count as u64;
                if let Some(partner) = partner {
                    partner.redirect(snapshot, *port, &mut self.burst, io);
                }
                engine.process(now, snapshot, *port, &mut self.burst, io);
            }
        }
    }

    /// Before a new role takes effect: everything that waits is older than it. The engine is no longer or
    /// not yet active, so it drops all but what concerns both nodes. One ring's worth at most, or a flood
    /// would keep the role from its place.
    #[cold]
    fn discard_stale(&mut self, now: Ticks, work: &mut Work) {
        for _ in 0..STALE_BURSTS {
            let before = work.packets;
            self.receive(now, work);
            if work.packets == before {
                break;
            }
        }
        if let Some(partner) = &mut self.parts.partner {
            partner.discarded();
        }
    }

    /// Packets that other workers received and that belong to sessions of ours, in their order, in
    /// bursts that came in by one port.
    #[inline(always)]
    fn take_handed(&mut self, now: Ticks, work: &mut Work) {
        let WorkerParts { engine, io, handed, snapshots, partner, .. } = &mut self.parts;
        let snapshot = snapshots.current().0;
        let mut process = |ingress, burst: &mut Burst<Mbuf>| {
            if let Some(partner) = partner.as_ref() {
                partner.redirect(snapshot, ingress, burst, io);
            }
            engine.process_handed_over(now, snapshot, ingress, burst, io);
        };
        for ring in handed {
            if ring.is_empty() {
                continue;
            }
            let mut ingress = PortId(0);
            for _ in 0..RING_SHARE {
                let Ok(Handed { port, frame }) = ring.pop() else { break };
                work.other += 1;
                if port != ingress || self.burst.is_full() {
                    process(ingress, &mut self.burst);
                    ingress = port;
                }
                self.burst.push(frame);
            }
            process(ingress, &mut self.burst);
        }
    }

    #[inline(always)]
    fn send_for_others(&mut self, work: &mut Work) {
        use engine::pipeline::PacketIo;
        let WorkerParts { io, to_send, .. } = &mut self.parts;
        for ring in to_send {
            if ring.is_empty() {
                continue;
            }
            for _ in 0..RING_SHARE {
                let Ok(Handed { port, frame }) = ring.pop() else { break };
                work.other += 1;
                io.send(port, frame);
            }
        }
    }

    #[inline(always)]
    fn read_mail(&mut self, now: Ticks, work: &mut Work) {
        let WorkerParts { engine, io, mail, snapshots, partner, .. } = &mut self.parts;
        while let Ok(message) = mail.pop() {
            work.other += 1;
            match message {
                Mail::Send { port, frame } => io.send_bytes(port, frame.bytes()),
                Mail::Terminate(slot) => {
                    engine.terminate_clean(slot, now);
                }
                Mail::Damage(slot, harm) => {
                    if partner.is_some() {
                        partner::harm(engine, snapshots.current().0, now, slot, harm);
                    }
                }
            }
            if work.other as usize > mailbox::MAILBOX {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
