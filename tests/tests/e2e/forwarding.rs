//! Does what is allowed get through, whole and unchanged?

use std::{net::SocketAddr, time::Duration};

use lab::{
    Family, Host, LabOptions,
    echo::{Connections, EchoServer, udp_round_trip, udp_socket},
    servers::{HttpServer, IperfServer},
    traffic::{IperfPlan, download, iperf, ping, sha256},
};
use tests::{Bench, connections, eventually};

const ECHO: u16 = 7007;

#[test]
fn x_20_http_downloads_are_exact_in_both_families() {
    let bench = Bench::up();
    let server = HttpServer::start(Host::Server, 8080).unwrap();
    let file = server.publish_random("file", 20_000_000, 7).unwrap();
    for family in Family::BOTH {
        let got =
            download(Host::Client, family, &server.url(family, "file"), Duration::from_secs(60)).unwrap();
        assert_eq!(got.bytes, 20_000_000, "{family:?}");
        assert_eq!(got.sha256, sha256(&file).unwrap(), "{family:?}");
        let address = family.server().to_string();
        assert_eq!(
            bench.count(&["--proto", "tcp", "--address", &address, "--port", "8080"]),
            1,
            "{family:?}"
        );
    }
    assert_eq!(bench.count(&[]), 2);
}

#[test]
fn x_20_uploads_and_downloads_of_iperf3_flow_in_both_families() {
    let bench = Bench::up();
    let _server = IperfServer::start(Host::Server, 5201).unwrap();
    for family in Family::BOTH {
        for reverse in [false, true] {
            let report = iperf(IperfPlan { reverse, ..IperfPlan::tcp(family, 5201, 1) }).unwrap();
            assert!(report.mbit_per_s > 20.0, "{family:?} reverse {reverse}: {report:?}");
        }
    }
    // A control connection and a data connection for each of the four runs. The first ones may have gone.
    assert_eq!(bench.status().sessions.created_total, 8);
}

#[test]
fn x_20_pings_return_in_both_families() {
    let bench = Bench::up();
    for family in Family::BOTH {
        let report = ping(Host::Client, family.server(), 10, &[]).unwrap();
        assert_eq!((report.sent, report.received), (10, 10), "{}", report.text);
    }
    assert_eq!(bench.count(&["--proto", "icmp"]), 1);
    assert_eq!(bench.count(&["--proto", "icmpv6"]), 1);
}

#[test]
fn frames_of_the_full_mtu_pass() {
    let _bench = Bench::up();
    // 1500 = 20 + 8 + 1472 in IPv4, 40 + 8 + 1452 in IPv6.
    for (family, fits) in [(Family::V4, 1472), (Family::V6, 1452)] {
        let size = fits.to_string();
        let report = ping(Host::Client, family.server(), 3, &["-M", "do", "-s", &size]).unwrap();
        assert_eq!((report.sent, report.received), (3, 3), "{}", report.text);
    }
}

#[test]
fn x_20_datagrams_of_every_size_come_back_unchanged() {
    let bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    for (family, largest) in [(Family::V4, 1472), (Family::V6, 1452)] {
        let socket = udp_socket(Host::Client, family, ECHO).unwrap();
        let sizes = [0, 1, 17, 18, 19, 63, 512, 1400, largest - 1, largest];
        for size in sizes {
            let payload: Vec<u8> = (0..size).map(|index| (index * 7 + size) as u8).collect();
            assert!(udp_round_trip(&socket, &payload).unwrap(), "{family:?}, {size} bytes");
        }
        let address = family.server().to_string();
        assert_eq!(bench.count(&["--proto", "udp", "--address", &address]), 1, "one flow, one session");
    }
    assert_eq!(server.datagrams(), 20);
}

#[test]
fn x_20_hundreds_of_connections_are_open_at_once_and_all_are_counted() {
    let bench = Bench::up();
    let server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut connections = connections(family, ECHO, 300);
        for round in 0..3 {
            assert_eq!(connections.round(round), 300, "{family:?}, round {round}, drops {:?}", bench.drops());
        }
        let address = family.server().to_string();
        let counts = bench.operator.session_counts(&["--address", &address, "--port", "7007"]).unwrap();
        assert_eq!(counts.total, 300);
        assert_eq!(counts.by_state.len(), 1, "all in one state: {:?}", counts.by_state);
    }
    assert_eq!(server.accepted(), 600);
}

#[test]
fn two_workers_share_the_flows_and_lose_none() {
    let bench = Bench::with(LabOptions::default().workers(2));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut connections = connections(family, ECHO, 200);
        for round in 0..3 {
            assert_eq!(connections.round(round), 200, "{family:?}, round {round}, drops {:?}", bench.drops());
        }
        let report = ping(Host::Client, family.server(), 5, &[]).unwrap();
        assert_eq!(report.received, 5, "{}", report.text);
    }
    let workers = bench.status().workers;
    assert_eq!(workers.len(), 2);
    let shares: Vec<u64> = workers.iter().map(|worker| worker.sessions).collect();
    assert_eq!(shares.iter().sum::<u64>(), bench.count(&[]), "{shares:?}");
    // 402 flows over 128 steering buckets: a share under a quarter is no accident.
    assert!(shares.iter().all(|share| *share > 100), "{shares:?}");
}

#[test]
fn two_workers_carry_a_download() {
    let _bench = Bench::with(LabOptions::default().workers(2));
    let server = HttpServer::start(Host::Server, 8080).unwrap();
    let file = server.publish_random("file", 10_000_000, 9).unwrap();
    for family in Family::BOTH {
        let got =
            download(Host::Client, family, &server.url(family, "file"), Duration::from_secs(60)).unwrap();
        assert_eq!(got.sha256, sha256(&file).unwrap(), "{family:?}");
    }
}

#[test]
fn busy_polling_forwards_as_adaptive_does() {
    let options = LabOptions { polling: Some(lab::Polling::Busy), ..LabOptions::default() };
    let bench = Bench::with(options);
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    assert_eq!(connections(Family::V4, ECHO, 50).round(0), 50);
    assert_eq!(bench.status().workers[0].polling, "busy");
}

#[test]
fn packet_buffers_come_back_after_traffic_and_after_refusals() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut connections = connections(family, ECHO, 100);
        assert_eq!(connections.round(0), 100);
        drop(connections);
        // Nobody has this address: packets wait for a neighbour that never answers.
        let nobody = match family {
            Family::V4 => "10.2.0.77",
            Family::V6 => "fd00:2::77",
        };
        ping(Host::Client, nobody.parse().unwrap(), 5, &["-W", "1"]).unwrap();
        // And some that policy denies.
        let inside = SocketAddr::new(family.client(), ECHO);
        assert!(Connections::open(Host::Server, inside, 1, Duration::from_millis(300)).is_err());
    }
    eventually("packet buffers in use", 0, || bench.status().mbufs.in_use);
}
