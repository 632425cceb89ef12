//! Ending a session on command: resets that both ends accept, and a word on how it went.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, VIRTUAL, WAN, mac_of, nets};
use super::pair::{Pair, TERMS};
use crate::pipeline::Notice;
use crate::role::RoleView;
use crate::table::Slot;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, PSH, RST};
use wire::{Desc, FlowKey};

const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];

/// An end of a connection that answers as RFC 9293 §3.10.7.4 and RFC 5961 §3.2 ask.
struct End {
    /// From this end to the other.
    flow: Flow,
    next: u32,
    expects: u32,
    window: u32,
    is_open: bool,
}

impl End {
    fn take(&mut self, desc: &Desc) -> Option<Frame> {
        let tcp = &desc.tcp;
        let in_window = tcp.seq.wrapping_sub(self.expects) < self.window;
        if !self.is_open {
            return (tcp.flags & RST == 0).then(|| self.flow.out(RST, tcp.ack, 0));
        }
        if tcp.flags & RST != 0 {
            if tcp.seq == self.expects {
                self.is_open = false;
                return None;
            }
            return in_window.then(|| self.ack());
        }
        // The firewall only asks; what fits is no question.
        (!in_window).then(|| self.ack())
    }

    fn ack(&self) -> Frame {
        self.flow.out(ACK, self.next, self.expects)
    }
}

/// Both ends of a connection that has moved on by `bytes` since it was opened at 1000 and 5000.
fn ends(flow: Flow, bytes: [u32; 2]) -> [End; 2] {
    let next = [1_001 + bytes[0], 5_001 + bytes[1]];
    [0, 1].map(|end| End {
        flow: if end == 0 { flow } else { flow.reversed() },
        next: next[end],
        expects: next[1 - end],
        window: 60_000,
        is_open: true,
    })
}

/// Frames of the firewall's own to the two ends.
fn said(fw: &mut Firewall) -> Vec<(usize, Desc)> {
    let sent = fw.housekeep().sent;
    let read = |(port, bytes): (crate::PortId, Vec<u8>)| {
        assert_eq!(bytes[6..12], VIRTUAL.0);
        let desc = wire::parse(&bytes, bytes.len()).unwrap();
        assert!(wire::checksum::verify_transport(&bytes, &desc));
        assert_eq!(bytes[..6], mac_of(desc.key.dst()).0);
        (usize::from(port == WAN), desc)
    };
    sent.into_iter().map(read).collect()
}

/// What the ends say is given to the firewall, what the firewall answers to the ends.
fn talk(fw: &mut Firewall, ends: &mut [End; 2], mut heard: Vec<(usize, Desc)>) {
    while let Some((end, desc)) = heard.pop() {
        let Some(answer) = ends[end].take(&desc) else { continue };
        let ingress = if end == 0 { LAN } else { WAN };
        for (port, bytes) in fw.send(ingress, &answer).sent {
            assert_eq!(port, ingress, "answers go no further");
            heard.push((end, wire::parse(&bytes, bytes.len()).unwrap()));
        }
    }
}

fn outcome(fw: &mut Firewall, key: FlowKey) -> [bool; 2] {
    let notices = fw.notices();
    let of_session = |notice: &Notice| match notice {
        Notice::SessionReset { key: of, reset } => Some((*of, *reset)),
        _ => None,
    };
    let resets: Vec<_> = notices.iter().filter_map(of_session).collect();
    assert_eq!(resets.len(), 1, "{notices:?}");
    assert_eq!(resets[0].0, key);
    assert_eq!(fw.session(&key).map(|s| s.version), None);
    resets[0].1
}

fn terminate(fw: &mut Firewall) -> bool {
    let now = fw.now;
    fw.workers[0].engine.terminate_clean(Slot(0), now)
}

fn taken_over(flow: &Flow) -> Pair {
    let mut pair = Pair::lab();
    pair.a().open_tcp(flow, "lan-to-wan");
    pair.sync(0);
    pair.take_over();
    pair
}

