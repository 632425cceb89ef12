//! What sync core and workers tell each other outside the rings: single words, each with one writer.
//!
//! The role word is the fence of decision 32. Workers read it once a turn, act on it, and confirm in words
//! of their own; nobody waits for anybody.

use crate::config::MAX_PORTS;
use engine::Ticks;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::ids::{Micros, Term};
use sync::lease::RoleWord;
use wire::MacAddr;

/// Written by the sync core, read by all workers.
#[derive(Debug)]
pub struct RoleCell {
    word: AtomicU64,
    /// The term that workers are to get ready for.
    install: AtomicU32,
    park: AtomicBool,
    redirect_until: AtomicU64,
    /// Emptyings of the mirror asked for so far.
    purges: AtomicU32,
    /// Since when this node is active apart from its partner: ticks, whether there ever was such a time,
    /// whether it lasts, how long it took to notice.
    apart: AtomicU64,
    /// How old the mirror is with which the role comes.
    mirror_age_ms: AtomicU32,
    /// The partner's own MAC address on each port; 0 before it was heard there.
    partner_macs: [AtomicU64; MAX_PORTS],
}

/// Written by one worker, read by the sync core.
#[derive(Debug, Default)]
pub struct WorkerCell {
    installed: AtomicU32,
    parked: AtomicBool,
    purged: AtomicU32,
    /// Sessions with traffic from both ends since the nodes lost each other.
    activity: AtomicU32,
}

/// In the word of a split: there was one.
const APART_KNOWN: u64 = 1 << 32;
/// It lasts.
const APART_LASTS: u64 = 1 << 33;
/// Above it: milliseconds until it was noticed.
const APART_NOTICED: u32 = 34;

/// A time in which this node is or was active apart from its partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// What this node did since then the partner may not know.
    pub since: Ticks,
    /// From here on workers mark from which end a session's packets come.
    pub noticed: Ticks,
}

impl Default for RoleCell {
    fn default() -> Self {
        let closed = RoleWord::closed(sync::membership::Role::Init, Term::ZERO);
        Self {
            word: AtomicU64::new(closed.pack()),
            install: AtomicU32::new(0),
            park: AtomicBool::new(false),
            redirect_until: AtomicU64::new(0),
            purges: AtomicU32::new(0),
            apart: AtomicU64::new(0),
            mirror_age_ms: AtomicU32::new(0),
            partner_macs: [const { AtomicU64::new(0) }; MAX_PORTS],
        }
    }
}

impl RoleCell {
    /// The packed word.
    #[inline(always)]
    pub fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Shows a word.
    pub fn show(&self, word: RoleWord) {
        self.word.store(word.pack(), Ordering::Release);
    }

    /// The term that workers are to get ready for; 0 before the first.
    #[inline(always)]
    pub fn install(&self) -> u32 {
        self.install.load(Ordering::Acquire)
    }

    /// Asks workers to get ready for a term.
    pub fn ask_install(&self, term: Term) {
        self.install.store(term.get(), Ordering::Release);
    }

    /// Whether workers are to leave their receive queues alone.
    #[inline(always)]
    pub fn parks(&self) -> bool {
        self.park.load(Ordering::Acquire)
    }

    /// Begins or ends parking.
    pub fn set_park(&self, park: bool) {
        self.park.store(park, Ordering::Release);
    }

    /// Until when stray frames go to the partner.
    #[inline(always)]
    pub fn redirect_until(&self) -> Micros {
        Micros(self.redirect_until.load(Ordering::Acquire))
    }

    /// Sends stray frames to the partner until then.
    pub fn redirect(&self, until: Micros) {
        self.redirect_until.store(until.0, Ordering::Release);
    }

    /// Emptyings of the mirror asked for so far.
    #[inline(always)]
    pub fn purges(&self) -> u32 {
        self.purges.load(Ordering::Acquire)
    }

    /// Asks for an emptying of the mirror.
    pub fn ask_purge(&self) {
        self.purges.fetch_add(1, Ordering::AcqRel);
    }

    /// A word that changes when a split begins or ends.
    #[inline(always)]
    pub fn apart_word(&self) -> u64 {
        self.apart.load(Ordering::Acquire)
    }

    /// Since when workers mark what passes, if this node is active apart from its partner.
    pub fn apart(&self) -> Option<Ticks> {
        (self.apart_word() & APART_LASTS != 0).then(|| self.last_split().map(|split| split.noticed))?
    }

