//! The state of the decision maker, and what every event does before anything is decided.

use super::config::Config;
use super::contest::Standing;
use super::event::{Cause, Command, Effect, Event, Fitness, Forwarding, Loss, Notice, Presence};
use super::handover::Handover;
use super::{Mirror, Role};
use crate::heartbeat::{Beat, Claim, Difference, Echo, Path};
use crate::ids::{Incarnation, Micros, PathId, Term};
use crate::lease::RoleWord;
use std::sync::Arc;

/// Activations that the flap limit looks back on.
pub(super) const ACTIVATIONS: usize = 8;

/// What the rules are, as opposed to the role, which follows from this and the node's fitness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// Listening after the start.
    Init,
    /// Not active.
    Follower,
    /// Waiting for the mirror of a former life, at most until then.
    Recovering(Micros),
    /// Active.
    Active,
}

/// The partner as its last heartbeat that counted showed it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct View {
    pub(super) beat: Beat,
    pub(super) differs: Option<Difference>,
    pub(super) at: Micros,
}

/// An activation that the workers and the network do not know of yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Activation {
    pub(super) since: Micros,
    /// The first heartbeat must have gone out by then, else the claim is void.
    pub(super) before: Micros,
    pub(super) beat_out: bool,
    pub(super) confirmed: bool,
    pub(super) attracted: bool,
}

/// The state of one node's decision maker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub(super) config: Arc<Config>,
    pub(super) incarnation: Incarnation,
    pub(super) stage: Stage,
    pub(super) started: Micros,
    pub(super) last_step: Micros,

    pub(super) term: Term,
    pub(super) seen: Term,
    pub(super) reserve: Term,
    pub(super) persisted: Term,

    pub(super) peer: Option<Incarnation>,
    pub(super) view: Option<View>,
    pub(super) paths: Vec<Path>,
    pub(super) last_credit: Option<Micros>,
    pub(super) peer_gone: bool,
    /// This node is about to stop.
    pub(super) leaving: bool,
    /// The partner said that it would stop.
    pub(super) peer_leaving: bool,
    /// Until when a partner that stopped on purpose is taken to restart.
    pub(super) restart_until: Option<Micros>,
    /// The difference that the operator knows of.
    pub(super) told_difference: Option<Difference>,
    /// The partner may take over when this node falls silent, as far as this node knows.
    pub(super) partner_ready: bool,

    /// Since when this node has been ready to take over; before, nobody can have armed it.
    pub(super) ready_since: Option<Micros>,
    /// Since when this node has voted for nobody.
    pub(super) unvoted_since: Option<Micros>,
    pub(super) draining: bool,
    pub(super) resumed: Micros,
    /// Was away for so long that the partner may have stopped to count on this node.
    pub(super) numb: bool,

    pub(super) fitness: Fitness,
    pub(super) mirror: Mirror,
    pub(super) proven: bool,
    pub(super) sync_lost_since: Option<Micros>,
    pub(super) sync_alarm_at: Micros,
    /// When sync last had a path, or the partner was not heard at all.
    pub(super) sync_ok_at: Micros,
    pub(super) forced: Option<bool>,
    /// In purge mode: lets the restarted partner have the role.
    pub(super) yields: bool,
    pub(super) vetoed: bool,

    pub(super) lease: Micros,
    /// When the lease ran out; until the partner's state is known nothing renews it.
    pub(super) fenced: Option<Micros>,
    pub(super) activation: Option<Activation>,
    pub(super) contest: Option<Standing>,
    pub(super) handover: Handover,
    pub(super) better_since: Option<Micros>,
    pub(super) activations: [Option<Micros>; ACTIVATIONS],
    pub(super) hold_until: Micros,
    pub(super) announce_at: Micros,

    pub(super) number: u64,
    pub(super) next_beat: Micros,
    pub(super) said: Option<Claim>,
    pub(super) shown: Option<RoleWord>,
}

