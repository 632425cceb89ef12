//! Sessions of every protocol from their first packet to their last.

use super::firewall::Firewall;
use super::net::{Flow, LAN, WAN, nets, zone};
use wire::Proto;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, FIN, PSH, RST};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

#[test]
fn b_03_tcp_is_followed_from_syn_to_time_wait() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        let key = flow.syn(0).key();
        fw.send(LAN, &flow.syn(1_000)).forwarded(WAN, OPENED);
        assert_eq!(fw.state(&key), "syn-sent");
        fw.send(WAN, &flow.syn_ack(5_000, 1_001)).forwarded(LAN, &[]);
        assert_eq!(fw.state(&key), "syn-received");
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        assert_eq!(fw.state(&key), "established");
        fw.send(LAN, &flow.out(ACK | PSH, 1_001, 5_001).payload_len(700)).forwarded(WAN, &[]);
        fw.send(WAN, &flow.back(ACK, 5_001, 1_701).payload_len(1_200)).forwarded(LAN, &[]);
        fw.send(LAN, &flow.out(FIN | ACK, 1_701, 6_201)).forwarded(WAN, &[]);
        assert_eq!(fw.state(&key), "fin-wait");
        fw.send(WAN, &flow.back(FIN | ACK, 6_201, 1_702)).forwarded(LAN, &[]);
        assert_eq!(fw.state(&key), "last-ack");
        fw.send(LAN, &flow.out(ACK, 1_702, 6_202)).forwarded(WAN, &[]);
        assert_eq!(fw.state(&key), "time-wait");

        let session = fw.expect_session(&key);
        let header = if net.v6 { 60 } else { 40 };
        assert_eq!(session.keys, [key, key.reversed()]);
        assert_eq!(session.packets, [5, 3]);
        assert_eq!(session.bytes, [5 * header + 700, 3 * header + 1_200]);
        assert_eq!(session.binding.zones, [zone(LAN), zone(WAN)]);
        assert_eq!(session.path.next_hops, [fw.hop(WAN, net.server), fw.hop(LAN, net.client)]);
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.sessions(), [1, 0, 0, 0]);
        fw.idle(122_000).silent(&["sessions-expired"]);
        assert_eq!(fw.workers[0].counters.sessions(), [0; 4]);
    }
}

#[test]
fn b_03_a_reset_closes_the_session() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "closed");
        // A straggler of the client's passes while the session lingers.
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(5)).forwarded(WAN, &["passed tcp-after-close"]);
        fw.idle(12_000).silent(&["sessions-expired"]);
        fw.send(LAN, &flow.out(ACK, 1_006, 5_001)).dropped("tcp-unknown-ack", &[]);
    }
}

#[test]
fn b_03_udp_lives_longer_once_it_is_answered() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::between(net.client, net.far, 5_353, 53));
        let key = flow.datagram().key();
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        assert_eq!(fw.state(&key), "new");
        fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        assert_eq!(fw.state(&key), "replied");
        let next_hops = fw.expect_session(&key).path.next_hops;
        assert_eq!(next_hops, [fw.hop(WAN, net.router), fw.hop(LAN, net.client)], "through the router");
        fw.idle(110_000).silent(&[]);
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &[]);
        fw.idle(110_000).silent(&[]);
        fw.idle(12_000).silent(&["sessions-expired"]);

        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        fw.idle(28_000).silent(&[]);
        fw.idle(4_000).silent(&["sessions-expired"]);
    }
}

