//! RST: exact ones end the session, those in the window pass to the end host, others are forged
//! (RFC 9293 §3.10.7, RFC 5961 §3.2).
//!
//! The receiver's next expected number lies between its last ACK and the sender's `end`: it may have got
//! data that it has not acknowledged yet. Both ends of that range count as exact.

use super::super::{Dir, Verdict, Why};
use super::window::{PROBE, within};
use super::{Known, Segment, TcpConn, TcpState, conn_flags};
use wire::tcp_flags;

pub(super) fn on_rst(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    if conn.state == TcpState::SynSent {
        return on_rst_in_syn_sent(conn, dir, seg);
    }
    let seq = seg.fields.seq;
    let (sender, receiver) = (conn.half(dir), conn.half(dir.other()));
    let is_exact = seq == receiver.ack || seq == sender.end;
    let is_near = within(seq, receiver.ack, sender.max_end.wrapping_add(PROBE));
    let acks = seg.fields.flags & tcp_flags::ACK != 0;
    match conn.state {
        TcpState::Closed if is_exact || is_near => Verdict::PassUnlearned(Why::AfterClose),
        TcpState::Closed => Verdict::Invalid(Why::RstOutOfWindow),
        _ if is_exact => close(conn),
        // The responder forgot its SYN-ACK and refuses the repeated SYN, as in syn-sent.
        TcpState::SynReceived if dir == Dir::Responder && acks && seg.fields.ack == sender.ack => close(conn),
        _ if is_near => Verdict::PassUnlearned(Why::RstNotExact),
        _ if dir == Dir::Responder && acks && conn.answers_mark(seg) => {
            Verdict::PassUnlearned(Why::RstForSyn)
        }
        _ => Verdict::Invalid(Why::RstOutOfWindow),
    }
}

/// The responder must acknowledge the SYN. The initiator either takes its SYN back or answers the
/// challenge ACK that its new SYN provoked from an older connection.
fn on_rst_in_syn_sent(conn: &mut TcpConn, dir: Dir, seg: &Segment) -> Verdict {
    let initiator = conn.half(Dir::Initiator);
    let (first, end) = (initiator.max_end, initiator.end);
    match dir {
        Dir::Responder => {
            let acks = seg.fields.flags & tcp_flags::ACK != 0;
            if acks && within(seg.fields.ack, first, end) {
                close(conn)
            } else {
                Verdict::Invalid(Why::RstNotForSyn)
            }
        }
        Dir::Initiator if seg.fields.seq == first || seg.fields.seq == end => close(conn),
        Dir::Initiator if conn.flags & conn_flags::MARKED != 0 && seg.fields.seq == conn.mark => {
            Verdict::PassUnlearned(Why::RstNotExact)
        }
        Dir::Initiator => Verdict::Invalid(Why::RstOutOfWindow),
    }
}

pub(super) fn close(conn: &mut TcpConn) -> Verdict {
    conn.state = TcpState::Closed;
    conn.known = [Known::Learned; 2];
    conn.flags &= !conn_flags::IDLE;
    conn.unmark();
    Verdict::Accept { changed: true }
}
