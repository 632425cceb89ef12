//! The world: nodes, links, users and what goes wrong, one event after the other.

mod faults;
mod network;
mod nodes;
mod users;
mod watch;

use crate::check::{Forwarding, Heard, Kept, Lineage, Merged, Span, Twin, Verdict};
use crate::clock::Clock;
use crate::link::Quality;
use crate::node::{Node, Packets};
use crate::rng::Rng;
use crate::setup::Setup;
use crate::workload::{Packet, Workload};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use sync::ids::{Micros, Term};
use sync::keys::SecretKey;
use sync::membership::{Mirror, Notice, Role};
use sync::pair::{PairStatus, Report};
use sync::stream;

/// Lines of a trace that are kept.
const TRACE: usize = 200_000;
/// Lines of it that a failed test shows.
const SHOWN: usize = 80;
/// Heartbeats that are recorded.
const RECORDED: usize = 64;

/// A course that broke a checker.
#[derive(Clone)]
pub struct Failure {
    /// When, in microseconds of the world.
    pub at: u64,
    /// What was seen.
    pub what: String,
    /// The last events before, if a trace was kept.
    pub trace: Vec<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.trace.len().saturating_sub(SHOWN);
        self.trace[from..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "{:>9.3} ms  VIOLATION: {}", self.at as f64 / 1_000.0, self.what)
    }
}

#[derive(Debug)]
enum Happening {
    Core { node: usize, life: u32 },
    Worker { node: usize, life: u32, worker: usize },
    Arrive { to: usize, path: usize, sent: u64, datagram: Vec<u8> },
    Report { node: usize, life: u32, report: Report },
    Persisted { node: usize, life: u32, term: Term },
    Unstick { node: usize, life: u32, worker: usize },
    Attract { node: usize, life: u32 },
    Packet(Packet, usize),
    User,
    Steady,
    Plan(usize),
    Start(usize),
}

/// What a takeover owes.
#[derive(Clone, Copy, Debug)]
struct Owed {
    node: usize,
    by: u64,
}

/// The pair and all around it.
pub struct World {
    setup: Setup,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    order: u64,
    nodes: [Node; 2],
    secrets: [SecretKey; 2],
    links: Vec<[Quality; 2]>,
    workload: Workload,
    rng: Rng,
    incarnations: u64,
    /// Where the switch believes the virtual MAC address to be.
    attracted: usize,
    faultless_since: u64,
    owed: Option<Owed>,
    lineage: Lineage,
    kept: Kept,
    twin: Twin,
    merged: Merged,
    /// What arrived of each node at the other one.
    heard: [Heard; 2],
    /// When each node became active last.
    activated: [u64; 2],
    forwarding: Forwarding,
    packets: Packets,
    /// Datagrams of the stream by path, as they were sent.
    carried: Vec<u64>,
    notices: [Vec<(u64, Notice)>; 2],
    stream_events: [Vec<(u64, stream::Event)>; 2],
    trace: Option<VecDeque<String>>,
    quiet: bool,
    events: u64,
    recorded: [VecDeque<(usize, Vec<u8>)>; 2],
    /// A table was damaged on purpose: what repairs it looks like a session from the dead.
    damaged: bool,
}

impl World {
    /// A world before its first event. With `trace` it writes down what happens.
    #[must_use]
    pub fn new(setup: Setup, trace: bool) -> Self {
        let mut rng = Rng::new(setup.seed);
        let mut keys = rng.fork();
        let secrets = [(); 2].map(|()| SecretKey::from_random(sync::keys::Entropy::draw(&mut keys)));
        let mut clock = |drift_ppm| Clock { offset: rng.range(1_000_000, 4_000_000_000), drift_ppm };
        let node = |clock| Node { clock, life: None, lives: 0, disk: Term::ZERO, frozen: 0, hung: 0 };
        let nodes = [node(clock(setup.drift_ppm[0])), node(clock(setup.drift_ppm[1]))];
        let interval = setup.interval();
        let forwarding = Forwarding::new(setup.paths.len(), interval * 18 / 10, 12 * interval + 30_000);
        let mut world = Self {
            workload: Workload::new(setup.load, rng.fork()),
            links: setup.paths.iter().map(|path| [path.quality; 2]).collect(),
            kept: Kept::new(setup.load.min_age_us),
            now: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            order: 0,
            nodes,
            secrets,
            rng,
            incarnations: 0,
            attracted: 0,
            faultless_since: 0,
            owed: None,
            lineage: Lineage::default(),
            twin: Twin::default(),
            merged: Merged::default(),
            heard: [Heard::default(); 2],
            activated: [0; 2],
            forwarding,
            packets: Packets::default(),
            carried: vec![0; setup.paths.len()],
            notices: [Vec::new(), Vec::new()],
            stream_events: [Vec::new(), Vec::new()],
            trace: trace.then(VecDeque::new),
            quiet: false,
            events: 0,
            recorded: [VecDeque::new(), VecDeque::new()],
            damaged: false,
            setup,
        };
        for node in [0, 1] {
            if world.setup.start_at[node] < u64::MAX {
                world.at(world.setup.start_at[node], Happening::Start(node));
            }
        }
        for index in 0..world.setup.plan.len() {
            world.at(world.setup.plan[index].0, Happening::Plan(index));
        }
        world.at(1, Happening::User);
        world.at(1, Happening::Steady);
        world
    }