#[test]
fn b_03_echo_passes_out_and_its_replies_back() {
    for net in nets() {
        let mut fw = Firewall::lab();
        let request = |seq| Frame::echo_request(net.client, net.server, 7, seq).payload_len(56);
        let reply = |seq| Frame::echo_reply(net.server, net.client, 7, seq).payload_len(56);
        fw.send(LAN, &request(1)).forwarded(WAN, OPENED);
        fw.send(WAN, &reply(1)).forwarded(LAN, &[]);
        fw.send(LAN, &request(2)).forwarded(WAN, &[]);
        fw.send(WAN, &reply(2)).forwarded(LAN, &[]);
        let session = fw.expect_session(&request(1).key());
        assert_eq!((session.packets, fw.state(&request(1).key())), ([2, 2], "replied"));
        // Another identifier is another session; a reply nobody asked for is none.
        fw.send(WAN, &Frame::echo_reply(net.server, net.client, 8, 1))
            .dropped("icmp-echo-reply-unasked", &[]);
        fw.send(LAN, &Frame::echo_request(net.client, net.server, 8, 1)).forwarded(WAN, OPENED);
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.sessions(), [0, 0, 2, 0]);
    }
}

#[test]
fn b_03_two_hosts_that_ping_each_other_with_one_identifier_are_two_sessions() {
    for net in nets() {
        let mut rules = super::net::lab_rules();
        rules.push(super::net::allow("wan-to-lan", WAN, LAN, &[crate::policy::Service::IcmpEcho]));
        let mut fw = Firewall::with_rules(rules);
        let (client, server) = (net.client, net.server);
        fw.send(LAN, &Frame::echo_request(client, server, 7, 1)).forwarded(WAN, OPENED);
        fw.send(WAN, &Frame::echo_request(server, client, 7, 1))
            .forwarded(LAN, &["sessions-created", "wan-to-lan admitted"]);
        fw.send(WAN, &Frame::echo_reply(server, client, 7, 1)).forwarded(LAN, &[]);
        fw.send(LAN, &Frame::echo_reply(client, server, 7, 1)).forwarded(WAN, &[]);
        assert_eq!(fw.sessions().iter().map(|s| s.packets).collect::<Vec<_>>(), [[1, 1], [1, 1]]);
    }
}

#[test]
fn b_03_protocols_47_and_89_pass_by_address_pair() {
    for net in nets() {
        for proto in [Proto::GRE, Proto(89)] {
            let mut fw = Firewall::lab();
            let out = Frame::ip(net.client, net.server, proto).payload_len(40);
            let back = Frame::ip(net.server, net.client, proto).payload_len(80);
            fw.send(LAN, &out).forwarded(WAN, OPENED);
            fw.send(WAN, &back).forwarded(LAN, &[]);
            assert_eq!(fw.state(&out.key()), "replied");
            assert_eq!(fw.expect_session(&out.key()).packets, [1, 1]);
            fw.idle(590_000).silent(&[]);
            fw.idle(12_000).silent(&["sessions-expired"]);
        }
        let mut fw = Firewall::lab();
        fw.send(LAN, &Frame::ip(net.client, net.server, Proto::ESP).payload_len(40))
            .dropped("policy-drop", &["default-deny refused"]);
    }
}

#[test]
fn only_replies_come_in() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let denied = ("policy-drop", &["default-deny refused"]);
        for frame in [
            Flow::between(net.server, net.client, 80, 40_001).syn(1),
            Flow::between(net.server, net.client, 81, 40_000).syn(1),
            Flow::between(net.server, net.second, 80, 40_000).syn(1),
            Flow::between(net.server, net.client, 80, 40_000).datagram(),
            Frame::echo_request(net.server, net.client, 1, 1),
            Frame::ip(net.server, net.client, Proto::GRE).payload_len(20),
        ] {
            fw.send(WAN, &frame).dropped(denied.0, denied.1);
        }
        assert_eq!(fw.sessions().len(), 1);
    }
}

