//! What was sent and not acknowledged: as names, never as bytes (design §5).
//!
//! A datagram is remembered by the handles whose sessions it carried and the deletes in it. When it is
//! acknowledged the names are dropped; when it is lost the stream marks them and sends the sessions as
//! they are then. How many datagrams may be under way follows the acks, as in TCP: doubled while all goes
//! well, cut once a round trip when something is lost, and down to a probe when nothing is heard.
//!
//! An ack may say that datagrams arrived before their owners are done with them. They are not lost, and no
//! timer sends them again; but the ack that says more, or that there is room again, may be lost. So when
//! nothing was said or heard for a timeout, the partner is *asked* with an empty datagram, which it takes and
//! acknowledges like any other: TCP's tail loss probe (RFC 8985, section 7) and its probe of a window of zero
//! (RFC 9293, section 3.8.6.1) in one.

use std::collections::VecDeque;
use std::ops::Range;

use crate::datagram::Ack;
use crate::ids::{Micros, Seq, SessionHandle};
use crate::record::Delete;

/// Datagrams from the oldest outstanding one to the newest.
pub(super) const MAX_SPAN: usize = 1_024;
/// Sessions in them.
pub(super) const MAX_SESSIONS: usize = 1 << 16;
/// Deletes in them.
pub(super) const MAX_DELETES: usize = 1 << 14;
/// Questions are not put off any further after so many in vain: they cost little.
const MOST_PATIENT: u32 = 4;
/// Questions beside them.
const MAX_QUESTIONS: usize = 64;
const FIRST_WINDOW: u32 = 64;
const LEAST_WINDOW: u32 = 16;
/// Records that are tried even if there seems to be no room at all.
const LEAST_RECORDS: u32 = 8;
/// A datagram is given up if one that was sent so many later has arrived.
const REORDERED: u64 = 16;
const FIRST_TIMEOUT: Micros = Micros::from_millis(100);
const LEAST_TIMEOUT: Micros = Micros::from_millis(20);
/// Longer than any round trip that is reckoned with: before it is measured, the first answer must have come.
const LONGEST_TIMEOUT: Micros = Micros::from_secs(5);
/// How long an owner may take for what arrived, beside a round trip.
const STUCK: Micros = Micros::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    UnderWay,
    Acked,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Micros,
    fate: Fate,
    sessions: u16,
    deletes: u16,
    sessions_at: u64,
    deletes_at: u64,
}

/// A datagram that was given up.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub seq: u64,
    sessions: Range<u64>,
    deletes: Range<u64>,
}

/// The datagrams of one stream that are not yet settled.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The number of `sent[0]`.
    front: u64,
    sent: VecDeque<Sent>,
    sessions: VecDeque<u32>,
    sessions_at: u64,
    deletes: VecDeque<Delete>,
    deletes_at: u64,
    under_way: u32,
    sessions_under_way: u32,
    deletes_under_way: u32,
    /// The highest number that was acknowledged.
    acked: u64,
    /// Everything up to here arrived: what is not acknowledged waits for its owner.
    received: u64,
    /// What the partner's fullest ring takes.
    room: u32,
    window: u32,
    slow_start: u32,
    grown: u32,
    /// Losses below this number were answered by the last cut.
    cut_until: u64,
    /// Smoothed, and how far samples are from it.
    rtt: Option<(u64, u64)>,
    /// The next sample is of this datagram or a later one: one a round trip, so that a stall counts once.
    sampled_until: u64,
    ack_delay: Micros,
    /// Timeouts since something was acknowledged.
    backoff: u32,
    /// Questions since an owner was heard to have done something.
    asked: u32,
    /// Nothing was heard for a whole timeout: one datagram at a time.
    probing: bool,
    /// When something was acknowledged last.
    progress_at: Micros,
    /// When the oldest datagram was settled last.
    front_at: Micros,
    /// What the open datagram has so far.
    open: (u16, u16),
}

