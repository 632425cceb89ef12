//! What rules do: drops, rejections, logs, the firewall's own addresses, and changes of the policy while
//! sessions are alive.

use super::firewall::{Firewall, Setup};
use super::net::{
    DMZ, Flow, LAN, WAN, allow, allow_self, lab_rules, mac_of, nets, port, port_mac, route, zone,
};
use crate::ids::RuleId;
use crate::neighbour::AdjacencyState;
use crate::pipeline::Notice;
use crate::policy::{Action, Rule, Service};
use crate::routes::Route;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, RST, SYN};
use wire::{Kind, Proto};

const OPENED: &[&str] = &["sessions-created", "lan-to-wan admitted"];
const DENIED: &[&str] = &["default-deny refused"];

/// A rule before the lab's.
fn first(rule: Rule) -> Vec<Rule> {
    [vec![rule], lab_rules()].concat()
}

fn no_telnet(action: Action, log: bool) -> Rule {
    Rule { action, log, ..allow("no-telnet", LAN, WAN, &[port(Proto::TCP, 23), port(Proto::UDP, 23)]) }
}

#[test]
fn a_drop_rule_is_silent_and_its_counter_says_which() {
    for net in nets() {
        let mut fw = Firewall::with_rules(first(no_telnet(Action::Drop, true)));
        let flow = Flow::between(net.client, net.server, 40_000, 23);
        fw.send(LAN, &flow.syn(1)).dropped("policy-drop", &["no-telnet refused"]);
        fw.send(LAN, &flow.datagram()).dropped("policy-drop", &["no-telnet refused"]);
        let rule = RuleId::from_name("no-telnet");
        let refused = |frame: &Frame| Notice::Refused { key: frame.key(), rule };
        assert_eq!(fw.notices(), [refused(&flow.syn(1)), refused(&flow.datagram())]);
        fw.send(LAN, &Flow::of(&net).syn(1)).forwarded(WAN, OPENED);
        fw.send(DMZ, &Flow::between(net.dmz, net.server, 1, 23).syn(1)).dropped("policy-drop", DENIED);
        assert_eq!(fw.notices(), [], "the others are not logged");
    }
}

#[test]
fn a_rejected_syn_is_reset_with_the_numbers_that_its_sender_expects() {
    for net in nets() {
        let mut fw = Firewall::with_rules(first(no_telnet(Action::Reject, false)));
        let flow = Flow::between(net.client, net.server, 40_000, 23);
        for (payload_len, ack) in [(0, 1_001), (10, 1_011)] {
            let syn = flow.syn(1_000).payload_len(payload_len);
            let names = ["policy-reject", "no-telnet refused", "resets-sent"];
            let (out, desc) = fw.send(LAN, &syn).answered(LAN, &names);
            assert_eq!((desc.kind, desc.key, desc.ttl), (Kind::Tcp, syn.key().reversed(), 64));
            assert_eq!((desc.tcp.flags, desc.tcp.seq, desc.tcp.ack), (RST | ACK, 0, ack));
            assert_eq!((&out[..6], &out[6..12]), (&mac_of(net.client).0[..], &port_mac(LAN).0[..]));
        }
        assert!(fw.sessions().is_empty());
        fw.send(LAN, &flow.out(RST, 1_000, 0)).dropped("tcp-unknown-rst", &[]);
    }
}

#[test]
fn other_rejected_packets_are_answered_with_administratively_prohibited() {
    for net in nets() {
        let rule = Rule {
            action: Action::Reject,
            ..allow(
                "no-others",
                LAN,
                WAN,
                &[port(Proto::UDP, 23), Service::IcmpEcho, Service::Proto(Proto::GRE)],
            )
        };
        let mut fw = Firewall::with_rules(first(rule));
        let prohibited = if net.v6 { (1, 1, 0) } else { (3, 13, 0) };
        for packet in [
            Flow::between(net.client, net.server, 40_000, 23).datagram(),
            Frame::udp(net.client, net.server, 40_000, 23).payload_len(1_400),
            Frame::echo_request(net.client, net.server, 7, 1),
            Frame::ip(net.inner, net.server, Proto::GRE).payload_len(40),
        ] {
            let names = &["no-others refused"];
            fw.send(LAN, &packet).refused_with_error("policy-reject", net.own(LAN), prohibited, names);
        }
    }
}

