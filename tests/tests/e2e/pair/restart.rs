//! What becomes of the mirror when the active node restarts faster than its death is noticed?

use std::{thread, time::Duration};

use lab::{Family, Host, LabOptions, PairSettings, crowd::TcpCrowd, echo::EchoServer};
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;
const RECOVERY: Duration = Duration::from_secs(15);

/// A restart takes half a second; these heartbeats need two to notice a death.
fn patient(on_active_restart: &str) -> LabOptions {
    let settings = PairSettings { interval_ms: 500, misses: 8, ..PairSettings::default() };
    LabOptions::pair(settings).overlay(format!("[pair]\non-active-restart = \"{on_active_restart}\"\n"))
}

#[test]
fn b_26_a_quick_restart_of_the_active_gives_the_sessions_back() {
    let mut bench = PairBench::with(patient("reclaim"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 20, Duration::from_millis(50)).unwrap();
    bench.wait_equal(20);
    let mark = Mark::now();
    bench.kill(Host::A);
    bench.start(Host::A);
    let restarted = std::time::Instant::now();
    assert_eq!(tcp.wait_alive_since(restarted, RECOVERY), 20, "{:?}", tcp.members());
    let takeover = bench.wait_event(Host::B, mark, "role_changed");
    assert!(takeover.became("active"), "a ready standby is faster than any copy: {takeover:?}");
    assert!(mark.ms_to(&takeover) < 3_900.0, "not by silence: {takeover:?}");
    bench.wait_ready(Host::B);
    bench.wait_equal(20);
}

#[test]
fn b_26_with_purge_a_quick_restart_of_the_active_empties_the_mirror() {
    let mut bench = PairBench::with(patient("purge"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut old = tests::connections(Family::V4, ECHO, 10);
    assert_eq!(old.round(0), 10);
    bench.wait_equal(10);
    bench.kill(Host::A);
    bench.start(Host::A);
    bench.wait_ready(Host::A);
    tests::eventually("mirrored sessions", 0, || bench.count(Host::B, &["--state", "established"]));
    let mut fresh = tests::connections(Family::V6, ECHO, 10);
    assert_eq!(fresh.round(0), 10);
    tests::eventually("mirrored sessions", 10, || bench.count(Host::B, &["--state", "established"]));
    lab::demo::pair::kill_active(bench.lab(), Host::A).unwrap();
    for stream in old.streams() {
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    assert_eq!(fresh.round(1), 10);
    assert_eq!(old.round(1), 0, "the old ones are not revived");
}

#[test]
fn n_19_a_restart_of_the_standby_leaves_the_traffic_alone() {
    let mut bench = PairBench::up();
    let streams =
        lab::stream::Streams::start(&lab::stream::StreamKind::ALL, Duration::from_millis(1)).unwrap();
    bench.wait_equal(4);
    let begun = std::time::Instant::now();
    assert_eq!(bench.node(Host::B).stop(), lab::process::Stopped::Asked(0));
    thread::sleep(Duration::from_millis(700));
    bench.start(Host::B);
    bench.wait_ready(Host::A);
    bench.wait_equal(4);
    tests::never_silent(&streams, begun, std::time::Instant::now(), Duration::from_millis(250));
}

#[test]
fn s_17_n_12_a_planned_restart_is_announced_and_no_failure() {
    let mut bench = PairBench::up();
    let partner = |bench: &mut PairBench, host| -> (String, bool) {
        let status: serde_json::Value = bench.operator(host).json(&["status"]).unwrap();
        let alarms = status["pair"]["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty());
        (status["pair"]["partner_state"].as_str().unwrap_or_default().to_owned(), alarms)
    };
    assert_eq!(partner(&mut bench, Host::A), ("here".to_owned(), false));
    for (stops, stays) in [(Host::B, Host::A), (Host::A, Host::B)] {
        let mark = Mark::now();
        assert_eq!(bench.node(stops).stop(), lab::process::Stopped::Asked(0));
        let gone = bench.wait_event(stays, mark, "peer_gone");
        assert!(gone.has("reason", "maintenance"), "{gone:?}");
        // The event is told by another thread than the view: the one may be a turn ahead.
        let restarting = ("restarting".to_owned(), false);
        tests::eventually("the partner that stopped", restarting, || partner(&mut bench, stays));
        assert_eq!(bench.role(stays), "active");
        bench.start(stops);
        tests::eventually("the partner", ("here".to_owned(), false), || partner(&mut bench, stays));
        bench.wait_ready(stays);
    }
    let mark = Mark::now();
    bench.kill(Host::A);
    let gone = bench.wait_event(Host::B, mark, "peer_gone");
    assert!(gone.has("reason", "failure") && gone.has("icmp", "silent"), "{gone:?}");
    tests::eventually("the dead partner", ("absent".to_owned(), true), || partner(&mut bench, Host::B));
}

#[test]
fn nodes_that_differ_in_what_must_be_equal_say_so() {
    let options = LabOptions::pair(PairSettings::default());
    let differing = options.overlay_on(Host::B, "[timeouts]\nudp = 77\n");
    let mut bench = PairBench::starting(differing);
    let mark = Mark::now();
    let differs = lab::exec::wait_for("pair_differs", Duration::from_secs(5), || {
        let names = |bench: &mut PairBench, host| {
            bench.node(host).events().iter().any(|event| event.name == "pair_differs")
        };
        (names(&mut bench, Host::A) || names(&mut bench, Host::B)).then_some(())
    });
    assert!(differs.is_ok(), "{:?} {:?}", bench.events(Host::A, mark), bench.roles());
    for host in [Host::A, Host::B] {
        let named = || -> serde_json::Value {
            let status: serde_json::Value = bench.operator(host).json(&["status"]).unwrap();
            status["pair"]["differs"].clone()
        };
        tests::eventually("what differs", serde_json::json!(["timeouts"]), named);
    }
}
