//! What is measured: the worker, and the ceiling that no worker can pass.
//!
//! A subject counts the clocks of its own turns that had packets. The generator works between those turns,
//! or on another processor, and never inside them.

use dataplane::worker::Worker;
use dataplane::worker::stats::WorkerStats;
use dpdk::{Burst, Queues};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::PacketBuf;

/// Something that takes packets from two ports and sends them out of the other one.
pub trait Subject: Send {
    /// One turn of its loop.
    fn turn(&mut self);
    /// What it counts, for whoever watches.
    fn meter(&self) -> Arc<dyn Meter>;
}

/// What a subject has done so far.
pub trait Meter: Send + Sync {
    /// Packets received.
    fn packets(&self) -> u64;
    /// Clocks spent in turns that had any.
    fn clocks(&self) -> u64;
}

/// The daemon's worker, and what it tells of itself.
pub struct Firewall {
    /// The worker.
    pub worker: Worker,
    /// Its figures.
    pub stats: Arc<WorkerStats>,
    /// The moment that its time stands still at, so that every run of the same packets is the same; its
    /// clocks say nothing then.
    pub stopped_at: Option<u64>,
}

impl Subject for Firewall {
    #[inline(always)]
    fn turn(&mut self) {
        self.worker.turn(self.stopped_at.unwrap_or_else(dpdk::cycles));
    }

    fn meter(&self) -> Arc<dyn Meter> {
        Arc::clone(&self.stats) as Arc<dyn Meter>
    }
}

impl Meter for WorkerStats {
    fn packets(&self) -> u64 {
        WorkerStats::packets(self)
    }

    fn clocks(&self) -> u64 {
        self.busy_cycles()
    }
}

/// The ceiling: both MAC addresses swapped, out of the other port, nothing else.
pub struct Macswap {
    ports: [Queues; 2],
    burst: Burst,
    count: Arc<Count>,
}

/// [`Macswap`]'s meter.
#[derive(Default)]
#[repr(align(128))]
struct Count {
    packets: AtomicU64,
    clocks: AtomicU64,
}

impl Meter for Count {
    fn packets(&self) -> u64 {
        self.packets.load(Relaxed)
    }

    fn clocks(&self) -> u64 {
        self.clocks.load(Relaxed)
    }
}

impl Macswap {
    /// On two started ports.
    pub fn new(ports: [Queues; 2]) -> Self {
        Self { ports, burst: Burst::new(), count: Arc::default() }
    }
}

impl Subject for Macswap {
    #[inline(always)]
    fn turn(&mut self) {
        let began = dpdk::cycles();
        let mut packets = 0;
        let [first, second] = &mut self.ports;
        for (from, to) in [(&mut first.rx, &mut second.tx), (&mut second.rx, &mut first.tx)] {
            let (Some(rx), Some(tx)) = (from.first_mut(), to.first_mut()) else { continue };
            packets += rx.burst(&mut self.burst) as u64;
            for frame in &mut self.burst {
                if let Some(macs) = frame.bytes_mut().first_chunk_mut::<12>() {
                    macs.rotate_left(6);
                }
            }
            tx.burst(&mut self.burst);
            dpdk::free_burst(&mut self.burst);
        }
        if packets > 0 {
            let add = |counter: &AtomicU64, n| counter.store(counter.load(Relaxed) + n, Relaxed);
            add(&self.count.packets, packets);
            add(&self.count.clocks, dpdk::cycles().saturating_sub(began));
        }
    }

    fn meter(&self) -> Arc<dyn Meter> {
        Arc::clone(&self.count) as Arc<dyn Meter>
    }
}
