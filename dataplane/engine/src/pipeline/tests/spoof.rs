//! Packets that cannot come from where they came (RFC 3704), or must not go where they go.

use super::firewall::{Firewall, Setup, dressed};
use super::net::{
    DMZ, Flow, LAN, WAN, allow, allow_self, host, lab_rules, link_local, mac_of, net, nets, port_mac, route,
};
use crate::policy::Service;
use crate::routes::Route;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, RST};
use wire::{Addr, MacAddr};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];

/// Everything may go everywhere.
fn open_house() -> Vec<crate::policy::Rule> {
    let any = [Service::Any];
    vec![
        allow("lan-to-wan", LAN, WAN, &any),
        allow("wan-to-lan", WAN, LAN, &any),
        allow("lan-to-dmz", LAN, DMZ, &any),
        allow("dmz-to-lan", DMZ, LAN, &any),
        allow_self("lan-to-self", LAN, &any),
        allow_self("wan-to-self", WAN, &any),
    ]
}

#[test]
fn a_source_that_lives_behind_another_zone_is_spoofed() {
    for net in nets() {
        let mut fw = Firewall::with_rules(open_house());
        for (ingress, src, dst) in [
            (WAN, net.second, net.client),
            (WAN, net.inner, net.client),
            (WAN, net.dmz, net.client),
            (LAN, net.server, net.dmz),
            (LAN, net.far, net.server),
            (DMZ, net.client, net.second),
        ] {
            fw.send(ingress, &Flow::between(src, dst, 1_000, 53).datagram()).dropped("spoofed-source", &[]);
            fw.send(ingress, &Flow::between(src, dst, 1_000, 80).syn(1)).dropped("spoofed-source", &[]);
            fw.send(ingress, &Frame::echo_request(src, dst, 1, 1)).dropped("spoofed-source", &[]);
        }
        // Nor does such a source ping the firewall.
        fw.send(WAN, &Frame::echo_request(net.client, net.own(WAN), 1, 1)).dropped("spoofed-source", &[]);
        assert!(fw.sessions().is_empty());
    }
}

#[test]
fn nobody_else_sends_from_the_firewalls_own_addresses() {
    for net in nets() {
        let mut fw = Firewall::with_rules(open_house());
        for (ingress, own) in [(LAN, net.own(LAN)), (WAN, net.own(WAN)), (WAN, net.own(LAN))] {
            let dst = if ingress == LAN { net.server } else { net.client };
            fw.send(ingress, &Flow::between(own, dst, 1_000, 53).datagram()).dropped("spoofed-source", &[]);
            fw.send(ingress, &Frame::echo_request(own, dst, 1, 1)).dropped("spoofed-source", &[]);
        }
        let to_itself = Frame::echo_request(net.own(LAN), net.own(WAN), 1, 1);
        fw.send(LAN, &to_itself).dropped("spoofed-source", &[]);
    }
    // Nor from a network's broadcast address: the answer would go to all of it.
    let (mut fw, net) = (Firewall::with_rules(open_house()), net(false));
    let everybody = host(false, 1, 255);
    fw.send(LAN, &Flow::between(everybody, net.server, 1_000, 53).datagram()).dropped("spoofed-source", &[]);
}

#[test]
fn packets_need_a_route_in_both_directions() {
    for net in nets() {
        let mut fw = Firewall::with_rules(open_house());
        fw.send(LAN, &Flow::between(net.client, net.nowhere, 1, 53).datagram()).dropped("no-route", &[]);
        fw.send(LAN, &Flow::between(net.nowhere, net.server, 1, 53).datagram()).dropped("no-route-back", &[]);
    }
}

#[test]
fn link_local_addresses_stay_on_their_link() {
    for v6 in [false, true] {
        let net = net(v6);
        let everywhere = route(if v6 { "::/0" } else { "0.0.0.0/0" }, WAN, net.router);
        let routes: Vec<Route> = super::net::routes().into_iter().chain([everywhere]).collect();
        let mut fw = Firewall::new(Setup { rules: open_house(), routes, ..Setup::default() });
        let local: Addr =
            if v6 { Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 9]) } else { Addr::from([169, 254, 1, 9]) };
        fw.send(LAN, &Flow::between(net.client, local, 1, 53).datagram()).dropped("no-route", &[]);
        fw.send(WAN, &Flow::between(local, net.client, 1, 53).datagram()).dropped("no-route-back", &[]);
        fw.send(LAN, &Flow::between(net.client, net.nowhere, 1, 53).datagram()).forwarded_to(
            WAN,
            mac_of(net.router),
            OPENED,
        );
    }
    // The firewall itself can be asked.
    let mut fw = Firewall::with_rules(open_house());
    let local = Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 9]);
    let names = ["echo-answered", "lan-to-self admitted"];
    fw.send(LAN, &Frame::echo_request(local, link_local(), 1, 1)).answered(LAN, &names);
}

