//! A firewall under test: engines, what they know, and what they did.

use super::buffers::TestBuf;
use super::net::{self, Flow, LAN, PORTS, WAN, mac_of, neighbour_of, nets, port_mac};
use super::step::{Counted, Step};
use crate::counters::{Counters, DropReason, Event};
use crate::ids::{PortId, WorkerId};
use crate::neighbour::{Adjacency, AdjacencyState, NeighbourTable, NextHop};
use crate::pipeline::{BURST, Burst, Engine, EngineConfig, Notice, PacketIo};
use crate::policy::{COUNTER_SLOTS, Policy, Rule, RuleSlots};
use crate::routes::{Route, Routes};
use crate::session;
use crate::snapshot::{PairView, PortView, Snapshot, Steering};
use crate::table::{HashKey, Memory, SessionView, Shard, ShardConfig, Slot};
use crate::time::Ticks;
use crate::track::{Timeouts, Why};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use wire::buf::HeapBuf;
use wire::craft::Frame;
use wire::steer::ToeplitzKey;
use wire::tcp_flags::ACK;
use wire::{Addr, FlowKey, MacAddr};

/// How a firewall is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub rules: Vec<Rule>,
    pub routes: Vec<Route>,
    pub ports: Vec<PortView>,
    pub timeouts: Timeouts,
    pub workers: u8,
    pub slots: u32,
    pub half_open_max: u32,
    pub pending_max: usize,
    /// Places in the ring to the control thread.
    pub notices: usize,
    /// Every host on a link has been resolved.
    pub resolved: bool,
    pub pair: PairView,
    pub start: Ticks,
}

impl Default for Setup {
    /// The lab's policy, everybody resolved, one worker, a clock that is about to wrap.
    fn default() -> Self {
        Self {
            rules: net::lab_rules(),
            routes: net::routes(),
            ports: net::ports(),
            timeouts: Timeouts::default(),
            workers: 1,
            slots: 256,
            half_open_max: 64,
            pending_max: 32,
            notices: 64,
            resolved: true,
            pair: PairView::default(),
            start: Ticks(0_u32.wrapping_sub(5_000)),
        }
    }
}

/// The ports, the buffer pool and the rings of a worker.
pub struct Io<B> {
    pub sent: Vec<(PortId, Vec<u8>)>,
    pub handed: Vec<(WorkerId, PortId, B)>,
    /// The partner's datagrams.
    pub core: Vec<(PortId, Vec<u8>)>,
    /// Frames that the rings to other workers can take.
    pub ring: usize,
    /// Frames that the pool has.
    pub pool: usize,
}

impl<B: TestBuf> PacketIo for Io<B> {
    type Buf = B;

    fn alloc(&mut self) -> Option<B> {
        self.pool = self.pool.checked_sub(1)?;
        Some(B::of(&[]))
    }

    fn send(&mut self, port: PortId, frame: B) {
        self.sent.push((port, frame.whole()));
    }

    fn hand_over(&mut self, to: WorkerId, ingress: PortId, frame: B) -> bool {
        let fits = self.handed.len() < self.ring;
        if fits {
            self.handed.push((to, ingress, frame));
        }
        fits
    }

    fn to_core(&mut self, ingress: PortId, frame: B) -> bool {
        let fits = self.core.len() < self.ring;
        if fits {
            self.core.push((ingress, frame.whole()));
        }
        fits
    }
}

/// A place in the neighbour table.
#[derive(Clone, Debug)]
struct Neighbour {
    port: PortId,
    addr: Addr,
    mac: MacAddr,
    state: AdjacencyState,
    generation: u8,
}

pub struct Worker<B> {
    pub engine: Engine<B>,
    pub counters: Arc<Counters>,
    pub io: Io<B>,
    notices: rtrb::Consumer<Notice>,
    told: Counted,
}

