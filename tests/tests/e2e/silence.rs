//! Is it the firewall that answers, and nobody else?

use std::time::Duration;

use lab::{Family, Host, LabOptions, echo::EchoServer, netns::counters, topology::LINKS, traffic::ping};
use tests::{Bench, connections};

#[test]
fn the_nodes_kernel_sends_nothing_whatever_is_sent_to_it() {
    let _bench = Bench::with(LabOptions::default().without_daemon());
    for link in LINKS {
        for family in Family::BOTH {
            // Neighbour discovery for the gateway, and, once that is known, packets for it and through it.
            let gateway = link.host.gateway(family).unwrap();
            assert_eq!(ping(link.host, gateway, 3, &["-w", "1"]).unwrap().received, 0);
            let mut command = std::process::Command::new("ip");
            command.args(["-n", link.host.namespace(), "neighbour", "replace", &gateway.to_string()]);
            command.args(["lladdr", link.node_mac, "dev", "eth0"]);
            lab::exec::check(&mut command, lab::exec::SHORT).unwrap();
            assert_eq!(ping(link.host, gateway, 3, &["-w", "1"]).unwrap().received, 0);
            let far = if link.host == Host::Client { family.server() } else { family.client() };
            assert_eq!(ping(link.host, far, 3, &["-w", "1", "-t", "1"]).unwrap().received, 0);
        }
    }
    for link in LINKS {
        let counted = counters(Host::A, link.node_interface).unwrap();
        assert!(counted.rx_packets >= 12, "the knocking arrived: {counted:?}");
        assert_eq!(counted.tx_packets, 0, "{}", link.node_interface);
    }
}

#[test]
fn every_frame_that_leaves_the_node_was_sent_by_the_daemon() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, 7007).unwrap();
    for family in Family::BOTH {
        assert_eq!(connections(family, 7007, 20).round(0), 20);
        ping(Host::Client, Host::Client.gateway(family).unwrap(), 2, &["-w", "1"]).unwrap();
        ping(Host::Server, family.client(), 2, &["-w", "1"]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    // Nothing flows any more: both sides must have the same number.
    let status = bench.status();
    for (link, port) in LINKS.iter().zip(&status.ports) {
        let counted = counters(Host::A, link.node_interface).unwrap();
        assert!(port.tx_packets > 80, "{port:?}");
        assert_eq!(counted.tx_packets, port.tx_packets, "{}: kernel against daemon", link.node_interface);
        assert_eq!(counted.rx_packets, port.rx_packets, "{}: kernel against daemon", link.node_interface);
    }
}