impl Flight {
    pub fn new(ack_delay: Micros) -> Self {
        Self {
            front: 1,
            sent: VecDeque::with_capacity(MAX_SPAN + MAX_QUESTIONS),
            sessions: VecDeque::with_capacity(MAX_SESSIONS),
            sessions_at: 0,
            deletes: VecDeque::new(),
            deletes_at: 0,
            under_way: 0,
            sessions_under_way: 0,
            deletes_under_way: 0,
            acked: 0,
            received: 0,
            room: 256,
            window: FIRST_WINDOW,
            slow_start: u32::MAX,
            grown: 0,
            cut_until: 0,
            rtt: None,
            sampled_until: 0,
            ack_delay,
            backoff: 0,
            asked: 0,
            probing: false,
            progress_at: Micros(0),
            front_at: Micros(0),
            open: (0, 0),
        }
    }

    /// The number that the next datagram gets.
    pub fn next_seq(&self) -> u64 {
        self.front + self.sent.len() as u64
    }

    /// The lowest number that is still outstanding, or the next one.
    pub const fn floor(&self) -> u64 {
        self.front
    }

    pub const fn sessions(&self) -> u32 {
        self.sessions_under_way
    }

    pub const fn deletes(&self) -> u32 {
        self.deletes_under_way
    }

    /// Smoothed round trip, until an ack of everything may have come.
    pub fn round_trip(&self) -> Micros {
        self.rtt.map_or(FIRST_TIMEOUT, |(smooth, _)| Micros(smooth))
    }

    /// When the oldest datagram under way was sent.
    pub fn oldest(&self) -> Option<Micros> {
        self.sent.front().map(|sent| sent.at)
    }

    /// After how long without an ack everything under way is lost.
    pub fn timeout(&self) -> Micros {
        self.timeout_after(self.backoff)
    }

    fn timeout_after(&self, silences: u32) -> Micros {
        let base = self.rtt.map_or(FIRST_TIMEOUT, |(smooth, spread)| {
            Micros(smooth + 4 * spread).after(self.ack_delay).max(LEAST_TIMEOUT)
        });
        Micros(base.0 << silences.min(8)).min(LONGEST_TIMEOUT)
    }

    /// Records that a datagram may have so that the partner's fullest ring can take it: never none.
    pub fn allowance(&self) -> u32 {
        let under_way = self.sessions_under_way + self.deletes_under_way;
        self.room.saturating_sub(under_way).max(LEAST_RECORDS)
    }

    /// Whether a datagram may be sent now.
    pub fn may_send(&self) -> bool {
        if self.under_way == 0 {
            return true;
        }
        let full = self.sent.len() >= MAX_SPAN
            || self.sessions.len() + usize::from(u8::MAX) > MAX_SESSIONS
            || self.deletes.len() + usize::from(u16::MAX >> 4) > MAX_DELETES;
        let records = self.sessions_under_way + self.deletes_under_way;
        let waits = if self.probing {
            // What arrived waits for its owner and is no reason to wait.
            self.unseen().next().is_some()
        } else {
            self.under_way >= self.window || records >= self.room
        };
        !full && !waits
    }

    /// Under way, and not known to have arrived.
    fn unseen(&self) -> impl Iterator<Item = &Sent> {
        let seen = (self.received + 1).saturating_sub(self.front) as usize;
        self.sent.range(seen.min(self.sent.len())..).filter(|sent| sent.fate == Fate::UnderWay)
    }

    /// Names a session that is in the datagram under construction.
    pub fn push_session(&mut self, handle: SessionHandle) {
        self.sessions.push_back(handle.0);
        self.open.0 += 1;
    }

    /// Names a delete that is in the datagram under construction.
    pub fn push_delete(&mut self, delete: Delete) {
        self.deletes.push_back(delete);
        self.open.1 += 1;
    }

    /// Sessions in the datagram under construction.
    pub const fn open_sessions(&self) -> u16 {
        self.open.0
    }

    /// The datagram under construction goes out.
    pub fn commit(&mut self, now: Micros) {
        let (sessions, deletes) = std::mem::take(&mut self.open);
        if self.under_way == 0 {
            self.asked = 0;
        } else if now >= self.ask_at() {
            self.asked += 1;
        }
        self.sent.push_back(Sent {
            at: now,
            fate: Fate::UnderWay,
            sessions,
            deletes,
            sessions_at: self.sessions_at + self.sessions.len() as u64 - u64::from(sessions),
            deletes_at: self.deletes_at + self.deletes.len() as u64 - u64::from(deletes),
        });
        self.under_way += 1;
        self.sessions_under_way += u32::from(sessions);
        self.deletes_under_way += u32::from(deletes);
    }

