//! TCP after a takeover: traffic goes on, forged segments do not, and the check comes back.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, Net, VIRTUAL, WAN, allow, mac_of, net, nets};
use super::pair::Pair;
use crate::ids::PortId;
use crate::policy::{Rule, Service};
use crate::role::RoleView;
use crate::snapshot::PairView;
use proptest::prelude::*;
use wire::FlowKey;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, FIN, RST, SYN};

/// Window scale 7: windows of 500 units are 64,000 bytes.
const SCALE: [u8; 4] = [1, 3, 3, 7];
const WINDOW: u16 = 500;
const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];

/// A connection as its two ends know it: 0 is the client, 1 the server.
#[derive(Clone, Copy)]
struct Talk {
    flow: Flow,
    next: [u32; 2],
}

impl Talk {
    fn open(fw: &mut Firewall, flow: Flow) -> Self {
        fw.send(LAN, &flow.syn(1_000).options(&SCALE)).forwarded(WAN, &ADMITTED);
        fw.send(WAN, &flow.syn_ack(5_000, 1_001).options(&SCALE)).forwarded(LAN, &[]);
        let talk = Self { flow, next: [1_001, 5_001] };
        talk.pass(fw, talk.ack(0), 0);
        talk
    }

    fn key(&self) -> FlowKey {
        self.flow.syn(0).key()
    }

    fn frame(&self, from: usize, flags: u8, seq: u32, ack: u32) -> Frame {
        let frame = if from == 0 { self.flow.out(flags, seq, ack) } else { self.flow.back(flags, seq, ack) };
        frame.window(WINDOW)
    }

    /// A bare ACK of all that the other end has sent.
    fn ack(&self, from: usize) -> Frame {
        self.frame(from, ACK, self.next[from], self.next[1 - from])
    }

    /// New data.
    fn data(&mut self, from: usize, len: u16) -> Frame {
        let frame = self.ack(from).payload_len(len.into());
        self.next[from] = self.next[from].wrapping_add(len.into());
        frame
    }

    /// Both ends got further, without this firewall's seeing it.
    fn elsewhere(&mut self, bytes: [u32; 2]) {
        self.next = [0, 1].map(|end| self.next[end].wrapping_add(bytes[end]));
    }

    /// The frame must pass.
    fn pass(&self, fw: &mut Firewall, frame: Frame, from: usize) {
        self.passes(fw, frame, from, &[]);
    }

    fn passes(&self, fw: &mut Firewall, frame: Frame, from: usize, counts: &[&str]) {
        let (ingress, egress) = ways(from);
        fw.send(ingress, &frame).forwarded(egress, counts);
    }
}

fn ways(from: usize) -> (PortId, PortId) {
    if from == 0 { (LAN, WAN) } else { (WAN, LAN) }
}

/// A mirrored connection that went on for `bytes` before node 0 died.
fn taken_over(net: &Net, bytes: [u32; 2]) -> (Pair, Talk) {
    let mut pair = Pair::lab();
    let mut talk = Talk::open(pair.a(), Flow::of(net));
    pair.sync(0);
    talk.elsewhere(bytes);
    pair.take_over();
    assert_eq!(relaxed(&mut pair), 1);
    (pair, talk)
}

fn relaxed(pair: &mut Pair) -> u64 {
    pair.b().housekeep().sent.clear();
    pair.b().workers[0].counters.relaxed()
}

