//! The standby's side: datagrams in, records to their owners, acks out.

use std::collections::VecDeque;

use super::compare::Answers;
use super::message::{Have, Mark, Nak, kind, read_handles};
use super::outcome::{Errand, Label};
use super::tombstones::Tombstones;
use super::window::{Admission, Window};
use super::{Config, Event, Role, Sink, Source, Stream};
use crate::datagram::{Ack, Malformed, Prefix};
use crate::ids::{Micros, Seq};
use crate::membership::Mirror;
use crate::record::{Record, RecordWriter, kinds, wholes};

/// Records in a datagram, at most: what a jumbo frame could carry of the shortest.
const MAX_RECORDS: u32 = 1_024;
/// Sessions in a datagram, at most: their places are counted in a byte.
pub(super) const MAX_SESSIONS: u16 = 255;
/// Datagrams that are applied between two acks, at most.
const ACK_EVERY: u32 = 16;
/// A partner of which only datagrams come that are below what was taken, so many and for so long, is not
/// where it said that it was.
const ASTRAY: (u32, Micros) = (4, Micros::from_secs(1));
/// An ack that said less room than this is followed by another one when there is more.
const LITTLE_ROOM: u32 = 1_024;

/// What the standby keeps.
#[derive(Debug)]
pub(super) struct Follower {
    pub window: Window,
    pub tombstones: Tombstones,
    pub naks: VecDeque<Nak>,
    pub mirror: Mirror,
    /// The datagram of the last mark.
    marked_at: u64,
    ack_at: Option<Micros>,
    applied_since_ack: u32,
    room: u32,
    room_told: u32,
    ack_delay: Micros,
    /// Datagrams that came too late, and since when nothing else came.
    late: Option<(u32, Micros)>,
    /// Something is left over from the last turn.
    pub hurry: bool,
    /// Handles below this are counted; nothing when all are.
    pub counting: Option<u32>,
    /// How often the next one could not be read.
    pub count_tries: u32,
    /// The epoch in which this window began.
    pub window_epoch: u8,
    /// The epoch that began when the mirror was thrown away last.
    pub discarded_in: Option<u8>,
    /// How often the mirror was thrown away.
    life: u16,
    /// Records handed to the owners, and outcomes that came back.
    pub handed: u64,
    pub returned: u64,
    pub answers: Answers,
}

impl Follower {
    pub fn new(config: &Config) -> Self {
        Self {
            window: Window::new(),
            tombstones: Tombstones::new(config.tombstones),
            naks: VecDeque::new(),
            mirror: Mirror::None,
            marked_at: 0,
            ack_at: None,
            applied_since_ack: 0,
            room: 0,
            room_told: 0,
            ack_delay: config.ack_delay,
            late: None,
            hurry: false,
            counting: None,
            count_tries: 0,
            window_epoch: 0,
            discarded_in: None,
            life: 0,
            handed: 0,
            returned: 0,
            answers: Answers::new(),
        }
    }

    pub const fn mirror(&self) -> Mirror {
        self.mirror
    }

    /// A new sequence begins; so many sessions are held.
    pub fn restart(&mut self, epoch: u8, held: u32) {
        self.window_epoch = epoch;
        self.window.reset();
        self.tombstones.clear();
        self.naks.clear();
        self.answers.clear();
        self.marked_at = 0;
        self.late = None;
        self.mirror = if held > 0 { Mirror::Partial } else { Mirror::None };
    }

    pub fn disconnected(&mut self) {
        if self.mirror == Mirror::Complete {
            self.mirror = Mirror::Stale;
        }
    }

    /// The mirror was thrown away; what its owners still hold is counted when they are done.
    pub fn discarded(&mut self) {
        // What was said of it is void.
        self.answers.clear();
        self.mirror = Mirror::None;
        self.life = self.life.wrapping_add(1);
        self.counting = Some(0);
        self.hurry = true;
    }

