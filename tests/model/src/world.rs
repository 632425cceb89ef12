//! A pair of real decision makers in a world where time moves in heartbeats and everything may fail.
//!
//! One step of the world is one heartbeat interval. Before it, an adversary chooses one [`Action`]; then
//! what is under way is delivered and both nodes take their turn, in either order. Keys are confirmed, terms
//! written and workers answer at once; everything else is the adversary's.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use sync::heartbeat::Beat;
use sync::ids::{Incarnation, Micros, NodeId, PathId, Term};
use sync::membership::{
    Command, Config, Effect, Event, Fitness, Forwarding, Mirror, OnActiveRestart, Origin, Role, State, step,
};

/// A heartbeat interval, in microseconds of the model.
const TICK: u64 = 1_000;
/// Times further off than this make no difference any more.
const HORIZON: Micros = Micros(8 * TICK);
/// Datagrams that may be under way in a direction.
const QUEUE: usize = 8;

/// What the adversary does before a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Nothing.
    Pass,
    /// Ends a node; its memory is gone.
    Crash(usize),
    /// Starts it again.
    Start(usize),
    /// Stops a node's sync core; its workers run on.
    Stall(usize),
    /// Lets it go on.
    Continue(usize),
    /// Cuts a path both ways.
    Cut(usize),
    /// Mends it.
    Mend(usize),
    /// Loses what a node sends on a path in this step.
    Lose(usize, usize),
    /// Holds back what a node sends in this step, until the next one.
    Delay(usize),
    /// The same, and it arrives in reverse order.
    Reorder(usize),
    /// Delivers a node's heartbeat of long ago once more.
    Replay(usize),
    /// Cuts a node off from its networks, or joins it again.
    Isolate(usize),
    /// The stream completes the standby's mirror.
    Sync,
    /// An operator asks a node for a switchover.
    Switchover(usize),
}

/// How many times each kind of fault may happen on one course.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Budget {
    /// Crashes.
    pub crashes: u8,
    /// Stalls.
    pub stalls: u8,
    /// Cuts of a path.
    pub cuts: u8,
    /// Losses, delays, reorderings and replays.
    pub datagrams: u8,
    /// Isolations.
    pub isolations: u8,
    /// Switchovers.
    pub switchovers: u8,
}

/// What must never be seen, with what it was.
pub type Violation = String;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    state: Option<State>,
    disk: Term,
    stalled: bool,
    isolated: bool,
    inbox: VecDeque<(PathId, Beat)>,
    /// A recorded heartbeat of this node, for replay.
    recorded: Option<(PathId, Beat)>,
    /// Since when the incarnation runs, and whether it heard of the other one.
    started: u64,
    met: bool,
}

/// The pair and all around it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    tick: u64,
    nodes: [Node; 2],
    cut: [bool; 2],
    budget: Budget,
    incarnations: u64,
    /// The adversary's choices for the step under way.
    lose: Option<(usize, usize)>,
    hold: Option<usize>,
    /// Until when two may forward, since the nodes cannot hear each other.
    excused: u64,
    /// Only the sync link failed, ever.
    only_sync_cut: bool,
}

fn config(node: u8, restart: OnActiveRestart) -> Config {
    let mut config = Config::new(NodeId(node), NodeId(1 - node));
    config.interval = Micros(TICK);
    config.misses = 3;
    config.margin = Micros(TICK / 2);
    config.boot_delay = Micros(4 * TICK);
    config.recover_limit = Micros(2 * TICK);
    config.forget = Micros(8 * TICK);
    config.prepare_limit = Micros(3 * TICK);
    config.grant_limit = Micros(TICK + TICK / 2);
    config.confirm_limit = Micros(TICK / 4);
    config.hold_down = Micros(0);
    config.swap_on_quality = false;
    config.on_active_restart = restart;
    config
}

impl World {
    /// Two nodes that start at the same time.
    #[must_use]
    pub fn cold(budget: Budget) -> Self {
        let node = || Node {
            state: None,
            disk: Term::ZERO,
            stalled: false,
            isolated: false,
            inbox: VecDeque::new(),
            recorded: None,
            started: 0,
            met: false,
        };
        let mut world = Self {
            tick: 100,
            nodes: [node(), node()],
            cut: [false; 2],
            budget,
            incarnations: 0,
            lose: None,
            hold: None,
            excused: 0,
            only_sync_cut: false,
        };
        world.start(0);
        world.start(1);
        world
    }

