//! The nodes' threads: when they run, and what is done with what the machine orders.

use super::{Happening, World};
use crate::check::Verdict;
use crate::name;
use crate::node::Life;
use crate::tables::Tables;
use crate::workload::Packet;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use sync::ids::{GroupId, Incarnation, NodeId, PairId, Term};
use sync::keys::{self, Identity, PublicKey};
use sync::membership::{self, Notice, Role};
use sync::pair::{Order, Pair, PairConfig, PathConfig, Report};

/// What a sync core does at least between two turns.
const CORE_STEP_US: u64 = 10;
/// Between two reports of what users do, in a split.
const ACTIVITY_US: u64 = 20_000;

impl World {
    pub(super) fn start(&mut self, node: usize) {
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
        self.forget(node);
        self.note(|_| format!("{} starts, incarnation {:x}", name(node), incarnation.0));
        self.wake(node, self.now + 10);
        for path in 0..self.links.len() {
            let dead = !self.links[path].iter().any(|quality| quality.up);
            if dead {
                self.link_state(node, path, false);
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize, disk: bool) {
        let this = &mut self.nodes[node];
        if this.life.take().is_none() {
            return;
        }
        this.lives += 1;
        if disk {
            this.disk = Term::ZERO;
        }
        self.forget(node);
    }

    /// The checkers forget what a node knew: its memory is gone.
    fn forget(&mut self, node: usize) {
        self.lineage.forget(node);
        self.kept.forget(node);
        self.twin.forget(node);
        self.merged.give_up();
        self.forwarding.restarted();
    }

    pub(super) fn wake(&mut self, node: usize, at: u64) {
        let this = &mut self.nodes[node];
        let at = at.max(this.frozen).max(this.hung);
        let lives = this.lives;
        let Some(life) = &mut this.life else { return };
        if at < life.core_at {
            life.core_at = at;
            self.at(at, Happening::Core { node, life: lives });
        }
    }

    pub(super) fn core(&mut self, node: usize) -> Verdict {
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
    pub(super) fn after_turn(&mut self, node: usize) -> Verdict {
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
        self.tell_activity(node);
        self.take_claim(node)
    }

    /// While a node is active apart from its partner, it says how many sessions have traffic (decision 34).
    fn tell_activity(&mut self, node: usize) {
        let now = self.now;
        let Some(life) = &mut self.nodes[node].life else { return };
        let split = life.tables.borrow().split.filter(|split| split.lasts);
        let Some(split) = split.filter(|_| now >= life.activity_at) else { return };
        life.activity_at = now + ACTIVITY_US;
        let activity = life.tables.borrow().two_way(split.noticed).count() as u32;
        if activity != life.fitness.activity {
            self.set_fitness(node, |fitness| fitness.activity = activity);
        }
    }

    pub(super) fn wake_workers(&mut self, node: usize) {
        let Some(life) = &self.nodes[node].life else { return };
        for worker in 0..life.worker_at.len() {
            let has_work = self.nodes[node].life.as_ref().is_some_and(|l| l.tables.borrow().has_work(worker));
            if has_work {
                let at = self.now + self.rng.range(3, 60);
                self.wake_worker(node, worker, at);
            }
        }
    }

    pub(super) fn wake_worker(&mut self, node: usize, worker: usize, at: u64) {
        let this = &mut self.nodes[node];
        let (frozen, lives) = (this.frozen, this.lives);
        let Some(life) = &mut this.life else { return };
        let at = at.max(frozen).max(life.stuck[worker]);
        if at < life.worker_at[worker] {
            life.worker_at[worker] = at;
            self.at(at, Happening::Worker { node, life: lives, worker });
        }
    }

    pub(super) fn worker(&mut self, node: usize, worker: usize) {
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

    pub(super) fn report(&mut self, node: usize, report: Report) {
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

    pub(super) fn obey(&mut self, node: usize, order: Order) -> Verdict {
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
            Order::Split(split) => self.note(|_| format!("{} sees a split: {split:?}", name(node))),
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
    pub(super) fn attracts_early(&self, node: usize) -> bool {
        let Some(life) = &self.nodes[node].life else { return false };
        let word = life.tables.borrow().word;
        let unconfirmed =
            matches!(self.notices[node].last(), Some((at, Notice::Unconfirmed)) if *at == self.now);
        let told = self.notices[node].iter().rev().take_while(|(at, _)| *at == self.now);
        let won = told.into_iter().any(|(_, notice)| *notice == Notice::ContestWon);
        !life.installed && !unconfirmed && !won && word.role == Role::Active
    }

    pub(super) fn hear_notice(&mut self, node: usize, notice: Notice) {
        self.note(|_| format!("{} says {notice:?}", name(node)));
        self.notices[node].push((self.now, notice));
        if let Notice::RoleChanged { from, to, cause } = notice {
            if to == Role::Active {
                self.activated[node] = self.now;
            }
            let both_active = self.activated[0].max(self.activated[1]);
            let of = |node: usize| {
                let split = self.nodes[node].clock.shows(self.heard[node].split_at(both_active));
                self.nodes[node].life.as_ref().map(|life| (life.tables.borrow(), split))
            };
            match (cause, of(node), of(1 - node)) {
                (membership::Cause::ContestLost, Some(loser), Some(winner)) => {
                    self.merged.begins(1 - node, (&loser.0, loser.1), (&winner.0, winner.1));
                }
                _ if from == Role::Active || to == Role::Active => self.merged.give_up(),
                _ => {}
            }
        }
        if let (Notice::RoleChanged { to: Role::Active, .. }, Some(other)) =
            (notice, &mut self.nodes[1 - node].life)
        {
            // What an active node writes, the other one cannot count, until it has proven anew that they agree.
            other.claim.knows = false;
        }
        if let Notice::RoleChanged { from: Role::Active, cause, .. } = notice
            && cause != membership::Cause::Grant
        {
            // What it wrote itself may be of another lineage than what it follows now.
            self.lineage.forget(node);
        }
    }

    /// Parked packets go on: through this node again, or to the other one.
    pub(super) fn release_parked(&mut self, node: usize, to: usize) {
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
}
