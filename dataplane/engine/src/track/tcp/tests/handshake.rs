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
fn packing_keeps_everything() {
    let conn = tcp::open(&segment("S 1000 win 64240 wscale 14 sack")).unwrap();
    let (words, meta) = conn.pack();
    assert_eq!(TcpConn::unpack(&words, meta), conn);
    assert_eq!(tcp::state_of(meta), SynSent);
    assert!(conn.flags & conn_flags::SACK << Dir::Initiator as u16 != 0);
}
