//! SYN and SYN-ACK: opening, simultaneous opening, and both on a live session.
//!
//! A SYN on a live session passes and changes nothing but the mark (RFC 5961 §4): if the responder still
//! knows the connection it answers with a challenge ACK and the initiator's RST ends it; if it does not,
//! its SYN-ACK acknowledges the marked SYN and the session begins anew.

use super::super::{Dir, Verdict, Why};
use super::window::{after, within};
use super::{Half, Known, NO_SCALE, Segment, SynOptions, TcpConn, TcpState, conn_flags};

/// The largest scaled window that a SYN can announce; it is never scaled itself (RFC 7323 §2.2).
const SYN_WINDOW_MAX: u16 = u16::MAX;

/// A connection whose initiator has sent this SYN.
pub(super) fn open(seg: &Segment) -> TcpConn {
    let mut conn = TcpConn {
        state: TcpState::SynSent,
        flags: 0,
        halves: [Half::default(), Half::default()],
        mark: 0,
        mark_scale: NO_SCALE,
        known: [Known::Learned; 2],
    };
    conn.take_syn(Dir::Initiator, seg.fields.seq, seg.payload_end(), seg.fields.window, seg.options);
    conn
}

pub(super) fn on_syn(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let seq = seg.fields.seq;
    match (conn.state, dir) {
        (TcpState::Closed, _) => Verdict::Reopen,
        // RFC 9293 §3.10.7.4 and RFC 6191: a higher number cannot belong to the old incarnation.
        (TcpState::TimeWait, _) if after(seq, conn.half(dir).end) => Verdict::Reopen,
        (TcpState::SynSent, Dir::Initiator) => {
            conn.repeat_syn(seg);
            Verdict::Accept { changed: false }
        }
        (TcpState::SynSent, Dir::Responder) => {
            conn.meet_syn(seg);
            Verdict::Accept { changed: true }
        }
        (TcpState::SynReceived, Dir::Initiator) | (TcpState::SimultaneousOpen, _)
            if conn.is_repeat(dir, seq) =>
        {
            Verdict::Accept { changed: false }
        }
        (_, Dir::Initiator) => {
            conn.mark = seq;
            conn.mark_scale = seg.options.scale.map_or(NO_SCALE, |scale| scale.min(14));
            conn.flags |= conn_flags::MARKED;
            Verdict::PassUnlearned(Why::SynOnLive)
        }
        // Never marked: a connection the other way is another session, and policy has not seen it.
        (_, Dir::Responder) => Verdict::PassUnlearned(Why::SynOnLive),
    }
}

pub(super) fn on_syn_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    match (conn.state, dir) {
        (TcpState::SynSent, Dir::Responder) => {
            let initiator = conn.half(Dir::Initiator);
            if !within(seg.fields.ack, initiator.max_end, initiator.end) {
                return Verdict::Invalid(Why::SynAckMismatch);
            }
            conn.take_syn_ack(seg);
            Verdict::Accept { changed: true }
        }
        (TcpState::SynReceived, Dir::Responder) => repeated_syn_ack(conn, seg),
        (TcpState::SimultaneousOpen, _) => simultaneous_syn_ack(conn, dir, seg),
        (TcpState::SynSent | TcpState::SynReceived, Dir::Initiator) => {
            Verdict::Invalid(Why::SynAckUnexpected)
        }
        _ => live_syn_ack(conn, dir, seg),
    }
}

/// The first one was lost, or the responder has begun anew (its first answer forgotten): what counts is
/// that it acknowledges the SYN.
fn repeated_syn_ack(conn: &mut TcpConn, seg: &Segment) -> Verdict {
    let (initiator, responder) = (conn.half(Dir::Initiator), conn.half(Dir::Responder));
    if within(seg.fields.ack, responder.ack, initiator.end) {
        // `ack` of the initiator is the responder's first number until it has acknowledged it.
        if initiator.ack == seg.fields.seq {
            conn.repeat_syn_ack(seg);
        } else {
            conn.take_syn_ack(seg);
        }
        return Verdict::Accept { changed: false };
    }
    if conn.answers_mark(seg) {
        return conn.restart(seg);
    }
    Verdict::Invalid(Why::SynAckMismatch)
}