#[test]
fn tcp_that_belongs_to_no_session_is_not_picked_up() {
    for net in nets() {
        for (ingress, flow) in [(LAN, Flow::of(&net)), (WAN, Flow::of(&net).reversed())] {
            let mut fw = Firewall::lab();
            fw.send(ingress, &flow.out(ACK, 1, 1).payload_len(10)).dropped("tcp-unknown-ack", &[]);
            fw.send(ingress, &flow.out(FIN | ACK, 1, 1)).dropped("tcp-unknown-fin", &[]);
            fw.send(ingress, &flow.out(RST, 1, 0)).dropped("tcp-unknown-rst", &[]);
            fw.send(ingress, &flow.reversed().syn_ack(1, 1)).dropped("tcp-unknown-syn-ack", &[]);
            assert!(fw.sessions().is_empty());
        }
    }
}

#[test]
fn a_wrong_checksum_on_what_would_change_a_state_changes_nothing() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        let key = flow.syn(0).key();
        fw.send(LAN, &flow.syn(1_000).bad_l4_checksum()).dropped("bad-l4-checksum", &[]);
        assert!(fw.sessions().is_empty());
        fw.send(LAN, &flow.syn(1_000)).forwarded(WAN, OPENED);
        fw.send(WAN, &flow.syn_ack(5_000, 1_001).bad_l4_checksum()).dropped("bad-l4-checksum", &[]);
        assert_eq!(fw.state(&key), "syn-sent");
        fw.send(WAN, &flow.syn_ack(5_000, 1_001)).forwarded(LAN, &[]);
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        let before = fw.expect_session(&key);
        for forged in [flow.back(RST, 5_001, 0), flow.back(FIN | ACK, 5_001, 1_001), flow.syn(9_000)] {
            let ingress = if forged.key() == key { LAN } else { WAN };
            fw.send(ingress, &forged.bad_l4_checksum()).dropped("bad-l4-checksum", &[]);
        }
        let after = fw.expect_session(&key);
        assert_eq!(
            (after.windows, after.state, after.packets),
            (before.windows, before.state, before.packets)
        );
    }
}

#[test]
fn what_does_not_fit_the_window_is_dropped_by_name() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let data = |seq, ack| flow.out(ACK, seq, ack).payload_len(10);
        fw.send(LAN, &data(1_001, 5_002)).dropped("tcp-ack-unsent", &[]);
        fw.send(LAN, &data(1_001 + 1_000_000, 5_001)).dropped("tcp-seq-too-new", &[]);
        fw.send(WAN, &flow.back(RST, 5_001 + 1_000_000, 0)).dropped("tcp-rst-out-of-window", &[]);
        fw.send(WAN, &flow.back(RST, 5_002, 0)).forwarded(LAN, &["passed tcp-rst-not-exact"]);
        fw.send(LAN, &flow.syn(70_000)).forwarded(WAN, &["passed tcp-syn-on-live"]);
        assert_eq!(fw.state(&flow.syn(0).key()), "established");
        assert_eq!(fw.expect_session(&flow.syn(0).key()).packets, [2, 1], "unlearned is not counted");
    }
}

#[test]
fn what_passes_unlearned_does_not_lengthen_a_life() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        for _ in 0..9 {
            fw.idle(1_000).silent(&[]);
            fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &["passed tcp-after-close"]);
        }
        fw.idle(3_000).silent(&["sessions-expired"]);
    }
}

#[test]
fn window_scales_are_read_from_both_syns() {
    for net in nets() {
        for scaled in [true, false] {
            let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
            let scale = [1, 3, 3, 7];
            let options: &[u8] = if scaled { &scale } else { &[] };
            fw.send(LAN, &flow.syn(1_000).options(&scale).window(400)).forwarded(WAN, OPENED);
            fw.send(WAN, &flow.syn_ack(5_000, 1_001).options(options).window(400)).forwarded(LAN, &[]);
            fw.send(LAN, &flow.out(ACK, 1_001, 5_001).window(400)).forwarded(WAN, &[]);
            // 400 units of 128 bytes, or of one.
            let data = flow.back(ACK, 5_001 + 45_000, 1_001).window(400).payload_len(1_000);
            if scaled {
                fw.send(WAN, &data).forwarded(LAN, &[]);
            } else {
                fw.send(WAN, &data).dropped("tcp-seq-too-new", &[]);
            }
        }
    }
}