#[test]
fn replies_are_limited_and_recover_also_while_the_clock_wraps() {
    for net in nets() {
        let mut fw = Firewall::with_rules(first(no_telnet(Action::Reject, false)));
        let syn = Flow::between(net.client, net.server, 40_000, 23).syn(1);
        let mut round = |n: usize| {
            let (mut resets, mut limited) = (0, 0);
            for _ in 0..n {
                let step = fw.send(LAN, &syn);
                resets += step.counted.get("resets-sent").copied().unwrap_or(0);
                limited += step.counted.get("icmp-errors-limited").copied().unwrap_or(0);
                drop(step);
            }
            fw.idle(50).silent(&[]);
            (resets, limited)
        };
        assert_eq!(round(250), (200, 50), "a burst");
        assert_eq!(round(250), (50, 200), "one in a millisecond");
        let rest: Vec<_> = (0..120).map(|_| round(60)).collect();
        assert_eq!(rest, [(50, 10); 120], "six seconds, through the wrap");
    }
}

#[test]
fn an_empty_pool_is_counted_and_the_packet_dropped_all_the_same() {
    for net in nets() {
        let mut fw = Firewall::with_rules(first(no_telnet(Action::Reject, false)));
        fw.workers[0].io.pool = 0;
        let flow = Flow::between(net.client, net.server, 40_000, 23);
        let dropped = ["no-buffer", "no-telnet refused"];
        fw.send(LAN, &flow.syn(1)).dropped("policy-reject", &dropped);
        fw.send(LAN, &flow.datagram()).dropped("policy-reject", &dropped);
    }
}

#[test]
fn a_logging_rule_tells_of_each_session_when_it_opens_and_when_it_ends() {
    for net in nets() {
        let rule = Rule { log: true, ..allow("logged", LAN, WAN, &[Service::Any]) };
        let id = rule.id;
        let mut fw = Firewall::with_rules(vec![rule]);
        let flow = Flow::of(&net);
        let opened = ["sessions-created", "logged admitted"];
        let packet = 100 + if net.v6 { 48 } else { 28 };
        let ended = |key, bytes| Notice::SessionEnded { key, rule: id, bytes };
        let key = flow.datagram().key();

        fw.send(LAN, &flow.datagram()).forwarded(WAN, &opened);
        fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        fw.send(WAN, &flow.reversed().datagram()).forwarded(LAN, &[]);
        assert_eq!(fw.notices(), [Notice::SessionOpened { key, rule: id }]);
        fw.idle(122_000).silent(&["sessions-expired"]);
        assert_eq!(fw.notices(), [ended(key, [packet, 2 * packet])], "expired");

        fw.send(LAN, &flow.datagram()).forwarded(WAN, &opened);
        fw.notices();
        let slot = (0..256)
            .map(crate::table::Slot)
            .find(|s| fw.workers[0].engine.shard().reader().read(*s).is_some());
        let now = fw.now;
        assert!(fw.workers[0].engine.terminate(slot.unwrap(), now));
        assert!(!fw.workers[0].engine.terminate(slot.unwrap(), now), "once");
        assert_eq!(fw.notices(), [ended(key, [packet, 0])], "by command");

        fw.send(LAN, &flow.datagram()).forwarded(WAN, &opened);
        fw.notices();
        fw.reload(|setup| setup.rules.clear());
        let changed = ["sessions-rebound", "default-deny refused"];
        fw.send(LAN, &flow.datagram()).dropped("policy-changed", &changed);
        assert_eq!(fw.notices(), []);
        fw.housekeep().silent(&["sessions-terminated"]);
        assert_eq!(fw.notices(), [ended(key, [packet, 0])], "by the policy");
    }
}

