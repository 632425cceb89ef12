//! What each role forwards, answers and hears, and under which MAC address.

use super::firewall::Setup;
use super::net::{Flow, LAN, VIRTUAL, WAN, allow, allow_self, host, lab_rules, mac_of, nets, port_mac};
use super::pair::{Node, Pair, TERMS};
use crate::pipeline::Notice;
use crate::policy::{Action, Rule, Service};
use crate::role::RoleView;
use wire::craft::Frame;
use wire::nd::Neighbour;
use wire::tcp_flags::ACK;
use wire::{Addr, Kind, MacAddr, Proto};

const ACTIVE: RoleView = RoleView::Active { term: 3 };
const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];

fn octets(addr: Addr) -> [u8; 16] {
    let Addr::V6(octets) = addr else { panic!("IPv6") };
    octets
}

fn v4(addr: Addr) -> [u8; 4] {
    let Addr::V4(octets) = addr else { panic!("IPv4") };
    octets
}

/// Who has `target`? As the client asks.
fn question(client: Addr, target: Addr) -> Vec<u8> {
    let mac = mac_of(client);
    match target {
        Addr::V4(target) => Frame::arp_request(mac, v4(client), target).pad_to(60).bytes(),
        Addr::V6(target) => Frame::neighbour_solicitation(mac, octets(client), target).bytes(),
    }
}

/// Where an answer says that the asked address is, and the frame's own source.
fn told(out: &[u8], desc: &wire::Desc) -> (MacAddr, MacAddr) {
    let from = wire::ether::EtherHeader::view(out).unwrap().src();
    let mac = match desc.kind {
        Kind::Arp => wire::arp::ArpPacket::view(out, desc).unwrap().sender_mac(),
        _ => match Neighbour::read(out, desc).unwrap() {
            Neighbour::Advertisement { link, .. } => link.unwrap(),
            other => panic!("{other:?}"),
        },
    };
    (mac, from)
}

#[test]
fn a_standby_forwards_nothing_and_answers_nothing_for_shared_addresses() {
    for net in nets() {
        for (role, reason) in [(RoleView::Standby, "standby"), (RoleView::Closed, "lease-expired")] {
            let mut b = Node::new(1, Setup::default());
            b.set_role(role);
            let flow = Flow::of(&net);
            let rejected = Frame::tcp(net.client, net.dmz, 1, 2).flags(ACK);
            let ping = Frame::echo_request(net.client, net.own(LAN), 7, 1);
            let dying = flow.datagram().ttl(1);
            let error = Frame::icmp_error(
                net.server,
                net.client,
                if net.v6 { 1 } else { 3 },
                1,
                &flow.datagram(),
                60,
            );
            for (port, frame) in [
                (LAN, flow.syn(1)),
                (LAN, flow.datagram()),
                (LAN, rejected),
                (LAN, ping),
                (LAN, dying),
                (WAN, error),
            ] {
                b.fw.send(port, &frame).dropped(reason, &[]);
                // To the node's own MAC address just as well.
                let own = frame.eth(mac_of(net.client), port_mac(port)).bytes();
                b.fw.send_bytes(port, &own).dropped(reason, &[]);
            }
            let elsewhere = flow.datagram().eth(mac_of(net.client), MacAddr([2; 6])).bytes();
            b.fw.send_bytes(LAN, &elsewhere).dropped("not-for-us", &[]);
            let broadcast = flow.datagram().eth(mac_of(net.client), MacAddr::BROADCAST).bytes();
            b.fw.send_bytes(LAN, &broadcast).dropped(reason, &[]);
            // It hears who asks, so that it knows them when it takes over.
            b.fw.send_bytes(LAN, &question(net.client, net.own(LAN))).silent(&["neighbour-heard"]);
            let heard =
                Notice::NeighbourHeard { port: LAN, addr: net.client, mac: mac_of(net.client), answer: true };
            assert_eq!(b.fw.notices(), [heard]);
            assert_eq!(b.fw.sessions().len(), 0);
        }
    }
}

