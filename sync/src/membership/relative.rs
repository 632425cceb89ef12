//! States made comparable: two that differ only in when they came about behave alike.
//!
//! For the model check, which would otherwise never meet a state twice.

use super::event::Effect;
use super::state::{Stage, State};
use super::{Phase, Role};
use crate::ids::Micros;

/// What times and numbers are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The node's clock.
    pub now: Micros,
    /// The number of its last heartbeat.
    pub number: u64,
}

/// Where "now" lies in a relative state.
const BASE: u64 = 1 << 40;

impl Origin {
    /// A time counted from the origin. Beyond `horizon`, how far does not matter any more.
    pub(crate) fn time(self, at: &mut Micros, horizon: Micros) {
        if *at == Micros::NEVER || *at == Micros(0) {
            return;
        }
        let behind = self.now.since(*at).0.min(horizon.0);
        let ahead = at.since(self.now).0.min(horizon.0);
        *at = Micros(BASE + ahead - behind);
    }

    /// A number counted from the origin; 0 stays "none yet".
    pub(crate) fn number(self, number: &mut u64, horizon: u64) {
        if *number > 0 {
            *number = BASE - self.number.saturating_sub(*number).min(horizon);
        }
    }
}

impl State {
    /// The number of the last heartbeat.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// This state as seen from its own and its partner's origin, without what only paces announcements.
    #[doc(hidden)]
    #[must_use]
    pub fn relative(&self, own: Origin, peer: Origin, horizon: Micros) -> Self {
        let mut state = self.clone();
        let ours = |at: &mut Micros| own.time(at, horizon);
        let theirs = |at: &mut Micros| peer.time(at, horizon);
        for path in &mut state.paths {
            path.map(
                &mut |echo| {
                    peer.time(&mut echo.clock, horizon);
                    peer.number(&mut echo.number, 8);
                },
                &mut |at| own.time(at, horizon),
            );
        }
        if let Some(view) = &mut state.view {
            theirs(&mut view.beat.said.clock);
            peer.number(&mut view.beat.said.number, 8);
            ours(&mut view.beat.echo.clock);
            view.beat.echo.number = view.beat.echo.number.min(1);
            ours(&mut view.at);
            if let Phase::Grant { until, .. } = &mut view.beat.claim.phase {
                ours(until);
            }
        }
        state.announce_at = Micros(0);
        state.sync_alarm_at = Micros(0);
        state.activations = Default::default();
        for at in [&mut state.started, &mut state.last_step, &mut state.resumed, &mut state.sync_ok_at] {
            ours(at);
        }
        for at in [&mut state.lease, &mut state.hold_until, &mut state.next_beat] {
            ours(at);
        }
        let optional = [
            &mut state.last_credit,
            &mut state.ready_since,
            &mut state.unvoted_since,
            &mut state.sync_lost_since,
            &mut state.fenced,
            &mut state.better_since,
            &mut state.restart_until,
        ];
        optional.into_iter().flatten().for_each(ours);
        if let Stage::Recovering(until) = &mut state.stage {
            ours(until);
        }
        if let Some(activation) = &mut state.activation {
            ours(&mut activation.since);
            ours(&mut activation.before);
        }
        if let Some(word) = &mut state.shown {
            ours(&mut word.deadline);
        }
        if let Some(claim) = &mut state.said
            && let Phase::Grant { until, .. } = &mut claim.phase
        {
            theirs(until);
        }
        state.number = 0;
        state.handover.map_times(&mut |at| own.time(at, horizon), &mut |at| peer.time(at, horizon));
        state
    }
}

impl Effect {
    /// Whether the node became active by this, for checkers.
    #[must_use]
    pub fn activates(&self) -> bool {
        matches!(self, Self::Notice(super::Notice::RoleChanged { to: Role::Active, .. }))
    }
}
