//! Are errors reported where they belong, and only there?

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use lab::{
    Family, Host,
    echo::{EchoServer, udp_socket},
    traffic::ping,
};
use tests::{Bench, connections, eventually};

#[test]
fn a_packet_whose_hops_run_out_is_reported_by_the_firewall() {
    let _bench = Bench::up();
    for family in Family::BOTH {
        let gateway = Host::Client.gateway(family).unwrap();
        let report = ping(Host::Client, family.server(), 3, &["-t", "1"]).unwrap();
        assert_eq!((report.sent, report.received), (3, 0), "{}", report.text);
        assert!(report.errors >= 1, "{}", report.text);
        assert!(report.text.contains(&format!("From {gateway}")), "{}", report.text);
        let reached = ping(Host::Client, family.server(), 1, &["-t", "2"]).unwrap();
        assert_eq!(reached.received, 1, "{}", reached.text);
    }
}

#[test]
fn port_unreachable_reaches_the_sender_of_the_datagram() {
    let bench = Bench::up();
    for family in Family::BOTH {
        let socket = udp_socket(Host::Client, family, 7999).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "{family:?}: {error}, drops {:?}",
            bench.drops()
        );
    }
}

#[test]
fn a_refused_connection_is_refused_end_to_end() {
    let _bench = Bench::up();
    for family in Family::BOTH {
        let to = SocketAddr::new(family.server(), 7998);
        let outcome = lab::probe::connect(Host::Client, to, Duration::from_secs(2)).unwrap();
        assert!(matches!(outcome, lab::probe::ConnectOutcome::Refused), "{family:?}: {outcome:?}");
    }
}

#[test]
fn a_closed_port_does_not_disturb_others() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, 7007).unwrap();
    let mut open = connections(Family::V4, 7007, 1);
    assert_eq!(open.round(0), 1);
    let socket = udp_socket(Host::Client, Family::V4, 7999).unwrap();
    for _ in 0..3 {
        socket.send(b"x").unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
    }
    assert_eq!(open.round(1), 1);
    eventually("sessions", (1, 1), || (bench.count(&["--proto", "tcp"]), bench.count(&["--proto", "udp"])));
}
