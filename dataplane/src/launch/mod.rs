//! From a command line to a running firewall, and back down in order.
//!
//! Whatever can be refused is refused before it is too late to say so well: the processor, then the
//! configuration, then a second daemon on the same socket, and only then memory, EAL, ports and threads.
//! The session table is mapped before the EAL takes its huge pages (decision 12).

pub(crate) mod assemble;
mod cpu;
pub(crate) mod pair;
pub(crate) mod ports;
mod random;
mod second_try;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, HugePages, PairSettings};
use crate::control::log::LogControl;
use crate::control::signals::Signals;
use crate::control::socket::{ControlSocket, SocketError};
use crate::control::{self, Core, Ended, Facts};
use crate::memory::{self, MemoryError};
use crate::pair::CoreThread;
use crate::ruleset::{Ruleset, RulesetError};
use crate::worker::{Worker, WorkerThread, WorkerThreadError};
use assemble::{Assembly, Materials, assemble, table_bytes};
use dpdk::{DEFAULT_DATA_ROOM, Eal, EalConfig, EalError, Mempool, MempoolConfig, MempoolError, PageTurn};
use engine::policy::RuleSlots;
use engine::snapshot::Steering;
use pair::PairMaterials;
use ports::{DataPortError, OpenPort, QueuePlan};
use std::io;
use std::path::Path;
use std::time::Instant;
use sync::ids::Incarnation;
use thiserror::Error;
use wire::steer::ToeplitzKey;