    /// A pair at work: one active, the other standby and in sync.
    ///
    /// # Errors
    /// If it does not come about.
    pub fn at_work(budget: Budget) -> Result<Self, Violation> {
        let mut world = Self::cold(budget);
        for _ in 0..4 {
            world.act(Action::Pass, false)?;
        }
        world.act(Action::Sync, false)?;
        for _ in 0..8 {
            world.act(Action::Pass, false)?;
        }
        world.only_sync_cut = true;
        Ok(world)
    }

    /// The roles, for messages.
    #[must_use]
    pub fn roles(&self) -> [Option<Role>; 2] {
        [0, 1].map(|node| self.nodes[node].state.as_ref().map(State::role))
    }

    /// What the adversary may do now.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::Pass];
        let budget = &self.budget;
        for node in [0, 1] {
            let this = &self.nodes[node];
            if this.state.is_none() {
                actions.push(Action::Start(node));
                continue;
            }
            let mut may = |left: u8, action| {
                if left > 0 {
                    actions.push(action);
                }
            };
            may(budget.crashes, Action::Crash(node));
            may(u8::from(this.stalled), Action::Continue(node));
            may(u8::from(this.isolated), Action::Isolate(node));
            if !this.isolated {
                may(budget.isolations, Action::Isolate(node));
            }
            if !this.stalled {
                may(budget.stalls, Action::Stall(node));
                may(budget.switchovers, Action::Switchover(node));
                may(budget.datagrams, Action::Lose(node, 0));
                may(budget.datagrams, Action::Lose(node, 1));
                may(budget.datagrams, Action::Delay(node));
                may(budget.datagrams, Action::Reorder(node));
            }
            may(budget.datagrams.min(u8::from(this.recorded.is_some())), Action::Replay(node));
        }
        for path in [0, 1] {
            if self.cut[path] {
                actions.push(Action::Mend(path));
            } else if budget.cuts > 0 {
                actions.push(Action::Cut(path));
            }
        }
        if self.syncable().is_some() {
            actions.push(Action::Sync);
        }
        actions
    }

    /// The node whose mirror the stream could complete now.
    fn syncable(&self) -> Option<usize> {
        let roles = self.roles();
        let works = |node: usize| self.nodes[node].state.is_some() && !self.nodes[node].stalled;
        [0, 1].into_iter().find(|&node| {
            roles[node] == Some(Role::Syncing)
                && roles[1 - node] == Some(Role::Active)
                && works(0)
                && works(1)
                && !self.cut[0]
        })
    }

    /// One step: the adversary's action, then a heartbeat interval. `swapped` lets B take its turn first.
    ///
    /// # Errors
    /// With what was violated.
    pub fn act(&mut self, action: Action, swapped: bool) -> Result<(), Violation> {
        self.tick += 1;
        self.choose(action)?;
        self.turn(swapped)
    }

    /// What is under way is delivered, both nodes take their turn.
    fn turn(&mut self, swapped: bool) -> Result<(), Violation> {
        let order = if swapped { [1, 0] } else { [0, 1] };
        self.excuse();
        self.confirm_keys()?;
        self.exchange(order)?;
        for node in order {
            if !self.nodes[node].stalled {
                self.event(node, Event::Tick)?;
            }
        }
        // Held back: stays under way until the next step.
        if self.hold.is_none() {
            self.exchange(order)?;
        }
        self.lose = None;
        self.hold = None;
        self.check_sync_cut()
    }

    fn choose(&mut self, action: Action) -> Result<(), Violation> {
        if !matches!(action, Action::Pass | Action::Cut(0) | Action::Mend(0) | Action::Sync) {
            self.only_sync_cut = false;
        }
        match action {
            Action::Pass => {}
            Action::Crash(node) => {
                self.budget.crashes -= 1;
                let this = &mut self.nodes[node];
                this.state = None;
                this.stalled = false;
                this.inbox.clear();
            }
            Action::Start(node) => self.start(node),
            Action::Stall(node) => {
                self.budget.stalls -= 1;
                self.nodes[node].stalled = true;
            }
            Action::Continue(node) => self.nodes[node].stalled = false,
            Action::Cut(path) => {
                self.budget.cuts -= 1;
                self.cut[path] = true;
            }
            Action::Mend(path) => self.cut[path] = false,
            Action::Lose(node, path) => {
                self.budget.datagrams -= 1;
                self.lose = Some((node, path));
            }
            Action::Delay(node) => {
                self.budget.datagrams -= 1;
                self.hold = Some(1 - node);
            }
            Action::Reorder(node) => {
                self.budget.datagrams -= 1;
                self.hold = Some(1 - node);
                self.nodes[1 - node].inbox.make_contiguous().reverse();
            }
            Action::Replay(node) => {
                self.budget.datagrams -= 1;
                if let Some(recorded) = self.nodes[node].recorded.take()
                    && self.nodes[1 - node].state.is_some()
                {
                    self.nodes[1 - node].inbox.push_back(recorded);
                }
            }
            Action::Isolate(node) => {
                let isolated = &mut self.nodes[node].isolated;
                self.budget.isolations -= u8::from(!*isolated);
                *isolated = !*isolated;
                let forwarding = if *isolated { Forwarding::Isolated } else { Forwarding::Able };
                let fitness = Fitness { forwarding, config_valid: true, quality: 100, activity: 0 };
                if !self.nodes[node].stalled {
                    self.event(node, Event::Fitness(fitness))?;
                }
            }
            Action::Sync => {
                if let Some(node) = self.syncable() {
                    self.event(node, Event::Mirror(Mirror::Complete))?;
                    self.event(1 - node, Event::Proven(true))?;
                }
            }
            Action::Switchover(node) => {
                self.budget.switchovers -= 1;
                self.event(node, Event::Command(Command::Switchover))?;
            }
        }
        Ok(())
    }

    fn start(&mut self, node: usize) {
        self.incarnations += 1;
        let config = Arc::new(config(node as u8, OnActiveRestart::Reclaim));
        let (now, this) = (self.now(), &mut self.nodes[node]);
        this.state = Some(State::new(config, Incarnation(self.incarnations), this.disk, now));
        this.started = self.tick;
        this.met = false;
        this.inbox.clear();
        this.isolated = false;
    }

    fn now(&self) -> Micros {
        Micros(self.tick * TICK)
    }

    /// A node of whose heartbeats none gets through is partitioned from the other one, for what that takes to
    /// be noticed and to be healed.
    fn excuse(&mut self) {
        let all_cut = self.cut[0] && self.cut[1];
        let one_cut = self.cut[0] || self.cut[1];
        let lost = self.lose.is_some_and(|(_, path)| one_cut && !self.cut[path]);
        // A path that was mended in this step proves itself only with the next heartbeat.
        // A sync core that hangs while no partner was ready leaves workers without an end of their lease.
        let endless = self.nodes.iter().any(|node| {
            let word = node.state.as_ref().filter(|_| node.stalled).map(State::role_word);
            word.is_some_and(|word| word.deadline == Micros::NEVER)
        });
        if all_cut || lost || endless || self.hold.is_some() {
            self.excused = self.tick + 7;
        }
    }

    fn confirm_keys(&mut self) -> Result<(), Violation> {
        let awake = self.nodes.iter().all(|node| node.state.is_some() && !node.stalled);
        if !awake || self.cut[0] && self.cut[1] {
            return Ok(());
        }
        for node in [0, 1] {
            let peer = self.nodes[1 - node]
                .state
                .as_ref()
                .and_then(|state| state.beat(PathId(0), self.now()).map(|beat| beat.said.incarnation));
            if let Some(peer) = peer {
                self.event(node, Event::PeerConfirmed(peer))?;
            }
        }
        Ok(())
    }

    /// Delivers until nothing is under way to a node that listens.
    fn exchange(&mut self, order: [usize; 2]) -> Result<(), Violation> {
        for _ in 0..40 {
            let mut any = false;
            for node in order {
                while !self.nodes[node].stalled
                    && let Some((path, beat)) = self.nodes[node].inbox.pop_front()
                {
                    any = true;
                    self.nodes[node].met = true;
                    self.event(node, Event::Heard { path, beat, differs: None })?;
                }
            }
            if !any || self.hold.is_some() {
                return Ok(());
            }
        }
        Err("the nodes talk without end".to_owned())
    }

    fn event(&mut self, node: usize, event: Event) -> Result<(), Violation> {
        let now = self.now();
        let Some(state) = self.nodes[node].state.take() else { return Ok(()) };
        let (state, effects) = step(state, event, now);
        self.nodes[node].state = Some(state);
        self.check(node, &effects)?;
        for effect in effects {
            self.obey(node, &effect)?;
        }
        Ok(())
    }

    fn obey(&mut self, node: usize, effect: &Effect) -> Result<(), Violation> {
        match effect {
            Effect::SendBeats => {
                self.send(node);
                self.event(node, Event::BeatsSent)
            }
            Effect::DrainQueues => {
                while let Some((path, beat)) = self.nodes[node].inbox.pop_front() {
                    self.event(node, Event::Heard { path, beat, differs: None })?;
                }
                self.event(node, Event::Drained)
            }
            Effect::Persist(term) => {
                self.nodes[node].disk = *term;
                self.event(node, Event::Persisted(*term))
            }
            Effect::Install(term) => self.event(node, Event::Installed(*term)),
            Effect::PrepareTarget => self.event(node, Event::TargetPrepared),
            Effect::Park => self.event(node, Event::Parked),
            Effect::Flush => self.event(node, Event::Flushed),
            _ => Ok(()),
        }
    }

    fn send(&mut self, node: usize) {
        let now = self.now();
        for path in [0, 1] {
            let id = PathId(path as u8);
            let Some(beat) = self.nodes[node].state.as_ref().and_then(|state| state.beat(id, now)) else {
                return;
            };
            if self.budget.datagrams > 0 && self.nodes[node].recorded.is_none() {
                self.nodes[node].recorded = Some((id, beat));
            }
            let lost = self.cut[path] || self.lose == Some((node, path));
            let inbox = &mut self.nodes[1 - node].inbox;
            if !lost && self.nodes[1 - node].state.is_some() {
                if inbox.len() >= QUEUE {
                    inbox.pop_front();
                }
                inbox.push_back((id, beat));
            }
        }
    }

    fn forwards(&self, node: usize) -> bool {
        self.nodes[node].state.as_ref().is_some_and(|state| state.forwards(self.now()))
    }

    /// The safety properties, after every single event.
    fn check(&self, node: usize, effects: &[Effect]) -> Result<(), Violation> {
        let this = &self.nodes[node];
        if effects.iter().any(Effect::activates) && !this.met && self.tick < this.started + 4 {
            return Err(format!("node {node} is active by memory"));
        }
        let [Some(a), Some(b)] = [&self.nodes[0].state, &self.nodes[1].state] else { return Ok(()) };
        if a.role() == Role::Active && b.role() == Role::Active && a.term() == b.term() {
            return Err(format!("both are active in term {}", a.term()));
        }
        if self.forwards(0) && self.forwards(1) && self.tick > self.excused {
            return Err("both forward although they hear each other".to_owned());
        }
        Ok(())
    }

    /// If only the sync link fails, the active node stays what it is.
    fn check_sync_cut(&self) -> Result<(), Violation> {
        if self.only_sync_cut && (self.forwards(1) || !self.forwards(0)) {
            return Err("the sync link alone moved the role".to_owned());
        }
        Ok(())
    }

    /// Ends all faults: what was cut is mended, what stopped goes on; crashed nodes come back if `revive`.
    ///
    /// # Errors
    /// With what was violated.
    pub fn heal(&mut self, revive: bool) -> Result<(), Violation> {
        self.tick += 1;
        self.only_sync_cut = false;
        self.cut = [false; 2];
        self.budget = Budget { crashes: 0, stalls: 0, cuts: 0, datagrams: 0, isolations: 0, switchovers: 0 };
        for node in [0, 1] {
            self.nodes[node].stalled = false;
            self.nodes[node].recorded = None;
            if self.nodes[node].state.is_none() && revive {
                self.start(node);
            }
            let able =
                Fitness { forwarding: Forwarding::Able, config_valid: true, quality: 100, activity: 0 };
            self.nodes[node].isolated = false;
            self.event(node, Event::Fitness(able))?;
        }
        self.turn(false)
    }

    /// Whether exactly one node is active and forwards, and all that live agree on the term.
    #[must_use]
    pub fn settled(&self) -> bool {
        let alive: Vec<&State> = self.nodes.iter().filter_map(|node| node.state.as_ref()).collect();
        let active = alive.iter().filter(|state| state.role() == Role::Active).count();
        let forwarding = [0, 1].into_iter().filter(|&node| self.forwards(node)).count();
        active == 1 && forwarding == 1 && alive.iter().all(|state| state.term() == alive[0].term())
    }

    /// A number by which equal situations are recognised, whenever they come about.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let origin = |node: usize| Origin {
            now: self.now(),
            number: self.nodes[node].state.as_ref().map_or(0, State::number),
        };
        let origins = [origin(0), origin(1)];
        let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
        1u8.hash(&mut hashers[1]);
        for hasher in &mut hashers {
            for (index, node) in self.nodes.iter().enumerate() {
                let relative = node
                    .state
                    .as_ref()
                    .map(|state| state.relative(origins[index], origins[1 - index], HORIZON));
                relative.hash(hasher);
                (node.disk, node.stalled, node.isolated, node.met).hash(hasher);
                node.inbox.hash(hasher);
                node.recorded.is_some().hash(hasher);
                (self.tick - node.started).min(4).hash(hasher);
            }
            (self.cut, self.budget, self.only_sync_cut).hash(hasher);
            (self.excused.saturating_sub(self.tick)).hash(hasher);
        }
        u128::from(hashers[0].finish()) << 64 | u128::from(hashers[1].finish())
    }
}
