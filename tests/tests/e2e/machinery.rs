//! Do the lab's own instruments tell the truth? An outage of known length through one node.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host,
    crowd::{TcpCrowd, UdpCrowd},
    echo::EchoServer,
    ssh::{SshServer, Typist},
    stream::{StreamKind, Streams},
};
use rustix::process::Signal;
use tests::Bench;

#[test]
fn an_outage_is_measured_as_long_as_it_was_and_sessions_outlive_it() {
    let mut bench = Bench::up();
    let server = EchoServer::start(Host::Server, 7007).unwrap();
    let tcp = TcpCrowd::start(7007, 40, Duration::from_millis(50)).unwrap();
    let udp = UdpCrowd::start(10, Duration::from_millis(20)).unwrap();
    let sshd = SshServer::start(Host::Server, 2222).unwrap();
    let typist = Typist::start(&sshd, Family::V6, Duration::from_millis(20)).unwrap();
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1)).unwrap();
    thread::sleep(Duration::from_millis(500));
    let quiet = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let before = streams.track(StreamKind::Udp(Family::V4)).unwrap().longest_silence(quiet, Instant::now());
    let stopped = Instant::now();
    assert!(bench.process().signal(Signal::STOP));
    thread::sleep(Duration::from_millis(700));
    assert!(bench.process().signal(Signal::CONT));
    let resumed = Instant::now();
    assert_eq!(tcp.wait_alive_since(resumed, Duration::from_secs(10)), 40, "{:?}", tcp.members());
    assert_eq!(udp.wait_alive_since(resumed, Duration::from_secs(2)), 10);
    assert!(typist.wait_alive_since(resumed, Duration::from_secs(10)), "{:?}", typist.state());
    let outage = resumed - stopped;
    for track in streams.tracks() {
        let silence = track.longest_silence(stopped, Instant::now());
        assert!(
            silence.length + Duration::from_millis(20) > outage
                && silence.length < outage + Duration::from_secs(1),
            "{:?}: {silence:?} in an outage of {outage:?} (in quiet: {before:?})",
            track.kind()
        );
        assert!(track.sent() > 1000, "{:?}: only {} sent", track.kind(), track.sent());
    }
    assert_eq!(server.accepted(), 40);
    // What the stopped firewall's rings could not hold is named, and nothing else.
    let lost: usize = streams.finish().iter().map(|(_, missing)| missing.len()).sum();
    assert!(lost < 3000, "{lost}");
}