#[test]
fn b_30_b_31_a_transfer_goes_on_and_its_windows_are_learned_again() {
    for net in nets() {
        for bytes in [[0, 0], [300_000_000, 1_000], [0, 300_000_000], [400_000_000, 400_000_000]] {
            for first in [0, 1] {
                let (mut pair, mut talk) = taken_over(&net, bytes);
                let data = talk.data(first, 1_400);
                talk.pass(pair.b(), data, first);
                assert_eq!(relaxed(&mut pair), 1);
                talk.pass(pair.b(), talk.ack(1 - first), 1 - first);
                // The ACK confirmed one half; the next segment's confirms the other.
                assert_eq!(relaxed(&mut pair), 1);
                let data = talk.data(first, 1_400);
                talk.passes(pair.b(), data, first, &["tcp-relearned"]);
                assert_eq!(relaxed(&mut pair), 0);
                // From now on everything is checked, both ways.
                for from in [0, 1] {
                    let (ingress, _) = ways(from);
                    let ack = talk.next[1 - from];
                    let far = talk.frame(from, ACK, talk.next[from].wrapping_add(200_000), ack);
                    pair.b().send(ingress, &far.payload_len(10)).dropped("tcp-seq-too-new", &[]);
                    let old = talk.frame(from, ACK, talk.next[from].wrapping_sub(200_000), ack);
                    pair.b().send(ingress, &old.payload_len(10)).dropped("tcp-seq-too-old", &[]);
                    let unsent = talk.frame(from, ACK, talk.next[from], ack.wrapping_add(1));
                    pair.b().send(ingress, &unsent).dropped("tcp-ack-unsent", &[]);
                }
                for from in [0, 1, 1, 0] {
                    let data = talk.data(from, 500);
                    talk.pass(pair.b(), data, from);
                }
            }
        }
    }
}

#[test]
fn x_07_what_is_forged_while_nothing_is_known_is_refused() {
    for net in nets() {
        let (mut pair, mut talk) = taken_over(&net, [1_000_000, 10_000]);
        let implausible = "tcp-relaxed-implausible";
        for from in [0, 1] {
            let (ingress, _) = ways(from);
            let (seq, ack) = (talk.next[from], talk.next[1 - from]);
            for (seq, ack) in [
                (seq.wrapping_add(1 << 29), ack),
                (seq.wrapping_add(1 << 31), ack),
                (seq.wrapping_sub(2_000_000), ack),
                (seq, ack.wrapping_add(1 << 29)),
                (seq, ack.wrapping_sub(2_000_000)),
            ] {
                let forged = talk.frame(from, ACK, seq, ack).payload_len(100);
                pair.b().send(ingress, &forged).dropped(implausible, &[]);
            }
        }
        // One that is plausible passes to an end that discards it, and does not own the window.
        let forged = talk.frame(1, ACK, talk.next[1].wrapping_add(1 << 27), talk.next[0]).payload_len(100);
        talk.pass(pair.b(), forged, 1);
        for from in [1, 0] {
            let data = talk.data(from, 1_000);
            talk.pass(pair.b(), data, from);
        }
        let data = talk.data(1, 1_000);
        talk.passes(pair.b(), data, 1, &["tcp-relearned"]);
        let forged = talk.frame(1, ACK, talk.next[1].wrapping_add(1 << 27), talk.next[0]).payload_len(100);
        pair.b().send(WAN, &forged).dropped("tcp-seq-too-new", &[]);
    }
}

#[test]
fn x_07_a_reset_that_nothing_confirms_is_held_back_and_its_sender_asked() {
    for net in nets() {
        let (mut pair, talk) = taken_over(&net, [7_000, 9_000]);
        let key = talk.key();
        for from in [0, 1] {
            let (ingress, _) = ways(from);
            // Even at the right number: nobody can know yet that it is.
            let rst = talk.frame(from, RST, talk.next[from], 0);
            pair.b().idle(1_000).sent.clear();
            let (out, probe) =
                pair.b().send(ingress, &rst).answered(ingress, &["tcp-rst-unverified", "tcp-probes-sent"]);
            assert_eq!(probe.key, rst.key().reversed());
            assert_eq!((probe.tcp.flags, probe.tcp.payload_len, probe.tcp.ack), (ACK, 0, talk.next[from]));
            assert_eq!(
                (&out[..6], &out[6..12]),
                (&mac_of(if from == 0 { net.client } else { net.server }).0[..], &VIRTUAL.0[..])
            );
            // Outside of the window, whatever it is: it must be answered.
            assert!(talk.next[1 - from].wrapping_sub(probe.tcp.seq) > 1 << 29);
            // Once a second.
            pair.b().send(ingress, &rst).dropped("tcp-rst-unverified", &[]);
            assert_eq!(pair.b().state(&key), "established");
        }
        // The client lives: its answer passes, and confirms nothing but a candidate.
        talk.pass(pair.b(), talk.ack(0), 0);
        assert_eq!(relaxed(&mut pair), 1);
        talk.passes(pair.b(), talk.ack(1), 1, &[]);
        talk.passes(pair.b(), talk.ack(0), 0, &["tcp-relearned"]);
    }
}

