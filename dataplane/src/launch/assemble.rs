//! Puts workers and control thread together from started ports, before any thread runs.
//!
//! Everything that packets will need is allocated here: shards, rings, mailboxes, counters.

use super::LaunchError;
use super::pair::{self, Joint, PairMaterials};
use super::ports::{self, OpenPort};
use crate::clock::Clock;
use crate::config::{Config, PairSettings};
use crate::control::log::LogControl;
use crate::control::neighbours::{Faces, Neighbourhood, Speaker};
use crate::control::{BusyMeter, Core, CoreParts, DataPort, Facts, Partner as PartnerLink, WorkerLink};
use crate::pair::cell::{RoleCell, WorkerCell};
use crate::pair::core::{SyncCore, WorkerSeen};
use crate::pair::tables::{CoreEnd, WorkerEnd};
use crate::ruleset::Ruleset;
use crate::worker::io::{TxPath, WorkerIo};
use crate::worker::mailbox::{MAILBOX, Mail};
use crate::worker::mesh::{Handed, MeshEnds, mesh};
use crate::worker::partner::Partner;
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
use engine::{PortId, RoleView, WorkerId};
use ipnet::IpNet;
use rtrb::{Consumer, Producer, RingBuffer};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use wire::Addr;

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
    /// What a pair needs besides; `config.pair` says whether there is one.
    pub pair: Option<PairMaterials>,
}

/// The parts of a daemon that does not run yet.
pub struct Assembly {
    /// For the control thread.
    pub core: Core,
    /// For a thread each.
    pub workers: Vec<Worker>,
    /// For a thread, in a pair.
    pub sync_core: Option<SyncCore>,
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
    let Materials {
        config,
        config_path,
        ruleset,
        ports,
        pool,
        memory,
        steering,
        facts,
        clock,
        log,
        random,
        pair,
    } = materials;
    let count = usize::from(config.workers.count.max(1));
    let (views, faces) = faces(&config, &ports);
    let (data_ports, ends) = deal_out(&config, ports, &views, count);
    let macs: Vec<_> = views.iter().map(|view| view.mac).collect();

    let first = ruleset.snapshot(
        FIRST_GENERATION,
        views.into(),
        Arc::new(NeighbourTable::default()),
        steering.clone(),
    );
    let snapshot = Arc::new(first);
    let publisher = Publisher::new(Arc::clone(&snapshot));
    let role = Arc::new(RoleCell::default());
    let is_pair = pair.is_some();
    let setup = Setup {
        config: &config,
        pool,
        clock,
        publisher: &publisher,
        hash_key: HashKey::new(random),
        role: is_pair.then(|| Arc::clone(&role)),
    };
    let MadeWorkers { links, workers, joints } = setup.workers(ends, memory)?;
    let (sync_core, partner) = match (&config.pair, pair) {
        (Some(settings), Some(materials)) => {
            let Joints { ends, cells, captured, sender } = joints;
            let (core, control) = Joint {
                config: &config,
                settings,
                materials,
                role,
                ends,
                cells,
                captured,
                sender,
                data_macs: &macs,
                snapshots: publisher.reader(),
                steering,
                generation: FIRST_GENERATION,
                pool,
                clock,
            }
            .make()?;
            (Some(core), Some(PartnerLink::new(control, settings.heartbeat.interval())))
        }
        _ => (None, None),
    };

    let neighbourhood = Neighbourhood::new(faces, clock.ticks(dpdk::cycles()));
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
        partner,
    });
    Ok(Assembly { core, workers, sync_core })
}

