//! Switchover: the role changes sides without a packet lost (decision 37).
//!
//! ```text
//! active                                             target
//! preparing   ── prepare ──────────────────────────► prepares (next hops, policy frozen)
//! parking     ◄──────────────────────── prepared ──  prepared
//! flushing       (last deltas applied)
//! granted     ── grant(term, until) ───────────────► accepting: workers install and confirm
//! standby     ◄──────────────── active, that term ── active
//! ```
//!
//! The grant is dated in the target's own clock, by the last heartbeat that the active node heard from it,
//! so it ends at the target before it is overdue at the giver, however long a heartbeat was under way. The
//! giver goes on only when it has heard from the target after that end, or hears nothing of it at all.

use super::config::Config;
use super::event::{Cause, Effect, Notice, Refusal};
use super::state::{Stage, State};
use super::{Mirror, Phase, Role};
use crate::heartbeat;
use crate::ids::{Micros, Term};

/// Heartbeats that often while a handover is under way, if they are not quicker anyway.
const BUSY_INTERVAL: Micros = Micros::from_millis(10);

/// Where the node is in a handover.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Handover {
    /// Nowhere.
    Idle,
    /// Standby: asked the active node for the role.
    Asked { since: Micros },
    /// Active: said no.
    Refusing { since: Micros },
    /// Active: the target prepares.
    Preparing { since: Micros },
    /// Active: workers park their bursts.
    Parking { since: Micros },
    /// Active: the last deltas are under way.
    Flushing { since: Micros },
    /// Active no longer in fact: the target may claim the term.
    Granted { term: Term, until: Micros, since: Micros },
    /// The same, and it ought to have been heard of: the target used the grant, or let it lapse.
    Overdue { term: Term, until: Micros },
    /// Target: gets ready.
    TargetPreparing,
    /// Target: is ready.
    TargetPrepared,
    /// Target: workers install the role.
    Accepting { term: Term, until: Micros },
}

impl Handover {
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Idle | Self::TargetPreparing => Phase::Idle,
            Self::Asked { .. } => Phase::Request,
            Self::Refusing { .. } => Phase::Refused,
            Self::Preparing { .. } | Self::Parking { .. } | Self::Flushing { .. } => Phase::Prepare,
            Self::Granted { term, until, .. } | Self::Overdue { term, until } => Phase::Grant { term, until },
            Self::TargetPrepared | Self::Accepting { .. } => Phase::Prepared,
        }
    }

    /// Whether workers hold bursts back.
    pub(super) fn parks(self) -> bool {
        matches!(self, Self::Parking { .. } | Self::Flushing { .. }) || self.stopped()
    }

    /// Whether the role is no longer this node's to use.
    pub(super) fn stopped(self) -> bool {
        self.granted().is_some()
    }

    /// The term that the target may claim, and until when by its clock.
    pub(super) fn granted(self) -> Option<(Term, Micros)> {
        match self {
            Self::Granted { term, until, .. } | Self::Overdue { term, until } => Some((term, until)),
            _ => None,
        }
    }

    pub(super) fn beat_interval(self, config: &Config) -> Micros {
        let busy = !matches!(self, Self::Idle | Self::Asked { .. } | Self::Refusing { .. });
        if busy { config.interval.min(BUSY_INTERVAL) } else { config.interval }
    }

    pub(super) fn deadline(self, config: &Config) -> Option<Micros> {
        match self {
            Self::Idle | Self::TargetPreparing | Self::TargetPrepared | Self::Overdue { .. } => None,
            Self::Asked { since } | Self::Refusing { since } | Self::Preparing { since } => {
                Some(since.after(config.prepare_limit))
            }
            Self::Parking { since } | Self::Flushing { since } | Self::Granted { since, .. } => {
                Some(since.after(config.grant_limit))
            }
            Self::Accepting { until, .. } => Some(until),
        }
    }

    pub(super) fn map_times(&mut self, own: &mut dyn FnMut(&mut Micros), peer: &mut dyn FnMut(&mut Micros)) {
        match self {
            Self::Idle | Self::TargetPreparing | Self::TargetPrepared => {}
            Self::Asked { since }
            | Self::Refusing { since }
            | Self::Preparing { since }
            | Self::Parking { since }
            | Self::Flushing { since } => own(since),
            Self::Granted { until, since, .. } => {
                peer(until);
                own(since);
            }
            Self::Overdue { until, .. } => peer(until),
            Self::Accepting { until, .. } => own(until),
        }
    }
}