#[test]
fn a_full_ring_to_the_control_thread_is_counted_and_stops_nothing() {
    for net in nets() {
        let rule = Rule { log: true, ..allow("logged", LAN, WAN, &[Service::Any]) };
        let mut fw = Firewall::new(Setup { rules: vec![rule], notices: 1, ..Setup::default() });
        let opened = ["sessions-created", "logged admitted"];
        fw.send(LAN, &Flow::of(&net).datagram()).forwarded(WAN, &opened);
        let lost = ["sessions-created", "logged admitted", "control-events-lost"];
        fw.send(LAN, &Flow::of(&net).syn(1)).forwarded(WAN, &lost);
        assert_eq!(fw.notices().len(), 1);
        fw.idle(32_000).silent(&["sessions-expired", "sessions-expired", "control-events-lost"]);
    }
}

#[test]
fn echo_to_the_firewall_is_answered_only_where_a_rule_to_self_allows_it() {
    for net in nets() {
        let mut fw = Firewall::with_rules(first(allow_self("ping-me", LAN, &[Service::IcmpEcho])));
        for own in [net.own(LAN), net.own(WAN)] {
            let request = Frame::echo_request(net.client, own, 7, 1).payload_len(56);
            let (out, _) = fw.send(LAN, &request).answered(LAN, &["echo-answered", "ping-me admitted"]);
            let reply = Frame::echo_reply(own, net.client, 7, 1).payload_len(56);
            assert_eq!(out, reply.eth(port_mac(LAN), mac_of(net.client)).pad_to(60).bytes());
        }
        let last_hop = Frame::echo_request(net.client, net.own(LAN), 7, 2).ttl(1);
        fw.send(LAN, &last_hop).answered(LAN, &["echo-answered", "ping-me admitted"]);
        fw.send(WAN, &Frame::echo_request(net.server, net.own(WAN), 7, 1)).dropped("policy-drop", DENIED);
        assert!(fw.sessions().is_empty(), "no session is needed");
        let from_far = Frame::echo_request(net.inner, net.own(LAN), 7, 1);
        let (out, desc) = fw.send(LAN, &from_far).answered(LAN, &["echo-answered", "ping-me admitted"]);
        assert_eq!((&out[..6], desc.key.dst()), (&mac_of(net.gateway).0[..], net.inner), "the way it came");
    }
}

#[test]
fn anything_else_for_the_firewall_is_refused() {
    for net in nets() {
        let own = net.own(LAN);
        let flow = Flow::between(net.client, own, 40_000, 22);
        let mut fw = Firewall::lab();
        for packet in [flow.syn(1), flow.datagram(), Frame::ip(net.client, own, Proto::GRE).payload_len(8)] {
            fw.send(LAN, &packet).dropped("policy-drop", DENIED);
        }
        fw.send(LAN, &Frame::echo_reply(net.client, own, 1, 1)).dropped("icmp-echo-reply-unasked", &[]);

        let mut fw = Firewall::with_rules(first(allow_self("all-of-me", LAN, &[Service::Any])));
        for packet in [flow.syn(1), flow.datagram(), Frame::ip(net.client, own, Proto::GRE).payload_len(8)] {
            fw.send(LAN, &packet).dropped("local-no-service", &[]);
        }
        // Answered packets have no options here.
        let request = Frame::echo_request(net.client, own, 7, 1);
        let decorated =
            if net.v6 { request.extension(60, &[1, 4, 0, 0, 0, 0]) } else { request.ip_options(&[1; 4]) };
        fw.send(LAN, &decorated).dropped("local-no-service", &[]);
        // Nor are they longer than a frame.
        let long = Frame::echo_request(net.client, own, 7, 1).payload_len(1_600);
        fw.send(LAN, &long).dropped("local-no-service", &[]);

        let reject = Rule { action: Action::Reject, ..allow_self("not-me", LAN, &[Service::Any]) };
        let mut fw = Firewall::with_rules(first(reject));
        let names = ["policy-reject", "not-me refused", "resets-sent"];
        let (_, desc) = fw.send(LAN, &flow.syn(1)).answered(LAN, &names);
        assert_eq!((desc.key, desc.tcp.flags), (flow.syn(1).key().reversed(), RST | ACK));
        let prohibited = if net.v6 { (1, 1, 0) } else { (3, 13, 0) };
        let names = &["not-me refused"];
        fw.send(LAN, &flow.datagram()).refused_with_error("policy-reject", own, prohibited, names);
    }
}

