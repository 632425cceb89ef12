//! What a node does that is not active: adopt the one that is, agree on one, or take over.

use super::config::OnActiveRestart;
use super::event::{Cause, Effect, Forwarding, Notice};
use super::state::{Activation, Stage, State, View};
use super::{Mirror, Role};
use crate::heartbeat::Claim;
use crate::ids::{Incarnation, Micros, Term};

impl State {
    pub(super) fn follow(&mut self, ticks: bool, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        if let Some(view) = self.heard_view().cloned() {
            self.vetoed = false;
            return if view.beat.claim.role == Role::Active {
                self.adopt(&view.beat.claim, effects);
                None
            } else {
                self.agree(&view, now, effects)
            };
        }
        if ticks { self.judge_silence(now, effects) } else { None }
    }

    /// Follows the active partner. A node that followed a higher term than the active one's has a mirror
    /// of another lineage (decision 18).
    fn adopt(&mut self, active: &Claim, effects: &mut Vec<Effect>) {
        self.stage = Stage::Follower;
        self.yields = false;
        if self.term > active.term && self.mirror != Mirror::None {
            self.mirror = Mirror::None;
            effects.push(Effect::DiscardMirror);
            effects.push(Effect::Notice(Notice::OtherLineage));
        }
        self.term = active.term;
    }

    /// Both nodes live and none is active: the better one leads once the other has voted for it.
    fn agree(&mut self, view: &View, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        let claim = &view.beat.claim;
        match self.stage {
            Stage::Init if self.wants_mirror_back(claim) => {
                self.stage = Stage::Recovering(now.after(self.config.recover_limit));
                effects.push(Effect::RequestMirror);
                return None;
            }
            Stage::Recovering(until) if now >= until || self.mirror == Mirror::Complete => {
                self.stage = Stage::Follower;
            }
            _ => {}
        }
        if !self.should_lead(claim) || claim.vote != Some(self.reserve) {
            return None;
        }
        // The vote must answer a heartbeat in which we voted for nobody, and the voter must still be sure
        // to hear us before it gives us up.
        let dated = view.beat.echo.clock;
        let before = dated.after(self.config.lease().dead.since(self.config.margin));
        let answered = self.unvoted_since.is_some_and(|since| dated >= since);
        if !answered || now >= before {
            return None;
        }
        self.claim_role(Cause::Vote, before, now, effects);
        Some(Cause::Vote)
    }

    fn wants_mirror_back(&self, claim: &Claim) -> bool {
        self.config.on_active_restart == OnActiveRestart::Reclaim
            && !claim.able
            && claim.role != Role::Init
            && claim.mirror >= Mirror::Stale
    }

    /// Whether this node, rather than its partner, is to become active while none is. Both ask the same of
    /// the same numbers (decision 36).
    pub(super) fn should_lead(&self, claim: &Claim) -> bool {
        if !self.able() || !claim.able {
            return self.able();
        }
        let mine = (self.forced == Some(true), self.mirror, self.fitness.quality, self.config.preferred);
        let theirs = (claim.forced_active, claim.mirror, claim.quality, claim.preferred);
        (mine, self.config.partner) > (theirs, self.config.node)
    }

    /// Nothing is heard on any path (decisions 33, 36; N-10).
    fn judge_silence(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        let silent = self.silent_for(now);
        let armed = self.armed();
        let patience =
            if armed { self.config.dead() } else { self.config.boot_delay.max(self.config.dead()) };
        if silent < patience {
            return None;
        }
        self.yields = false;
        let incomplete = self.mirror < Mirror::Stale && self.stage == Stage::Follower;
        let refused = incomplete && !self.config.takeover_incomplete && self.last_credit.is_some();
        if let Stage::Recovering(until) = self.stage
            && now >= until
        {
            self.stage = Stage::Follower;
        }
        if !self.able() || refused {
            if !std::mem::replace(&mut self.vetoed, true) {
                effects.push(Effect::Notice(Notice::TakeoverVetoed));
            }
            return None;
        }
        let cause = if self.last_credit.is_some() { Cause::Silence } else { Cause::BootDelay };
        if self.mirror == Mirror::Complete && self.sync_died_first() {
            self.mirror = Mirror::Stale;
        }
        if self.last_credit.is_some() {
            match self.mirror {
                Mirror::Complete => {}
                Mirror::Stale => effects.push(Effect::Notice(Notice::StaleMirror)),
                Mirror::None | Mirror::Partial => effects.push(Effect::Notice(Notice::IncompleteMirror)),
            }
        }
        self.claim_role(cause, Micros::NEVER, now, effects);
        Some(cause)
    }

