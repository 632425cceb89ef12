//! Does what is not allowed stay out, and does the right rule own up to it?

use std::{net::SocketAddr, time::Duration};

use lab::{
    Family, Host, LabOptions,
    config::{ALLOW_RULE, BLOCK_RULE, BLOCKED_PORT, DEFAULT_RULE},
    echo::{EchoServer, udp_round_trip, udp_socket},
    probe::{ACK, ConnectOutcome, FIN, RST, SYN, Segment, TcpTap, connect, send_segment},
    traffic::ping,
};
use tests::{Bench, connections, eventually};

const ECHO: u16 = 7007;
/// How long an answer is waited for that must not come. More than one SYN may leave in that time on a slow
/// machine: what is counted exactly is sent by [`knock`].
const NO_ANSWER: Duration = Duration::from_millis(400);

/// SYNs by hand: exactly so many leave, whatever the machine is doing.
fn knock(from: Host, family: Family, port: u16, count: u16) {
    for number in 0..count {
        let syn = Segment::bare(41_000 + number, port, 1000, 0, SYN);
        send_segment(from, family, &syn).unwrap();
    }
}

#[test]
fn a_blocked_port_lets_nothing_pass_and_names_its_rule() {
    let bench = Bench::up();
    let server = EchoServer::start(Host::Server, BLOCKED_PORT).unwrap();
    for family in Family::BOTH {
        let tap = TcpTap::start(Host::Server, family).unwrap();
        let (denied, by_default) = (bench.denied(BLOCK_RULE), bench.denied(DEFAULT_RULE));
        knock(Host::Client, family, BLOCKED_PORT, 3);
        eventually("denied by the rule", denied + 3, || bench.denied(BLOCK_RULE));
        let to = SocketAddr::new(family.server(), BLOCKED_PORT);
        let outcome = connect(Host::Client, to, NO_ANSWER).unwrap();
        assert!(matches!(outcome, ConnectOutcome::Silence), "{family:?}: {outcome:?}");
        assert_eq!(bench.denied(DEFAULT_RULE), by_default, "one rule decides, not two");
        assert_eq!(tap.seen(|segment| segment.to_port == BLOCKED_PORT), []);
    }
    assert_eq!(server.accepted(), 0);
    assert_eq!(bench.count(&["--port", "9999"]), 0);
}

#[test]
fn a_blocked_datagram_is_denied_by_the_same_rule() {
    let bench = Bench::up();
    let server = EchoServer::start(Host::Server, BLOCKED_PORT).unwrap();
    for family in Family::BOTH {
        let denied = bench.denied(BLOCK_RULE);
        let socket = udp_socket(Host::Client, family, BLOCKED_PORT).unwrap();
        for _ in 0..5 {
            socket.send(b"knock").unwrap();
        }
        eventually("denied by the rule", denied + 5, || bench.denied(BLOCK_RULE));
    }
    assert_eq!(server.datagrams(), 0);
    assert_eq!(bench.count(&["--proto", "udp"]), 0);
}

#[test]
fn connections_from_outside_fall_to_the_default_deny() {
    let bench = Bench::up();
    let inside = EchoServer::start(Host::Client, ECHO).unwrap();
    for family in Family::BOTH {
        // A flow from inside first: the firewall knows both neighbours then, and could forward.
        assert_eq!(ping(Host::Client, family.server(), 1, &[]).unwrap().received, 1);
        let tap = TcpTap::start(Host::Client, family).unwrap();
        let denied = bench.denied(DEFAULT_RULE);
        knock(Host::Server, family, ECHO, 3);
        eventually("denied by default", denied + 3, || bench.denied(DEFAULT_RULE));
        let outcome = connect(Host::Server, SocketAddr::new(family.client(), ECHO), NO_ANSWER).unwrap();
        assert!(matches!(outcome, ConnectOutcome::Silence), "{family:?}: {outcome:?}");
        assert_eq!(tap.seen(|segment| segment.to_port == ECHO), []);
        assert_eq!(ping(Host::Server, family.client(), 3, &["-W", "1"]).unwrap().received, 0);
    }
    assert_eq!(inside.accepted(), 0);
    assert_eq!(bench.count(&["--port", "7007"]), 0);
}

#[test]
fn a_source_outside_the_allowed_networks_is_denied() {
    let route = "[[route]]\nto = \"10.77.0.0/16\"\nvia = \"10.1.0.10\"\n";
    let bench = Bench::with(LabOptions::default().overlay(route));
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    for sent in 1..=3 {
        send_from("10.77.0.1");
        eventually("denied by default", sent, || bench.denied(DEFAULT_RULE));
    }
    assert_eq!((server.datagrams(), bench.count(&["--proto", "udp"])), (0, 0));
}

