//! What is held against the truth: the tables, what a node says of its partner's mirror, and how a course
//! ends.

use super::{Failure, World};
use crate::check::{Verdict, same_tables};
use crate::name;
use crate::node::Claim;
use crate::tables::{Change, Defect, Told};
use std::rc::Rc;
use sync::membership::Role;
use sync::stream::Source;

impl World {
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
        self.check_merged().map_err(|what| self.failure(what))?;
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

    /// What the losers' and the winners' users did in splits is in both tables.
    ///
    /// # Errors
    /// With what was lost.
    pub fn check_merged(&mut self) -> Verdict {
        let [Some(a), Some(b)] = [0, 1].map(|node| self.nodes[node].life.as_ref()) else { return Ok(()) };
        self.merged.check([&a.tables.borrow(), &b.tables.borrow()])
    }

    pub(super) fn unprotected(&self) -> u32 {
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

    /// What the node says of its partner's mirror, held against the truth.
    pub(super) fn take_claim(&mut self, node: usize) -> Verdict {
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
        let unprotected = status.unprotected + Told(Rc::clone(&this.tables)).waiting();
        let claim = Claim { counts, knows, unprotected, proven, term: state.term(), partner: this.confirmed };
        if counts && !self.damaged && self.setup.defects.iter().all(|d| *d != Some(Defect::ForgetsChanges)) {
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

    pub(super) fn read_logs(&mut self) -> Verdict {
        for node in [0, 1] {
            let Some(life) = &self.nodes[node].life else { continue };
            if life.tables.borrow().log.is_empty() && life.tables.borrow().kept_out.is_empty() {
                continue;
            }
            let log = std::mem::take(&mut life.tables.borrow_mut().log);
            let kept_out = std::mem::take(&mut life.tables.borrow_mut().kept_out);
            kept_out.iter().for_each(|key| self.merged.kept_out(key));
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
                self.merged.see(node, logged);
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
    pub(super) fn check_owner(&self, node: usize, change: Change) -> Verdict {
        let serves = self.nodes[node].word().is_some_and(|word| word.role == Role::Active);
        if matches!(change, Change::Own | Change::Adopted | Change::Ended) && !serves {
            return Err(format!("{} is not active and {change:?} a session by itself", name(node)));
        }
        Ok(())
    }
}
