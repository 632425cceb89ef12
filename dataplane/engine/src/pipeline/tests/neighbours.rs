//! Next hops whose MAC address is not known (yet), ARP and neighbour discovery.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, WAN, host, link_local, mac_of, nets, port_mac};
use super::step::{assert_routed, hex};
use crate::ids::PortId;
use crate::neighbour::{AdjacencyState, NextHop};
use crate::pipeline::Notice;
use wire::craft::Frame;
use wire::nd::{self, Neighbour};
use wire::tcp_flags::ACK;
use wire::{Addr, MacAddr};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

fn unresolved() -> Firewall {
    Firewall::new(Setup { resolved: false, pending_max: 12, ..Setup::default() })
}

fn wanted(port: PortId, addr: Addr) -> Notice {
    Notice::NeighbourWanted { port, addr }
}

/// The frames sent are these packets on their way, in order.
#[track_caller]
fn assert_all_routed(sent: &[(PortId, Vec<u8>)], port: PortId, packets: &[Frame], neighbour: Addr) {
    assert_eq!(sent.len(), packets.len());
    for ((out_port, out), packet) in sent.iter().zip(packets) {
        assert_eq!(*out_port, port);
        let input = packet.bytes();
        let desc = wire::parse(&input, input.len()).unwrap();
        assert_routed(&input, &desc, out, (mac_of(neighbour), port_mac(port)), &hex(out));
    }
}

#[test]
fn packets_wait_for_their_next_hop_and_leave_in_order() {
    for net in nets() {
        let (mut fw, flow) = (unresolved(), Flow::between(net.client, net.far, 40_000, 53));
        let packets: Vec<_> = (1..=3).map(|n| flow.datagram().payload_len(n)).collect();
        fw.send(LAN, &packets[0]).pends(OPENED);
        assert_eq!(fw.notices(), [wanted(WAN, net.router)]);
        fw.neighbour(WAN, net.router, AdjacencyState::Incomplete);
        fw.send(LAN, &packets[1]).pends(&[]);
        fw.send(LAN, &packets[2]).pends(&[]);
        assert_eq!(fw.notices(), [], "asked already");
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.pending(), 3);

        fw.neighbour(WAN, net.router, AdjacencyState::Resolved);
        let sent = fw.housekeep().counts(&["forwarded"; 3]);
        assert_all_routed(&sent, WAN, &packets, net.router);
        assert_eq!(fw.workers[0].counters.pending(), 0);
        fw.housekeep().silent(&[]);

        // The session learned its next hop when that was first known.
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &[]);
        let hops = fw.expect_session(&flow.datagram().key()).path.next_hops;
        assert_eq!(hops, [fw.hop(WAN, net.router), NextHop::NONE]);
        // The other direction is a question of its own.
        fw.send(WAN, &flow.reversed().datagram()).pends(&[]);
        assert_eq!(fw.notices(), [wanted(LAN, net.client)]);
        fw.neighbour(LAN, net.client, AdjacencyState::Resolved);
        let sent = fw.housekeep().counts(&["forwarded"]);
        assert_all_routed(&sent, LAN, &[flow.reversed().datagram()], net.client);
    }
}

#[test]
fn a_packet_does_not_overtake_those_that_wait() {
    for net in nets() {
        let (mut fw, flow) = (unresolved(), Flow::of(&net));
        let packets: Vec<_> = (1..=3).map(|n| flow.datagram().payload_len(n)).collect();
        fw.send(LAN, &packets[0]).pends(OPENED);
        fw.send(LAN, &packets[1]).pends(&[]);
        fw.neighbour(WAN, net.server, AdjacencyState::Resolved);
        // A burst comes before the worker's turn ends.
        let sent = fw.send(LAN, &packets[2]).counts(&["forwarded"; 3]);
        assert_all_routed(&sent, WAN, &packets, net.server);
        fw.housekeep().silent(&[]);
    }
}

#[test]
fn eight_packets_wait_for_a_neighbour_and_twelve_in_all() {
    for net in nets() {
        let mut fw = unresolved();
        let first = Flow::of(&net);
        let second = Flow::between(net.client, net.far, 40_000, 53);
        fw.send(LAN, &first.datagram()).pends(OPENED);
        for _ in 0..7 {
            fw.send(LAN, &first.datagram()).pends(&[]);
        }
        fw.send(LAN, &first.datagram()).dropped("neighbour-pending-full", &[]);
        fw.send(LAN, &second.datagram()).pends(OPENED);
        for _ in 0..3 {
            fw.send(LAN, &second.datagram()).pends(&[]);
        }
        fw.send(LAN, &second.datagram()).dropped("neighbour-pending-full", &[]);
        fw.neighbour(WAN, net.server, AdjacencyState::Resolved);
        assert_eq!(fw.housekeep().counts(&["forwarded"; 8]).len(), 8);
        fw.send(LAN, &second.datagram()).pends(&[]);
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.pending(), 5);
    }
}