impl State {
    /// An operator asks, on either node.
    pub(super) fn switchover(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let refusal = if self.stage == Stage::Active {
            self.lossless_refusal()
        } else {
            match self.heard_view() {
                None => Some(Refusal::NoPartner),
                Some(view) if view.beat.claim.role != Role::Active => Some(Refusal::NobodyActive),
                Some(_) if self.handover != Handover::Idle => Some(Refusal::Busy),
                Some(_) => None,
            }
        };
        match refusal {
            Some(reason) => effects.push(Effect::Notice(Notice::SwitchoverRefused(reason))),
            None if self.stage == Stage::Active => self.begin_handover(now),
            None => self.handover = Handover::Asked { since: now },
        }
    }

    /// Why the role cannot be handed over without loss now; `None` if it can.
    pub(super) fn lossless_refusal(&self) -> Option<Refusal> {
        self.refusal().or_else(|| (!self.hears_while_parked()).then_some(Refusal::NoSyncLink))
    }

    /// Whether the partner is heard over a link that parked workers have nothing to do with.
    fn hears_while_parked(&self) -> bool {
        self.paths.iter().take(self.config.sync_links).any(heartbeat::Path::alive)
    }

    /// Why the role cannot be handed over now; `None` if it can.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let Some(view) = self.heard_view() else { return Some(Refusal::NoPartner) };
        let claim = &view.beat.claim;
        if !matches!(self.handover, Handover::Idle | Handover::Refusing { .. }) || self.activation.is_some() {
            Some(Refusal::Busy)
        } else if view.differs.is_some() {
            Some(Refusal::Differs)
        } else if !claim.able {
            Some(Refusal::PartnerUnfit)
        } else if claim.role != Role::Standby {
            Some(Refusal::NotStandby)
        } else if claim.mirror != Mirror::Complete || !self.proven || self.fenced.is_some() {
            Some(Refusal::NotInSync)
        } else {
            None
        }
    }

    pub(super) fn begin_handover(&mut self, now: Micros) {
        self.handover = Handover::Preparing { since: now };
    }

    pub(super) fn target_prepared(&mut self, _now: Micros) {
        if self.handover == Handover::TargetPreparing {
            self.handover = Handover::TargetPrepared;
        }
    }

    pub(super) fn parked(&mut self, _now: Micros, effects: &mut Vec<Effect>) {
        if let Handover::Parking { since } = self.handover {
            self.handover = Handover::Flushing { since };
            effects.push(Effect::Flush);
        }
    }

    /// The partner has everything: from here on the role is its own, for a short while.
    pub(super) fn flushed(&mut self, now: Micros) {
        let Handover::Flushing { .. } = self.handover else { return };
        let Some(view) = self.heard_view() else { return };
        let (term, until) = (view.beat.claim.reserve, view.beat.said.clock.after(self.config.grant_use()));
        if term > self.seen && view.beat.claim.phase == Phase::Prepared && !self.draining {
            self.lease = Micros(0);
            self.handover = Handover::Granted { term, until, since: now };
        }
    }

    /// Workers confirmed a role.
    pub(super) fn installed(&mut self, term: Term, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        if let Some(activation) = self.activation.as_mut().filter(|_| self.term == term) {
            activation.confirmed = true;
        }
        let Handover::Accepting { term: granted, until } = self.handover else { return None };
        if granted != term || self.draining {
            return None;
        }
        if now >= until || self.reserve != granted || !self.able() {
            self.handover = Handover::Idle;
            effects.push(Effect::Notice(Notice::SwitchoverLapsed));
            return None;
        }
        self.claim_role(Cause::Grant, until, now, effects);
        Some(Cause::Grant)
    }

    /// Moves a handover on by what the partner shows, and ends it when its time is over.
    pub(super) fn drive_handover(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        let late = self.handover.deadline(&self.config).is_some_and(|at| now >= at);
        let view = self.heard_view().map(|view| (view.beat.claim, view.beat.echo.clock));
        if self.stage == Stage::Active {
            self.drive_giver(view, late, now, effects)
        } else {
            self.drive_target(view.map(|(claim, _)| claim), late, now, effects);
            None
        }
    }

    fn drive_giver(
        &mut self,
        view: Option<(crate::heartbeat::Claim, Micros)>,
        late: bool,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Option<Cause> {
        if let (Some((term, _)), Some((claim, _))) = (self.handover.granted(), view)
            && claim.role == Role::Active
            && claim.term >= term
        {
            effects.push(Effect::Redirect(now.after(self.config.redirect)));
            self.handover = Handover::Idle;
            self.step_down(Cause::Grant, now, effects);
            self.term = claim.term;
            return Some(Cause::Grant);
        }
        match (self.handover, view) {
            (Handover::Granted { term, until, .. }, _) if late => {
                self.handover = Handover::Overdue { term, until };
                return self.drive_overdue((term, until), now, effects);
            }
            (Handover::Overdue { term, until }, _) => {
                return self.drive_overdue((term, until), now, effects);
            }
            (Handover::Parking { .. } | Handover::Flushing { .. }, _) if late => {
                effects.push(Effect::Notice(Notice::SwitchoverLapsed));
                effects.push(Effect::Unpark);
                self.handover = Handover::Idle;
            }
            (Handover::Preparing { .. }, _) if late => {
                effects.push(Effect::Notice(Notice::SwitchoverRefused(Refusal::Timeout)));
                self.handover = Handover::Idle;
            }
            (Handover::Preparing { since }, Some((claim, echoed)))
                if claim.phase == Phase::Prepared && echoed >= since =>
            {
                self.stop_forwarding(now, effects);
            }
            (Handover::Idle, Some((claim, _))) if claim.phase == Phase::Request => {
                match self.lossless_refusal() {
                    None => self.begin_handover(now),
                    Some(reason) => {
                        effects.push(Effect::Notice(Notice::SwitchoverRefused(reason)));
                        self.handover = Handover::Refusing { since: now };
                    }
                }
            }
            (Handover::Refusing { .. }, view)
                if late || view.is_none_or(|(claim, _)| claim.phase != Phase::Request) =>
            {
                self.handover = Handover::Idle;
            }
            _ => {}
        }
        None
    }

    /// Bursts wait for the target, unless its answers would wait with them: over data ports alone the role
    /// changes sides with what is under way lost.
    fn stop_forwarding(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.hears_while_parked() {
            effects.push(Effect::Park);
            self.handover = Handover::Parking { since: now };
        } else {
            effects.push(Effect::Flush);
            self.handover = Handover::Flushing { since: now };
        }
    }

    /// The grant ought to be over. It is for certain when the target says so by a heartbeat of a later time,
    /// or is not heard any more at all: until then it may be active, and its word under way.
    fn drive_overdue(
        &mut self,
        (term, until): (Term, Micros),
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Option<Cause> {
        if self.heard_view().is_some_and(|view| view.beat.said.clock < until) {
            return None;
        }
        self.seen = self.seen.max(term);
        effects.push(Effect::Notice(Notice::SwitchoverLapsed));
        effects.push(Effect::Unpark);
        self.reserve_term(effects);
        self.lease = now;
        self.claim_role(Cause::Lapse, Micros::NEVER, now, effects);
        if self.handover.stopped() {
            // No terms are left to go on with.
            self.step_down(Cause::Lapse, now, effects);
            return Some(Cause::Lapse);
        }
        self.said = None;
        self.begin_lease(now);
        Some(Cause::Lapse)
    }

    /// Going on after a lapse: the partner cannot have taken over, so nothing has to be asked.
    fn begin_lease(&mut self, now: Micros) {
        self.activation = Some(super::state::Activation {
            since: now,
            before: Micros::NEVER,
            beat_out: false,
            confirmed: true,
            attracted: false,
        });
    }

    fn drive_target(
        &mut self,
        claim: Option<crate::heartbeat::Claim>,
        late: bool,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) {
        let phase = claim.filter(|claim| claim.role == Role::Active).map_or(Phase::Idle, |claim| claim.phase);
        match (self.handover, phase) {
            (Handover::Asked { .. }, Phase::Refused) => {
                effects.push(Effect::Notice(Notice::SwitchoverRefused(Refusal::ByPartner)));
                self.handover = Handover::Idle;
            }
            (Handover::Idle | Handover::Asked { .. }, Phase::Prepare) if self.stage == Stage::Follower => {
                effects.push(Effect::PrepareTarget);
                self.handover = Handover::TargetPreparing;
            }
            (Handover::Asked { .. }, _) if late => {
                effects.push(Effect::Notice(Notice::SwitchoverRefused(Refusal::Timeout)));
                self.handover = Handover::Idle;
            }
            (Handover::TargetPrepared, Phase::Grant { term, until })
                if term == self.reserve && now < until =>
            {
                effects.push(Effect::Install(term));
                self.handover = Handover::Accepting { term, until };
            }
            (
                Handover::TargetPreparing | Handover::TargetPrepared,
                Phase::Idle | Phase::Refused | Phase::Request,
            ) => {
                self.handover = Handover::Idle;
            }
            (Handover::Accepting { .. }, _) if late => {
                effects.push(Effect::Notice(Notice::SwitchoverLapsed));
                self.handover = Handover::Idle;
            }
            _ => {}
        }
    }
}
