//! Do the tables stay equal over links that lose, double and swap frames, and beside a partner that does not
//! answer?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, LabOptions, PairSettings, SyncLink,
    crowd::TcpCrowd,
    echo::EchoServer,
    faults,
    forwarder::{Direction, Impairment},
    generator::Generator,
    stream::{StreamKind, Streams},
};
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;
/// How long closed connections are kept: `tcp-time-wait` below.
const CLOSED: Duration = Duration::from_secs(5);
const BAD: Impairment =
    Impairment { loss: 20.0, duplication: 5.0, reordering: 5.0, delay_ms: 0, direction: Direction::Both };

/// A pair whose only way for session sync is the bad link.
fn bad_link(impairment: Impairment) -> PairBench {
    // Nothing runs out while the test runs: what is gone was lost. Closed connections are the exception.
    let options = LabOptions::pair(PairSettings::default())
        .overlay("[pair]\nlan-fallback = false\n[timeouts]\nudp-new = 7200\nudp = 7200\ntcp-time-wait = 5\n");
    let bench = PairBench::with(options);
    faults::impair(SyncLink::FIRST, impairment).unwrap();
    bench
}

fn converge(length: Duration) {
    let mut bench = bad_link(BAD);
    let mark = Mark::now();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 40, Duration::from_millis(50)).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    let generator = Generator::new(Family::V4, 20_000).unwrap();
    let started = Instant::now();
    let mut opened = 0;
    while started.elapsed() < length {
        if opened < 20_000 {
            generator.send(opened..opened + 1_000, 10_000);
            opened += 1_000;
        }
        // Others come and go all the time.
        drop(tests::connections(Family::V6, ECHO, 20));
        thread::sleep(Duration::from_millis(200));
    }
    // Closed connections go on both nodes; what is left must be the same. The two tables are not read at
    // one moment, so the last ones are waited for.
    thread::sleep(CLOSED + Duration::from_secs(2));
    bench.wait_ready(Host::A);
    bench.wait_equal(40 + 4 + opened as usize * 9 / 10);
    for host in Host::NODES {
        assert!(!bench.event_names(host, mark).contains("role_changed"), "{:?}", bench.events(host, mark));
    }
    let kill = lab::demo::pair::kill_active(bench.lab(), Host::A).unwrap();
    let resumed = kill.at + kill.detected.unwrap();
    assert_eq!(tcp.wait_alive_since(resumed, Duration::from_secs(15)), 40, "{:?}", tcp.members());
    assert!(streams.tracks().iter().all(|track| track.last().is_some_and(|last| last.at > resumed)));
}

#[test]
fn s_21_b_23_tables_become_equal_over_a_bad_link() {
    converge(Duration::from_secs(4));
}

#[test]
#[ignore = "minutes: make soak"]
fn s_21_b_23_tables_become_equal_over_a_link_that_is_bad_for_minutes() {
    converge(Duration::from_secs(180));
}

#[test]
fn x_14_a_partner_that_acknowledges_nothing_costs_no_memory_and_no_packet() {
    let mut bench =
        bad_link(Impairment { loss: 100.0, direction: Direction::FromB, ..Impairment::default() });
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    let (mark, begun) = (Mark::now(), Instant::now());
    let process = bench.process(Host::A);
    let resident = process.resident_kib().unwrap();
    let generator = Generator::new(Family::V4, 20_000).unwrap();
    generator.fill(&bench.control(Host::A), 20_000, 20_000).unwrap();
    thread::sleep(Duration::from_secs(1));
    let grown = process.resident_kib().unwrap().saturating_sub(resident);
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert_eq!(bench.roles(), ("active".into(), "standby".into()), "the LAN's heartbeats pass");
    assert!(bench.view(Host::A).is_some_and(|view| view.unprotected > 19_000), "{:?}", bench.view(Host::A));
    tests::never_silent(&streams, begun, Instant::now(), Duration::from_millis(250));
    faults::impair(SyncLink::FIRST, Impairment::default()).unwrap();
    bench.wait_ready(Host::A);
    bench.wait_equal(20_004);
    for host in Host::NODES {
        assert!(!bench.event_names(host, mark).contains("role_changed"), "{:?}", bench.events(host, mark));
    }
}

