//! The pair's part of a start: sync links opened, the machine made, rings laid between core and workers.

use super::LaunchError;
use super::ports::{self, DataPortError, OpenPort};
use super::random::Kernel;
use crate::clock::Clock;
use crate::config::{Config, PairPath, PairSettings, PathKind};
use crate::pair::announce::Announcer;
use crate::pair::cell::RoleCell;
use crate::pair::core::{CoreParts, SyncCore, WorkerSeen};
use crate::pair::envelope::Envelope;
use crate::pair::second::SecondOpinion;
use crate::pair::tables::CoreEnd;
use crate::pair::term_file::TermFile;
use crate::pair::transport::{SyncPort, Transports, Way};
use crate::pair::{Event, EventSink, Question, Shown};
use crate::worker::mesh::Handed;
use crate::worker::polling::{Poller, SPIN};
use dpdk::{Device, Eal, Mempool, Port, PortConfig};
use engine::PortId;
use engine::publish::Reader;
use engine::snapshot::{ControlPorts, PairView, Snapshot, Steering};
use rtrb::{Consumer, Producer, RingBuffer};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use sync::datagram::{MAX_DATAGRAM, VERSION};
use sync::heartbeat;
use sync::ids::{GroupId, Incarnation, Micros};
use sync::keys::{Identity, Timing};
use sync::pair::{Pair, PairConfig, PathConfig};
use wire::MacAddr;

/// Frames under way between core and a worker, at most.
const FRAMES: usize = 1024;
/// Questions that wait for the core, at most.
const QUESTIONS: usize = 256;
/// Bytes of IP and UDP headers before a datagram.
const HEADERS: [usize; 2] = [20 + 8, 40 + 8];
/// A worker that does not turn for so long is stuck, if the partner's patience is shorter.
const STUCK: Micros = Micros::from_secs(1);
/// So long after a takeover TCP segments of unknown connections are answered with a reset (decision 40).
const RESET_UNKNOWN_MS: u32 = 60_000;

/// What is known before workers are made.
pub struct PairMaterials {
    /// Started sync links, in order.
    pub links: Vec<OpenPort>,
    /// This life's number.
    pub incarnation: Incarnation,
}

/// The control thread's end.
pub struct PairControl {
    /// What the core tells.
    pub events: Receiver<Event>,
    /// Events that found no room.
    pub events_lost: Arc<AtomicU64>,
    /// What the core is told.
    pub questions: SyncSender<Question>,
    /// Its status.
    pub shown: Arc<Shown>,
    /// The paths by number.
    pub paths: Vec<PairPath>,
    /// Kernel interfaces of the sync links, by path.
    pub interfaces: Vec<Option<String>>,
    /// What heartbeats say.
    pub description: heartbeat::Report,
}

/// Opens a sync link.
pub fn open_link(
    eal: Eal,
    name: &str,
    device: &Device,
    mtu: u16,
    pool: &Mempool,
) -> Result<OpenPort, DataPortError> {
    let failed = |source| DataPortError::Port { port: name.to_owned(), source };
    let mut port = Port::open(eal, device).map_err(failed)?;
    let wanted = PortConfig {
        rx_queues: 1,
        tx_queues: 1,
        rss_key: None,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        mtu,
        promiscuous: true,
    };
    let queues = port.start(&wanted, pool).map_err(failed)?;
    Ok(OpenPort { port, queues })
}

/// Everything that the core is made of once the workers' ends exist.
pub struct Joint<'a> {
    pub config: &'a Config,
    pub settings: &'a PairSettings,
    pub materials: PairMaterials,
    pub role: Arc<RoleCell>,
    pub ends: Vec<CoreEnd>,
    pub cells: Vec<WorkerSeen>,
    pub captured: Vec<Consumer<Handed>>,
    pub sender: Producer<Handed>,
    pub data_macs: &'a [MacAddr],
    pub snapshots: Reader<Snapshot>,
    pub steering: Steering,
    pub generation: u64,
    pub pool: Mempool,
    pub clock: Clock,
}

