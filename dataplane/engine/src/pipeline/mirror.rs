//! The pair's part of an engine: the role, the other node's sessions coming in, and what a change of role
//! means for the table.

use super::Notice;
use super::engine::Engine;
use super::open::way_to;
use crate::counters::Event;
use crate::ids::{PortId, RuleId, ZoneId};
use crate::mirror::{Import, ImportRefused, Imported, Removal};
use crate::neighbour::NextHop;
use crate::policy::Action;
use crate::role::RoleView;
use crate::routes::RouteHit;
use crate::session;
use crate::snapshot::Snapshot;
use crate::table::{Adopted, Binding, Entry, Hot, KeyHash, Path, Slot, flags};
use crate::time::Ticks;
use crate::track::Dir;
use wire::{Addr, FlowKey, PacketBuf};

/// A node that stopped being active keeps sessions that nobody mirrors for so long: the role may come back.
const LOCAL_GRACE_MS: u32 = 10_000;
/// Slots looked at in one turn for sessions to drop.
const SWEPT_PER_TURN: u32 = 256;
/// A neighbour is asked for once in so long, however many records want it.
const WANTED_EVERY_MS: u32 = 500;

/// The neighbours that imports have asked for last, so that a bulk of records does not fill the ring to the
/// control thread with one question.
#[derive(Default)]
pub(super) struct RecentlyWanted {
    last: [Option<(PortId, Addr, Ticks)>; 16],
    next: usize,
}

impl RecentlyWanted {
    /// True if it was not asked for lately.
    pub(super) fn is_news(&mut self, port: PortId, addr: Addr, now: Ticks) -> bool {
        let known = |(p, a, then): &(PortId, Addr, Ticks)| {
            *p == port && *a == addr && now.since(*then) < WANTED_EVERY_MS
        };
        if self.last.iter().flatten().any(known) {
            return false;
        }
        if let Some(place) = self.last.get_mut(self.next) {
            *place = Some((port, addr, now));
        }
        self.next = (self.next + 1) % self.last.len();
        true
    }
}

/// What records that are stored one after another mostly have in common, so that it is looked up once: for
/// one snapshot, and until something differs.
#[derive(Default)]
pub struct Alike {
    zones: Option<[ZoneId; 2]>,
    rule: Option<(RuleId, Option<Allowed>)>,
    /// By the direction of the packets.
    next_hops: [Option<(RouteHit, NextHop)>; 2],
}

/// A rule that admits.
#[derive(Clone, Copy)]
struct Allowed {
    is_logged: bool,
}

impl Alike {
    fn has_zones(&mut self, snapshot: &Snapshot, zones: [ZoneId; 2]) -> bool {
        if self.zones == Some(zones) {
            return true;
        }
        let has_zone = |zone: &ZoneId| snapshot.ports.iter().any(|port| port.zone == *zone);
        let has_both = zones.iter().all(has_zone);
        if has_both {
            self.zones = Some(zones);
        }
        has_both
    }

    /// The rule, if it admits anything here.
    fn allows(&mut self, snapshot: &Snapshot, id: RuleId) -> Option<Allowed> {
        match self.rule {
            Some((known, rule)) if known == id => rule,
            _ => {
                let rule = snapshot.policy.rule(id).filter(|rule| rule.action == Action::Allow);
                let rule = rule.map(|rule| Allowed { is_logged: rule.log });
                self.rule = Some((id, rule));
                rule
            }
        }
    }

    fn next_hop(&mut self, snapshot: &Snapshot, direction: usize, hit: RouteHit) -> Option<NextHop> {
        let last = self.next_hops.get_mut(direction)?;
        match last {
            Some((known, hop)) if *known == hit => Some(*hop),
            _ => {
                let hop = snapshot.neighbours.find(hit.port, hit.next_hop)?;
                *last = Some((hit, hop));
                Some(hop)
            }
        }
    }
}

impl<B: PacketBuf> Engine<B> {
    /// The end of a turn, bursts and housekeeping: the sync core hears of what changed.
    #[inline]
    pub fn tell_changes(&mut self) {
        self.shard.tell_changes();
    }

    /// The role under which packets are seen.
    pub fn role(&self) -> RoleView {
        self.role
    }

    /// Follows the role word; cheap if nothing changed. From [`RoleView::Standby`] to active is a takeover;
    /// [`RoleView::Closed`] in between or another term is not.
    pub fn set_role(&mut self, role: RoleView, now: Ticks) {
        if role == self.role {
            return;
        }
        match role {
            RoleView::Active { term } => self.activate(term, now),
            RoleView::Standby => self.deactivate(now),
            RoleView::Closed => {
                self.role = role;
                self.drop_pending();
            }
        }
    }

