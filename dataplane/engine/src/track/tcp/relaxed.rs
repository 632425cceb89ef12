//! A connection that was taken over in the middle: its windows are learned again (decisions 39 and 40).
//!
//! The other node's snapshot of a moving connection lags behind it. So a half's numbers are at first only
//! *unknown within bounds*: a segment must lie in a plausible distance of the snapshot. The first one makes
//! a candidate, and the candidate becomes the window when an ACK from the other end falls inside it. A
//! candidate never refuses anything, or one forged segment would own the window; and each segment replaces
//! it, so that a forged one does not stand in the way of what follows.
//!
//! ```text
//!              segment of this half           the other end's ACK lies in the candidate's window
//!   unknown ─────────────────────► provisional ──────────────────────────────────────────────► learned
//!   exact   ───────────────────────────────────────────────────────────────────────────────► learned
//! ```
//!
//! While a half is unknown or provisional, `end` stays the snapshot's and `max_end` holds the candidate.
//! The two halves are independent: one that is learned is checked strictly whatever the other one is.
//!
//! How far ahead the connection may be: the sender of records tells of it again when it has moved 2^28 bytes,
//! so the snapshot is at most so much older, and half as much again for what the record took to get here.

use super::super::{Dir, Verdict, Why};
use super::slow::{self, Tail};
use super::window::{Misfit, TOLD_EVERY, View, after, within};
use super::{Control, Known, Segment, TcpConn, TcpState, conn_flags, rst, syn};
use wire::tcp_flags;

/// How far a connection can be ahead of its snapshot, its windows apart.
const AHEAD: u32 = TOLD_EVERY + TOLD_EVERY / 2;
/// No bound reaches further.
const AHEAD_MAX: u32 = 1 << 30;

impl TcpConn {
    /// True until both halves are known again.
    pub(super) fn is_taken_over(&self) -> bool {
        self.known != [Known::Learned; 2]
            && !matches!(self.state, TcpState::Closed | TcpState::TimeWait)
            && !self.state.is_half_open()
    }

    pub(super) fn known(&self, dir: Dir) -> Known {
        self.known[dir.index()]
    }
}

pub(super) fn track(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    match seg.control() {
        // Only marked: a challenge ACK or a SYN-ACK decides.
        Control::Syn => syn::on_syn(conn, dir, seg),
        Control::SynAck => syn::on_syn_ack(conn, dir, seg),
        Control::Rst => on_rst(conn, dir, seg),
        Control::Ack => on_ack(conn, dir, seg, false),
        Control::Fin => on_ack(conn, dir, seg, true),
        Control::Malformed(why) => Verdict::Invalid(why),
    }
}

/// A RST is verified by what the other end acknowledged last since the takeover, or by the sender's own
/// numbers where these are known. Everything else is held back: the caller asks its claimed sender.
fn on_rst(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let seq = seg.fields.seq;
    let by_ack = conn.known(dir.other()) != Known::Unknown && seq == conn.half(dir.other()).ack;
    let by_end = !conn.known(dir).is_relaxed() && seq == conn.half(dir).end;
    if by_ack || by_end {
        return rst::close(conn);
    }
    let acks = seg.fields.flags & tcp_flags::ACK != 0;
    // From a host that knows nothing of a connection (RFC 9293 §3.10.7.1): at number 0.
    if dir == Dir::Responder && acks && seq == 0 && conn.answers_mark(seg) {
        return Verdict::PassUnlearned(Why::RstForSyn);
    }
    Verdict::Invalid(Why::RstUnverified)
}

fn on_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment, is_fin: bool) -> Verdict {
    let view = conn.view(dir);
    let (own, peer) = (conn.known(dir), conn.known(dir.other()));
    let payload_end = seg.payload_end();
    let seq = if own.is_relaxed() {
        plausible(payload_end, view.end, view.peer_window)
    } else {
        view.judge_seq(&seg.fields)
    };
    let ack = if peer.is_relaxed() {
        plausible(seg.fields.ack, view.peer_end, view.own_window())
    } else {
        view.judge_ack(&seg.fields)
    };
    match (seq, ack) {
        (Err(Misfit::Refuse(why)), _) | (_, Err(Misfit::Refuse(why))) => return Verdict::Invalid(why),
        (Err(Misfit::Pass(why)), _) | (_, Err(Misfit::Pass(why))) => return Verdict::PassUnlearned(why),
        (Ok(()), Ok(())) => {}
    }
    let before = conn.told_state();
    let window = u32::from(seg.fields.window) << (view.scale & 15);
    if own.is_relaxed() {
        // The flag belongs to the candidate: no FIN is believed before its place is.
        conn.flags &= !(conn_flags::FIN << dir as u16);
        conn.flags |= u16::from(is_fin) * (conn_flags::FIN << dir as u16);
        conn.half_mut(dir).max_end = payload_end.wrapping_add(is_fin.into());
        conn.known[dir.index()] = Known::Provisional;
    } else {
        match slow::tail(conn, dir, seg, is_fin) {
            Ok(Tail::Fin(end)) => {
                conn.half_mut(dir).end = end;
                conn.set(conn_flags::FIN, dir);
            }
            Ok(Tail::Data(end)) => conn.half_mut(dir).end = end,
            Err(why) => return Verdict::Invalid(why),
        }
        conn.known[dir.index()] = Known::Learned;
    }
    let sender = conn.half_mut(dir);
    sender.max_window = sender.max_window.max(seg.fields.window);
    if peer.is_relaxed() || own == Known::Unknown || after(seg.fields.ack, sender.ack) {
        sender.ack = seg.fields.ack;
    }
    conn.take_ack(dir, seg.fields.ack, window, &view, peer);
    slow::moved_on(conn, dir, &view);
    conn.settle();
    Verdict::Accept { changed: before != conn.told_state() }
}

impl TcpConn {
    /// What an ACK from `dir` says of the other half.
    fn take_ack(&mut self, dir: Dir, ack: u32, window: u32, view: &View, peer: Known) {
        let own_window = self.half(dir).window_bytes();
        let ends = self.has(conn_flags::FIN, dir.other());
        let other = self.half_mut(dir.other());
        let reach = ack.wrapping_add(window);
        if peer == Known::Provisional {
            // A keep-alive stands one number before what the other end expects. A FIN is confirmed by its own
            // acknowledgement only.
            let low = if ends { other.max_end } else { other.max_end.wrapping_sub(own_window) };
            let high = other.max_end.wrapping_add((!ends).into());
            if !within(ack, low, high) {
                return;
            }
            let candidate = if after(ack, other.max_end) { ack } else { other.max_end };
            if ends {
                self.set(conn_flags::FIN_ACKED, dir.other());
            }
            let other = self.half_mut(dir.other());
            other.end = candidate;
            other.max_end = if after(reach, candidate) { reach } else { candidate };
            self.known[dir.other().index()] = Known::Learned;
        } else if !peer.is_relaxed() {
            if after(reach, other.max_end) {
                other.max_end = reach;
            }
            if self.has(conn_flags::FIN, dir.other()) && ack == view.peer_end {
                self.set(conn_flags::FIN_ACKED, dir.other());
            }
        }
    }
}

/// True if a number can belong to a connection that stood at `known` when it was last told of.
fn plausible(number: u32, known: u32, window: u32) -> Result<(), Misfit> {
    let ahead = AHEAD.saturating_add(window.saturating_mul(4)).min(AHEAD_MAX);
    let low = known.wrapping_sub(super::window::backward(window));
    if within(number, low, known.wrapping_add(ahead)) {
        Ok(())
    } else {
        Err(Misfit::Refuse(Why::Implausible))
    }
}
