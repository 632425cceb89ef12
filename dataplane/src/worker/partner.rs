//! A worker in a pair: follows the role word, applies the partner's records, sends stray frames on.
//!
//! Once a turn it compares the role word's lease with its own clock and forwards nothing when that is over
//! (decision 32), whatever has become of the sync core. Records are applied between bursts, so the shard
//! keeps its one writer.

use super::io::WorkerIo;
use super::mailbox::Harm;
use crate::pair::cell::{RoleCell, WorkerCell};
use crate::pair::tables::{Task, WorkerEnd};
use dpdk::Mbuf;
use engine::mirror::{Adoption, AdoptionRefused, Import, ImportRefused, Removal};
use engine::pipeline::{Alike, Burst, Engine, PacketIo};
use engine::snapshot::Snapshot;
use engine::table::Slot;
use engine::{Imported, PortId, RoleView, RuleId, Ticks};
use std::sync::Arc;
use sync::ids::{Micros, SessionHandle, Version};
use sync::lease::RoleWord;
use sync::membership::Role;
use sync::stream::{Applied, Outcome, Refused};
use wire::{FlowKey, PacketBuf};

/// Records applied in a turn, at most: a bulk must not keep packets waiting.
const APPLIED_PER_TURN: usize = 256;
/// Records whose lines are asked for together.
const TOGETHER: usize = 32;
/// Slots looked at in a turn of an emptying.
const PURGED_PER_TURN: u32 = 4096;

/// A worker's end of the pair.
pub struct Partner {
    role: Arc<RoleCell>,
    cell: Arc<WorkerCell>,
    end: WorkerEnd,
    installed: u32,
    purged: u32,
    redirecting: bool,
    apart: u64,
}

/// What a turn may do with the receive queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intake {
    /// Read them.
    Open,
    /// Leave frames where they are: the role is on its way to the partner (decision 37).
    Parked,
    /// Throw away what waits, but for heartbeats and address resolution, then confirm (decision 38).
    Stale,
}

impl Partner {
    /// Follows a cell that nobody has written yet: standby.
    pub fn new(role: Arc<RoleCell>, cell: Arc<WorkerCell>, end: WorkerEnd) -> Self {
        Self { role, cell, end, installed: 0, purged: 0, redirecting: false, apart: 0 }
    }

    /// The role of this turn, and what it means for the receive queues.
    #[inline(always)]
    pub fn follow(&mut self, engine: &mut Engine<Mbuf>, now: Ticks, micros: Micros) -> Intake {
        let word = RoleWord::unpack(self.role.word());
        let role = match word.role {
            Role::Active if word.forwards(micros) => RoleView::Active { term: word.term.get() },
            Role::Active => RoleView::Closed,
            _ => RoleView::Standby,
        };
        let stale = self.role.install() != self.installed;
        // What waits is older than the role: the engine drops it as a standby before it is told.
        if !stale || engine.role() != RoleView::Standby {
            match role {
                RoleView::Active { term } if engine.role() != role => {
                    engine.activate_stale(term, self.role.mirror_age_ms(), now);
                }
                _ => engine.set_role(role, now),
            }
        }
        let apart = self.role.apart_word();
        if apart != self.apart {
            self.apart = apart;
            engine.set_apart(self.role.apart());
        }
        if self.apart != 0 {
            self.cell.tell_activity(engine.activity());
        }
        let parks = self.role.parks();
        self.cell.confirm_park(parks);
        self.redirecting = role == RoleView::Standby && micros < self.role.redirect_until();
        if parks {
            return Intake::Parked;
        }
        if stale { Intake::Stale } else { Intake::Open }
    }

    /// What waited before the role came is gone.
    pub fn discarded(&mut self) {
        self.installed = self.role.install();
        self.cell.confirm_install(self.installed);
    }

    /// Applies records and empties the mirror; true if there was something to do.
    #[inline(always)]
    pub fn apply(&mut self, engine: &mut Engine<Mbuf>, snapshot: &Snapshot, now: Ticks) -> bool {
        let purges = self.role.purges();
        if purges != self.purged {
            if engine.purge(now, PURGED_PER_TURN) == 0 {
                self.purged = purges;
                self.cell.confirm_purge(purges);
            }
            return true;
        }
        if self.end.installs.is_empty() {
            return false;
        }
        let mut alike = Alike::default();
        for _ in 0..APPLIED_PER_TURN / TOGETHER {
            if self.apply_some(engine, snapshot, now, &mut alike) == 0 {
                break;
            }
        }
        true
    }

