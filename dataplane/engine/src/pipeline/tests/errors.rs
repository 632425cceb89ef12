//! ICMP errors: the firewall's own, and those of others about packets of a session.

use super::firewall::{Firewall, Setup};
use super::net::{DMZ, Flow, LAN, Net, WAN, nets};
use crate::table::SessionView;
use wire::Addr;
use wire::craft::Frame;
use wire::tcp_flags::ACK;

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

#[test]
fn a_packet_whose_ttl_ends_here_is_quoted_to_its_sender() {
    for net in nets() {
        let exceeded = if net.v6 { (3, 0, 0) } else { (11, 0, 0) };
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        for ttl in [0, 1] {
            let packet = flow.datagram().ttl(ttl);
            fw.send(LAN, &packet).refused_with_error("ttl-exceeded", net.own(LAN), exceeded, &[]);
            let request = Frame::echo_request(net.client, net.far, 7, 1).ttl(ttl);
            fw.send(LAN, &request).refused_with_error("ttl-exceeded", net.own(LAN), exceeded, &[]);
            let syn = flow.syn(1).ttl(ttl);
            fw.send(LAN, &syn).refused_with_error("ttl-exceeded", net.own(LAN), exceeded, &[]);
        }
        assert!(fw.sessions().is_empty(), "what goes no further opens nothing");
        fw.open_tcp(&flow, "lan-to-wan");
        let before = fw.expect_session(&flow.syn(0).key());
        let out = flow.out(ACK, 1_001, 5_001).payload_len(1_400).ttl(1);
        fw.send(LAN, &out).refused_with_error("ttl-exceeded", net.own(LAN), exceeded, &[]);
        let back = flow.back(ACK, 5_001, 1_001).payload_len(9).ttl(1);
        fw.send(WAN, &back).refused_with_error("ttl-exceeded", net.own(WAN), exceeded, &[]);
        assert_unchanged(&before, &fw.expect_session(&flow.syn(0).key()));
        // A packet that the policy refuses tells nobody how far it came.
        fw.send(WAN, &flow.reversed().datagram().ttl(1)).dropped("policy-drop", &["default-deny refused"]);
    }
}

#[track_caller]
fn assert_unchanged(before: &SessionView, after: &SessionView) {
    let essence = |s: &SessionView| (s.keys, s.version, s.binding, s.path, s.windows, s.state, s.packets);
    assert_eq!(essence(before), essence(after));
}

#[test]
fn a_packet_that_does_not_fit_the_next_link_is_answered_with_its_mtu() {
    for net in nets() {
        let too_big = if net.v6 { (2, 0, 1_400) } else { (3, 4, 1_400) };
        let mut ports = super::net::ports();
        ports[1].mtu = 1_400;
        let (mut fw, flow) = (Firewall::new(Setup { ports, ..Setup::default() }), Flow::of(&net));
        let headers = if net.v6 { 48 } else { 28 };
        let (fits, not) =
            (flow.datagram().payload_len(1_400 - headers), flow.datagram().payload_len(1_401 - headers));
        fw.send(LAN, &not).refused_with_error("too-big", net.own(LAN), too_big, &[]);
        assert!(fw.sessions().is_empty(), "what goes no further opens nothing");
        fw.send(LAN, &fits).forwarded(WAN, OPENED);
        fw.send(LAN, &not).refused_with_error("too-big", net.own(LAN), too_big, &[]);
        fw.send(LAN, &not.clone().dont_fragment(false)).refused_with_error(
            "too-big",
            net.own(LAN),
            too_big,
            &[],
        );
        // The other way there is room.
        fw.send(WAN, &flow.reversed().datagram().payload_len(1_500 - headers)).forwarded(LAN, &[]);
        assert_eq!(fw.expect_session(&flow.datagram().key()).packets, [1, 1]);
        // Whether the next hop is resolved makes no difference.
        fw.neighbour(WAN, net.server, crate::neighbour::AdjacencyState::Incomplete);
        fw.send(LAN, &not).refused_with_error("too-big", net.own(LAN), too_big, &[]);
        assert_eq!(fw.expect_session(&flow.datagram().key()).packets, [1, 1]);
    }
}

#[test]
fn errors_are_limited() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        for _ in 0..250 {
            drop(fw.send(LAN, &flow.datagram().ttl(1)));
        }
        let totals = fw.totals(0);
        assert_eq!(
            (totals["ttl-exceeded"], totals["icmp-errors-sent"], totals["icmp-errors-limited"]),
            (250, 200, 50)
        );
    }
}

#[test]
fn nothing_is_said_about_errors_groups_and_fragments() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        let error = about(&net, net.server, &flow.datagram()).ttl(1);
        fw.send(WAN, &error).dropped("ttl-exceeded", &[]);
        let fragment = flow.datagram().payload_len(96).fragment(0, true).ttl(1);
        fw.send(LAN, &fragment).dropped("fragment", &[]);
    }
}

