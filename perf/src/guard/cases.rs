//! The cases of the guard: each prepares something, and has [`counted`] run the hot path and nothing else.
//!
//! Everything that a count could depend on is the same in every run: keys, seeds, policies, the order of
//! packets, and the time, which stands still or passes by hand.

use super::mirror::{Stage, mirror};
use super::{Result, counted};
use crate::bed::{Bed, BedConfig, SPARE, drops};
use crate::flows::{Flows, Kind as Packets, Shuffle, Step, Traffic};
use crate::load::{Load, Order};
use crate::rig::{Ground, Part, Rig, RigConfig};
use crate::subject::Subject;
use crate::world::{LAN, WAN};
use dpdk::{Eal, Mempool, MempoolConfig};
use engine::counters::DropReason;
use engine::{BURST, Burst, Ticks};
use std::hint::black_box;
use sync::datagram::{HEADER, Header, Kind, MAX_DATAGRAM, Purpose, VERSION};
use sync::ids::{Incarnation, NodeId, PairId, PathId, Version};
use sync::record::{
    Addresses, Key, Lifetime, Record, RecordWriter, Records, RuleRef, Session, Shared, State, TcpHalf,
    TcpSnapshot, Tuple,
};
use sync::seal::{Root, Sealer};

/// Sessions in the tables of the cases: enough for alternates and displaced places in the index.
const SESSIONS: u32 = 20_000;
/// Sessions of the case that shows what a larger table adds in instructions.
const MANY: u32 = 100_000;
/// Bursts of a case.
const BURSTS: u32 = 200;
/// Packet buffers of the cases with ports.
const MBUFS: u32 = 4_095;

/// A hot path; returns how many operations it ran inside [`counted`].
pub(super) type Case = fn() -> Result<u64>;

/// All of them by name.
pub(super) const CASES: [(&str, Case); 20] = [
    ("parse tcp4", || parse(Traffic::Tcp4)),
    ("parse udp6", || parse(Traffic::Udp6)),
    ("look up", look_up),
    ("forward tcp4", || forward(Traffic::Tcp4, SESSIONS)),
    ("forward tcp4, 100 k sessions", || forward(Traffic::Tcp4, MANY)),
    ("forward udp4", || forward(Traffic::Udp4, SESSIONS)),
    ("forward tcp6", || forward(Traffic::Tcp6, SESSIONS)),
    ("new tcp4 session, 1000 rules", || open(Traffic::Tcp4, false)),
    ("new udp4 session, 1000 rules, told", || open(Traffic::Udp4, true)),
    ("worker: forward tcp4", || turns(Traffic::Tcp4, Part::Alone)),
    ("worker: forward tcp4, partner", || turns(Traffic::Tcp4, Part::Active)),
    ("worker: refuse udp4, no rule", || refuse(Traffic::Udp4, Packets::BACK)),
    ("worker: refuse tcp4, no session", || refuse(Traffic::Tcp4, Packets::FORTH)),
    ("encode and seal a record", encode_and_seal),
    ("decode a record", decode),
    ("mirror: send a record", || mirror(Stage::Send)),
    ("mirror: receive a record", || mirror(Stage::Receive)),
    ("mirror: store a record", || mirror(Stage::Store)),
    ("mirror: scrub a session, active", || mirror(Stage::ScrubActive)),
    ("mirror: scrub a session, standby", || mirror(Stage::ScrubStandby)),
];

/// Small ports and packet buffers in ordinary pages: what starts under valgrind, too.
pub(super) fn ground() -> Result<Ground> {
    let eal = Eal::get().map_or_else(|| Eal::init(&dpdk::testing::test_config()), Ok)?;
    let pool = Mempool::create(eal, &MempoolConfig { capacity: MBUFS, cache: 256, ..Default::default() })?;
    Ground::over(pool)
}

/// A firewall whose time stands still.
pub(super) fn rig(ground: &Ground, slots: u32, part: Part) -> Result<Rig> {
    let mut rig = Rig::new(ground, RigConfig { slots: slots + SPARE, rules: 1_000, part })?;
    rig.firewall.stopped_at = Some(0);
    Ok(rig)
}