#[test]
fn an_unchanged_policy_keeps_sessions_and_binds_them_once() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        let before = fw.expect_session(&flow.syn(0).key());
        // Another rule admits it now, whichever end speaks first.
        fw.reload(|setup| setup.rules = first(allow("web", LAN, WAN, &[port(Proto::TCP, 80)])));
        fw.send(WAN, &flow.back(ACK, 5_001, 1_001)).forwarded(LAN, &["sessions-rebound"]);
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        let after = fw.expect_session(&flow.syn(0).key());
        assert_eq!(after.binding.rule, RuleId::from_name("web"));
        assert_eq!(after.binding.generation, before.binding.generation + 1);
        assert_eq!((after.keys, after.path, after.packets), (before.keys, before.path, [3, 2]));
        assert!(after.version > before.version, "the other node hears of it");
        fw.housekeep().silent(&[]);
    }
}

#[test]
fn sessions_that_a_new_policy_refuses_end() {
    for net in nets() {
        for from_responder in [false, true] {
            let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
            fw.open_tcp(&flow, "lan-to-wan");
            fw.reload(|setup| setup.rules = first(Rule { log: false, ..no_web() }));
            let (ingress, packet) = if from_responder {
                (WAN, flow.back(ACK, 5_001, 1_001))
            } else {
                (LAN, flow.out(ACK, 1_001, 5_001))
            };
            let names = ["sessions-rebound", "no-web refused"];
            fw.send(ingress, &packet).dropped("policy-changed", &names);
            fw.send(ingress, &packet).dropped("policy-changed", &[]);
            assert_eq!(fw.sessions().len(), 1, "until the burst is over");
            fw.housekeep().silent(&["sessions-terminated"]);
            assert_eq!(fw.sessions().len(), 0);
            fw.send(ingress, &packet).dropped("tcp-unknown-ack", &[]);
            fw.send(LAN, &flow.syn(1)).dropped("policy-drop", &["no-web refused"]);
        }
    }
}

fn no_web() -> Rule {
    Rule { action: Action::Drop, ..allow("no-web", LAN, WAN, &[port(Proto::TCP, 80)]) }
}

#[test]
fn eight_sessions_a_burst_are_asked_anew() {
    for net in nets() {
        let mut fw = Firewall::lab();
        let flows: Vec<_> = (0..12).map(|i| Flow::between(net.client, net.server, 1_000 + i, 53)).collect();
        let datagrams: Vec<_> = flows.iter().map(Flow::datagram).collect();
        assert_eq!(
            fw.send_all(LAN, &datagrams).counts(&[&["forwarded"], OPENED].concat().repeat(12)).len(),
            12
        );
        fw.reload(|setup| setup.rules.clear());
        let refused = ["sessions-rebound", "policy-changed", "default-deny refused"].repeat(8);
        let sent = fw.send_all(LAN, &datagrams).counts(&[refused, vec!["forwarded"; 4]].concat());
        assert_eq!(sent.len(), 4);
        fw.housekeep().silent(&["sessions-terminated"; 8]);
        let refused = ["sessions-rebound", "policy-changed", "default-deny refused"].repeat(4);
        fw.send_all(LAN, &datagrams[8..]).silent(&refused);
        fw.housekeep().silent(&["sessions-terminated"; 4]);
        assert!(fw.sessions().is_empty());
    }
}

