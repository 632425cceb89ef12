//! Users: they open flows, use and close them, and use the same ports again.

use crate::check::{HALF_OPEN_STATE, LOCAL_RULE, YOUNG_RULE};
use crate::hash::Map;
use crate::rng::Rng;
use crate::setup::Load;
use crate::tables::{Class, NO_ZONE, bucket};
use sync::ids::{GroupId, Micros, Version};
use sync::record::{Addresses, Key, Lifetime, RuleRef, Session, State, TCP, TcpHalf, TcpSnapshot, Tuple};

/// What a packet does to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// Opens it if there is none, and moves its state.
    Use,
    /// The same, and nothing of it has to be told.
    Idle,
    /// Ends it.
    End,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Which flow.
    pub flow: u32,
    pub act: Act,
    /// From the other end to the initiator.
    pub back: bool,
    /// Of a steady session: it is counted.
    pub counted: bool,
    /// It was sent on by a node already.
    pub hopped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Local,
    HalfOpen,
    Young,
    Untakable,
}

/// One flow that may be open or not.
#[derive(Clone, Copy, Debug)]
struct Flow {
    key: Key,
    kind: Kind,
    nat: bool,
    short: bool,
}

/// All of them.
pub(crate) struct Workload {
    pub load: Load,
    flows: Vec<Flow>,
    rng: Rng,
    opened: u32,
    /// Every second packet is an answer.
    packets: u32,
}

const TCP_OPEN: u8 = 4;

impl Workload {
    pub fn new(load: Load, mut rng: Rng) -> Self {
        let mut known: Map<Key, ()> = Map::default();
        let flows = (0..load.steady + load.flows).map(|index| {
            loop {
                let flow = flow(index, &load, &mut rng);
                let reply = Key { tuple: flow.key.tuple.reversed(), ..flow.key };
                if known.insert(flow.key, ()).is_none() && known.insert(reply, ()).is_none() {
                    return flow;
                }
            }
        });
        let flows = flows.collect();
        Self { load, flows, rng, opened: 0, packets: 0 }
    }

    pub fn key(&self, flow: u32) -> Key {
        self.flows[flow as usize].key
    }

    /// Some user's next packet.
    pub fn packet(&mut self) -> Packet {
        let flow = self.load.steady + self.rng.below(self.load.flows.into()) as u32;
        let act = match self.rng.below(1_000) as u32 {
            at if at < self.load.ends => Act::End,
            at if at < (1_000 + self.load.ends) / 2 => Act::Idle,
            _ => Act::Use,
        };
        Packet { flow, act, back: self.is_answer(), counted: false, hopped: false }
    }

    /// The next packet of the steady sessions.
    pub fn steady(&mut self) -> Packet {
        let flow = self.rng.below(self.load.steady.max(1).into()) as u32;
        let act = if self.rng.chance(100) { Act::Use } else { Act::Idle };
        Packet { flow, act, back: self.is_answer(), counted: true, hopped: false }
    }

    fn is_answer(&mut self) -> bool {
        self.packets = self.packets.wrapping_add(1);
        self.packets.is_multiple_of(2)
    }

    /// A flow's session as it begins.
    pub fn session(&mut self, flow: u32, now: Micros) -> (Session, Class) {
        let Flow { key, kind, nat, short } = self.flows[flow as usize];
        self.opened += 1;
        let half_open = kind == Kind::HalfOpen;
        let state = if key.proto == TCP {
            let half =
                TcpHalf { end: self.opened << 8, max_end: self.opened << 8 | 255, ..TcpHalf::default() };
            let halves = [half, TcpHalf { ack: half.end, ..half }];
            let state = if half_open { HALF_OPEN_STATE } else { TCP_OPEN };
            State::Tcp(TcpSnapshot { state, halves, ..TcpSnapshot::default() })
        } else {
            State::Flow(1)
        };
        let (id, class) = match kind {
            Kind::Plain | Kind::Untakable => (7, Class::Plain),
            Kind::Local => (LOCAL_RULE, Class::Local),
            Kind::HalfOpen => (7, Class::HalfOpen),
            Kind::Young => (YOUNG_RULE, Class::Young { until: now.after(Micros(self.load.min_age_us)) }),
        };
        let session = Session {
            key,
            reply: if nat { self.translated(&key) } else { None },
            version: Version(0),
            group: GroupId(0),
            rule: RuleRef { id, generation: u16::from(short) },
            zones: [0, if kind == Kind::Untakable { NO_ZONE } else { 1 }],
            remaining: Lifetime::default(),
            state,
            two_way: false,
            age_s: None,
            counters: None,
        };
        (session, class)
    }

    /// Source NAT: a port of our own address whose replies fall into the same bucket (decision 5). There
    /// are few, so they are used again soon (decision 22).
    fn translated(&mut self, key: &Key) -> Option<Tuple> {
        let Addresses::V4([_, server]) = key.tuple.addresses else { return None };
        let wanted = bucket(&key.tuple);
        let from = 1_024 + self.rng.below(512) as u16;
        let fits = |port: u16| {
            let ports = [key.tuple.ports[1], port];
            let tuple = Tuple { addresses: Addresses::V4([server, [192, 0, 2, 1]]), ports };
            (bucket(&tuple) == wanted).then_some(tuple)
        };
        (from..from + 4_096).find_map(fits)
    }
}

fn flow(index: u32, load: &Load, rng: &mut Rng) -> Flow {
    let steady = index < load.steady;
    let proto = rng.pick(&[TCP, TCP, TCP, 17, 17, 1, 47]);
    let ports =
        if proto == 47 { [0, 0] } else { [rng.range(32_768, 60_999) as u16, rng.pick(&[53, 80, 443])] };
    let v6 = rng.chance(250);
    let addresses = if v6 {
        let mut pair = [[0; 16]; 2];
        pair[0][..2].copy_from_slice(&[0xfd, 1]);
        pair[1][..2].copy_from_slice(&[0xfd, 2]);
        pair[0][12..].copy_from_slice(&(rng.below(1 << 20) as u32).to_be_bytes());
        pair[1][15] = rng.below(8) as u8;
        Addresses::V6(pair)
    } else {
        let client = rng.below(1 << 16).to_le_bytes();
        Addresses::V4([[10, 1, client[0], client[1]], [10, 2, 0, rng.below(8) as u8]])
    };
    let key = Key { tuple: Tuple { addresses, ports }, proto, vrf: 0 };
    let at = rng.below(1_000) as u32;
    let kind = if steady {
        Kind::Plain
    } else if at < load.untakable {
        Kind::Untakable
    } else if at < load.untakable + load.local {
        Kind::Local
    } else if at < load.untakable + 2 * load.local {
        Kind::Young
    } else if proto == TCP && rng.chance(100) {
        Kind::HalfOpen
    } else {
        Kind::Plain
    };
    let nat = !v6 && proto != 47 && rng.chance(300);
    Flow { key, kind, nat, short: !steady && rng.chance(80) }
}