/// Why the daemon did not start, or ended.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The processor is too old.
    #[error(
        "this processor lacks {}: understudyd is built for x86-64-v3 with AES and PCLMULQDQ (Intel Haswell, AMD Zen \
         and later); use another machine, or build it with other flags in .cargo/config.toml", missing.join(", ")
    )]
    Processor {
        /// The features.
        missing: Vec<&'static str>,
    },
    /// The configuration cannot be read.
    #[error("{}", .0.lines().join("\n"))]
    Config(#[from] ConfigError),
    /// The configuration cannot be used.
    #[error("{file}: {source}")]
    Ruleset {
        /// The file.
        file: String,
        /// What is wrong.
        source: RulesetError,
    },
    /// The log cannot be set up.
    #[error("cannot set up the log: {0}")]
    Log(#[from] tracing_subscriber::util::TryInitError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Memory for sessions.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A shard that cannot be.
    #[error("a session table of {slots} sessions for one worker is not possible; see sessions.capacity")]
    TableSize {
        /// Sessions of one worker.
        slots: u32,
    },
    /// DPDK.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// Packet buffers.
    #[error("packet buffers: {0}; see eal.mbufs and eal.memory-mb")]
    Mempool(#[from] MempoolError),
    /// A port.
    #[error(transparent)]
    Port(#[from] DataPortError),
    /// A worker's thread.
    #[error(transparent)]
    Worker(#[from] WorkerThreadError),
    /// The kernel's random numbers, signals, polling.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker ended, which it must not.
    #[error(
        "worker {worker} ended by itself; this is a defect of understudyd, please report it with the log"
    )]
    WorkerLost {
        /// The worker.
        worker: usize,
    },
    /// The sync core ended, which it must not.
    #[error("the sync core ended by itself; this is a defect of understudyd, please report it with the log")]
    SyncCoreLost,
}

/// Reads, checks and compiles a configuration, as a start would.
pub fn check(path: &Path) -> Result<(Config, Ruleset), LaunchError> {
    let config = Config::load(path)?;
    let named = |source| LaunchError::Ruleset { file: path.display().to_string(), source };
    let ruleset = Ruleset::compile(&config, &RuleSlots::new()).map_err(named)?;
    ports::devices(&config)?;
    Ok((config, ruleset))
}

/// Refuses a processor that the program was not built for.
pub fn check_processor() -> Result<(), LaunchError> {
    let missing = cpu::missing();
    if missing.is_empty() { Ok(()) } else { Err(LaunchError::Processor { missing }) }
}

/// Runs the daemon until it is asked to end.
pub fn run(path: &Path, config: Config, ruleset: Ruleset) -> Result<(), LaunchError> {
    let started = Instant::now();
    let log = LogControl::install(config.log)?;
    let socket = ControlSocket::bind(&config.node.control_socket)?;
    let system = |what| move |source| LaunchError::System { what, source };
    let signals = Signals::install().map_err(system("install signal handlers"))?;

    let (bytes, workers) =
        (table_bytes(config.sessions.capacity, config.workers.count), config.workers.count);
    // Another daemon that starts now looks again when this one has what it takes.
    let turn = (config.eal.huge_pages != HugePages::Never).then(PageTurn::wait);
    let region = memory::map(bytes, config.eal.huge_pages)?;
    let second_try = second_try::warning();
    let eal = match start_eal(&config, second_try.is_some()) {
        Err(error) if second_try::may_help(&error, config.eal.huge_pages) => {
            drop(socket);
            return Err(second_try::begin_anew(error));
        }
        started => started?,
    };
    drop(turn);
    let mut facts = Facts {
        started,
        page_bytes: region.page_bytes,
        table_bytes: bytes as u64,
        eal_huge_pages: eal.huge_pages(),
        warnings: region.warning.into_iter().chain(second_try).collect(),
    };
    facts.warnings.extend(eal.warnings().iter().cloned());
    let pool = make_pool(eal, &config)?;
    let key = config.pair.as_ref().map_or_else(ToeplitzKey::default, PairSettings::steering);
    let steering = Steering::new(key, workers);
    let ports = open_ports(eal, &config, &steering, &pool)?;
    let pair = config.pair.as_ref().map(|settings| open_pair(eal, settings, &pool)).transpose()?;
    announce_warnings(&facts.warnings, &config.warnings);

    let clock = Clock::new(dpdk::cycles(), dpdk::tsc_hz(eal));
    let random = random::words().map_err(system("get random numbers"))?;
    let config_path = path.to_owned();
    let Assembly { mut core, workers, sync_core } = assemble(Materials {
        config,
        config_path,
        ruleset,
        ports,
        pool,
        memory: region.bytes,
        steering,
        facts,
        clock,
        log: Some(log),
        random,
        pair,
    })?;
    start_workers(&mut core, workers, eal)?;
    if let Some(sync_core) = sync_core {
        core.sync_core_started(CoreThread::start(sync_core, eal).map_err(system("start the sync core"))?);
    }
    let listener = socket.listener().map_err(system("use the control socket"))?;
    core.announce_ready(started.elapsed());
    let ended = control::run(&mut core, listener, &signals).map_err(system("wait for events"));
    finish(core, ended)
}

fn finish(core: Core, ended: Result<Ended, LaunchError>) -> Result<(), LaunchError> {
    tracing::info!(event = "stopping", "workers end, ports are closed");
    let orderly = core.shut_down();
    match ended? {
        Ended::WorkerLost(worker) => Err(LaunchError::WorkerLost { worker }),
        Ended::SyncCoreLost => Err(LaunchError::SyncCoreLost),
        Ended::Asked => {
            tracing::info!(event = "stopped", orderly, "stopped");
            Ok(())
        }
    }
}

fn start_eal(config: &Config, ordinary_pages: bool) -> Result<Eal, LaunchError> {
    let huge_pages = match config.eal.huge_pages {
        HugePages::Auto if ordinary_pages => dpdk::HugePages::Never,
        HugePages::Auto => dpdk::HugePages::Auto,
        HugePages::Require => dpdk::HugePages::Require,
        HugePages::Never => dpdk::HugePages::Never,
    };
    Ok(Eal::init(&EalConfig {
        memory_mb: config.eal.memory_mb,
        huge_pages,
        devices: ports::devices(config)?,
        extra_args: config.eal.args.clone(),
        ..EalConfig::default()
    })?)
}

/// Each mbuf holds a whole frame of the largest MTU: no driver needs to split any.
fn make_pool(eal: Eal, config: &Config) -> Result<Mempool, LaunchError> {
    const LINK_HEADERS: u16 = 14 + 4 + 8;
    let links = config.pair.iter().flat_map(|pair| &pair.links).map(|link| link.mtu);
    let mtu = config.ports.iter().map(|port| port.mtu).chain(links).max().unwrap_or(0);
    let pool = MempoolConfig {
        capacity: config.eal.mbufs,
        cache: (config.eal.mbufs / 8).min(256),
        data_room: DEFAULT_DATA_ROOM.max(mtu.saturating_add(LINK_HEADERS)),
    };
    Ok(Mempool::create(eal, &pool)?)
}

fn open_ports(
    eal: Eal,
    config: &Config,
    steering: &Steering,
    pool: &Mempool,
) -> Result<Vec<OpenPort>, LaunchError> {
    let workers = u16::from(config.workers.count);
    let queues = config.ports.len() as u32 * u32::from(workers);
    let plan = QueuePlan { workers, steering, descriptors: ports::descriptors(config.eal.mbufs, queues) };
    let mut open = Vec::new();
    for (settings, device) in config.ports.iter().zip(ports::data_devices(config)?) {
        let port = ports::open(eal, settings, &device, &plan, pool)?;
        let info = port.port.info();
        tracing::info!(
            event = "port-opened",
            port = settings.name,
            device = device.to_string(),
            driver = info.driver,
            mac = info.mac.to_string(),
            rx_queues = port.queues.rx.len(),
            tx_queues = port.queues.tx.len(),
            "port opened"
        );
        open.push(port);
    }
    Ok(open)
}

/// The sync links and this life's number.
fn open_pair(eal: Eal, settings: &PairSettings, pool: &Mempool) -> Result<PairMaterials, LaunchError> {
    let mut links = Vec::new();
    for link in &settings.links {
        let open = pair::open_link(eal, &link.name, &ports::link_device(link)?, link.mtu, pool)?;
        tracing::info!(
            event = "sync-link-opened",
            link = link.name,
            device = link.device.to_string(),
            mac = open.port.info().mac.to_string(),
            "sync link opened"
        );
        links.push(open);
    }
    let [incarnation, ..] =
        random::words().map_err(|source| LaunchError::System { what: "get random numbers", source })?;
    // 0 means "nobody" in a heartbeat's echo.
    Ok(PairMaterials { links, incarnation: Incarnation(incarnation.max(1)) })
}

fn announce_warnings(start: &[String], config: &[String]) {
    for warning in start {
        tracing::warn!(event = "start-warning", "{warning}");
    }
    for warning in config {
        tracing::warn!(event = "config-warning", "{warning}");
    }
}

fn start_workers(core: &mut Core, workers: Vec<Worker>, eal: Eal) -> Result<(), LaunchError> {
    for (id, worker) in workers.into_iter().enumerate() {
        let thread = WorkerThread::start(id, worker, eal, core.worker_cpu(id))?;
        core.worker_started(id, thread);
    }
    Ok(())
}