#[test]
fn forged_sources_do_not_even_reach_the_policy() {
    let bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    // An address of the other side, and one from nowhere.
    for (source, reason) in [("10.2.0.77", "spoofed-source"), ("10.77.0.1", "no-route-back")] {
        send_from(source);
        eventually(reason, 1, || bench.dropped(reason));
    }
    assert_eq!(bench.denied(DEFAULT_RULE), 0);
    assert_eq!((server.datagrams(), bench.count(&["--proto", "udp"])), (0, 0));
}

/// A datagram for the server from an address that the client is given for it.
fn send_from(source: &str) {
    let mut add = std::process::Command::new("ip");
    add.args(["-n", Host::Client.namespace(), "address", "replace", &format!("{source}/32"), "dev", "eth0"]);
    lab::exec::check(&mut add, lab::exec::SHORT).unwrap();
    let socket =
        lab::netns::within(Host::Client, || std::net::UdpSocket::bind((source, 0))).unwrap().unwrap();
    socket.send_to(b"who", SocketAddr::new(Family::V4.server(), ECHO)).unwrap();
}

#[test]
fn the_firewall_itself_answers_nothing_that_no_rule_allows() {
    let bench = Bench::up();
    for family in Family::BOTH {
        let gateway = Host::Client.gateway(family).unwrap();
        let denied = bench.denied(DEFAULT_RULE);
        assert_eq!(ping(Host::Client, gateway, 3, &["-W", "1"]).unwrap().received, 0);
        eventually("denied by default", denied + 3, || bench.denied(DEFAULT_RULE));
    }
}

#[test]
fn a_rejecting_rule_answers_at_once() {
    let rule = "[[rule]]\nname = \"reject-7009\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"tcp/7009\", \"udp/7009\"]\naction = \"reject\"\n";
    let bench = Bench::with(LabOptions::default().rules_first(rule));
    // Somebody listens there: only the firewall can be what refuses.
    let server = EchoServer::start(Host::Server, 7009).unwrap();
    for family in Family::BOTH {
        let to = SocketAddr::new(family.server(), 7009);
        let outcome = connect(Host::Client, to, Duration::from_millis(800)).unwrap();
        assert!(matches!(outcome, ConnectOutcome::Refused), "{family:?}: {outcome:?}");
        let socket = udp_socket(Host::Client, family, 7009).unwrap();
        socket.send(b"knock").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{family:?}: nothing came back");
    }
    assert_eq!((server.accepted(), server.datagrams()), (0, 0));
    assert!(bench.denied("reject-7009") >= 4, "a SYN and a datagram in each family");
    assert_eq!(bench.count(&[]), 0);
}

#[test]
fn x_17_tcp_of_unknown_sessions_is_not_picked_up() {
    let bench = Bench::up();
    for family in Family::BOTH {
        // So that neighbours are known and only the tracker can stop what follows.
        assert_eq!(ping(Host::Client, family.server(), 1, &[]).unwrap().received, 1);
        let tap = TcpTap::start(Host::Server, family).unwrap();
        // By reason: neighbour discovery and multicast of the kernels are dropped at any time, too.
        let unknown = [
            (40_001, ACK, "tcp-unknown-ack"),
            (40_002, FIN | ACK, "tcp-unknown-fin"),
            (40_003, RST, "tcp-unknown-rst"),
            (40_004, SYN | ACK, "tcp-unknown-syn-ack"),
        ];
        for (port, flags, reason) in unknown {
            let before = bench.dropped(reason);
            send_segment(Host::Client, family, &Segment::bare(port, ECHO, 1000, 2000, flags)).unwrap();
            eventually(reason, before + 1, || bench.dropped(reason));
        }
        assert_eq!(tap.seen(|segment| (40_000..41_000).contains(&segment.from_port)), [], "{family:?}");
        assert_eq!(bench.count(&["--proto", "tcp"]), 0, "{family:?}");
    }
}

#[test]
fn a_forged_segment_far_outside_the_window_stays_out() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut open = connections(family, ECHO, 1);
        assert_eq!(open.round(0), 1);
        let own_port = open.streams()[0].local_addr().unwrap().port();
        let tap = TcpTap::start(Host::Client, family).unwrap();
        // From the server's side, with the right ports and a sequence number from nowhere: twice, half the
        // number space apart, so that at least one lies far outside whatever the window is.
        for seq in [0x1000_0000, 0x9000_0000] {
            let forged =
                Segment { payload: b"forged".to_vec(), ..Segment::bare(ECHO, own_port, seq, 1, ACK) };
            send_segment(Host::Server, family, &forged).unwrap();
            send_segment(Host::Server, family, &Segment::bare(ECHO, own_port, seq, 0, RST)).unwrap();
        }
        assert_eq!(open.round(1), 1, "the connection lives on");
        let through = tap.seen(|segment| segment.payload == b"forged" || segment.flags & RST != 0);
        assert_eq!(through, [], "{family:?}");
    }
    assert_eq!(bench.count(&["--proto", "tcp"]), 2);
}