    // ---- what may be asked from outside ----

    /// The time of the world, in microseconds.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Roles, as the nodes name them.
    #[must_use]
    pub fn roles(&self) -> [Option<Role>; 2] {
        [0, 1].map(|node| self.nodes[node].role())
    }

    /// Whether a node's workers forward now.
    #[must_use]
    pub fn forwards(&self, node: usize) -> bool {
        self.span(node).until > self.now
    }

    /// The only node that forwards.
    #[must_use]
    pub fn active(&self) -> Option<usize> {
        match [self.forwards(0), self.forwards(1)] {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// A node's status.
    #[must_use]
    pub fn status(&self, node: usize) -> Option<PairStatus> {
        let local = self.nodes[node].clock.shows(self.now);
        self.nodes[node].life.as_ref().map(|life| life.pair.status(local))
    }

    /// Everything that a node told its operator.
    #[must_use]
    pub fn notices(&self, node: usize) -> &[(u64, Notice)] {
        &self.notices[node]
    }

    /// How often a node said that.
    #[must_use]
    pub fn told(&self, node: usize, id: &str) -> usize {
        self.notices[node].iter().filter(|(_, notice)| notice.id() == id).count()
    }

    /// Everything that a node's stream told.
    #[must_use]
    pub fn stream_events(&self, node: usize) -> &[(u64, stream::Event)] {
        &self.stream_events[node]
    }

    /// What became of the steady sessions' packets.
    #[must_use]
    pub const fn packets(&self) -> Packets {
        self.packets
    }

    /// Datagrams with sessions that were sent over a path.
    #[must_use]
    pub fn carried(&self, path: usize) -> u64 {
        self.carried[path]
    }

    /// Sessions of losers and of winners of contests that were found in both tables after a merge.
    #[must_use]
    pub const fn merged(&self) -> [u64; 2] {
        self.merged.found
    }

    /// Since how long no path of a node carries the stream although its partner lives.
    #[must_use]
    pub fn stale_for(&self, node: usize) -> Option<Micros> {
        let local = self.nodes[node].clock.shows(self.now);
        let since = self.nodes[node].life.as_ref()?.pair.state().stale_since()?;
        Some(local.since(since))
    }

    /// Sessions that a node has and the other one has not, or only older.
    #[must_use]
    pub const fn ahead(&self, node: usize) -> u32 {
        self.twin.ahead(node)
    }

    /// Replicated or mirrored sessions of a node.
    #[must_use]
    pub fn sessions(&self, node: usize) -> usize {
        self.nodes[node].life.as_ref().map_or(0, |life| life.tables.borrow().shared().count())
    }

    /// The longest time that both nodes forwarded at once.
    #[must_use]
    pub const fn longest_overlap(&self) -> u64 {
        self.forwarding.longest_overlap
    }

    /// Whether the pair is as it should be: one active and proven, the other ready and complete.
    #[must_use]
    pub fn in_order(&self) -> bool {
        let [Some(a), Some(b)] = [0, 1].map(|node| self.nodes[node].life.as_ref()) else { return false };
        let roles = [a.pair.state().role(), b.pair.state().role()];
        let (active, standby) = match roles {
            [Role::Active, Role::Standby] => (a, b),
            [Role::Standby, Role::Active] => (b, a),
            _ => return false,
        };
        active.pair.stream().proven()
            && standby.pair.state().mirror() == Mirror::Complete
            && self.active().is_some()
    }

    /// A failure at this moment, for what a test finds itself.
    #[must_use]
    pub fn failure(&self, what: String) -> Failure {
        let trace = self.trace.as_ref().map_or(Vec::new(), |lines| lines.iter().cloned().collect());
        Failure { at: self.now, what, trace }
    }

    // ---- how it goes on ----

    /// Lets time pass until then.
    ///
    /// # Errors
    /// With what a checker saw.
    pub fn run_until(&mut self, until: u64) -> Result<(), Failure> {
        while let Some(&Reverse((at, _))) = self.queue.peek()
            && at <= until
        {
            self.next().map_err(|what| self.failure(what))?;
        }
        self.pass(until.max(self.now)).map_err(|what| self.failure(what))
    }

    /// Lets time pass until something is so. False if it did not become so in time.
    ///
    /// # Errors
    /// With what a checker saw.
    pub fn run_while(&mut self, until: u64, mut still: impl FnMut(&Self) -> bool) -> Result<bool, Failure> {
        while still(self) {
            let next = self.queue.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            if next > until {
                self.run_until(until)?;
                return Ok(!still(self));
            }
            self.next().map_err(|what| self.failure(what))?;
        }
        Ok(true)
    }

    fn at(&mut self, at: u64, happening: Happening) {
        let place = match self.free.pop() {
            Some(place) => {
                self.happenings[place] = Some(happening);
                place
            }
            None => {
                self.happenings.push(Some(happening));
                self.happenings.len() - 1
            }
        };
        self.order += 1;
        // The order of events at one moment is the order in which they came about.
        self.queue.push(Reverse((at.max(self.now), self.order << 24 | place as u64)));
    }

    fn next(&mut self) -> Verdict {
        let Some(Reverse((at, tail))) = self.queue.pop() else { return Ok(()) };
        self.pass(at)?;
        let place = (tail & 0xff_ffff) as usize;
        let happening = self.happenings[place].take();
        self.free.push(place);
        self.events += 1;
        let Some(happening) = happening else { return Ok(()) };
        self.happen(happening)?;
        self.read_logs()
    }

    /// Time moves on; nothing happens meanwhile.
    fn pass(&mut self, to: u64) -> Verdict {
        let spans = [self.span(0), self.span(1)];
        let verdict = self.forwarding.pass(self.now, to, spans);
        self.now = to;
        if let Some(owed) = self.owed {
            if spans[owed.node].until > to {
                self.owed = None;
            } else if to > owed.by {
                return Err(format!(
                    "{} did not take over in time: {}",
                    crate::name(owed.node),
                    self.describe()
                ));
            }
        }
        verdict
    }

    fn span(&self, node: usize) -> Span {
        let this = &self.nodes[node];
        let off = Span { until: 0, endless: false };
        let Some(word) = this.word().filter(|word| word.role == Role::Active) else { return off };
        let stalled = this.hung.max(this.frozen) > self.now;
        let endless = stalled && word.deadline == Micros::NEVER;
        let off = Span { endless, ..off };
        if this.frozen > self.now {
            return off;
        }
        let ignores = self.setup.ignores_lease[node] && word.deadline > Micros(0);
        let until = if ignores { u64::MAX } else { this.clock.when(word.deadline) };
        Span { until, endless }
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9.3} ms  {}", self.now as f64 / 1_000.0, line(self));
            if let Some(trace) = &mut self.trace {
                if trace.len() == TRACE {
                    trace.pop_front();
                }
                trace.push_back(line);
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Core { node, life } if self.nodes[node].lives == life => return self.core(node),
            Happening::Worker { node, life, worker } if self.nodes[node].lives == life => {
                self.worker(node, worker);
            }
            Happening::Arrive { to, path, sent, datagram } => self.arrive(to, path, sent, datagram),
            Happening::Report { node, life, report } if self.nodes[node].lives == life => {
                self.report(node, report);
            }
            Happening::Persisted { node, life, term } if self.nodes[node].lives == life => {
                self.nodes[node].disk = term;
                self.report(node, Report::Persisted(term));
            }
            Happening::Unstick { node, life, worker } if self.nodes[node].lives == life => {
                self.unstick(node, worker);
            }
            Happening::Attract { node, life } if self.nodes[node].lives == life => {
                self.attracted = node;
                self.note(|_| format!("{} has the virtual MAC address", crate::name(node)));
            }
            Happening::Packet(packet, at) => self.packet(packet, at),
            Happening::User => self.user(),
            Happening::Steady => self.steady(),
            Happening::Plan(index) => self.fault(self.setup.plan[index].1),
            Happening::Start(node) => self.start(node),
            _ => {}
        }
        Ok(())
    }
}