#[test]
fn addresses_that_no_host_has_are_refused_before_anything_else() {
    let (mut fw, v4) = (Firewall::with_rules(open_house()), net(false));
    for src in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 5], [240, 0, 0, 1], [255; 4]] {
        fw.send(LAN, &Flow::between(src.into(), v4.server, 1, 53).datagram()).dropped("source-address", &[]);
    }
    for dst in [[0, 0, 0, 0], [127, 0, 0, 1]] {
        fw.send(LAN, &Flow::between(v4.client, dst.into(), 1, 53).datagram())
            .dropped("destination-address", &[]);
    }
    let v6 = net(true);
    let mapped = [0, 0, 0, 0, 0, 0xffff, 0x0a01, 10];
    for src in [[0; 8], [0, 0, 0, 0, 0, 0, 0, 1], mapped, [0xff02, 0, 0, 0, 0, 0, 0, 5]] {
        fw.send(LAN, &Flow::between(src.into(), v6.server, 1, 53).datagram()).dropped("source-address", &[]);
    }
    for dst in [[0; 8], [0, 0, 0, 0, 0, 0, 0, 1], mapped] {
        fw.send(LAN, &Flow::between(v6.client, dst.into(), 1, 53).datagram())
            .dropped("destination-address", &[]);
    }
    for net in nets() {
        fw.send(LAN, &Flow::between(net.client, net.client, 7, 7).syn(1)).dropped("land-attack", &[]);
    }
}

#[test]
fn groups_are_not_forwarded() {
    let mut fw = Firewall::with_rules(open_house());
    let groups: [Addr; 5] = [
        [224, 0, 0, 5].into(),
        [239, 1, 2, 3].into(),
        [255; 4].into(),
        host(false, 2, 255),
        host(false, 1, 255),
    ];
    for dst in groups {
        fw.send(LAN, &Flow::between(net(false).client, dst, 1, 53).datagram()).dropped("multicast", &[]);
        fw.send(LAN, &Frame::echo_request(net(false).client, dst, 1, 1)).dropped("multicast", &[]);
    }
    for dst in [[0xff02, 0, 0, 0, 0, 0, 0, 5], [0xff0e, 0, 0, 0, 0, 0, 0, 5]] {
        fw.send(LAN, &Flow::between(net(true).client, dst.into(), 1, 53).datagram())
            .dropped("multicast", &[]);
    }
}

#[test]
fn a_unicast_packet_in_a_group_frame_goes_nowhere() {
    // RFC 1812 §5.3.4.
    for net in nets() {
        let mut fw = Firewall::with_rules(open_house());
        let flow = Flow::of(&net);
        for mac in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 5]), MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
            for packet in [flow.datagram(), flow.syn(1), Frame::echo_request(net.client, net.own(LAN), 1, 1)]
            {
                let frame = packet.eth(mac_of(net.client), mac).bytes();
                fw.send_bytes(LAN, &frame).dropped("multicast", &[]);
            }
        }
        fw.open_tcp(&flow, "lan-to-wan");
        let reset = flow.out(RST, 1_001, 0).eth(mac_of(net.client), MacAddr::BROADCAST).bytes();
        fw.send_bytes(LAN, &reset).dropped("multicast", &[]);
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        let kind = if net.v6 { 1 } else { 3 };
        let error = Frame::icmp_error(net.server, net.client, kind, 1, &flow.datagram(), 500);
        let error = error.eth(mac_of(net.server), MacAddr::BROADCAST).bytes();
        fw.send_bytes(WAN, &error).dropped("multicast", &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "established");
    }
}

#[test]
fn frames_for_other_stations_are_not_ours() {
    for net in nets() {
        let mut fw = Firewall::lab();
        for mac in [port_mac(WAN), mac_of(net.second), MacAddr([2, 0, 0, 0, 0xf0, 9])] {
            let frame = Flow::of(&net).datagram().eth(mac_of(net.client), mac).bytes();
            fw.send_bytes(LAN, &frame).dropped("not-for-us", &[]);
        }
        let arp = Frame::arp_request(mac_of(host(false, 1, 10)), [10, 1, 0, 10], [10, 1, 0, 1]);
        let arp = arp.eth(mac_of(host(false, 1, 10)), mac_of(net.second)).bytes();
        fw.send_bytes(LAN, &arp).dropped("not-for-us", &[]);
    }
}

#[test]
fn packets_of_a_session_come_through_its_two_zones_only() {
    for net in nets() {
        let mut fw = Firewall::with_rules(open_house());
        let flow = Flow::of(&net);
        fw.open_tcp(&flow, "lan-to-wan");
        let (out, back) = (flow.out(ACK, 1_001, 5_001), flow.back(ACK, 5_001, 1_001));
        for (ingress, packet) in [(WAN, &out), (DMZ, &out), (LAN, &back), (DMZ, &back)] {
            let bytes = dressed(ingress, packet);
            fw.send_bytes(ingress, &bytes).dropped("wrong-zone", &[]);
        }
        fw.send(LAN, &out).forwarded(WAN, &[]);
        fw.send(WAN, &back).forwarded(LAN, &[]);
    }
}

#[test]
fn two_ports_of_one_zone_share_its_sessions() {
    for net in nets() {
        let mut ports = super::net::ports();
        ports[2].zone = ports[1].zone;
        let mut fw = Firewall::new(Setup { ports, rules: lab_rules(), ..Setup::default() });
        let flow = Flow::of(&net);
        fw.open_tcp(&flow, "lan-to-wan");
        let back = dressed(DMZ, &flow.back(ACK, 5_001, 1_001));
        fw.send_bytes(DMZ, &back).forwarded(LAN, &[]);
    }
}