#[test]
fn who_waits_for_a_neighbour_that_does_not_answer_is_told() {
    for net in nets() {
        let (mut fw, flow) = (unresolved(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).pends(OPENED);
        fw.send(LAN, &flow.datagram()).pends(&[]);
        fw.notices();
        fw.neighbour(WAN, net.server, AdjacencyState::Failed);
        let unreachable = ["neighbour-unreachable", "icmp-errors-sent"];
        let sent = fw.housekeep().counts(&unreachable.repeat(2));
        let code = if net.v6 { (1, 3) } else { (3, 1) };
        for (port, out) in &sent {
            let desc = wire::parse(out, out.len()).unwrap();
            let l4 = usize::from(desc.l4);
            assert_eq!((*port, (out[l4], out[l4 + 1])), (LAN, code));
            assert_eq!((desc.key.src(), desc.key.dst()), (net.own(LAN), net.client));
            assert_eq!(out[..6], mac_of(net.client).0);
            assert_eq!(wire::icmp::quoted(out, &desc).unwrap().key, flow.datagram().key());
        }
        assert_eq!(sent.len(), 2);
        // It stays like this while the neighbour counts as failed, and every packet asks for it again.
        let (kind, code) = code;
        fw.send(LAN, &flow.datagram()).refused_with_error(
            "neighbour-unreachable",
            net.own(LAN),
            (kind, code, 0),
            &[],
        );
        assert_eq!(fw.notices(), [wanted(WAN, net.server)]);
        fw.neighbour(WAN, net.server, AdjacencyState::Incomplete);
        fw.send(LAN, &flow.datagram()).pends(&[]);
        fw.neighbour(WAN, net.server, AdjacencyState::Resolved);
        assert_eq!(fw.housekeep().counts(&["forwarded"]).len(), 1);
    }
}

#[test]
fn nobody_waits_longer_than_the_resolver_asks() {
    for net in nets() {
        let (mut fw, flow) = (unresolved(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).pends(OPENED);
        fw.idle(2_000).silent(&[]);
        fw.send(LAN, &flow.datagram()).pends(&[]);
        fw.idle(1_450).silent(&[]);
        fw.idle(100).silent(&["neighbour-timeout"]);
        fw.idle(1_850).silent(&[]);
        fw.idle(150).silent(&["neighbour-timeout"]);
        assert_eq!(fw.workers[0].counters.pending(), 0);
    }
}

#[test]
fn a_place_that_changed_hands_is_looked_up_anew() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let old = fw.hop(WAN, net.server);
        let other = host(net.v6, 2, 11);
        fw.give_place(net.server, other);
        let packet = flow.out(ACK, 1_001, 5_001);
        fw.send(LAN, &packet).pends(&[]);
        assert_eq!(fw.notices(), [wanted(WAN, net.server)]);
        fw.neighbour(WAN, net.server, AdjacencyState::Resolved);
        let sent = fw.housekeep().counts(&["forwarded"]);
        assert_all_routed(&sent, WAN, std::slice::from_ref(&packet), net.server);
        fw.send(LAN, &packet).forwarded(WAN, &[]);
        let hop = fw.expect_session(&packet.key()).path.next_hops[0];
        assert_eq!(hop, fw.hop(WAN, net.server));
        assert!(hop != old && hop.place() != old.place());
    }
}

#[test]
fn an_icmp_error_waits_like_any_packet() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        fw.neighbour(LAN, net.client, AdjacencyState::Incomplete);
        let error =
            Frame::icmp_error(net.server, net.client, if net.v6 { 1 } else { 3 }, 3, &flow.datagram(), 500);
        fw.send(WAN, &error).pends(&["icmp-errors-forwarded"]);
        fw.neighbour(LAN, net.client, AdjacencyState::Resolved);
        let sent = fw.housekeep().counts(&["forwarded"]);
        assert_all_routed(&sent, LAN, &[error], net.client);
    }
}

