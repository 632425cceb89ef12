//! Opening: from either end, from both, with options, with losses, and what opens nothing.

use super::trace::{Trace, segment};
use crate::track::tcp::{self, conn_flags};
use crate::track::{Dir, TcpConn, TcpState::*, Why};

#[test]
fn three_way_handshake() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 64240 wscale 7 sack").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65160 wscale 8 sack").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 502").accept(Established);
    t.totals(3, 0, 0);
    let [i, r] = t.now().halves;
    // The first window of the responder is unscaled, that of the initiator's ACK is scaled by 7.
    assert_eq!((i.end, i.max_end, i.ack, i.max_window, i.scale), (1001, 1001 + 65160, 5001, 502, 7));
    assert_eq!((r.end, r.max_end, r.ack, r.max_window, r.scale), (5001, 5001 + 502 * 128, 1001, 255, 8));
}

#[test]
fn handshake_then_data_then_close() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1101 ack 5001").accept(Established);
    t.responder(". 5001 ack 1101").accept(Established);
    t.responder("P. 5001:5501 ack 1101").accept(Established);
    t.initiator(". 1101 ack 5501").accept(Established);
    t.initiator("F. 1101 ack 5501").accept(FinWait);
    t.responder(". 5501 ack 1102").accept(FinWait);
    t.responder("F. 5501 ack 1102").accept(LastAck);
    t.initiator(". 1102 ack 5502").accept(TimeWait);
    t.totals(11, 0, 0);
}

#[test]
fn only_a_clean_syn_opens() {
    for (text, why) in [
        ("S. 1 ack 1", Why::UnknownSynAck),
        (". 1 ack 1", Why::UnknownAck),
        ("P. 1:100 ack 1", Why::UnknownAck),
        ("F. 1 ack 1", Why::UnknownFin),
        ("R 1", Why::UnknownRst),
        ("R. 1 ack 1", Why::UnknownRst),
        ("SF 1", Why::BadFlags),
        ("SR 1", Why::BadFlags),
        ("SF. 1 ack 1", Why::BadFlags),
        ("FR. 1 ack 1", Why::BadFlags),
        ("SFRPU. 1 ack 1", Why::BadFlags),
        ("- 1", Why::NoAck),
        ("FPU 1", Why::NoAck),
        ("P 1:2", Why::NoAck),
    ] {
        let mut t = Trace::new();
        t.initiator(text).invalid(why);
        assert_eq!(t.conn, None, "{text}");
        t.totals(0, 0, 1);
    }
}

#[test]
fn ecn_push_and_urgent_do_not_matter() {
    let mut t = Trace::new();
    t.initiator("SEW 1000").accept(SynSent);
    t.responder("S.E 5000 ack 1001").accept(SynReceived);
    t.initiator("P.U 1001:1002 ack 5001").accept(Established);
    t.responder("P.UE 5001:5002 ack 1002").accept(Established);
    t.initiator(".W 1002 ack 5002").accept(Established);
    t.initiator("FPU. 1002 ack 5002").accept(FinWait);
    t.totals(6, 0, 0);
}

#[test]
fn scaling_needs_both_ends() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 64240 wscale 7").accept(SynSent);
    assert_eq!((t.now().halves[0].max_window, t.now().halves[0].scale), (502, 7));
    t.responder("S. 5000 ack 1001 win 8192").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 64240").accept(Established);
    let [i, r] = t.now().halves;
    // 64240 in units of 128 rounds up to 64256, which the responder may use although it is 16 too much.
    assert_eq!((i.scale, i.max_window, r.scale, r.max_window), (0, 64256, 0, 8192));
    assert_eq!((i.max_end, r.max_end), (1001 + 8192, 5001 + 64256));

    let mut t = Trace::new();
    t.initiator("S 1000 win 65535").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65535 wscale 9").accept(SynReceived);
    let [i, r] = t.now().halves;
    assert_eq!((i.scale, i.max_window, r.scale, r.max_window), (0, 65535, 0, 65535));
}

#[test]
fn scale_zero_is_an_offer() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 65535 wscale 0").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65535 wscale 9").accept(SynReceived);
    assert_eq!((t.now().halves[0].scale, t.now().halves[1].scale), (0, 9));
}

#[test]
fn data_may_come_with_the_handshakes_ack() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 1501").accept(Established);
    t.totals(4, 0, 0);
}

#[test]
fn a_lost_handshake_ack_is_made_good_by_data_or_by_repetition() {
    // Lost before us: the SYN-ACK comes again, then data instead of the ACK.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("P. 1001:1002 ack 5001").accept(Established);
    t.totals(4, 0, 0);

    // Lost behind us: the responder repeats its SYN-ACK on what is established for us.
    let mut t = Trace::established();
    t.initiator("P. 1001:1101 ack 5001").accept(Established);
    t.responder("S. 5000 ack 1001").pass(Why::OldDuplicate);
    t.initiator(". 1101 ack 5001").accept(Established);
    t.responder(". 5001 ack 1101").accept(Established);
    t.totals(6, 1, 0);
}

