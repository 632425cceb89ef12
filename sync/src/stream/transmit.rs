//! The active node's side: filling a datagram, by priority (decision 25).

use super::digest::Entry;
use super::message::{Mark, kind};
use super::phase::Phase;
use super::receive::MAX_SESSIONS;
use super::status::Amount;
use super::tombstones::DELETES_AT_ONCE;
use super::{Ended, Reading, Role, Source, Stream};
use crate::datagram::{Kind, Prefix};
use crate::ids::{Micros, Seq, SessionHandle};
use crate::membership::Mirror;
use crate::record::{Delete, Record, RecordWriter, Shared};

/// Readings that one call makes, at most.
const READINGS: u32 = 4_096;

/// Why a session is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    New,
    Refresh,
    Lost,
    Repair,
    Bulk,
    Count,
}

/// What came of trying to send one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Emitted {
    Done,
    /// There was nothing to send, or nothing now.
    Skipped,
    /// The datagram is full.
    Full,
}

/// A datagram under construction.
struct Draft<'b> {
    writer: RecordWriter<'b>,
    seq: u64,
    readings: u32,
    /// Sessions and deletes that it may still take.
    records: u32,
    /// Deletes among them.
    deletes: u32,
    now: Micros,
}

impl Draft<'_> {
    const fn exhausted(&self) -> bool {
        self.readings == 0
    }
}

impl Stream {
    /// Writes the next body to seal and send, if there is one. The caller comes again until there is none.
    pub fn transmit(
        &mut self,
        now: Micros,
        source: &mut impl Source,
        body: &mut [u8],
    ) -> Option<(Kind, usize)> {
        if !self.connected() {
            return None;
        }
        match self.role {
            Role::Resting => None,
            Role::Following => self.transmit_ack(now, source, body).map(|used| (Kind::Ack, used)),
            Role::Leading => self.transmit_data(now, source, body).map(|used| (Kind::Data, used)),
        }
    }

    fn transmit_data(&mut self, now: Micros, source: &mut impl Source, body: &mut [u8]) -> Option<usize> {
        let paid = self.lead.byte_credit.may_spend(self.config.byte_rate, now);
        let open = paid && self.lead.flight.may_send();
        // An empty datagram is taken and acknowledged by whoever has no room for anything else.
        let asks = now >= self.lead.flight.ask_at();
        if !open {
            self.lead.hurry = false;
        }
        if !open && !asks {
            return None;
        }
        let length = body.len().min(self.config.max_body);
        let seq = self.lead.flight.next_seq();
        let generation = self.lead.generation;
        let shared = Shared { term: self.term, generation, group: self.config.group };
        // The floor is what is outstanding, this datagram included.
        let prefix = Prefix { seq: Seq(seq), floor: Seq(self.lead.flight.floor()), shared };
        let space = prefix.write(body.get_mut(..length)?)?;
        let writer = RecordWriter::new(space, shared);
        let records = self.lead.flight.allowance();
        let mut draft = Draft { writer, seq, readings: READINGS, records, deletes: DELETES_AT_ONCE, now };
        if open {
            let full = self.fill(source, &mut draft);
            self.lead.hurry = full || draft.exhausted();
        }
        if draft.writer.is_empty() && !asks {
            return None;
        }
        let used = Prefix::LEN + draft.writer.len();
        self.lead.flight.commit(now);
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += used as u64;
        self.lead.byte_credit.spend(used as u64);
        Some(used)
    }

    /// True if the datagram is full.
    fn fill(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        self.lead.drained = false;
        if self.fill_taken(&mut draft.writer) || self.is_merging() {
            return false;
        }
        let full =
            self.fill_deletes(source, draft) || self.fill_control(draft) || self.fill_changes(source, draft);
        if full || draft.exhausted() {
            return full;
        }
        self.lead.rounds_read = self.lead.rounds;
        if self.fill_refresh(source, draft) {
            return true;
        }
        if draft.exhausted() {
            return false;
        }
        self.lead.drained = true;
        self.fill_lost(source, draft) || self.fill_repair(source, draft) || self.fill_walk(source, draft)
    }

    fn fill_deletes(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        while let Some(delete) = self.lead.backlog.pop_front() {
            if !self.write_delete(delete, draft) {
                self.lead.backlog.push_front(delete);
                return true;
            }
        }
        while !draft.exhausted() {
            draft.readings -= 1;
            let Some(ended) = source.next_ended() else { return false };
            let Some(delete) = self.ended(&ended, draft.seq, source) else { continue };
            if !self.write_delete(delete, draft) {
                self.lead.backlog.push_front(delete);
                return true;
            }
        }
        false
    }

    fn write_delete(&mut self, delete: Delete, draft: &mut Draft<'_>) -> bool {
        let before = draft.writer.len();
        let room = draft.records.min(draft.deletes) > 0;
        if !room || !draft.writer.push(&Record::Delete(delete)) {
            return false;
        }
        (draft.records, draft.deletes) = (draft.records - 1, draft.deletes - 1);
        self.table.touch(self.hasher.bucket(&delete.key), draft.seq);
        self.lead.flight.push_delete(delete);
        count(&mut self.counters.sent.delete, draft.writer.len() - before);
        true
    }

