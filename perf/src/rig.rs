//! The daemon's worker on ports made of rings, with the sync core's ends in hand where a partner is played.

use crate::subject::{Firewall, Macswap};
use crate::world::{self, LAN, WAN};
use dataplane::clock::Clock;
use dataplane::config::{HugePages, Polling};
use dataplane::memory;
use dataplane::pair::cell::{RoleCell, WorkerCell};
use dataplane::pair::tables::{Changes, CoreEnd, Owners, tables};
use dataplane::worker::io::{TxPath, WorkerIo};
use dataplane::worker::mesh::{MeshEnds, mesh};
use dataplane::worker::partner::Partner;
use dataplane::worker::polling::Poller;
use dataplane::worker::stats::WorkerStats;
use dataplane::worker::{Worker, WorkerParts};
use dpdk::testing::RingPort;
use dpdk::{Eal, EalConfig, LcoreGuard, Mempool, MempoolConfig, Port, PortConfig, Queues};
use engine::counters::Counters;
use engine::policy::COUNTER_SLOTS;
use engine::publish::Publisher;
use engine::table::{HashKey, Memory, Shard, ShardConfig};
use engine::track::Timeouts;
use engine::{Engine, EngineConfig, RoleView, Snapshot, WorkerId};
use std::error::Error;
use std::sync::Arc;
use sync::ids::{Micros, Term};
use sync::lease::RoleWord;
use sync::membership::Role;

/// What may go wrong while a measurement is set up.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Places of each ring: more than a load ever puts there.
const PLACES: u32 = 4096;
/// Places of each ring between two workers.
const MESH: usize = 1024;
/// Notices that nobody reads.
const NOTICES: usize = 4096;
/// No session ends by itself during a measurement.
const LONG_MS: u32 = 3_600_000;

/// DPDK, packet buffers and this thread's place in it.
pub struct Ground {
    /// Packets.
    pub pool: Mempool,
    /// Keeps the thread's caches.
    _lcore: LcoreGuard,
}

/// What a firewall under test is.
#[derive(Clone, Copy, Debug)]
pub struct RigConfig {
    /// Slots of the table.
    pub slots: u32,
    /// Rules of the policy; the last one admits the traffic.
    pub rules: usize,
    /// Its part in a pair.
    pub part: Part,
}

/// A node's part in a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// There is no pair.
    Alone,
    /// It forwards and marks what changes.
    Active,
    /// It mirrors.
    Standby,
}

/// The two ends of the wires.
pub struct Wires {
    /// By port.
    pub ports: [RingPort; 2],
    /// Kept for their end.
    _keep: [Port; 2],
}

/// A firewall under test.
pub struct Rig {
    /// What is measured.
    pub firewall: Firewall,
    /// Its ports' other ends.
    pub wires: Wires,
    /// What its engine counts.
    pub counters: Arc<Counters>,
    /// The sync core's ends.
    pub core: Option<Core>,
    /// Bytes of the pages of its table.
    pub page_bytes: u64,
    /// The time that it lives in.
    pub clock: Clock,
    _publisher: Arc<Publisher<Snapshot>>,
    _notices: rtrb::Consumer<engine::Notice>,
    _mail: rtrb::Producer<dataplane::worker::mailbox::Mail>,
}

/// What the sync core has of a worker.
pub struct Core {
    /// What changed.
    pub changes: Changes,
    /// Who is to store records.
    pub owners: Owners,
    /// The role that workers follow.
    pub role: Arc<RoleCell>,
}

impl Ground {
    /// Starts the EAL, once a process. The main thread gets an id and with it caches.
    pub fn lay(mbufs: u32) -> Result<Self> {
        let config = MempoolConfig { capacity: mbufs, cache: 256, ..MempoolConfig::default() };
        let memory_mb = u32::try_from(config.need_mb())?.saturating_add(64);
        Self::start(&EalConfig { memory_mb, ..EalConfig::default() }, &config)
    }

    /// With devices, and packet buffers of half the memory.
    pub fn with(config: &EalConfig) -> Result<Self> {
        let one = MempoolConfig { capacity: 1024, ..MempoolConfig::default() }.need_mb().max(1);
        let capacity = config.memory_mb / 2 / u32::try_from(one)? * 1024;
        Self::start(config, &MempoolConfig { capacity, cache: 256, ..MempoolConfig::default() })
    }