/// "Host unreachable" about a packet, from somebody to the packet's sender.
fn about(net: &Net, from: Addr, packet: &Frame) -> Frame {
    Frame::icmp_error(
        from,
        packet.key().src(),
        if net.v6 { 1 } else { 3 },
        if net.v6 { 3 } else { 1 },
        packet,
        1_000,
    )
}

#[test]
fn errors_about_a_session_go_back_to_the_quoted_sender() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let echo = Frame::echo_request(net.client, net.server, 7, 1);
        let gre = Frame::ip(net.client, net.server, wire::Proto::GRE).payload_len(20);
        for first in [&flow.datagram(), &echo, &gre] {
            fw.send(LAN, first).forwarded(WAN, OPENED);
        }
        let data = flow.out(ACK, 1_001, 5_001).payload_len(600);
        fw.send(LAN, &data).forwarded(WAN, &[]);
        let sessions = fw.sessions();
        for packet in [&data, &flow.datagram(), &echo, &gre] {
            for from in [net.server, net.router, net.far] {
                fw.send(WAN, &about(&net, from, packet)).forwarded(LAN, &["icmp-errors-forwarded"]);
            }
        }
        // The least that can be quoted.
        let header = if net.v6 { 40 } else { 20 };
        let short = Frame::icmp_error(
            net.router,
            net.client,
            if net.v6 { 2 } else { 3 },
            if net.v6 { 0 } else { 4 },
            &data,
            header + 8,
        );
        fw.send(WAN, &short).forwarded(LAN, &["icmp-errors-forwarded"]);
        // The other end's packets are quoted as well.
        let back = flow.back(ACK, 5_001, 1_001);
        let reply = Frame::echo_reply(net.server, net.client, 7, 1);
        for packet in [&back, &flow.reversed().datagram(), &reply] {
            for from in [net.client, net.gateway, net.inner] {
                fw.send(LAN, &about(&net, from, packet)).forwarded(WAN, &["icmp-errors-forwarded"]);
            }
        }
        for (before, after) in sessions.iter().zip(fw.sessions()) {
            assert_unchanged(before, &after);
            assert_eq!(before.last_seen, after.last_seen, "no life is lengthened");
        }
    }
}

#[test]
fn errors_that_belong_to_no_session_are_dropped_by_name() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let data = flow.out(ACK, 1_001, 5_001);
        let unrelated = "icmp-error-unrelated";
        // Another flow.
        fw.send(WAN, &about(&net, net.router, &flow.datagram())).dropped(unrelated, &[]);
        fw.send(WAN, &about(&net, net.router, &Flow { ports: (40_000, 81), ..flow }.syn(1)))
            .dropped(unrelated, &[]);
        // Not to the one who sent what is quoted.
        let kind = if net.v6 { 1 } else { 3 };
        fw.send(WAN, &Frame::icmp_error(net.router, net.second, kind, 3, &data, 500)).dropped(unrelated, &[]);
        // Numbers that cannot be on their way (RFC 5927 §4.1).
        for seq in [1_001 + 100_000, 1_001_u32.wrapping_sub(300_000)] {
            fw.send(WAN, &about(&net, net.router, &flow.out(ACK, seq, 5_001))).dropped(unrelated, &[]);
        }
        // About an error.
        let nested = about(&net, net.router, &data);
        fw.send(LAN, &about(&net, net.client, &nested)).dropped(unrelated, &[]);
        // To the firewall itself.
        let own = Flow { a: net.own(WAN), ..flow }.datagram();
        fw.send(WAN, &about(&net, net.server, &own)).dropped(unrelated, &[]);
        // From where the packet never went.
        fw.send(DMZ, &about(&net, net.dmz, &data)).dropped("wrong-zone", &[]);
        fw.send(LAN, &about(&net, net.second, &data)).dropped("wrong-zone", &[]);
        // As if from the inside.
        fw.send(WAN, &about(&net, net.second, &data)).dropped("spoofed-source", &[]);
        fw.send(WAN, &about(&net, net.own(LAN), &data)).dropped("spoofed-source", &[]);
        fw.send(WAN, &about(&net, net.router, &data).bad_l4_checksum()).dropped("bad-l4-checksum", &[]);
        // Routers on the way may have addresses that lead nowhere from here.
        fw.send(WAN, &about(&net, net.nowhere, &data)).forwarded(LAN, &["icmp-errors-forwarded"]);
    }
}

#[test]
fn other_icmp_is_not_forwarded() {
    for net in nets() {
        let mut fw = Firewall::lab();
        // Redirect, router advertisement or timestamp; multicast listener discovery.
        let kinds: &[u8] = if net.v6 { &[200, 138, 100] } else { &[5, 9, 13] };
        for kind in kinds {
            let packet = Frame::icmp(net.client, net.server, *kind, 0, [0; 4]).payload_len(40);
            fw.send(LAN, &packet).dropped("icmp-other", &[]);
        }
    }
}