#[test]
fn x_07_a_reset_that_answers_the_other_end_is_verified() {
    for net in nets() {
        for from in [0, 1] {
            let (mut pair, mut talk) = taken_over(&net, [70_000, 9_000]);
            let other = 1 - from;
            let data = talk.data(other, 100);
            talk.pass(pair.b(), data, other);
            let (ingress, egress) = ways(from);
            let off = talk.frame(from, RST, talk.next[from].wrapping_add(1), 0);
            let held = pair.b().send(ingress, &off);
            assert_eq!(held.counted["tcp-rst-unverified"], 1);
            let rst = talk.frame(from, RST, talk.next[from], 0);
            pair.b().send(ingress, &rst).forwarded(egress, &["rst-verified"]);
            assert_eq!(pair.b().state(&talk.key()), "closed");
            assert_eq!(relaxed(&mut pair), 0);
            // The partner, if there is one, hears of it.
            assert_eq!(pair.nodes[1].records().len(), 1);
        }
    }
}

#[test]
fn x_07_a_syn_on_a_taken_over_session_passes_and_changes_nothing() {
    for net in nets() {
        let (mut pair, mut talk) = taken_over(&net, [70_000, 9_000]);
        let before = pair.b().expect_session(&talk.key());
        talk.passes(pair.b(), talk.flow.syn(99), 0, &["passed tcp-syn-on-live"]);
        let after = pair.b().expect_session(&talk.key());
        assert_eq!((after.version, pair.b().state(&talk.key())), (before.version, "established"));
        // The server knows the old connection and says so; the client resets it at that very number.
        talk.pass(pair.b(), talk.ack(1), 1);
        let rst = talk.frame(0, RST, talk.next[0], 0);
        talk.passes(pair.b(), rst, 0, &["rst-verified"]);
        // Or it goes on: nothing was lost.
        let (mut pair, _) = taken_over(&net, [70_000, 9_000]);
        talk = Talk { next: [1_001 + 70_000, 5_001 + 9_000], ..talk };
        talk.passes(pair.b(), talk.flow.syn(99), 0, &["passed tcp-syn-on-live"]);
        let data = talk.data(0, 10);
        talk.pass(pair.b(), data, 0);
        // Or the server has lost the connection as well: its SYN-ACK begins a new one.
        let (mut pair, _) = taken_over(&net, [70_000, 9_000]);
        talk.passes(pair.b(), talk.flow.syn(3_000_000_099), 0, &["passed tcp-syn-on-live"]);
        talk.pass(pair.b(), talk.flow.syn_ack(2_000_000_777, 3_000_000_100), 1);
        assert_eq!((pair.b().state(&talk.key()), relaxed(&mut pair)), ("syn-received", 0));
        talk.pass(pair.b(), talk.flow.out(ACK, 3_000_000_100, 2_000_000_778), 0);
        assert_eq!(pair.b().state(&talk.key()), "established");
    }
}