/// Engines under test.
pub struct Firewall<B = HeapBuf> {
    pub setup: Setup,
    pub workers: Vec<Worker<B>>,
    pub snapshot: Snapshot,
    pub now: Ticks,
    rule_slots: RuleSlots,
    rule_names: BTreeMap<u16, String>,
    neighbours: Vec<Neighbour>,
    revision: u64,
    history: Vec<String>,
}

impl Firewall {
    /// On heap buffers.
    pub fn new(setup: Setup) -> Self {
        Self::on(setup)
    }

    /// As most tests want it.
    pub fn lab() -> Self {
        Self::new(Setup::default())
    }

    /// The lab with another policy.
    pub fn with_rules(rules: Vec<Rule>) -> Self {
        Self::new(Setup { rules, ..Setup::default() })
    }
}

impl<B: TestBuf> Firewall<B> {
    /// On any buffers.
    pub fn on(setup: Setup) -> Self {
        let mut rule_slots = RuleSlots::new();
        let snapshot = snapshot_of(&setup, &mut rule_slots);
        let workers = (0..setup.workers).map(|id| worker(WorkerId(id), &setup)).collect();
        let mut firewall = Self {
            now: setup.start,
            workers,
            snapshot,
            rule_slots,
            rule_names: BTreeMap::from([(0, "default-deny".to_owned())]),
            neighbours: Vec::new(),
            revision: 0,
            history: Vec::new(),
            setup,
        };
        firewall.name_rules();
        if firewall.setup.resolved {
            for net in nets() {
                for (port, addr) in [
                    (LAN, net.client),
                    (LAN, net.second),
                    (LAN, net.gateway),
                    (WAN, net.server),
                    (WAN, net.router),
                    (net::DMZ, net.dmz),
                ] {
                    firewall.place(port, addr, AdjacencyState::Resolved);
                }
            }
            firewall.publish_neighbours();
        }
        firewall
    }

    fn name_rules(&mut self) {
        let policy = &self.snapshot.policy;
        for (rule, decision) in policy.rules().iter().zip(policy.decisions()) {
            self.rule_names.insert(decision.slot, rule.name.clone());
        }
    }

    /// Changes the configuration: a new generation of policy and routes.
    pub fn reload(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        let (neighbours, generation) = (Arc::clone(&self.snapshot.neighbours), self.snapshot.generation);
        self.snapshot = snapshot_of(&self.setup, &mut self.rule_slots);
        self.snapshot.neighbours = neighbours;
        self.snapshot.generation = generation.wrapping_add(1);
        self.name_rules();
        self.note("reload");
    }

    /// What is known of a neighbour from now on.
    pub fn neighbour(&mut self, port: PortId, addr: Addr, state: AdjacencyState) {
        self.place(port, addr, state);
        self.publish_neighbours();
        self.note(&format!("neighbour {addr:?} {state:?}"));
    }

    /// The place of `old` in the neighbour table goes to `new`, resolved.
    pub fn give_place(&mut self, old: Addr, new: Addr) {
        let place = self.neighbours.iter_mut().find(|n| n.addr == old).expect("a known neighbour");
        (place.addr, place.mac) = (new, mac_of(new));
        (place.generation, place.state) = (place.generation + 1, AdjacencyState::Resolved);
        self.publish_neighbours();
        self.note(&format!("the place of {old:?} goes to {new:?}"));
    }

    fn place(&mut self, port: PortId, addr: Addr, state: AdjacencyState) {
        match self.neighbours.iter_mut().find(|n| n.port == port && n.addr == addr) {
            Some(known) => known.state = state,
            None => {
                self.neighbours.push(Neighbour { port, addr, mac: mac_of(addr), state, generation: 0 });
            }
        }
    }