    /// All handles were counted, and none held anything.
    pub fn found_nothing(&mut self) {
        if self.mirror == Mirror::Partial {
            self.mirror = Mirror::None;
        }
    }

    /// An outcome came in: the datagram that it belongs to.
    pub fn applied(&mut self, low: u16, now: Micros) -> Option<u64> {
        let (seq, complete) = self.window.outcome(low)?;
        if complete {
            self.completed(now);
        }
        Some(seq)
    }

    /// An owner could not take a session. In the order of the datagrams, since an ack may not have room
    /// for all.
    pub fn refuse(&mut self, seq: u64, index: u8, reason: u8) {
        let block = index >> 6;
        let places = 1 << (index & 63);
        let at = self.naks.partition_point(|nak| nak.seq <= seq);
        let same = |nak: &&mut Nak| (nak.seq, nak.reason, nak.block) == (seq, reason, block);
        match self.naks.iter_mut().take(at).rev().take_while(|nak| nak.seq == seq).find(same) {
            Some(nak) => nak.places |= places,
            None => self.naks.insert(at, Nak { seq, reason, block, places }),
        }
    }

    /// Records of datagrams that were passed are still with their owners: what is held is not yet what
    /// it will be, and the active node does not know of them any more.
    pub const fn has_strays(&self) -> bool {
        self.handed - self.returned > self.window.pending()
    }

    fn completed(&mut self, now: Micros) {
        self.applied_since_ack += 1;
        let at = if self.applied_since_ack >= ACK_EVERY { now } else { now.after(self.ack_delay) };
        self.ack_by(at);
    }

    pub fn ack_by(&mut self, at: Micros) {
        self.ack_at = Some(self.ack_at.map_or(at, |old| old.min(at)));
    }

    pub fn look_at_room(&mut self, room: u32, now: Micros) {
        self.room = room;
        if self.room_told < LITTLE_ROOM && room > self.room_told.saturating_mul(2).max(64) {
            self.ack_by(now);
        }
    }

    pub fn ack_deadline(&self) -> Micros {
        self.ack_at.unwrap_or(Micros::NEVER).min(self.answers.deadline())
    }
}

impl Stream {
    pub(super) fn start_following(&mut self, was_following: bool, now: Micros) {
        if was_following {
            self.table.forget_sequence();
        } else {
            // What it holds from before is worth keeping, and is counted first.
            self.table.reset();
            self.follow.counting = Some(0);
        }
        self.follow.restart(self.epoch, self.table.handles());
        self.follow.hurry = true;
        // The partner may be waiting for a sign.
        self.follow.ack_by(now);
    }

    /// Takes in the body of a data datagram.
    ///
    /// # Errors
    /// [`Malformed`] if it says nothing that a partner of any release would say; nothing was changed.
    pub fn data(&mut self, now: Micros, body: &[u8], sink: &mut impl Sink) -> Result<(), Malformed> {
        let (prefix, bytes) = Prefix::read(body)?;
        let (seq, floor) = (prefix.seq.0, prefix.floor.0);
        if seq == 0 || floor == 0 {
            return Err(Malformed);
        }
        let (records, deletes) = survey(bytes)?;
        if !self.is_of_this_stream(&prefix) {
            return Ok(());
        }
        self.follow.look_at_room(sink.room(), now);
        let (admission, passed) = self.follow.window.admit(seq, floor);
        self.counters.passed += passed;
        self.settle_floor(floor);
        self.follow.ack_by(now.after(self.config.ack_delay));
        match admission {
            Admission::Late => self.came_late(now),
            Admission::Ahead => self.counters.refused_ahead += 1,
            Admission::Take => self.take(now, &prefix, bytes, records, deletes, sink),
        }
        Ok(())
    }

