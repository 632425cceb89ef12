//! Do the neighbours learn who is active, when they must and not before?

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, Network,
    demo::pair::kill_active,
    echo::{EchoServer, udp_round_trip, udp_socket},
    exec, faults,
    frames::{FrameTap, SeenFrame, mac},
    topology::VIRTUAL_MAC,
    traffic::ping,
};
use rustix::process::Signal;
use tests::{SOON, pair::PairBench};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Whether a frame tells everybody that an address is at the virtual MAC: gratuitous ARP, or an unsolicited
/// neighbour advertisement.
fn announces(frame: &SeenFrame, address: std::net::IpAddr) -> bool {
    let payload = frame.payload();
    match address {
        std::net::IpAddr::V4(address) => {
            // Sender and target are the same; both operations are in use.
            frame.ether_type() == ARP
                && payload.get(14..18) == Some(&address.octets()[..])
                && payload.get(24..28) == Some(&address.octets()[..])
                && payload.get(8..14) == Some(&mac(VIRTUAL_MAC)[..])
        }
        std::net::IpAddr::V6(address) => {
            // To all nodes, ICMPv6 type 136, its target.
            frame.ether_type() == IPV6
                && payload.get(24..26) == Some(&[0xff, 0x02][..])
                && payload.get(40) == Some(&136)
                && payload.get(48..64) == Some(&address.octets()[..])
        }
    }
}

fn from_node(frame: &SeenFrame) -> bool {
    Network::BOTH.iter().all(|network| frame.from() != mac(network.link().host_mac))
}

#[test]
fn s_28_x_02_x_20_every_shared_address_is_announced_at_once_after_a_takeover() {
    let mut bench = PairBench::up();
    let taps = Network::BOTH.map(|network| {
        let host = network.link().host;
        (network, FrameTap::start(host, "eth0", from_node).unwrap())
    });
    thread::sleep(Duration::from_millis(1200));
    taps.iter().for_each(|(_, tap)| tap.clear());
    let kill = kill_active(bench.lab(), Host::A).unwrap();
    let active = kill.at + kill.detected.expect("b took over");
    thread::sleep(Duration::from_millis(1500));
    for (network, tap) in &taps {
        for family in Family::BOTH {
            let gateway = network.link().host.gateway(family).unwrap();
            let announced = tap.seen(|frame| announces(frame, gateway));
            assert!(announced.len() >= 3, "{network:?} {family:?}: {} in the burst", announced.len());
            assert!(announced.iter().all(|frame| frame.from() == mac(VIRTUAL_MAC)));
            let first = announced[0].at;
            // The event is logged by another thread than the one that announces: either may be first.
            let late = first.saturating_duration_since(active);
            assert!(late < Duration::from_millis(50), "{network:?} {family:?}: {late:?} after the role");
            assert!(first > kill.at + Duration::from_millis(100), "{network:?} {family:?}: before its turn");
        }
    }
}

#[test]
fn s_27_the_standby_never_speaks_for_the_shared_addresses() {
    let mut bench = PairBench::up();
    // Else the switch would show each of the active's announcements at the standby's port as well.
    faults::keep_apart(true).unwrap();
    let taps = |node: Host| {
        Network::BOTH.map(|network| {
            FrameTap::start(Host::Switch, &network.node_port(node), |frame| frame.from() == mac(VIRTUAL_MAC))
                .unwrap()
        })
    };
    let (active, standby) = (taps(Host::A), taps(Host::B));
    for network in Network::BOTH {
        for family in Family::BOTH {
            // Asked by address, which everybody on the link hears.
            let host = network.link().host;
            let flush = ["-n", host.namespace(), "neighbour", "flush", "dev", "eth0"];
            exec::check(std::process::Command::new("ip").args(flush), exec::SHORT).unwrap();
            ping(host, host.gateway(family).unwrap(), 2, &["-w", "1"]).unwrap();
        }
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.roles(), ("active".into(), "standby".into()), "the sync link is enough");
    for tap in &active {
        assert!(tap.count() >= 2, "the active answers who asks for its addresses: {}", tap.count());
    }
    for tap in &standby {
        assert_eq!(tap.seen(|_| true), []);
    }
}

#[test]
fn x_02_what_waited_for_the_dead_node_is_not_delivered_later() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, 7007).unwrap();
    let socket = udp_socket(Host::Client, Family::V4, 7007).unwrap();
    assert!(udp_round_trip(&socket, b"before").unwrap());
    bench.wait_equal(1);
    let process = bench.process(Host::A);
    assert!(process.signal(Signal::KILL));
    // While nobody forwards the switch floods these to both nodes, and the standby's ring keeps them.
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut sent, mut answers) = (Vec::<Instant>::new(), BTreeMap::<u16, Duration>::new());
    let mut exchange = |rounds: usize| {
        for _ in 0..rounds {
            socket.send(&(sent.len() as u16).to_be_bytes()).unwrap();
            sent.push(Instant::now());
            let mut number = [0; 2];
            while socket.recv(&mut number).is_ok() {
                let number = u16::from_be_bytes(number);
                answers.insert(number, sent[usize::from(number)].elapsed());
            }
        }
        (sent.len(), answers.clone())
    };
    tests::eventually("role of b", "active".to_owned(), || {
        exchange(20);
        bench.role(Host::B)
    });
    let (before, _) = exchange(0);
    let (all, answers) = exchange(100);
    let fresh = answers.keys().filter(|number| usize::from(**number) >= before).count();
    assert!(fresh >= 50, "only {fresh} of 100 came back");
    assert!(answers.len() + 5 <= all, "nobody forwarded for a while: {} of {all}", answers.len());
    // What the new active node forwards is back at once; what waited for it was thrown away.
    let late: Vec<_> = answers.iter().filter(|(_, took)| **took > Duration::from_millis(100)).collect();
    assert!(late.is_empty(), "sent long before the takeover, delivered after it: {late:?}");
    assert!(process.gone_within(SOON));
    bench.node(Host::A).stop();
}
