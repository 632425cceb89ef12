//! What goes wrong, and how it ends.

use super::{Happening, Owed, World};
use crate::link::Quality;
use crate::setup::Fault;
use crate::tables::reply_key;
use sync::datagram::Kind;
use sync::ids::Version;
use sync::membership::{self, Command};
use sync::pair::Report;
use sync::record::Session;

impl World {
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
            _ => {
                self.owed = None;
                self.merged.give_up();
            }
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
    pub(super) fn owe_takeover(&mut self, node: usize, calm: u64) {
        let other = 1 - node;
        let ready = self.in_order() && self.active() == Some(node) && calm > 20 * self.setup.interval();
        if !ready {
            return;
        }
        let by = self.now + self.setup.dead() + self.setup.membership.confirm_limit.0 + 5_000;
        self.owed = Some(Owed { node: other, by });
    }

    pub(super) fn replay(&mut self, node: usize) {
        let recorded = std::mem::take(&mut self.recorded[node]);
        for (place, (path, datagram)) in (0_u64..).zip(recorded) {
            let arrive = Happening::Arrive { to: 1 - node, path, sent: 0, datagram };
            self.at(self.now + place * 1_500, arrive);
        }
    }

    pub(super) fn cut(&mut self, path: usize, from: Option<usize>, carrier: bool) {
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

    pub(super) fn mend(&mut self, path: usize) {
        self.links[path] = [self.setup.paths[path].quality; 2];
        self.link_state(0, path, true);
        self.link_state(1, path, true);
    }

    pub(super) fn stick(&mut self, node: usize, worker: usize, us: u64) {
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

    pub(super) fn unstick(&mut self, node: usize, worker: usize) {
        let now = self.now;
        let Some(life) = &self.nodes[node].life else { return };
        if life.stuck.iter().all(|until| *until <= now)
            && life.fitness.forwarding == membership::Forwarding::Fault
        {
            self.set_fitness(node, |fitness| fitness.forwarding = membership::Forwarding::Able);
        }
        self.wake_worker(node, worker, now);
    }

    pub(super) fn set_fitness(&mut self, node: usize, change: impl FnOnce(&mut membership::Fitness)) {
        let Some(life) = &mut self.nodes[node].life else { return };
        change(&mut life.fitness);
        let report = Report::Fitness(life.fitness);
        self.report(node, report);
    }

    pub(super) fn damage(&mut self, node: usize, kind: u8) {
        self.damaged = true;
        let local = self.nodes[node].clock.shows(self.now);
        let version = Version::new(self.nodes[node].disk, 1);
        let Some(life) = &self.nodes[node].life else { return };
        let mut tables = life.tables.borrow_mut();
        let first = self.workload.load.steady;
        for flow in first..first + self.workload.load.flows {
            let (session, _) = self.workload.session(flow, local);
            // What is added has keys of its own.
            if [session.key, reply_key(&session)].iter().all(|key| tables.find(key).is_none()) {
                tables.damage(kind, &Session { version, ..session });
                return;
            }
        }
    }

    /// Ends everything that goes wrong.
    pub(super) fn heal(&mut self) {
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