#[test]
fn the_nodes_own_addresses_are_at_its_own_mac_in_every_role() {
    for net in nets() {
        for role in [RoleView::Standby, RoleView::Closed, ACTIVE] {
            let mut b = Node::new(1, Setup::default());
            b.set_role(role);
            let node = host(net.v6, 1, 3);
            let answered = if net.v6 { "nd-answered" } else { "arp-answered" };
            let (out, desc) = b.fw.send_bytes(LAN, &question(net.client, node)).answered(LAN, &[answered]);
            assert_eq!(told(&out, &desc), (port_mac(LAN), port_mac(LAN)), "{role:?}");
            // Without a rule.
            let ping = Frame::echo_request(net.client, node, 7, 1).payload_len(30);
            let ping = ping.eth(mac_of(net.client), port_mac(LAN)).bytes();
            let (out, desc) = b.fw.send_bytes(LAN, &ping).answered(LAN, &["echo-answered"]);
            assert_eq!((desc.kind, desc.key.src(), desc.key.dst()), (Kind::EchoReply, node, net.client));
            assert_eq!((&out[..6], &out[6..12]), (&mac_of(net.client).0[..], &port_mac(LAN).0[..]));
            // The partner is not asked for here, nor is what the partner has.
            let other = question(net.client, host(net.v6, 1, 2));
            let ignored = b.fw.send_bytes(LAN, &other);
            if net.v6 {
                ignored.dropped("neighbour-discovery-ignored", &[]);
            } else {
                ignored.silent(&["neighbour-heard"]);
            }
        }
    }
}

#[test]
fn the_active_node_answers_and_forwards_from_the_virtual_mac() {
    for net in nets() {
        let ping_rule = allow_self("ping", LAN, &[Service::IcmpEcho]);
        let reject = Rule { action: Action::Reject, ..allow("no", LAN, super::net::DMZ, &[Service::Any]) };
        let mut rules = lab_rules();
        rules.extend([ping_rule, reject]);
        let mut a = Node::new(0, Setup { rules, ..Setup::default() });
        a.set_role(ACTIVE);
        let flow = Flow::of(&net);
        // `forwarded` looks at both MAC addresses.
        a.fw.send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        a.fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        let own = flow.datagram().eth(mac_of(net.client), port_mac(LAN)).bytes();
        a.fw.send_bytes(LAN, &own).forwarded(WAN, &[]);

        let answered = if net.v6 { "nd-answered" } else { "arp-answered" };
        let (out, desc) =
            a.fw.send_bytes(LAN, &question(net.client, net.own(LAN))).answered(LAN, &[answered]);
        assert_eq!(told(&out, &desc), (VIRTUAL, VIRTUAL));
        let ping = Frame::echo_request(net.client, net.own(LAN), 7, 1);
        let (out, _) = a.fw.send(LAN, &ping).answered(LAN, &["echo-answered", "ping admitted"]);
        assert_eq!(out[6..12], VIRTUAL.0);
        let (out, desc) =
            a.fw.send(LAN, &Frame::tcp(net.client, net.dmz, 1, 2).flags(wire::tcp_flags::SYN))
                .answered(LAN, &["policy-reject", "resets-sent", "no refused"]);
        assert_eq!((desc.kind, &out[6..12]), (Kind::Tcp, &VIRTUAL.0[..]));
        let (code, rest) = if net.v6 { ((3, 0), 0) } else { ((11, 0), 0) };
        a.fw.send(LAN, &flow.datagram().ttl(1)).refused_with_error(
            "ttl-exceeded",
            net.own(LAN),
            (code.0, code.1, rest),
            &[],
        );
    }
}