    /// The session at a place in a datagram, as long as it is remembered.
    pub fn session_at(&self, low: u16, index: u8) -> Option<(u64, SessionHandle)> {
        let ahead = low.wrapping_sub(self.front as u16);
        let sent = self.sent.get(usize::from(ahead))?;
        if u16::from(index) >= sent.sessions {
            return None;
        }
        let at = sent.sessions_at + u64::from(index) - self.sessions_at;
        let handle = self.sessions.get(usize::try_from(at).ok()?)?;
        Some((self.front + u64::from(ahead), SessionHandle(*handle)))
    }

    /// Takes an ack in, which covers nothing that was never sent; with it came how far datagrams arrived.
    pub fn acknowledge(&mut self, ack: &Ack<'_>, received: u64, now: Micros) {
        self.room = ack.window;
        self.received = self.received.max(received.min(self.next_seq() - 1));
        let reach = ack.cumulative.0 + 8 * ack.bitmap.len() as u64;
        let mut settled = 0;
        let mut newest = None;
        for (seq, sent) in (self.front..=reach).zip(self.sent.iter_mut()) {
            if sent.fate != Fate::UnderWay || !ack.covers(Seq(seq)) {
                continue;
            }
            sent.fate = Fate::Acked;
            settled += 1;
            self.under_way -= 1;
            self.sessions_under_way -= u32::from(sent.sessions);
            self.deletes_under_way -= u32::from(sent.deletes);
            if sent.sessions + sent.deletes > 0 {
                self.asked = 0;
            }
            newest = Some((seq, sent.at));
        }
        if let Some((seq, at)) = newest {
            self.acked = self.acked.max(seq);
            if seq >= self.sampled_until {
                self.sampled_until = self.next_seq();
                self.measure(now.since(at).0.min(LONGEST_TIMEOUT.0));
            }
            self.backoff = 0;
            self.progress_at = now;
            self.grow(settled);
        }
        let front = self.front;
        self.drop_settled();
        if self.front > front {
            self.front_at = now;
        }
    }

    /// A sign of life: what waits may be tried at once. How long an answer takes is another matter.
    pub const fn encourage(&mut self) {
        self.probing = false;
    }

