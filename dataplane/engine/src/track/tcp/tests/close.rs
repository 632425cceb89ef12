//! Closing: by either end, by both at once, by half, and what comes late.

use super::trace::Trace;
use crate::track::{TcpState::*, Why};

#[test]
fn the_initiator_closes_first() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1002").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.totals(7, 0, 0);
}

#[test]
fn the_responder_closes_first() {
    let mut t = Trace::established();
    t.responder("F. 5001 ack 1001").accept(FinWait);
    t.initiator(". 1001 ack 5002").accept(FinWait);
    t.initiator("F. 1001 ack 5002").accept(LastAck);
    t.responder(". 5002 ack 1002").accept(TimeWait);
    t.totals(7, 0, 0);
}

#[test]
fn fin_and_ack_in_one_segment() {
    let mut t = Trace::established();
    t.initiator("F. 1001:1101 ack 5001").accept(FinWait);
    t.responder("F. 5001:5101 ack 1102").accept(LastAck);
    t.initiator(". 1102 ack 5102").accept(TimeWait);
    t.totals(6, 0, 0);
}

#[test]
fn simultaneous_close() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1001").accept(Closing);
    t.initiator(". 1002 ack 5002").accept(LastAck);
    t.responder(". 5002 ack 1002").accept(TimeWait);
    t.totals(7, 0, 0);
}

#[test]
fn half_closed_the_other_end_goes_on() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1002").accept(FinWait);
    for k in 0..20 {
        let seq = 5001 + 500 * k;
        t.responder(&format!("P. {seq}:{} ack 1002", seq + 500)).accept(FinWait);
        t.initiator(&format!(". 1002 ack {}", seq + 500)).accept(FinWait);
    }
    t.responder("F. 15001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 15002").accept(TimeWait);
    t.totals(47, 0, 0);
}

#[test]
fn fin_acknowledged_later_than_the_data_before_it() {
    let mut t = Trace::established();
    t.initiator("F. 1001:1501 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1501").accept(FinWait);
    t.responder("F. 5001 ack 1501").accept(Closing);
    t.initiator(". 1502 ack 5002").accept(LastAck);
    t.responder(". 5002 ack 1502").accept(TimeWait);
    t.totals(8, 0, 0);
}

#[test]
fn fin_overtakes_data_that_was_lost_before_us() {
    let mut t = Trace::established();
    // 1001:1501 is lost on its way to us; the FIN behind it comes first.
    t.initiator("F. 1501 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1001").accept(FinWait);
    t.initiator("P. 1001:1501 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1502").accept(FinWait);
    t.totals(7, 0, 0);
}

#[test]
fn fin_is_overtaken_by_the_ack_sent_after_it() {
    let mut t = Trace::established();
    t.responder("P. 5001:5101 ack 1001").accept(Established);
    t.initiator(". 1002 ack 5101").accept(Established);
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder(". 5101 ack 1002").accept(FinWait);
    t.totals(7, 0, 0);
}

#[test]
fn fin_is_retransmitted_in_every_state() {
    let mut t = Trace::established();
    t.initiator("F. 1001:1101 ack 5001").accept(FinWait);
    t.initiator("F. 1001:1101 ack 5001").accept(FinWait);
    // Repacketised: the same end.
    t.initiator("F. 1051:1101 ack 5001").accept(FinWait);
    t.initiator("F. 1101 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1102").accept(LastAck);
    t.responder("F. 5001 ack 1102").accept(LastAck);
    t.initiator("F. 1101 ack 5001").accept(LastAck);
    t.initiator(". 1102 ack 5002").accept(TimeWait);
    // The last ACK is lost behind us: FIN again, ACK again.
    t.responder("F. 5001 ack 1102").accept(TimeWait);
    t.initiator(". 1102 ack 5002").accept(TimeWait);
    t.totals(13, 0, 0);
}

#[test]
fn a_lost_last_ack_leaves_last_ack() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    // The initiator's ACK never reached us.
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.totals(7, 0, 0);
}

#[test]
fn nothing_new_behind_a_fin() {
    let mut t = Trace::established();
    t.initiator("F. 1001:1101 ack 5001").accept(FinWait);
    t.initiator("P. 1102:1202 ack 5001").invalid(Why::DataAfterFin);
    t.initiator("P. 1101:1103 ack 5001").invalid(Why::DataAfterFin);
    t.initiator("F. 1102 ack 5001").invalid(Why::FinMoved);
    t.initiator("F. 1100 ack 5001").invalid(Why::FinMoved);
    t.initiator("F. 1201 ack 5001").invalid(Why::DataAfterFin);
    // What lies before it may come again, and the other end is not bound by it.
    t.initiator("P. 1001:1101 ack 5001").accept(FinWait);
    t.responder("P. 5001:5101 ack 1102").accept(FinWait);
    t.totals(6, 0, 5);
}