#[test]
fn the_partners_datagrams_reach_the_sync_core_in_every_role() {
    for net in nets() {
        let (own, partner) = (host(net.v6, 1, 2), host(net.v6, 1, 3));
        for role in [RoleView::Standby, RoleView::Closed, ACTIVE] {
            let mut a = Node::new(
                0,
                Setup { rules: vec![allow("all", LAN, WAN, &[Service::Any])], ..Setup::default() },
            );
            a.set_role(role);
            for (port, mac) in
                [(689, port_mac(LAN)), (801, port_mac(LAN)), (801, MacAddr::BROADCAST), (689, VIRTUAL)]
            {
                let frame = Frame::udp(partner, own, 40_000, port).payload_len(48);
                let bytes = frame.eth(MacAddr([2, 9, 9, 9, 9, 9]), mac).bytes();
                if mac == VIRTUAL && role != ACTIVE {
                    let reason = if role == RoleView::Standby { "standby" } else { "lease-expired" };
                    a.fw.send_bytes(LAN, &bytes).dropped(reason, &[]);
                    continue;
                }
                a.fw.send_bytes(LAN, &bytes).silent(&["partner-datagrams"]);
                assert_eq!(a.fw.workers[0].io.core.pop(), Some((LAN, bytes)));
            }
            // Its answer to a ping: asked for when its heartbeats are missing (S-26).
            let bytes =
                Frame::echo_reply(partner, own, 7, 1).eth(MacAddr([2, 9, 9, 9, 9, 9]), port_mac(LAN)).bytes();
            a.fw.send_bytes(LAN, &bytes).silent(&["partner-datagrams"]);
            assert_eq!(a.fw.workers[0].io.core.pop(), Some((LAN, bytes)));
            // Another port, another sender, another of our addresses, another network: not the partner.
            let wrong = [
                (LAN, Frame::udp(partner, own, 1, 688)),
                (LAN, Frame::udp(net.client, own, 1, 801)),
                (LAN, Frame::udp(partner, net.own(LAN), 1, 801)),
                (LAN, Frame::tcp(partner, own, 1, 801).flags(ACK)),
                (WAN, Frame::udp(partner, own, 1, 801)),
                (LAN, Frame::echo_reply(net.client, own, 7, 1)),
            ];
            for (port, frame) in wrong {
                let bytes = frame.eth(MacAddr([2, 9, 9, 9, 9, 9]), port_mac(port)).bytes();
                let step = a.fw.send_bytes(port, &bytes);
                assert!(step.sent.is_empty(), "{role:?}");
                assert_eq!(step.counted.get("partner-datagrams"), None, "{role:?}");
                assert!(a.fw.workers[0].io.core.is_empty());
            }
            a.fw.workers[0].io.ring = 0;
            let bytes = Frame::udp(partner, own, 1, 801).eth(MacAddr([2; 6]), port_mac(LAN)).bytes();
            a.fw.send_bytes(LAN, &bytes).dropped("core-ring-full", &[]);
        }
    }
}

#[test]
fn own_addresses_of_the_pair_are_nobodys_source() {
    for net in nets() {
        let mut a = Node::new(0, Setup::default());
        a.set_role(ACTIVE);
        for source in [host(net.v6, 1, 2), net.own(LAN)] {
            let frame = Frame::udp(source, net.server, 1, 53).eth(mac_of(net.client), VIRTUAL).bytes();
            a.fw.send_bytes(LAN, &frame).dropped("spoofed-source", &[]);
        }
        // And nothing is forwarded to them.
        let to_node = Frame::udp(net.client, host(net.v6, 2, 2), 1, 53);
        a.fw.send(LAN, &to_node).dropped("policy-drop", &["default-deny refused"]);
    }
}