    /// A session ended: what counts as emitted for its handle goes, unless the slot has a new tenant.
    pub(super) fn ended(&mut self, ended: &Ended, seq: u64, source: &mut impl Source) -> Option<Delete> {
        if ended.group != self.config.group {
            return None;
        }
        let entry = self.table.entry(ended.handle);
        let bucket = self.hasher.bucket(&ended.key);
        if entry.is_present() && super::hash::bucket_of(entry.word) == bucket {
            match source.read(ended.handle) {
                // It is still there, its owner being about to clear it.
                Reading::Session(session) if session.key == ended.key && session.version <= ended.version => {
                    self.table.remove(ended.handle, seq);
                }
                Reading::Session(session) if session.key == ended.key => self.mark_changed(ended.handle),
                Reading::Session(session) if self.hasher.word(&session) == entry.word => {}
                Reading::Nothing => self.table.remove(ended.handle, seq),
                Reading::Session(_) | Reading::Busy => {
                    // Whose the entry is, nobody can say: the new tenant may have been sent, and not be marked.
                    self.table.remove(ended.handle, seq);
                    self.mark_changed(ended.handle);
                }
            }
        } else if entry.refusal().is_some() {
            self.unrefuse(ended.handle);
            self.mark_changed(ended.handle);
        }
        Some(Delete { key: ended.key, version: ended.version, group: ended.group, exact: false })
    }

    fn fill_control(&mut self, draft: &mut Draft<'_>) -> bool {
        if let Some(mirror) = self.lead.mark {
            let (sum, sessions) = self.table.total();
            if !draft.writer.push_raw(kind::MARK, Mark { mirror, sessions, sum }.write().bytes()) {
                return true;
            }
            self.lead.mark = None;
            self.lead.mark_sent = Some((draft.seq, mirror));
        }
        self.fill_asks(&mut draft.writer, draft.now)
            || self.fill_digests(&mut draft.writer, draft.seq, draft.now)
    }

    /// New sessions go out as they come, known ones wait until there is no new one.
    fn fill_changes(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        while !draft.exhausted() {
            draft.readings -= 1;
            let Some(handle) = source.next_changed() else { return false };
            if self.table.entry(handle).is_present() {
                self.mark_changed(handle);
            } else if self.emit(handle, Cause::New, source, draft) == Emitted::Full {
                self.mark_changed(handle);
                return true;
            }
        }
        false
    }

    fn fill_refresh(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        // What is busy marks itself again: once around is enough.
        for _ in 0..self.lead.refresh.len() {
            if draft.exhausted() {
                return false;
            }
            let Some(handle) = self.lead.refresh.take_next().map(SessionHandle) else { return false };
            if self.emit(handle, Cause::Refresh, source, draft) == Emitted::Full {
                self.lead.refresh.set(handle.0);
                return true;
            }
        }
        false
    }

    fn fill_lost(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        let rate = u64::from(self.config.resync_rate);
        for _ in 0..self.lead.lost.len() {
            if draft.exhausted() || !self.lead.resync_credit.may_spend(rate, draft.now) {
                return false;
            }
            let Some(handle) = self.lead.lost.take_next().map(SessionHandle) else { return false };
            match self.emit(handle, Cause::Lost, source, draft) {
                Emitted::Done => self.lead.resync_credit.spend(1),
                Emitted::Skipped => {}
                Emitted::Full => {
                    self.lead.lost.set(handle.0);
                    return true;
                }
            }
        }
        false
    }

    fn fill_repair(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        for _ in 0..self.lead.repair.len() {
            if draft.exhausted() {
                return false;
            }
            let Some(handle) = self.lead.repair.take_next().map(SessionHandle) else { return false };
            if self.emit(handle, Cause::Repair, source, draft) == Emitted::Full {
                self.lead.repair.set(handle.0);
                return true;
            }
        }
        false
    }

    fn fill_walk(&mut self, source: &mut impl Source, draft: &mut Draft<'_>) -> bool {
        let (mut at, cause) = match self.lead.phase {
            Phase::Bulk(at) => (at, Cause::Bulk),
            Phase::Count(at) => (at, Cause::Count),
            _ => return false,
        };
        let mut full = false;
        while at < self.table.handles() && !draft.exhausted() && !full {
            let handle = SessionHandle(at);
            if !self.table.entry(handle).is_present() {
                full = self.emit(handle, cause, source, draft) == Emitted::Full;
            } else {
                draft.readings -= 1;
            }
            at += u32::from(!full);
        }
        self.lead.phase = if cause == Cause::Bulk { Phase::Bulk(at) } else { Phase::Count(at) };
        if at >= self.table.handles() {
            self.passed_all();
        }
        full
    }