#[test]
fn b_32_b_33_a_taken_over_session_is_reset_at_the_numbers_of_its_ends() {
    for net in nets() {
        let flow = Flow::of(&net);
        let key = flow.syn(0).key();
        for bytes in [[0, 0], [90_000_000, 1_000], [300_000_000, 380_000_000]] {
            let mut pair = taken_over(&flow);
            let mut ends = ends(flow, bytes);
            assert!(terminate(pair.b()));
            let questions = said(pair.b());
            assert_eq!(questions.len(), 2);
            for (end, question) in &questions {
                let tcp = question.tcp;
                assert_eq!((tcp.flags, tcp.payload_len, tcp.window), (ACK, 0, 0));
                assert_eq!(question.key, if *end == 0 { key.reversed() } else { key });
            }
            // Data of either end goes nowhere, and tells the number just as well.
            let data = ends[0].ack().flags(ACK | PSH).payload_len(500);
            let sent = pair.b().send(LAN, &data).counts(&["session-ending", "resets-sent"]);
            let (port, rst) = (sent[0].0, wire::parse(&sent[0].1, sent[0].1.len()).unwrap());
            assert_eq!((sent.len(), port, rst.tcp.flags, rst.tcp.seq), (1, LAN, RST, ends[0].expects));
            talk(pair.b(), &mut ends, vec![(0, rst)]);
            talk(pair.b(), &mut ends, questions);
            assert!(!ends[0].is_open && !ends[1].is_open, "both took the reset for what it is");
            pair.b().housekeep().sent.clear();
            assert_eq!(outcome(pair.b(), key), [true; 2]);
            assert_eq!(pair.nodes[1].ends().len(), 1, "the partner hears of it");
        }
    }
}

#[test]
fn b_33_ends_that_do_not_answer_are_asked_three_times() {
    for net in nets() {
        let flow = Flow::of(&net);
        let mut pair = taken_over(&flow);
        assert!(terminate(pair.b()) && terminate(pair.b()), "asking twice is asking once");
        let mut asked = Vec::new();
        for tenth in 0..30 {
            asked.extend(said(pair.b()).into_iter().map(|(end, _)| (tenth, end)));
            // One that answers is not asked again.
            if tenth == 7 {
                let mut ends = ends(flow, [5, 5]);
                let answer = ends[1].ack();
                let rst = pair.b().send(WAN, &answer).answered(WAN, &["session-ending", "resets-sent"]).1;
                assert_eq!(ends[1].take(&rst).map(|f| f.key()), None);
                assert!(!ends[1].is_open);
                // Its late packets are neither forwarded nor answered.
                pair.b().send(WAN, &answer).dropped("session-ending", &[]);
            }
            pair.b().now = pair.b().now.after(100);
        }
        assert_eq!(asked, [(0, 0), (0, 1), (6, 0), (6, 1), (12, 0)]);
        assert_eq!(outcome(pair.b(), flow.syn(0).key()), [false, true]);
    }
}

#[test]
fn b_32_an_end_that_has_forgotten_the_connection_says_so() {
    for net in nets() {
        let flow = Flow::of(&net);
        let mut pair = taken_over(&flow);
        let mut ends = ends(flow, [70_000, 80_000]);
        ends[0].is_open = false;
        assert!(terminate(pair.b()));
        let questions = said(pair.b());
        talk(pair.b(), &mut ends, questions);
        pair.b().housekeep().sent.clear();
        assert!(!ends[1].is_open);
        assert_eq!(outcome(pair.b(), flow.syn(0).key()), [true; 2]);
    }
}