    fn start(config: &EalConfig, pool: &MempoolConfig) -> Result<Self> {
        let eal = Eal::init(config)?;
        for warning in eal.warnings() {
            eprintln!("perf: {warning}");
        }
        Self::over(Mempool::create(eal, pool)?)
    }

    /// On a pool that is there. The thread gets an id and with it caches.
    pub fn over(pool: Mempool) -> Result<Self> {
        Ok(Self { pool, _lcore: LcoreGuard::register(pool.eal())? })
    }

    /// The processor's clocks in a second.
    pub fn hz(&self) -> f64 {
        dpdk::tsc_hz(self.pool.eal()) as f64
    }

    /// Two started ports and their wires.
    pub fn ports(&self) -> Result<(Wires, [Queues; 2])> {
        let one = || -> Result<(RingPort, Port, Queues)> {
            let (wire, mut port) = RingPort::create(self.pool.eal(), 1, PLACES)?;
            let queues = port.start(&PortConfig::default(), &self.pool)?;
            Ok((wire, port, queues))
        };
        let ((lan, lan_port, lan_queues), (wan, wan_port, wan_queues)) = (one()?, one()?);
        let wires = Wires { ports: [lan, wan], _keep: [lan_port, wan_port] };
        Ok((wires, [lan_queues, wan_queues]))
    }

    /// The ceiling on ports of its own.
    pub fn macswap(&self) -> Result<(Wires, Macswap)> {
        let (wires, queues) = self.ports()?;
        Ok((wires, Macswap::new(queues)))
    }
}

impl Rig {
    /// A firewall with an empty table.
    pub fn new(ground: &Ground, config: RigConfig) -> Result<Self> {
        Self::team(ground, config, 1)?.pop().ok_or_else(|| "a firewall has a worker".into())
    }

    /// One that may have as few half-open sessions as the daemon's, unless that is told otherwise. Others may
    /// have as many as there are: measurements open them by the million.
    pub fn as_shipped(ground: &Ground, config: RigConfig) -> Result<Self> {
        let team = Self::assemble(ground, config, 1, config.slots / 4)?.pop();
        team.ok_or_else(|| "a firewall has a worker".into())
    }

    /// The workers of one firewall, each with queues and a table of its own, frames that belong to another one
    /// going over the mesh as in the daemon.
    pub fn team(ground: &Ground, config: RigConfig, workers: u8) -> Result<Vec<Self>> {
        Self::assemble(ground, config, workers, config.slots)
    }

    fn assemble(ground: &Ground, config: RigConfig, workers: u8, half_open_max: u32) -> Result<Vec<Self>> {
        let timeouts = Timeouts {
            tcp_syn_ms: LONG_MS,
            tcp_established_ms: LONG_MS,
            udp_new_ms: LONG_MS,
            udp_ms: LONG_MS,
            ..Timeouts::default()
        };
        let snapshot = world::snapshot_for(workers, config.rules, timeouts)?;
        let publisher = Arc::new(Publisher::new(Arc::new(snapshot)));
        let count = usize::from(workers);
        let rings = mesh(count, MESH).into_iter().zip(mesh(count, MESH));
        let worker =
            |(id, rings)| Self::worker(ground, config, half_open_max, &publisher, (WorkerId(id), rings));
        (0..workers).zip(rings).map(worker).collect()
    }