#[test]
fn syn_is_repeated_before_and_after_the_syn_ack() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 64240 wscale 7").accept(SynSent);
    t.initiator("S 1000 win 64240 wscale 7").accept(SynSent);
    // Without options this time; the responder may still have seen the first one.
    t.initiator("S 1000 win 64240").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65160 wscale 8").accept(SynReceived);
    t.initiator("S 1000 win 64240 wscale 7").accept(SynReceived);
    t.responder("S. 5000 ack 1001 win 65160 wscale 8").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 502").accept(Established);
    assert_eq!((t.now().halves[0].scale, t.now().halves[1].scale), (7, 8));
    t.totals(7, 0, 0);
}

#[test]
fn a_new_syn_before_any_answer_replaces_the_first() {
    let mut t = Trace::new();
    t.initiator("S 1000 wscale 7").accept(SynSent);
    t.initiator("S 900000 wscale 3").accept(SynSent);
    t.responder("S. 5000 ack 1001").invalid(Why::SynAckMismatch);
    t.responder("S. 5000 ack 900001 wscale 2").accept(SynReceived);
    t.initiator(". 900001 ack 5001").accept(Established);
    assert_eq!((t.now().halves[0].scale, t.now().halves[0].end), (3, 900_001));
    t.totals(4, 0, 1);
}

#[test]
fn a_new_syn_meets_the_responders_older_half_open_connection() {
    // The first SYN-ACK was lost before us; the responder challenges the new SYN (RFC 5961 §4).
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.initiator("S 900000").accept(SynSent);
    t.responder(". 5001 ack 1001").pass(Why::ChallengeAck);
    t.initiator("R 1002").invalid(Why::RstOutOfWindow);
    // A third attempt does not make the challenge forgotten.
    t.initiator("S 950000").accept(SynSent);
    t.initiator("R 1001").pass(Why::RstNotExact);
    t.initiator("S 900000").accept(SynSent);
    t.responder("S. 7000 ack 900001").accept(SynReceived);
    t.initiator(". 900001 ack 7001").accept(Established);
    t.totals(6, 2, 1);
}

#[test]
fn a_new_syn_after_the_syn_ack_is_settled_by_the_responder() {
    // It challenges, is reset, and answers the repeated SYN.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder(". 5001 ack 1001").accept(SynReceived);
    t.initiator("R 1001").accept(Closed);
    t.initiator("S 900000").reopen();
    t.responder("S. 7000 ack 900001").accept(SynReceived);

    // Or it has forgotten and answers at once.
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator("S 900000").pass(Why::SynOnLive);
    t.responder("S. 7000 ack 900001").restart();
    t.initiator(". 900001 ack 7001").accept(Established);
    t.totals(4, 1, 0);
}

#[test]
fn a_responder_that_begins_anew_during_the_handshake_counts() {
    let mut t = Trace::new();
    t.initiator("S 1000 wscale 7").accept(SynSent);
    t.responder("S. 5000 ack 1001 wscale 7").accept(SynReceived);
    // A SYN cookie this time: another number, no options.
    t.responder("S. 80000 ack 1001").accept(SynReceived);
    t.initiator(". 1001 ack 5001").invalid(Why::HandshakeAck);
    t.initiator(". 1001 ack 80001").accept(Established);
    assert_eq!((t.now().halves[0].scale, t.now().halves[1].scale), (0, 0));
    t.totals(4, 0, 1);
}

#[test]
fn nothing_but_the_right_ack_completes_the_handshake() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1000").invalid(Why::SynAckMismatch);
    t.responder("S. 5000 ack 1002").invalid(Why::SynAckMismatch);
    t.initiator("S. 1000 ack 1").invalid(Why::SynAckUnexpected);
    t.initiator(". 1001 ack 5001").invalid(Why::BeforeSynAck);
    t.responder("P. 5001:5002 ack 1001").invalid(Why::BeforeSynAck);
    t.responder("F. 5001 ack 1001").invalid(Why::BeforeSynAck);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.initiator(". 1001 ack 5000").invalid(Why::HandshakeAck);
    t.initiator(". 1001 ack 5002").invalid(Why::HandshakeAck);
    t.initiator("P. 1001:1002 ack 0").invalid(Why::HandshakeAck);
    t.initiator("F. 1001 ack 77").invalid(Why::HandshakeAck);
    t.initiator("S. 1000 ack 5001").invalid(Why::SynAckUnexpected);
    t.responder("S. 5000 ack 1002").invalid(Why::SynAckMismatch);
    t.initiator(". 1001 ack 5001").accept(Established);
    t.totals(3, 0, 12);
}

