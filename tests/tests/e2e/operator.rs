//! Do the operator's tool and the control socket behave, whoever is at the other end?

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

use lab::{
    Family, Host,
    config::{ALLOW_RULE, BLOCK_RULE, DEFAULT_RULE},
    echo::EchoServer,
    exec::{self, SHORT},
    node::{find_program, ha_ctl},
    topology::LINKS,
};
use serde_json::Value;
use tests::{Bench, connections, eventually};

const ECHO: u16 = 7007;

#[test]
fn status_tells_what_the_lab_is() {
    let mut bench = Bench::up();
    let status = bench.status();
    assert_eq!(status.node, "a");
    assert_eq!(status.role, proto::Role::Active);
    assert_eq!(status.policy.rules, 2);
    assert_eq!(status.workers.len(), 1);
    assert_eq!(status.sessions.in_use, 0);
    assert!(status.sessions.capacity >= 262_144, "{:?}", status.sessions);
    assert!(status.mbufs.total >= 16_384 - 1, "{:?}", status.mbufs);
    let ports: Vec<_> = status.ports.iter().map(|port| (port.name.as_str(), port.zone.as_str())).collect();
    assert_eq!(ports, [("lan", "lan"), ("wan", "wan")]);
    for (link, port) in LINKS.iter().zip(&status.ports) {
        assert_eq!(port.mac, link.node_mac);
        assert!(port.link, "{port:?}");
        assert_eq!(port.mtu, 1500);
        assert!(port.device.contains(link.node_interface), "{port:?}");
    }
    assert_eq!(status.ports[0].addresses, ["10.1.0.1/24", "fd00:1::1/64"]);
    assert!(bench.process().alive());
}

#[test]
fn counters_grow_with_what_happens_and_name_every_reason() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let before = bench.status();
    assert_eq!(connections(Family::V4, ECHO, 10).round(0), 10);
    let after = bench.status();
    assert_eq!(after.sessions.created_total, before.sessions.created_total + 10);
    for (old, new) in before.ports.iter().zip(&after.ports) {
        assert!(new.rx_packets >= old.rx_packets + 30, "{old:?} {new:?}");
        assert!(new.tx_packets >= old.tx_packets + 30, "{old:?} {new:?}");
    }
    let counters = bench.operator.counters().unwrap();
    assert!(counters.drops.len() >= 10, "zeros included: {:?}", counters.drops);
    assert!(counters.drops.iter().all(|drop| !drop.meaning.is_empty()), "{:?}", counters.drops);
    let mut names: Vec<_> = counters.drops.iter().map(|drop| drop.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), counters.drops.len(), "names are unique");
}

#[test]
fn rules_count_what_they_admitted() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    assert_eq!(connections(Family::V6, ECHO, 7).round(0), 7);
    eventually(
        "sessions by rule",
        vec![(BLOCK_RULE.to_owned(), 0), (ALLOW_RULE.into(), 7), (DEFAULT_RULE.into(), 0)],
        || {
            let rules = bench.operator.rules().unwrap().rules;
            rules.into_iter().map(|rule| (rule.name, rule.sessions_created)).collect()
        },
    );
}

#[test]
fn neighbours_and_routes_are_shown() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        assert_eq!(connections(family, ECHO, 1).round(0), 1);
    }
    let known: proto::Neighbours = bench.operator.json(&["neighbours"]).unwrap();
    for link in LINKS {
        for family in Family::BOTH {
            let address = link.host.address(family).unwrap();
            let found = known.neighbours.iter().find(|neighbour| neighbour.address == address);
            let mac = found.and_then(|neighbour| neighbour.mac.as_deref());
            assert_eq!(mac, Some(link.host_mac), "{address} in {:?}", known.neighbours);
        }
    }
    let routes: proto::Routes = bench.operator.json(&["routes"]).unwrap();
    let to: Vec<_> = routes.routes.iter().map(|route| route.to.as_str()).collect();
    for network in ["10.1.0.0/24", "fd00:1::/64", "10.2.0.0/24", "fd00:2::/64"] {
        assert!(to.contains(&network), "{network} in {to:?}");
    }
}

#[test]
fn every_view_has_a_table_for_people() {
    let mut bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let _open = connections(Family::V4, ECHO, 2);
    let socket = bench.node().socket_path();
    let views: [(&[&str], &str); 7] = [
        (&["status"], "lan"),
        (&["sessions"], "10.2.0.10"),
        (&["sessions", "--count"], "2"),
        (&["counters"], "packets"),
        (&["rules"], ALLOW_RULE),
        (&["neighbours"], "10.1.0.10"),
        (&["routes"], "10.2.0.0/24"),
    ];
    for (arguments, word) in views {
        let output = exec::check(ha_ctl(&socket).unwrap().args(arguments), SHORT).unwrap();
        assert!(output.stdout.contains(word), "{arguments:?} lacks {word:?}:\n{}", output.stdout);
        assert!(serde_json::from_str::<Value>(&output.stdout).is_err(), "{arguments:?} is no table");
    }
}

#[test]
fn the_tool_says_clearly_that_nobody_answers() {
    let mut command = ha_ctl(std::path::Path::new("/run/no-such.sock")).unwrap();
    let output = exec::run(command.arg("status"), SHORT).unwrap();
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("/run/no-such.sock"), "{output:?}");
    assert_eq!(output.stdout, "");
}

#[test]
fn the_configuration_can_be_checked_without_starting() {
    let mut bench = Bench::up();
    let (program, path) = (find_program("understudyd", "UNDERSTUDYD").unwrap(), bench.node().config_path());
    let check = |path: &std::path::Path| {
        exec::run(Command::new(&program).arg("--check").arg("--config").arg(path), SHORT).unwrap()
    };
    assert_eq!(check(&path).code, 0, "{:?}", check(&path));
    let bad = path.with_file_name("bad.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"allow\"", "\"alow\"");
    std::fs::write(&bad, text).unwrap();
    let output = check(&bad);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("alow"), "{output:?}");
}

#[test]
fn nonsense_on_the_control_socket_does_no_harm() {
    let mut bench = Bench::up();
    let control = bench.node().control();
    let long = "x".repeat(1 << 20);
    for line in [
        "",
        "null",
        "[]",
        "{}",
        "{\"v\":1}",
        "{\"v\":99,\"cmd\":\"status\"}",
        "{\"v\":1,\"cmd\":\"dance\"}",
        "\u{0}\u{1}",
        &long,
    ] {
        // Answered with an error, or closed; never anything else.
        if let Ok(answer) = control.exchange(line.as_bytes()) {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["ok"], false, "{line:.40}: {answer}");
            assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        }
    }
    assert_eq!(bench.status().node, "a");
}

#[test]
fn clients_that_hang_do_not_stop_others() {
    let mut bench = Bench::up();
    let path = bench.node().socket_path();
    // Half a request each, and none of them ever reads.
    let mut hanging: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for stream in &mut hanging {
        stream.write_all(b"{\"v\":1,\"cmd\":\"stat").unwrap();
    }
    assert_eq!(bench.status().node, "a");
    // One of them finishes after all, with a second request behind the first.
    let stream = &mut hanging[0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"us\"}\n{\"v\":1,\"cmd\":\"rules\"}\n").unwrap();
    let mut text = String::new();
    while text.matches('\n').count() < 2 {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "closed after {text}");
        text += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    for line in text.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["ok"], true, "{line}");
    }
}
