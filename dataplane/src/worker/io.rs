//! Where a worker's frames go: transmit queues that it owns, rings to workers that own others.
//!
//! Every transmit queue has one owner (decision 10). A port with a queue for each worker is sent to
//! directly; on a port with fewer, worker `i` owns queue `i`, and who has none hands its frames to an
//! owner through a ring. Frames gather up to a burst and leave at the latest at the end of the turn. What
//! a queue or a ring does not take is freed and counted: a worker never waits.

use super::mesh::Handed;
use super::stats::WorkerStats;
use arrayvec::ArrayVec;
use dpdk::{Mbuf, Mempool, TxQueue};
use engine::pipeline::{BURST, PacketIo};
use engine::{PortId, WorkerId};
use rtrb::Producer;
use std::sync::Arc;
use wire::PacketBuf;

/// How a worker reaches a port.
pub enum TxPath {
    /// By a transmit queue of its own.
    Own(TxQueue),
    /// Through the worker that owns one.
    Through(WorkerId),
}

/// The ways out of one worker.
pub struct WorkerIo {
    pool: Mempool,
    ports: Vec<TxPort>,
    /// Rings to the owners of sessions, by worker.
    owners: Vec<Option<Producer<Handed>>>,
    /// Rings to the owners of transmit queues, by worker.
    senders: Vec<Option<Producer<Handed>>>,
    /// The ring to the sync core, if there is one.
    core: Option<Producer<Handed>>,
    stats: Arc<WorkerStats>,
    /// A bit for each port with frames that wait for the end of the turn.
    waiting: u32,
}

struct TxPort {
    path: TxPath,
    frames: ArrayVec<Mbuf, BURST>,
}

const _: () = assert!(crate::config::MAX_PORTS <= u32::BITS as usize);

impl WorkerIo {
    /// `paths` by port, at most 32; `owners` and `senders` by worker.
    pub fn new(
        pool: Mempool,
        paths: Vec<TxPath>,
        owners: Vec<Option<Producer<Handed>>>,
        senders: Vec<Option<Producer<Handed>>>,
        stats: Arc<WorkerStats>,
    ) -> Self {
        let ports = paths.into_iter().map(|path| TxPort { path, frames: ArrayVec::new() }).collect();
        Self { pool, ports, owners, senders, core: None, stats, waiting: 0 }
    }

    /// The partner's datagrams go up this ring.
    pub fn set_core(&mut self, core: Producer<Handed>) {
        self.core = Some(core);
    }

    /// A frame of the control thread's.
    pub fn send_bytes(&mut self, port: PortId, bytes: &[u8]) {
        match self.pool.frame(bytes) {
            Some(frame) => self.send(port, frame),
            None => self.stats.mail_lost(),
        }
    }

    /// The end of a turn: everything that waits is sent.
    #[inline(always)]
    pub fn flush(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        while waiting != 0 {
            let at = waiting.trailing_zeros() as usize;
            waiting &= waiting - 1;
            if let Some(port) = self.ports.get_mut(at) {
                port.transmit(PortId(at as u8), &self.stats);
            }
        }
    }
}

impl PacketIo for WorkerIo {
    type Buf = Mbuf;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }

    #[inline(always)]
    fn send(&mut self, port: PortId, frame: Mbuf) {
        let at = usize::from(port.0);
        let Some(tx) = self.ports.get_mut(at) else { return };
        let queue = match &mut tx.path {
            TxPath::Own(queue) => queue,
            TxPath::Through(owner) => {
                let ring = self.senders.get_mut(usize::from(owner.0)).and_then(Option::as_mut);
                if ring.is_none_or(|ring| ring.push(Handed { port, frame }).is_err()) {
                    self.stats.unsent(port, 1);
                }
                return;
            }
        };
        let mut frame = frame;
        if !queue.multi_segment() && !frame.is_contiguous() && !frame.linearise() {
            self.stats.unsent(port, 1);
            return;
        }
        if tx.frames.is_full() {
            tx.transmit(port, &self.stats);
        }
        tx.frames.push(frame);
        self.waiting |= 1 << at;
    }

    #[inline]
    fn hand_over(&mut self, to: WorkerId, ingress: PortId, frame: Mbuf) -> bool {
        let ring = self.owners.get_mut(usize::from(to.0)).and_then(Option::as_mut);
        ring.is_some_and(|ring| ring.push(Handed { port: ingress, frame }).is_ok())
    }

    #[inline]
    fn to_core(&mut self, ingress: PortId, frame: Mbuf) -> bool {
        self.core.as_mut().is_some_and(|ring| ring.push(Handed { port: ingress, frame }).is_ok())
    }
}

impl TxPort {
    #[inline(always)]
    fn transmit(&mut self, port: PortId, stats: &WorkerStats) {
        let TxPath::Own(queue) = &mut self.path else { return };
        queue.burst(&mut self.frames);
        if !self.frames.is_empty() {
            stats.unsent(port, self.frames.len() as u64);
            dpdk::free_burst(&mut self.frames);
        }
    }
}
