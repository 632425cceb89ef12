//! Are sessions what they say, and do they end when they should?

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use lab::{
    Family, Host, LabOptions,
    config::ALLOW_RULE,
    echo::{EchoServer, udp_round_trip, udp_socket},
    traffic::ping,
};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use tests::{Bench, SOON, connections, eventually};

const ECHO: u16 = 7007;

#[test]
fn b_35_a_session_shows_who_what_and_why() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let mut open = connections(family, ECHO, 1);
        assert_eq!(open.round(0), 1);
        let own_port = open.streams()[0].local_addr().unwrap().port();
        let sessions = bench.operator.sessions(&["--port", &own_port.to_string()]).unwrap();
        assert!(!sessions.truncated);
        let [row] = &sessions.rows[..] else { panic!("one session: {:?}", sessions.rows) };
        assert_eq!((row.from.address, row.from.port), (family.client(), own_port));
        assert_eq!((row.to.address, row.to.port), (family.server(), ECHO));
        assert_eq!((row.from_zone.as_str(), row.to_zone.as_str()), ("lan", "wan"));
        assert_eq!(row.rule, ALLOW_RULE);
        assert_eq!(row.proto, proto::Protocol::TCP);
        assert_eq!(row.state.to_ascii_lowercase(), "established");
        // At least SYN, ACK, data; SYN-ACK, echo. Delayed ACKs and, on a slow machine, retransmissions add some.
        assert!(row.packets.fwd >= 3 && row.packets.rev >= 2, "{row:?}");
        assert!(row.bytes.fwd > 8 * 20 && row.bytes.rev > 8 * 20, "{row:?}");
        assert_eq!(row.group, 0);
        assert!(!row.replicated);
        assert_eq!(row.sync, "no(no partner)");
        assert!(row.expires_ms > 7_000_000, "{row:?}");
    }
}

#[test]
fn silent_flows_end_after_the_configured_time() {
    let timeouts = "[timeouts]\nudp-new = 1\nudp = 1\nicmp = 1\n";
    let bench = Bench::with(LabOptions::default().overlay(timeouts));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    for family in Family::BOTH {
        let socket = udp_socket(Host::Client, family, ECHO).unwrap();
        assert!(udp_round_trip(&socket, b"hello").unwrap());
        assert_eq!(ping(Host::Client, family.server(), 1, &[]).unwrap().received, 1);
    }
    // One second of silence and at most one pass of the timer behind it, on a machine that has other work.
    eventually("sessions", 0, || bench.count(&[]));
    // Four, unless the machine was so slow that one ended before its answer came.
    let usage = bench.status().sessions;
    assert!(usage.created_total >= 4, "{usage:?}");
    assert_eq!(usage.expired_total, usage.created_total, "{usage:?}");
}

