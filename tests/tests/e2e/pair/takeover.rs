//! Does every established session outlive the active node?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, LabOptions, PairSettings,
    crowd::{TcpCrowd, UdpCrowd},
    demo::pair::kill_active,
    echo::EchoServer,
    exec, netns,
    probe::{ACK, ConnectOutcome, RST, Segment, TcpTap, connect, send_segment},
    stream::{StreamKind, Streams},
};
use tests::{
    connections,
    pair::{Mark, PairBench, server},
};

const ECHO: u16 = 7007;
const LOCAL: u16 = 7010;
/// TCP doubles its patience with each retransmission.
const RECOVERY: Duration = Duration::from_secs(10);

#[test]
fn s_02_s_03_b_03_b_29_x_20_sessions_of_every_kind_survive_the_kill() {
    let mut bench = PairBench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 60, Duration::from_millis(50)).unwrap();
    let udp = UdpCrowd::start(20, Duration::from_millis(20)).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    bench.wait_equal(60 + 20 + 4);
    assert_eq!(bench.operator(Host::B).status().unwrap().sessions.created_total, 0, "mirrored, not created");
    let taps: Vec<TcpTap> = Family::BOTH
        .into_iter()
        .flat_map(|family| [Host::Client, Host::Server].map(|host| TcpTap::start(host, family).unwrap()))
        .collect();
    let kill = kill_active(bench.lab(), Host::A).unwrap();
    let resumed = kill.at + kill.detected.expect("b took over");
    assert_eq!(tcp.wait_alive_since(resumed, RECOVERY), 60, "{:?}", tcp.members());
    assert_eq!(udp.wait_alive_since(resumed, Duration::from_secs(2)), 20);
    for track in streams.tracks() {
        let silence = track.longest_silence(kill.at, Instant::now()).length;
        // Detection takes 300 ms at most; a second is a slow machine's.
        assert!(silence < Duration::from_secs(1), "{:?}: {silence:?}", track.kind());
        assert!(track.last().unwrap().at > resumed, "{:?} goes on", track.kind());
    }
    for tap in &taps {
        assert_eq!(tap.seen(|segment| segment.flags & RST != 0), [], "nobody is reset");
    }
    assert_eq!(server.accepted(), 60, "and nobody came back by connecting anew");
    let created = bench.operator(Host::B).status().unwrap().sessions.created_total;
    assert_eq!(created, 0, "what passes now passes through mirrored sessions");
}

#[test]
fn b_30_b_31_x_07_forged_segments_do_not_pass_a_taken_over_session() {
    const MARK: &[u8] = b"forged";
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = Family::BOTH.map(|family| connections(family, ECHO, 3));
    for connections in &mut open {
        assert_eq!(connections.round(0), 3);
    }
    bench.wait_equal(6);
    kill_active(bench.lab(), Host::A).unwrap();
    let forge = |family: Family, port: u16| {
        for seq in [0x1000_0000, 0x5000_0000, 0x9000_0000, 0xd000_0000] {
            let forged = Segment { payload: MARK.to_vec(), ..Segment::bare(ECHO, port, seq, 1, ACK) };
            send_segment(Host::Server, family, &forged).unwrap();
            send_segment(Host::Server, family, &Segment::bare(ECHO, port, seq, 0, RST)).unwrap();
        }
    };
    for (family, connections) in Family::BOTH.into_iter().zip(&mut open) {
        let ports: Vec<u16> =
            connections.streams().iter().map(|stream| stream.local_addr().unwrap().port()).collect();
        let tap = TcpTap::start(Host::Client, family).unwrap();
        // Before the first legitimate packet the replicated snapshot bounds what passes: of four numbers a
        // quarter of the space apart one may be near it.
        ports.iter().for_each(|port| forge(family, *port));
        thread::sleep(Duration::from_millis(100));
        let early = tap.seen(|segment| segment.payload == MARK).len();
        assert!(early <= ports.len(), "{early} forged segments passed {} sessions", ports.len());
        assert_eq!(tap.seen(|segment| segment.flags & RST != 0), [], "a RST is verified: {family:?}");
        // The connections themselves go on, and from then on nothing foreign passes.
        assert_eq!(connections.round(1), 3, "{family:?}");
        assert_eq!(connections.round(2), 3, "{family:?}");
        let tap = TcpTap::start(Host::Client, family).unwrap();
        ports.iter().for_each(|port| forge(family, *port));
        assert_eq!(connections.round(3), 3, "{family:?}");
        let through = tap.seen(|segment| segment.payload == MARK || segment.flags & RST != 0);
        assert_eq!(through, [], "{family:?}");
    }
}

