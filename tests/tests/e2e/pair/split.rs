//! What becomes of two halves that both worked, once they meet?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, Network,
    echo::{Connections, EchoServer},
    faults,
    frames::{FrameTap, mac},
    topology::VIRTUAL_MAC,
    traffic::ping,
};
use tests::{
    connections,
    pair::{Mark, PairBench},
};

const ECHO: u16 = 7007;

/// Sessions of an echo server's port that a node has.
fn count(bench: &mut PairBench, host: Host, port: u16) -> usize {
    usize::try_from(bench.count(host, &["--port", &port.to_string()])).unwrap()
}

/// Connections of one side: some from before the split, some that it opened itself.
struct Side {
    node: Host,
    port: u16,
    before: Connections,
    since: Vec<Connections>,
}

impl Side {
    fn new(node: Host, port: u16) -> Self {
        Self { node, port, before: connections(Family::V4, port, 3), since: Vec::new() }
    }

    /// The hosts are here for a while: what is from before goes on, and more is opened.
    fn work(&mut self, more: usize) {
        faults::hold_hosts(self.node).unwrap();
        assert_eq!(self.before.round(1), self.before.len(), "{:?}", self.node);
        for family in Family::BOTH {
            let mut fresh = connections(family, self.port, more / 2);
            assert_eq!(fresh.round(1), more / 2, "{family:?} on {:?}", self.node);
            self.since.push(fresh);
        }
    }

    fn count(&self) -> usize {
        self.before.len() + self.since.iter().map(Connections::len).sum::<usize>()
    }

    fn alive(&mut self, round: u32) -> usize {
        self.before.round(round) + self.since.iter_mut().map(|some| some.round(round)).sum::<usize>()
    }
}

/// Splits the pair, has both sides work, mends, and checks that the winner is this one and has everything.
fn split(bench: &mut PairBench, port: u16, work: [usize; 2], winner: Host) {
    let mut sides = Host::NODES.map(|node| Side::new(node, port));
    for side in &mut sides {
        assert_eq!(side.before.round(0), 3);
    }
    bench.wait_equal(6);
    faults::partition().unwrap();
    let both = ("active".to_owned(), "active".to_owned());
    tests::eventually("both are active", both, || bench.roles());
    for (side, more) in sides.iter_mut().zip(work) {
        side.work(more);
    }
    for (host, more) in Host::NODES.into_iter().zip(work) {
        assert_eq!(count(bench, host, port), 6 + more, "{host:?} knows nothing of what the other one does");
    }
    // Announcements alone bring the hosts to the winner.
    faults::leave_hosts(winner.partner()).unwrap();
    let strays = Network::BOTH.map(|network| {
        let port = network.node_port(winner.partner());
        FrameTap::start(Host::Switch, &port, |frame| frame.to() == mac(VIRTUAL_MAC)).unwrap()
    });
    let (mark, mended) = (Mark::now(), Instant::now());
    faults::mend_all().unwrap();
    let told = |bench: &mut PairBench| (bench.events(Host::A, mark), bench.events(Host::B, mark));
    thread::sleep(Duration::from_secs(1).saturating_sub(mended.elapsed()));
    strays.iter().for_each(FrameTap::clear);
    for _ in 0..10 {
        let (a, b) = bench.roles();
        let active = [a == "active", b == "active"];
        assert_eq!(active, Host::NODES.map(|node| node == winner), "{:?}", told(bench));
        thread::sleep(Duration::from_millis(50));
    }
    for network in Network::BOTH {
        let host = network.link().host;
        ping(host, host.gateway(Family::V4).unwrap(), 3, &["-w", "1"]).unwrap();
    }
    for tap in &strays {
        assert_eq!(tap.seen(|_| true), [], "a second later nobody asks the loser");
    }
    bench.wait_ready(winner);
    let all: usize = sides.iter().map(Side::count).sum();
    bench.wait_equal(all);
    assert_eq!(count(bench, winner, port), all);
    for side in &mut sides {
        let (all, node) = (side.count(), side.node);
        assert_eq!(side.alive(2), all, "of {node:?}'s side; {:?}", told(bench));
    }
    // And the winner's copy on the other node is as good as ever.
    assert!(!bench.event_names(winner, mark).contains("mirror_corrupt"), "{:?}", told(bench));
}

#[test]
fn s_26_x_11_after_a_split_the_side_with_the_users_stays_and_gets_the_others_sessions() {
    let mut bench = PairBench::up();
    let _server = EchoServer::start(Host::Server, ECHO).unwrap();
    // The later term is b's, but the users were with a.
    split(&mut bench, ECHO, [24, 2], Host::A);
}

#[test]
fn s_26_x_11_after_a_split_of_equals_the_later_term_stays_every_time() {
    let mut bench = PairBench::up();
    for (port, winner) in [(ECHO, Host::B), (ECHO + 1, Host::A)] {
        let _server = EchoServer::start(Host::Server, port).unwrap();
        split(&mut bench, port, [6, 6], winner);
    }
}
