//! Does anything have an effect that is not from the partner, fresh, and whole? And does anybody on the link
//! learn what the nodes tell each other?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, Network, SyncLink,
    crowd::TcpCrowd,
    echo::EchoServer,
    faults,
    frames::{FramePort, FrameTap, mac},
};
use sync::{
    datagram::{HEADER, Kind, TAG},
    ids::{Incarnation, Micros, NodeId, PairId, PathId},
    keys::{Entropy, Event, Identity, Keys, SecretKey, Timing},
};
use tests::{
    datagram::Datagram,
    pair::{Mark, PairBench},
};

const ECHO: u16 = 7007;
const STREAM: u16 = 689;
const HEARTBEAT: u16 = 801;

/// Frames of node a on the sync link, for a while with traffic: what an eavesdropper has.
fn eavesdrop(bench: &mut PairBench) -> Vec<Datagram> {
    let tap = FrameTap::start(Host::Switch, "sync0-b", |_| true).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 20);
    assert_eq!(open.round(0), 20);
    bench.wait_ready(Host::A);
    let own = mac(&SyncLink::FIRST.node_mac(Host::A));
    let mut all: Vec<Datagram> = Vec::new();
    // Heartbeats alone make ten datagrams a second.
    tests::eventually("enough datagrams", true, || {
        all = tap.seen(|frame| frame.from() == own).iter().filter_map(Datagram::of).collect();
        all.len() > 10
    });
    all
}

#[test]
fn b_17_the_sync_link_shows_no_addresses_and_no_ports() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tap = FrameTap::start(Host::Switch, "sync0-a", |_| true).unwrap();
    let lan = FrameTap::start(Host::Switch, &Network::Lan.node_port(Host::B), |frame| {
        Datagram::of(frame).is_some_and(|datagram| datagram.port == STREAM || datagram.port == HEARTBEAT)
    })
    .unwrap();
    let mut open = Family::BOTH.map(|family| tests::connections(family, ECHO, 50));
    bench.wait_equal(100);
    let frames = [tap.seen(|_| true), lan.seen(|_| true)].concat();
    assert!(frames.len() > 20, "{}", frames.len());
    // An address with its port behind it, in either byte order: six bytes do not meet by chance.
    let mut needles: Vec<Vec<u8>> = Vec::new();
    for stream in open.iter_mut().flat_map(|connections| connections.streams()) {
        let port = stream.local_addr().unwrap().port();
        for bytes in [port.to_be_bytes(), port.to_le_bytes()] {
            needles.push([&[10, 1, 0, 10][..], &bytes].concat());
            needles.push([&bytes[..], &ECHO.to_be_bytes()].concat());
        }
    }
    needles.push(vec![10, 1, 0, 10, 10, 2, 0, 10]);
    needles.push(vec![0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    for frame in &frames {
        let payload = frame.payload();
        // Behind the headers, where the nodes' own addresses are.
        let sealed = payload.get(28..).unwrap_or_default();
        let found = needles.iter().find(|needle| {
            needle.len() >= 6 && sealed.windows(needle.len()).any(|window| window == &needle[..])
        });
        assert_eq!(found, None, "in the clear: {sealed:02x?}");
    }
}

#[test]
fn b_17_x_09_what_is_not_fresh_and_from_the_partner_is_counted_and_changes_nothing() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let tcp = TcpCrowd::start(ECHO, 20, Duration::from_millis(50)).unwrap();
    let heard = eavesdrop(&mut bench);
    bench.wait_ready(Host::A);
    let (mark, resident) = (Mark::now(), bench.process(Host::B).resident_kib().unwrap());
    let sessions = bench.dump(Host::B);
    let before = bench.rejected(Host::B);
    let port = faults::sync_port(SyncLink::FIRST, Host::B).unwrap();
    let send = |datagram: &Datagram| assert!(port.send(&datagram.to_frame()));
    let chosen: Vec<&Datagram> = heard.iter().rev().take(40).collect();
    for datagram in &chosen {
        let (payload, sealed) = (&datagram.payload, HEADER..datagram.payload.len());
        send(datagram);
        for place in [sealed.start, sealed.end - 1, sealed.end - TAG] {
            let mut flipped = payload.clone();
            // A counter that was not seen, so that the tag decides and not the replay window.
            flipped[18] ^= 0x5a;
            flipped[20] ^= 0x40;
            flipped[place] ^= 1;
            send(&datagram.with(flipped));
        }
        for length in [0, 1, HEADER - 1, HEADER + TAG - 1] {
            send(&datagram.with(payload[..length.min(payload.len())].to_vec()));
        }
        let change = |place: usize, value: u8| {
            let mut changed = payload.clone();
            changed[place] = value;
            datagram.with(changed)
        };
        for (place, value) in [(0, b'x'), (2, 0), (3, 99), (4, 77), (5, 8), (6, 1), (6, 9), (7, 39), (8, 0)] {
            send(&change(place, value));
        }
        send(&change(16, datagram.payload[16] ^ 0x55));
        send(&datagram.with([&payload[..], &[0; 16]].concat()));
    }
    let mut random = 0x1234_5678_9abc_def1_u64;
    for length in (0..1400).step_by(7) {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            })
            .collect();
        send(&heard[0].with(noise));
        send(&Datagram { port: HEARTBEAT, ..heard[0].with(vec![0; length]) });
    }
    thread::sleep(Duration::from_millis(500));
    let after = bench.rejected(Host::B);
    let grown = |reason: &str| after.get(reason).unwrap_or(&0) - before.get(reason).unwrap_or(&0);
    for reason in [
        "truncated",
        "not-ours",
        "wrong-version",
        "wrong-kind",
        "wrong-pair",
        "reflected",
        "wrong-sender",
        "wrong-path",
        "wrong-incarnation",
        "wrong-key",
        "replayed",
        "forged",
    ] {
        assert!(grown(reason) > 0, "{reason} is not counted: {after:?}");
    }
    assert_eq!(bench.roles(), ("active".into(), "standby".into()));
    let names = bench.event_names(Host::B, mark);
    assert!(!names.contains("role_changed") && !names.contains("peer_gone"), "{names:?}");
    assert_eq!(bench.dump(Host::B), sessions, "nothing was installed, nothing went");
    bench.wait_ready(Host::A);
    let now = bench.process(Host::B).resident_kib().unwrap();
    assert!(now < resident + 4096, "{resident} KiB before, {now} KiB after");
    let kill = lab::demo::pair::kill_active(bench.lab(), Host::A).unwrap();
    let resumed = kill.at + kill.detected.expect("b takes over all the same");
    assert_eq!(tcp.wait_alive_since(resumed, Duration::from_secs(10)), 20, "{:?}", tcp.members());
}

