//! Two decision makers with virtual time, two paths, and everything around them that behaves.

use super::super::*;
use crate::heartbeat::Difference;
use crate::ids::{Incarnation, Micros, NodeId, PathId, Term};
use std::collections::VecDeque;
use std::sync::Arc;

pub const SYNC: usize = 0;
pub const DATA: usize = 1;

/// One node of the pair with its surroundings.
pub struct Node {
    pub state: Option<State>,
    pub config: Arc<Config>,
    /// What stable storage holds.
    pub disk: Term,
    /// Clocks of two nodes have nothing to do with each other.
    skew: u64,
    pub stalled: bool,
    /// Workers that never confirm a role.
    pub deaf_workers: bool,
    /// A sync core that never finishes flushing.
    pub never_flushes: bool,
    pub disk_hangs: bool,
    inbox: VecDeque<(PathId, crate::heartbeat::Beat, Option<Difference>)>,
    pub effects: Vec<(u64, Effect)>,
}

pub struct Pair {
    pub now_ms: u64,
    pub nodes: [Node; 2],
    /// `cut[path][sender]`.
    pub cut: [[bool; 2]; 2],
    /// What a node sends on the data path arrives before what it sends on the sync path.
    pub data_first: [bool; 2],
    pub differs: Option<Difference>,
    incarnations: u64,
    /// Every millisecond step at which both nodes forwarded.
    pub overlaps: Vec<u64>,
}

pub const A: usize = 0;
pub const B: usize = 1;

impl Pair {
    pub fn new(change: impl Fn(&mut Config)) -> Self {
        let node = |me: u8, skew| {
            let mut config = Config::new(NodeId(me), NodeId(1 - me));
            change(&mut config);
            config.check().unwrap();
            Node {
                state: None,
                config: Arc::new(config),
                disk: Term::ZERO,
                skew,
                stalled: false,
                deaf_workers: false,
                never_flushes: false,
                disk_hangs: false,
                inbox: VecDeque::new(),
                effects: Vec::new(),
            }
        };
        Self {
            now_ms: 0,
            nodes: [node(0, 0), node(1, 7_777_777_777)],
            cut: [[false; 2]; 2],
            data_first: [false; 2],
            differs: None,
            incarnations: 100,
            overlaps: Vec::new(),
        }
    }

    /// A pair at work: A active, B standby with a complete mirror, proven.
    pub fn at_work() -> Self {
        Self::at_work_with(|_| {})
    }

    pub fn at_work_with(change: impl Fn(&mut Config)) -> Self {
        let mut pair = Self::new(change);
        pair.start(A);
        pair.run(3_300);
        pair.start(B);
        pair.run(500);
        pair.sync(B);
        pair.run(500);
        assert_eq!(pair.roles(), (Role::Active, Role::Standby));
        pair.clear();
        pair
    }

    /// The stream proves the mirror of `node` complete.
    pub fn sync(&mut self, node: usize) {
        self.event(node, Event::Mirror(Mirror::Complete));
        self.event(1 - node, Event::Proven(true));
    }

    pub fn clear(&mut self) {
        for node in &mut self.nodes {
            node.effects.clear();
        }
        self.overlaps.clear();
    }

    pub fn start(&mut self, node: usize) {
        self.incarnations += 1;
        let incarnation = Incarnation(self.incarnations);
        let at = self.clock(node);
        let this = &mut self.nodes[node];
        this.state = Some(State::new(Arc::clone(&this.config), incarnation, this.disk, at));
        this.inbox.clear();
        if self.nodes[1 - node].state.is_some() && !self.all_cut() {
            self.confirm(node);
            self.confirm(1 - node);
        }
    }