    /// Whether the partner is known to stop by itself when we no longer hear it.
    fn armed(&self) -> bool {
        let confirmed = |view: &View| {
            view.beat.claim.fenced && self.ready_since.is_some_and(|since| view.beat.echo.clock >= since)
        };
        !self.numb && self.view.as_ref().is_some_and(confirmed)
    }

    /// The partner shows a new incarnation: what it was is gone, what it does now starts at `init`
    /// (decision 33).
    pub(super) fn peer_confirmed(
        &mut self,
        incarnation: Incarnation,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Option<Cause> {
        if self.peer == Some(incarnation) || incarnation == self.incarnation {
            return None;
        }
        let restarted = self.peer.replace(incarnation).is_some();
        let was_active = self.view.take().is_some_and(|view| view.beat.claim.role == Role::Active);
        for path in &mut self.paths {
            path.forget_peer();
        }
        self.partner_ready = false;
        self.peer_leaving = false;
        self.proven = false;
        self.contest = None;
        // Its first heartbeats need our echo: answer at once.
        self.said = None;
        // Whatever was silent, it is somebody new who has the whole time to speak.
        self.last_credit = self.last_credit.map(|_| now);
        if !restarted {
            return None;
        }
        effects.push(Effect::Notice(Notice::PeerRestarted));
        if self.stage != Stage::Follower || !was_active {
            return None;
        }
        match self.config.on_active_restart {
            OnActiveRestart::Purge => {
                self.mirror = Mirror::None;
                self.yields = true;
                effects.push(Effect::DiscardMirror);
                None
            }
            OnActiveRestart::Reclaim if self.able() && self.mirror >= Mirror::Stale && !self.draining => {
                if self.mirror == Mirror::Stale {
                    effects.push(Effect::Notice(Notice::StaleMirror));
                }
                self.claim_role(Cause::PeerRestarted, Micros::NEVER, now, effects);
                Some(Cause::PeerRestarted)
            }
            OnActiveRestart::Reclaim => {
                effects.push(Effect::OfferMirror);
                None
            }
        }
    }

    /// Becomes active, in the reserved term. `before` is when the claim becomes void unless a heartbeat
    /// went out: until one did, no worker forwards.
    pub(super) fn claim_role(
        &mut self,
        cause: Cause,
        before: Micros,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) {
        let Some(term) = self.next_term(effects) else { return };
        // A vote right after the start may be faster than the disk; what a disk cannot write it says itself.
        let starts = cause == Cause::Vote && now.since(self.started) < self.config.boot_delay;
        if self.persisted < term && !starts {
            effects.push(Effect::Notice(Notice::TermNotPersisted));
        }
        let continues = matches!(cause, Cause::Jump | Cause::Lapse);
        self.stage = Stage::Active;
        self.term = term;
        self.seen = self.seen.max(term);
        self.reserve_term(effects);
        self.unvoted_since = Some(now);
        self.ready_since = None;
        self.contest = None;
        self.yields = false;
        self.handover = super::handover::Handover::Idle;
        if continues {
            return;
        }
        self.lease = Micros(0);
        self.fenced = None;
        self.proven = false;
        self.activation = Some(Activation {
            since: now,
            before,
            beat_out: false,
            confirmed: cause == Cause::Grant,
            attracted: false,
        });
        self.activations.rotate_right(1);
        self.activations[0] = Some(now);
        // Nobody had the role before: there was no change to wait after.
        if !matches!(cause, Cause::BootDelay | Cause::Vote) {
            self.hold_until = now.after(self.config.hold_down);
        }
        self.announce_at = now.after(self.config.announce_every);
        if cause != Cause::Grant {
            effects.push(Effect::Install(term));
        }
    }

    fn next_term(&mut self, effects: &mut Vec<Effect>) -> Option<Term> {
        if self.reserve <= self.seen {
            effects.push(Effect::Notice(Notice::TermsExhausted));
            return None;
        }
        Some(self.reserve)
    }

    /// The vote that this node owes, if it votes.
    pub(super) fn wanted_vote(&self) -> Option<Term> {
        let claim = &self.heard_view()?.beat.claim;
        let vacant = claim.role != Role::Active && claim.able;
        (vacant && !self.should_lead(claim)).then_some(claim.reserve)
    }

    /// Notes since when this node has voted for nobody, and since when it could take over.
    pub(super) fn vote_and_ready(&mut self, now: Micros) {
        let follows = self.stage != Stage::Active;
        let votes = follows && self.wanted_vote().is_some();
        self.unvoted_since = if votes { None } else { self.unvoted_since.or(Some(now)) };
        let ready = self.stage == Stage::Follower
            && self.fitness.forwarding == Forwarding::Able
            && self.able()
            && (self.mirror >= Mirror::Stale || self.config.takeover_incomplete);
        self.ready_since = if ready { self.ready_since.or(Some(now)) } else { None };
    }
}
