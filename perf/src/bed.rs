//! A firewall without ports: an engine with one shard, a policy, and neighbours that are there.

use crate::flows::{FIREWALL, Flows, NEIGHBOUR, Step, Traffic};
use crate::region::{self, Pages};
use engine::counters::DropReason;
use engine::neighbour::{Adjacency, AdjacencyState, NeighbourTable, NextHop};
use engine::policy::generate::generate;
use engine::policy::{Action, COUNTER_SLOTS, Policy, Rule, RuleSlots, ZoneSet};
use engine::routes::{Gateway, Route, Routes};
use engine::table::{HashKey, Memory, Shard, ShardConfig};
use engine::track::Timeouts;
use engine::{
    Burst, Engine, EngineConfig, PacketIo, PortId, PortView, RuleId, Snapshot, Steering, Ticks, WorkerId,
    ZoneId,
};
use std::sync::Arc;
use wire::{Addr, HeapBuf, PacketBuf};

/// The port of the initiators.
pub const LAN: PortId = PortId(0);
/// The port of the responders.
pub const WAN: PortId = PortId(1);

const LAN_GATEWAY: Addr = Addr::V4([192, 0, 2, 2]);
const WAN_GATEWAY: Addr = Addr::V4([198, 51, 100, 2]);
const LAN_GATEWAY6: Addr = Addr::V6([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
const WAN_GATEWAY6: Addr = Addr::V6([0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

/// What a bed is for.
#[derive(Clone, Copy, Debug)]
pub struct BedConfig {
    /// Slots of the table.
    pub slots: u32,
    /// Rules of the policy; the last one admits the traffic.
    pub rules: usize,
    /// Whether changes go to a (drained) ring as with a partner.
    pub replicate: bool,
}

/// The sink: what the engine sends goes back to the generator's pool.
#[derive(Default)]
pub struct Sink {
    /// Frames that came out, until somebody takes them back.
    pub sent: Vec<HeapBuf>,
}

impl PacketIo for Sink {
    type Buf = HeapBuf;

    fn alloc(&mut self) -> Option<HeapBuf> {
        Some(HeapBuf::new())
    }

    #[inline(always)]
    fn send(&mut self, _: PortId, frame: HeapBuf) {
        self.sent.push(frame);
    }

    fn hand_over(&mut self, _: WorkerId, _: PortId, _: HeapBuf) -> bool {
        false
    }
}

/// The firewall, its surroundings, and the pool of frames.
pub struct Bed {
    /// The engine under test.
    pub engine: Engine<HeapBuf>,
    /// Its counters.
    pub counters: Arc<engine::counters::Counters>,
    /// What it knows.
    pub snapshot: Snapshot,
    /// Where its frames go.
    pub sink: Sink,
    /// What its table is made of.
    pub pages: Pages,
    dirty: Option<(engine::table::dirty::DirtyFlags<'static>, rtrb::Consumer<u32>)>,
    pool: Vec<HeapBuf>,
    _notices: rtrb::Consumer<engine::Notice>,
}

impl Bed {
    /// A bed with an empty table.
    pub fn new(config: BedConfig) -> Result<Bed, Box<dyn std::error::Error>> {
        let (region, pages) = region::zeroed(Memory::bytes(config.slots))?;
        let memory = Memory::carve(region, config.slots).ok_or("the region does not fit")?;
        let shard_config = ShardConfig {
            half_open_max: config.slots,
            hash_key: HashKey::new([0x1357_9bdf_0246_8ace, 0xfdb9_7531_eca8_6420, 0x0123_4567_89ab_cdef]),
            term: 1,
        };
        let mut shard = Shard::new(memory, shard_config, Ticks(0));
        let dirty = config.replicate.then(|| shard.track_changes());
        let counters = Arc::new(engine::counters::Counters::new(COUNTER_SLOTS));
        let (tx, notices) = rtrb::RingBuffer::new(1_024);
        let engine_config =
            EngineConfig { worker: WorkerId(0), counters: counters.clone(), notices: tx, pending_max: 256 };
        Ok(Bed {
            engine: Engine::new(engine_config, shard),
            counters,
            snapshot: snapshot(config.rules)?,
            sink: Sink { sent: Vec::with_capacity(64) },
            pages,
            dirty,
            pool: (0..512).map(|_| HeapBuf::new()).collect(),
            _notices: notices,
        })
    }

    /// Fills a burst with the flows' packets at this step.
    pub fn load(
        &mut self,
        burst: &mut Burst<HeapBuf>,
        flows: &Flows,
        step: Step,
        numbers: impl Iterator<Item = u32>,
    ) {
        self.pool.append(&mut self.sink.sent);
        for flow in numbers.take(burst.remaining_capacity()) {
            let mut frame = self.pool.pop().unwrap_or_default();
            frame.set_len(128);
            if let Some(len) = flows.write(frame.bytes_mut(), flow, step) {
                frame.set_len(len);
            }
            burst.push(frame);
        }
    }

    /// Takes the burst through the engine.
    #[inline(always)]
    pub fn run(&mut self, now: Ticks, ingress: PortId, burst: &mut Burst<HeapBuf>) {
        self.engine.process(now, &self.snapshot, ingress, burst, &mut self.sink);
        self.engine.housekeep(now, &self.snapshot, &mut self.sink);
    }

    /// What a sync core would do with the marks: pop and clear.
    pub fn drain_marks(&mut self) -> usize {
        let Some((flags, ring)) = &mut self.dirty else { return 0 };
        let mut drained = 0;
        while let Ok(slot) = ring.pop() {
            flags.take(slot);
            drained += 1;
        }
        drained
    }

    /// Opens `count` sessions through the engine, handshakes and all.
    pub fn open_sessions(&mut self, flows: &Flows, traffic: Traffic, count: u32) {
        let steps: &[(Step, PortId)] = if traffic.is_tcp() {
            &[(Step::Syn, LAN), (Step::SynAck, WAN), (Step::FromInitiator, LAN)]
        } else {
            &[(Step::FromInitiator, LAN), (Step::FromResponder, WAN)]
        };
        let mut burst = Burst::new();
        for first in (0..count).step_by(engine::BURST) {
            for (step, port) in steps {
                let last = count.min(first + engine::BURST as u32);
                self.load(&mut burst, flows, *step, first..last);
                self.run(Ticks(0), *port, &mut burst);
            }
            self.drain_marks();
        }
    }

    /// What was dropped, by reason, for error messages.
    pub fn drops(&self) -> String {
        let reasons = DropReason::all().filter(|reason| self.counters.drops(*reason) > 0);
        reasons
            .map(|reason| format!("{} {}", self.counters.drops(reason), reason.name()))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Sessions in the table.
    pub fn sessions(&self) -> u32 {
        self.engine.shard().population().in_use.iter().sum()
    }
}

fn snapshot(rules: usize) -> Result<Snapshot, Box<dyn std::error::Error>> {
    let (lan, wan) = (ZoneId(0), ZoneId(1));
    let mut list = generate(7, rules.saturating_sub(1), 8);
    // The generated rules are asked like any others; those that match the bench's own traffic admit it.
    list.iter_mut().for_each(|rule| rule.action = Action::Allow);
    list.push(Rule {
        name: "bench".into(),
        id: RuleId::from_name("bench"),
        from: ZoneSet::from(lan),
        to: ZoneSet::from(wan),
        source: Vec::new(),
        destination: Vec::new(),
        services: Vec::new(),
        action: Action::Allow,
        log: false,
        replicate: true,
        sync_after_s: 0,
        group: engine::GroupId(0),
    });
    let policy = Policy::compile(&list, &mut RuleSlots::new())?;
    let route = |prefix: &str, port, gateway| -> Result<Route, Box<dyn std::error::Error>> {
        Ok(Route { prefix: prefix.parse()?, port, gateway: Gateway::Via(gateway) })
    };
    let routes = Routes::build(&[
        route("10.0.0.0/8", LAN, LAN_GATEWAY)?,
        route("0.0.0.0/0", WAN, WAN_GATEWAY)?,
        route("fd00:a::/32", LAN, LAN_GATEWAY6)?,
        route("::/0", WAN, WAN_GATEWAY6)?,
    ])?;
    let hop = |port| Adjacency::new(port, 1_500, FIREWALL, NEIGHBOUR, AdjacencyState::Resolved, 0);
    let neighbours = NeighbourTable::new(
        1,
        vec![hop(LAN), hop(WAN)],
        [(LAN, LAN_GATEWAY, 0), (WAN, WAN_GATEWAY, 1), (LAN, LAN_GATEWAY6, 0), (WAN, WAN_GATEWAY6, 1)]
            .map(|(port, addr, place)| (port, addr, NextHop::new(place, 0))),
    );
    let port = |zone| PortView {
        zone,
        mac: FIREWALL,
        mtu: 1_500,
        addresses: Vec::new(),
        broadcasts: Vec::new(),
        virtual_mac: None,
        node_address: Vec::new(),
        partner_address: Vec::new(),
    };
    Ok(Snapshot {
        generation: 1,
        ports: vec![port(lan), port(wan)],
        policy: Arc::new(policy),
        routes: Arc::new(routes),
        neighbours: Arc::new(neighbours),
        timeouts: Timeouts::default(),
        steering: Steering::new(wire::ToeplitzKey::new(0x6d5a).ok_or("a key with bits")?, 1),
        pair: engine::snapshot::PairView::default(),
    })
}