    fn publish_neighbours(&mut self) {
        let mtu = |port: PortId| self.setup.ports[usize::from(port.0)].mtu;
        let adjacency = |n: &Neighbour| {
            Adjacency::new(n.port, mtu(n.port), self.face(n.port), n.mac, n.state, n.generation)
        };
        let places = self.neighbours.iter().map(adjacency).collect();
        let hops = self.neighbours.iter().enumerate();
        let hops = hops.map(|(i, n)| (n.port, n.addr, NextHop::new(i as u32, n.generation)));
        self.revision += 1;
        self.snapshot.neighbours = Arc::new(NeighbourTable::new(self.revision, places, hops));
    }

    /// The place of a neighbour, to be found in sessions.
    pub fn hop(&self, port: PortId, addr: Addr) -> NextHop {
        self.snapshot.neighbours.find(port, addr).expect("a known neighbour")
    }

    fn note(&mut self, what: &str) {
        self.history.push(format!("{:>10} {what}", self.now.0));
    }
}

/// Frames in.
impl<B: TestBuf> Firewall<B> {
    /// A frame from the neighbour through which its source is reached, to the firewall.
    pub fn send(&mut self, ingress: PortId, frame: &Frame) -> Step<'_, B> {
        let bytes = self.dressed(ingress, frame);
        self.send_bytes(ingress, &bytes)
    }

    /// The MAC address at which a port's shared addresses are.
    pub fn face(&self, port: PortId) -> MacAddr {
        self.setup.ports[usize::from(port.0)].face()
    }

    /// A frame as the neighbour of the picture sends it to this firewall.
    fn dressed(&self, ingress: PortId, frame: &Frame) -> Vec<u8> {
        let mut bytes = dressed(ingress, frame);
        bytes[..6].copy_from_slice(&self.face(ingress).0);
        bytes
    }

    /// A frame as it is.
    pub fn send_bytes(&mut self, ingress: PortId, bytes: &[u8]) -> Step<'_, B> {
        self.send_burst(ingress, vec![B::of(bytes)])
    }

    /// A burst.
    pub fn send_all(&mut self, ingress: PortId, frames: &[Frame]) -> Step<'_, B> {
        let frames = frames.iter().map(|frame| B::of(&self.dressed(ingress, frame))).collect();
        self.send_burst(ingress, frames)
    }

    /// A burst of buffers.
    pub fn send_burst(&mut self, ingress: PortId, frames: Vec<B>) -> Step<'_, B> {
        self.send_at(WorkerId(0), ingress, frames)
    }

    /// A burst at some worker.
    pub fn send_at(&mut self, worker: WorkerId, ingress: PortId, frames: Vec<B>) -> Step<'_, B> {
        assert!(frames.len() <= BURST, "a burst");
        let input: Vec<_> = frames.iter().map(B::whole).collect();
        for bytes in &input {
            let what = wire::parse(bytes, bytes.len());
            self.note(&match what {
                Ok(desc) => format!("in {} {:?} {:?} {:?}", ingress.0, desc.kind, desc.key, desc.tcp),
                Err(e) => format!("in {} {} ({} bytes)", ingress.0, e.name(), bytes.len()),
            });
        }
        let (now, snapshot) = (self.now, self.snapshot.clone());
        let w = &mut self.workers[usize::from(worker.0)];
        let mut burst: Burst<B> = frames.into_iter().collect();
        w.engine.process(now, &snapshot, ingress, &mut burst, &mut w.io);
        assert!(burst.is_empty(), "the burst is drained");
        self.step(input)
    }

    /// Workers take what was handed over to them.
    pub fn deliver(&mut self) -> Step<'_, B> {
        let (now, snapshot) = (self.now, self.snapshot.clone());
        let handed: Vec<_> = self.workers.iter_mut().flat_map(|w| std::mem::take(&mut w.io.handed)).collect();
        let mut input = Vec::new();
        for (to, ingress, frame) in handed {
            input.push(frame.whole());
            let w = &mut self.workers[usize::from(to.0)];
            let mut burst: Burst<B> = std::iter::once(frame).collect();
            w.engine.process_handed_over(now, &snapshot, ingress, &mut burst, &mut w.io);
        }
        self.note("deliver");
        self.step(input)
    }

    /// Between bursts.
    pub fn housekeep(&mut self) -> Step<'_, B> {
        for w in &mut self.workers {
            w.engine.housekeep(self.now, &self.snapshot, &mut w.io);
        }
        self.note("housekeep");
        self.step(Vec::new())
    }

    /// Nothing comes in for a while; the workers keep turning.
    pub fn idle(&mut self, ms: u32) -> Step<'_, B> {
        let until = self.now.after(ms);
        while self.now != until {
            self.now = self.now.after(until.since(self.now).min(100));
            for w in &mut self.workers {
                w.engine.housekeep(self.now, &self.snapshot, &mut w.io);
            }
        }
        self.note(&format!("idle for {ms} ms"));
        self.step(Vec::new())
    }

    /// A TCP connection from `a` to `b` between two zones that a rule admits: SYN 1000, SYN-ACK 5000.
    pub fn open_tcp(&mut self, flow: &Flow, rule: &str) {
        let (inside, outside) = (port_of(flow.a), port_of(flow.b));
        let admitted = format!("{rule} admitted");
        self.send(inside, &flow.syn(1_000)).forwarded(outside, &["sessions-created", &admitted]);
        self.send(outside, &flow.syn_ack(5_000, 1_001)).forwarded(inside, &[]);
        self.send(inside, &flow.out(ACK, 1_001, 5_001)).forwarded(outside, &[]);
        assert_eq!(self.state(&flow.syn(0).key()), "established", "{}", self.dump());
    }
}

