//! A node around its protocol machine: what the daemon's threads would do, as a model.

use crate::clock::Clock;
use crate::setup::Setup;
use crate::tables::{Owners, Tables, Told};
use crate::workload::Packet;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use sync::heartbeat;
use sync::ids::{Incarnation, Micros, PathId, Term};
use sync::lease::RoleWord;
use sync::membership::{Fitness, Forwarding, Role};
use sync::pair::{Host, Order, Pair};

/// Frames that all workers of a node park, at most.
const PARKED: usize = 4_096;

/// What became of the packets of steady sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packets {
    /// Sent by users.
    pub sent: u64,
    /// Forwarded by a node.
    pub forwarded: u64,
    /// Arrived at a node that is down.
    pub lost_down: u64,
    /// Arrived at a node that does not forward.
    pub lost_closed: u64,
    /// Belonged to a session that the node does not know.
    pub lost_unknown: u64,
    /// Parked, and never sent on.
    pub lost_parked: u64,
    /// Arrived at a worker that hangs.
    pub lost_stuck: u64,
    /// Sent on to the other node because they arrived at the wrong one.
    pub redirected: u64,
}

impl Packets {
    /// All that were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_down + self.lost_closed + self.lost_unknown + self.lost_parked + self.lost_stuck
    }
}

/// What the machine may touch.
pub(crate) struct Around {
    source: Told,
    sink: Owners,
    pub outbox: Vec<(usize, Vec<u8>)>,
    pub orders: Vec<Order>,
    report: heartbeat::Report,
    /// Own links that are known to be down.
    pub dead_links: Vec<bool>,
    never_active: bool,
}

impl Host for Around {
    type Source = Told;
    type Sink = Owners;

    fn tables(&mut self) -> (&mut Told, &mut Owners) {
        (&mut self.source, &mut self.sink)
    }

    fn send(&mut self, path: PathId, datagram: &[u8]) -> bool {
        let path = usize::from(path.0);
        if self.dead_links.get(path).copied().unwrap_or(true) {
            return false;
        }
        self.outbox.push((path, datagram.to_vec()));
        true
    }

    fn carry_out(&mut self, order: Order) {
        if let Order::Role(word) = &order {
            let closed = RoleWord::closed(Role::Standby, word.term);
            let shown = if self.never_active && word.role == Role::Active { closed } else { *word };
            self.source.0.borrow_mut().word = shown;
        }
        if let Order::Split(split) = order {
            self.source.0.borrow_mut().split = Some(split);
        }
        self.orders.push(order);
    }

    fn mirror_age(&mut self, age: Micros) {
        self.source.0.borrow_mut().mirror_age = age;
    }

    fn describe(&self) -> heartbeat::Report {
        self.report.clone()
    }
}

/// A node that runs.
pub(crate) struct Life {
    pub pair: Pair,
    pub around: Around,
    pub tables: Rc<RefCell<Tables>>,
    pub incarnation: Incarnation,
    /// The partner's, as its keys proved it.
    pub confirmed: Incarnation,
    /// Datagrams that arrived and were not looked at.
    pub inbox: VecDeque<(usize, Vec<u8>)>,
    /// When the sync core is to turn.
    pub core_at: u64,
    /// When each worker is to step.
    pub worker_at: Vec<u64>,
    /// Until when each worker hangs.
    pub stuck: Vec<u64>,
    /// Since when each worker parks; far away if it does not.
    pub parks_from: u64,
    pub parked: VecDeque<Packet>,
    pub redirect_until: u64,
    /// The workers took the role that was last asked of them.
    pub installed: bool,
    pub fitness: Fitness,
    /// When it says next what its users do, while it is active apart from its partner.
    pub activity_at: u64,
    /// When the sync core turned last, and what it said then.
    pub turned: u64,
    pub claim: Claim,
}

/// What a node said of its mirror when its sync core turned last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Claim {
    /// It counts what is unprotected, and knows the partner that lives.
    pub counts: bool,
    /// The mirror was proven before, and nothing has happened since that it could not count.
    pub knows: bool,
    pub unprotected: u32,
    pub proven: bool,
    pub term: Term,
    pub partner: Incarnation,
}

/// A node, running or not.
pub(crate) struct Node {
    pub clock: Clock,
    pub life: Option<Life>,
    /// Grows with each start and end: what belongs to an earlier life is recognised by it.
    pub lives: u32,
    pub disk: Term,
    /// Until when the whole node stands still.
    pub frozen: u64,
    /// Until when the sync core hangs.
    pub hung: u64,
}

impl Node {
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// What the workers see.
    pub fn word(&self) -> Option<RoleWord> {
        self.life.as_ref().map(|life| life.tables.borrow().word)
    }

    pub fn role(&self) -> Option<Role> {
        self.life.as_ref().map(|life| life.pair.state().role())
    }
}

impl Life {
    pub fn new(
        setup: &Setup,
        node: usize,
        pair: Pair,
        tables: Rc<RefCell<Tables>>,
        incarnation: Incarnation,
    ) -> Self {
        let report = heartbeat::Report {
            wire_version: 1,
            wire_oldest: 1,
            config_hash: 0x5eed,
            workers: setup.sizes[node].workers as u8,
            ..heartbeat::Report::default()
        };
        let around = Around {
            source: Told(Rc::clone(&tables)),
            sink: Owners(Rc::clone(&tables)),
            outbox: Vec::new(),
            orders: Vec::new(),
            report,
            dead_links: vec![false; setup.paths.len()],
            never_active: setup.never_active[node],
        };
        let workers = setup.sizes[node].workers;
        Self {
            pair,
            around,
            tables,
            incarnation,
            confirmed: Incarnation(0),
            inbox: VecDeque::new(),
            core_at: u64::MAX,
            worker_at: vec![u64::MAX; workers],
            stuck: vec![0; workers],
            parks_from: u64::MAX,
            parked: VecDeque::new(),
            redirect_until: 0,
            installed: false,
            fitness: Fitness { forwarding: Forwarding::Able, config_valid: true, quality: 100, activity: 0 },
            activity_at: 0,
            turned: 0,
            claim: Claim::default(),
        }
    }

    /// Takes in what arrived and turns.
    pub fn turn(&mut self, now: Micros) {
        while let Some((path, mut datagram)) = self.inbox.pop_front() {
            // Refused datagrams are counted by the machine.
            let _ = self.pair.handle(now, PathId(path as u8), &mut datagram, &mut self.around);
        }
        self.pair.turn(now, &mut self.around);
    }

    /// Keeps a packet until the handover is over. False if there is no room.
    pub fn park(&mut self, packet: Packet) -> bool {
        let fits = self.parked.len() < PARKED;
        if fits {
            self.parked.push_back(packet);
        }
        fits
    }
}