fn parse(traffic: Traffic) -> Result<u64> {
    let mut frame = [0; 128];
    let len = Flows::new(traffic).write(&mut frame, 5, Step::FromInitiator).ok_or("a frame")?;
    let frame = frame.get(..len).unwrap_or_default();
    let mut desc = wire::Desc::EMPTY;
    counted(|| {
        for _ in 0..BURSTS {
            // Refused frames would be cheaper; the bed's cases show that these are not.
            _ = black_box(wire::parse_into(&mut desc, black_box(frame), len, false));
        }
    });
    Ok(BURSTS.into())
}

fn bed(slots: u32, replicate: bool) -> Result<Bed> {
    Bed::new(BedConfig { slots, rules: 1_000, replicate })
}

fn look_up() -> Result<u64> {
    let (mut bed, flows, order) =
        (bed(SESSIONS + SPARE, false)?, Flows::new(Traffic::Udp4), Shuffle::new(SESSIONS));
    bed.open_sessions(&flows, Traffic::Udp4, SESSIONS);
    let keys: Vec<_> = (0..BURSTS * BURST as u32).map(|n| flows.key(order.flow(n))).collect();
    let shard = bed.engine.shard();
    let found = counted(|| keys.iter().filter(|key| shard.find(key, shard.hash(key)).is_some()).count());
    if found == keys.len() { Ok(found as u64) } else { Err("sessions that are not found".into()) }
}

fn forward(traffic: Traffic, sessions: u32) -> Result<u64> {
    let (mut bed, flows, order) =
        (bed(sessions + SPARE, false)?, Flows::new(traffic), Shuffle::new(sessions));
    bed.open_sessions(&flows, traffic, sessions);
    let (mut burst, mut passed) = (Burst::new(), 0);
    for number in 0..BURSTS {
        let (step, port) =
            if number & 1 == 0 { (Step::FromInitiator, LAN) } else { (Step::FromResponder, WAN) };
        let first = number * BURST as u32;
        bed.load(&mut burst, &flows, step, (first..).map(|n| order.flow(n)));
        counted(|| bed.run(Ticks(1), port, &mut burst));
        passed += bed.sink.sent.len() as u64;
    }
    let all = u64::from(BURSTS) * BURST as u64;
    if passed == all {
        Ok(all)
    } else {
        Err(format!("{passed} of {all} packets passed: {}", bed.drops()).into())
    }
}

fn open(traffic: Traffic, replicate: bool) -> Result<u64> {
    let (mut bed, flows, order) = (bed(SESSIONS, replicate)?, Flows::new(traffic), Shuffle::new(SESSIONS));
    let step = if traffic.is_tcp() { Step::Syn } else { Step::FromInitiator };
    let mut burst = Burst::new();
    for number in 0..BURSTS {
        let first = number * BURST as u32;
        bed.load(&mut burst, &flows, step, (first..).map(|n| order.flow(n)));
        counted(|| bed.run(Ticks(1), LAN, &mut burst));
        bed.drain_marks();
    }
    let all = BURSTS * BURST as u32;
    if bed.sessions() == all { Ok(all.into()) } else { Err(format!("sessions: {}", bed.drops()).into()) }
}

/// Whole turns of the worker on ports: receiving, the engine, housekeeping, sending.
fn turns(traffic: Traffic, part: Part) -> Result<u64> {
    let ground = ground()?;
    let (mut load, flows, mut order) = (Load::new(&ground), Flows::new(traffic), Order::new(SESSIONS));
    let mut rig = rig(&ground, SESSIONS, part)?;
    load.open(&mut rig, &flows, traffic, SESSIONS)?;
    let before = load.collected;
    for _ in 0..BURSTS / 2 {
        for kind in [Packets::FORTH, Packets::BACK] {
            load.inject(&mut rig.wires, &flows, kind, &mut order);
        }
        counted(|| rig.firewall.turn());
        load.collect(&mut rig.wires);
        rig.drain_marks();
    }
    let (passed, all) = (load.collected - before, u64::from(BURSTS) * BURST as u64);
    if passed == all {
        Ok(all)
    } else {
        Err(format!("{passed} of {all} packets passed: {}", drops(&rig.counters)).into())
    }
}

