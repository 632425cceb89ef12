//! A pair in a test: both nodes, what they say of themselves, and faults by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::{
    Family, Host, Lab, LabOptions, Node, PairSettings,
    control::Control,
    demo::{Operator, pair::wait_pair},
    events::{LoggedEvent, now_us},
    exec,
    pairview::PairView,
    process::{ProcessRef, Stopped},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::SOON;

/// A running pair in a test.
pub struct PairBench {
    lab: Option<Lab>,
}

impl PairBench {
    /// A pair with the default configuration: a is active, b mirrors it.
    pub fn up() -> Self {
        Self::with(LabOptions::pair(PairSettings::default()))
    }

    /// A pair of a certain kind, in the same state.
    pub fn with(options: LabOptions) -> Self {
        let mut bench = Self::starting(options);
        bench.wait_ready(Host::A);
        bench
    }

    /// A pair whose daemons have just answered for the first time.
    pub fn starting(options: LabOptions) -> Self {
        let lab = Lab::up(&options).unwrap_or_else(|error| panic!("lab up: {error}"));
        Self { lab: Some(lab) }
    }

    /// The lab itself.
    pub fn lab(&mut self) -> &mut Lab {
        self.lab.as_mut().expect("up until the end")
    }

    /// Waits until a node is active and the other one mirrors all of its sessions.
    pub fn wait_ready(&mut self, active: Host) {
        wait_pair(self.lab(), active).unwrap_or_else(|error| panic!("{error}"));
    }

    /// A node.
    pub fn node(&mut self, host: Host) -> &mut Node {
        self.lab().node_at(host).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A node's control socket.
    pub fn control(&mut self, host: Host) -> Control {
        self.node(host).control()
    }

    /// The real `ha-ctl` at a node.
    pub fn operator(&mut self, host: Host) -> Operator {
        Operator::new(self.node(host).socket_path())
    }

    /// What a node says of itself; nothing while it does not answer.
    pub fn view(&mut self, host: Host) -> Option<PairView> {
        PairView::ask(&self.control(host))
    }

    /// A node's role; empty while it does not answer.
    pub fn role(&mut self, host: Host) -> String {
        self.view(host).map(|view| view.role).unwrap_or_default()
    }

    /// The roles of node a and of node b.
    pub fn roles(&mut self) -> (String, String) {
        (self.role(Host::A), self.role(Host::B))
    }

    /// Waits until both nodes have these roles, a's first.
    pub fn wait_roles(&mut self, a: &str, b: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let roles = self.roles();
            if roles == (a.into(), b.into()) {
                return;
            }
            assert!(Instant::now() < deadline, "roles are {roles:?} after {SOON:?}, expected {a} and {b}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A node's daemon.
    pub fn process(&mut self, host: Host) -> ProcessRef {
        self.node(host).process().expect("the daemon runs")
    }

    /// Sends a node's daemon a signal.
    pub fn signal(&mut self, host: Host, signal: Signal) {
        assert!(self.node(host).signal(signal), "no process to signal on {host:?}");
    }

    /// SIGKILL; back when the process is gone.
    pub fn kill(&mut self, host: Host) {
        let process = self.process(host);
        assert!(process.signal(Signal::KILL));
        assert!(process.gone_within(Duration::from_secs(5)));
        self.node(host).stop();
    }

    /// Starts a node that does not run.
    pub fn start(&mut self, host: Host) {
        self.lab().start(host).unwrap_or_else(|error| panic!("{error}"));
    }

    /// `ha-ctl sessions --count` at a node.
    pub fn count(&mut self, host: Host, filters: &[&str]) -> u64 {
        let counts = self.operator(host).session_counts(filters);
        counts.unwrap_or_else(|error| panic!("{error}")).total
    }

    /// Events that a node has logged since a moment.
    pub fn events(&mut self, host: Host, since: Mark) -> Vec<LoggedEvent> {
        let all = self.node(host).events();
        all.into_iter().filter(|event| event.at_us >= since.0).collect()
    }

    /// Names of the events that a node has logged since a moment.
    pub fn event_names(&mut self, host: Host, since: Mark) -> BTreeSet<String> {
        self.events(host, since).into_iter().map(|event| event.name).collect()
    }

    /// Waits for an event that a node logs after a moment.
    pub fn wait_event(&mut self, host: Host, since: Mark, name: &str) -> LoggedEvent {
        let found = exec::wait_for(name, SOON, || {
            self.events(host, since).into_iter().find(|event| event.name == name)
        });
        found.unwrap_or_else(|error| panic!("{error}; there are {:?}", self.event_names(host, since)))
    }

    /// What must be equal on both nodes of each session, as text.
    pub fn dump(&mut self, host: Host) -> BTreeSet<String> {
        let sessions = self.operator(host).sessions(&["--limit", "60000"]);
        let rows = sessions.unwrap_or_else(|error| panic!("{error}")).rows;
        rows.into_iter()
            .map(|row| {
                let ends = (
                    SocketAddr::new(row.from.address, row.from.port),
                    SocketAddr::new(row.to.address, row.to.port),
                );
                format!(
                    "{:?} {ends:?} {}>{} {} {}",
                    row.proto, row.from_zone, row.to_zone, row.rule, row.state
                )
            })
            .collect()
    }

    /// Waits until both nodes hold the same sessions, and at least so many: two empty tables prove nothing.
    pub fn wait_equal(&mut self, at_least: usize) {
        let deadline = Instant::now() + SOON;
        loop {
            let (a, b) = (self.dump(Host::A), self.dump(Host::B));
            if a == b && a.len() >= at_least {
                return;
            }
            let differ: Vec<_> = a.symmetric_difference(&b).take(5).collect();
            assert!(
                Instant::now() < deadline,
                "a has {}, b has {}, at least {at_least} are expected; they differ in {differ:?}",
                a.len(),
                b.len()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Datagrams of the partner's ports that a node refused, by reason.
    pub fn rejected(&mut self, host: Host) -> BTreeMap<String, u64> {
        let status = self.control(host).ask("status").unwrap_or_else(|error| panic!("{error}"));
        let rows = status["pair"]["rejected"].as_array().cloned();
        let rows = rows.unwrap_or_else(|| panic!("no refusals in {status}"));
        let reason = |row: &Value| row["reason"].as_str().unwrap_or_default().to_owned();
        rows.iter().map(|row| (reason(row), row["datagrams"].as_u64().unwrap_or(0))).collect()
    }

    /// Takes the lab down and tells how the daemons ended.
    pub fn down(mut self) -> Stopped {
        self.lab.take().expect("up until the end").down().expect("lab down")
    }
}

/// A moment, as events are stamped.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Mark {
    /// Now.
    pub fn now() -> Self {
        Self(now_us())
    }

    /// Milliseconds from here to an event.
    pub fn ms_to(self, event: &LoggedEvent) -> f64 {
        event.at_us.saturating_sub(self.0) as f64 / 1000.0
    }
}

/// An address of the server with a port.
pub fn server(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.server(), port)
}