    /// The last split, whether it lasts or not.
    pub fn last_split(&self) -> Option<Split> {
        let word = self.apart_word();
        let since = Ticks(word as u32);
        let noticed = since.after((word >> APART_NOTICED) as u32);
        (word & APART_KNOWN != 0).then_some(Split { since, noticed })
    }

    /// A split is noticed that began before.
    pub fn begin_apart(&self, split: Split) {
        let took_ms = u64::from(split.noticed.since(split.since).min(Ticks::MAX_SPAN_MS - 1));
        let since = Ticks(split.noticed.0.wrapping_sub(took_ms as u32));
        let word = u64::from(since.0) | took_ms << APART_NOTICED | APART_KNOWN | APART_LASTS;
        self.apart.store(word, Ordering::Release);
    }

    /// It is over.
    pub fn end_apart(&self) {
        self.apart.fetch_and(!APART_LASTS, Ordering::AcqRel);
    }

    /// How old the mirror is with which the role comes; 0 for one that was kept up to date.
    pub fn mirror_age_ms(&self) -> u32 {
        self.mirror_age_ms.load(Ordering::Acquire)
    }

    /// To be set before the role is shown.
    pub fn set_mirror_age(&self, age: Micros) {
        let age_ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
        self.mirror_age_ms.store(age_ms, Ordering::Release);
    }

    /// The partner's own MAC address on a port.
    pub fn partner_mac(&self, port: engine::PortId) -> Option<MacAddr> {
        let word = self.partner_macs.get(usize::from(port.0))?.load(Ordering::Relaxed);
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        (word != 0).then_some(MacAddr([a, b, c, d, e, f]))
    }

    /// The partner was heard on a port.
    pub fn set_partner_mac(&self, port: engine::PortId, mac: MacAddr) {
        let [a, b, c, d, e, f] = mac.0;
        if let Some(cell) = self.partner_macs.get(usize::from(port.0)) {
            cell.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
        }
    }
}

impl WorkerCell {
    /// The last term that the worker got ready for.
    pub fn installed(&self) -> u32 {
        self.installed.load(Ordering::Acquire)
    }

    /// Ready for the term.
    pub fn confirm_install(&self, term: u32) {
        self.installed.store(term, Ordering::Release);
    }

    /// Whether the worker leaves its receive queues alone.
    pub fn parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    /// Confirms the begin or end of parking.
    #[inline(always)]
    pub fn confirm_park(&self, parked: bool) {
        if self.parked.load(Ordering::Relaxed) != parked {
            self.parked.store(parked, Ordering::Release);
        }
    }

    /// Emptyings carried out.
    pub fn purged(&self) -> u32 {
        self.purged.load(Ordering::Acquire)
    }

    /// Confirms emptyings up to this one.
    pub fn confirm_purge(&self, purges: u32) {
        self.purged.store(purges, Ordering::Release);
    }

    /// Sessions with traffic from both ends since the nodes lost each other.
    pub fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Tells it.
    #[inline(always)]
    pub fn tell_activity(&self, sessions: u32) {
        self.activity.store(sessions, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::PortId;
    use sync::membership::Role;

    #[test]
    fn nobody_forwards_before_the_first_word() {
        let cell = RoleCell::default();
        assert!(!RoleWord::unpack(cell.word()).forwards(Micros(0)));
        let word = RoleWord { role: Role::Active, term: Term::ZERO, deadline: Micros::NEVER };
        cell.show(word);
        assert_eq!(RoleWord::unpack(cell.word()), word);
    }

    #[test]
    fn decision_35_a_split_is_remembered_when_it_is_over() {
        let cell = RoleCell::default();
        assert_eq!((cell.apart(), cell.last_split()), (None, None));
        for took_ms in [0, 300, Ticks::MAX_SPAN_MS - 1] {
            let noticed = Ticks(200);
            let split = Split { since: Ticks(noticed.0.wrapping_sub(took_ms)), noticed };
            cell.begin_apart(split);
            assert_eq!((cell.apart(), cell.last_split()), (Some(noticed), Some(split)));
            cell.end_apart();
            assert_eq!((cell.apart(), cell.last_split()), (None, Some(split)));
        }
    }

    #[test]
    fn the_partners_mac_addresses_are_known_by_port() {
        let cell = RoleCell::default();
        let mac = MacAddr([0, 0, 0x5e, 0, 1, 7]);
        assert_eq!(cell.partner_mac(PortId(1)), None);
        cell.set_partner_mac(PortId(1), mac);
        assert_eq!(cell.partner_mac(PortId(1)), Some(mac));
        assert_eq!(cell.partner_mac(PortId(0)), None);
        assert_eq!(cell.partner_mac(PortId(255)), None);
    }
}
