//! A shard as the mirror of another node's sessions: they come in as records say, in their final form, and go
//! when the other node says so or all at once. None ends by itself (decision 8).

use super::{Binding, COUNTER_MASK, Class, Entry, Hot, KeyHash, Path, Shard, Slot, TableFull};
use crate::session;
use crate::time::Ticks;
use wire::FlowKey;

/// A session in the state that the other node's record says.
pub(crate) struct Adopted<'a> {
    pub keys: &'a [FlowKey; 2],
    pub hashes: [KeyHash; 2],
    pub version: u64,
    pub binding: Binding,
    pub path: Path,
    pub hot: Hot,
    /// So that the lifetime that is left follows from it.
    pub last_seen: Ticks,
}

impl Shard {
    /// From now on this worker decides over its sessions, and versions carry this term.
    pub(crate) fn serve(&mut self, term: u32) {
        self.config.term = term;
        if !self.serving {
            self.serving_since = Some(self.now);
        }
        self.serving = true;
    }

    /// The last takeover is so long ago that it does not matter any more.
    pub(crate) fn forget_takeover(&mut self) {
        self.serving_since = None;
    }

    /// True while this node decides over its sessions.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving
    }

    /// From now on its sessions are a mirror: none ends by itself, none is announced.
    pub(crate) fn stop_serving(&mut self) {
        self.serving = false;
    }

    /// Stores a session as the other node's record says: at `held`, which has the same two keys, or in a
    /// free slot; then the caller has looked both keys up and found neither.
    pub(crate) fn adopt(
        &mut self,
        held: Option<Slot>,
        new: &Adopted<'_>,
        now: Ticks,
    ) -> Result<Slot, TableFull> {
        let slot = match held {
            Some(slot) => slot,
            None => self.place(new.hashes)?,
        };
        let entry = self.entry(slot).ok_or(TableFull)?;
        let class = Class::of(new.keys[0].proto());
        if held.is_none() {
            self.population.in_use[class as usize] += 1;
        } else if class == Class::Tcp && session::is_half_open(entry.state()) {
            self.handshake_changed(slot, true, false);
        }
        if held.is_some() {
            self.relearned(entry.proto(), entry.state(), 0);
        }
        self.relearned(new.keys[0].proto(), 0, new.hot.state);
        self.counter = self.counter.max(new.version & COUNTER_MASK);
        entry.create(new.keys, new.version, new.binding, new.path, &new.hot, new.last_seen);
        self.timers.clear(slot.0 as usize, now);
        self.set_told(slot, now);
        Ok(slot)
    }

    /// Asks for the lines of the slots that so many new sessions will get.
    #[inline]
    pub(crate) fn prefetch_free(&self, count: usize) {
        let free = self.free.get(self.free_len.saturating_sub(count)..self.free_len).unwrap_or_default();
        free.iter().for_each(|slot| self.prefetch_slot(Slot(*slot)));
    }

    /// Slots that are free.
    pub(crate) fn room(&self) -> usize {
        self.free_len
    }

    /// The next session to be created does not get the slot that was given back last, if there is
    /// another one.
    pub(crate) fn rest_last_slot(&mut self) {
        if let Some(([.., before, last], _)) = self.free.split_at_mut_checked(self.free_len) {
            std::mem::swap(before, last);
        }
    }

    /// Drops sessions that `gone` names, looking at `slots` slots at most. True when the walk has come to
    /// the last slot; the next call begins anew then.
    pub(crate) fn sweep(&mut self, slots: u32, mut gone: impl FnMut(&Entry) -> bool, now: Ticks) -> bool {
        let end = self.sweep_from.saturating_add(slots).min(self.slots());
        for slot in self.sweep_from..end {
            if let Some(entry) = self.entry(Slot(slot))
                && entry.in_use()
                && gone(entry)
            {
                self.release(Slot(slot), now);
            }
        }
        let is_done = end == self.slots();
        self.sweep_from = if is_done { 0 } else { end };
        is_done
    }
}