/// Packets that the worker drops.
fn refuse(traffic: Traffic, kind: Packets) -> Result<u64> {
    let ground = ground()?;
    let (mut load, flows, mut order) = (Load::new(&ground), Flows::new(traffic), Order::new(SESSIONS));
    let mut rig = rig(&ground, SESSIONS, Part::Alone)?;
    for _ in 0..BURSTS {
        load.inject(&mut rig.wires, &flows, kind, &mut order);
        counted(|| rig.firewall.turn());
        load.collect(&mut rig.wires);
    }
    let dropped: u64 = DropReason::all().map(|reason| rig.counters.drops(reason)).sum();
    let all = u64::from(BURSTS) * BURST as u64;
    if dropped == all && rig.sessions() == 0 {
        Ok(all)
    } else {
        Err(format!("of {all} packets were dropped: {}", drops(&rig.counters)).into())
    }
}

/// A body of established IPv4 connections, as many as fit a datagram of an ordinary link.
const BODY: usize = 1_500 - 28 - HEADER - 16;

fn sessions() -> impl Iterator<Item = Record> {
    let half = TcpHalf { end: 7_000, max_end: 70_000, ack: 6_000, max_window: 64_000, scale: 7 };
    (0_u32..).map(move |number| {
        let [_, a, b, c] = number.to_be_bytes();
        let tuple =
            Tuple { addresses: Addresses::V4([[10, a, b, c], [172, 16, 0, 1]]), ports: [40_000, 443] };
        Record::Session(Session {
            key: Key { tuple, proto: 6, vrf: 0 },
            reply: None,
            version: Version(u64::from(number)),
            group: sync::ids::GroupId(0),
            rule: RuleRef { id: 99, generation: 0 },
            zones: [0, 1],
            remaining: Lifetime::from_ms(7_440_000),
            state: State::Tcp(TcpSnapshot { state: 3, flags: 1, halves: [half; 2], mark: None, idle: false }),
            two_way: true,
            age_s: None,
            counters: None,
        })
    })
}

/// Fills a body; returns its length and its records.
fn encode(body: &mut [u8], records: &mut impl Iterator<Item = Record>) -> (usize, u64) {
    let mut writer = RecordWriter::new(body, Shared::default());
    while records.next().is_some_and(|record| writer.push(&record)) {}
    (writer.len(), writer.records().into())
}

fn encode_and_seal() -> Result<u64> {
    let mut sealer = Sealer::new(&Root::new(b"guard", b"no secret"), NodeId(0), Purpose::Traffic, PathId(0));
    let header = Header {
        version: VERSION,
        kind: Kind::Data,
        pair: PairId(1),
        sender: NodeId(0),
        path: PathId(0),
        incarnation: Incarnation(1),
        key_id: 1,
        counter: 0,
    };
    let (mut datagram, mut all) = ([0; MAX_DATAGRAM], 0);
    let mut records = sessions();
    for _ in 0..BURSTS {
        let sealed = counted(|| {
            let (len, records) = encode(datagram.get_mut(HEADER..HEADER + BODY)?, &mut records);
            all += records;
            sealer.seal(&header, &mut datagram, len)
        });
        sealed.ok_or("a datagram that cannot be sealed")?;
    }
    Ok(all)
}

fn decode() -> Result<u64> {
    let mut body = [0; BODY];
    let (len, count) = encode(&mut body, &mut sessions());
    let body = body.get(..len).unwrap_or_default();
    let mut read = 0;
    for _ in 0..BURSTS {
        read += counted(|| Records::new(black_box(body), Shared::default()).map(black_box).count() as u64);
    }
    if read == count * u64::from(BURSTS) { Ok(read) } else { Err("records that are not read".into()) }
}