#[test]
fn b_32_known_numbers_are_used_at_once() {
    for net in nets() {
        let flow = Flow::of(&net);
        let key = flow.syn(0).key();
        let mut idle = Pair::lab();
        idle.a().open_tcp(&flow, "lan-to-wan");
        idle.a().idle(12_000).sent.clear();
        idle.sync(0);
        idle.take_over();
        let mut own = Pair::lab();
        own.a().open_tcp(&flow, "lan-to-wan");
        for (pair, node) in [(&mut idle, 1), (&mut own, 0)] {
            let fw = &mut pair.nodes[node].fw;
            let mut ends = ends(flow, [0, 0]);
            assert!(terminate(fw));
            let resets = said(fw);
            assert_eq!(resets.len(), 2);
            for (end, desc) in resets {
                assert_eq!((desc.tcp.flags, ends[end].take(&desc).map(|f| f.key())), (RST, None));
                assert!(!ends[end].is_open);
            }
            assert_eq!(outcome(fw, key), [true; 2]);
        }
        // In the middle of a transfer they have to be asked for.
        let mut busy = Pair::lab();
        busy.a().open_tcp(&flow, "lan-to-wan");
        busy.a().send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(900)).forwarded(WAN, &[]);
        assert!(terminate(busy.a()));
        assert!(said(busy.a()).iter().all(|(_, question)| question.tcp.flags == ACK));
        let mut ends = ends(flow, [900, 0]);
        let answers = [0, 1].map(|end| ends[end].ack());
        for (end, answer) in answers.into_iter().enumerate() {
            let port = if end == 0 { LAN } else { WAN };
            let (_, rst) = busy.a().send(port, &answer).answered(port, &["session-ending", "resets-sent"]);
            ends[end].take(&rst);
        }
        assert!(!ends[0].is_open && !ends[1].is_open);
        busy.a().housekeep().sent.clear();
        assert_eq!(outcome(busy.a(), key), [true; 2]);
    }
}

#[test]
fn b_33_sessions_without_numbers_end_at_once_and_without_a_word() {
    for net in nets() {
        let flow = Flow::of(&net);
        for frame in [flow.datagram(), flow.syn(1), Frame::echo_request(net.client, net.server, 1, 1)] {
            let mut pair = Pair::lab();
            pair.a().send(LAN, &frame).forwarded(WAN, &ADMITTED);
            assert!(terminate(pair.a()));
            pair.a().housekeep().silent(&[]);
            assert_eq!(outcome(pair.a(), frame.key()), [false; 2]);
        }
        // A closed connection has nothing to reset.
        let mut pair = Pair::lab();
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.a().send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        assert!(terminate(pair.a()));
        pair.a().housekeep().silent(&[]);
        assert_eq!(outcome(pair.a(), flow.syn(0).key()), [false; 2]);
        assert!(!terminate(pair.a()), "there is none any more");
    }
}

#[test]
fn a_session_on_its_way_out_survives_as_a_mirror_if_the_role_goes() {
    for net in nets() {
        let flow = Flow::of(&net);
        let mut pair = taken_over(&flow);
        assert!(terminate(pair.b()));
        assert_eq!(said(pair.b()).len(), 2);
        pair.nodes[1].set_role(RoleView::Standby);
        assert!(!terminate(pair.b()), "the other node's to end");
        pair.b().idle(5_000).silent(&[]);
        pair.nodes[1].set_role(RoleView::Active { term: TERMS[1] + 2 });
        pair.b().send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
    }
}

#[test]
fn icmp_errors_do_not_bring_an_ending_session_back() {
    for net in nets() {
        let flow = Flow::of(&net);
        let mut pair = taken_over(&flow);
        assert!(terminate(pair.b()));
        assert_eq!(said(pair.b()).len(), 2);
        let quoted = flow.out(ACK, 1_001, 5_001);
        let error = Frame::icmp_error(net.server, net.client, if net.v6 { 1 } else { 3 }, 1, &quoted, 60);
        pair.b().send(WAN, &error).dropped("session-ending", &[]);
        pair.b().send(LAN, &flow.out(ACK, 1_001, 5_001)).sent.clear();
        assert_eq!(pair.b().workers[0].counters.event(crate::counters::Event::Forwarded), 0);
    }
}

#[test]
fn only_so_many_sessions_are_on_their_way_out_at_once() {
    let net = super::net::net(false);
    let mut fw = Firewall::new(Setup { slots: 512, ..Setup::default() });
    for port in 0..300 {
        let flow = Flow { ports: (1_000 + port, 53), ..Flow::of(&net) };
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
    }
    let now = fw.now;
    let begun = (0..300).filter(|slot| fw.workers[0].engine.terminate_clean(Slot(*slot), now)).count();
    assert_eq!(begun, 256);
    fw.housekeep().sent.clear();
    assert_eq!(fw.sessions().len(), 44);
    assert!(fw.workers[0].engine.terminate_clean(Slot(299), now));
}