impl State {
    /// A new incarnation. `persisted` is the term that stable storage holds, [`Term::ZERO`] if none.
    #[must_use]
    pub fn new(config: Arc<Config>, incarnation: Incarnation, persisted: Term, now: Micros) -> Self {
        let paths = config.paths.iter().map(|&carries_sync| Path::new(carries_sync)).collect();
        Self {
            incarnation,
            stage: Stage::Init,
            started: now,
            last_step: now,
            term: Term::ZERO,
            seen: persisted,
            reserve: Term::ZERO,
            persisted,
            peer: None,
            view: None,
            paths,
            last_credit: None,
            peer_gone: true,
            leaving: false,
            peer_leaving: false,
            restart_until: None,
            told_difference: None,
            partner_ready: false,
            ready_since: None,
            unvoted_since: Some(now),
            draining: false,
            resumed: now,
            numb: false,
            fitness: Fitness { forwarding: Forwarding::Able, config_valid: true, quality: 100, activity: 0 },
            mirror: Mirror::None,
            proven: false,
            sync_lost_since: None,
            sync_alarm_at: Micros(0),
            sync_ok_at: now,
            forced: None,
            yields: false,
            vetoed: false,
            lease: Micros(0),
            fenced: None,
            activation: None,
            contest: None,
            handover: Handover::Idle,
            better_since: None,
            activations: [None; ACTIVATIONS],
            hold_until: Micros(0),
            announce_at: Micros(0),
            number: 0,
            next_beat: now,
            said: None,
            shown: None,
            config,
        }
    }

    /// The role, as operators see it.
    #[must_use]
    pub fn role(&self) -> Role {
        match (self.stage, self.fitness.forwarding) {
            (Stage::Active, _) => Role::Active,
            (_, Forwarding::Isolated) => Role::Isolated,
            (_, Forwarding::Fault) => Role::Fault,
            (Stage::Init, _) => Role::Init,
            (Stage::Recovering(_), _) => Role::Recovering,
            (Stage::Follower, _) if self.mirror >= Mirror::Stale => Role::Standby,
            (Stage::Follower, _) => Role::Syncing,
        }
    }

    /// Whether the configuration prefers this node: never the same question as its role.
    #[must_use]
    pub fn preferred(&self) -> bool {
        self.config.preferred
    }

    /// The term of the active node that this one is or follows.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What the workers are to see.
    #[must_use]
    pub fn role_word(&self) -> RoleWord {
        let closed = self.stage != Stage::Active || self.handover.stopped();
        let deadline = if closed { Micros(0) } else { self.lease };
        RoleWord { role: self.role(), term: self.term, deadline }
    }

    /// Whether workers that read the word now may forward.
    #[must_use]
    pub fn forwards(&self, now: Micros) -> bool {
        self.shown.is_some_and(|word| word.forwards(now))
    }

    /// Since when no path has carried session sync although the partner lives.
    #[must_use]
    pub fn stale_since(&self) -> Option<Micros> {
        self.sync_lost_since
    }

    /// Of how long a time nobody told, if this node took over now with the mirror that it has: the partner
    /// spoke on without sync (decision 36).
    #[must_use]
    pub fn mirror_age(&self, now: Micros) -> Micros {
        let synced = self.paths.iter().filter(|path| path.carries_sync).filter_map(Path::credit_at).max();
        let lost = synced.filter(|_| self.sync_died_first()).or(self.sync_lost_since);
        lost.map_or(Micros(0), |at| now.since(at))
    }

    /// Whether this node is active and knows of another one that is.
    #[must_use]
    pub fn contested(&self) -> bool {
        self.contest.is_some()
    }

    /// Whether this node is active and may not be the only one: it knows of another one, does not hear the
    /// partner, or was not answered for so long that the partner may have given it up.
    pub(crate) fn may_be_apart(&self, now: Micros) -> bool {
        let unsure = || self.heard_view().is_none() || now >= self.answer_limit();
        self.stage == Stage::Active && (self.contested() || unsure())
    }

    /// What this node did as the active one before then, the partner was told: until the last heartbeat that
    /// it answered, less the time that sessions take to get there.
    pub(crate) fn certain_until(&self) -> Micros {
        let answered = self.view.as_ref().map_or(Micros(0), |view| view.beat.echo.clock);
        answered.since(self.config.margin).max(self.active_since())
    }

    /// When the role came last. What is from before is the mirror of what the partner did.
    pub(crate) fn active_since(&self) -> Micros {
        self.activations[0].unwrap_or(self.started)
    }

    /// The state of the mirror.
    #[must_use]
    pub fn mirror(&self) -> Mirror {
        self.mirror
    }

    /// The paths, for display.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// What heartbeats say of this node.
    #[must_use]
    pub fn own_claim(&self) -> Claim {
        self.claim()
    }

