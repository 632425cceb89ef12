//! What takes minutes: `make soak`.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, Network,
    crowd::TcpCrowd,
    echo::EchoServer,
    frames::{FrameTap, mac},
    stream::{StreamKind, Streams},
    topology::VIRTUAL_MAC,
};
use rustix::process::Signal;
use tests::pair::{Mark, PairBench};

const ECHO: u16 = 7007;

#[test]
#[ignore = "minutes: make soak"]
fn b_18_keys_change_every_minute_and_nothing_is_lost() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    let (mark, started) = (Mark::now(), Instant::now());
    while started.elapsed() < Duration::from_secs(200) {
        drop(tests::connections(Family::V4, ECHO, 20));
        thread::sleep(Duration::from_millis(200));
    }
    let names: Vec<_> = bench.events(Host::A, mark).into_iter().map(|event| event.name).collect();
    assert!(names.iter().filter(|name| *name == "keys_renewed").count() >= 3, "{names:?}");
    assert!(!names.iter().any(|name| name == "path_down" || name == "role_changed"), "{names:?}");
    bench.wait_ready(Host::A);
    bench.wait_equal(4);
    for (kind, missing) in streams.finish() {
        assert!(missing.is_empty(), "{kind:?}: {missing:?}");
    }
}

#[test]
#[ignore = "a minute: make soak"]
fn s_27_the_active_announces_in_regular_intervals() {
    let _bench = PairBench::up();
    let tap = FrameTap::start(Host::Client, "eth0", |frame| {
        frame.from() == mac(VIRTUAL_MAC) && frame.ether_type() == 0x0806 && frame.to() == [0xff; 6]
    })
    .unwrap();
    thread::sleep(Duration::from_secs(2));
    tap.clear();
    thread::sleep(Duration::from_secs(45));
    let mut rounds: Vec<Instant> = Vec::new();
    for frame in tap.seen(|_| true) {
        if rounds.last().is_none_or(|last| frame.at - *last > Duration::from_secs(1)) {
            rounds.push(frame.at);
        }
    }
    let pauses: Vec<_> = rounds.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    assert!(pauses.len() >= 3, "{pauses:?} on {:?}", Network::Lan);
    assert!(pauses.iter().all(|pause| (9.0..11.0).contains(pause)), "{pauses:?}");
}

#[test]
#[ignore = "minutes: make soak"]
fn x_10_nodes_that_stop_again_and_again_never_forward_both() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 40, Duration::from_millis(50)).unwrap();
    bench.wait_equal(40);
    let mut active = Host::A;
    for round in 0..8 {
        bench.signal(active, Signal::STOP);
        tests::eventually("role of the other", "active".to_owned(), || bench.role(active.partner()));
        thread::sleep(Duration::from_secs(5));
        bench.signal(active, Signal::CONT);
        active = active.partner();
        bench.wait_ready(active);
        bench.wait_equal(40);
        let alive = tcp.wait_alive_since(Instant::now(), Duration::from_secs(15));
        assert_eq!(alive, 40, "round {round}: {:?}", tcp.members());
    }
}
