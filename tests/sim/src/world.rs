//! The world: nodes, links, users and what goes wrong, one event after the other.

use crate::check::{Forwarding, Kept, Lineage, Span, Twin, Verdict, same_tables};
use crate::clock::Clock;
use crate::link::Quality;
use crate::name;
use crate::node::{Claim, Life, Node, Packets};
use crate::rng::Rng;
use crate::setup::{Fault, Setup};
use crate::tables::{Change, Defect, Tables, Told, timeout};
use crate::workload::{Act, Packet, Workload};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use sync::datagram::{Header, Kind};
use sync::ids::{GroupId, Incarnation, Micros, NodeId, PairId, PathId, Term};
use sync::keys::{self, Identity, PublicKey, SecretKey};
use sync::membership::{self, Command, Mirror, Notice, Role};
use sync::pair::{Order, Pair, PairConfig, PairStatus, PathConfig, Report};
use sync::stream;

/// Lines of a trace that are kept.
const TRACE: usize = 200_000;
/// Lines of it that a failed test shows.
const SHOWN: usize = 80;
/// Heartbeats that are recorded.
const RECORDED: usize = 64;
/// What a sync core does at least between two turns.
const CORE_STEP_US: u64 = 10;

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
    forwarding: Forwarding,
    packets: Packets,
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
            forwarding,
            packets: Packets::default(),
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

    /// Ends all faults, lets the pair find itself, ends all traffic, and checks that both tables are equal.
    ///
    /// # Errors
    /// With what a checker saw.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.heal();
        // The slowest way back: a node that was away boots, and everything is sent again.
        let patience = self.now
            + 40 * self.setup.interval()
            + self.setup.membership.boot_delay.0
            + self.setup.membership.recover_limit.0
            + 4 * self.setup.stream.verify_every.0
            + self.setup.stream.scrub_pass.0
            + 3_000_000;
        let min_traffic = self.now + 8 * self.setup.interval();
        self.run_until(min_traffic)?;
        if !self.run_while(patience, |world| !world.in_order())? {
            let what = format!("the pair does not find itself: {}", self.describe());
            return Err(self.failure(what));
        }
        self.run_until(self.now + 30_000)?;
        self.quiet = true;
        let patience =
            self.now + 2 * self.setup.stream.verify_every.0 + self.setup.stream.scrub_pass.0 + 500_000;
        // Everything is acknowledged, and stays so for a while.
        self.run_until(self.now + 50_000)?;
        if !self.run_while(patience, |world| !world.in_order() || world.unprotected() > 0)? {
            let what = format!("the pair does not come to rest: {}", self.describe());
            return Err(self.failure(what));
        }
        self.check_equal().map_err(|what| self.failure(what))
    }

    fn unprotected(&self) -> u32 {
        let active = [0, 1].into_iter().find(|node| self.nodes[*node].role() == Some(Role::Active));
        let status = |node: usize| {
            let local = self.nodes[node].clock.shows(self.now);
            self.nodes[node].life.as_ref().map(|life| life.pair.stream().status(local).unprotected)
        };
        active.and_then(status).unwrap_or(0)
    }

    /// Both tables, at this moment.
    ///
    /// # Errors
    /// If they differ.
    pub fn check_equal(&self) -> Verdict {
        let [Some(a), Some(b)] = [0, 1].map(|node| self.nodes[node].life.as_ref()) else {
            return Err("a node is down".to_owned());
        };
        let (a, b) = (a.tables.borrow(), b.tables.borrow());
        same_tables([&a, &b], self.setup.at_least)
    }

    /// Both nodes in a line, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let of = |node: usize| {
            let Some(life) = &self.nodes[node].life else { return format!("{} is down", name(node)) };
            let local = self.nodes[node].clock.shows(self.now);
            let state = life.pair.state();
            let status = life.pair.stream().status(local);
            format!(
                "{}: {} term {} mirror {:?} forwards {} proven {} unprotected {} (dirty {}, in flight {}, \
                 refused {:?}, bulk {:?}), {} sessions, {} ahead",
                name(node),
                state.role().name(),
                state.term(),
                state.mirror(),
                self.forwards(node),
                life.pair.stream().proven(),
                status.unprotected,
                status.dirty,
                status.in_flight,
                status.refused,
                status.bulk,
                life.tables.borrow().shared().count(),
                self.twin.ahead(node)
            )
        };
        format!("\n  {}\n  {}{}{}", of(0), of(1), self.twin.examples(0), self.twin.examples(1))
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
                return Err(format!("{} did not take over in time: {}", name(owed.node), self.describe()));
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
                self.note(|_| format!("{} has the virtual MAC address", name(node)));
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

    // ---- nodes ----

    fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        self.incarnations += 1;
        let incarnation = Incarnation(self.rng.bits() | 1);
        let this = &mut self.nodes[node];
        this.lives += 1;
        (this.frozen, this.hung) = (0, 0);
        let local = this.clock.shows(self.now);
        let public: [PublicKey; 2] = [self.secrets[0].public(), self.secrets[1].public()];
        let identity = Identity {
            pair: PairId(7),
            me: NodeId(node as u8),
            peer: NodeId(1 - node as u8),
            incarnation,
            secret: self.secrets[node].clone(),
            partner: public[1 - node],
            paths: self.setup.paths.len() as u8,
        };
        let membership = membership::Config {
            node: NodeId(node as u8),
            partner: NodeId(1 - node as u8),
            preferred: node == 0,
            paths: self.setup.paths.iter().map(|path| path.carries_sync).collect(),
            ..self.setup.membership.clone()
        };
        let config = PairConfig {
            membership: Arc::new(membership),
            paths: self
                .setup
                .paths
                .iter()
                .map(|path| PathConfig { datagram_max: path.expected, byte_rate: path.byte_rate })
                .collect(),
            stream: self.setup.stream,
            group: GroupId(0),
            persisted: this.disk,
        };
        let size = self.setup.sizes[node];
        let mut tables = Tables::new(size, self.rng.fork());
        tables.busy = self.setup.busy;
        tables.defect = self.setup.defects[node];
        let tables = Rc::new(RefCell::new(tables));
        let handles = (size.workers * size.slots) as u32;
        let entropy = Box::new(self.rng.fork());
        let pair = Pair::new(config, identity, self.setup.keys, entropy, handles, local);
        this.life = Some(Life::new(&self.setup, node, pair, tables, incarnation));
        self.lineage.forget(node);
        self.kept.forget(node);
        self.twin.forget(node);
        self.forwarding.restarted();
        self.note(|_| format!("{} starts, incarnation {:x}", name(node), incarnation.0));
        self.wake(node, self.now + 10);
        for path in 0..self.links.len() {
            let dead = !self.links[path].iter().any(|quality| quality.up);
            if dead {
                self.link_state(node, path, false);
            }
        }
    }

    fn crash(&mut self, node: usize, disk: bool) {
        let this = &mut self.nodes[node];
        if this.life.take().is_none() {
            return;
        }
        this.lives += 1;
        if disk {
            this.disk = Term::ZERO;
        }
        self.lineage.forget(node);
        self.kept.forget(node);
        self.twin.forget(node);
        self.forwarding.restarted();
    }

    fn wake(&mut self, node: usize, at: u64) {
        let this = &mut self.nodes[node];
        let at = at.max(this.frozen).max(this.hung);
        let lives = this.lives;
        let Some(life) = &mut this.life else { return };
        if at < life.core_at {
            life.core_at = at;
            self.at(at, Happening::Core { node, life: lives });
        }
    }

    fn core(&mut self, node: usize) -> Verdict {
        let now = self.now;
        let this = &mut self.nodes[node];
        let busy_until = this.frozen.max(this.hung);
        let local = this.clock.shows(now);
        let Some(life) = this.life.as_mut().filter(|life| life.core_at <= now) else { return Ok(()) };
        life.core_at = u64::MAX;
        if busy_until > now {
            self.wake(node, busy_until);
            return Ok(());
        }
        life.tables.borrow_mut().now = local;
        life.turn(local);
        life.turned = now;
        life.tables.borrow_mut().news = false;
        self.after_turn(node)
    }

    /// Carries out what a turn asked for.
    fn after_turn(&mut self, node: usize) -> Verdict {
        let clock = self.nodes[node].clock;
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        let outbox = std::mem::take(&mut life.around.outbox);
        let orders = std::mem::take(&mut life.around.orders);
        let deadline = clock.when(life.pair.deadline());
        for (path, datagram) in outbox {
            self.transmit(node, path, datagram);
        }
        for order in orders {
            self.obey(node, order)?;
        }
        self.wake(node, deadline.max(self.now + CORE_STEP_US));
        self.wake_workers(node);
        self.take_claim(node)
    }

    fn wake_workers(&mut self, node: usize) {
        let Some(life) = &self.nodes[node].life else { return };
        for worker in 0..life.worker_at.len() {
            let has_work = self.nodes[node].life.as_ref().is_some_and(|l| l.tables.borrow().has_work(worker));
            if has_work {
                let at = self.now + self.rng.range(3, 60);
                self.wake_worker(node, worker, at);
            }
        }
    }

    fn wake_worker(&mut self, node: usize, worker: usize, at: u64) {
        let this = &mut self.nodes[node];
        let (frozen, lives) = (this.frozen, this.lives);
        let Some(life) = &mut this.life else { return };
        let at = at.max(frozen).max(life.stuck[worker]);
        if at < life.worker_at[worker] {
            life.worker_at[worker] = at;
            self.at(at, Happening::Worker { node, life: lives, worker });
        }
    }

    fn worker(&mut self, node: usize, worker: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        let (frozen, local) = (this.frozen, this.clock.shows(now));
        let Some(life) = this.life.as_mut().filter(|life| life.worker_at[worker] <= now) else { return };
        life.worker_at[worker] = u64::MAX;
        let away = frozen.max(life.stuck[worker]);
        if away > now {
            return self.wake_worker(node, worker, away);
        }
        let mut tables = life.tables.borrow_mut();
        tables.now = local;
        let more = tables.step(worker);
        let news = tables.news;
        drop(tables);
        if news {
            let at = now + self.rng.range(5, 60);
            self.wake(node, at);
        }
        // Timers run by themselves, everything else at once.
        let pause = if more { self.rng.range(5, 30) } else { 4_000 };
        self.wake_worker(node, worker, now + pause);
    }

    fn report(&mut self, node: usize, report: Report) {
        let local = self.nodes[node].clock.shows(self.now);
        let busy = self.nodes[node].hung.max(self.nodes[node].frozen);
        if busy > self.now {
            let life = self.nodes[node].lives;
            return self.at(busy + 1, Happening::Report { node, life, report });
        }
        self.note(|_| format!("{} is told {report:?}", name(node)));
        let Some(life) = &mut self.nodes[node].life else { return };
        life.installed |= matches!(report, Report::Installed(_));
        life.tables.borrow_mut().now = local;
        life.pair.report(report, local, &mut life.around);
        self.wake(node, self.now);
    }

    fn obey(&mut self, node: usize, order: Order) -> Verdict {
        let lives = self.nodes[node].lives;
        let soon = |world: &mut Self, us: u64, happening: Happening| world.at(world.now + us, happening);
        let longest_stuck = self.nodes[node]
            .life
            .as_ref()
            .and_then(|life| life.stuck.iter().max().copied())
            .unwrap_or(0)
            .saturating_sub(self.now);
        match order {
            Order::Role(word) => {
                self.note(|world| {
                    let until = world.nodes[node].clock.when(word.deadline);
                    let until = if until == u64::MAX { "ever".into() } else { format!("{} us", until) };
                    format!("{} shows {} of term {} until {until}", name(node), word.role.name(), word.term)
                });
            }
            Order::Persist(term) => {
                let us = self.rng.range(50, 2_000);
                soon(self, us, Happening::Persisted { node, life: lives, term });
            }
            Order::Install(term) => {
                if let Some(life) = &mut self.nodes[node].life {
                    life.installed = false;
                }
                let us = self.rng.range(20, 300).max(longest_stuck + 10);
                soon(self, us, Happening::Report { node, life: lives, report: Report::Installed(term) });
            }
            Order::PrepareTarget => {
                let us = self.rng.range(100, 3_000);
                soon(self, us, Happening::Report { node, life: lives, report: Report::TargetPrepared });
            }
            Order::Park => {
                let us = self.rng.range(5, 100);
                if let Some(life) = &mut self.nodes[node].life {
                    life.parks_from = self.now + us;
                }
                let us = us.max(longest_stuck) + 10;
                soon(self, us, Happening::Report { node, life: lives, report: Report::Parked });
            }
            Order::Unpark => self.release_parked(node, node),
            Order::Redirect(until) => {
                let until = self.nodes[node].clock.when(until);
                if let Some(life) = &mut self.nodes[node].life {
                    life.redirect_until = until;
                }
                self.release_parked(node, 1 - node);
            }
            Order::Attract if self.attracts_early(node) => {
                return Err(format!("{} attracts traffic before its workers took the role", name(node)));
            }
            Order::Attract | Order::Announce => {
                let us = self.rng.range(20, 100);
                soon(self, us, Happening::Attract { node, life: lives });
            }
            Order::Notice(notice) => self.hear_notice(node, notice),
            Order::Stream(event) => {
                self.note(|_| format!("{} stream: {event:?}", name(node)));
                self.stream_events[node].push((self.now, event));
            }
            Order::Keys(event) => {
                self.note(|_| format!("{} keys: {event:?}", name(node)));
                if let (keys::Event::PeerConfirmed { incarnation, .. }, Some(life)) =
                    (event, &mut self.nodes[node].life)
                {
                    life.confirmed = incarnation;
                }
            }
            Order::PathSize { path, size, expected } => {
                self.note(|_| format!("{} path {path:?} takes {size} of {expected} bytes", name(node)));
            }
        }
        Ok(())
    }

    /// Install before attract (decision 38), unless the node said that it does not wait any longer.
    fn attracts_early(&self, node: usize) -> bool {
        let Some(life) = &self.nodes[node].life else { return false };
        let word = life.tables.borrow().word;
        let unconfirmed =
            matches!(self.notices[node].last(), Some((at, Notice::Unconfirmed)) if *at == self.now);
        let told = self.notices[node].iter().rev().take_while(|(at, _)| *at == self.now);
        let won = told.into_iter().any(|(_, notice)| *notice == Notice::ContestWon);
        !life.installed && !unconfirmed && !won && word.role == Role::Active
    }

    fn hear_notice(&mut self, node: usize, notice: Notice) {
        self.note(|_| format!("{} says {notice:?}", name(node)));
        self.notices[node].push((self.now, notice));
        if let Notice::RoleChanged { from: Role::Active, cause, .. } = notice
            && cause != membership::Cause::Grant
        {
            // What it wrote itself may be of another lineage than what it follows now.
            self.lineage.forget(node);
        }
    }

    /// Parked packets go on: through this node again, or to the other one.
    fn release_parked(&mut self, node: usize, to: usize) {
        let Some(life) = &mut self.nodes[node].life else { return };
        life.parks_from = u64::MAX;
        let parked = std::mem::take(&mut life.parked);
        for packet in parked {
            let us = self.rng.range(10, 80);
            let hopped = to != node;
            self.packets.redirected += u64::from(hopped && packet.counted);
            self.at(self.now + us, Happening::Packet(Packet { hopped, ..packet }, to));
        }
    }

    /// What the node says of its partner's mirror, held against the truth.
    fn take_claim(&mut self, node: usize) -> Verdict {
        let [this, other] = [node, 1 - node].map(|node| self.nodes[node].life.as_ref());
        let Some(this) = this else { return Ok(()) };
        let local = self.nodes[node].clock.shows(self.now);
        let state = this.pair.state();
        let stream = this.pair.stream();
        let status = stream.status(local);
        // It can only count what it knows of: a partner that lives, as the one that it knows, follows it, and
        // has not thrown its mirror away.
        let follows = other.is_some_and(|other| {
            let theirs = other.pair.state();
            matches!(theirs.role(), Role::Standby | Role::Syncing)
                && theirs.term() == state.term()
                && self.nodes[1 - node].word().is_some_and(|word| word.role != Role::Active)
        });
        let known = other.is_some_and(|other| this.confirmed == other.incarnation);
        // Before the first proof nobody can know; from then on every difference is counted.
        let (was, proven) = (this.claim, stream.proven());
        let leads = state.role() == Role::Active && known && status.bulk.is_none();
        let same = was.term == state.term() && was.partner == this.confirmed;
        let knows = leads && (proven || was.knows && same);
        let counts = follows && knows;
        let unprotected = status.unprotected + sync::stream::Source::waiting(&Told(Rc::clone(&this.tables)));
        let claim = Claim { counts, knows, unprotected, proven, term: state.term(), partner: this.confirmed };
        if counts && self.setup.defects.iter().all(|d| *d != Some(Defect::ForgetsChanges)) {
            let (behind, extra) = (self.twin.ahead(node), self.twin.ahead(1 - node));
            if behind > claim.unprotected {
                return Err(format!(
                    "{} says that {} sessions are not protected, but {behind} are not: {}",
                    name(node),
                    claim.unprotected,
                    self.describe()
                ));
            }
            if claim.proven && extra > claim.unprotected {
                return Err(format!(
                    "{} calls the mirror proven with {} under way, but {extra} are too many there: {}",
                    name(node),
                    claim.unprotected,
                    self.describe()
                ));
            }
        }
        if let Some(life) = &mut self.nodes[node].life {
            life.claim = claim;
        }
        Ok(())
    }

    // ---- the network between the nodes ----

    fn transmit(&mut self, from: usize, path: usize, datagram: Vec<u8>) {
        let kind = Header::read(&datagram).map(|header| header.kind).ok();
        if kind == Some(Kind::Heartbeat) {
            self.forwarding.sent(from, path, self.now);
            if self.setup.record {
                let recorded = &mut self.recorded[from];
                if recorded.len() == RECORDED {
                    recorded.pop_front();
                }
                recorded.push_back((path, datagram.clone()));
            }
        }
        let lost = kind == self.setup.lost_kind && kind.is_some();
        let quality = self.links[path][from];
        let arrivals = if lost { [None; 2] } else { quality.pass(datagram.len(), &mut self.rng) };
        self.note(|_| {
            let fate = match arrivals {
                [None, None] => "lost".to_owned(),
                [first, second] => format!("{:?}", first.or(second).unwrap_or(0)),
            };
            format!("{} sends {kind:?} of {} on {path}: {fate}", name(from), datagram.len())
        });
        let (to, sent) = (1 - from, self.now);
        if let Some(second) = arrivals[1] {
            let datagram = datagram.clone();
            self.at(self.now + second, Happening::Arrive { to, path, sent, datagram });
        }
        if let Some(first) = arrivals[0] {
            self.at(self.now + first, Happening::Arrive { to, path, sent, datagram });
        }
    }

    fn arrive(&mut self, to: usize, path: usize, sent: u64, datagram: Vec<u8>) {
        if Header::read(&datagram).is_ok_and(|header| header.kind == Kind::Heartbeat) {
            self.forwarding.arrived(1 - to, path, sent);
        }
        let Some(life) = &mut self.nodes[to].life else { return };
        if life.around.dead_links[path] {
            return;
        }
        life.inbox.push_back((path, datagram));
        // A poller that may just have fallen asleep.
        let at = self.now + self.rng.range(5, 90);
        self.wake(to, at);
    }

    fn link_state(&mut self, node: usize, path: usize, up: bool) {
        let lives = self.nodes[node].lives;
        let Some(life) = &mut self.nodes[node].life else { return };
        if std::mem::replace(&mut life.around.dead_links[path], !up) == up {
            let report = Report::Link { path: PathId(path as u8), up };
            let us = self.rng.range(50, 500);
            self.at(self.now + us, Happening::Report { node, life: lives, report });
        }
    }

    // ---- users ----

    fn user(&mut self) {
        let rate = u64::from(self.workload.load.rate);
        if rate == 0 || self.quiet {
            self.at(self.now + 5_000, Happening::User);
            return;
        }
        let packet = self.workload.packet();
        let to = self.route();
        self.at(self.now + 10, Happening::Packet(packet, to));
        let pause = 1 + self.rng.below(2 * 1_000_000 / rate);
        self.at(self.now + pause, Happening::User);
    }

    fn steady(&mut self) {
        let pause = self.workload.load.steady_every_us;
        self.at(self.now + pause, Happening::Steady);
        if self.workload.load.steady == 0 || self.quiet {
            return;
        }
        let packet = self.workload.steady();
        self.packets.sent += 1;
        let to = self.route();
        self.at(self.now + 10, Happening::Packet(packet, to));
    }

    /// Where the network brings a packet for the virtual MAC address. A network that is cut in two has its
    /// users on both sides.
    fn route(&mut self) -> usize {
        let both = self.forwards(0) && self.forwards(1);
        let split = self.links.iter().all(|path| !path[0].up && !path[1].up);
        if both && split && self.rng.chance(500) { 1 - self.attracted } else { self.attracted }
    }

    fn packet(&mut self, packet: Packet, at: usize) {
        let counted = u64::from(packet.counted);
        let now = self.now;
        let local = self.nodes[at].clock.shows(now);
        let forwards = self.forwards(at);
        let frozen = self.nodes[at].frozen > now;
        let key = self.workload.key(packet.flow);
        let Some(life) = &mut self.nodes[at].life else {
            self.packets.lost_down += counted;
            return;
        };
        let worker = life.tables.borrow().owner(&key.tuple);
        if frozen || life.stuck[worker] > now {
            self.packets.lost_stuck += counted;
        } else if life.parks_from <= now {
            if !life.park(packet) {
                self.packets.lost_parked += counted;
            }
        } else if forwards {
            life.tables.borrow_mut().now = local;
            self.forward(packet, at);
        } else if life.redirect_until > now && !packet.hopped {
            let us = self.rng.range(10, 80);
            self.packets.redirected += counted;
            self.at(now + us, Happening::Packet(Packet { hopped: true, ..packet }, 1 - at));
        } else {
            self.packets.lost_closed += counted;
        }
    }

    fn forward(&mut self, packet: Packet, at: usize) {
        let key = self.workload.key(packet.flow);
        let Some(life) = &mut self.nodes[at].life else { return };
        let mut tables = life.tables.borrow_mut();
        let mine = tables.find(&key).is_some_and(|entry| entry.session.key == key);
        let counted = u64::from(packet.counted);
        match packet.act {
            Act::End if mine => {
                tables.close(&key);
            }
            Act::End => {}
            Act::Use | Act::Idle if mine => {
                tables.touch(&key, packet.act == Act::Use);
                self.packets.forwarded += counted;
            }
            Act::Use | Act::Idle => {
                let local = tables.now;
                let (session, class) = self.workload.session(packet.flow, local);
                let lifetime = timeout(&session);
                if tables.open(session, class, lifetime) {
                    let version = tables.find(&key).map_or_else(Default::default, |e| e.session.version);
                    self.kept.opened(at, key, self.now, version);
                }
                // The first packet of a steady session opens it; a later one that finds none is lost.
                if packet.counted {
                    self.packets.lost_unknown += 1;
                }
            }
        }
        let news = std::mem::take(&mut tables.news);
        drop(tables);
        if news {
            let wake_at = self.now + self.rng.range(10, 150);
            self.wake(at, wake_at);
        }
    }

    fn read_logs(&mut self) -> Verdict {
        for node in [0, 1] {
            let Some(life) = &self.nodes[node].life else { continue };
            if life.tables.borrow().log.is_empty() {
                continue;
            }
            let log = std::mem::take(&mut life.tables.borrow_mut().log);
            for logged in &log {
                self.note(|_| {
                    let (session, by) = (&logged.session, logged.by);
                    format!(
                        "{} {:?} {:?} version {} by {by}",
                        name(node),
                        logged.change,
                        session.key.tuple,
                        session.version
                    )
                });
                self.twin.see(node, logged);
                if !self.damaged {
                    self.lineage.see(node, logged)?;
                }
                self.kept.see(node, self.now, logged)?;
                self.check_owner(node, logged.change)?;
            }
        }
        Ok(())
    }

    /// Only the active node ends sessions and changes them by itself.
    fn check_owner(&self, node: usize, change: Change) -> Verdict {
        let serves = self.nodes[node].word().is_some_and(|word| word.role == Role::Active);
        if matches!(change, Change::Own | Change::Ended) && !serves {
            return Err(format!("{} is not active and {change:?} a session by itself", name(node)));
        }
        Ok(())
    }

    // ---- what goes wrong ----

    /// Something goes wrong now.
    pub fn fault(&mut self, fault: Fault) {
        self.note(|_| format!("--- {fault:?}"));
        let calm = self.now - std::mem::replace(&mut self.faultless_since, self.now);
        if let (Some(owed), Fault::Crash { node, .. }) = (self.owed, fault)
            && owed.node == node
        {
            self.owed = None;
        }
        match fault {
            Fault::Load { .. }
            | Fault::Replay { .. }
            | Fault::Verify { .. }
            | Fault::Resync { .. }
            | Fault::Crash { .. } => {}
            _ => self.owed = None,
        }
        match fault {
            Fault::Cut { path, from, carrier } => self.cut(path, from, carrier),
            Fault::Mend { path } => self.mend(path),
            Fault::Quality { path, quality } => {
                for direction in &mut self.links[path] {
                    *direction = Quality { up: direction.up, ..quality };
                }
            }
            Fault::Crash { node, disk } => {
                self.owe_takeover(node, calm);
                self.crash(node, disk);
            }
            Fault::Start { node } => {
                self.owed = None;
                self.start(node);
            }
            Fault::Freeze { node, us } => {
                self.nodes[node].frozen = self.nodes[node].frozen.max(self.now + us);
            }
            Fault::Hang { node, us } => {
                self.nodes[node].hung = self.nodes[node].hung.max(self.now + us);
            }
            Fault::Stick { node, worker, us } => self.stick(node, worker, us),
            Fault::Isolate { node, off } => {
                let forwarding =
                    if off { membership::Forwarding::Isolated } else { membership::Forwarding::Able };
                self.set_fitness(node, |fitness| fitness.forwarding = forwarding);
            }
            Fault::Fitness { node, quality } => {
                self.set_fitness(node, |fitness| fitness.quality = quality);
            }
            Fault::Command { node, command } => self.report(node, Report::Command(command)),
            Fault::Verify { node } => self.report(node, Report::Verify),
            Fault::Resync { node } => self.report(node, Report::Resync),
            Fault::Damage { node, kind } => self.damage(node, kind),
            Fault::Load { rate } => self.workload.load.rate = rate,
            Fault::LoseKind(kind) => self.setup.lost_kind = kind,
            Fault::Replay { node } => self.replay(node),
        }
    }

    /// A ready standby that the network serves takes over in time.
    fn owe_takeover(&mut self, node: usize, calm: u64) {
        let other = 1 - node;
        let ready = self.in_order() && self.active() == Some(node) && calm > 20 * self.setup.interval();
        if !ready {
            return;
        }
        let by = self.now + self.setup.dead() + self.setup.membership.confirm_limit.0 + 5_000;
        self.owed = Some(Owed { node: other, by });
    }

    fn replay(&mut self, node: usize) {
        let recorded = std::mem::take(&mut self.recorded[node]);
        for (place, (path, datagram)) in (0_u64..).zip(recorded) {
            let arrive = Happening::Arrive { to: 1 - node, path, sent: 0, datagram };
            self.at(self.now + place * 1_500, arrive);
        }
    }

    fn cut(&mut self, path: usize, from: Option<usize>, carrier: bool) {
        for node in [0, 1] {
            if from.is_none_or(|sender| sender == node) {
                self.links[path][node].up = false;
            }
        }
        if carrier && from.is_none() {
            self.link_state(0, path, false);
            self.link_state(1, path, false);
        }
    }

    fn mend(&mut self, path: usize) {
        self.links[path] = [self.setup.paths[path].quality; 2];
        self.link_state(0, path, true);
        self.link_state(1, path, true);
    }

    fn stick(&mut self, node: usize, worker: usize, us: u64) {
        let now = self.now;
        let patience = 3 * self.setup.interval();
        let lives = self.nodes[node].lives;
        let Some(life) = &mut self.nodes[node].life else { return };
        let worker = worker % life.stuck.len();
        life.stuck[worker] = life.stuck[worker].max(now + us);
        let ends = life.stuck[worker];
        if us > patience {
            // Its progress word stands still: the node is unfit until it moves again.
            life.fitness.forwarding = membership::Forwarding::Fault;
            let report = Report::Fitness(life.fitness);
            self.at(now + patience, Happening::Report { node, life: lives, report });
        }
        self.at(ends + 1, Happening::Unstick { node, life: lives, worker });
    }

    fn unstick(&mut self, node: usize, worker: usize) {
        let now = self.now;
        let Some(life) = &self.nodes[node].life else { return };
        if life.stuck.iter().all(|until| *until <= now)
            && life.fitness.forwarding == membership::Forwarding::Fault
        {
            self.set_fitness(node, |fitness| fitness.forwarding = membership::Forwarding::Able);
        }
        self.wake_worker(node, worker, now);
    }

    fn set_fitness(&mut self, node: usize, change: impl FnOnce(&mut membership::Fitness)) {
        let Some(life) = &mut self.nodes[node].life else { return };
        change(&mut life.fitness);
        let report = Report::Fitness(life.fitness);
        self.report(node, report);
    }

    fn damage(&mut self, node: usize, kind: u8) {
        self.damaged = true;
        let flow = self.workload.load.steady;
        let local = self.nodes[node].clock.shows(self.now);
        let (session, _) = self.workload.session(flow, local);
        let version = sync::ids::Version::new(self.nodes[node].disk, 1);
        if let Some(life) = &mut self.nodes[node].life {
            life.tables.borrow_mut().damage(kind, &sync::record::Session { version, ..session });
        }
    }

    /// Ends everything that goes wrong.
    fn heal(&mut self) {
        self.note(|_| "--- all faults end".to_owned());
        self.owed = None;
        for path in 0..self.links.len() {
            // Links are what they were, without the losses that some have from the beginning.
            self.mend(path);
            for direction in &mut self.links[path] {
                *direction = Quality { loss: 0, duplicate: 0, reorder: 0, ..*direction };
            }
        }
        for node in [0, 1] {
            self.nodes[node].frozen = self.nodes[node].frozen.min(self.now);
            self.nodes[node].hung = self.nodes[node].hung.min(self.now);
            self.start(node);
            if let Some(life) = &mut self.nodes[node].life {
                life.stuck.fill(0);
                life.fitness.forwarding = membership::Forwarding::Able;
                life.fitness.quality = 100;
                let report = Report::Fitness(life.fitness);
                self.report(node, report);
                self.report(node, Report::Command(Command::Unforce));
            }
            self.wake(node, self.now);
        }
        self.workload.load.rate = 1_500;
        if self.setup.lost_kind.is_some_and(|kind| kind == Kind::Handshake) {
            self.setup.lost_kind = None;
        }
    }
}