#[test]
fn simultaneous_open() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 2000 wscale 2").accept(SynSent);
    t.responder("S 5000 win 3000 wscale 3").accept(SimultaneousOpen);
    assert_eq!(t.now().state.name(), "syn-received");
    t.initiator("S. 1000 ack 5001 win 2000 wscale 2").accept(SimultaneousOpen);
    t.responder("S. 5000 ack 1001 win 3000 wscale 3").accept(Established);
    t.initiator("P. 1001:2001 ack 5001 win 500").accept(Established);
    t.responder(". 5001 ack 2001 win 400").accept(Established);
    t.totals(6, 0, 0);
    let [i, r] = t.now().halves;
    assert_eq!((i.scale, i.max_end, r.scale, r.max_end), (2, 2001 + 3200, 3, 5001 + 2000));
}

#[test]
fn simultaneous_open_with_losses_and_plain_acks() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S 5000").accept(SimultaneousOpen);
    t.initiator("S 1000").accept(SimultaneousOpen);
    t.responder("S 5000").accept(SimultaneousOpen);
    t.responder("S. 5000 ack 1001").accept(SimultaneousOpen);
    t.responder("S. 5000 ack 1001").accept(SimultaneousOpen);
    t.responder("S 5000").accept(SimultaneousOpen);
    t.initiator(". 1001 ack 5000").invalid(Why::HandshakeAck);
    t.initiator(". 1001 ack 5001").accept(Established);
    t.initiator("S. 1000 ack 5001").pass(Why::OldDuplicate);
    t.totals(8, 1, 1);
}

#[test]
fn simultaneous_open_refuses_a_foreign_syn_ack() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S 5000").accept(SimultaneousOpen);
    t.responder("S. 5000 ack 1000").invalid(Why::SynAckMismatch);
    t.responder("S. 5000 ack 1002").invalid(Why::SynAckMismatch);
    t.responder("S. 900000 ack 1001").invalid(Why::SynAckMismatch);
    t.totals(2, 0, 3);
}

#[test]
fn fast_open_carries_data_both_ways() {
    // RFC 7413: data on the SYN, acknowledged with the SYN-ACK, answered before the handshake ends.
    let mut t = Trace::new();
    t.initiator("S 1000:1500 win 64240").accept(SynSent);
    t.responder("S. 5000 ack 1501 win 65160").accept(SynReceived);
    t.responder("P. 5001:6001 ack 1501").accept(SynReceived);
    t.initiator(". 1501 ack 6001").accept(Established);
    t.totals(4, 0, 0);

    // Not accepted: only the SYN is acknowledged, the data come again.
    let mut t = Trace::new();
    t.initiator("S 1000:1500 win 64240").accept(SynSent);
    t.initiator("S 1000 win 64240").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65160").accept(SynReceived);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 1501").accept(Established);
    t.totals(5, 0, 0);

    // Accepted, though the SYN was repeated without them.
    let mut t = Trace::new();
    t.initiator("S 1000:1500 win 64240").accept(SynSent);
    t.initiator("S 1000 win 64240").accept(SynSent);
    t.responder("S. 5000 ack 1501 win 65160").accept(SynReceived);
    t.totals(3, 0, 0);

    // Acknowledging more than was sent.
    let mut t = Trace::new();
    t.initiator("S 1000:1500 win 64240").accept(SynSent);
    t.responder("S. 5000 ack 1502 win 65160").invalid(Why::SynAckMismatch);
}

#[test]
fn an_early_close_is_seen_with_the_handshake() {
    let mut t = Trace::new();
    t.initiator("S 1000").accept(SynSent);
    t.responder("S. 5000 ack 1001").accept(SynReceived);
    t.responder("F. 5001 ack 1001").accept(SynReceived);
    t.initiator(". 1001 ack 5001").accept(FinWait);
    t.initiator("F. 1001 ack 5002").accept(LastAck);
    t.responder(". 5002 ack 1002").accept(TimeWait);
    t.totals(6, 0, 0);
}

#[test]
fn numbers_wrap_during_the_handshake() {
    let mut t = Trace::new();
    t.initiator("S 4294967295").accept(SynSent);
    t.responder("S. 4294967295 ack 0").accept(SynReceived);
    t.initiator(". 0 ack 0").accept(Established);
    t.responder("P. 0:1 ack 0").accept(Established);
    t.totals(4, 0, 0);
}

#[test]
fn an_opening_survives_packing() {
    let conn = tcp::open(&segment("S 1000 win 64240 wscale 14 sack")).unwrap();
    let (words, meta) = conn.pack();
    assert_eq!(TcpConn::unpack(&words, meta), conn);
    assert_eq!(tcp::state_of(meta), SynSent);
    assert!(conn.flags & conn_flags::SACK << Dir::Initiator as u16 != 0);
}
