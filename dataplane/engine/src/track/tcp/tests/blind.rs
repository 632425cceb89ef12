//! RST inside and outside of the window (RFC 5961 §3), and blind injection.

use super::trace::Trace;
use crate::track::{TcpState::*, Why};

#[test]
fn an_exact_rst_closes_from_either_side() {
    let mut t = Trace::established();
    t.initiator("R 1001").accept(Closed);
    t.totals(4, 0, 0);
    let mut t = Trace::established();
    t.responder("R. 5001 ack 1001").accept(Closed);
    t.totals(4, 0, 0);
}

#[test]
fn a_rst_in_answer_to_a_segment_is_exact() {
    // RFC 9293 §3.5.2: its number is the acknowledgement of what provoked it.
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 1501").accept(Established);
    t.responder("P. 5001:5501 ack 1501").accept(Established);
    t.initiator("R 1501").accept(Closed);
    t.totals(7, 0, 0);
}

#[test]
fn a_rst_behind_unacknowledged_data_is_exact_too() {
    // An aborting close right behind its data: the receiver has them, we have not seen its ACK.
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("R. 1501 ack 5001").accept(Closed);
    t.totals(5, 0, 0);
}

#[test]
fn a_rst_at_the_last_acknowledgement_is_exact_though_more_was_sent() {
    // The data were lost behind us; the receiver's challenge ACK named this number.
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("R 1250").pass(Why::RstNotExact);
    t.responder(". 5001 ack 1001").accept(Established);
    t.initiator("R 1001").accept(Closed);
    t.totals(6, 1, 0);
}

#[test]
fn a_rst_inside_the_window_is_left_to_the_challenge_ack() {
    let mut t = Trace::established();
    t.responder("R 5002").pass(Why::RstNotExact);
    t.responder("R 6001").pass(Why::RstNotExact);
    t.responder("R. 5500 ack 1001").pass(Why::RstNotExact);
    t.totals(3, 3, 0);
    // RFC 5961 §3.2: the challenge ACK, and the exact RST if the reset was real.
    t.initiator(". 1001 ack 5001").accept(Established);
    t.responder("R 5001").accept(Closed);
    t.totals(5, 3, 0);
}

#[test]
fn a_rst_outside_the_window_is_invalid() {
    let mut t = Trace::established();
    t.responder("R 5000").invalid(Why::RstOutOfWindow);
    t.responder("R 6004").invalid(Why::RstOutOfWindow);
    t.responder("R 0").invalid(Why::RstOutOfWindow);
    t.responder("R. 0 ack 1001").invalid(Why::RstOutOfWindow);
    t.initiator("R 1000").invalid(Why::RstOutOfWindow);
    t.initiator("R 2004").invalid(Why::RstOutOfWindow);
    t.initiator("R 3000000000").invalid(Why::RstOutOfWindow);
    t.totals(3, 0, 7);
}

#[test]
fn a_syn_is_refused_only_with_its_own_number() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("R 0").invalid(Why::RstNotForSyn);
    t.responder("R 0 ack 1001").invalid(Why::RstNotForSyn);
    t.responder("R. 0 ack 1000").invalid(Why::RstNotForSyn);
    t.responder("R. 0 ack 1002").invalid(Why::RstNotForSyn);
    t.responder("R. 0 ack 1001").accept(Closed);
    t.totals(2, 0, 4);
}

#[test]
fn a_syn_can_be_taken_back() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.initiator("R 1000").invalid(Why::RstOutOfWindow);
    t.initiator("R 1001").accept(Closed);
    t.totals(2, 0, 1);

    // With the data that it carried.
    let mut t = Trace::new();
    t.initiator("S 1000:1500").accept(SynSent);
    t.initiator("R 1501").accept(Closed);
    t.totals(2, 0, 0);
}

#[test]
fn a_syn_ack_can_be_refused_or_withdrawn() {
    // The initiator knows nothing of it: its RST carries the SYN-ACK's acknowledgement.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("R 5000").invalid(Why::RstOutOfWindow);
    t.initiator("R 1001").accept(Closed);

    // The responder aborts.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.responder("R 5001").accept(Closed);

    // The responder forgot, and refuses the repeated SYN as a stranger would.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("S 1000").accept(SynReceived);
    t.responder("R. 0 ack 1002").invalid(Why::RstOutOfWindow);
    t.responder("R. 0 ack 1001").accept(Closed);
    t.totals(4, 0, 1);
}

#[test]
fn rst_while_closing() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    // Answering what came after it had closed for good.
    t.responder("P. 5001:5501 ack 1002").accept(FinWait);
    t.initiator("R 1002").accept(Closed);
    t.totals(6, 0, 0);

    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.responder("R 5003").pass(Why::RstNotExact);
    t.responder("R 5002").accept(Closed);
    t.totals(7, 1, 0);
}

#[test]
fn blind_data_is_refused() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder("P. 5001:5501 ack 1501").accept(Established);
    // A wrong guess of the sequence number.
    t.responder("P. 3000000000:3000000100 ack 1501").invalid(Why::SeqTooOld);
    t.responder("P. 100000000:100000100 ack 1501").invalid(Why::SeqTooNew);
    t.responder("F. 100000000 ack 1501").invalid(Why::SeqTooNew);
    // The right one, and a wrong guess of the acknowledgement.
    t.responder("P. 5501:5601 ack 1502").invalid(Why::AckUnsent);
    t.responder("P. 5501:5601 ack 0").invalid(Why::AckTooOld);
    t.responder("P. 5501:5601 ack 600").accept(Established);
    t.responder("P. 5601:5701 ack 3000000000").invalid(Why::AckTooOld);
    t.responder("F. 5601 ack 3000000000").invalid(Why::AckTooOld);
    // No acknowledgement at all.
    t.responder("P 5601:5701").invalid(Why::NoAck);
    t.responder("F 5601").invalid(Why::NoAck);
    t.responder("- 5601:5701").invalid(Why::NoAck);
    t.responder("SF 5601").invalid(Why::BadFlags);
    t.responder("SR 5601").invalid(Why::BadFlags);
    t.responder("FR. 5601 ack 1501").invalid(Why::BadFlags);
    t.totals(6, 0, 13);
}

#[test]
fn nothing_forged_completes_somebody_elses_handshake() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator(". 1001 ack 123456").invalid(Why::HandshakeAck);
    t.initiator("P. 1001:1501 ack 4999").invalid(Why::HandshakeAck);
    t.initiator(". 900000 ack 5001").invalid(Why::SeqTooNew);
    t.totals(2, 0, 3);
}
