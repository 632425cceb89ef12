//! The generator against the daemon's worker: what it sends is accepted, and every packet is accounted for.
#![allow(clippy::unwrap_used)]

use dpdk::Mempool;
use engine::counters::Event;
use perf::flows::{FIREWALL, NEIGHBOUR, Traffic};
use perf::pktgen::{Drive, Generator, Outcome, Pace, Plan, Side, Sizes, drive};
use perf::rig::{Ground, Part, Rig, RigConfig};
use perf::subject::Subject;
use std::time::{Duration, Instant};
use wire::ether::Link;

/// So fast that nothing is ever sent again while the machine does something else.
const HZ: f64 = 1e12;
/// Of tests whose time passes by hand, in nanoseconds.
const BY_HAND: f64 = 1e9;

fn plan(flows: u32, packets_per_flow: u32, sizes: Sizes) -> Plan {
    Plan {
        flows,
        traffic: Traffic::ALL.to_vec(),
        sizes,
        packets_per_flow,
        new_per_second: 0.0,
        links: [Link { src: NEIGHBOUR, dst: FIREWALL }; 2],
        hz: HZ,
        timed_every: 4,
    }
}

fn rig(pool: &Mempool, slots: u32) -> (Ground, Rig) {
    let ground = Ground::over(*pool).unwrap();
    let rig = Rig::new(&ground, RigConfig { slots, rules: 10, part: Part::Alone }).unwrap();
    (ground, rig)
}

/// Until `done`, then until nothing is under way.
fn play(
    ground: &Ground,
    rig: &mut Rig,
    generator: &mut Generator,
    mut done: impl FnMut(u64) -> bool,
) -> Outcome {
    let Rig { firewall, wires, .. } = rig;
    let pace = Pace::new(0.0, 1, HZ);
    let mut driven = Drive { generator, wire: wires, pool: ground.pool, pace, neighbours: None };
    let mut turns = 0;
    let outcome = drive(&mut driven, |_| {
        firewall.turn();
        turns += 1;
        !done(turns)
    });
    for _ in 0..100 {
        firewall.turn();
        driven.drain();
    }
    outcome
}

#[dpdk::test(capacity = 4095, cache = 64)]
fn connections_open_send_and_close_and_the_firewall_passes_every_packet(pool: &Mempool) {
    for sizes in [Sizes::Fixed(64), Sizes::Imix] {
        let (ground, mut rig) = rig(pool, 65_536);
        let mut generator = Generator::new(plan(500, 6, sizes)).unwrap();
        let outcome = play(&ground, &mut rig, &mut generator, |turns| turns == 2_000);
        let counts = generator.counts;
        assert_eq!(perf::bed::drops(&rig.counters), "", "{sizes:?}: {counts:?}");
        assert_eq!(
            (outcome.unsent, counts.given_up, counts.stale, counts.foreign),
            (0, 0, 0, 0),
            "{sizes:?}"
        );
        assert_eq!(counts.sent, counts.arrived, "{sizes:?}");
        assert_eq!(rig.counters.event(Event::Created), counts.begun, "{sizes:?}");
        assert!(counts.closed > 1_000 && counts.opened >= counts.closed, "{sizes:?}: {counts:?}");
        assert!(generator.latency.percentiles(HZ).samples > 1_000, "{sizes:?}");
    }
}

#[dpdk::test(capacity = 4095, cache = 64)]
fn every_connection_becomes_established_in_the_engine(pool: &Mempool) {
    let (ground, mut rig) = rig(pool, 4_096);
    let mut generator = Generator::new(plan(2_000, 0, Sizes::Fixed(64))).unwrap();
    play(&ground, &mut rig, &mut generator, |turns| turns == 4_000);
    assert_eq!(generator.open(), 2_000);
    assert_eq!((rig.sessions(), rig.counters.half_open()), (2_000, 0));
    // TCP, UDP, ICMP, others: half of the flows each of the first two.
    assert_eq!(rig.counters.sessions()[..2], [1_000, 1_000]);
    assert_eq!(perf::bed::drops(&rig.counters), "");

    // And they all close when they are told to, in both families.
    generator.close_after(1);
    let began = Instant::now();
    play(&ground, &mut rig, &mut generator, |_| began.elapsed() > Duration::from_secs(1));
    assert!(generator.counts.closed >= 2_000, "{:?}", generator.counts);
    assert_eq!(generator.counts.given_up, 0);
}

#[dpdk::test(capacity = 4095, cache = 64)]
fn what_is_sent_arrives_or_is_dropped_under_a_counter(pool: &Mempool) {
    // Room for a tenth of the connections: the others are refused.
    let (ground, mut rig) = rig(pool, 200);
    let mut generator = Generator::new(plan(2_000, 0, Sizes::Fixed(64))).unwrap();
    let outcome = play(&ground, &mut rig, &mut generator, |turns| turns == 2_000);
    let dropped: u64 = engine::counters::DropReason::all().map(|reason| rig.counters.drops(reason)).sum();
    let counts = generator.counts;
    assert!(dropped > 0);
    let unsent = outcome.unsent + rig.firewall.stats.not_sent_total();
    assert_eq!(counts.sent, counts.arrived + dropped + unsent, "{}", perf::bed::drops(&rig.counters));
}

/// Time passes by hand, and every seventh packet is lost.
#[test]
fn connections_survive_a_path_that_loses_packets() {
    let mut plan = plan(100, 5, Sizes::Fixed(64));
    (plan.traffic, plan.hz) = (vec![Traffic::Tcp4, Traffic::Tcp6], BY_HAND);
    let mut generator = Generator::new(plan).unwrap();
    let (mut frame, mut number) = ([0; 1_600], 0_u32);
    for ms in 0..60_000_u64 {
        let now = ms * 1_000_000;
        for side in Side::BOTH {
            for _ in 0..4 {
                let Some(len) = generator.next(side, now, &mut frame) else { break };
                number += 1;
                if number % 7 != 0 {
                    generator.arrived(side.other(), now, &frame[..len]);
                }
            }
        }
    }
    let counts = generator.counts;
    assert!(counts.closed > 500 && counts.again > 500, "{counts:?}");
    // Six losses in a row are rare, but not unheard of.
    assert!(counts.given_up * 20 < counts.closed, "{counts:?}");
}

#[test]
fn new_connections_keep_to_their_rate() {
    let mut plan = plan(10_000, 0, Sizes::Fixed(64));
    (plan.new_per_second, plan.hz) = (1_000.0, BY_HAND);
    let mut generator = Generator::new(plan).unwrap();
    let mut frame = [0; 1_600];
    for us in 0..2_000_000_u64 {
        generator.next(Side::Lan, us * 1_000, &mut frame);
    }
    let begun = generator.counts.begun;
    assert!((2_000..=2_101).contains(&begun), "two seconds and the burst: {begun}");
}

#[test]
fn impossible_plans_are_refused() {
    assert!(Generator::new(plan(0, 0, Sizes::Imix)).is_none());
    assert!(Generator::new(plan((1 << 24) + 1, 0, Sizes::Imix)).is_none());
    assert!(Generator::new(Plan { traffic: vec![], ..plan(1, 0, Sizes::Imix) }).is_none());
}