#[test]
fn a_switchover_moves_the_sessions_and_their_versions() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow { ports: (5_000, 53), ..Flow::of(&net) };
        let key = flow.datagram().key();
        pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        pair.sync(0);
        pair.nodes[0].set_role(RoleView::Standby);
        pair.nodes[1].set_role(RoleView::Active { term: TERMS[1] });
        pair.a().send(WAN, &flow.reversed().datagram()).dropped("standby", &[]);
        pair.b().send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        // The change of state on the new active is newer than all of the old one's.
        assert_eq!(pair.sync(1), 1);
        assert_eq!(pair.nodes[0].version(&key) >> 44, u64::from(TERMS[1]));
        assert_eq!(pair.a().state(&key), "replied");
        // And back: the old one's next version is above what it was told.
        pair.nodes[1].set_role(RoleView::Standby);
        pair.nodes[0].set_role(RoleView::Active { term: 4 });
        let told = pair.nodes[0].version(&key);
        pair.a().idle(70_000).silent(&[]);
        pair.a().idle(60_000).silent(&["sessions-expired"]);
        let ends = pair.nodes[0].ends();
        assert!(ends.len() == 1 && ends[0].version > told && ends[0].version >> 44 == 4);
    }
}

#[test]
fn a_lost_lease_keeps_everything_and_a_renewed_one_goes_on() {
    let mut pair = Pair::lab();
    let net = super::net::net(false);
    let flow = Flow::of(&net);
    pair.a().open_tcp(&flow, "lan-to-wan");
    let half_open = Flow { ports: (7, 8), ..flow };
    pair.a().send(LAN, &half_open.syn(1)).forwarded(WAN, &ADMITTED);
    let before: Vec<_> = pair.a().sessions().iter().map(|s| s.version).collect();
    pair.nodes[0].set_role(RoleView::Closed);
    pair.a().idle(20_000).silent(&[]);
    pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001)).dropped("lease-expired", &[]);
    pair.nodes[0].set_role(RoleView::Active { term: TERMS[0] });
    assert_eq!(pair.a().sessions().iter().map(|s| s.version).collect::<Vec<_>>(), before);
    pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
    // Nothing was taken over: a half-open session has no grace.
    pair.a().idle(12_000).silent(&["sessions-expired"]);
}

#[test]
fn what_nobody_mirrors_is_dropped_some_time_after_the_role_is_lost() {
    let rules = vec![
        Rule { replicate: false, ..allow("local", LAN, WAN, &[super::net::port(Proto::UDP, 53)]) },
        allow("lan-to-wan", LAN, WAN, &[Service::Any]),
    ];
    for net in nets() {
        let mut pair = Pair::new(Setup { rules: rules.clone(), ..Setup::default() });
        let (shared, local) = (Flow::of(&net), Flow { ports: (9, 53), ..Flow::of(&net) });
        pair.a().send(LAN, &shared.datagram()).forwarded(WAN, &ADMITTED);
        pair.a().send(LAN, &local.datagram()).forwarded(WAN, &["sessions-created", "local admitted"]);
        pair.a().send(LAN, &Flow { ports: (1, 2), ..shared }.syn(1)).forwarded(WAN, &ADMITTED);
        pair.nodes[0].set_role(RoleView::Standby);
        pair.a().idle(9_000).silent(&[]);
        // A short while without the role costs nothing.
        pair.nodes[0].set_role(RoleView::Active { term: 4 });
        pair.a().send(WAN, &local.reversed().datagram()).forwarded(LAN, &[]);
        pair.nodes[0].set_role(RoleView::Standby);
        pair.a().idle(11_000).silent(&["sessions-dropped", "sessions-dropped"]);
        assert_eq!(pair.a().sessions().len(), 1);
        assert_eq!(pair.nodes[0].ends(), [], "nobody else had them");
    }
}

#[test]
fn waiting_packets_are_not_sent_by_a_node_that_is_no_longer_active() {
    let mut a = Node::new(0, Setup { resolved: false, ..Setup::default() });
    a.set_role(ACTIVE);
    let net = super::net::net(true);
    a.fw.send(LAN, &Flow::of(&net).datagram()).pends(&ADMITTED);
    a.set_role(RoleView::Standby);
    a.fw.housekeep().dropped("standby", &[]);
    a.fw.neighbour(WAN, net.server, crate::neighbour::AdjacencyState::Resolved);
    a.fw.housekeep().silent(&[]);
    a.set_role(ACTIVE);
    a.fw.housekeep().silent(&[]);
}