#[test]
fn heartbeats_on_a_data_port_are_not_believed_from_anybody() {
    let mut bench = PairBench::up();
    let tap = FrameTap::start(Host::Switch, &Network::Lan.node_port(Host::B), |_| true).unwrap();
    thread::sleep(Duration::from_millis(700));
    let own = mac(&Network::Lan.node_mac(Host::A));
    let heard: Vec<Datagram> = tap
        .seen(|frame| frame.from() == own)
        .iter()
        .filter_map(Datagram::of)
        .filter(|datagram| datagram.port == HEARTBEAT)
        .collect();
    assert!(heard.len() >= 3, "{}", heard.len());
    // A host of the LAN repeats them, flips them, and goes on when node a is dead.
    let port = FramePort::open(Host::Client, "eth0").unwrap();
    let before = bench.rejected(Host::B);
    let mark = Mark::now();
    bench.kill(Host::A);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(900) {
        for datagram in &heard {
            port.send(&datagram.to_frame());
            let mut flipped = datagram.payload.clone();
            flipped[HEADER] ^= 1;
            flipped[20] ^= 0x40;
            port.send(&datagram.with(flipped).to_frame());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let takeover = bench.wait_event(Host::B, mark, "role_changed");
    assert!(takeover.became("active") && mark.ms_to(&takeover) < 800.0, "{takeover:?}");
    let after = bench.rejected(Host::B);
    for reason in ["replayed", "forged"] {
        assert!(after.get(reason) > before.get(reason), "{reason}: {before:?} {after:?}");
    }
}

/// Random bytes from the kernel.
struct Random;

impl Entropy for Random {
    fn draw(&mut self) -> [u8; 32] {
        use std::io::Read;
        let mut bytes = [0; 32];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// Somebody who plays node a on the sync link.
struct FakePeer {
    keys: Keys,
    port: FramePort,
    tap: FrameTap,
    taken: usize,
    started: Instant,
}

impl FakePeer {
    fn start(bench: &mut PairBench, secret: SecretKey) -> Self {
        let [_, b] = bench.lab().keys().clone();
        let id = Identity {
            pair: PairId(lab::topology::PAIR_ID),
            me: NodeId(0),
            peer: NodeId(1),
            incarnation: Incarnation(0x00fa_ce00_0000_0001),
            secret,
            partner: b.own().public(),
            paths: 1,
        };
        let own = mac(&SyncLink::FIRST.node_mac(Host::B));
        let tap = FrameTap::start(Host::Switch, "sync0-b", move |frame| frame.from() == own).unwrap();
        let port = faults::sync_port(SyncLink::FIRST, Host::B).unwrap();
        let started = Instant::now();
        let keys = Keys::new(id, Timing::default(), Box::new(Random), Micros(0));
        Self { keys, port, tap, taken: 0, started }
    }

    fn send(&self, payload: &[u8]) {
        let kind = payload.get(4).copied();
        let port = if kind == Some(Kind::Heartbeat as u8) { HEARTBEAT } else { STREAM };
        let datagram = Datagram {
            to_mac: [0xff; 6],
            from_mac: mac(&SyncLink::FIRST.node_mac(Host::A)),
            from: "169.254.77.1".parse().unwrap(),
            to: "169.254.77.2".parse().unwrap(),
            port,
            payload: payload.to_vec(),
        };
        self.port.send(&datagram.to_frame());
    }

    /// Talks for a while; true once both have keys.
    fn shake_hands(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut confirmed = false;
        while Instant::now() < deadline && !confirmed {
            let now = Micros(self.started.elapsed().as_micros() as u64);
            let mut buffer = [0; 2048];
            while let Some((_, length)) = self.keys.poll_transmit(now, &mut buffer) {
                self.send(&buffer[..length]);
            }
            thread::sleep(Duration::from_millis(5));
            let frames = self.tap.seen(|_| true);
            for frame in &frames[self.taken.min(frames.len())..] {
                if let Some(mut datagram) = Datagram::of(frame) {
                    let _ = self.keys.handle(now, PathId(0), &mut datagram.payload);
                }
            }
            self.taken = frames.len();
            while let Some(event) = self.keys.poll_event() {
                confirmed |= matches!(event, Event::PeerConfirmed { .. });
            }
        }
        confirmed
    }
}

#[test]
fn a_peer_with_another_key_gets_nowhere() {
    let mut bench = PairBench::up();
    bench.kill(Host::A);
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    let before = bench.rejected(Host::B);
    let mark = Mark::now();
    let mut stranger = FakePeer::start(&mut bench, SecretKey::from_random(Random.draw()));
    assert!(!stranger.shake_hands(Duration::from_secs(2)));
    let after = bench.rejected(Host::B);
    assert!(after.get("forged") > before.get("forged"), "{before:?} {after:?}");
    assert_eq!(bench.event_names(Host::B, mark), Default::default());
    assert_eq!(bench.role(Host::B), "active");
}

#[test]
fn a_partner_that_talks_nonsense_with_the_right_keys_changes_nothing() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    let mut open = tests::connections(Family::V4, ECHO, 10);
    assert_eq!(open.round(0), 10);
    bench.wait_equal(10);
    bench.kill(Host::A);
    tests::eventually("role of b", "active".to_owned(), || bench.role(Host::B));
    let secret = bench.lab().keys()[0].own().clone();
    let mut peer = FakePeer::start(&mut bench, secret);
    assert!(peer.shake_hands(Duration::from_secs(10)), "the key is the right one");
    let before = bench.rejected(Host::B);
    let resident = bench.process(Host::B).resident_kib().unwrap();
    let mut random = Random;
    for round in 0..300_usize {
        for kind in [Kind::Data, Kind::Ack, Kind::Heartbeat, Kind::Probe] {
            let mut buffer = [0; 2048];
            let body = (round * 4) % 1200;
            for chunk in buffer[HEADER..HEADER + body].chunks_mut(32) {
                let noise = random.draw();
                chunk.copy_from_slice(&noise[..chunk.len()]);
            }
            if let Some(length) = peer.keys.seal(kind, PathId(0), &mut buffer, body) {
                peer.send(&buffer[..length]);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(300));
    let after = bench.rejected(Host::B);
    assert!(after.get("malformed") > before.get("malformed"), "{before:?} {after:?}");
    assert_eq!(bench.role(Host::B), "active");
    assert_eq!(open.round(1), 10, "its sessions are what they were");
    let now = bench.process(Host::B).resident_kib().unwrap();
    assert!(now < resident + 8192, "{resident} KiB before, {now} KiB after");
    drop(peer);
    // The real one returns, and everything is as ever.
    bench.start(Host::A);
    bench.wait_ready(Host::B);
    bench.wait_equal(10);
}
