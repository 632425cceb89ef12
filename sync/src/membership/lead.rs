//! What the active node does: keep its lease, settle conflicts, and give the role up when it should.

use super::contest::{Contender, Standing, first_wins};
use super::event::{Cause, Effect, Forwarding, Notice};
use super::handover::Handover;
use super::state::{Stage, State};
use super::{Mirror, Phase, Role};
use crate::ids::Micros;

impl State {
    pub(super) fn lead(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        let view = self.heard_view().cloned();
        if let Some(view) = &view
            && view.beat.claim.role == Role::Active
            && !self.is_granting(&view.beat.claim)
        {
            return self.settle_conflict(&view.beat.claim, now, effects);
        }
        if self.contest.take().is_some() && view.is_some() {
            effects.push(Effect::AcceptMerge);
            effects.push(Effect::Notice(Notice::ContestWon));
            effects.push(Effect::Attract);
        }
        if self.unfit_to_stay(view.is_some_and(|view| view.beat.claim.able), now) {
            self.step_down(Cause::Unfit, now, effects);
            return Some(Cause::Unfit);
        }
        self.unfence(now);
        if self.seen > self.term && self.handover == Handover::Idle {
            self.claim_role(Cause::Jump, Micros::NEVER, now, effects);
        }
        self.announce(now, effects);
        self.grant_wishes(now, effects)
    }

    /// Whether the partner is just handing over: it stopped, and has not heard yet that this node took the
    /// role.
    fn is_granting(&self, theirs: &crate::heartbeat::Claim) -> bool {
        matches!(theirs.phase, Phase::Grant { term, .. } if term == self.term)
    }