#[test]
fn a_reload_adds_a_rule_and_old_sessions_live_on() {
    let mut bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = connections(Family::V4, ECHO, 1);
    assert_eq!(open.round(0), 1);
    let before = bench.status().policy;
    let mut config = bench.node().read_config().unwrap();
    let rule = "[[rule]]\nname = \"no-more-udp\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"udp\"]\naction = \"drop\"\n";
    config.rules_first(rule).unwrap();
    bench.node().write_config(&config.to_text().unwrap()).unwrap();
    let after = bench.node().reload().unwrap();
    assert_eq!(after["last_reload"]["ok"], true, "{after}");
    assert_eq!(after["rules"], before.rules + 1);
    assert_eq!(after["epoch"], before.epoch + 1);
    // The new rule decides, the old session goes on, new ones of the old rule too.
    let socket = udp_socket(Host::Client, Family::V4, ECHO).unwrap();
    socket.send(b"x").unwrap();
    eventually("denied by the new rule", 1, || bench.denied("no-more-udp"));
    assert_eq!(open.round(1), 1);
    assert_eq!(connections(Family::V4, ECHO, 1).round(2), 1);
    assert_eq!(server.datagrams(), 0);
    let names: Vec<String> =
        bench.operator.rules().unwrap().rules.into_iter().map(|rule| rule.name).collect();
    assert_eq!(names, ["no-more-udp", BLOCK_RULE, ALLOW_RULE, DEFAULT_RULE]);
}

#[test]
fn reloads_under_traffic_lose_no_packet() {
    let mut bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let sockets = Family::BOTH.map(|family| udp_socket(Host::Client, family, ECHO).unwrap());
    let before = bench.status().policy.epoch;
    for reload in 0..20_u32 {
        assert_eq!(bench.node().reload().unwrap()["last_reload"]["ok"], true);
        for socket in &sockets {
            for number in 0..10_u32 {
                let payload = (reload * 10 + number).to_be_bytes();
                assert!(udp_round_trip(socket, &payload).unwrap(), "reload {reload}, datagram {number}");
            }
        }
    }
    assert_eq!(bench.status().policy.epoch, before + 20);
    assert_eq!(bench.status().sessions.created_total, 2, "the same two sessions all along");
}

#[test]
fn a_reload_that_denies_a_session_ends_it() {
    let mut bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    let socket = udp_socket(Host::Client, Family::V4, ECHO).unwrap();
    assert!(udp_round_trip(&socket, b"before").unwrap());
    let mut config = bench.node().read_config().unwrap();
    let rule = "[[rule]]\nname = \"no-more-udp\"\nfrom = \"lan\"\nto = \"wan\"\nservices = [\"udp\"]\naction = \"drop\"\n";
    config.rules_first(rule).unwrap();
    bench.node().write_config(&config.to_text().unwrap()).unwrap();
    assert_eq!(bench.node().reload().unwrap()["last_reload"]["ok"], true);
    socket.send(b"after").unwrap();
    eventually("sessions of UDP", 0, || bench.count(&["--proto", "udp"]));
    socket.send(b"and again").unwrap();
    eventually("denied by the new rule", true, || bench.denied("no-more-udp") >= 1);
    assert_eq!(server.datagrams(), 1);
}

#[test]
fn x_12_a_bad_reload_keeps_the_last_good_policy() {
    let mut bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    let good = bench.node().read_config().unwrap().to_text().unwrap();
    let before = bench.status().policy;
    let bad_ones = [
        good.replace("\"tcp\"", "\"tcp/99999\""),
        good.replace("action = \"allow\"", "action = \"maybe\""),
        good.replace("10.1.0.0/24", "10.1.0.0/77"),
        "this is no TOML [".to_owned(),
        String::new(),
    ];
    for bad in bad_ones {
        assert_ne!(bad, good);
        bench.node().write_config(&bad).unwrap();
        let after = bench.node().reload().unwrap();
        assert_eq!(after["last_reload"]["ok"], false, "{after} for:\n{bad}");
        assert!(after["last_reload"]["error"].as_str().is_some_and(|error| !error.is_empty()), "{after}");
        assert_eq!(
            (after["epoch"].as_u64(), after["rules"].as_u64()),
            (Some(before.epoch), Some(before.rules.into()))
        );
        assert_eq!(connections(Family::V4, ECHO, 1).round(0), 1, "what was allowed is allowed");
        let denied = bench.denied(BLOCK_RULE);
        knock(Host::Client, Family::V4, BLOCKED_PORT, 1);
        eventually("what was blocked is blocked", denied + 1, || bench.denied(BLOCK_RULE));
    }
    assert_eq!(server.accepted(), 5);
    bench.node().write_config(&good).unwrap();
    assert_eq!(bench.node().reload().unwrap()["last_reload"]["ok"], true);
}