#[test]
fn a_flow_that_goes_on_does_not_end() {
    let bench = Bench::with(LabOptions::default().overlay("[timeouts]\nudp-new = 2\nudp = 2\n"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let socket = udp_socket(Host::Client, Family::V4, ECHO).unwrap();
    for _ in 0..16 {
        assert!(udp_round_trip(&socket, b"still here").unwrap());
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(bench.status().sessions.created_total, 1, "four seconds, one session");
    assert_eq!(bench.count(&["--proto", "udp"]), 1);
}

#[test]
fn closed_connections_leave_the_table() {
    let timeouts = "[timeouts]\ntcp-closing = 1\ntcp-time-wait = 1\ntcp-close = 1\n";
    let bench = Bench::with(LabOptions::default().overlay(timeouts));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = connections(Family::V4, ECHO, 20);
    let mut stays = connections(Family::V6, ECHO, 1);
    assert_eq!((open.round(0), stays.round(0)), (20, 1));
    assert_eq!(bench.count(&[]), 21);
    drop(open);
    eventually("sessions", 1, || bench.count(&[]));
    assert_eq!(stays.round(1), 1);
}

#[test]
fn a_port_that_is_used_again_is_a_new_session() {
    let bench = Bench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    // The client's kernel must not be what stops it: it may reuse a waiting port after a second.
    let mut allow = lab::exec::on(Host::Client, "sysctl");
    lab::exec::check(allow.args(["-qw", "net.ipv4.tcp_tw_reuse=1"]), lab::exec::SHORT).unwrap();
    for (round, how) in ["close", "close", "reset", "close"].into_iter().enumerate() {
        let mut stream = connect_from_port(45_678, how == "reset");
        let payload = format!("round {round}");
        stream.write_all(payload.as_bytes()).unwrap();
        let mut answer = vec![0; payload.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, payload.as_bytes());
        if how == "close" {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut answer).unwrap(), 0, "the server closes, too");
        }
        drop(stream);
        thread::sleep(Duration::from_millis(1200));
    }
    assert_eq!(bench.count(&["--port", "45678"]), 1, "one at a time");
    let usage = bench.status().sessions;
    assert_eq!(usage.created_total, 1, "{usage:?}");
    assert_eq!(bench.counter("sessions-reopened"), 3, "drops {:?}", bench.drops());
}

/// A connection to the echo server from a chosen port; closing it may reset it.
fn connect_from_port(port: u16, reset_on_close: bool) -> TcpStream {
    let from = SocketAddr::new(Family::V4.client(), port);
    let to = SocketAddr::new(Family::V4.server(), ECHO);
    let connected = lab::netns::within(Host::Client, || -> rustix::io::Result<OwnedFd> {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if reset_on_close {
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        }
        net::bind(&socket, &from)?;
        net::connect(&socket, &to)?;
        Ok(socket)
    });
    let stream = TcpStream::from(connected.unwrap().unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn a_full_table_refuses_newcomers_and_keeps_what_it_has() {
    let capacity = 1024;
    let overlay = format!("[sessions]\ncapacity = {capacity}\n");
    let bench = Bench::with(LabOptions::default().overlay(overlay));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = connections(Family::V4, ECHO, 50);
    assert_eq!(open.round(0), 50);
    // A flood of one-packet flows, each from a port of its own.
    let sockets: Vec<_> = (0..2 * capacity)
        .map(|_| {
            let socket = udp_socket(Host::Client, Family::V4, 7999).unwrap();
            socket.send(b"x").unwrap();
            socket
        })
        .collect();
    eventually("refusals", true, || bench.status().sessions.refused_full_total > 0);
    let usage = bench.status().sessions;
    assert!(usage.in_use <= usage.capacity, "{usage:?}");
    assert_eq!(open.round(1), 50, "established connections are never evicted");
    assert_eq!(bench.count(&["--proto", "tcp", "--port", "7007"]), 50);
    drop(sockets);
}

#[test]
fn a_flood_of_half_open_connections_shuts_nobody_out() {
    let bench = Bench::with(LabOptions::default().overlay("[sessions]\nhalf-open-max = 100\n"));
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = connections(Family::V4, ECHO, 20);
    assert_eq!(open.round(0), 20);
    // Nobody has this address, so nobody answers.
    let nobody: SocketAddr = "10.2.0.77:80".parse().unwrap();
    let flood = lab::netns::within(Host::Client, || {
        let begin = |_| -> rustix::io::Result<OwnedFd> {
            let socket =
                net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
            match net::connect(&socket, &nobody) {
                Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
                other => other.map(|()| socket),
            }
        };
        (0..500).map(begin).collect::<rustix::io::Result<Vec<_>>>()
    });
    let flood = flood.unwrap().unwrap();
    eventually("victims", true, || bench.counter("half-open-evicted") >= 400);
    let usage = bench.status().sessions;
    assert!(usage.half_open <= 100, "{usage:?}");
    assert_eq!(usage.refused_full_total, 0, "{usage:?}");
    assert_eq!(open.round(1), 20, "what is established stays");
    assert_eq!(connections(Family::V4, ECHO, 20).round(2), 20, "and newcomers get in");
    drop(flood);
}