    /// Writes a session as it stands, if it is to be replicated and not what the partner has.
    fn emit(
        &mut self,
        handle: SessionHandle,
        cause: Cause,
        source: &mut impl Source,
        draft: &mut Draft<'_>,
    ) -> Emitted {
        if self.lead.flight.open_sessions() >= MAX_SESSIONS || draft.records == 0 {
            return Emitted::Full;
        }
        draft.readings = draft.readings.saturating_sub(1);
        // Looked at where it lies: it is too large to be moved without need.
        let reading = source.read(handle);
        let session = match &reading {
            Reading::Session(session) if session.group == self.config.group => session,
            Reading::Session(_) | Reading::Nothing => {
                self.unrefuse(handle);
                return Emitted::Skipped;
            }
            Reading::Busy => {
                self.counters.busy += 1;
                // Later, and for the same reason: what is only changed may be the same as what was lost.
                match cause {
                    Cause::Lost => self.lead.lost.set(handle.0),
                    Cause::Repair => self.lead.repair.set(handle.0),
                    _ => self.lead.refresh.set(handle.0),
                };
                return Emitted::Skipped;
            }
        };
        self.lead.generation = session.rule.generation;
        let word = self.hasher.word(session);
        let entry = self.table.entry(handle);
        let changed = matches!(cause, Cause::New | Cause::Refresh);
        if changed && entry.is_present() && entry.word == word {
            self.counters.unchanged += 1;
            return Emitted::Skipped;
        }
        if cause == Cause::Count && session.version.term() < self.term {
            self.table.set(handle, Entry::present(word, 0, 0), 0);
            return Emitted::Skipped;
        }
        let before = draft.writer.len();
        if !draft.writer.push_session(session) {
            return Emitted::Full;
        }
        draft.records -= 1;
        self.unrefuse(handle);
        self.lead.lost.clear(handle.0);
        self.lead.refresh.clear(handle.0);
        self.lead.repair.clear(handle.0);
        self.table.set(handle, Entry::present(word, 0, draft.seq), draft.seq);
        self.lead.flight.push_session(handle);
        self.count_sent(cause, draft.writer.len() - before);
        Emitted::Done
    }

    fn count_sent(&mut self, cause: Cause, bytes: usize) {
        let sent = &mut self.counters.sent;
        let amount = match cause {
            Cause::New => &mut sent.new,
            Cause::Refresh => &mut sent.refresh,
            Cause::Lost => &mut sent.lost,
            Cause::Repair => &mut sent.repair,
            Cause::Bulk | Cause::Count => &mut sent.bulk,
        };
        count(amount, bytes);
        if let Some(task) = &mut self.lead.task {
            task.sessions += u64::from(matches!(cause, Cause::Repair | Cause::Bulk));
        }
    }

    /// Nobody takes anything: changes become marks, ends become buckets to be asked about, and memory
    /// stays what it is.
    pub(super) fn absorb(&mut self, source: &mut impl Source) {
        let mut readings = READINGS;
        while readings > 0 {
            readings -= 1;
            let Some(ended) = source.next_ended() else { break };
            if let Some(delete) = self.ended(&ended, 0, source) {
                self.delete_unknown(&delete);
            }
        }
        while readings > 0 {
            readings -= 1;
            let Some(handle) = source.next_changed() else { break };
            self.mark_changed(handle);
        }
        self.lead.hurry = readings == 0;
    }

    /// Leading: the partner holds everything, and what changed since is on its way. What is on its way is
    /// not there: before the role is handed over, [`Stream::flushed`] must be true as well.
    #[must_use]
    pub fn proven(&self) -> bool {
        let told = self.lead.mark.is_none_or(|mirror| mirror == Mirror::Complete);
        self.role == Role::Leading
            && self.connected()
            && self.lead.phase == Phase::Proven
            && told
            && self.lead.refused.is_empty()
            && !self.lead.retrying
            && self.lead.mend.wanted.is_empty()
            && self.lead.unknown.is_empty()
            && !self.lead.late
    }

    /// Leading: every change that the source had when it was last asked is applied by its owner there.
    #[must_use]
    pub fn flushed(&self) -> bool {
        self.role == Role::Leading
            && self.connected()
            && self.lead.drained
            && self.walked().is_none()
            && self.lead.phase != Phase::Alone
            && self.waits() == 0
            && self.lead.refused.is_empty()
            && self.lead.flight.sessions() + self.lead.flight.deletes() == 0
    }
}

/// Drops what the source has to say while nobody asks for it. A node that becomes active looks at all of
/// its handles: marks of before would only send everything once more.
pub(super) fn ignore(source: &mut impl Source) {
    let mut readings = READINGS;
    while readings > 0 && (source.next_ended().is_some() || source.next_changed().is_some()) {
        readings -= 1;
    }
}

const fn count(amount: &mut Amount, bytes: usize) {
    amount.records += 1;
    amount.bytes += bytes as u64;
}