    /// Applies records whose lines in the table were all asked for before the first one needs them. Returns
    /// how many.
    #[inline]
    fn apply_some(
        &mut self,
        engine: &mut Engine<Mbuf>,
        snapshot: &Snapshot,
        now: Ticks,
        alike: &mut Alike,
    ) -> usize {
        let WorkerEnd { installs, outcomes, base } = &mut self.end;
        // What is answered must find room.
        let count = TOGETHER.min(installs.slots()).min(outcomes.slots());
        let Ok(chunk) = installs.read_chunk(count) else { return 0 };
        let (front, back) = chunk.as_slices();
        let together = || front.iter().chain(back);
        engine.foresee_places(count);
        let mut hashes = [Default::default(); TOGETHER];
        for (hashes, install) in hashes.iter_mut().zip(together()) {
            if let Task::Store(record) = &install.task {
                *hashes = engine.foresee(&record.keys);
            }
        }
        for (hashes, install) in hashes.iter().zip(together()) {
            if let Task::Store(_) = &install.task {
                engine.foresee_entries(*hashes);
            }
        }
        for (hashes, install) in hashes.iter().zip(together()) {
            let applied = match &install.task {
                Task::Store(record) => {
                    stored(engine.import_foreseen(now, snapshot, record, *hashes, alike), *base)
                }
                Task::Remove { key, version, exact } => {
                    removed(engine.remove(now, key, *version, *exact), *base)
                }
                Task::Adopt { session, two_way } => {
                    adopted(engine.adopt(now, snapshot, session, *two_way), *base)
                }
                Task::Look(key) => {
                    let found = engine.lookup(key);
                    found.map_or(Applied::Absent, |(slot, version)| held(slot, version, *base))
                }
            };
            // There is room: it was looked for, and this is the only producer.
            let _ = outcomes.push(Outcome { tag: install.tag, applied });
        }
        chunk.commit_all();
        count
    }

    /// On a node that handed its role over a while ago: frames that still come for the virtual MAC address
    /// go on to the partner's own, on the same segment (decision 37). The others stay in the burst.
    #[inline(always)]
    pub fn redirect(&self, snapshot: &Snapshot, port: PortId, burst: &mut Burst<Mbuf>, io: &mut WorkerIo) {
        if self.redirecting && !burst.is_empty() {
            self.redirect_strays(snapshot, port, burst, io);
        }
    }

    #[cold]
    fn redirect_strays(&self, snapshot: &Snapshot, port: PortId, burst: &mut Burst<Mbuf>, io: &mut WorkerIo) {
        let Some(view) = snapshot.ports.get(usize::from(port.0)) else { return };
        let (Some(shared), Some(partner)) = (view.virtual_mac, self.role.partner_mac(port)) else { return };
        let link = wire::ether::Link { src: view.mac, dst: partner };
        let mut kept = Burst::new();
        for mut frame in burst.drain(..) {
            let bytes = frame.bytes_mut();
            let is_stray = bytes.first_chunk::<6>().is_some_and(|mac| *mac == shared.0);
            if is_stray && link.rewrite(bytes) {
                io.send(port, frame);
            } else {
                kept.push(frame);
            }
        }
        *burst = kept;
    }
}

const fn handle(slot: Slot, base: u32) -> SessionHandle {
    SessionHandle(base + slot.0)
}

const fn held(slot: Slot, version: u64, base: u32) -> Applied {
    Applied::Held { handle: handle(slot, base), version: Version(version) }
}

#[inline]
fn stored(import: Import, base: u32) -> Applied {
    match import {
        Import::Stored { slot, displaced } => Applied::Installed {
            handle: handle(slot, base),
            displaced: displaced.map(|slot| slot.map(|slot| handle(slot, base))),
        },
        Import::Held { slot, version } => held(slot, version, base),
        Import::Refused(reason) => Applied::Refused(refused(reason)),
    }
}

fn removed(removal: Removal, base: u32) -> Applied {
    match removal {
        Removal::Removed(slot) => Applied::Deleted { handle: handle(slot, base) },
        Removal::Held { slot, version } => held(slot, version, base),
        Removal::Absent => Applied::Absent,
    }
}

fn adopted(adoption: Adoption, base: u32) -> Applied {
    match adoption {
        Adoption::Inserted(slot) | Adoption::Replaced(slot) => {
            Applied::Installed { handle: handle(slot, base), displaced: [None; 2] }
        }
        Adoption::Kept(slot) => held(slot, 0, base),
        Adoption::Refused(AdoptionRefused::Full) => Applied::Refused(Refused::Full),
        Adoption::Refused(AdoptionRefused::NotActive) => Applied::Refused(Refused::NotMirroring),
        Adoption::Refused(_) => Applied::Refused(Refused::Unsupported),
    }
}

/// Harms the copy of a session behind the sync core's back, as a fault in memory would: the scrubber
/// has to find it. On a node that is not active only, where the engine lets sessions be stored and removed.
#[cold]
pub fn harm(engine: &mut Engine<Mbuf>, snapshot: &Snapshot, now: Ticks, slot: Slot, harm: Harm) {
    let Some(view) = engine.shard().reader().read(slot) else { return };
    let held = Imported::of(&view, now, &snapshot.timeouts);
    let [forward, _] = held.keys;
    match harm {
        Harm::Corrupt => {
            engine.remove(now, &forward, held.version, true);
            let other_rule = RuleId(held.rule.0 ^ 1);
            engine.import(now, snapshot, &Imported { rule: other_rule, ..held });
        }
        Harm::Drop => {
            engine.remove(now, &forward, held.version, true);
        }
        Harm::Add => {
            let port = forward.sport() ^ 0x5555;
            let twin = FlowKey::new(forward.src(), forward.dst(), forward.proto(), port, forward.dport());
            if let Some(twin) = twin.map(|twin| twin.with_vrf(forward.vrf())) {
                engine.import(now, snapshot, &Imported { keys: [twin, twin.reversed()], ..held });
            }
        }
    }
}

fn refused(reason: ImportRefused) -> Refused {
    match reason {
        ImportRefused::Full => Refused::Full,
        ImportRefused::UnknownZone => Refused::UnknownZone,
        ImportRefused::Unsupported => Refused::Unsupported,
        ImportRefused::NotMirroring => Refused::NotMirroring,
    }
}
