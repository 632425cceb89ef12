//! What a node remembers of the time without its partner: which sessions had traffic since, and from which
//! end (decisions 34 and 35), and which sessions of a stale mirror may not be believed (decision 36).
//!
//! Nothing walks the table for this. A session's two marks are in its flags and mean something only if its
//! last packet is younger than the split; the first packet of a later split wipes them. While no split and
//! no stale takeover is on, a packet pays for one branch.

use super::engine::{Context, Engine};
use crate::counters::Refusal;
use crate::session;
use crate::table::{Entry, Path, SessionView, Slot, flags};
use crate::time::Ticks;
use crate::track::{Dir, Timeouts};
use wire::{PacketBuf, Proto};

/// The two marks: packets from the initiator and from the responder.
const MARKS: [u8; 2] = [flags::FROM_INITIATOR, flags::FROM_RESPONDER];

/// Splits and stale takeovers, as one engine sees them.
#[derive(Default)]
pub(super) struct Apart {
    /// Packets are to be looked at more closely.
    pub on: bool,
    marking: bool,
    /// When it was noticed last that the nodes had lost each other.
    since: Option<Ticks>,
    /// Sessions with traffic from both ends since.
    two_way: u32,
    /// How old the mirror was that this node took over with; 0 for one that was kept up to date.
    stale_ms: u32,
}

/// What becomes of a session that nobody was told about for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stale {
    Use,
    /// It outlived its timeout.
    Drop,
    /// After the inside host has spoken.
    Confirm,
}

impl Apart {
    fn settle(&mut self) {
        self.on = self.marking || self.stale_ms > 0;
    }

    /// This node took over with what it had.
    pub fn took_over_fresh(&mut self) {
        self.stale_ms = 0;
        self.settle();
    }

    /// Flags of a session that is opened now, by its initiator.
    pub fn born(&self) -> u8 {
        if self.marking { flags::FROM_INITIATOR } else { 0 }
    }

    /// Both ends of the session have sent since the split.
    pub fn is_two_way(&self, entry: &Entry) -> bool {
        let both = flags::SINCE_SPLIT;
        self.since.is_some_and(|since| entry.last_seen().reached(since)) && entry.path().flags & both == both
    }

    /// How to treat a session of which no packet was seen since the takeover (decision 36).
    fn judge(&self, entry: &Entry, took_over: Option<Ticks>, timeouts: &Timeouts) -> Stale {
        let untouched = took_over.is_some_and(|then| !entry.last_seen().reached(then));
        if self.stale_ms == 0 || !untouched {
            Stale::Use
        } else if entry.proto() == Proto::TCP {
            Stale::Confirm
        } else if self.stale_ms >= session::timeout_ms(entry.proto(), entry.state(), timeouts) {
            Stale::Drop
        } else {
            Stale::Use
        }
    }

    /// At expiry: a session that did not outlive the time in which nobody told of it.
    pub fn outlived(&self, entry: &Entry, took_over: Option<Ticks>, timeouts: &Timeouts) -> bool {
        self.judge(entry, took_over, timeouts) == Stale::Drop
    }

    /// Once a turn: times that are about to wrap.
    pub fn keep_in_span(&mut self, now: Ticks, took_over: Option<Ticks>) {
        if took_over.is_none() && self.stale_ms > 0 {
            self.stale_ms = 0;
            self.settle();
        }
        if self.since.is_some_and(|since| now.since(since) >= Ticks::MAX_SPAN_MS) {
            self.since = Some(Ticks(now.0.wrapping_sub(Ticks::MAX_SPAN_MS / 2)));
        }
    }
}

impl<B: PacketBuf> Engine<B> {
    /// This node takes over with a mirror of which nobody told for `stale_ms`; 0 is an ordinary takeover.
    pub fn activate_stale(&mut self, term: u32, stale_ms: u32, now: Ticks) {
        let takes_over = !self.shard.is_serving();
        self.activate(term, now);
        if takes_over {
            self.apart.stale_ms = stale_ms;
            self.apart.settle();
        }
    }

    /// Since when it is known that this node is active without its partner, or with one that is active as
    /// well. Sessions' traffic is noted while it is so; what was noted is kept until the next split begins.
    pub fn set_apart(&mut self, since: Option<Ticks>) {
        if since.is_some() && since != self.apart.since {
            self.apart.since = since;
            self.apart.two_way = 0;
        }
        self.apart.marking = since.is_some();
        self.apart.settle();
    }

    /// How many sessions have had traffic from both ends since the split (decision 34).
    pub fn activity(&self) -> u32 {
        self.apart.two_way
    }

    /// Before a packet of a session is tracked: when the last one was seen, or `None` if this one must not
    /// pass.
    #[cold]
    #[inline(never)]
    pub(super) fn look_closer(
        &mut self,
        cx: &Context<'_>,
        (slot, dir): (Slot, Dir),
        entry: &Entry,
    ) -> Option<Ticks> {
        let refusal = match self.apart.judge(entry, self.took_over, &cx.snapshot.timeouts) {
            Stale::Confirm if dir == Dir::Responder => Refusal::StaleUnconfirmed,
            Stale::Drop => {
                if !self.doomed.contains(&slot) && !self.doomed.is_full() {
                    self.doomed.push(slot);
                }
                Refusal::StaleSession
            }
            Stale::Use | Stale::Confirm => return Some(entry.last_seen()),
        };
        self.counters.dropped(refusal.into());
        None
    }

    /// The packet passed: notes where it came from.
    #[cold]
    #[inline(never)]
    pub(super) fn passed(&mut self, cx: &Context<'_>, dir: Dir, entry: &Entry, before: Ticks) {
        if self.apart.judge(entry, self.took_over, &cx.snapshot.timeouts) == Stale::Confirm {
            // It passed without teaching anything, but the inside host has spoken.
            entry.store_hot(&entry.hot(), cx.now);
        }
        let Some(since) = self.apart.since.filter(|_| self.apart.marking) else { return };
        let path = entry.path();
        let both = flags::SINCE_SPLIT;
        let known = if before.reached(since) { path.flags } else { path.flags & !both };
        let marked = known | MARKS[dir.index()];
        if marked != path.flags {
            entry.update(|e| e.path(Path { flags: marked, ..path }));
        }
        if known & both != both && marked & both == both {
            self.apart.two_way = self.apart.two_way.saturating_add(1);
        }
    }
}

impl SessionView {
    /// Whether packets of the session were seen since the nodes lost each other; true inside if it is known
    /// that they came from both ends, which was marked since they noticed.
    pub fn since_split(&self, since: Ticks, noticed: Ticks) -> Option<bool> {
        let both = flags::SINCE_SPLIT;
        let two_way = self.last_seen.reached(noticed) && self.path.flags & both == both;
        self.last_seen.reached(since).then_some(two_way)
    }
}
