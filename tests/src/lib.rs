//! What the end-to-end suites share: a lab with the operator's tool at hand, and questions that are asked
//! until they are answered or time is up.
//!
//! The suites themselves are below `tests/e2e/`. Each test brings up a lab of its own; they need root and the
//! programs `understudyd`, `ha-ctl` and `lab` beside the test program (`cargo build --workspace --bins`).

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "everything in this crate is a test's own code")]

pub mod datagram;
pub mod pair;

use std::{
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::{
    Family, Lab, LabOptions, Node,
    demo::Operator,
    echo::Connections,
    process::{ProcessRef, Stopped},
    stream::Streams,
};

/// How long a change may take to be seen from outside: generous, since two busy cores are all there is.
pub const SOON: Duration = Duration::from_secs(5);

/// A running lab in a test.
pub struct Bench {
    lab: Option<Lab>,
    /// The real `ha-ctl` at the node.
    pub operator: Operator,
}

impl Bench {
    /// A lab with the default configuration.
    pub fn up() -> Self {
        Self::with(LabOptions::default())
    }

    /// A lab of a certain kind.
    pub fn with(options: LabOptions) -> Self {
        let mut lab = Lab::up(&options).unwrap_or_else(|error| panic!("lab up: {error}"));
        let socket = lab.node().expect("one node").socket_path();
        Self { lab: Some(lab), operator: Operator::new(socket) }
    }

    /// The firewall node.
    pub fn node(&mut self) -> &mut Node {
        self.lab.as_mut().expect("up until the end").node().expect("one node")
    }

    /// The daemon.
    pub fn process(&mut self) -> ProcessRef {
        self.node().process().expect("the daemon runs")
    }

    /// Takes the lab down and tells how the daemon ended.
    pub fn down(mut self) -> Stopped {
        self.lab.take().expect("up until the end").down().expect("lab down")
    }

    /// `ha-ctl status`.
    pub fn status(&self) -> proto::Status {
        self.operator.status().unwrap_or_else(|error| panic!("{error}"))
    }

    /// `ha-ctl sessions --count` with filters.
    pub fn count(&self, filters: &[&str]) -> u64 {
        self.operator.session_counts(filters).unwrap_or_else(|error| panic!("{error}")).total
    }

    /// Packets that a rule denied so far.
    pub fn denied(&self, rule: &str) -> u64 {
        self.operator.denied_by(rule).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Packets dropped so far for one reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        let counters = self.operator.counters().unwrap_or_else(|error| panic!("{error}"));
        let names: Vec<_> = counters.drops.iter().map(|drop| drop.name.clone()).collect();
        let found = counters.drops.into_iter().find(|drop| drop.name == reason);
        found.unwrap_or_else(|| panic!("there is no drop reason {reason} among {names:?}")).packets
    }

    /// Another counter than a drop reason.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.operator.counters().unwrap_or_else(|error| panic!("{error}"));
        let found = counters.other.iter().find(|counter| counter.name == name);
        found.unwrap_or_else(|| panic!("there is no counter {name} among {:?}", counters.other)).value
    }

    /// Packets dropped so far for any reason.
    pub fn drops(&self) -> Vec<(String, u64)> {
        self.operator.drops().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Asks until the answer is the expected one; the last answer is shown when time is up.
pub fn eventually<T: PartialEq + Debug>(what: &str, expected: T, mut ask: impl FnMut() -> T) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = ask();
        if answer == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {answer:?} after {SOON:?}, expected {expected:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// No stream was silent for so long in a span of time.
#[track_caller]
pub fn never_silent(streams: &Streams, from: Instant, to: Instant, limit: Duration) {
    for track in streams.tracks() {
        let silence = track.longest_silence(from, to).length;
        assert!(silence < limit, "{:?}: {silence:?}", track.kind());
    }
}

/// Connections from the client to a port of the server that must all come about.
pub fn connections(family: Family, port: u16, count: usize) -> Connections {
    let to = SocketAddr::new(family.server(), port);
    Connections::open(lab::Host::Client, to, count, SOON).unwrap_or_else(|error| panic!("{error}"))
}
