//! For tests: a whole daemon on ports made of rings, turned by hand.

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Core, Facts};
use crate::launch::assemble::{Assembly, Materials, assemble, table_bytes};
use crate::launch::ports::OpenPort;
use crate::ruleset::Ruleset;
use crate::worker::Worker;
use dpdk::testing::RingPort;
use dpdk::{Mbuf, Mempool, PortConfig};
use engine::policy::RuleSlots;
use engine::snapshot::Steering;
use std::time::{Duration, Instant};
use wire::craft::Frame;
use wire::steer::ToeplitzKey;
use wire::{MacAddr, PacketBuf};

/// The LAN's host.
pub const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 10]);
/// The WAN's host.
pub const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 2, 10]);
/// The LAN's host.
pub const CLIENT: [u8; 4] = [10, 1, 0, 10];
/// The WAN's host.
pub const SERVER: [u8; 4] = [10, 2, 0, 10];
/// Port numbers.
pub const LAN: usize = 0;
/// Port numbers.
pub const WAN: usize = 1;

/// Two zones, one rule from LAN to WAN.
pub const CONFIG: &str = r#"
[node]
name = "rig"
control-socket = "/nonexistent/rig.sock"

[eal]
memory-mb = 64
mbufs = 4096

[sessions]
capacity = 4096

[[port]]
name = "lan"
device = "net_null0"
zone = "lan"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]

[[port]]
name = "wan"
device = "net_null1"
zone = "wan"
addresses = ["10.2.0.1/24", "fd00:2::1/64"]

[[rule]]
name = "out"
from = "lan"
to = "wan"
services = ["tcp", "udp", "icmp-echo"]
action = "allow"
"#;

/// A daemon without threads. Dropped in this order: queues, ports, rings.
pub struct Rig {
    pub workers: Vec<Worker>,
    pub core: Core,
    pub wires: Vec<RingPort>,
    pub macs: Vec<MacAddr>,
    pub pool: Mempool,
    now: Instant,
}

/// A rig's shape.
pub struct Shape {
    pub workers: u8,
    /// Queues of each port in each direction.
    pub queues: u16,
    /// Places in each ring.
    pub places: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { workers: 1, queues: 1, places: 512 }
    }
}

impl Rig {
    /// A rig with [`CONFIG`] and more of it.
    pub fn new(pool: &Mempool, shape: &Shape, more: &str) -> Self {
        let text = format!("{CONFIG}\n{more}\n[workers]\ncount = {}\n", shape.workers);
        let config = Config::parse("rig", &text).map_err(|e| e.lines()).unwrap();
        let ruleset = Ruleset::compile(&config, &RuleSlots::new()).unwrap();
        let (mut wires, mut ports) = (Vec::new(), Vec::new());
        for _ in &config.ports {
            let (wire, mut port) = RingPort::create(pool.eal(), shape.queues, shape.places).unwrap();
            let start =
                PortConfig { rx_queues: shape.queues, tx_queues: shape.queues, ..PortConfig::default() };
            let queues = port.start(&start, pool).unwrap();
            wires.push(wire);
            ports.push(OpenPort { port, queues });
        }
        let macs = ports.iter().map(|open| open.port.info().mac).collect();
        let bytes = table_bytes(config.sessions.capacity, shape.workers) + 128;
        let memory: &'static mut [u8] = vec![0; bytes].leak();
        let skip = memory.as_ptr().align_offset(128);
        let clock = Clock::new(dpdk::cycles(), dpdk::tsc_hz(pool.eal()));
        let facts = Facts {
            started: Instant::now(),
            page_bytes: 4096,
            table_bytes: bytes as u64,
            eal_huge_pages: false,
            warnings: vec!["a rig".to_owned()],
        };
        let Assembly { core, workers, .. } = assemble(Materials {
            config,
            config_path: "/nonexistent/rig.toml".into(),
            ruleset,
            ports,
            pool: *pool,
            memory: &mut memory[skip..],
            steering: Steering::new(ToeplitzKey::default(), shape.workers),
            facts,
            clock,
            log: None,
            random: [1, 2, 3],
            pair: None,
        })
        .unwrap();
        Self { workers, core, wires, macs, pool: *pool, now: Instant::now() }
    }

    /// Turns of everybody, ten milliseconds apart for the control thread: enough for a few bursts, a
    /// question, its answer, and what waited for it.
    pub fn settle(&mut self) {
        for _ in 0..8 {
            for worker in &mut self.workers {
                worker.turn(dpdk::cycles());
            }
            self.now += Duration::from_millis(10);
            self.core.turn(self.now);
        }
    }

    /// A frame arrives at a port, on a queue.
    pub fn arrive_on(&mut self, port: usize, queue: u16, frame: &Frame) {
        let mbuf = self.pool.frame(&frame.bytes()).unwrap();
        self.wires[port].inject_on(queue, mbuf).unwrap();
    }

    /// A frame arrives at a port; its destination is the port's MAC address.
    pub fn arrive(&mut self, port: usize, frame: Frame) {
        let from = if port == LAN { CLIENT_MAC } else { SERVER_MAC };
        let frame = frame.eth(from, self.macs[port]);
        self.arrive_on(port, 0, &frame);
    }

    /// Everything that left by a port, on all queues, oldest first per queue.
    pub fn left(&mut self, port: usize, queues: u16) -> Vec<Vec<u8>> {
        let wire = &mut self.wires[port];
        let bytes = |mbuf: Mbuf| mbuf.bytes().to_vec();
        (0..queues)
            .flat_map(|queue| std::iter::from_fn(|| wire.collect_from(queue).map(bytes)).collect::<Vec<_>>())
            .collect()
    }

    /// Makes both hosts known, as ARP would.
    pub fn introduce_hosts(&mut self) {
        let request = |mac, host, own| Frame::arp_request(mac, host, own);
        self.arrive_on(LAN, 0, &request(CLIENT_MAC, CLIENT, [10, 1, 0, 1]));
        self.arrive_on(WAN, 0, &request(SERVER_MAC, SERVER, [10, 2, 0, 1]));
        self.settle();
        let queues = 16;
        for port in [LAN, WAN] {
            assert_eq!(self.left(port, queues).len(), 1, "one ARP reply");
        }
    }

    /// The worker that owns a UDP flow.
    pub fn owner_of(&self, src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> u8 {
        let steering = &self.core.snapshot().steering;
        let key = wire::FlowKey::v4(src, dst, wire::Proto::UDP, sport, dport);
        steering.owner(steering.key().steering_hash(&key, wire::Kind::Udp)).0
    }

    /// The sum of an event's counters over all workers.
    pub fn event(&self, event: engine::counters::Event) -> u64 {
        self.core.event_total(event)
    }

    /// The sum of a drop reason's counters over all workers.
    pub fn drops(&self, name: &str) -> u64 {
        self.core.drop_total(name)
    }
}