/// What the packet path and the neighbours see of each port.
fn faces(config: &Config, ports: &[OpenPort]) -> (Vec<PortView>, Vec<Faces>) {
    let shared_mac = config.pair.as_ref().map(PairSettings::virtual_mac);
    let face = |(settings, open): (&crate::config::Port, &OpenPort)| {
        let mac = open.port.info().mac;
        let (mtu, addresses) = (settings.mtu, settings.addresses.clone());
        let speaks_ipv6 = ports::speaks_ipv6(&addresses);
        let link_local = |mac| speaks_ipv6.then(|| ports::link_local(mac));
        let mut view = ports::view(settings.zone, shared_mac.unwrap_or(mac), mtu, &addresses);
        view.mac = mac;
        view.virtual_mac = shared_mac;
        let own = shared_mac.map(|_| {
            let own = settings.pair.map(|pair| pair.own);
            let all = own.into_iter().chain(link_local(mac).map(IpAddr::V6));
            view.node_address = all.map(Addr::from).collect();
            view.partner_address = settings.pair.into_iter().map(|pair| Addr::from(pair.partner)).collect();
            let network = |own: IpAddr| addresses.iter().find(|network| network.contains(&own));
            let own = own.and_then(|own| IpNet::new(own, network(own)?.prefix_len()).ok());
            Speaker { mac, mtu, addresses: own.into_iter().collect(), link_local: link_local(mac) }
        });
        let mac = view.face();
        let shared = Speaker { mac, mtu, addresses, link_local: link_local(mac) };
        (view, Faces { shared, own })
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
    /// The role word, in a pair.
    role: Option<Arc<RoleCell>>,
}

/// Workers and what others need of them.
struct MadeWorkers {
    links: Vec<WorkerLink>,
    workers: Vec<Worker>,
    joints: Joints,
}

/// The sync core's ends of all workers.
struct Joints {
    ends: Vec<CoreEnd>,
    cells: Vec<WorkerSeen>,
    captured: Vec<Consumer<Handed>>,
    /// To worker 0, which has a transmit queue on every port.
    sender: Producer<Handed>,
}

/// What joins one worker to the sync core.
struct WorkerJoint {
    role: Arc<RoleCell>,
    cell: Arc<WorkerCell>,
    end: WorkerEnd,
}

/// One worker's part of each ring.
struct Rings {
    owners: MeshEnds,
    senders: MeshEnds,
}

impl Setup<'_> {
    fn workers(&self, ends: Vec<WorkerEnds>, memory: &'static mut [u8]) -> Result<MadeWorkers, LaunchError> {
        let count = ends.len();
        let slots = shard_slots(self.config.sessions.capacity, self.config.workers.count);
        let half_open = shard_slots(self.config.sessions.half_open_max, self.config.workers.count);
        let rings = mesh(count, RING_PLACES).into_iter().zip(mesh(count, RING_PLACES));
        let mut memory = memory;
        let (mut links, mut workers) = (Vec::new(), Vec::new());
        let (sender, from_core) = pair::frame_ring();
        let mut from_core = Some(from_core);
        let mut joints = Joints { ends: Vec::new(), cells: Vec::new(), captured: Vec::new(), sender };
        let mut base = 0;
        for (id, ((ends, rings), (slots, half_open_max))) in
            ends.into_iter().zip(rings).zip(slots.into_iter().zip(half_open)).enumerate()
        {
            let bytes = Memory::bytes(slots).min(memory.len());
            let (part, rest) = memory.split_at_mut(bytes);
            memory = rest;
            let mut shard = self.shard(part, slots, half_open_max)?;
            let (owners, mut senders) = rings;
            let joint = self.role.as_ref().map(|role| {
                let cell = Arc::new(WorkerCell::default());
                let (core_end, worker_end) = CoreEnd::join(&mut shard, base, Arc::clone(&cell));
                joints.ends.push(core_end);
                senders.from.extend(from_core.take());
                WorkerJoint { role: Arc::clone(role), cell, end: worker_end }
            });
            base += slots;
            let cell = joint.as_ref().map(|joint| Arc::clone(&joint.cell));
            let (link, worker, captured) = self.worker(id, ends, Rings { owners, senders }, shard, joint);
            let (stats, counters) = (Arc::clone(&link.stats), Arc::clone(&link.counters));
            joints.cells.extend(cell.map(|cell| WorkerSeen { cell, stats, counters }));
            joints.captured.extend(captured);
            links.push(link);
            workers.push(worker);
        }
        Ok(MadeWorkers { links, workers, joints })
    }

    fn shard(&self, part: &'static mut [u8], slots: u32, half_open_max: u32) -> Result<Shard, LaunchError> {
        let memory = Memory::carve(part, slots).ok_or(LaunchError::TableSize { slots })?;
        let config = ShardConfig { half_open_max: half_open_max.max(1), hash_key: self.hash_key, term: 1 };
        Ok(Shard::new(memory, config, self.clock.ticks(dpdk::cycles())))
    }

    fn worker(
        &self,
        id: usize,
        ends: WorkerEnds,
        rings: Rings,
        shard: Shard,
        joint: Option<WorkerJoint>,
    ) -> (WorkerLink, Worker, Option<Consumer<Handed>>) {
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
        let mut io = WorkerIo::new(self.pool, ends.paths, to_owners, senders.to, Arc::clone(&stats));
        let mut engine = Engine::new(engine_config, shard);
        let mut captured = None;
        let partner = joint.map(|WorkerJoint { role, cell, end }| {
            let (to_core, from_worker) = pair::frame_ring();
            io.set_core(to_core);
            captured = Some(from_worker);
            engine.set_role(RoleView::Standby, self.clock.ticks(dpdk::cycles()));
            Partner::new(role, cell, end)
        });
        let worker = Worker::new(WorkerParts {
            engine,
            io,
            rx: ends.rx,
            handed,
            to_send: senders.from,
            mail: mail_rx,
            snapshots: self.publisher.reader(),
            stats: Arc::clone(&stats),
            clock: self.clock,
            poller: self.poller(),
            partner,
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
        (link, worker, captured)
    }

    fn poller(&self) -> Poller {
        let poller = Poller::new(self.config.workers.polling, self.clock.cycles(SPIN));
        match &self.config.pair {
            Some(pair) => poller.with_heartbeats(pair.heartbeat.interval()),
            None => poller,
        }
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