    /// One datagram that lied about the floor would have everything refused that comes after it: a sequence
    /// of which nothing but late datagrams come is begun anew, wherever it is.
    fn came_late(&mut self, now: Micros) {
        self.counters.refused_late += 1;
        let (count, since) = self.follow.late.unwrap_or((0, now));
        self.follow.late = Some((count + 1, since));
        if count >= ASTRAY.0 && now.since(since) >= ASTRAY.1 {
            self.counters.astray += 1;
            self.begin_sequence();
        }
    }

    /// Forgets where the partner's sequence is. What is held stays, and is to be proven again.
    pub(super) fn begin_sequence(&mut self) {
        self.table.forget_sequence();
        self.next_epoch();
        self.follow.restart(self.epoch, self.table.total().1);
    }

    fn is_of_this_stream(&mut self, prefix: &Prefix) -> bool {
        let term = prefix.shared.term;
        if term < self.term {
            self.counters.refused_late_term += 1;
            if !std::mem::replace(&mut self.late_term_told, true) {
                self.tell(Event::LateTerm { term });
            }
            return false;
        }
        if self.role != Role::Following || term > self.term {
            self.counters.refused_other_term += 1;
            return false;
        }
        true
    }

    /// What was refused and is below the floor, the sender knows.
    fn settle_floor(&mut self, floor: u64) {
        self.follow.naks.retain(|nak| nak.seq >= floor);
        self.follow.tombstones.prune(self.follow.window.received_through());
    }

    fn take(
        &mut self,
        now: Micros,
        prefix: &Prefix,
        bytes: &[u8],
        records: u32,
        deletes: u32,
        sink: &mut impl Sink,
    ) {
        let seq = prefix.seq.0;
        if self.follow.room < records {
            self.counters.refused_room += 1;
            return;
        }
        let in_order = seq == self.follow.window.received_through() + 1;
        if !in_order && deletes as usize > self.follow.tombstones.room() {
            self.counters.refused_tombstones += 1;
            return;
        }
        // Of what is refused later than this, an ack says as much as it has room for.
        let sessions = (records - deletes).div_ceil(64) as usize;
        if sessions > 0 && !self.follow.naks.is_empty() && self.follow.naks.len() + sessions > self.max_naks()
        {
            self.counters.refused_naks += 1;
            return;
        }
        let Some(handed) = self.hand_over(prefix, bytes, in_order, sink) else {
            self.counters.refused_room += 1;
            return;
        };
        self.follow.late = None;
        self.counters.datagrams_received += 1;
        self.counters.records_received += u64::from(records);
        self.follow.room = self.follow.room.saturating_sub(u32::from(handed));
        self.follow.window.start(seq, handed);
        if handed == 0 {
            self.follow.completed(now);
        }
        self.follow.tombstones.prune(self.follow.window.received_through());
        if self.follow.window.has_gap() {
            self.follow.ack_by(now);
        }
        self.control(seq, bytes);
    }

    /// Refusals that always fit into one ack.
    const fn max_naks(&self) -> usize {
        self.config.max_body.saturating_sub(Ack::LEN + 255 + 64) / Nak::LEN
    }

    /// Hands all records to their owners: how many outcomes are to come. `None` if a ring was full although
    /// it had room: what was handed over does no harm, and the sender will repair the rest.
    fn hand_over(
        &mut self,
        prefix: &Prefix,
        bytes: &[u8],
        in_order: bool,
        sink: &mut impl Sink,
    ) -> Option<u16> {
        let seq = prefix.seq.0;
        let (mut handed, mut index) = (0, 0_u16);
        let of_sessions =
            wholes(bytes).flatten().filter(|run| (kinds::TCP..=kinds::DELETE).contains(&run.kind));
        for run in of_sessions.flat_map(|run| run.bodies()) {
            let Some(record) = Record::decode(run, &prefix.shared) else {
                self.counters.skipped += 1;
                index += u16::from(run.kind != kinds::DELETE);
                continue;
            };
            let place = index;
            let (word, check) = match &record {
                Record::Session(session) => {
                    index += 1;
                    if self.follow.tombstones.covers(session, seq) {
                        self.counters.buried += 1;
                        continue;
                    }
                    (self.hasher.word(session), self.hasher.check(session))
                }
                Record::Delete(delete) => {
                    if !in_order {
                        self.follow.tombstones.bury(delete, seq);
                    }
                    (0, 0)
                }
                Record::Mention(_) => continue,
            };
            let index = place.min(u16::from(u8::MAX)) as u8;
            let label = Label { errand: Errand::Record, epoch: self.epoch, index, low: seq as u16, check };
            if !sink.hand(&record, label.tag(word)) {
                return None;
            }
            self.follow.handed += 1;
            handed += 1;
        }
        Some(handed)
    }