/// What there is to see.
impl<B: TestBuf> Firewall<B> {
    fn step(&mut self, input: Vec<Vec<u8>>) -> Step<'_, B> {
        let mut sent = Vec::new();
        let mut counted = Counted::new();
        let mut received = (0, 0);
        for id in 0..self.workers.len() {
            let total = self.totals(id);
            let w = &mut self.workers[id];
            for (name, count) in &total {
                let news = count.wrapping_sub(w.told.get(name).copied().unwrap_or(0));
                match name.as_str() {
                    "rx-packets" => received.0 += news,
                    "rx-bytes" => received.1 += news,
                    _ if news == 0 => {}
                    _ if id == 0 => drop(counted.insert(name.clone(), news)),
                    _ => drop(counted.insert(format!("w{id} {name}"), news)),
                }
            }
            w.told = total;
            sent.append(&mut w.io.sent);
        }
        for (port, bytes) in &sent {
            self.history.push(format!("           out {} {} bytes", port.0, bytes.len()));
        }
        self.history.push(format!("           {counted:?}"));
        let bytes = input.iter().map(|bytes| bytes.len() as u64).sum();
        assert_eq!(received, (input.len() as u64, bytes), "packets and bytes received: {}", self.dump());
        Step::new(self, input, sent, counted)
    }

    /// All counters of a worker that are not zero.
    pub fn totals(&self, worker: usize) -> Counted {
        let counters = &self.workers[worker].counters;
        let drops = DropReason::all().map(|reason| (reason.name().to_owned(), counters.drops(reason)));
        let unlearned =
            Why::ALL.iter().map(|why| (format!("passed {}", why.name()), counters.unlearned(*why)));
        let events = Event::ALL.iter().map(|event| (event.name().to_owned(), counters.event(*event)));
        let rules = self.rule_names.iter().flat_map(|(slot, name)| {
            let (admitted, refused) = counters.rule(*slot);
            [(format!("{name} admitted"), admitted), (format!("{name} refused"), refused)]
        });
        drops.chain(unlearned).chain(events).chain(rules).filter(|(_, count)| *count > 0).collect()
    }

    /// Notices to the control thread since the last look.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.workers.iter_mut().flat_map(|w| std::iter::from_fn(|| w.notices.pop().ok())).collect()
    }

    /// All sessions, by worker and slot.
    pub fn sessions(&self) -> Vec<SessionView> {
        let readers = self.workers.iter().map(|w| w.engine.shard().reader());
        readers.flat_map(|r| (0..r.slots()).filter_map(move |slot| r.read(Slot(slot)))).collect()
    }

    /// The session that a key names from either end.
    pub fn session(&self, key: &FlowKey) -> Option<SessionView> {
        self.sessions().into_iter().find(|s| s.keys.contains(key))
    }

    /// The same where there must be one.
    pub fn expect_session(&self, key: &FlowKey) -> SessionView {
        self.session(key).unwrap_or_else(|| panic!("no session {key:?}: {}", self.dump()))
    }

    /// The name of its state; "none" without a session.
    pub fn state(&self, key: &FlowKey) -> &'static str {
        self.session(key).map_or("none", |s| session::state_name(s.keys[0].proto(), s.state))
    }

    /// Everything, for the report of a failure; nothing is formatted unless it is printed.
    pub fn dump(&self) -> Dump<'_, B> {
        Dump(self)
    }

    fn describe(&self) -> String {
        let mut out = String::from("\n--- history\n");
        for line in &self.history {
            out += &format!("{line}\n");
        }
        out += &format!("--- at {} generation {}\n", self.now.0, self.snapshot.generation);
        for id in 0..self.workers.len() {
            out += &format!("worker {id}: {:?}\n", self.totals(id));
        }
        for s in self.sessions() {
            let state = session::state_name(s.keys[0].proto(), s.state);
            out += &format!("{:?} {state} {:?} {:?} {:?}\n", s.keys[0], s.binding, s.path, s.packets);
        }
        out
    }
}

