//! The active node's side of acks, and the turn of both: outcomes, timers, status.

use super::message::{Have, Nak, kind};
use super::phase::Phase;
use super::{Refused, Role, Sink, Source, Status, Stream};
use crate::datagram::{Ack, Malformed};
use crate::ids::Micros;
use crate::membership::Mirror;
use crate::record::Runs;

/// How soon a call is due while there is something that cannot go on at once.
const SOON: Micros = Micros(200);

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
        if ack.cumulative.0 >= self.lead.flight.next_seq() {
            return Err(Malformed);
        }
        let mut runs = Runs::new(ack.runs);
        let have = runs.next().filter(|run| run.kind == kind::HAVE).and_then(|run| Have::read(run.body));
        let have = have.ok_or(Malformed)?;
        if have.term != self.term {
            return Ok(());
        }
        // What was refused must be known before its datagram is forgotten.
        for run in runs.clone().filter(|run| run.kind == kind::NAK) {
            if let Some((low, index, reason)) = Nak::read(run.body) {
                self.nak(low, index, reason);
            }
        }
        self.lead.flight.acknowledge(&ack, now);
        self.lead.flight.encourage();
        self.detect_losses(now);
        let _ = (source, sink);
        Ok(())
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
            Role::Following => self.follow.look_at_room(sink.room(), now),
            Role::Resting => {}
        }
    }

    fn turn_leading(&mut self, now: Micros, source: &mut impl Source) {
        let lost = source.ends_lost();
        if lost != self.lead.ends_lost {
            self.lead.ends_lost = lost;
            self.prove_again(now);
        }
        if !self.connected() {
            self.absorb(source);
            return;
        }
        if now >= self.lead.flight.deadline() {
            self.counters.timeouts += 1;
            self.lead.flight.time_out();
            self.lose_everything();
        }
        self.detect_losses(now);
        if self.lead.phase == Phase::Verify && self.waits() == 0 {
            self.lead.phase = Phase::Proven;
            self.show(Mirror::Complete);
        }
        let waits = self.waits() > 0;
        self.lead.waiting_since = waits.then(|| self.lead.waiting_since.unwrap_or(now));
    }

    /// When `turn` and `transmit` must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        match self.role {
            Role::Resting => Micros::NEVER,
            Role::Following if self.follow.hurry => Micros(0),
            Role::Following => self.follow.ack_deadline(),
            Role::Leading if self.lead.hurry => Micros(0),
            Role::Leading => self.lead.flight.deadline(),
        }
    }

    /// The stream as it stands.
    #[must_use]
    pub fn status(&self, now: Micros) -> Status {
        let flight = &self.lead.flight;
        let leading = self.role == Role::Leading;
        let refused: [u32; Refused::COUNT] = self.lead.refusals;
        let dirty = if leading { self.waits() + self.lead.unknown.len() } else { 0 };
        let in_flight = flight.sessions() + flight.deletes();
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
            counters: self.counters,
        }
    }
}

const _: Micros = SOON;