    /// What the partner claimed last, while it is heard.
    #[must_use]
    pub fn partner(&self) -> Option<&Claim> {
        self.heard_view().map(|view| &view.beat.claim)
    }

    /// Whether the partner is there.
    #[must_use]
    pub fn presence(&self) -> Presence {
        match (self.peer_alive(), self.peer_leaving) {
            (_, true) => Presence::Restarting,
            (true, false) => Presence::Here,
            (false, false) => Presence::Absent,
        }
    }

    /// The next heartbeat goes out at once: there is something new to say beside the claim.
    pub fn hurry(&mut self) {
        self.said = None;
    }

    /// The heartbeat for a path, as of now. `None` for a path that is not configured.
    #[must_use]
    pub fn beat(&self, path: PathId, now: Micros) -> Option<Beat> {
        let echo = self.paths.get(usize::from(path.0))?.echo();
        let said = Echo { incarnation: self.incarnation, number: self.number, clock: now };
        Some(Beat { said, echo, claim: self.claim() })
    }

    /// When the machine wants to be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        // Often enough that turning in time is never taken for an absence.
        let mut next = self.next_beat.min(self.last_step.after(Micros(self.config.interval.0 / 2)));
        let mut consider = |at: Micros| next = next.min(at);
        for path in self.paths.iter().filter(|path| path.alive()) {
            if let Some(at) = path.credit_at() {
                consider(at.after(self.config.dead()));
            }
        }
        if self.stage == Stage::Active && self.fenced.is_none() && self.lease > self.last_step {
            consider(self.lease);
        }
        let answer_limit = self.answer_limit();
        if self.stage == Stage::Active && answer_limit > self.last_step {
            consider(answer_limit);
        }
        if let Some(at) = self.handover.deadline(&self.config) {
            consider(at);
        }
        if let Some(activation) = self.activation.filter(|activation| !activation.attracted) {
            consider(activation.since.after(self.config.confirm_limit));
        }
        next
    }

    pub(crate) fn advance(&mut self, event: Event, now: Micros) -> Vec<Effect> {
        let now = now.max(self.last_step);
        let mut effects = Vec::new();
        let role = self.role();
        self.note_absence(now, &mut effects);
        // Only before a tick has all that arrived been handed in: nothing else may find a silence.
        let ticks = event == Event::Tick;
        let cause = self.take(event, now, &mut effects);
        let cause = self.settle(ticks, now, &mut effects).or(cause).unwrap_or(Cause::Followed);
        if self.role() != role {
            let to = self.role();
            effects.push(Effect::Notice(Notice::RoleChanged { from: role, to, cause }));
        }
        self.speak(now, &mut effects);
        effects
    }

    /// Whoever was away for longer than an interval has not looked at what arrived meanwhile, and judges
    /// nobody before it did (decision 11, X-10).
    fn note_absence(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let away = now.since(self.last_step);
        self.last_step = now;
        if away > self.config.interval {
            self.draining = true;
            self.resumed = now;
            self.numb |= away.0 >= self.config.forget.0 / 2;
            effects.push(Effect::Notice(Notice::OwnStall(away)));
            effects.push(Effect::DrainQueues);
        }
    }

    fn take(&mut self, event: Event, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        match event {
            Event::Tick => {}
            Event::Heard { path, beat, differs } => self.heard(path, beat, differs, now, effects),
            Event::PeerConfirmed(incarnation) => return self.peer_confirmed(incarnation, now, effects),
            Event::BeatsSent => return self.beats_sent(now, effects),
            Event::Drained => {
                if self.draining {
                    self.draining = false;
                    self.resumed = now;
                }
            }
            Event::PathLink { path, up } => {
                if let Some(path) = self.paths.get_mut(usize::from(path.0)) {
                    path.link_up = up;
                }
            }
            Event::Fitness(fitness) => {
                self.fitness = Fitness { quality: fitness.quality.min(100), ..fitness };
            }
            Event::Mirror(mirror) => {
                let stale = self.sync_lost_since.is_some() && mirror == Mirror::Complete;
                self.mirror = if stale { Mirror::Stale } else { mirror };
            }
            Event::Proven(proven) => self.proven = proven,
            Event::Persisted(term) => self.persisted = self.persisted.max(term),
            Event::Installed(term) => return self.installed(term, now, effects),
            Event::TargetPrepared => self.target_prepared(now),
            Event::Parked => self.parked(now, effects),
            Event::Flushed => self.flushed(now),
            Event::Command(Command::Switchover) => self.switchover(now, effects),
            Event::Command(Command::ForceActive) => self.forced = Some(true),
            Event::Command(Command::ForceStandby) => self.forced = Some(false),
            Event::Command(Command::Unforce) => self.forced = None,
            Event::Command(Command::Leave) => self.leaving = true,
        }
        None
    }

    fn heard(
        &mut self,
        path: PathId,
        beat: Beat,
        differs: Option<Difference>,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) {
        if self.peer != Some(beat.said.incarnation) {
            return;
        }
        let age = beat.echo_age(self.incarnation, now);
        let dead = self.config.dead();
        let Some(path) = self.paths.get_mut(usize::from(path.0)) else { return };
        // The first one on a path is answered at once: the partner needs its echo. Only the first, or two
        // paths that work one way only would have the nodes answer each other for ever.
        if path.echo().incarnation != beat.said.incarnation {
            self.said = None;
        }
        if !path.heard(beat.said, age, dead, now) {
            return;
        }
        self.last_credit = Some(now);
        self.numb = false;
        if let Some(view) = self.view.as_mut().filter(|view| beat.said.number <= view.beat.said.number) {
            if beat.said.number == view.beat.said.number && beat.echo.clock > view.beat.echo.clock {
                // The same words on another path: what the partner had heard from us there counts as well.
                view.beat.echo = beat.echo;
            }
            return;
        }
        if differs != std::mem::replace(&mut self.told_difference, differs) {
            effects.push(Effect::Notice(differs.map_or(Notice::Agrees, Notice::Differs)));
        }
        let claim = beat.claim;
        if claim.leaving && !self.peer_leaving {
            effects.push(Effect::Notice(Notice::PeerLeaving));
        }
        self.peer_leaving = claim.leaving;
        if claim.may_take_over && !self.partner_ready {
            // It may take over once it knows that we know: it need not wait for the next heartbeat.
            self.said = None;
        }
        self.partner_ready = claim.may_take_over;
        self.seen = self.seen.max(claim.seen);
        if claim.role == Role::Active {
            self.seen = self.seen.max(claim.term);
        }
        self.view = Some(View { beat, differs, at: now });
    }

    /// Runs what follows from the state at `now`, once.
    fn settle(&mut self, ticks: bool, now: Micros, effects: &mut Vec<Effect>) -> Option<Cause> {
        self.reserve_term(effects);
        self.watch_paths(ticks, now, effects);
        self.watch_lease(now, effects);
        if self.draining {
            return None;
        }
        self.watch_peer(now, effects);
        self.watch_sync(now, effects);
        let cause = match self.stage {
            Stage::Active => self.lead(now, effects),
            Stage::Init | Stage::Follower | Stage::Recovering(_) => self.follow(ticks, now, effects),
        };
        let cause = self.drive_handover(now, effects).or(cause);
        self.vote_and_ready(now);
        cause
    }

    fn watch_paths(&mut self, ticks: bool, now: Micros, effects: &mut Vec<Effect>) {
        let dead = self.config.dead();
        if self.draining {
            return;
        }
        for (index, path) in self.paths.iter_mut().enumerate() {
            let id = PathId(index as u8);
            if !ticks && path.alive() {
                continue;
            }
            match path.judge(dead, now) {
                Some(true) => effects.push(Effect::Notice(Notice::PathUp(id))),
                Some(false) => effects.push(Effect::Notice(Notice::PathDown(id))),
                None => {}
            }
        }
    }

    fn watch_peer(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let gone = !self.peer_alive();
        if gone != self.peer_gone && (!gone || self.silent_for(now) >= self.config.dead()) {
            self.peer_gone = gone;
            self.restart_until = (gone && self.peer_leaving).then(|| now.after(self.config.restart_limit));
            let notice = if gone { Notice::PeerGone(self.loss()) } else { Notice::PeerBack };
            effects.push(Effect::Notice(notice));
        }
        if self.restart_until.is_some_and(|until| now >= until) {
            self.restart_until = None;
            self.peer_leaving = false;
            effects.push(Effect::Notice(Notice::PeerAbsent));
        }
        if self.silent_for(now) >= self.config.forget {
            self.partner_ready = false;
        }
    }

    /// The sync link is down while the partner lives: no reason to change roles (N-07 to N-11).
    fn watch_sync(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let carried = self.paths.iter().any(|path| path.carries_sync && path.alive());
        if carried || !self.peer_alive() {
            self.sync_ok_at = now;
        }
        if carried {
            if self.sync_lost_since.take().is_some() {
                effects.push(Effect::Notice(Notice::SyncBack));
            }
        } else if self.sync_lost_since.is_none() && self.sync_behind() {
            self.sync_lost_since = Some(now);
            self.sync_alarm_at = now;
            self.proven = false;
            if self.mirror == Mirror::Complete {
                self.mirror = Mirror::Stale;
            }
        }
        if self.sync_lost_since.is_some() && self.peer_alive() && now >= self.sync_alarm_at {
            self.sync_alarm_at = now.after(self.config.alarm_every);
            effects.push(Effect::Notice(Notice::SyncLost(self.loss())));
        }
    }

    fn loss(&self) -> Loss {
        if self.peer_leaving { Loss::Maintenance } else { Loss::Failure }
    }

    /// Whether the partner spoke elsewhere after sync had lost its last path. One that dies falls silent on
    /// all paths within an interval.
    fn sync_behind(&self) -> bool {
        self.last_credit.is_some_and(|at| at.since(self.sync_ok_at) >= self.config.interval)
    }

    /// Whether the sync paths fell silent before the partner did: what it changed in between is unknown.
    pub(super) fn sync_died_first(&self) -> bool {
        let synced = self.paths.iter().filter(|path| path.carries_sync).filter_map(Path::credit_at).max();
        self.last_credit.is_some_and(|at| at.since(synced.unwrap_or(self.started)) > self.config.interval)
    }

    /// Keeps one term reserved above all that are known, and written down in advance (decision 18).
    pub(super) fn reserve_term(&mut self, effects: &mut Vec<Effect>) {
        if self.reserve > self.seen {
            return;
        }
        if let Some(next) = self.seen.next_for(self.config.node) {
            self.reserve = next;
            effects.push(Effect::Persist(next));
        }
    }

    pub(super) fn peer_alive(&self) -> bool {
        self.paths.iter().any(Path::alive)
    }

    /// How long the partner has been silent, not counting an own absence.
    pub(super) fn silent_for(&self, now: Micros) -> Micros {
        now.since(self.last_credit.unwrap_or(self.started).max(self.resumed))
    }

    pub(super) fn heard_view(&self) -> Option<&View> {
        self.view.as_ref().filter(|_| self.peer_alive())
    }

    /// Whether this node may be active at all.
    pub(super) fn able(&self) -> bool {
        self.fitness.forwarding == Forwarding::Able
            && self.fitness.config_valid
            && self.forced != Some(false)
            && !self.yields
            // An active node stays what it is until it has handed over.
            && (!self.leaving || self.stage == Stage::Active)
            && !matches!(self.stage, Stage::Recovering(_))
    }

    /// What this node claims to be.
    pub(super) fn claim(&self) -> Claim {
        let follows = self.stage != Stage::Active;
        let quality = self.contest.map_or(self.fitness.quality, |standing| standing.quality);
        let fenced = if follows { self.partner_ready } else { self.lease != Micros::NEVER };
        Claim {
            role: self.role(),
            term: self.term,
            seen: self.seen,
            reserve: self.reserve,
            vote: if self.unvoted_since.is_some() || !follows { None } else { self.wanted_vote() },
            able: self.able(),
            may_take_over: self.ready_since.is_some(),
            fenced,
            preferred: self.config.preferred,
            forced_active: self.forced == Some(true),
            leaving: self.leaving,
            mirror: if follows { self.mirror } else { Mirror::None },
            quality,
            phase: self.handover.phase(),
            contest: self.contest,
        }
    }

    /// Sends heartbeats when they are due or when there is news, and shows the workers their word.
    fn speak(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let word = self.role_word();
        if self.shown != Some(word) {
            self.shown = Some(word);
            effects.push(Effect::Role(word));
        }
        let claim = self.claim();
        if now >= self.next_beat || self.said != Some(claim) {
            self.said = Some(claim);
            self.number += 1;
            self.next_beat = now.after(self.handover.beat_interval(&self.config));
            effects.push(Effect::SendBeats);
        }
        if self.stage == Stage::Active && self.fenced.is_none() && now >= self.announce_at {
            self.announce_at = now.after(self.config.announce_every);
            if self.activation.is_none() {
                effects.push(Effect::Announce);
            }
        }
    }
}