#[test]
fn a_refused_session_does_not_pass_behind_its_own_packets() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        fw.reload(|setup| setup.rules.clear());
        let names = [vec!["policy-changed"; 32], vec!["sessions-rebound", "default-deny refused"]].concat();
        fw.send_all(LAN, &vec![flow.datagram(); 32]).silent(&names);
        fw.housekeep().silent(&["sessions-terminated"]);
    }
}

#[test]
fn a_session_ended_by_command_takes_no_other_with_it() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        fw.reload(|setup| setup.rules = vec![allow("tcp", LAN, WAN, &[Service::Proto(Proto::TCP)])]);
        let names = ["sessions-rebound", "default-deny refused"];
        fw.send(LAN, &flow.datagram()).dropped("policy-changed", &names);
        let now = fw.now;
        assert!(fw.workers[0].engine.terminate(crate::table::Slot(0), now));
        fw.send(LAN, &flow.syn(1)).forwarded(WAN, &["sessions-created", "tcp admitted"]);
        fw.housekeep().silent(&[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "syn-sent");
    }
}

/// The routes with those to the far network replaced.
fn far_by(routes: &[Route], v6: bool, new: Route) -> Vec<Route> {
    let prefix = if v6 { "2001:db8::/32" } else { "198.51.100.0/24" };
    let far: ipnet::IpNet = prefix.parse().unwrap();
    routes.iter().copied().filter(|r| r.prefix != far).chain([Route { prefix: far, ..new }]).collect()
}

#[test]
fn a_change_of_routes_moves_the_next_hop() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::between(net.client, net.far, 40_000, 80));
        fw.open_tcp(&flow, "lan-to-wan");
        let (old, new) = (net.router, super::net::host(net.v6, 2, 253));
        fw.neighbour(WAN, new, AdjacencyState::Resolved);
        fw.reload(|setup| setup.routes = far_by(&setup.routes, net.v6, route("10.0.0.0/8", WAN, new)));
        let packet = flow.out(ACK, 1_001, 5_001);
        fw.send(LAN, &packet).forwarded_to(WAN, mac_of(new), &["sessions-rebound"]);
        fw.send(LAN, &packet).forwarded_to(WAN, mac_of(new), &[]);
        assert_eq!(fw.expect_session(&packet.key()).path.next_hops[0], fw.hop(WAN, new));
        assert_ne!(old, new);
    }
}

#[test]
fn a_destination_behind_another_zone_is_another_question() {
    for net in nets() {
        for answer_first in [false, true] {
            let (mut fw, flow) = (Firewall::lab(), Flow::between(net.client, net.far, 40_000, 80));
            fw.open_tcp(&flow, "lan-to-wan");
            fw.reload(|setup| {
                setup.routes = far_by(&setup.routes, net.v6, route("10.0.0.0/8", DMZ, net.dmz));
                setup.rules.push(allow("lan-to-dmz", LAN, DMZ, &[Service::Any]));
            });
            let (out, back) = (flow.out(ACK, 1_001, 5_001), flow.back(ACK, 5_001, 1_001));
            if answer_first {
                fw.send(DMZ, &back).forwarded(LAN, &["sessions-rebound"]);
            } else {
                fw.send(LAN, &out).forwarded_to(DMZ, mac_of(net.dmz), &["sessions-rebound"]);
                fw.send(DMZ, &back).forwarded(LAN, &[]);
            }
            fw.send(WAN, &back).dropped("wrong-zone", &[]);
            let binding = fw.expect_session(&out.key()).binding;
            assert_eq!(
                (binding.rule, binding.zones),
                (RuleId::from_name("lan-to-dmz"), [zone(LAN), zone(DMZ)])
            );
        }
        let (mut fw, flow) = (Firewall::lab(), Flow::between(net.client, net.far, 40_000, 80));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.reload(|setup| setup.routes = far_by(&setup.routes, net.v6, route("10.0.0.0/8", DMZ, net.dmz)));
        let names = ["sessions-rebound", "default-deny refused"];
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).dropped("policy-changed", &names);
    }
}

