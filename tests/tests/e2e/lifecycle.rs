//! Does the daemon come, rest and go as an operator expects, and does the lab clean up behind it?

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio, thread, time::Duration};

use lab::{
    Family, Host, Lab, LabOptions,
    echo::EchoServer,
    exec::{self, Running},
    netns,
    node::find_program,
    probe::{RST, TcpTap},
    process::Stopped,
    state::RUN_DIR,
    traffic::ping,
};
use rustix::process::Signal;
use tests::{Bench, connections, eventually};

const ECHO: u16 = 7007;

#[test]
fn sigterm_ends_it_with_code_zero_and_leaves_nothing() {
    let huge_before = huge_files();
    let mut bench = Bench::up();
    let socket = bench.node().socket_path();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let process = bench.process();
    assert_eq!(bench.node().stop(), Stopped::Asked(0));
    assert!(!process.alive());
    assert!(!socket.exists(), "the control socket goes with the daemon");
    assert_eq!(huge_files(), huge_before, "no file in huge pages stays");
    drop(bench);
    assert_eq!(Host::ALL.into_iter().filter(|host| netns::exists(*host)).count(), 0);
    let left: Vec<_> = fs::read_dir(RUN_DIR).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lock"]);
}

fn huge_files() -> usize {
    fs::read_dir("/dev/hugepages").map_or(0, |entries| entries.flatten().count())
}

#[test]
fn its_end_resets_no_connection_and_its_return_picks_none_up() {
    let mut bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut open = connections(family, ECHO, 3);
        assert_eq!(open.round(0), 3);
        let taps = [Host::Client, Host::Server].map(|host| TcpTap::start(host, family).unwrap());
        assert_eq!(bench.node().stop(), Stopped::Asked(0));
        thread::sleep(Duration::from_millis(200));
        bench.node().start().unwrap();
        for stream in open.streams() {
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        assert_eq!(open.round(1), 0, "its sessions went with it");
        assert_eq!(bench.count(&["--proto", "tcp"]), 0);
        for tap in &taps {
            assert_eq!(tap.seen(|segment| segment.flags & RST != 0), [], "{family:?}");
        }
        // New ones work at once.
        assert_eq!(connections(family, ECHO, 3).round(2), 3);
    }
    assert_eq!(server.accepted(), 12);
}

#[test]
fn it_starts_again_after_being_killed() {
    let mut bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    assert_eq!(connections(Family::V4, ECHO, 3).round(0), 3);
    let process = bench.process();
    assert!(process.signal(Signal::KILL));
    assert!(process.gone_within(Duration::from_secs(5)));
    assert!(matches!(bench.node().stop(), Stopped::Before(137) | Stopped::Asked(137)));
    bench.node().start().unwrap();
    assert_eq!(connections(Family::V4, ECHO, 3).round(0), 3);
}

#[test]
fn a_link_that_goes_and_returns_is_survived() {
    let mut bench = Bench::up();
    let pings = |count| ping(Host::Client, Family::V4.server(), count, &["-w", "2"]).unwrap().received;
    assert_eq!(pings(3), 3);
    let process = bench.process();
    let set_wan = |state| {
        let mut command = std::process::Command::new("ip");
        command.args(["-n", Host::A.namespace(), "link", "set", "wan0", state]);
        exec::check(&mut command, exec::SHORT).unwrap();
    };
    for _ in 0..3 {
        set_wan("down");
        assert_eq!(pings(3), 0);
        set_wan("up");
        eventually("a ping passes again", 1, || pings(1));
    }
    assert!(process.alive(), "it is still the same daemon");
    eventually("packet buffers in use", 0, || bench.status().mbufs.in_use);
}

#[test]
fn idle_and_adaptive_it_costs_next_to_nothing() {
    let mut bench = Bench::up();
    let process = bench.process();
    thread::sleep(Duration::from_secs(1));
    let (before, span) = (process.cpu_time().unwrap(), Duration::from_secs(4));
    thread::sleep(span);
    let used = process.cpu_time().unwrap() - before;
    assert!(used < span / 10, "{used:?} of processor time in {span:?} without a packet");
}

#[test]
fn memory_stays_flat_under_short_connections() {
    let mut bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let process = bench.process();
    let burst = || (0..10).for_each(|_| assert_eq!(connections(Family::V4, ECHO, 50).round(0), 50));
    burst();
    let before = process.resident_kib().unwrap();
    burst();
    burst();
    let after = process.resident_kib().unwrap();
    // The table's own pages are touched as it fills; beyond that nothing may grow.
    assert!(after < before + 4096, "{before} KiB before, {after} KiB after");
}

#[test]
fn interrupting_the_demo_leaves_nothing() {
    // Waits for its turn as any lab does; then the interrupt finds it in the middle.
    let mut command = std::process::Command::new(find_program("lab", "LAB").unwrap());
    command.args(["demo", "--nodes", "1"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = Running::start(&mut command).unwrap();
    exec::wait_for("the demo's lab", Duration::from_secs(30), || netns::exists(Host::A).then_some(()))
        .unwrap();
    thread::sleep(Duration::from_secs(2));
    assert!(demo.identity().unwrap().signal(Signal::INT));
    assert_eq!(demo.wait(Duration::from_secs(20)).unwrap(), 130);
    assert_eq!(Host::ALL.into_iter().filter(|host| netns::exists(*host)).count(), 0);
}

#[test]
fn a_killed_lab_is_swept_by_the_next_one() {
    let mut command = std::process::Command::new(find_program("lab", "LAB").unwrap());
    command.args(["demo", "--nodes", "1"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = Running::start(&mut command).unwrap();
    let daemon = exec::wait_for("the demo's daemon", Duration::from_secs(30), || {
        netns::processes(Host::A).into_iter().next()
    })
    .unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(demo.identity().unwrap().signal(Signal::KILL));
    demo.wait(Duration::from_secs(5)).unwrap();
    assert!(netns::exists(Host::A), "what is left of it");
    let bench = Bench::up();
    assert!(!daemon.alive(), "the old daemon is gone");
    drop(bench);
    eventually("namespaces", 0, || Host::ALL.into_iter().filter(|host| netns::exists(*host)).count());
}

#[test]
fn a_test_that_panics_leaves_nothing() {
    let outcome = thread::spawn(|| {
        let _lab = Lab::up(&LabOptions::default().without_daemon()).unwrap();
        assert!(netns::exists(Host::Client));
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    assert_eq!(Host::ALL.into_iter().filter(|host| netns::exists(*host)).count(), 0);
}

#[test]
fn a_second_lab_waits_for_the_first() {
    let lab = Lab::up(&LabOptions::default().without_daemon()).unwrap();
    let hurried =
        LabOptions { patience: Duration::from_millis(200), ..LabOptions::default().without_daemon() };
    let error = Lab::up(&hurried).unwrap_err().to_string();
    assert!(error.starts_with("another lab is running here (process "), "{error}");
    let waiting = thread::spawn(|| Lab::up(&LabOptions::default().without_daemon()).unwrap());
    thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    lab.down().unwrap();
    waiting.join().unwrap().down().unwrap();
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let options = LabOptions::default().overlay("[node]\nno-such-setting = 1\n");
    let error = Lab::up(&options).unwrap_err().to_string();
    assert!(error.contains("ended during its start with exit code"), "{error}");
    assert!(error.contains("no-such-setting"), "its log is shown: {error}");
    assert!(!netns::exists(Host::A));
}