    /// Two active nodes hear each other (decision 34).
    fn settle_conflict(
        &mut self,
        theirs: &crate::heartbeat::Claim,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Option<Cause> {
        if let Some((term, _)) = self.handover.granted()
            && theirs.term >= term
        {
            return None;
        }
        let idle = self.fenced.is_some() || self.activation.is_some_and(|activation| !activation.beat_out);
        if idle && theirs.term > self.term {
            self.step_down(Cause::Outlived, now, effects);
            return Some(Cause::Outlived);
        }
        let standing =
            Standing { able: self.able(), activity: self.fitness.activity, quality: self.fitness.quality };
        if self.contest.is_none() {
            effects.push(Effect::Notice(Notice::ConflictBothActive));
        }
        let standing = *self.contest.get_or_insert(standing);
        let node = self.config.node;
        let mine = Contender { standing, term: self.term, preferred: self.config.preferred, node };
        let other = Contender {
            standing: theirs.contest?,
            term: theirs.term,
            preferred: theirs.preferred,
            node: self.config.partner,
        };
        if first_wins(&mine, &other) {
            return None;
        }
        self.step_down(Cause::ContestLost, now, effects);
        // What this node has from a higher term is not of another lineage: it is about to be merged.
        self.term = theirs.term;
        effects.push(Effect::OfferMerge);
        Some(Cause::ContestLost)
    }

    /// An active node that cannot forward makes room for one that can, or that may be about to take over.
    fn unfit_to_stay(&self, partner_able: bool, now: Micros) -> bool {
        let unable = self.fitness.forwarding != Forwarding::Able;
        let partner_gone =
            !self.peer_alive() && self.partner_ready && self.silent_for(now) >= self.config.dead();
        unable && (partner_able || partner_gone)
    }

    pub(super) fn step_down(&mut self, cause: Cause, now: Micros, effects: &mut Vec<Effect>) {
        if self.handover.parks() {
            effects.push(Effect::Unpark);
        }
        self.stage = Stage::Follower;
        self.handover = Handover::Idle;
        self.lease = Micros(0);
        self.fenced = None;
        self.activation = None;
        self.contest = None;
        self.better_since = None;
        self.mirror = if cause == Cause::Grant { Mirror::Complete } else { Mirror::Partial };
        self.hold_until = now.after(self.config.hold_down);
        self.ready_since = None;
        self.unvoted_since = self.unvoted_since.or(Some(now));
    }

    /// A heartbeat went out: that is what the lease is given for (decision 32).
    pub(super) fn beats_sent(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        if self.stage != Stage::Active || self.draining || self.fenced.is_some() || self.handover.stopped() {
            return None;
        }
        if let Some(activation) = &mut self.activation
            && !activation.beat_out
        {
            if now >= activation.before {
                self.step_down(Cause::TooLate, now, effects);
                return Some(Cause::TooLate);
            }
            activation.beat_out = true;
        }
        self.lease = self.config.lease().renew(self.lease, now, self.partner_ready);
        None
    }

    pub(super) fn watch_lease(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Active {
            return;
        }
        if self.lease == Micros::NEVER && self.partner_ready {
            // Ends by itself from here on; heartbeats say so, and only then the partner is armed.
            self.lease = self.config.lease().renew(self.lease, now, true);
        }
        let began = self.activation.is_none_or(|activation| activation.beat_out);
        if began && self.fenced.is_none() && self.lease <= now && !self.handover.stopped() {
            self.fenced = Some(now);
            effects.push(Effect::Notice(Notice::Fenced));
        }
    }

    /// After the lease ran out the partner may have taken over: forward again only when it answered since
    /// and did not, or when nobody is there.
    fn unfence(&mut self, now: Micros) {
        let Some(since) = self.fenced else { return };
        let answered = self.heard_view().is_some_and(|view| view.beat.echo.clock > since);
        let alone = !self.peer_alive() && self.silent_for(now) >= self.config.dead();
        if answered || alone {
            self.fenced = None;
            self.lease = now;
            // The lease begins with the next heartbeat, which goes out now.
            self.activation = Some(super::state::Activation {
                since: now,
                before: self.answer_limit(),
                beat_out: false,
                confirmed: true,
                attracted: false,
            });
            self.said = None;
        }
    }

    /// Until when the partner cannot have given this node up, by what it answered last.
    pub(super) fn answer_limit(&self) -> Micros {
        let patience = self.config.dead().since(self.config.margin);
        self.heard_view().map_or(Micros::NEVER, |view| view.beat.echo.clock.after(patience))
    }

    /// Install before attract (decision 38).
    fn announce(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let Some(activation) = &mut self.activation else { return };
        if !activation.beat_out {
            return;
        }
        let late = now.since(activation.since) >= self.config.confirm_limit;
        if !activation.attracted && (activation.confirmed || late) {
            activation.attracted = true;
            if !activation.confirmed {
                effects.push(Effect::Notice(Notice::Unconfirmed));
            }
            effects.push(Effect::Attract);
        }
        if activation.attracted {
            self.activation = None;
        }
    }

    /// Reasons to hand over that nobody has to ask for: force, quality, preference (S-12, S-18, N-23).
    fn grant_wishes(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        if self.handover != Handover::Idle || self.fenced.is_some() {
            return None;
        }
        let claim = self.heard_view()?.beat.claim;
        let forced = self.forced == Some(false) || (claim.forced_active && self.forced != Some(true));
        if forced && claim.able {
            if self.refusal().is_none() {
                self.begin_handover(now);
                return None;
            }
            // The operator said so: if the mirror does not become complete, it costs sessions.
            let since = *self.better_since.get_or_insert(now);
            if now.since(since) >= self.config.prepare_limit && claim.role != Role::Init {
                self.step_down(Cause::Forced, now, effects);
                return Some(Cause::Forced);
            }
            return None;
        }
        let quality = self.fitness.quality;
        let better =
            self.config.swap_on_quality && claim.quality >= quality.saturating_add(self.config.hysteresis);
        let returns = self.config.preempt
            && claim.preferred
            && !self.config.preferred
            && claim.quality.saturating_add(self.config.hysteresis) > quality;
        let wanted = (better && claim.quality > quality || returns) && self.forced.is_none();
        // Who need not swap does not pay for it.
        let refusal = if better { self.refusal() } else { self.lossless_refusal() };
        if !wanted || refusal.is_some() || self.held(now) {
            self.better_since = None;
            return None;
        }
        let since = *self.better_since.get_or_insert(now);
        if now.since(since) >= self.config.settle {
            self.better_since = None;
            self.begin_handover(now);
        }
        None
    }

    /// Whether a voluntary change has to wait: hold-down and flap limit.
    fn held(&self, now: Micros) -> bool {
        let recent = |at: &&Micros| now.since(**at) < self.config.flap_window;
        now < self.hold_until
            || self.activations.iter().flatten().filter(recent).count() >= usize::from(self.config.flap_limit)
    }
}