#[test]
fn a_fin_among_data_already_sent_is_forged() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("F. 1201 ack 5001").invalid(Why::FinMoved);
    t.initiator("F. 1001:1499 ack 5001").invalid(Why::FinMoved);
    t.initiator("F. 1001:1501 ack 5001").accept(FinWait);
    t.totals(5, 0, 2);
}

#[test]
fn an_acknowledgement_of_a_fin_that_was_never_sent() {
    let mut t = Trace::established();
    t.responder(". 5001 ack 1002").invalid(Why::AckUnsent);
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 1003").invalid(Why::AckUnsent);
    t.responder(". 5001 ack 1002").accept(FinWait);
    t.totals(5, 0, 2);
}

#[test]
fn fin_fits_behind_a_full_window() {
    let mut t = Trace::established();
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.initiator("F. 2001 ack 5001").accept(FinWait);
    t.responder(". 5001 ack 2002 win 0").accept(FinWait);
    t.totals(6, 0, 0);
}

#[test]
fn ports_are_reused_after_a_proper_close() {
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.initiator("S 500000 win 64240 wscale 7").reopen();
    t.responder("S. 700000 ack 500001 win 64240 wscale 7").accept(SynReceived);
    t.initiator(". 500001 ack 700001").accept(Established);
    assert_eq!(t.now().halves[0].scale, 7, "nothing is left of the old connection");
    t.totals(8, 0, 0);
}

#[test]
fn ports_are_reused_across_the_wrap() {
    let mut t = Trace::new();
    t.initiator("S 4294967000").accept(SynSent);
    t.responder("S. 5000 ack 4294967001").accept(SynReceived);
    t.initiator("F. 4294967001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 4294967002").accept(LastAck);
    t.initiator(". 4294967002 ack 5002").accept(TimeWait);
    t.initiator("S 10").reopen();
    t.totals(5, 0, 0);
}

#[test]
fn a_lower_number_in_time_wait_is_for_the_end_host_to_judge() {
    // RFC 6191: timestamps may allow it; only the end host knows.
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.initiator("S 500").pass(Why::SynOnLive);
    t.responder("S. 700000 ack 501").restart();
    t.initiator(". 501 ack 700001").accept(Established);
    t.totals(8, 1, 0);
}

#[test]
fn after_a_reset_any_syn_opens_again() {
    let mut t = Trace::established();
    t.initiator("R 1001").accept(Closed);
    t.initiator("S 3").reopen();
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("R. 0 ack 1001").accept(Closed);
    t.initiator("S 1000").reopen();
    t.responder("R. 0 ack 1001").accept(Closed);
    t.totals(3, 0, 0);
}

#[test]
fn the_responder_may_open_on_the_same_ports_later() {
    // The caller exchanges the roles; the tracker only says that policy must decide.
    let mut t = Trace::established();
    t.initiator("F. 1001 ack 5001").accept(FinWait);
    t.responder("F. 5001 ack 1002").accept(LastAck);
    t.initiator(". 1002 ack 5002").accept(TimeWait);
    t.responder("S 4000").pass(Why::SynOnLive);
    t.responder("S 6000").reopen();
}

#[test]
fn stragglers_of_a_reset_connection_pass_and_teach_nothing() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("R 1501").accept(Closed);
    t.responder("P. 5001:5501 ack 1501").pass(Why::AfterClose);
    t.responder("F. 5501 ack 1501").pass(Why::AfterClose);
    t.initiator("R 1501").pass(Why::AfterClose);
    t.initiator("R 1200").pass(Why::AfterClose);
    t.responder("S. 5000 ack 1001").pass(Why::AfterClose);
    t.responder("P. 905001:905501 ack 1501").invalid(Why::SeqTooNew);
    t.responder("P. 5001:5501 ack 1502").invalid(Why::AckUnsent);
    t.responder("R 905001").invalid(Why::RstOutOfWindow);
    t.responder("S. 905000 ack 1001").invalid(Why::SynAckUnexpected);
    t.totals(5, 5, 4);
}