/// Both ends answer the other's SYN with a SYN-ACK that repeats their own (RFC 9293 §3.5).
fn simultaneous_syn_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let view = conn.view(dir);
    if !view.is_past(seg.payload_end().wrapping_add(1)) || !conn.acks_syn(dir, seg.fields.ack) {
        return Verdict::Invalid(Why::SynAckMismatch);
    }
    let before = conn.flags;
    conn.half_mut(dir).ack = seg.fields.ack;
    conn.widen(dir.other(), seg.fields.ack, u32::from(seg.fields.window));
    conn.set(conn_flags::SYN_ACKED, dir.other());
    conn.settle();
    Verdict::Accept { changed: conn.flags != before }
}

/// On a live session: an old one, the answer to a marked SYN, or nothing of ours.
fn live_syn_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let view = conn.view(dir);
    if view.is_past(seg.payload_end().wrapping_add(1)) && view.is_past_ack(seg.fields.ack) {
        let why = if conn.state == TcpState::Closed { Why::AfterClose } else { Why::OldDuplicate };
        return Verdict::PassUnlearned(why);
    }
    if dir == Dir::Responder && conn.answers_mark(seg) {
        return conn.restart(seg);
    }
    Verdict::Invalid(Why::SynAckUnexpected)
}

impl TcpConn {
    /// A half's SYN: its numbers begin here. `max_end` is the SYN alone until a window is known.
    fn take_syn(&mut self, dir: Dir, seq: u32, payload_end: u32, window: u16, options: SynOptions) {
        let scale = options.scale.unwrap_or(0).min(14);
        let half = self.half_mut(dir);
        half.max_end = seq.wrapping_add(1);
        half.end = payload_end.wrapping_add(1);
        half.scale = scale;
        half.max_window = in_units(window, scale);
        if options.scale.is_some() {
            self.set(conn_flags::SCALE, dir);
        }
        if options.sack {
            self.set(conn_flags::SACK, dir);
        }
    }

    /// Another SYN before any answer. With the same number nothing once offered is taken back (some
    /// stacks repeat their SYN without options, and the answer may be to the first); with a new one the
    /// initiator has begun anew.
    fn repeat_syn(&mut self, seg: &Segment) {
        let before = self.halves[0];
        if seg.fields.seq.wrapping_add(1) != before.max_end {
            let mark = (self.flags & conn_flags::MARKED, self.mark);
            *self = open(seg);
            // The challenge ACK that the old number provoked may still have to be answered.
            (self.flags, self.mark) = (self.flags | mark.0, mark.1);
            return;
        }
        let end = seg.payload_end().wrapping_add(1);
        if after(end, before.end) {
            self.halves[0].end = end;
        }
        let window = in_units(seg.fields.window, before.scale);
        self.halves[0].max_window = before.max_window.max(window);
    }

    /// The responder's SYN-ACK in answer to the initiator's SYN.
    fn take_syn_ack(&mut self, seg: &Segment) {
        let fields = &seg.fields;
        self.flags &= !((conn_flags::SCALE | conn_flags::SACK) << 1);
        self.take_syn(Dir::Responder, fields.seq, seg.payload_end(), fields.window, seg.options);
        self.settle_scales();
        self.halves[1].ack = fields.ack;
        self.halves[0].ack = fields.seq;
        // Neither SYN's window is scaled. The initiator's first ACK would lift this again.
        let offered = self.halves[0].window_bytes();
        self.widen(Dir::Responder, fields.seq.wrapping_add(1), offered);
        self.widen(Dir::Initiator, fields.ack, u32::from(fields.window));
        self.set(conn_flags::SYN_ACKED, Dir::Initiator);
        self.unmark();
        self.state = TcpState::SynReceived;
    }