#[test]
fn a_slow_link_is_no_dead_one() {
    let mut bench = bad_link(Impairment { delay_ms: 60, ..Impairment::default() });
    let mark = Mark::now();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 20);
    bench.wait_equal(20);
    thread::sleep(Duration::from_secs(1));
    for host in Host::NODES {
        let names = bench.event_names(host, mark);
        assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
    }
    assert_eq!(open.round(1), 20);
}

#[test]
fn a_full_disk_for_logs_changes_nothing() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 20, Duration::from_millis(50)).unwrap();
    bench.node(Host::B).stop();
    bench.node(Host::B).log_to("/dev/full");
    bench.start(Host::B);
    bench.wait_ready(Host::A);
    bench.wait_equal(20);
    bench.kill(Host::A);
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    assert_eq!(tcp.wait_alive_since(Instant::now(), Duration::from_secs(15)), 20, "{:?}", tcp.members());
}

/// Both sync links lose three frames of ten, in both directions.
fn lossy_links(length: Duration) {
    let mut bench =
        PairBench::with(LabOptions::pair(PairSettings { sync_links: 2, ..PairSettings::default() }));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    bench.wait_equal(4);
    let mark = Mark::now();
    for link in SyncLink::ALL {
        faults::impair(link, Impairment { loss: 30.0, ..Impairment::default() }).unwrap();
    }
    let started = Instant::now();
    while started.elapsed() < length {
        drop(tests::connections(Family::V6, ECHO, 10));
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
    for host in Host::NODES {
        let names = bench.event_names(host, mark);
        assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
        assert!(!names.contains("bulk_began"), "what is lost is sent again, not everything: {names:?}");
    }
    let mut kept = tests::connections(Family::V4, ECHO, 20);
    bench.wait_ready(Host::A);
    bench.wait_equal(24);
    tests::never_silent(&streams, started, Instant::now(), Duration::from_millis(250));
    lab::demo::pair::kill_active(bench.lab(), Host::A).unwrap();
    assert_eq!(kept.round(1), 20);
}

#[test]
fn s_21_three_lost_heartbeats_of_ten_move_no_role() {
    lossy_links(Duration::from_secs(15));
}

#[test]
#[ignore = "minutes: make soak"]
fn s_21_three_lost_heartbeats_of_ten_move_no_role_in_minutes() {
    lossy_links(Duration::from_secs(300));
}

/// The sync link is the only way between the nodes, and it is slow: this is what the delay is for.
#[test]
fn b_28_heartbeats_that_are_late_by_less_than_the_limit_are_no_death() {
    let settings = PairSettings { interval_ms: 1_000, misses: 6, ..PairSettings::default() };
    let options = LabOptions::pair(settings).overlay("[pair]\nlan-fallback = false\nboot-delay-ms = 2000\n");
    let mut bench = PairBench::with(options);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 20);
    assert_eq!(open.round(0), 20);
    bench.wait_equal(20);
    faults::keep_apart(true).unwrap();
    let mark = Mark::now();
    let slow = Impairment { delay_ms: 2_000, reordering: 20.0, ..Impairment::default() };
    faults::impair(SyncLink::FIRST, slow).unwrap();
    // The step to the delay is the worst of it: nothing is heard for an interval and two seconds.
    thread::sleep(Duration::from_secs(9));
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
    for host in Host::NODES {
        let names = bench.event_names(host, mark);
        assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
    }
    let mut late = tests::connections(Family::V6, ECHO, 10);
    assert_eq!((open.round(1), late.round(1)), (20, 10));
    let deadline = Instant::now() + Duration::from_secs(12);
    while bench.count(Host::B, &[]) < 30 {
        assert!(Instant::now() < deadline, "b has {} sessions of 30", bench.count(Host::B, &[]));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
}

#[test]
fn x_03_lost_datagrams_are_not_taken_for_corrupt_sessions() {
    let mut bench = bad_link(Impairment { loss: 30.0, ..Impairment::default() });
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let (mark, started) = (Mark::now(), Instant::now());
    while started.elapsed() < Duration::from_secs(10) {
        drop(tests::connections(Family::V6, ECHO, 20));
        thread::sleep(Duration::from_millis(200));
    }
    bench.wait_ready(Host::A);
    for host in Host::NODES {
        let events = bench.events(host, mark);
        let corrupt: Vec<_> = events.iter().filter(|event| event.name == "mirror_corrupt").collect();
        assert!(corrupt.is_empty(), "{host:?}: {} of them, such as {:?}", corrupt.len(), corrupt[0]);
    }
}