    fn worker(
        ground: &Ground,
        config: RigConfig,
        half_open_max: u32,
        publisher: &Arc<Publisher<Snapshot>>,
        (worker, (owners, senders)): (WorkerId, (MeshEnds, MeshEnds)),
    ) -> Result<Self> {
        let (wires, [lan, wan]) = ground.ports()?;
        let clock = Clock::new(dpdk::cycles(), dpdk::tsc_hz(ground.pool.eal()));
        let now = clock.ticks(dpdk::cycles());
        let region = memory::map(Memory::bytes(config.slots), HugePages::Auto)?;
        let page_bytes = region.page_bytes;
        let mut shard = shard(region.bytes, config.slots, half_open_max, now)?;
        let (core, partner) = match config.part {
            Part::Alone => (None, None),
            part => {
                let (core, partner) = join(&mut shard, part, publisher);
                (Some(core), Some(partner))
            }
        };

        let stats = Arc::new(WorkerStats::new(2));
        let counters = Arc::new(Counters::new(COUNTER_SLOTS));
        let (notices_tx, notices) = rtrb::RingBuffer::new(NOTICES);
        let (mail_tx, mail) = rtrb::RingBuffer::new(1);
        let engine_config =
            EngineConfig { worker, counters: Arc::clone(&counters), notices: notices_tx, pending_max: 256 };
        let mut engine = Engine::new(engine_config, shard);
        if partner.is_some() {
            engine.set_role(RoleView::Standby, now);
        }
        let (rx, tx): (Vec<_>, Vec<_>) = [(LAN, lan), (WAN, wan)]
            .into_iter()
            .map(|(id, q)| (q.rx.into_iter().map(move |q| (id, q)), q.tx))
            .unzip();
        let paths = tx.into_iter().flatten().map(TxPath::Own).collect();
        let worker = Worker::new(WorkerParts {
            engine,
            io: WorkerIo::new(ground.pool, paths, owners.to, senders.to, Arc::clone(&stats)),
            rx: rx.into_iter().flatten().collect(),
            handed: owners.from,
            to_send: senders.from,
            mail,
            snapshots: publisher.reader(),
            stats: Arc::clone(&stats),
            clock,
            poller: Poller::new(Polling::Busy, 0),
            partner,
        });
        Ok(Self {
            firewall: Firewall { worker, stats, stopped_at: None },
            wires,
            counters,
            core,
            page_bytes,
            clock,
            _publisher: Arc::clone(publisher),
            _notices: notices,
            _mail: mail_tx,
        })
    }

    /// The sync core's ends; an error on a node without a partner.
    pub fn core(&mut self) -> Result<(&mut Changes, &mut Owners)> {
        let core = self.core.as_mut().ok_or("a node without a partner has no sync core")?;
        Ok((&mut core.changes, &mut core.owners))
    }

    /// The time of its table.
    pub fn ticks(&self) -> engine::Ticks {
        self.clock.ticks(dpdk::cycles())
    }

    /// A turn of its worker; false if there was nothing to do.
    pub fn turn(&mut self) -> bool {
        self.firewall.worker.turn(dpdk::cycles())
    }

    /// Sessions in the table.
    pub fn sessions(&self) -> u64 {
        self.counters.sessions().iter().sum()
    }

    /// What a sync core would do with the marks and nothing else: pops and clears. Returns how many.
    pub fn drain_marks(&mut self) -> u64 {
        use sync::stream::Source;
        let Some(core) = &mut self.core else { return 0 };
        let mut drained = 0;
        while core.changes.next_changed().is_some() {
            drained += 1;
        }
        drained
    }
}

fn shard(memory: &'static mut [u8], slots: u32, half_open_max: u32, now: engine::Ticks) -> Result<Shard> {
    let memory = Memory::carve(memory, slots).ok_or("the table does not fit its memory")?;
    // Any key will do, as long as every run has the same.
    let hash_key = HashKey::new([0x1357_9bdf_0246_8ace, 0xfdb9_7531_eca8_6420, 0x0123_4567_89ab_cdef]);
    Ok(Shard::new(memory, ShardConfig { half_open_max, hash_key, term: 1 }, now))
}

fn join(shard: &mut Shard, part: Part, publisher: &Publisher<Snapshot>) -> (Core, Partner) {
    let (role, cell) = (Arc::new(RoleCell::default()), Arc::new(WorkerCell::default()));
    let (end, worker_end) = CoreEnd::join(shard, 0, Arc::clone(&cell));
    let steering = publisher.reader().current().0.steering.clone();
    let (changes, owners) = tables(vec![end], Arc::clone(&role), publisher.reader(), steering);
    let term = Term::new(2).unwrap_or_default();
    let word = match part {
        Part::Active => RoleWord { role: Role::Active, term, deadline: Micros::NEVER },
        _ => RoleWord::closed(Role::Standby, term),
    };
    role.show(word);
    let partner = Partner::new(Arc::clone(&role), cell, worker_end);
    (Core { changes, owners, role }, partner)
}
