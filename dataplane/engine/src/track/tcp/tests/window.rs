//! Windows: scaling, losses on either side of us, duplicates, keep-alives, probes, the wrap.

use super::trace::Trace;
use crate::track::{TcpState::*, Why};

/// Windows of 1000 in units of 2^7 = 128,000 bytes after the first ACKs.
fn scaled() -> Trace {
    let mut t = Trace::new();
    t.initiator("S 1000 win 64000 wscale 7").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 64000 wscale 7").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 1000").accept(Established);
    t.responder(". 5001 ack 1001 win 1000").accept(Established);
    t
}

#[test]
fn scaled_windows_allow_what_they_announce() {
    let mut t = scaled();
    assert_eq!((t.now().halves[0].max_end, t.now().halves[1].max_end), (1001 + 128_000, 5001 + 128_000));
    for k in 0..2 {
        let seq = 1001 + 60_000 * k;
        t.initiator(&format!("P. {seq}:{} ack 5001 win 1000", seq + 60_000)).accept(Established);
    }
    t.initiator("P. 121001:129001 ack 5001 win 1000").accept(Established);
    // The window is full: one byte is a probe (and a FIN may follow it), more is too much.
    t.initiator("P. 129001:129002 ack 5001 win 1000").accept(Established);
    t.initiator("P. 129002:129004 ack 5001 win 1000").pass(Why::Overshoot);
    t.totals(8, 1, 0);
}

#[test]
fn the_handshakes_windows_are_not_scaled() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 1000 wscale 7").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 1000 wscale 7").accept(SynReceived);
    // 1000 in units of 128 rounds up to 8, 1024 bytes.
    assert_eq!((t.now().halves[0].max_end, t.now().halves[1].max_end), (2001, 6025));
    t.initiator("P. 1001:2001 ack 5001 win 8").accept(Established);
    t.initiator("P. 2001:2101 ack 5001 win 8").pass(Why::Overshoot);
    t.totals(3, 1, 0);
}

#[test]
fn the_largest_windows_do_not_confuse_the_comparison() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 65535 wscale 14").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 65535 wscale 14").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 65535").accept(Established);
    t.responder(". 5001 ack 1001 win 65535").accept(Established);
    let gigabyte = 65_535_u32 << 14;
    let last = 1001 + gigabyte;
    t.initiator(&format!("P. {}:{last} ack 5001 win 65535", last - 1000)).accept(Established);
    t.initiator("P. 1001:2001 ack 5001 win 65535").accept(Established);
    t.responder(&format!(". 5001 ack {last} win 65535")).accept(Established);
    t.initiator("P. 1001:2001 ack 5001 win 65535").accept(Established);
    t.initiator(&format!("P. {}:{} ack 5001 win 65535", last + gigabyte + 1, last + gigabyte + 3))
        .pass(Why::Overshoot);
    t.initiator(&format!("P. {0}:{0} ack 5001 win 65535", last.wrapping_sub(1 << 31)))
        .invalid(Why::SeqTooOld);
    t.totals(8, 1, 1);
}

#[test]
fn data_lost_behind_us_come_again() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("P. 1501:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 1001").accept(Established);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001").accept(Established);
    assert_eq!(t.now().halves[0].end, 2001);
    t.totals(8, 0, 0);
}

#[test]
fn data_lost_before_us_leave_a_gap() {
    let mut t = Trace::established();
    t.initiator("P. 1501:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 1001").accept(Established);
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001").accept(Established);
    t.totals(7, 0, 0);
}

#[test]
fn acks_lost_before_us_are_made_good_by_later_ones() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    // `ack 1501` is lost before us, `ack 2001 win 2000` comes.
    t.initiator("P. 1501:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 2000").accept(Established);
    t.initiator("P. 2001:4001 ack 5001").accept(Established);
    t.totals(7, 0, 0);
}

#[test]
fn acks_lost_behind_us_let_old_data_come_again() {
    let mut t = Trace::established();
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001").accept(Established);
    // The initiator never saw that ACK.
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001").accept(Established);
    assert_eq!((t.now().halves[0].end, t.now().halves[0].max_end), (2001, 3001));
    t.totals(7, 0, 0);
}

#[test]
fn reordered_acks_take_nothing_back() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.initiator("P. 1501:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 1000").accept(Established);
    t.responder(". 5001 ack 1501 win 10").accept(Established);
    let [i, r] = t.now().halves;
    assert_eq!((i.max_end, r.ack, r.max_window), (3001, 2001, 1000));
    t.totals(7, 0, 0);
}

#[test]
fn old_duplicates_pass_and_teach_nothing() {
    let mut t = Trace::established();
    for k in 0..50 {
        let seq = 1001 + 1000 * k;
        t.initiator(&format!("P. {seq}:{} ack 5001", seq + 1000)).accept(Established);
        t.responder(&format!(". 5001 ack {}", seq + 1000)).accept(Established);
    }
    t.totals(103, 0, 0);
    // Still within one window below: an ordinary retransmission.
    t.initiator("P. 49001:50001 ack 5001").accept(Established);
    t.initiator("P. 48001:49001 ack 5001").pass(Why::OldDuplicate);
    t.initiator("P. 1001:2001 ack 5001").pass(Why::OldDuplicate);
    t.responder(". 5001 ack 2001 win 65535").pass(Why::OldDuplicate);
    t.totals(104, 3, 0);
    // Further back than any duplicate of such small windows can be.
    t.initiator(&format!(
        "P. {}:{} ack 5001",
        51_001_u32.wrapping_sub(66_100),
        51_001_u32.wrapping_sub(66_001)
    ))
    .invalid(Why::SeqTooOld);
    t.responder(&format!(". 5001 ack {}", 51_001_u32.wrapping_sub(66_001))).invalid(Why::AckTooOld);
    t.totals(104, 3, 2);
}