/// What the control thread hears of a neighbour.
fn heard(port: PortId, addr: Addr, answer: bool) -> Notice {
    Notice::NeighbourHeard { port, addr, mac: mac_of(addr), answer }
}

const OWN4: [u8; 4] = [10, 1, 0, 1];
const CLIENT4: [u8; 4] = [10, 1, 0, 10];

fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    Frame::arp_request(mac_of(CLIENT4.into()), sender, target).pad_to(60).bytes()
}

#[test]
fn arp_requests_for_own_addresses_are_answered() {
    let mut fw = Firewall::lab();
    let (out, _) = fw.send_bytes(LAN, &arp_request(CLIENT4, OWN4)).answered(LAN, &["arp-answered"]);
    assert_eq!(out[42..], [0; 18], "what the buffer held before does not leave as padding");
    let reply = Frame::arp_reply(port_mac(LAN), OWN4, mac_of(CLIENT4.into()), CLIENT4).pad_to(60).bytes();
    assert_eq!(hex(&out), hex(&reply));
    assert_eq!(fw.notices(), [heard(LAN, CLIENT4.into(), true)]);
    // Asked directly, as to confirm it.
    let direct = Frame::arp_request(mac_of(CLIENT4.into()), CLIENT4, OWN4);
    let direct = direct.eth(mac_of(CLIENT4.into()), port_mac(LAN)).bytes();
    fw.send_bytes(LAN, &direct).answered(LAN, &["arp-answered"]);
    // A probe is answered and teaches nothing (RFC 5227 §2.1.1).
    fw.notices();
    fw.send_bytes(LAN, &arp_request([0; 4], OWN4)).answered(LAN, &["arp-answered"]);
    assert_eq!(fw.notices(), []);
    fw.workers[0].io.pool = 0;
    fw.send_bytes(LAN, &arp_request(CLIENT4, OWN4)).silent(&["no-buffer"]);
}

#[test]
fn other_arp_is_not_answered_and_teaches_only_what_belongs_on_the_link() {
    let mut fw = Firewall::lab();
    for (sender, target) in [
        (CLIENT4, [10, 1, 0, 77]),
        // Gratuitous (RFC 5227 §3).
        (CLIENT4, CLIENT4),
        // An own address, but another port's.
        (CLIENT4, [10, 2, 0, 1]),
    ] {
        fw.send_bytes(LAN, &arp_request(sender, target)).silent(&["neighbour-heard"]);
        assert_eq!(fw.notices(), [heard(LAN, CLIENT4.into(), false)]);
    }
    let reply = Frame::arp_reply(mac_of(CLIENT4.into()), CLIENT4, port_mac(LAN), OWN4).bytes();
    fw.send_bytes(LAN, &reply).silent(&["neighbour-heard"]);
    assert_eq!(fw.notices(), [heard(LAN, CLIENT4.into(), false)]);

    for sender in [
        // A probe, an own address, another link's host, one behind a router, one behind nothing.
        [0; 4],
        OWN4,
        [10, 2, 0, 1],
        [10, 2, 0, 10],
        [10, 9, 0, 5],
        [203, 0, 113, 1],
    ] {
        fw.send_bytes(LAN, &arp_request(sender, [10, 1, 0, 77])).silent(&["neighbour-discovery-ignored"]);
        assert_eq!(fw.notices(), []);
    }
    // Whoever it says it is gets an answer; it is not remembered.
    fw.send_bytes(LAN, &arp_request([10, 2, 0, 10], OWN4)).answered(LAN, &["arp-answered"]);
    assert_eq!(fw.notices(), []);
}

const ALL_NODES: Addr = Addr::V6(nd::ALL_NODES);

fn v6(addr: Addr) -> [u8; 16] {
    let Addr::V6(bytes) = addr else { panic!("an IPv6 address") };
    bytes
}

fn solicitation(source: Addr, target: Addr) -> Vec<u8> {
    Frame::neighbour_solicitation(mac_of(source), v6(source), v6(target)).bytes()
}

fn advertisement(out: &[u8]) -> Neighbour {
    let desc = wire::parse(out, out.len()).unwrap();
    Neighbour::read(out, &desc).unwrap()
}

