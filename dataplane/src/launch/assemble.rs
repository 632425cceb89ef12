//! Puts workers and control thread together from started ports, before any thread runs.
//!
//! Everything that packets will need is allocated here: shards, rings, mailboxes, counters.

use super::LaunchError;
use super::ports::{self, OpenPort};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::log::LogControl;
use crate::control::neighbours::{Neighbourhood, Speaker};
use crate::control::{BusyMeter, Core, CoreParts, DataPort, Facts, WorkerLink};
use crate::ruleset::Ruleset;
use crate::worker::io::{TxPath, WorkerIo};
use crate::worker::mailbox::{MAILBOX, Mail};
use crate::worker::mesh::{Handed, MeshEnds, mesh};
use crate::worker::polling::{Poller, SPIN};
use crate::worker::stats::WorkerStats;
use crate::worker::{Worker, WorkerParts};
use dpdk::{Mempool, RxQueue};
use engine::counters::Counters;
use engine::neighbour::NeighbourTable;
use engine::pipeline::{Engine, EngineConfig};
use engine::policy::COUNTER_SLOTS;
use engine::publish::Publisher;
use engine::snapshot::{PortView, Snapshot, Steering};
use engine::table::{HashKey, Memory, Shard, ShardConfig};
use engine::{PortId, WorkerId};
use rtrb::{Consumer, Producer, RingBuffer};
use std::path::PathBuf;
use std::sync::Arc;

/// Frames under way from one worker to another, at most.
const RING_PLACES: usize = 1024;
/// Notices to the control thread from one worker, at most.
const NOTICES: usize = 4096;
/// The first policy generation.
const FIRST_GENERATION: u64 = 1;

/// What the daemon is put together from.
pub struct Materials {
    /// The configuration and its file.
    pub config: Config,
    /// Where SIGHUP finds the next one.
    pub config_path: PathBuf,
    /// What follows from it.
    pub ruleset: Ruleset,
    /// By [`PortId`].
    pub ports: Vec<OpenPort>,
    /// Packet buffers.
    pub pool: Mempool,
    /// Memory for sessions, zeroed: [`table_bytes`] at least.
    pub memory: &'static mut [u8],
    /// Who owns which packets.
    pub steering: Steering,
    /// As at the start.
    pub facts: Facts,
    /// The time.
    pub clock: Clock,
    /// The running log, if there is one.
    pub log: Option<LogControl>,
    /// Secret of the session index.
    pub random: [u64; 3],
}

/// The parts of a daemon that does not run yet.
pub struct Assembly {
    /// For the control thread.
    pub core: Core,
    /// For a thread each.
    pub workers: Vec<Worker>,
}

/// One worker's ends of everything, while they are being gathered.
struct WorkerEnds {
    rx: Vec<(PortId, RxQueue)>,
    paths: Vec<TxPath>,
}

/// Slots of each worker's shard: the capacity dealt out evenly.
pub fn shard_slots(capacity: u32, workers: u8) -> Vec<u32> {
    let workers = u32::from(workers.max(1));
    (0..workers).map(|worker| capacity / workers + u32::from(worker < capacity % workers)).collect()
}

/// Bytes of all shards together.
pub fn table_bytes(capacity: u32, workers: u8) -> usize {
    shard_slots(capacity, workers).into_iter().map(Memory::bytes).sum()
}

/// Puts everything together.
pub fn assemble(materials: Materials) -> Result<Assembly, LaunchError> {
    let Materials { config, config_path, ruleset, ports, pool, memory, steering, facts, clock, log, random } =
        materials;
    let count = usize::from(config.workers.count.max(1));
    let (views, speakers) = faces(&config, &ports);
    let (data_ports, ends) = deal_out(&config, ports, &views, count);

    let first = ruleset.snapshot(FIRST_GENERATION, views, Arc::new(NeighbourTable::default()), steering);
    let snapshot = Arc::new(first);
    let publisher = Publisher::new(Arc::clone(&snapshot));
    let setup = Setup { config: &config, pool, clock, publisher: &publisher, hash_key: HashKey::new(random) };
    let (links, workers) = setup.workers(ends, memory)?;

    let neighbourhood = Neighbourhood::new(speakers, clock.ticks(dpdk::cycles()));
    let core = Core::new(CoreParts {
        facts,
        config,
        config_path,
        ruleset,
        publisher,
        snapshot,
        ports: data_ports,
        workers: links,
        neighbourhood,
        clock,
        pool,
        log,
    });
    Ok(Assembly { core, workers })
}

/// What the packet path and the neighbours see of each port.
fn faces(config: &Config, ports: &[OpenPort]) -> (Vec<PortView>, Vec<Speaker>) {
    let face = |(settings, open): (&crate::config::Port, &OpenPort)| {
        let mac = open.port.info().mac;
        let addresses = settings.addresses.clone();
        let link_local = ports::speaks_ipv6(&addresses).then(|| ports::link_local(mac));
        let view = ports::view(settings.zone, mac, settings.mtu, &addresses);
        (view, Speaker { mac, mtu: settings.mtu, addresses, link_local })
    };
    config.ports.iter().zip(ports).map(face).unzip()
}

