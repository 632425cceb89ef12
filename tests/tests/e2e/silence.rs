//! Is it the firewall that answers, and nobody else?

use lab::{Family, Host, LabOptions, echo::EchoServer, netns::counters, topology::LINKS, traffic::ping};
use tests::{Bench, connections, eventually};

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
    // What arrived before the daemon had opened its ports is the kernel's alone.
    let frames = |bench: &Bench| {
        let ports = bench.status().ports;
        let kernel = LINKS.map(|link| counters(Host::A, link.node_interface).unwrap());
        let of_kernel: Vec<_> =
            kernel.iter().map(|counted| (counted.rx_packets, counted.tx_packets)).collect();
        let of_daemon: Vec<_> = ports.iter().map(|port| (port.rx_packets, port.tx_packets)).collect();
        (of_kernel, of_daemon)
    };
    let (kernel_before, daemon_before) = frames(&bench);
    for family in Family::BOTH {
        assert_eq!(connections(family, 7007, 20).round(0), 20);
        ping(Host::Client, Host::Client.gateway(family).unwrap(), 2, &["-w", "1"]).unwrap();
        ping(Host::Server, family.client(), 2, &["-w", "1"]).unwrap();
    }
    let grown = |now: Vec<(u64, u64)>, before: &[(u64, u64)]| -> Vec<(u64, u64)> {
        now.iter().zip(before).map(|(now, before)| (now.0 - before.0, now.1 - before.1)).collect()
    };
    // Once nothing flows any more both have the same numbers.
    eventually("kernel and daemon differ by", Vec::new(), || {
        let (kernel, daemon) = frames(&bench);
        let (kernel, daemon) = (grown(kernel, &kernel_before), grown(daemon, &daemon_before));
        assert!(daemon.iter().all(|(rx, tx)| *rx > 80 && *tx > 80), "{daemon:?}");
        if kernel == daemon { Vec::new() } else { vec![kernel, daemon] }
    });
}