impl Joint<'_> {
    /// The core and the control thread's end of it.
    pub fn make(self) -> Result<(SyncCore, PairControl), LaunchError> {
        let Joint { config, settings, .. } = self;
        let system = |what| move |source| LaunchError::System { what, source };
        let (term_file, persisted) =
            TermFile::open(&settings.state_dir).map_err(system("use pair.state-dir for the term"))?;
        let paths = config.pair_paths();
        let membership = config
            .membership()
            .unwrap_or_else(|| sync::membership::Config::new(settings.node, settings.partner()));
        let now = self.clock.micros(dpdk::cycles());
        let handles = self.ends.iter().map(CoreEnd::slots).sum();
        let pair_config = PairConfig {
            membership: Arc::new(membership),
            paths: paths
                .iter()
                .map(|path| PathConfig { datagram_max: datagram_max(path), byte_rate: path.byte_rate })
                .collect(),
            stream: stream_config(settings),
            group: GroupId(0),
            persisted,
        };
        let identity = Identity {
            pair: settings.id,
            me: settings.node,
            peer: settings.partner(),
            incarnation: self.materials.incarnation,
            secret: settings.key.secret.clone(),
            partner: settings.partner_key,
            paths: paths.len() as u8,
        };
        let pair = Pair::new(pair_config, identity, Timing::default(), Box::new(Kernel), handles, now);
        let description = describe(config, self.generation);
        let (events, told, events_lost) = EventSink::channel();
        let (questions, asked) = sync_channel(QUESTIONS);
        let shown = Arc::new(Shown::default());
        let interfaces = settings.links.iter().map(|link| ports::interface(&link.device)).collect();
        let shared = shared_addresses(config);
        let polling = config.workers.polling;
        let (changes, owners) =
            crate::pair::tables::tables(self.ends, Arc::clone(&self.role), self.snapshots, self.steering);
        let changes = changes.of(self.cells.iter().map(|seen| Arc::clone(&seen.stats)).collect());
        let ways = ways(self.materials.links, &paths, settings.control_ports(), self.data_macs);
        let dead = Micros::from_millis(
            u64::from(settings.heartbeat.interval_ms) * u64::from(settings.heartbeat.misses),
        );
        let core = SyncCore::new(CoreParts {
            pair,
            changes,
            owners,
            transports: Transports::new(ways, self.captured, self.sender, self.pool),
            role: self.role,
            workers: self.cells,
            term_file,
            announcer: Announcer::new(&shared, settings.virtual_mac()),
            second: SecondOpinion::new(
                ping_id(settings),
                Micros::from_millis(settings.heartbeat.interval_ms.into()),
            ),
            events,
            questions: asked,
            shown: Arc::clone(&shown),
            description: description.clone(),
            patience: dead.max(STUCK),
            clock: self.clock,
            poller: Poller::new(polling, self.clock.cycles(SPIN))
                .with_heartbeats(settings.heartbeat.interval()),
        });
        let control =
            PairControl { events: told, events_lost, questions, shown, paths, interfaces, description };
        Ok((core, control))
    }
}

/// Other pairs and hosts ping as well.
fn ping_id(settings: &PairSettings) -> u16 {
    u16::from_be_bytes([settings.id.0, b'p'])
}

/// What workers know of the pair.
pub fn view(settings: &PairSettings) -> PairView {
    PairView { control: settings.control_ports(), reset_unknown_ms: RESET_UNKNOWN_MS }
}

/// What heartbeats say of a configuration.
pub fn describe(config: &Config, generation: u64) -> heartbeat::Report {
    let areas = config.pair_areas();
    heartbeat::Report {
        wire_version: VERSION.into(),
        wire_oldest: 1,
        config_hash: areas.all(),
        areas: areas.short(),
        policy_generation: generation as u32,
        ..heartbeat::Report::default()
    }
}

fn datagram_max(path: &PairPath) -> usize {
    let headers = HEADERS[usize::from(path.address.is_ipv6())];
    usize::from(path.mtu).saturating_sub(headers).min(MAX_DATAGRAM)
}

fn stream_config(settings: &PairSettings) -> sync::stream::Config {
    sync::stream::Config {
        resync_rate: settings.resync_rate.map_or(0, std::num::NonZeroU32::get),
        ..sync::stream::Config::default()
    }
}

/// The addresses that the active node owns, link-local ones included.
fn shared_addresses(config: &Config) -> Vec<(PortId, IpAddr)> {
    let mac = config.pair.as_ref().map(PairSettings::virtual_mac);
    let of_port = |(id, port): (PortId, &crate::config::Port)| {
        let mut own: Vec<IpAddr> = port.addresses.iter().map(ipnet::IpNet::addr).collect();
        if let Some(mac) = mac.filter(|_| ports::speaks_ipv6(&port.addresses)) {
            own.push(IpAddr::V6(ports::link_local(mac)));
        }
        own.into_iter().map(move |address| (id, address)).collect::<Vec<_>>()
    };
    config.numbered_ports().flat_map(of_port).collect()
}

fn ways(
    links: Vec<OpenPort>,
    paths: &[PairPath],
    udp: ControlPorts,
    macs: &[MacAddr],
) -> Vec<(Way, Envelope)> {
    let mut links = links.into_iter();
    let way = |path: &PairPath| {
        let (way, mac) = match path.kind {
            PathKind::SyncLink(_) => {
                let OpenPort { port, queues } = links.next()?;
                let mac = port.info().mac;
                let (rx, tx) = queues.rx.into_iter().next().zip(queues.tx.into_iter().next())?;
                (Way::Link(Box::new(SyncPort::new(port, rx, tx))), mac)
            }
            PathKind::DataPort(port) => (Way::DataPort(port), *macs.get(usize::from(port.0))?),
        };
        Some((way, Envelope::new(path.address, path.partner, udp, mac)))
    };
    paths.iter().filter_map(way).collect()
}

/// Frames between core and one worker, one ring each way.
pub fn frame_ring() -> (Producer<Handed>, Consumer<Handed>) {
    RingBuffer::new(FRAMES)
}