#[test]
fn a_closing_connection_is_taken_over_and_closes() {
    for net in nets() {
        let mut pair = Pair::lab();
        let mut talk = Talk::open(pair.a(), Flow::of(&net));
        // The client has said all; the server has not.
        let fin = talk.frame(0, FIN | ACK, talk.next[0], talk.next[1]);
        talk.pass(pair.a(), fin, 0);
        talk.next[0] += 1;
        pair.sync(0);
        assert_eq!(pair.b().state(&talk.key()), "fin-wait");
        talk.elsewhere([0, 500_000]);
        pair.take_over();
        let data = talk.data(1, 1_000);
        talk.pass(pair.b(), data, 1);
        talk.passes(pair.b(), talk.ack(0), 0, &["tcp-relearned"]);
        let fin = talk.frame(1, FIN | ACK, talk.next[1], talk.next[0]);
        talk.pass(pair.b(), fin, 1);
        talk.next[1] += 1;
        talk.pass(pair.b(), talk.ack(0), 0);
        assert_eq!(pair.b().state(&talk.key()), "time-wait");
    }
}

/// What was not seen since the takeover is not exact only because it is silent.
#[test]
fn x_07_silence_after_a_takeover_makes_no_numbers_exact() {
    for net in nets() {
        let mut pair = Pair::lab();
        let mut talk = Talk::open(pair.a(), Flow::of(&net));
        pair.sync(0);
        pair.nodes[0].set_role(RoleView::Standby);
        pair.wait(1_000);
        talk.elsewhere([100_000_000, 40_000]);
        pair.nodes[0].set_role(RoleView::Active { term: 4 });
        pair.wait(60_000);
        assert!(!pair.a().expect_session(&talk.key()).tcp().unwrap().1);
        let told = pair.nodes[0].records();
        assert_eq!(told, [], "there is nothing to tell");
        for from in [1, 0, 1] {
            let data = talk.data(from, 100);
            pair.a().send(ways(from).0, &data).sent.clear();
        }
        assert_eq!(pair.nodes[0].records().len(), 1, "now there is");
        pair.wait(20_000);
        assert_eq!(pair.nodes[0].records().len(), 0, "the last segment is not acknowledged");
        talk.pass(pair.a(), talk.ack(0), 0);
        pair.wait(20_000);
        let told = pair.nodes[0].records();
        assert!(
            told.len() == 1 && matches!(told[0].state, crate::mirror::ImportedState::Tcp { idle: true, .. })
        );
    }
}

/// A forged FIN must not end what a candidate segment may not even shift.
#[test]
fn x_07_a_fin_is_not_believed_before_its_place_is() {
    for net in nets() {
        let (mut pair, mut talk) = taken_over(&net, [1_000, 1_000]);
        let forged = talk.frame(0, FIN | ACK, talk.next[0].wrapping_add(50_000), talk.next[1]);
        talk.pass(pair.b(), forged, 0);
        assert_eq!(pair.b().state(&talk.key()), "established");
        for _ in 0..3 {
            for from in [0, 1] {
                let data = talk.data(from, 100);
                pair.b().send(ways(from).0, &data).sent.clear();
            }
        }
        assert_eq!((pair.b().state(&talk.key()), relaxed(&mut pair)), ("established", 0));
    }
}

/// Both ends close before anything of them is known again: it must not look open for hours.
#[test]
fn b_31_a_connection_that_ends_before_it_is_learned_closes() {
    for net in nets() {
        for first in [0, 1] {
            let (mut pair, mut talk) = taken_over(&net, [3_000_000, 1_000]);
            let second = 1 - first;
            let data = talk.data(first, 1_000);
            talk.pass(pair.b(), data, first);
            let before_fin = talk.next[first];
            let fin = talk.frame(first, FIN | ACK, before_fin, talk.next[second]);
            talk.pass(pair.b(), fin, first);
            talk.next[first] += 1;
            // The data is acknowledged, the FIN is not yet: nothing is believed.
            let early = talk.frame(second, ACK, talk.next[second], before_fin);
            talk.pass(pair.b(), early, second);
            assert_eq!(pair.b().state(&talk.key()), "established");
            let fin = talk.frame(second, FIN | ACK, talk.next[second], talk.next[first]);
            talk.pass(pair.b(), fin, second);
            talk.next[second] += 1;
            assert_eq!(pair.b().state(&talk.key()), "fin-wait");
            talk.passes(pair.b(), talk.ack(first), first, &["tcp-relearned"]);
            assert_eq!((pair.b().state(&talk.key()), relaxed(&mut pair)), ("time-wait", 0));
        }
    }
}

