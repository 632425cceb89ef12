//! Does forwarding care how session sync fares? And does the active node say truly what its partner lacks?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, LabOptions, PairSettings, SyncLink,
    echo::EchoServer,
    faults,
    forwarder::{Direction, Impairment},
    generator::Generator,
    netns,
    stream::{StreamKind, Streams},
};
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;
/// What a node without a partner may send on the sync link: heartbeats and attempts to shake hands.
const PROBES_BYTES_PER_S: u64 = 20_000;
const CHURN: u32 = 60_000;
const CHURN_PER_S: u32 = 20_000;

/// New sessions without end at a node whose partner is dead: each lives for two seconds.
fn churn_alone(length: Duration) {
    let options = LabOptions::pair(PairSettings::default())
        .overlay("[timeouts]\nudp-new = 2\nudp = 2\n[sessions]\ncapacity = 131072\n");
    let mut bench = PairBench::with(options);
    bench.kill(Host::B);
    let generator = Generator::new(Family::V4, CHURN).unwrap();
    // All pages of the table that will be touched are, after this.
    generator.send(0..CHURN, CHURN_PER_S);
    let process = bench.process(Host::A);
    let sent = || netns::counters(Host::A, "sync0").unwrap().tx_bytes;
    let (resident, bytes, started) = (process.resident_kib().unwrap(), sent(), Instant::now());
    let created = |bench: &mut PairBench| bench.operator(Host::A).status().unwrap().sessions.created_total;
    let before = created(&mut bench);
    while started.elapsed() < length {
        generator.send(0..CHURN, CHURN_PER_S);
        let now = process.resident_kib().unwrap();
        assert!(now < resident + 4096, "{resident} KiB, then {now} KiB after {:?}", started.elapsed());
    }
    let (seconds, fresh) = (started.elapsed().as_secs(), created(&mut bench) - before);
    assert!(fresh > 5_000 * seconds, "only {fresh} new sessions in {seconds} s");
    let carried = sent() - bytes;
    assert!(carried < PROBES_BYTES_PER_S * (seconds + 1), "{carried} bytes in {seconds} s for nobody");
    let view = bench.view(Host::A).unwrap();
    assert!(view.role == "active" && !view.partner_heard, "{view:?}");
}

#[test]
fn b_24_new_sessions_without_a_partner_cost_no_memory_and_no_sync_traffic() {
    churn_alone(Duration::from_secs(9));
}

#[test]
#[ignore = "minutes: make soak"]
fn b_24_ten_minutes_of_new_sessions_without_a_partner_cost_no_memory() {
    churn_alone(Duration::from_secs(600));
}

#[test]
fn x_14_more_new_sessions_than_the_link_carries_are_counted_and_slow_no_packet() {
    let options = LabOptions::pair(PairSettings::default()).overlay("[pair]\nlan-fallback = false\n");
    let mut bench = PairBench::with(options);
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    bench.wait_equal(4);
    // A long and bad cable: what is on its way is bounded, and much of it has to go twice.
    let slow = Impairment { delay_ms: 60, loss: 10.0, ..Impairment::default() };
    faults::impair(SyncLink::FIRST, slow).unwrap();
    let generator = Generator::new(Family::V4, 120_000).unwrap();
    let begun = Instant::now();
    let (mut behind, mut next) = (0, 0);
    while next < 120_000 {
        generator.send(next..next + 6_000, 40_000);
        next += 6_000;
        let a = bench.view(Host::A).unwrap();
        let b = bench.view(Host::B).unwrap();
        // B was asked later and only grows: what it lacks now it lacked then. A's own two numbers are those
        // of two threads, a tenth of a second apart at most.
        let lacks = a.sessions.saturating_sub(b.sessions);
        behind = behind.max(lacks);
        assert!(a.unprotected + 4_000 >= lacks, "a owns up to {}, b lacks {lacks}", a.unprotected);
        assert!(lacks < 8_000 || !a.in_sync, "{a:?}");
    }
    let loaded = begun.elapsed();
    tests::never_silent(&streams, begun, begun + loaded, Duration::from_millis(250));
    assert!(behind > 2_000, "no overload: b was {behind} sessions behind at most");
    // Now that nothing changes the two numbers are the same to the last session.
    faults::impair(SyncLink::FIRST, Impairment::default()).unwrap();
    bench.wait_ready(Host::A);
    let blocked = Impairment { loss: 100.0, direction: Direction::FromA, ..Impairment::default() };
    faults::impair(SyncLink::FIRST, blocked).unwrap();
    let more = Generator::new(Family::V6, 500).unwrap();
    more.send(0..500, 5_000);
    tests::eventually("unprotected", true, || {
        let (a, b) = (bench.view(Host::A).unwrap(), bench.view(Host::B).unwrap());
        a.sessions >= b.sessions + 490 && a.unprotected == a.sessions - b.sessions
    });
    thread::sleep(Duration::from_millis(500));
    faults::mend_all().unwrap();
    bench.wait_ready(Host::A);
    tests::eventually("nothing lacks", 0, || {
        let (a, b) = (bench.view(Host::A).unwrap(), bench.view(Host::B).unwrap());
        a.sessions.abs_diff(b.sessions)
    });
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
}

/// Places of the table are used again and again while the scrubber reads them.
fn churn_watched(length: Duration) {
    let options = LabOptions::pair(PairSettings::default())
        .overlay("[timeouts]\ntcp-time-wait = 4\ntcp-close = 4\nudp-new = 4\nudp = 4\n");
    let mut bench = PairBench::with(options);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mark = Mark::now();
    let started = Instant::now();
    let generator = Generator::new(Family::V4, 2_000).unwrap();
    while started.elapsed() < length {
        drop(tests::connections(Family::V4, ECHO, 20));
        drop(tests::connections(Family::V6, ECHO, 20));
        generator.send(0..2_000, 20_000);
        thread::sleep(Duration::from_millis(100));
    }
    for host in Host::NODES {
        let events = bench.events(host, mark);
        let corrupt: Vec<_> = events.iter().filter(|event| event.name == "mirror_corrupt").collect();
        assert!(corrupt.is_empty(), "{host:?}: {} in {length:?}, such as {:?}", corrupt.len(), corrupt[0]);
        assert!(!events.iter().any(|event| event.name == "role_changed"), "{host:?}: {events:?}");
    }
    bench.wait_ready(Host::A);
}

#[test]
fn x_03_sessions_that_come_and_go_are_not_taken_for_corrupt_ones() {
    churn_watched(Duration::from_secs(15));
}

#[test]
#[ignore = "minutes: make soak"]
fn x_03_minutes_of_sessions_that_come_and_go_are_not_taken_for_corrupt_ones() {
    churn_watched(Duration::from_secs(180));
}
