//! Are the pair's networks what the tests of the pair take them for? No daemon runs here.

use std::{fs, process::Command, thread, time::Duration};

use lab::{
    Family, Host, Lab, LabOptions, Network, PairSettings, SyncLink, exec,
    faults::{self, Cable},
    forwarder::{Direction, Impairment},
    frames::{FramePort, FrameTap, SeenFrame, mac},
    netns,
    node::{Node, find_program},
    traffic::ping,
};

fn cables(sync_links: u8) -> Lab {
    let settings = PairSettings { sync_links, ..PairSettings::default() };
    Lab::up(&LabOptions::pair(settings).without_daemon()).unwrap()
}

/// A frame of a type that nobody else uses.
fn frame(number: u32) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend([0x02, 0x55, 0x53, 9, 9, 9, 0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    bytes.resize(60, 0);
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[14], bytes[15], bytes[16], bytes[17]])
}

/// Sends numbered frames from an interface and tells which of them another one saw, in order.
fn pass(from: (Host, &str), to: (Host, &str), count: u32) -> Vec<u32> {
    let tap = FrameTap::start(to.0, to.1, |frame| frame.ether_type() == 0x88b5).unwrap();
    let port = FramePort::open(from.0, from.1).unwrap();
    for number in 0..count {
        port.send(&frame(number));
        if number % 64 == 63 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let mut last = usize::MAX;
    while last != tap.count() {
        last = tap.count();
        thread::sleep(Duration::from_millis(100));
    }
    tap.seen(|_| true).iter().map(|frame| number(&frame.bytes)).collect()
}

fn carrier(host: Host, interface: &str) -> bool {
    let arguments = ["-n", host.namespace(), "-o", "link", "show", "dev", interface];
    let output = exec::check(Command::new("ip").args(arguments), exec::SHORT).unwrap();
    output.stdout.contains("LOWER_UP")
}

#[test]
fn both_nodes_configurations_are_good() {
    let _lab = cables(2);
    let program = find_program("understudyd", "UNDERSTUDYD").unwrap();
    for node in Host::NODES {
        let path = Node::dir_of(node).join("understudyd.toml");
        let mut command = Command::new(&program);
        let output = exec::run(command.arg("--check").arg("--config").arg(&path), exec::SHORT).unwrap();
        assert_eq!(output.code, 0, "{output:?}\n{}", fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn the_kernels_of_both_nodes_and_of_the_switch_are_silent() {
    let _lab = cables(1);
    let [client, server] = Network::BOTH.map(|network| mac(network.link().host_mac));
    let of_a_node = move |frame: &SeenFrame| frame.from() != client && frame.from() != server;
    let taps = [(Host::Client, "eth0"), (Host::Server, "eth0"), (Host::Switch, "sync0-a")]
        .map(|(host, interface)| FrameTap::start(host, interface, of_a_node).unwrap());
    for network in Network::BOTH {
        let link = network.link();
        for family in Family::BOTH {
            let gateway = link.host.gateway(family).unwrap();
            assert_eq!(ping(link.host, gateway, 3, &["-w", "1"]).unwrap().received, 0);
        }
        let node_address = network.node_address(Host::B).into();
        assert_eq!(ping(link.host, node_address, 3, &["-w", "1"]).unwrap().received, 0);
        for node in Host::NODES {
            let counted = netns::counters(node, link.node_interface).unwrap();
            assert!(counted.rx_packets >= 3, "the knocking arrived: {counted:?}");
            assert_eq!(counted.tx_packets, 0, "{node:?} {network:?}");
        }
    }
    for tap in &taps {
        assert_eq!(tap.seen(|_| true), []);
    }
    assert_eq!(netns::counters(Host::A, "sync0").unwrap().tx_packets, 0);
}

#[test]
fn a_cable_that_is_cut_has_no_carrier_at_its_nodes() {
    let _lab = cables(2);
    let everything =
        [(Host::A, "lan0"), (Host::A, "wan0"), (Host::A, "sync0"), (Host::B, "sync0"), (Host::B, "sync1")];
    let carriers = || everything.map(|(host, name)| carrier(host, name));
    assert_eq!(carriers(), [true; 5]);
    faults::cut(Cable::Data(Network::Lan, Host::A)).unwrap();
    assert_eq!(carriers(), [false, true, true, true, true]);
    faults::cut(Cable::Sync(SyncLink::FIRST)).unwrap();
    assert_eq!(carriers(), [false, true, false, false, true], "a cable has two ends");
    faults::mend_all().unwrap();
    assert_eq!(carriers(), [true; 5]);
    assert_eq!(pass((Host::A, "sync0"), (Host::B, "sync0"), 10).len(), 10);
    assert_eq!(pass((Host::A, "lan0"), (Host::Client, "eth0"), 10).len(), 10);
}

#[test]
fn a_partition_parts_the_nodes_and_not_the_hosts() {
    let _lab = cables(1);
    let reached = || {
        [
            ((Host::A, "sync0"), (Host::B, "sync0")),
            ((Host::A, "lan0"), (Host::B, "lan0")),
            ((Host::B, "wan0"), (Host::A, "wan0")),
            ((Host::A, "lan0"), (Host::Client, "eth0")),
            ((Host::Server, "eth0"), (Host::B, "wan0")),
        ]
        .map(|(from, to)| pass(from, to, 5).len())
    };
    assert_eq!(reached(), [5; 5]);
    faults::partition().unwrap();
    assert_eq!(reached(), [0, 0, 0, 5, 5]);
    assert!(carrier(Host::A, "lan0") && !carrier(Host::A, "sync0"));
    faults::mend_all().unwrap();
    assert_eq!(reached(), [5; 5]);
}

#[test]
fn an_impaired_link_does_what_it_is_told_and_no_more() {
    let _lab = cables(1);
    let link = SyncLink::FIRST;
    let through = |from: Host| pass((from, "sync0"), (from.partner(), "sync0"), 2000);
    let set = |impairment| {
        faults::impair(link, impairment).unwrap();
        assert_eq!(faults::impairment(link), impairment);
        exec::wait_for("the forwarder", Duration::from_secs(5), || {
            // With loss in one direction only, the other one tells when it is there.
            let probe =
                [Host::A, Host::B].map(|from| pass((from, "sync0"), (from.partner(), "sync0"), 20).len());
            probe.iter().any(|arrived| *arrived > 0).then_some(())
        })
        .unwrap();
    };
    let good = Impairment::default();
    set(Impairment { loss: 20.0, ..good });
    let arrived = through(Host::A).len();
    assert!((1_450..1_750).contains(&arrived), "{arrived} of 2000");
    set(Impairment { loss: 100.0, direction: Direction::FromB, ..good });
    assert_eq!((through(Host::A).len(), through(Host::B).len()), (2000, 0));
    set(Impairment { duplication: 10.0, reordering: 10.0, ..good });
    let got = through(Host::B);
    assert!((2_100..2_320).contains(&got.len()), "{} came of 2000", got.len());
    assert!(got.windows(2).any(|pair| pair[0] > pair[1]), "none was overtaken");
    faults::impair(link, good).unwrap();
    assert_eq!(through(Host::B), (0..2000).collect::<Vec<_>>());
    assert_eq!(netns::processes(Host::Switch), []);
}