#[test]
fn b_05_b_08_b_34_a_rule_keeps_its_sessions_local() {
    let rule = format!(
        "[[rule]]\nname = \"local\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"tcp/{LOCAL}\"]\naction = \"allow\"\ntransparent-failover = false\n"
    );
    let mut bench = PairBench::with(LabOptions::pair(PairSettings::default()).rules_first(rule));
    let _servers = [ECHO, LOCAL].map(|port| EchoServer::start(Host::Server, port).unwrap());
    let (mut kept, mut lost) = (connections(Family::V4, ECHO, 5), connections(Family::V6, LOCAL, 5));
    assert_eq!((kept.round(0), lost.round(0)), (5, 5));
    bench.wait_ready(Host::A);
    tests::eventually("mirrored sessions", 5, || bench.count(Host::B, &[]));
    assert_eq!(bench.count(Host::B, &["--port", "7010"]), 0);
    let rows = bench.operator(Host::A).sessions(&["--port", "7010"]).unwrap().rows;
    assert!(rows.iter().all(|row| row.sync.starts_with("no(") && row.sync.contains("rule")), "{rows:?}");
    kill_active(bench.lab(), Host::A).unwrap();
    for stream in lost.streams() {
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    assert_eq!(kept.round(1), 5);
    assert_eq!(lost.round(1), 0, "as documented: local sessions end with their node");
    assert_eq!(connections(Family::V6, LOCAL, 2).round(2), 2, "new ones pass");
}

#[test]
fn b_20_half_open_connections_are_not_mirrored() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = connections(Family::V4, ECHO, 10);
    assert_eq!(open.round(0), 10);
    // SYNs to an address that nobody has: each half-open until its timeout.
    for number in 0..300 {
        let syn = Segment::bare(30_000 + number, 7999, 1, 0, lab::probe::SYN);
        lab::probe::send_segment_to(Host::Client, "10.2.0.77".parse().unwrap(), &syn).unwrap();
    }
    tests::eventually("half-open on a", true, || {
        bench.operator(Host::A).status().unwrap().sessions.half_open >= 290
    });
    bench.wait_ready(Host::A);
    tests::eventually("mirrored", 10, || bench.count(Host::B, &[]));
    assert_eq!(bench.operator(Host::B).status().unwrap().sessions.half_open, 0);
}

#[test]
fn b_21_an_interrupted_handshake_completes_on_the_other_node() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    // The server's answers go nowhere at first, so that the handshake stops in its middle.
    let route = |verb: &str| {
        let arguments = ["-n", Host::Server.namespace(), "route", verb, "blackhole", "10.1.0.10/32"];
        exec::check(std::process::Command::new("ip").args(arguments), exec::SHORT).unwrap();
    };
    route("add");
    let attempt =
        thread::spawn(|| connect(Host::Client, server(Family::V4, ECHO), Duration::from_secs(15)).unwrap());
    tests::eventually("half-open on a", 1, || bench.operator(Host::A).status().unwrap().sessions.half_open);
    kill_active(bench.lab(), Host::A).unwrap();
    assert_eq!(bench.count(Host::B, &["--proto", "tcp"]), 0, "no half-open ghost");
    route("del");
    let outcome = attempt.join().unwrap();
    assert!(matches!(outcome, ConnectOutcome::Connected(_)), "{outcome:?}");
    assert_eq!(bench.count(Host::B, &["--proto", "tcp", "--state", "established"]), 1);
}

#[test]
fn x_19_nodes_with_different_numbers_of_workers_protect_each_other() {
    let options = LabOptions::pair(PairSettings::default()).overlay_on(Host::B, "[workers]\ncount = 2\n");
    let mut bench = PairBench::with(options);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 60, Duration::from_millis(50)).unwrap();
    bench.wait_equal(60);
    let shares: Vec<u64> =
        bench.operator(Host::B).status().unwrap().workers.iter().map(|worker| worker.sessions).collect();
    assert!(shares.len() == 2 && shares.iter().all(|share| *share >= 5), "{shares:?}");
    for active in [Host::A, Host::B] {
        let kill = kill_active(bench.lab(), active).unwrap();
        let resumed = kill.at + kill.detected.expect("the other took over");
        assert_eq!(tcp.wait_alive_since(resumed, RECOVERY), 60, "{:?}", tcp.members());
        bench.node(active).stop();
        bench.start(active);
        bench.wait_ready(active.partner());
        bench.wait_equal(60);
    }
}

#[test]
fn x_12_a_node_with_a_bad_configuration_does_not_take_over() {
    let mut bench = PairBench::up();
    let good = bench.node(Host::B).read_config().unwrap().to_text().unwrap();
    let bad = good.replace("action = \"allow\"", "action = \"maybe\"");
    assert_ne!(bad, good);
    bench.node(Host::B).write_config(&bad).unwrap();
    assert_eq!(bench.node(Host::B).reload().unwrap()["last_reload"]["ok"], false);
    let mark = Mark::now();
    thread::sleep(Duration::from_millis(300));
    bench.kill(Host::A);
    bench.wait_event(Host::B, mark, "takeover_vetoed");
    thread::sleep(Duration::from_millis(700));
    assert_ne!(bench.role(Host::B), "active");
    let counted = netns::counters(Host::B, "wan0").unwrap();
    lab::traffic::ping(Host::Client, Family::V4.server(), 3, &["-w", "1"]).unwrap();
    let after = netns::counters(Host::B, "wan0").unwrap();
    // Its own heartbeats go out; none of the client's packets does.
    assert!(after.tx_packets - counted.tx_packets < 100, "{counted:?} {after:?}");
    bench.node(Host::B).write_config(&good).unwrap();
    assert_eq!(bench.node(Host::B).reload().unwrap()["last_reload"]["ok"], true);
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    // The role is told before the workers have it and the switch knows.
    let ping = |count| lab::traffic::ping(Host::Client, Family::V4.server(), count, &["-W", "1"]);
    tests::eventually("a ping", 1, || ping(1).map_or(0, |report| report.received));
    assert_eq!(ping(3).unwrap().received, 3);
}
