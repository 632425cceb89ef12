//! After a split this node stayed active, and the other one, which gave in, offers its sessions
//! (decision 35).
//!
//! What the policy here does not admit does not come in, and nothing that this node has gives way but a copy
//! of the same session that had no traffic from both ends. What is taken gets this node's rule, next hops
//! and a version of its own, and is mirrored back like everything else.

use super::Notice;
use super::engine::Engine;
use super::open::{path_flags, way_to};
use crate::counters::Event;
use crate::mirror::{Adoption, AdoptionRefused, Imported};
use crate::neighbour::NextHop;
use crate::policy::{Action, Query};
use crate::session;
use crate::snapshot::Snapshot;
use crate::table::{Adopted, Binding, Entry, Hot, Path, Slot, flags};
use crate::time::Ticks;
use wire::{PacketBuf, Proto};

impl<B: PacketBuf> Engine<B> {
    /// Takes in a session of the node that gave in; `two_way` says whether both its ends have sent since
    /// the split. Between bursts only. Offering twice changes nothing.
    pub fn adopt(&mut self, now: Ticks, snapshot: &Snapshot, record: &Imported, two_way: bool) -> Adoption {
        let outcome = self.judge_offer(now, snapshot, record, two_way);
        self.counters.count(
            match outcome {
                Adoption::Inserted(_) | Adoption::Replaced(_) => Event::Merged,
                Adoption::Kept(_) => Event::MergeKept,
                Adoption::Refused(_) => Event::MergeRefused,
            },
            1,
        );
        outcome
    }

    fn judge_offer(&mut self, now: Ticks, snapshot: &Snapshot, record: &Imported, two_way: bool) -> Adoption {
        if !self.shard.is_serving() {
            return Adoption::Refused(AdoptionRefused::NotActive);
        }
        let Some((windows, state)) = record.packed() else {
            return Adoption::Refused(AdoptionRefused::Unsupported);
        };
        let keys = &record.keys;
        let hashes = keys.map(|key| self.shard.hash(&key));
        let found = [0, 1].map(|at| self.shard.find(&keys[at], hashes[at]).map(|(slot, _)| slot));
        let same = |slot: &Slot| self.shard.entry(*slot).is_some_and(|entry| entry.keys() == *keys);
        let held = match found {
            [None, None] => None,
            [Some(one), Some(other)] if one == other && same(&one) => Some(one),
            [Some(slot), _] | [None, Some(slot)] => return Adoption::Kept(slot),
        };
        if let Some(slot) = held
            && (!two_way || self.shard.entry(slot).is_none_or(|entry| self.apart.is_two_way(entry)))
        {
            return Adoption::Kept(slot);
        }
        let Some((binding, mut path)) = self.admit_offer(now, snapshot, record) else {
            return Adoption::Refused(AdoptionRefused::NotAdmitted);
        };
        if two_way {
            path.flags |= flags::SINCE_SPLIT;
        }
        let own = held.and_then(|slot| self.shard.entry(slot));
        path.flags |= own.map_or(0, |entry| entry.path().flags & flags::SHARED);
        let timeout_ms = session::timeout_ms(keys[0].proto(), state, &snapshot.timeouts);
        let spent_ms = timeout_ms.saturating_sub(record.remaining_ms);
        let adopted = Adopted {
            keys,
            hashes,
            version: self.shard.version_above(record.version.max(own.map_or(0, Entry::version))),
            binding,
            path,
            hot: Hot::with_traffic(windows, state, record.bytes, record.packets),
            last_seen: Ticks(now.0.wrapping_sub(spent_ms)),
        };
        let Ok(slot) = self.shard.adopt(held, &adopted, now) else {
            return Adoption::Refused(AdoptionRefused::Full);
        };
        if let Some(entry) = self.shard.entry(slot) {
            let life = session::life(entry, self.took_over, &snapshot.timeouts);
            self.shard.check_by(slot, entry, life);
            if path.flags & flags::REPLICATE == 0 {
                self.shard.unshare(slot, entry);
            }
        }
        self.shard.announce(slot);
        if held.is_some() { Adoption::Replaced(slot) } else { Adoption::Inserted(slot) }
    }

    /// Asks routes and policy as for a new flow. `None` if it would not be let in here.
    fn admit_offer(&mut self, now: Ticks, snapshot: &Snapshot, record: &Imported) -> Option<(Binding, Path)> {
        let [key, reply] = record.keys;
        let (source, destination) = (key.src(), reply.src());
        if snapshot.is_local(source) || snapshot.is_local(destination) || snapshot.is_group(destination) {
            return None;
        }
        let (there, egress) = way_to(snapshot, destination)?;
        let (back, ingress) = way_to(snapshot, source)?;
        let zones = [ingress.zone, egress.zone];
        if zones != record.zones {
            return None;
        }
        let echo = matches!(key.proto(), Proto::ICMP | Proto::ICMP6);
        let decision = snapshot.policy.classify(&Query { from: zones[0], to: zones[1], key, echo });
        if decision.action != Action::Allow {
            return None;
        }
        let next_hops = [there, back].map(|hit| {
            snapshot.neighbours.find(hit.port, hit.next_hop).unwrap_or_else(|| {
                if self.wanted.is_news(hit.port, hit.next_hop, now) {
                    self.notify(Notice::NeighbourWanted { port: hit.port, addr: hit.next_hop });
                }
                NextHop::NONE
            })
        });
        let binding = Binding { rule: decision.rule, generation: snapshot.generation, zones };
        let flags = path_flags(&decision) & !flags::YOUNG;
        Some((binding, Path { next_hops, group: decision.group, flags }))
    }
}