    /// Key confirmation between the living nodes.
    pub fn confirm(&mut self, node: usize) {
        if let Some(peer) = self.nodes[1 - node].state.as_ref().map(|state| state.incarnation) {
            self.event(node, Event::PeerConfirmed(peer));
        }
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].state = None;
        self.nodes[node].inbox.clear();
    }

    fn all_cut(&self) -> bool {
        self.cut == [[true; 2]; 2]
    }

    pub fn cut_all(&mut self, cut: bool) {
        self.cut = [[cut; 2]; 2];
    }

    fn clock(&self, node: usize) -> Micros {
        Micros(self.now_ms * 1_000 + self.nodes[node].skew)
    }

    pub fn fitness(&mut self, node: usize, change: impl Fn(&mut Fitness)) {
        let mut fitness = self.state(node).fitness;
        change(&mut fitness);
        self.event(node, Event::Fitness(fitness));
    }

    pub fn state(&self, node: usize) -> &State {
        self.nodes[node].state.as_ref().unwrap()
    }

    pub fn event(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        let Some(state) = self.nodes[node].state.take() else { return };
        let (state, effects) = step(state, event, now);
        self.nodes[node].state = Some(state);
        for effect in effects {
            self.nodes[node].effects.push((self.now_ms, effect.clone()));
            self.obey(node, effect);
        }
    }

    fn obey(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::SendBeats => {
                for path in if self.data_first[node] { [DATA, SYNC] } else { [SYNC, DATA] } {
                    let id = PathId(path as u8);
                    let beat = self.state(node).beat(id, self.clock(node)).unwrap();
                    if !self.cut[path][node] && self.nodes[1 - node].state.is_some() {
                        self.nodes[1 - node].inbox.push_back((id, beat, self.differs));
                    }
                }
                self.event(node, Event::BeatsSent);
            }
            Effect::DrainQueues => {
                self.deliver(node);
                self.event(node, Event::Drained);
            }
            Effect::Persist(term) if !self.nodes[node].disk_hangs => {
                self.nodes[node].disk = term;
                self.event(node, Event::Persisted(term));
            }
            Effect::Install(term) if !self.nodes[node].deaf_workers => {
                self.event(node, Event::Installed(term));
            }
            Effect::PrepareTarget => self.event(node, Event::TargetPrepared),
            Effect::Park => self.event(node, Event::Parked),
            Effect::Flush if !self.nodes[node].never_flushes => self.event(node, Event::Flushed),
            _ => {}
        }
    }

    fn deliver(&mut self, node: usize) -> bool {
        let mut any = false;
        while let Some((path, beat, differs)) = self.nodes[node].inbox.pop_front() {
            any = true;
            self.event(node, Event::Heard { path, beat, differs });
        }
        any
    }

    /// Milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for _ in 0..50 {
                let mut any = false;
                for node in [A, B] {
                    any |= !self.nodes[node].stalled && self.deliver(node);
                }
                if !any {
                    break;
                }
            }
            for node in [A, B] {
                if !self.nodes[node].stalled {
                    self.event(node, Event::Tick);
                }
            }
            if self.forwards(A) && self.forwards(B) {
                self.overlaps.push(self.now_ms);
            }
        }
    }

    /// Whether workers forward: they run on while the sync core is stalled.
    pub fn forwards(&self, node: usize) -> bool {
        self.nodes[node].state.as_ref().is_some_and(|state| state.forwards(self.clock(node)))
    }

    pub fn role(&self, node: usize) -> Option<Role> {
        self.nodes[node].state.as_ref().map(State::role)
    }

    pub fn roles(&self) -> (Role, Role) {
        (self.role(A).unwrap(), self.role(B).unwrap())
    }

    pub fn terms(&self) -> (u32, u32) {
        (self.state(A).term().get(), self.state(B).term().get())
    }

    /// Runs until `node` forwards; how long that took.
    pub fn until_forwards(&mut self, node: usize, limit_ms: u64) -> u64 {
        let from = self.now_ms;
        while !self.forwards(node) {
            assert!(
                self.now_ms - from < limit_ms,
                "node {node} does not forward: {:#?}",
                self.nodes[node].state
            );
            self.run(1);
        }
        self.now_ms - from
    }

    /// The ids of what the operator of `node` was told, except for paths and roles.
    pub fn notices(&self, node: usize) -> Vec<&'static str> {
        self.nodes[node]
            .effects
            .iter()
            .filter_map(|(_, effect)| match effect {
                Effect::Notice(Notice::RoleChanged { .. } | Notice::PathUp(_) | Notice::PathDown(_)) => None,
                Effect::Notice(notice) => Some(notice.id()),
                _ => None,
            })
            .collect()
    }

    pub fn did(&self, node: usize, wanted: &Effect) -> usize {
        self.nodes[node].effects.iter().filter(|(_, effect)| effect == wanted).count()
    }

    /// Every role change of `node`, with its cause.
    pub fn changes(&self, node: usize) -> Vec<(Role, Role, Cause)> {
        self.nodes[node]
            .effects
            .iter()
            .filter_map(|(_, effect)| match effect {
                Effect::Notice(Notice::RoleChanged { from, to, cause }) => Some((*from, *to, *cause)),
                _ => None,
            })
            .collect()
    }
}