    /// As in RFC 6298, but quick to believe that it is shorter: what a stall of this node or of an owner
    /// said of the path is soon forgotten.
    fn measure(&mut self, sample: u64) {
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2),
            Some((smooth, spread)) if sample < smooth => {
                let smooth = u64::midpoint(smooth, sample);
                (smooth, u64::midpoint(spread, smooth - sample))
            }
            Some((smooth, spread)) => ((7 * smooth + sample) / 8, (3 * spread + (sample - smooth)) / 4),
        });
    }

    fn grow(&mut self, settled: u32) {
        if self.window < self.slow_start {
            self.window += settled;
        } else {
            self.grown += settled;
            if self.grown >= self.window {
                self.grown -= self.window;
                self.window += 1;
            }
        }
        self.window = self.window.min(MAX_SPAN as u32);
    }

    fn drop_settled(&mut self) {
        while let Some(sent) = self.sent.front().filter(|sent| sent.fate != Fate::UnderWay) {
            let (sessions, deletes) = (usize::from(sent.sessions), usize::from(sent.deletes));
            self.sessions.drain(..sessions);
            self.deletes.drain(..deletes);
            self.sessions_at += sessions as u64;
            self.deletes_at += deletes as u64;
            self.sent.pop_front();
            self.front += 1;
        }
    }

    /// The oldest datagram that must be given up by now. The caller takes its names, then asks again and,
    /// when there is none left, calls [`Flight::forget_lost`].
    pub fn next_lost(&mut self, now: Micros) -> Option<Lost> {
        let (smooth, spread) = self.rtt.unwrap_or((FIRST_TIMEOUT.0, 0));
        let patience = Micros(smooth + (smooth / 4).max(spread).max(1_000));
        let overtaken = self.acked.saturating_sub(REORDERED);
        let at = (self.front..).zip(self.sent.iter()).take_while(|&(seq, _)| seq <= overtaken).position(
            |(seq, sent)| sent.fate == Fate::UnderWay && seq > self.received && now.since(sent.at) > patience,
        )?;
        let lost = self.give_up(at)?;
        if lost.seq >= self.cut_until {
            self.slow_start = (self.window * 7 / 10).max(LEAST_WINDOW);
            self.window = self.slow_start;
            self.cut_until = self.next_seq();
        }
        Some(lost)
    }

    /// When something is lost if no ack comes.
    pub fn deadline(&self) -> Micros {
        let oldest = self.sent.iter().find(|sent| sent.fate == Fate::UnderWay);
        let Some(oldest) = oldest else { return Micros::NEVER };
        // A slow owner acknowledges one by one: each gives the rest more time.
        let timer = |sent: &Sent| sent.at.max(self.progress_at).after(self.timeout());
        let unseen = self.unseen().next().map_or(Micros::NEVER, timer);
        if self.front > self.received { unseen } else { unseen.min(self.stuck_at(oldest)) }
    }

    /// When the partner is to be asked what became of what is under way, if nothing is said or heard.
    pub fn ask_at(&self) -> Micros {
        let Some(newest) = self.sent.back().filter(|_| self.under_way > 0) else { return Micros::NEVER };
        if self.sent.len() >= MAX_SPAN + MAX_QUESTIONS {
            return Micros::NEVER;
        }
        let silences = self.backoff.max(self.asked).min(MOST_PATIENT);
        newest.at.max(self.progress_at).after(self.timeout_after(silences))
    }

    /// When the sender is to look at it again, if nothing is said or heard.
    pub fn wakes_at(&self) -> Micros {
        self.deadline().min(self.ask_at())
    }

    fn stuck_at(&self, oldest: &Sent) -> Micros {
        oldest.at.max(self.front_at).after(STUCK).after(self.round_trip())
    }

    /// The timeout is over: what did not arrive will be lost, and only a probe may follow. If an owner is
    /// stuck, everything is lost.
    pub fn time_out(&mut self, now: Micros) {
        let oldest = self.sent.iter().find(|sent| sent.fate == Fate::UnderWay);
        if oldest.is_some_and(|sent| now >= self.stuck_at(sent)) {
            self.received = 0;
        }
        self.slow_start = (self.window / 2).max(LEAST_WINDOW);
        self.window = LEAST_WINDOW;
        self.backoff = (self.backoff + 1).min(8);
        self.probing = true;
        self.cut_until = self.next_seq();
    }

    /// Gives up the oldest datagram that did not arrive.
    pub fn next_timed_out(&mut self) -> Option<Lost> {
        let mut sent = (self.front..).zip(&self.sent);
        let at = sent.position(|(seq, sent)| sent.fate == Fate::UnderWay && seq > self.received)?;
        self.give_up(at)
    }

    /// Gives up the oldest datagram under way, whatever its age.
    pub fn next_under_way(&mut self) -> Option<Lost> {
        let at = self.sent.iter().position(|sent| sent.fate == Fate::UnderWay)?;
        self.give_up(at)
    }

    fn give_up(&mut self, at: usize) -> Option<Lost> {
        let sent = self.sent.get_mut(at)?;
        sent.fate = Fate::Lost;
        self.under_way -= 1;
        self.sessions_under_way -= u32::from(sent.sessions);
        self.deletes_under_way -= u32::from(sent.deletes);
        Some(Lost {
            seq: self.front + at as u64,
            sessions: sent.sessions_at..sent.sessions_at + u64::from(sent.sessions),
            deletes: sent.deletes_at..sent.deletes_at + u64::from(sent.deletes),
        })
    }

    /// The sessions of a lost datagram.
    pub fn sessions_of(&self, lost: &Lost) -> impl Iterator<Item = SessionHandle> + '_ {
        let first = lost.sessions.start - self.sessions_at;
        let last = lost.sessions.end - self.sessions_at;
        self.sessions.range(first as usize..last as usize).map(|&handle| SessionHandle(handle))
    }

    /// The deletes of a lost datagram.
    pub fn deletes_of(&self, lost: &Lost) -> impl Iterator<Item = &Delete> + '_ {
        let first = lost.deletes.start - self.deletes_at;
        let last = lost.deletes.end - self.deletes_at;
        self.deletes.range(first as usize..last as usize)
    }

    /// Drops the names of what was given up, and raises the floor.
    pub fn forget_lost(&mut self) {
        self.drop_settled();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(flight: &mut Flight, seq: u64, now: Micros) {
        let ack = Ack { cumulative: Seq(seq), window: 4_096, bitmap: &[], runs: &[] };
        flight.acknowledge(&ack, seq, now);
    }

    /// Each millisecond a datagram that is acknowledged at once.
    fn quick(flight: &mut Flight, datagrams: u64, mut now: Micros) -> Micros {
        for _ in 0..datagrams {
            flight.commit(now);
            acked(flight, flight.next_seq() - 1, now.after(Micros(300)));
            now = now.after(Micros(1_000));
        }
        now
    }

    #[test]
    fn a_stall_is_forgotten_within_some_round_trips() {
        let mut flight = Flight::new(Micros(500));
        let mut now = quick(&mut flight, 20, Micros(0));
        assert_eq!(flight.timeout(), LEAST_TIMEOUT);
        (0..16).for_each(|_| flight.commit(now));
        let first = flight.next_seq() - 16;
        now = now.after(Micros::from_secs(60));
        // This node was stopped, and finds all acks at once: that is one sample.
        (first..first + 16).for_each(|seq| acked(&mut flight, seq, now));
        assert!(flight.timeout() <= LONGEST_TIMEOUT);
        assert_eq!(flight.round_trip().as_millis(), 625);
        quick(&mut flight, 12, now);
        assert!(flight.timeout() <= Micros::from_millis(25), "{:?}", flight.timeout());
    }

    /// All acks are lost that would say what the owner did with the first datagram.
    #[test]
    fn what_an_owner_has_holds_nothing_up_after_a_timeout() {
        let mut flight = Flight::new(Micros(500));
        let now = quick(&mut flight, 20, Micros(0));
        let before = flight.next_seq() - 1;
        flight.push_session(SessionHandle(1));
        flight.commit(now);
        let arrived = Ack { cumulative: Seq(before), window: 1, bitmap: &[], runs: &[] };
        flight.acknowledge(&arrived, before + 1, now.after(Micros(300)));
        assert!(!flight.may_send(), "there is no room");
        flight.commit(flight.ask_at());
        let now = flight.deadline();
        flight.time_out(now);
        assert_eq!(flight.next_timed_out().map(|lost| lost.seq), Some(before + 2));
        assert!(flight.next_timed_out().is_none(), "the first one arrived");
        flight.forget_lost();
        assert!(flight.may_send());
        flight.commit(now);
        assert!(!flight.may_send(), "one at a time");
    }

    #[test]
    fn questions_are_bounded() {
        let mut flight = Flight::new(Micros(500));
        flight.push_session(SessionHandle(1));
        flight.commit(Micros(0));
        let (mut asked, mut last) = (0, Micros(0));
        while flight.ask_at() < Micros::NEVER {
            assert!(flight.ask_at() >= last.after(FIRST_TIMEOUT));
            last = flight.ask_at();
            flight.commit(last);
            asked += 1;
        }
        assert_eq!(asked + 1, MAX_SPAN + MAX_QUESTIONS);
    }

    #[test]
    fn a_round_trip_of_seconds_is_found_out() {
        let mut flight = Flight::new(Micros(500));
        let (mut now, mut sent) = (Micros(0), VecDeque::new());
        for _ in 0..64 {
            if flight.may_send() {
                sent.push_back((flight.next_seq(), now.after(Micros::from_secs(4))));
                flight.commit(now);
            }
            now = sent.front().map_or(flight.deadline(), |&(_, at)| flight.deadline().min(at));
            while let Some((seq, _)) = sent.pop_front_if(|(_, at)| *at <= now) {
                acked(&mut flight, seq, now);
                flight.encourage();
            }
            if now >= flight.deadline() {
                flight.time_out(now);
                while flight.next_timed_out().is_some() {}
                flight.forget_lost();
            }
        }
        assert_eq!(flight.round_trip(), Micros::from_secs(4));
    }
}
