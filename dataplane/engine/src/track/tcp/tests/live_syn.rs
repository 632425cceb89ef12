//! SYN on a live session (RFC 5961 §4): it passes, and the ends decide.

use super::trace::Trace;
use crate::track::{TcpState::*, Why, tcp::conn_flags};

#[test]
fn a_blind_syn_changes_nothing() {
    let mut t = Trace::established();
    let before = t.now();
    t.initiator("S 77777 wscale 7").pass(Why::SynOnLive);
    assert_eq!((t.now().mark, t.now().mark_scale), (77777, 7));
    // The responder's challenge ACK; the initiator, alive, ignores it and goes on.
    t.responder(". 5001 ack 1001").accept(Established);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 1501").accept(Established);
    t.totals(6, 1, 0);
    assert_eq!(t.now().flags, before.flags, "the mark is gone with the initiator's next segment");
    // What would answer the forged SYN finds no mark any more.
    t.responder("S. 900000 ack 77778").invalid(Why::SynAckUnexpected);
    t.totals(6, 1, 1);
}

#[test]
fn challenge_ack_and_rst_end_the_old_connection() {
    // The initiator has restarted and chose the same port.
    let mut t = Trace::established();
    t.responder("P. 5001:5501 ack 1001").accept(Established);
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder(". 5501 ack 1001").accept(Established);
    t.initiator("R 1001").accept(Closed);
    t.initiator("S 900000").reopen();
    t.responder("S. 70000 ack 900001").accept(SynReceived);
    t.initiator(". 900001 ack 70001").accept(Established);
    t.totals(8, 1, 0);
}

#[test]
fn a_syn_ack_that_answers_the_syn_begins_anew() {
    // Both ends have lost the old connection.
    let mut t = Trace::established();
    t.initiator("S 900000 win 64240 wscale 7").pass(Why::SynOnLive);
    t.responder("S. 70000 ack 900001 win 65160 wscale 8").restart();
    let [i, r] = t.now().halves;
    assert_eq!((i.end, i.scale, r.end, r.scale), (900_001, 7, 70_001, 8));
    assert_eq!((i.max_end, r.max_end), (900_001 + 65160, 70_001 + 65536));
    assert_eq!(t.now().flags & conn_flags::MARKED, 0);
    // The old connection is gone, the new one goes through its handshake.
    t.responder("P. 5001:5501 ack 1001").invalid(Why::AckTooOld);
    t.initiator(". 900001 ack 70001 win 500").accept(Established);
    t.initiator("P. 900001:900501 ack 70001 win 500").accept(Established);
    t.responder(". 70001 ack 900501 win 500").accept(Established);
    t.totals(7, 1, 1);
}

#[test]
fn the_responders_last_data_do_not_take_the_mark() {
    // They were under way when it, too, lost the connection.
    let mut t = Trace::established();
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder("P. 5001:5501 ack 1001").accept(Established);
    t.responder("S. 70000 ack 900001").restart();
    t.totals(5, 1, 0);
}

#[test]
fn begun_anew_without_scaling() {
    let mut t = Trace::established();
    t.initiator("S 900000 win 64240").pass(Why::SynOnLive);
    t.responder("S. 70000 ack 900001 win 65160 wscale 8").restart();
    assert_eq!((t.now().halves[0].scale, t.now().halves[1].scale), (0, 0));
}

#[test]
fn only_the_right_syn_ack_begins_anew() {
    let mut t = Trace::established();
    t.responder("S. 70000 ack 1").invalid(Why::SynAckUnexpected);
    t.responder("S. 5000 ack 900001").invalid(Why::SynAckUnexpected);
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder("S. 70000 ack 900000").invalid(Why::SynAckUnexpected);
    t.responder("S. 70000 ack 900002").invalid(Why::SynAckUnexpected);
    t.initiator("S. 70000 ack 900001").invalid(Why::SynAckUnexpected);
    t.totals(3, 1, 5);
    // A later SYN takes the mark.
    t.initiator("S 800000").pass(Why::SynOnLive);
    t.responder("S. 70000 ack 900001").invalid(Why::SynAckUnexpected);
    t.responder("S. 70000 ack 800001").restart();
    t.totals(4, 2, 6);
}

#[test]
fn an_old_duplicate_of_the_handshake_does_not_begin_anew() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("S 1000").pass(Why::SynOnLive);
    t.responder("S. 5000 ack 1001").pass(Why::OldDuplicate);
    t.responder(". 5001 ack 1501").accept(Established);
    t.totals(5, 2, 0);
}

#[test]
fn a_refused_syn_does_not_end_the_session() {
    // The responder has no such connection (any more): its refusal must reach the initiator, but a forger
    // who knows his own SYN must not be able to end the session.
    let mut t = Trace::established();
    t.responder("R. 0 ack 900001").invalid(Why::RstOutOfWindow);
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder("R. 0 ack 900002").invalid(Why::RstOutOfWindow);
    t.responder("R. 0 ack 900001").pass(Why::RstForSyn);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.totals(4, 2, 2);
}

#[test]
fn a_syn_from_the_responder_is_never_marked() {
    // A connection the other way was not admitted by this session's rule.
    let mut t = Trace::established();
    t.responder("S 900000").pass(Why::SynOnLive);
    assert_eq!(t.now().flags & conn_flags::MARKED, 0);
    t.initiator("S. 70000 ack 900001").invalid(Why::SynAckUnexpected);
    t.responder("P. 5001:5501 ack 1001").accept(Established);
    t.totals(4, 1, 1);
}

#[test]
fn a_syn_while_closing_is_settled_by_the_ends() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    // The last ACK was lost before us, and the initiator reuses its port.
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder(". 5002 ack 1002").accept(LastAck);
    t.initiator("R 1002").accept(Closed);
    t.initiator("S 900000").reopen();
    t.totals(7, 1, 0);
}