    /// This node is the active one, its versions carry `term`. Coming from standby, what was mirrored is its
    /// own now; no session ends before it has had time to show that it lives (decision 8).
    pub fn activate(&mut self, term: u32, now: Ticks) {
        if !self.shard.is_serving() {
            self.took_over = Some(now);
            self.apart.took_over_fresh();
            self.shard.judge_all();
        }
        self.left = None;
        self.shard.tick(now);
        self.shard.serve(term);
        self.role = RoleView::Active { term };
    }

    /// The other node is the active one: the sessions stay as its mirror, under their versions.
    pub fn deactivate(&mut self, now: Ticks) {
        if self.shard.is_serving() {
            self.left = Some(now);
        }
        self.stop_endings();
        self.shard.stop_serving();
        self.doomed.clear();
        self.role = RoleView::Standby;
        self.drop_pending();
    }

    /// Stores a session as the other node's record says. Between bursts only.
    pub fn import(&mut self, now: Ticks, snapshot: &Snapshot, record: &Imported) -> Import {
        let hashes = self.foresee(&record.keys);
        self.import_foreseen(now, snapshot, record, hashes, &mut Alike::default())
    }

    /// First stage of storing several records: asks for the index lines of a session's keys.
    #[inline]
    pub fn foresee(&self, keys: &[FlowKey; 2]) -> [KeyHash; 2] {
        let hashes = [self.shard.hash(&keys[0]), self.shard.hash(&keys[1])];
        hashes.iter().for_each(|hash| self.shard.prefetch_index(*hash));
        hashes
    }

    /// Second stage: asks for what the index lines lead to.
    #[inline]
    pub fn foresee_entries(&self, hashes: [KeyHash; 2]) {
        for hash in hashes {
            let _ = self.shard.prefetch_entry(hash);
        }
    }

    /// Before either: asks for the places that so many new sessions will get.
    #[inline]
    pub fn foresee_places(&self, count: usize) {
        self.shard.prefetch_free(count);
    }

    /// Third stage: [`Engine::import`] with what [`Engine::foresee`] found of this very record. `alike` is of
    /// this snapshot.
    pub fn import_foreseen(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        record: &Imported,
        hashes: [KeyHash; 2],
        alike: &mut Alike,
    ) -> Import {
        let outcome = self.take_in(now, snapshot, record, hashes, alike);
        self.counters.count(
            match outcome {
                Import::Stored { .. } => Event::Mirrored,
                Import::Held { .. } => Event::MirrorHeld,
                Import::Refused(_) => Event::MirrorRefused,
            },
            1,
        );
        outcome
    }

    fn take_in(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        record: &Imported,
        hashes: [KeyHash; 2],
        alike: &mut Alike,
    ) -> Import {
        if self.shard.is_serving() {
            return Import::Refused(ImportRefused::NotMirroring);
        }
        let Some((windows, state)) = record.packed() else {
            return Import::Refused(ImportRefused::Unsupported);
        };
        if !alike.has_zones(snapshot, record.zones) {
            return Import::Refused(ImportRefused::UnknownZone);
        }
        let keys = &record.keys;
        let found = [0, 1].map(|at| self.shard.find(&keys[at], hashes[at]).map(|(slot, _)| slot));
        let mut older = [found[0], found[1].filter(|slot| found[0] != Some(*slot))];
        for slot in older.into_iter().flatten() {
            let version = self.shard.entry(slot).map_or(0, Entry::version);
            if version >= record.version {
                return Import::Held { slot, version };
            }
        }
        // The same session, or one that must go.
        let held = found[0].filter(|slot| self.shard.entry(*slot).is_some_and(|e| e.keys() == *keys));
        if held.is_some() {
            older[0] = None;
        }
        if held.is_none() && self.shard.room() == 0 && older == [None; 2] {
            return Import::Refused(ImportRefused::Full);
        }
        for slot in older.into_iter().flatten() {
            self.shard.terminate(slot, now);
            // Whoever keeps books by slot is not to take the successor for it.
            self.shard.rest_last_slot();
            self.counters.count(Event::MirrorDisplaced, 1);
        }
        let (binding, path) = self.bind(now, snapshot, record, alike);
        let timeout_ms = session::timeout_ms(keys[0].proto(), state, &snapshot.timeouts);
        let spent_ms = timeout_ms.saturating_sub(record.remaining_ms);
        let adopted = Adopted {
            keys,
            hashes,
            version: record.version,
            binding,
            path,
            hot: Hot::with_traffic(windows, state, record.bytes, record.packets),
            last_seen: Ticks(now.0.wrapping_sub(spent_ms)),
        };
        match self.shard.adopt(held, &adopted, now) {
            Ok(slot) => Import::Stored { slot, displaced: older },
            Err(_) => Import::Refused(ImportRefused::Full),
        }
    }