/// Gives each worker its queues; who owns no transmit queue of a port goes through an owner.
fn deal_out(
    config: &Config,
    ports: Vec<OpenPort>,
    views: &[PortView],
    count: usize,
) -> (Vec<DataPort>, Vec<WorkerEnds>) {
    let workers = count as u16;
    let mut ends: Vec<WorkerEnds> =
        (0..count).map(|_| WorkerEnds { rx: Vec::new(), paths: Vec::new() }).collect();
    let mut data_ports = Vec::new();
    for ((open, view), (id, settings)) in ports.into_iter().zip(views).zip(config.numbered_ports()) {
        let OpenPort { port, queues } = open;
        for (queue, at) in queues.rx.into_iter().zip(0_u16..) {
            if let Some(ends) = ends.get_mut(ports::poller(at, workers)) {
                ends.rx.push((id, queue));
            }
        }
        let tx_queues = queues.tx.len() as u16;
        let mut own = queues.tx.into_iter();
        for (ends, worker) in ends.iter_mut().zip(0_u16..) {
            let through = TxPath::Through(WorkerId(ports::sender(worker, tx_queues) as u8));
            ends.paths.push(own.next().map_or(through, TxPath::Own));
        }
        data_ports.push(DataPort::new(port, view.mac, view.mtu, ports::interface(&settings.device)));
    }
    (data_ports, ends)
}

/// What all workers are made with.
struct Setup<'a> {
    config: &'a Config,
    pool: Mempool,
    clock: Clock,
    publisher: &'a Publisher<Snapshot>,
    hash_key: HashKey,
}

/// One worker's part of each ring.
struct Rings {
    owners: MeshEnds,
    senders: MeshEnds,
}

impl Setup<'_> {
    fn workers(
        &self,
        ends: Vec<WorkerEnds>,
        memory: &'static mut [u8],
    ) -> Result<(Vec<WorkerLink>, Vec<Worker>), LaunchError> {
        let count = ends.len();
        let slots = shard_slots(self.config.sessions.capacity, self.config.workers.count);
        let half_open = shard_slots(self.config.sessions.half_open_max, self.config.workers.count);
        let rings = mesh(count, RING_PLACES).into_iter().zip(mesh(count, RING_PLACES));
        let mut memory = memory;
        let (mut links, mut workers) = (Vec::new(), Vec::new());
        for (id, ((ends, rings), (slots, half_open_max))) in
            ends.into_iter().zip(rings).zip(slots.into_iter().zip(half_open)).enumerate()
        {
            let bytes = Memory::bytes(slots).min(memory.len());
            let (part, rest) = memory.split_at_mut(bytes);
            memory = rest;
            let shard = self.shard(part, slots, half_open_max)?;
            let (owners, senders) = rings;
            let (link, worker) = self.worker(id, ends, Rings { owners, senders }, shard);
            links.push(link);
            workers.push(worker);
        }
        Ok((links, workers))
    }

    fn shard(&self, part: &'static mut [u8], slots: u32, half_open_max: u32) -> Result<Shard, LaunchError> {
        let memory = Memory::carve(part, slots).ok_or(LaunchError::TableSize { slots })?;
        let config = ShardConfig { half_open_max: half_open_max.max(1), hash_key: self.hash_key, term: 1 };
        Ok(Shard::new(memory, config, self.clock.ticks(dpdk::cycles())))
    }

    fn worker(&self, id: usize, ends: WorkerEnds, rings: Rings, shard: Shard) -> (WorkerLink, Worker) {
        let stats = Arc::new(WorkerStats::new(ends.paths.len()));
        let counters = Arc::new(Counters::new(COUNTER_SLOTS));
        let (notices_tx, notices) = RingBuffer::new(NOTICES);
        let (mail, mail_rx): (Producer<Mail>, Consumer<Mail>) = RingBuffer::new(MAILBOX);
        let Rings { owners, senders } = rings;
        let engine_config = EngineConfig {
            worker: WorkerId(id as u8),
            counters: Arc::clone(&counters),
            notices: notices_tx,
            pending_max: self.pending_max(),
        };
        let reader = shard.reader();
        let (to_owners, handed): (_, Vec<Consumer<Handed>>) = (owners.to, owners.from);
        let io = WorkerIo::new(self.pool, ends.paths, to_owners, senders.to, Arc::clone(&stats));
        let worker = Worker::new(WorkerParts {
            engine: Engine::new(engine_config, shard),
            io,
            rx: ends.rx,
            handed,
            to_send: senders.from,
            mail: mail_rx,
            snapshots: self.publisher.reader(),
            stats: Arc::clone(&stats),
            clock: self.clock,
            poller: Poller::new(self.config.workers.polling, self.clock.cycles(SPIN)),
        });
        let cpu = self.config.workers.cpus.get(id).copied();
        let link = WorkerLink {
            stats,
            shard: reader,
            counters,
            notices,
            mail,
            cpu,
            busy: BusyMeter::default(),
            thread: None,
        };
        (link, worker)
    }

    /// Packets that may wait for MAC addresses: an eighth of the mbufs over all workers, a thousand each at
    /// most.
    fn pending_max(&self) -> usize {
        let share = self.config.eal.mbufs / 8 / u32::from(self.config.workers.count.max(1));
        share.clamp(16, 1024) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_dealt_out_without_a_loss() {
        assert_eq!(shard_slots(10, 3), [4, 3, 3]);
        assert_eq!(shard_slots(262_144, 1), [262_144]);
        assert_eq!(shard_slots(262_144, 16).iter().sum::<u32>(), 262_144);
        assert_eq!(table_bytes(10, 3), Memory::bytes(4) + 2 * Memory::bytes(3));
    }
}