#[test]
fn keep_alives_pass_and_move_nothing() {
    let mut t = Trace::established();
    t.initiator("P. 1001:1501 ack 5001").accept(Established);
    t.responder(". 5001 ack 1501").accept(Established);
    let before = t.now();
    for _ in 0..3 {
        t.initiator(". 1500 ack 5001").accept(Established);
        t.responder(". 5001 ack 1501").accept(Established);
        // With a garbage byte, and from the other side.
        t.initiator(". 1500:1501 ack 5001").accept(Established);
        t.responder(". 5000 ack 1501").accept(Established);
        t.responder(". 5000:5001 ack 1501").accept(Established);
    }
    assert_eq!(t.now(), before);
    t.totals(20, 0, 0);
}

#[test]
fn a_closed_window_is_probed() {
    let mut t = Trace::established();
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 0").accept(Established);
    // With a byte beyond the window (BSD, Windows) or with none before it (Linux).
    t.initiator("P. 2001:2002 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 0").accept(Established);
    t.initiator(". 2000 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 0").accept(Established);
    // The window opened, and the announcement was lost before us: the probe's byte is taken.
    t.initiator("P. 2001:2002 ack 5001").accept(Established);
    t.responder(". 5001 ack 2002 win 1000").accept(Established);
    t.initiator("P. 2002:3002 ack 5001").accept(Established);
    t.totals(12, 0, 0);
}

#[test]
fn a_fin_may_follow_the_probe() {
    let mut t = Trace::established();
    t.responder(". 5001 ack 1001 win 0").accept(Established);
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.responder(". 5001 ack 2001 win 0").accept(Established);
    t.initiator("P. 2001:2002 ack 5001").accept(Established);
    t.initiator("F. 2002 ack 5001").accept(FinWait);
    t.responder("P. 5001:5501 ack 2001 win 0").accept(FinWait);
    t.initiator(". 2003 ack 5501").accept(FinWait);
    t.responder(". 5501 ack 2003 win 9").accept(FinWait);
    t.totals(11, 0, 0);
}

#[test]
fn a_window_that_was_never_open_is_probed_too() {
    let mut t = Trace::new();
    t.initiator("S 1000 win 0").accept(SynSent);
    t.responder("S. 5000 ack 1001 win 0").accept(SynReceived);
    t.initiator(". 1001 ack 5001 win 0").accept(Established);
    t.initiator("P. 1001:1002 ack 5001 win 0").accept(Established);
    t.responder(". 5001 ack 1001 win 0").accept(Established);
    t.initiator("P. 1001:1002 ack 5001 win 0").accept(Established);
    t.responder(". 5001 ack 1002 win 500").accept(Established);
    t.initiator("P. 1002:1502 ack 5001 win 0").accept(Established);
    t.responder("F. 5001 ack 1502").accept(FinWait);
    t.initiator(". 1502 ack 5002 win 0").accept(FinWait);
    t.totals(10, 0, 0);
}

#[test]
fn a_shrinking_window_does_not_forbid_what_it_once_allowed() {
    let mut t = Trace::established();
    t.responder(". 5001 ack 1001 win 10").accept(Established);
    t.initiator("P. 1001:2001 ack 5001").accept(Established);
    t.totals(5, 0, 0);
}

#[test]
fn overshoot_is_bounded_by_one_window() {
    let mut t = Trace::established();
    t.initiator("P. 1001:2004 ack 5001").pass(Why::Overshoot);
    t.initiator("P. 2002:3003 ack 5001").pass(Why::Overshoot);
    t.initiator("P. 2002:3004 ack 5001").invalid(Why::SeqTooNew);
    // It was not learned: its acknowledgement is one of unsent data.
    t.responder(". 5001 ack 2002").invalid(Why::AckUnsent);
    t.totals(3, 2, 2);
}

#[test]
fn numbers_wrap_in_both_directions() {
    let mut t = Trace::new();
    t.initiator("S 4294966295").accept(SynSent);
    t.responder("S. 4294967195 ack 4294966296").accept(SynReceived);
    t.initiator(". 4294966296 ack 4294967196").accept(Established);
    t.initiator("P. 4294966296:0 ack 4294967196").accept(Established);
    t.responder("P. 4294967196:400 ack 0").accept(Established);
    t.initiator("P. 0:1000 ack 400").accept(Established);
    t.responder(". 400 ack 1000").accept(Established);
    t.initiator("P. 4294967000:200 ack 400").accept(Established);
    t.responder("F. 400 ack 1000").accept(FinWait);
    t.initiator("F. 1000 ack 401").accept(LastAck);
    t.responder(". 401 ack 1001").accept(TimeWait);
    t.totals(11, 0, 0);
    let [i, r] = t.now().halves;
    assert_eq!((i.end, i.ack, r.end, r.ack), (1001, 401, 401, 1001));
}

#[test]
fn a_long_transfer_passes_the_wrap_many_times() {
    let mut t = scaled();
    let (mut seq, mut left) = (1001_u32, 3_u64 << 32);
    while left > 0 {
        let end = seq.wrapping_add(64_000);
        t.initiator(&format!("P. {seq}:{end} ack 5001")).accept(Established);
        t.responder(&format!(". 5001 ack {end}")).accept(Established);
        (seq, left) = (end, left.saturating_sub(64_000));
    }
}