/// See [`Firewall::dump`].
pub struct Dump<'f, B>(&'f Firewall<B>);

impl<B: TestBuf> fmt::Display for Dump<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.describe())
    }
}

/// The port behind which a host of the picture is.
pub fn port_of(addr: Addr) -> PortId {
    let link = neighbour_of(addr);
    let net = match link {
        Addr::V4([_, net, ..]) => net,
        Addr::V6([_, _, _, net, ..]) => net,
    };
    PORTS[usize::from(net) - 1]
}

/// A frame as the neighbour of the picture sends it to the firewall.
pub fn dressed(ingress: PortId, frame: &Frame) -> Vec<u8> {
    let from = mac_of(neighbour_of(frame.key().src()));
    frame.clone().eth(from, port_mac(ingress)).bytes()
}

fn worker<B: TestBuf>(id: WorkerId, setup: &Setup) -> Worker<B> {
    let counters = Arc::new(Counters::new(COUNTER_SLOTS.min(64)));
    let (notices_in, notices) = rtrb::RingBuffer::new(setup.notices);
    let config = EngineConfig {
        worker: id,
        counters: Arc::clone(&counters),
        notices: notices_in,
        pending_max: setup.pending_max,
    };
    let shard_config =
        ShardConfig { half_open_max: setup.half_open_max, hash_key: HashKey::new([3, 14, 15]), term: 1 };
    let shard = Shard::new(Memory::on_heap(setup.slots).unwrap(), shard_config, setup.start);
    let io =
        Io { sent: Vec::new(), handed: Vec::new(), core: Vec::new(), ring: usize::MAX, pool: usize::MAX };
    Worker { engine: Engine::new(config, shard), counters, io, notices, told: Counted::new() }
}

fn snapshot_of(setup: &Setup, slots: &mut RuleSlots) -> Snapshot {
    Snapshot {
        generation: 1,
        ports: setup.ports.clone().into(),
        policy: Arc::new(Policy::compile(&setup.rules, slots).unwrap()),
        routes: Arc::new(Routes::build(&setup.routes).unwrap()),
        neighbours: Arc::new(NeighbourTable::default()),
        timeouts: setup.timeouts,
        steering: Steering::new(ToeplitzKey::default(), setup.workers),
        pair: setup.pair,
    }
}