#[test]
fn a_session_whose_initiator_is_behind_another_zone_now_ends() {
    for net in nets() {
        let mut rules = lab_rules();
        rules.push(allow("dmz-to-wan", DMZ, WAN, &[Service::Any]));
        let (mut fw, flow) = (Firewall::with_rules(rules), Flow::between(net.inner, net.server, 40_000, 80));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.reload(|setup| {
            setup.routes.retain(|r| !["10.9.0.0/16", "fd00:9::/32"].contains(&r.prefix.to_string().as_str()));
            setup.routes.push(route(if net.v6 { "fd00:9::/32" } else { "10.9.0.0/16" }, DMZ, net.dmz));
        });
        // Another rule would admit it from there; but it would be another session.
        fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).dropped("policy-changed", &["sessions-rebound"]);
        fw.housekeep().silent(&["sessions-terminated"]);
    }
}

#[test]
fn a_session_is_young_once() {
    use crate::table::flags::{REPLICATE, YOUNG};
    for net in nets() {
        let rule = Rule { sync_after_s: 5, ..allow("r", LAN, WAN, &[Service::Any]) };
        let (mut fw, flow) = (Firewall::with_rules(vec![rule]), Flow::of(&net));
        let key = flow.datagram().key();
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &["sessions-created", "r admitted"]);
        fw.idle(2_000).silent(&[]);
        fw.reload(|_| {});
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &["sessions-rebound"]);
        assert_eq!(fw.expect_session(&key).path.flags, REPLICATE | YOUNG);
        fw.idle(2_000).silent(&[]);
        assert_eq!(fw.expect_session(&key).path.flags, REPLICATE | YOUNG);
        fw.idle(2_000).silent(&[]);
        assert_eq!(fw.expect_session(&key).path.flags, REPLICATE, "within a second of its time");
        fw.reload(|_| {});
        fw.send(LAN, &flow.datagram()).forwarded(WAN, &["sessions-rebound"]);
        assert_eq!(fw.expect_session(&key).path.flags, REPLICATE);
    }
}

#[test]
fn a_session_whose_route_is_gone_ends() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::between(net.inner, net.server, 40_000, 80));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.reload(|setup| setup.routes.retain(|r| !r.prefix.to_string().contains("9")));
        fw.send(WAN, &flow.back(ACK, 5_001, 1_001)).dropped("policy-changed", &["sessions-rebound"]);
        fw.housekeep().silent(&["sessions-terminated"]);
    }
}

#[test]
fn a_new_policy_is_asked_for_an_icmp_error_as_well() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.send(LAN, &flow.datagram()).forwarded(WAN, OPENED);
        fw.reload(|setup| setup.rules.clear());
        let kind = if net.v6 { 1 } else { 3 };
        let error = Frame::icmp_error(net.router, net.client, kind, 0, &flow.datagram(), 500);
        let names = ["sessions-rebound", "default-deny refused"];
        fw.send(WAN, &error).dropped("policy-changed", &names);
        fw.housekeep().silent(&["sessions-terminated"]);
    }
}

#[test]
fn only_a_syn_is_asked_for_and_the_flags_of_a_rule_are_the_sessions() {
    use crate::table::flags;
    for net in nets() {
        for (rule, expected) in [
            (allow("r", LAN, WAN, &[Service::Any]), flags::REPLICATE),
            (Rule { replicate: false, ..allow("r", LAN, WAN, &[Service::Any]) }, 0),
            (
                Rule { sync_after_s: 9, ..allow("r", LAN, WAN, &[Service::Any]) },
                flags::REPLICATE | flags::YOUNG,
            ),
            (Rule { log: true, ..allow("r", LAN, WAN, &[Service::Any]) }, flags::REPLICATE | flags::LOG),
        ] {
            let (mut fw, flow) = (Firewall::with_rules(vec![rule]), Flow::of(&net));
            fw.send(LAN, &flow.out(SYN, 1, 0)).forwarded(WAN, &["sessions-created", "r admitted"]);
            assert_eq!(fw.expect_session(&flow.syn(0).key()).path.flags, expected);
        }
    }
}