    /// The same SYN-ACK again, perhaps with another window: the initiator may see either one.
    fn repeat_syn_ack(&mut self, seg: &Segment) {
        let fields = &seg.fields;
        let responder = &mut self.halves[1];
        let end = seg.payload_end().wrapping_add(1);
        if after(end, responder.end) {
            responder.end = end;
        }
        if after(fields.ack, responder.ack) {
            responder.ack = fields.ack;
        }
        responder.max_window = responder.max_window.max(in_units(fields.window, responder.scale));
        self.widen(Dir::Initiator, fields.ack, u32::from(fields.window));
    }

    /// The responder's own SYN crosses the initiator's.
    fn meet_syn(&mut self, seg: &Segment) {
        self.take_syn(Dir::Responder, seg.fields.seq, seg.payload_end(), seg.fields.window, seg.options);
        self.settle_scales();
        let (first, second) = (self.halves[0], self.halves[1]);
        self.halves[0].ack = second.max_end.wrapping_sub(1);
        self.halves[1].ack = first.max_end.wrapping_sub(1);
        self.widen(Dir::Initiator, first.max_end, second.window_bytes());
        self.widen(Dir::Responder, second.max_end, first.window_bytes());
        self.unmark();
        self.state = TcpState::SimultaneousOpen;
    }

    /// Scaling is in force only if both offered it (RFC 7323 §1.3).
    fn settle_scales(&mut self) {
        let both = conn_flags::SCALE | conn_flags::SCALE << 1;
        if self.flags & both != both {
            for half in &mut self.halves {
                half.max_window = half.window_bytes().min(u32::from(SYN_WINDOW_MAX)) as u16;
                half.scale = 0;
            }
        }
    }

    /// `dir` may send up to `ack + window`.
    fn widen(&mut self, dir: Dir, ack: u32, window: u32) {
        let reach = ack.wrapping_add(window);
        let half = self.half_mut(dir);
        if after(reach, half.max_end) {
            half.max_end = reach;
        }
    }

    /// True if this SYN is the one that `dir` already sent: the peer's `ack` is its number before it was
    /// acknowledged, its number + 1 after.
    fn is_repeat(&self, dir: Dir, seq: u32) -> bool {
        let ack = self.half(dir.other()).ack;
        let first = if self.has(conn_flags::SYN_ACKED, dir) { ack.wrapping_sub(1) } else { ack };
        seq == first
    }

    /// True if `ack` from `dir` acknowledges the other's SYN (or, when that was done before, moves no
    /// further than what it sent).
    pub(super) fn acks_syn(&self, dir: Dir, ack: u32) -> bool {
        let known = self.half(dir).ack;
        let low = if self.has(conn_flags::SYN_ACKED, dir.other()) { known } else { known.wrapping_add(1) };
        within(ack, low, self.half(dir.other()).end)
    }

    pub(super) fn answers_mark(&self, seg: &Segment) -> bool {
        self.flags & conn_flags::MARKED != 0 && seg.fields.ack == self.mark.wrapping_add(1)
    }

    /// The marked SYN's connection takes the place of this one. Its SYN's window was not kept: the
    /// largest one that a SYN can announce stands for it.
    fn restart(&mut self, seg: &Segment) -> Verdict {
        let scale = (self.mark_scale < NO_SCALE).then_some(self.mark_scale);
        let options = SynOptions { scale, sack: true };
        let mark = self.mark;
        self.flags = 0;
        self.known = [Known::Learned; 2];
        self.halves = [Half::default(), Half::default()];
        self.take_syn(Dir::Initiator, mark, mark, SYN_WINDOW_MAX, options);
        self.take_syn_ack(seg);
        Verdict::Restart
    }
}

/// A SYN's window in units of `scale`, rounded up.
fn in_units(window: u16, scale: u8) -> u16 {
    let unit = 1_u32 << (scale & 15);
    u32::from(window).div_ceil(unit) as u16
}
