//! What a worker tells of itself. One writer, plain stores; everybody may read at any time.

use engine::PortId;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// A worker's own figures, on cache lines that no other worker writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    turns: AtomicU64,
    bursts: AtomicU64,
    packets: AtomicU64,
    busy_cycles: AtomicU64,
    mail_lost: AtomicU64,
    unsent: Box<[AtomicU64]>,
}

impl WorkerStats {
    /// All zero, for so many ports.
    pub fn new(ports: usize) -> Self {
        let zero = AtomicU64::default;
        Self {
            turns: zero(),
            bursts: zero(),
            packets: zero(),
            busy_cycles: zero(),
            mail_lost: zero(),
            unsent: (0..ports).map(|_| zero()).collect(),
        }
    }

    /// A turn of the loop is over that brought `bursts` with `packets` from ports; `busy_cycles` is its
    /// length if it had anything to do.
    #[inline(always)]
    pub(crate) fn turn(&self, bursts: u64, packets: u64, busy_cycles: u64) {
        // Whoever sees the turn ended sees all that was done in it.
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Release);
        if busy_cycles > 0 {
            add(&self.bursts, bursts);
            add(&self.packets, packets);
            add(&self.busy_cycles, busy_cycles);
        }
    }

    /// Frames for a port that its transmit queue, or the ring to the queue's owner, did not take.
    #[cold]
    pub(super) fn unsent(&self, port: PortId, frames: u64) {
        if let Some(counter) = self.unsent.get(usize::from(port.0)) {
            add(counter, frames);
        }
    }

    /// A frame of the control thread's that found no packet buffer.
    #[cold]
    pub(super) fn mail_lost(&self) {
        add(&self.mail_lost, 1);
    }

    /// Turns of the loop that are over: as long as it grows, the worker lives.
    pub fn progress(&self) -> u64 {
        self.turns.load(Acquire)
    }

    /// Bursts with at least one packet.
    pub fn bursts(&self) -> u64 {
        self.bursts.load(Relaxed)
    }

    /// Packets received.
    pub fn packets(&self) -> u64 {
        self.packets.load(Relaxed)
    }

    /// Cycles spent in turns that had packets.
    pub fn busy_cycles(&self) -> u64 {
        self.busy_cycles.load(Relaxed)
    }

    /// Frames of the control thread's that were not sent for want of a buffer.
    pub fn lost_mail(&self) -> u64 {
        self.mail_lost.load(Relaxed)
    }

    /// Frames not sent on a port.
    pub fn not_sent(&self, port: PortId) -> u64 {
        self.unsent.get(usize::from(port.0)).map_or(0, |counter| counter.load(Relaxed))
    }

    /// Frames not sent on any port.
    pub fn not_sent_total(&self) -> u64 {
        self.unsent.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}