#[test]
fn solicitations_for_own_addresses_are_answered() {
    let (mut fw, net) = (Firewall::lab(), super::net::net(true));
    for own in [net.own(LAN), link_local()] {
        let (out, desc) = fw.send_bytes(LAN, &solicitation(net.client, own)).answered(LAN, &["nd-answered"]);
        let expected = Neighbour::Advertisement {
            target: v6(own),
            link: Some(port_mac(LAN)),
            router: true,
            solicited: true,
            replace: true,
        };
        assert_eq!(advertisement(&out), expected);
        assert_eq!((desc.key.src(), desc.key.dst(), desc.ttl), (own, net.client, 255));
        assert_eq!(out[..6], mac_of(net.client).0);
        assert_eq!(fw.notices(), [heard(LAN, net.client, true)]);
    }
    // Duplicate address detection: everybody hears that it is taken (RFC 4861 §7.2.4).
    let own = net.own(LAN);
    let group = nd::solicited_node(v6(own));
    let probe = Frame::icmp([0; 16], group, 135, 0, [0; 4]).payload(&v6(own)).ttl(255);
    let probe = probe.eth(mac_of(net.client), nd::group_mac(group)).bytes();
    let (out, desc) = fw.send_bytes(LAN, &probe).answered(LAN, &["nd-answered"]);
    assert!(matches!(advertisement(&out), Neighbour::Advertisement { solicited: false, .. }));
    assert_eq!((desc.key.dst(), &out[..6]), (ALL_NODES, &nd::group_mac(nd::ALL_NODES).0[..]));
    assert_eq!(fw.notices(), []);
}

/// Linux, asked by unicast whether it is still there, does not repeat its link-layer address.
#[test]
fn x_20_an_answer_without_a_link_layer_address_confirms_its_sender() {
    let (mut fw, net) = (Firewall::lab(), super::net::net(true));
    let answer = Frame::icmp(net.client, net.own(LAN), 136, 0, [0x40, 0, 0, 0]);
    let answer = answer.payload(&v6(net.client)).ttl(255).eth(mac_of(net.client), port_mac(LAN));
    fw.send_bytes(LAN, &answer.bytes()).silent(&["neighbour-heard"]);
    assert_eq!(fw.notices(), [heard(LAN, net.client, false)]);
}

#[test]
fn other_neighbour_discovery_is_not_answered() {
    let (mut fw, net) = (Firewall::lab(), super::net::net(true));
    for target in [net.second, net.own(WAN)] {
        fw.send_bytes(LAN, &solicitation(net.client, target)).silent(&["neighbour-discovery-ignored"]);
    }
    assert_eq!(fw.notices(), []);
    // Nobody from another link is remembered.
    fw.send_bytes(LAN, &solicitation(net.server, net.own(LAN))).answered(LAN, &["nd-answered"]);
    assert_eq!(fw.notices(), []);

    let said = |who: Addr, to: Addr| Frame::neighbour_advertisement(mac_of(who), v6(who), v6(to));
    let to_us = |frame: Frame, who: Addr| frame.eth(mac_of(who), port_mac(LAN)).bytes();
    let own = net.own(LAN);
    fw.send_bytes(LAN, &to_us(said(net.client, own), net.client)).silent(&["neighbour-heard"]);
    assert_eq!(fw.notices(), [heard(LAN, net.client, false)]);
    for who in [net.server, net.own(WAN), net.far] {
        let frame = to_us(said(who, own), who);
        fw.send_bytes(LAN, &frame).silent(&["neighbour-discovery-ignored"]);
    }
    let no_address = Frame::icmp(net.client, own, 136, 0, [0x20, 0, 0, 0]).payload(&v6(net.client)).ttl(255);
    fw.send_bytes(LAN, &to_us(no_address, net.client)).silent(&["neighbour-discovery-ignored"]);
    let spoiled = said(net.client, own).bad_l4_checksum();
    fw.send_bytes(LAN, &to_us(spoiled, net.client)).silent(&["bad-neighbour-discovery"]);
    let remote = said(net.client, own).ttl(254);
    fw.send_bytes(LAN, &to_us(remote, net.client)).silent(&["bad-neighbour-discovery"]);
    assert_eq!(fw.notices(), []);
    // Routers are for others.
    let router_solicitation = Frame::icmp(net.client, ALL_NODES, 133, 0, [0; 4]).ttl(255);
    let frame = router_solicitation.eth(mac_of(net.client), MacAddr([0x33, 0x33, 0, 0, 0, 1])).bytes();
    fw.send_bytes(LAN, &frame).silent(&["multicast"]);
    fw.send(LAN, &Frame::icmp(net.client, own, 134, 0, [0; 4]).payload(&[0; 8]).ttl(255))
        .dropped("icmp-other", &[]);
}