/// What the other node would hear of: slots marked since the last look.
fn marked(
    fw: &mut Firewall,
    (flags, queue): &mut (crate::table::dirty::DirtyFlags<'static>, rtrb::Consumer<u32>),
) -> usize {
    fw.workers[0].engine.tell_changes();
    let slots: Vec<u32> = std::iter::from_fn(|| queue.pop().ok()).collect();
    slots.iter().for_each(|slot| flags.take(*slot));
    slots.len()
}

#[test]
fn b_20_tcp_is_announced_once_it_is_established() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        let mut marks = fw.workers[0].engine.shard_mut().track_changes();
        fw.send(LAN, &flow.syn(1_000)).forwarded(WAN, OPENED);
        fw.send(WAN, &flow.syn_ack(5_000, 1_001)).forwarded(LAN, &[]);
        assert_eq!(marked(&mut fw, &mut marks), 0, "half-open");
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        assert_eq!(marked(&mut fw, &mut marks), 1, "established");
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(9)).forwarded(WAN, &[]);
        assert_eq!(marked(&mut fw, &mut marks), 0, "B-19: sessions, not packets");
        fw.send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        assert_eq!(marked(&mut fw, &mut marks), 1, "closed");
    }
}

#[test]
fn b_04_other_sessions_are_announced_from_their_first_packet_on() {
    for net in nets() {
        let mut fw = Firewall::lab();
        let mut marks = fw.workers[0].engine.shard_mut().track_changes();
        let flow = Flow::of(&net);
        for (first, reply) in [
            (flow.datagram(), flow.reversed().datagram()),
            (
                Frame::echo_request(net.client, net.server, 1, 1),
                Frame::echo_reply(net.server, net.client, 1, 1),
            ),
        ] {
            fw.send(LAN, &first).forwarded(WAN, OPENED);
            assert_eq!(marked(&mut fw, &mut marks), 1, "new");
            fw.send(LAN, &first).forwarded(WAN, &[]);
            assert_eq!(marked(&mut fw, &mut marks), 0);
            fw.send(WAN, &reply).forwarded(LAN, &[]);
            assert_eq!(marked(&mut fw, &mut marks), 1, "replied");
        }
        fw.reload(|_| {});
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &["sessions-rebound"]);
        assert_eq!(marked(&mut fw, &mut marks), 1, "bound anew");
    }
}

#[test]
fn b_05_sessions_of_a_rule_without_sync_are_not_announced() {
    use crate::policy::{Rule, Service};
    for net in nets() {
        let base = super::net::allow("r", LAN, WAN, &[Service::Any]);
        let opened = ["sessions-created", "r admitted"];
        let flow = Flow::of(&net);
        let mut fw = Firewall::with_rules(vec![Rule { replicate: false, ..base.clone() }]);
        let mut marks = fw.workers[0].engine.shard_mut().track_changes();
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &opened);
        fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        assert_eq!(marked(&mut fw, &mut marks), 0);

        let mut fw = Firewall::with_rules(vec![Rule { sync_after_s: 5, ..base }]);
        let mut marks = fw.workers[0].engine.shard_mut().track_changes();
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &opened);
        fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        fw.idle(4_900).silent(&[]);
        assert_eq!(marked(&mut fw, &mut marks), 0, "too young");
        fw.idle(1_200).silent(&[]);
        assert_eq!(marked(&mut fw, &mut marks), 1, "of age");
    }
}

#[test]
fn link_padding_stays_behind() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001).pad_to(60)).forwarded(WAN, &[]);
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(10).pad_to(1_900)).forwarded(WAN, &[]);
        assert_eq!(fw.expect_session(&flow.syn(0).key()).bytes[0], 4 * if net.v6 { 60 } else { 40 } + 10);
    }
}
