//! The active node's side of acks, and the turn of both: outcomes, timers, status.

use super::message::{Have, Nak, kind, read_handles, read_mentioned, read_verdicts, read_want};
use super::transmit::ignore;
use super::{Refused, Role, Sink, Source, Status, Stream};
use crate::datagram::{Ack, Malformed};
use crate::ids::Micros;
use crate::record::{Record, Run, Runs, Shared, kinds};

/// How long changes may wait without a pause before the mirror is no longer called proven. A single one
/// that a busy owner or a full window holds back for a turn is nothing: a handover waits for it.
const LATE: Micros = Micros::from_millis(50);

impl Stream {
    /// Takes in the body of an ack.
    ///
    /// # Errors
    /// [`Malformed`] if it says nothing that a partner of any release would say; nothing was changed.
    pub fn ack(
        &mut self,
        now: Micros,
        body: &[u8],
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Result<(), Malformed> {
        let ack = Ack::read(body)?;
        if self.role != Role::Leading {
            return Ok(());
        }
        let mut runs = Runs::new(ack.runs);
        let have = runs.next().filter(|run| run.kind == kind::HAVE).and_then(|run| Have::read(run.body));
        let have = have.ok_or(Malformed)?;
        // What is said of another term may be of a sequence that this process knows nothing of.
        if have.term != self.term {
            return Ok(());
        }
        if ack.cumulative.0 >= self.lead.flight.next_seq() {
            return Err(Malformed);
        }
        // What was refused must be known before its datagram is forgotten.
        for run in runs.clone().filter(|run| run.kind == kind::NAK) {
            if let Some(nak) = Nak::read(run.body) {
                self.nak(&nak);
            }
        }
        self.lead.flight.acknowledge(&ack, have.received, now);
        self.lead.flight.encourage();
        self.detect_losses(now);
        self.standby_has(&have, ack.cumulative.0, now);
        for run in runs {
            self.answer(run, sink, now);
        }
        self.take_outcomes(now, source, sink);
        Ok(())
    }

    /// What the standby says beside acks.
    fn answer(&mut self, run: Run<'_>, sink: &mut impl Sink, now: Micros) {
        match run.kind {
            kind::VERDICTS => {
                if let Some((token, level, verdicts)) = read_verdicts(run.body) {
                    self.verdicts(token, level, verdicts);
                }
            }
            kinds::MENTION => {
                if let Some(Record::Mention(mention)) = Record::decode(run, &Shared::default()) {
                    self.mention(&mention, sink);
                }
            }
            kind::MENTIONED => {
                if let Some((token, buckets)) = read_mentioned(run.body) {
                    self.mentioned(token, buckets);
                }
            }
            kind::WANT => self.wanted(read_want(run.body)),
            kind::OFFER => self.named_offer(read_handles(run.body).next()),
            kinds::TCP | kinds::FLOW => {
                if let Some(Record::Session(session)) = Record::decode(run, &Shared::default()) {
                    self.offered(&session, sink);
                }
            }
            kind::ALL_OFFERED => self.all_offered(now),
            kind::NAK => {}
            _ => self.counters.skipped += 1,
        }
    }

    fn detect_losses(&mut self, now: Micros) {
        let mut any = false;
        while let Some(lost) = self.lead.flight.next_lost(now) {
            self.lose(&lost);
            any = true;
        }
        if any {
            self.lead.flight.forget_lost();
        }
    }

    /// Outcomes, timers and a bounded share of slow work.
    pub fn turn(&mut self, now: Micros, source: &mut impl Source, sink: &mut impl Sink) {
        self.follow.hurry = false;
        self.take_outcomes(now, source, sink);
        match self.role {
            Role::Leading => self.turn_leading(now, source),
            Role::Following => {
                self.follow.look_at_room(sink.room(), now);
                self.scrub_following(now, sink);
                self.walk_mentions(sink);
                self.turn_offering(now, source);
                ignore(source);
            }
            Role::Resting => ignore(source),
        }
    }

    fn turn_leading(&mut self, now: Micros, source: &mut impl Source) {
        self.lead.source_waits = source.waiting();
        self.look_at_lost_ends(source, now);
        let merging = self.turn_merging(now, source);
        if !self.connected() {
            self.absorb(source);
            return;
        }
        if now >= self.lead.flight.deadline() {
            self.counters.timeouts += 1;
            self.lead.flight.time_out(now);
            while let Some(lost) = self.lead.flight.next_timed_out() {
                self.lose(&lost);
            }
            self.lead.flight.forget_lost();
        }
        self.detect_losses(now);
        if merging {
            return;
        }
        self.retry_refused(now);
        self.scrub_leading(now, source);
        self.advance(now);
        let waits = self.waits() > 0;
        self.lead.waiting_since = waits.then(|| self.lead.waiting_since.unwrap_or(now));
        self.lead.late = self.lead.waiting_since.is_some_and(|at| now.since(at) >= LATE);
    }

    /// When `turn` and `transmit` must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        match self.role {
            Role::Resting => Micros::NEVER,
            Role::Following if self.follow.hurry => Micros(0),
            Role::Following => {
                self.follow.ack_deadline().min(self.scrub.deadline()).min(self.offer_deadline())
            }
            Role::Leading if self.lead.hurry => Micros(0),
            Role::Leading if !self.connected() => Micros::NEVER,
            Role::Leading if self.is_merging() => self.merging_deadline(),
            Role::Leading => {
                let own = self.lead.flight.wakes_at().min(self.scrub.deadline());
                let round = if self.lead.verify.is_idle() { self.lead.verify.next_at } else { Micros::NEVER };
                let paced = self.paced_until();
                own.min(round).min(paced).min(self.verify_deadline()).min(self.mend_deadline())
            }
        }
    }

    /// When what waits for its share of a rate may go on.
    fn paced_until(&self) -> Micros {
        if self.waits() == 0 && self.walked().is_none() || !self.lead.flight.may_send() {
            return Micros::NEVER;
        }
        let only_lost = self.waits() == self.lead.lost.len() && self.walked().is_none();
        let resync = u64::from(if only_lost { self.config.resync_rate } else { 0 });
        let resync = self.lead.resync_credit.deadline(resync);
        resync.max(self.lead.byte_credit.deadline(self.config.byte_rate))
    }

    /// The stream as it stands.
    #[must_use]
    pub fn status(&self, now: Micros) -> Status {
        let flight = &self.lead.flight;
        let leading = self.role == Role::Leading;
        let refused = if leading { self.lead.refusals } else { [0; Refused::COUNT] };
        let dirty = self.waits() + self.lead.unknown.len() + self.lead.source_waits;
        let dirty = if leading { dirty } else { 0 };
        let in_flight = if leading { flight.sessions() + flight.deletes() } else { 0 };
        let oldest = [flight.oldest(), self.lead.waiting_since].into_iter().flatten().min();
        Status {
            lag_ms: oldest.filter(|_| leading).map_or(0, |at| now.since(at).as_millis()),
            dirty,
            in_flight,
            refused,
            unprotected: dirty + in_flight + refused.iter().sum::<u32>(),
            bulk: self.walked().filter(|_| leading).map(|at| (at, self.table.handles())),
            tombstones: self.follow.tombstones.len() as u32,
            round_trip: flight.round_trip(),
            byte_rate: self.config.byte_rate,
            counters: self.counters,
        }
    }
}