#[test]
fn an_update_of_a_held_session_begins_anew_from_the_newest_snapshot() {
    for net in nets() {
        let (mut pair, mut talk) = taken_over(&net, [1_000, 1_000]);
        for from in [0, 1, 0] {
            let data = talk.data(from, 100);
            pair.b().send(ways(from).0, &data).sent.clear();
        }
        assert_eq!(relaxed(&mut pair), 0);
        // The other node is back, takes the role, and tells of the session: it stands elsewhere now.
        pair.nodes[1].set_role(RoleView::Standby);
        let mut record = crate::mirror::Imported::of(
            &pair.b().expect_session(&talk.key()),
            pair.b().now,
            &crate::track::Timeouts::default(),
        );
        record.version += 1 << 44;
        let outcome = pair.nodes[1].import(&record);
        assert!(matches!(outcome, crate::mirror::Import::Stored { .. }));
        pair.b().housekeep().sent.clear();
        assert_eq!(pair.b().workers[0].counters.relaxed(), 0, "not while it is a mirror");
        talk.elsewhere([100_000_000, 3]);
        pair.nodes[1].set_role(RoleView::Active { term: 5 });
        assert_eq!(relaxed(&mut pair), 1);
        let data = talk.data(0, 100);
        talk.pass(pair.b(), data, 0);
    }
}

#[test]
fn a_node_that_is_active_again_does_not_trust_its_old_numbers() {
    for net in nets() {
        let mut pair = Pair::lab();
        let mut talk = Talk::open(pair.a(), Flow::of(&net));
        pair.sync(0);
        pair.nodes[0].set_role(RoleView::Standby);
        // The other node moves the connection on and has nothing to tell of it.
        pair.wait(5_000);
        talk.elsewhere([200_000_000, 40_000]);
        pair.nodes[0].set_role(RoleView::Active { term: 4 });
        for from in [1, 0] {
            let data = talk.data(from, 100);
            talk.pass(pair.a(), data, from);
        }
        let data = talk.data(1, 100);
        talk.passes(pair.a(), data, 1, &["tcp-relearned"]);
        let forged = talk.frame(1, ACK, talk.next[1].wrapping_add(1 << 27), talk.next[0]).payload_len(100);
        pair.a().send(WAN, &forged).dropped("tcp-seq-too-new", &[]);
        // A connection that was opened since is not relaxed at all.
        let other = Talk::open(pair.a(), Flow { ports: (9, 80), ..talk.flow });
        let forged = other.frame(1, ACK, other.next[1].wrapping_add(1 << 27), other.next[0]).payload_len(100);
        pair.a().send(WAN, &forged).dropped("tcp-seq-too-new", &[]);
    }
}

