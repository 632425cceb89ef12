//! Everything but an ordinary segment of an established connection.

use super::super::{Dir, Verdict, Why};
use super::window::{Misfit, View, after};
use super::{Control, Segment, TcpConn, TcpState, conn_flags, relaxed, rst, syn};

#[cold]
#[inline(never)]
pub(super) fn track(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    if conn.is_taken_over() {
        return relaxed::track(conn, dir, seg);
    }
    match seg.control() {
        Control::Syn => syn::on_syn(conn, dir, seg),
        Control::SynAck => syn::on_syn_ack(conn, dir, seg),
        Control::Rst => rst::on_rst(conn, dir, seg),
        Control::Ack => on_ack(conn, dir, seg, false),
        Control::Fin => on_ack(conn, dir, seg, true),
        Control::Malformed(why) => Verdict::Invalid(why),
    }
}

fn on_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment, is_fin: bool) -> Verdict {
    match conn.state {
        TcpState::SynSent => return before_syn_ack(conn, dir, seg, is_fin),
        TcpState::Closed => return after_close(conn, dir, seg),
        _ => {}
    }
    let awaits_ack = !conn.has(conn_flags::SYN_ACKED, dir.other());
    if awaits_ack && !conn.acks_syn(dir, seg.fields.ack) {
        return Verdict::Invalid(Why::HandshakeAck);
    }
    let view = conn.view(dir);
    let Some(mut learned) = view.fits(&seg.fields) else {
        return match view.misfit(&seg.fields) {
            Misfit::Pass(why) => Verdict::PassUnlearned(why),
            Misfit::Refuse(why) => Verdict::Invalid(why),
        };
    };
    let before = conn.told_state();
    match tail(conn, dir, seg, is_fin) {
        Ok(Tail::Fin(end)) => {
            learned.end = end;
            conn.set(conn_flags::FIN, dir);
        }
        Ok(Tail::Data(_)) => {}
        Err(why) => return Verdict::Invalid(why),
    }
    conn.learn(dir, &learned);
    moved_on(conn, dir, &view);
    conn.set(conn_flags::SYN_ACKED, dir.other());
    if conn.has(conn_flags::FIN, dir.other()) && learned.ack == view.peer_end {
        conn.set(conn_flags::FIN_ACKED, dir.other());
    }
    conn.settle();
    Verdict::Accept { changed: learned.is_far || before != conn.told_state() }
}

/// What a segment is the end of.
pub(super) enum Tail {
    /// This half's FIN, and the number behind it.
    Fin(u32),
    /// No more than data: the highest number sent so far.
    Data(u32),
}

/// Checks a segment that fits its half's window against that half's FIN, or takes it as that.
pub(super) fn tail(conn: &TcpConn, dir: Dir, seg: &Segment, is_fin: bool) -> Result<Tail, Why> {
    let end = conn.half(dir).end;
    let payload_end = seg.payload_end();
    let fin_end = payload_end.wrapping_add(1);
    if conn.has(conn_flags::FIN, dir) {
        if after(payload_end, end) {
            return Err(Why::DataAfterFin);
        }
        if is_fin && fin_end != end {
            return Err(Why::FinMoved);
        }
    } else if is_fin {
        // Nothing that was sent may lie behind the FIN. An ACK sent after it and seen before it has moved
        // `end` over it already.
        return if after(end, fin_end) { Err(Why::FinMoved) } else { Ok(Tail::Fin(fin_end)) };
    }
    Ok(Tail::Data(if after(payload_end, end) { payload_end } else { end }))
}

/// A segment of the connection was taken, `view` is what was known before: it is no longer idle if that
/// moved its numbers, and its initiator has not begun anew.
pub(super) fn moved_on(conn: &mut TcpConn, dir: Dir, view: &View) {
    let half = conn.half(dir);
    if conn.flags & conn_flags::IDLE != 0 && (half.end, half.ack) != (view.end, view.ack) {
        conn.flags &= !conn_flags::IDLE;
    }
    if dir == Dir::Initiator && conn.flags & conn_flags::MARKED != 0 {
        // It goes on with the old connection: the SYN was an old duplicate or not its own.
        conn.unmark();
    }
}

/// The responder still has an older connection and challenges the new SYN; the initiator will answer
/// with a RST at exactly this number.
fn before_syn_ack(conn: &mut TcpConn, dir: Dir, seg: &Segment, is_fin: bool) -> Verdict {
    if dir == Dir::Initiator || is_fin || seg.fields.payload_len > 0 {
        return Verdict::Invalid(Why::BeforeSynAck);
    }
    conn.mark = seg.fields.ack;
    conn.flags |= conn_flags::MARKED;
    Verdict::PassUnlearned(Why::ChallengeAck)
}

/// Stragglers, and what provokes the RST again if it was lost behind us.
fn after_close(conn: &TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let view = conn.view(dir);
    if view.fits(&seg.fields).is_some() {
        return Verdict::PassUnlearned(Why::AfterClose);
    }
    match view.misfit(&seg.fields) {
        Misfit::Pass(_) => Verdict::PassUnlearned(Why::AfterClose),
        Misfit::Refuse(why) => Verdict::Invalid(why),
    }
}

impl TcpConn {
    /// Enters the state that the flags describe.
    pub(super) fn settle(&mut self) {
        let flags = self.believed();
        let both = |flag: u16| flags & (flag | flag << 1) == flag | flag << 1;
        let any = |flag: u16| flags & (flag | flag << 1) != 0;
        self.state = if !both(conn_flags::SYN_ACKED) {
            self.state
        } else if both(conn_flags::FIN_ACKED) {
            TcpState::TimeWait
        } else if both(conn_flags::FIN) {
            if any(conn_flags::FIN_ACKED) { TcpState::LastAck } else { TcpState::Closing }
        } else if any(conn_flags::FIN) {
            TcpState::FinWait
        } else {
            TcpState::Established
        };
    }
}
