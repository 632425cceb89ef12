//! Since when the partner may not know what this node does as the active one (decisions 34 and 35).
//!
//! A split begins when the nodes stop to hear each other, and that is before either of them can know: the
//! node that was active goes on, for up to a dead time, as if nothing had happened. So the time *since* when
//! sessions count as unknown to the partner is that of the last own heartbeat that it answered. Traffic is
//! looked at more closely from the moment on in which the partner may have given this node up, which is
//! before it can have users of its own.
//!
//! A split is over when the nodes hear each other and one of them has given in, but what it was for only
//! when both have the same sessions again: a second one that begins before then continues it.

use crate::ids::Micros;
use crate::membership::{Mirror, Role, State};

/// A time in which this node is or was active without its partner, or beside one that was active too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// What this node did since then the partner may not know.
    pub since: Micros,
    /// From here on it matters from which end a session's packets come.
    pub noticed: Micros,
    /// Whether it goes on.
    pub lasts: bool,
}

/// Watches for splits.
#[derive(Default)]
pub(super) struct Watch {
    last: Option<Split>,
    /// Both nodes have had the same sessions since.
    settled: bool,
}

impl Watch {
    /// Looks at the state. Returns a split that begins or ends.
    pub fn look(&mut self, state: &State, proven: bool, now: Micros) -> Option<Split> {
        let apart = state.may_be_apart(now);
        if apart != self.last.is_some_and(|split| split.lasts) {
            return if apart { self.begin(state.certain_until(), now) } else { self.end() };
        }
        if !apart && !self.settled {
            self.settled = match state.role() {
                Role::Active => proven && state.partner().is_some_and(|it| it.mirror == Mirror::Complete),
                _ => state.mirror() == Mirror::Complete,
            };
        }
        None
    }

    /// This node has just given in to another active one. If both heard each other all the time, nobody
    /// knows since when there were two.
    pub fn gave_in(&mut self, state: &State, now: Micros) -> Option<Split> {
        if self.last.is_some_and(|split| split.lasts) {
            return None;
        }
        self.begin(state.active_since(), now)
    }

    fn begin(&mut self, since: Micros, now: Micros) -> Option<Split> {
        let unsettled = self.last.filter(|_| !self.settled);
        let since = unsettled.map_or(since, |split| split.since.min(since));
        self.settled = false;
        self.last = Some(Split { since, noticed: now, lasts: true });
        self.last
    }

    fn end(&mut self) -> Option<Split> {
        self.last = self.last.map(|split| Split { lasts: false, ..split });
        self.last
    }
}