    /// Rule and next hops, resolved beforehand: nothing is left to do when the node takes over. Without the
    /// rule, or if it does not admit anything here, the session waits for its first packet (decision 27).
    fn bind(
        &mut self,
        now: Ticks,
        snapshot: &Snapshot,
        record: &Imported,
        alike: &mut Alike,
    ) -> (Binding, Path) {
        let binding = Binding { rule: record.rule, generation: record.generation, zones: record.zones };
        let mut path = Path {
            next_hops: [NextHop::NONE; 2],
            group: record.group,
            flags: flags::REPLICATE | flags::SHARED,
        };
        let rule = alike.allows(snapshot, record.rule);
        let [key, reply] = &record.keys;
        // Where the two ends really are, whatever their packets' destinations are before translation.
        let ways = [reply.src(), key.src()].map(|addr| way_to(snapshot, addr));
        let leads_to = |way: usize, zone| ways[way].is_some_and(|(_, port)| port.zone == zone);
        let (Some(rule), true) = (rule, leads_to(0, record.zones[1]) && leads_to(1, record.zones[0])) else {
            path.flags |= flags::INERT;
            self.counters.count(Event::MirrorInert, 1);
            return (binding, path);
        };
        if rule.is_logged {
            path.flags |= flags::LOG;
        }
        for (at, way) in ways.into_iter().enumerate() {
            let Some((hit, _)) = way else { continue };
            match alike.next_hop(snapshot, at, hit) {
                Some(found) => path.next_hops[at] = found,
                None if self.wanted.is_news(hit.port, hit.next_hop, now) => {
                    self.notify(Notice::NeighbourWanted { port: hit.port, addr: hit.next_hop });
                }
                None => {}
            }
        }
        (binding, path)
    }

    /// Drops a mirrored session that ended on the other node: the one that this initiator's key names, if
    /// it has this version or, unless `exact`, an older one. Between bursts only.
    pub fn remove(&mut self, now: Ticks, key: &FlowKey, version: u64, exact: bool) -> Removal {
        let Some((slot, held)) = self.lookup(key) else { return Removal::Absent };
        let goes = if exact { held == version } else { held <= version };
        if self.shard.is_serving() || !goes {
            return Removal::Held { slot, version: held };
        }
        self.shard.terminate(slot, now);
        self.counters.count(Event::MirrorRemoved, 1);
        Removal::Removed(slot)
    }

    /// The session that this initiator's key names, and its version.
    pub fn lookup(&self, key: &FlowKey) -> Option<(Slot, u64)> {
        let (slot, dir) = self.shard.find(key, self.shard.hash(key))?;
        let entry = self.shard.entry(slot).filter(|_| dir == Dir::Initiator)?;
        Some((slot, entry.version()))
    }

    /// Empties the mirror, local sessions included, looking at `max` slots at most. Returns how many
    /// sessions remain; to be called until none does. An active node purges nothing and says 0.
    pub fn purge(&mut self, now: Ticks, max: u32) -> u32 {
        if self.shard.is_serving() {
            return 0;
        }
        let before = self.sessions();
        if before > 0 {
            self.shard.sweep(max, |_| true, now);
        }
        let remaining = self.sessions();
        self.counters.count(Event::Dropped, u64::from(before - remaining));
        remaining
    }

    fn sessions(&self) -> u32 {
        self.shard.population().in_use.iter().sum()
    }

    /// Between bursts on a node that is not active: nothing ages; what nobody mirrors is dropped when the
    /// role has been gone for a while.
    #[cold]
    pub(super) fn keep_mirror(&mut self, now: Ticks) {
        if self.role == RoleView::Standby && self.left.is_some_and(|left| now.since(left) >= LOCAL_GRACE_MS) {
            let before = self.sessions();
            let is_local = |entry: &Entry| entry.path().flags & flags::SHARED == 0;
            if self.shard.sweep(SWEPT_PER_TURN, is_local, now) {
                self.left = None;
            }
            self.counters.count(Event::Dropped, u64::from(before - self.sessions()));
        }
        self.counters.set_gauges(&self.shard.population(), self.pending.len(), 0);
    }
}