#[test]
fn b_21_unknown_connections_are_reset_for_a_while_after_a_takeover() {
    let local = Rule { replicate: false, ..allow("lan-to-wan", LAN, WAN, &[Service::Any]) };
    let pair_view = PairView { reset_unknown_ms: 60_000, ..PairView::default() };
    for net in nets() {
        for (pair_view, resets) in [(pair_view, true), (PairView::default(), false)] {
            let setup = Setup { rules: vec![local.clone()], pair: pair_view, ..Setup::default() };
            let flow = Flow::of(&net);
            // Nothing was taken over.
            Firewall::new(setup.clone()).send(LAN, &flow.out(ACK, 1, 2)).dropped("tcp-unknown-ack", &[]);
            let mut pair = Pair::new(setup);
            pair.take_over();
            for (frame, port) in [(flow.out(ACK, 70, 80), LAN), (flow.back(FIN | ACK, 90, 100), WAN)] {
                let reason = if port == LAN { "tcp-unknown-ack" } else { "tcp-unknown-fin" };
                if resets {
                    let (out, rst) =
                        pair.b().send(port, &frame).answered(port, &[reason, "unknown-resets-sent"]);
                    let ack = if port == LAN { 80 } else { 100 };
                    assert_eq!((rst.key, rst.tcp.flags, rst.tcp.seq), (frame.key().reversed(), RST, ack));
                    assert_eq!(out[6..12], VIRTUAL.0);
                } else {
                    pair.b().send(port, &frame).dropped(reason, &[]);
                }
            }
            // What no rule admits in any direction, what comes from the wrong side, resets and SYN-ACKs:
            // nothing.
            let dmz = Flow { b: net.dmz, ..flow };
            pair.b().send(LAN, &dmz.out(ACK, 1, 2)).dropped("tcp-unknown-ack", &[]);
            pair.b().send(LAN, &flow.out(RST, 1, 2)).dropped("tcp-unknown-rst", &[]);
            pair.b().send(WAN, &flow.back(SYN | ACK, 1, 2)).dropped("tcp-unknown-syn-ack", &[]);
            let spoofed = flow.out(ACK, 1, 2).eth(mac_of(net.server), VIRTUAL).bytes();
            pair.b().send_bytes(WAN, &spoofed).dropped("tcp-unknown-ack", &[]);
            pair.b().send(LAN, &flow.out(ACK, 1, 2).bad_l4_checksum()).dropped("tcp-unknown-ack", &[]);
            // A SYN opens as ever; and an hour later nobody is helped.
            pair.b().idle(60_000).sent.clear();
            pair.b().send(LAN, &flow.out(ACK, 70, 80)).dropped("tcp-unknown-ack", &[]);
            pair.b().send(LAN, &flow.syn(5)).forwarded(WAN, &ADMITTED);
        }
    }
}

#[test]
fn b_31_keep_alives_are_enough_to_learn_from() {
    for net in nets() {
        let (mut pair, talk) = taken_over(&net, [1_000_000, 2_000_000]);
        let keep_alive = talk.frame(0, ACK, talk.next[0].wrapping_sub(1), talk.next[1]);
        talk.pass(pair.b(), keep_alive.clone(), 0);
        talk.pass(pair.b(), talk.ack(1), 1);
        talk.passes(pair.b(), keep_alive, 0, &["tcp-relearned"]);
        let far = talk.frame(0, ACK, talk.next[0].wrapping_add(200_000), talk.next[1]).payload_len(10);
        pair.b().send(LAN, &far).dropped("tcp-seq-too-new", &[]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever two honest ends say after a takeover passes, in whatever order, and a round trip later the
    /// connection is known again.
    #[test]
    fn b_30_honest_ends_always_get_through(
        v6 in any::<bool>(),
        elsewhere in (0..402_653_184_u32, 0..402_653_184_u32),
        said in prop::collection::vec((0..2_usize, 0..1_400_u16, any::<bool>()), 0..40),
    ) {
        let (mut pair, mut talk) = taken_over(&net(v6), [elsewhere.0, elsewhere.1]);
        // What each end has acknowledged; no more than a window is ever under way.
        let mut acked = talk.next;
        for (from, len, acks) in said {
            if acks {
                acked[1 - from] = talk.next[1 - from];
            }
            let room = acked[from].wrapping_add(60_000).wrapping_sub(talk.next[from]);
            let len = len.min(room as u16);
            let frame = talk.frame(from, ACK, talk.next[from], acked[1 - from]).payload_len(len.into());
            talk.next[from] = talk.next[from].wrapping_add(len.into());
            let sent = pair.b().send(ways(from).0, &frame).sent.len();
            prop_assert_eq!(sent, 1, "{}", pair.b().dump());
        }
        for from in [0, 1, 0, 1] {
            let sent = pair.b().send(ways(from).0, &talk.ack(from)).sent.len();
            prop_assert_eq!(sent, 1, "{}", pair.b().dump());
        }
        prop_assert_eq!(relaxed(&mut pair), 0);
    }
}