    fn control(&mut self, seq: u64, bytes: &[u8]) {
        let others = wholes(bytes).flatten().filter(|run| run.kind >= kinds::FIRST_OTHER);
        for run in others.flat_map(|run| run.bodies()) {
            match run.kind {
                kind::MARK => {
                    if let Some(mark) = Mark::read(run.body).filter(|_| seq > self.follow.marked_at) {
                        self.follow.marked_at = seq;
                        self.follow.mirror = mark.mirror;
                    }
                }
                kind::DIGESTS => self.digests(seq, run.body),
                kind::ASK => self.asked(run.body),
                kind::TAKEN => self.offers_taken(read_handles(run.body)),
                kind::MERGED => self.merge_over(),
                _ => self.counters.skipped += 1,
            }
        }
    }

    /// The next ack, if one is due.
    pub(super) fn transmit_ack(
        &mut self,
        now: Micros,
        source: &mut impl Source,
        body: &mut [u8],
    ) -> Option<usize> {
        if self.follow.ack_deadline() > now && !self.merge.speaks(now) {
            return None;
        }
        let length = body.len().min(self.config.max_body);
        let body = body.get_mut(..length)?;
        let mut bitmap = [0; 255];
        let mut bits = self.follow.window.bitmap(&mut bitmap);
        let mut cumulative = Seq(self.follow.window.applied_through());
        // What was refused and cannot be said must not be acknowledged.
        let naks = self.follow.naks.len().min(self.max_naks());
        if let Some(unsaid) = self.follow.naks.get(naks) {
            bits = 0;
            cumulative = cumulative.min(Seq(unsaid.seq - 1));
        }
        let ack = Ack { cumulative, window: self.follow.room, bitmap: &bitmap[..bits], runs: &[] };
        let used = ack.write(body)?;
        let mut writer = RecordWriter::new(body.get_mut(used..)?, crate::record::Shared::default());
        let (sum, sessions) = self.table.total();
        let (mirror, life) = (self.follow.mirror, self.follow.life);
        let received = self.follow.window.received_through();
        let have = Have { term: self.term, mirror, life, received, sessions, sum };
        let mut whole = writer.push_raw(kind::HAVE, have.write().bytes());
        for nak in self.follow.naks.iter().take(naks) {
            whole &= writer.push_raw(kind::NAK, nak.write().bytes());
        }
        if !whole {
            // The caller lent less than the least body.
            return None;
        }
        self.follow.answers.write(&mut writer, now);
        self.write_offers(&mut writer, source, now);
        let used = used + writer.len();
        self.follow.ack_at = None;
        self.follow.applied_since_ack = 0;
        self.follow.room_told = self.follow.room;
        self.counters.acks_sent += 1;
        Some(used)
    }
}

/// How many records and how many deletes a datagram has.
fn survey(bytes: &[u8]) -> Result<(u32, u32), Malformed> {
    let (mut records, mut deletes) = (0, 0);
    for run in wholes(bytes) {
        let run = run.ok_or(Malformed)?;
        let count = u32::from(run.count);
        records += if run.kind < kinds::FIRST_OTHER { count } else { 0 };
        deletes += if run.kind == kinds::DELETE { count } else { 0 };
        if records > MAX_RECORDS {
            return Err(Malformed);
        }
    }
    Ok((records, deletes))
}
