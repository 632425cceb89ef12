//! Ports used again: by either end, after every way to close, and on a live session.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, WAN, allow, lab_rules, nets, zone};
use crate::neighbour::AdjacencyState;
use crate::pipeline::Notice;
use crate::policy::{Rule, Service};
use wire::tcp_flags::{ACK, FIN, RST};

const REOPENED: &[&str] = &["sessions-reopened", "lan-to-wan admitted"];

/// From reset or orderly close to a finished session.
fn finish(fw: &mut Firewall, flow: &Flow, by_reset: bool) {
    if by_reset {
        fw.send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "closed");
    } else {
        fw.send(LAN, &flow.out(FIN | ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        fw.send(WAN, &flow.back(FIN | ACK, 5_001, 1_002)).forwarded(LAN, &[]);
        fw.send(LAN, &flow.out(ACK, 1_002, 5_002)).forwarded(WAN, &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "time-wait");
    }
}

#[test]
fn the_initiator_uses_its_port_again() {
    for net in nets() {
        for by_reset in [false, true] {
            let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
            fw.open_tcp(&flow, "lan-to-wan");
            finish(&mut fw, &flow, by_reset);
            let old = fw.expect_session(&flow.syn(0).key());
            fw.send(LAN, &flow.syn(90_000)).forwarded(WAN, REOPENED);
            let new = fw.expect_session(&flow.syn(0).key());
            assert_eq!((fw.state(&flow.syn(0).key()), new.packets), ("syn-sent", [1, 0]));
            assert!(new.version > old.version);
            fw.housekeep().silent(&[]);
            assert_eq!(
                (fw.workers[0].counters.sessions(), fw.workers[0].counters.half_open()),
                ([1, 0, 0, 0], 1)
            );
            fw.send(WAN, &flow.syn_ack(70_000, 90_001)).forwarded(LAN, &[]);
            fw.send(LAN, &flow.out(ACK, 90_001, 70_001)).forwarded(WAN, &[]);
            assert_eq!(fw.state(&flow.syn(0).key()), "established");
            fw.housekeep().silent(&[]);
            assert_eq!(
                (fw.workers[0].counters.sessions(), fw.workers[0].counters.half_open()),
                ([1, 0, 0, 0], 0)
            );
        }
    }
}

#[test]
fn an_old_syn_in_time_wait_opens_nothing() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        finish(&mut fw, &flow, false);
        fw.send(LAN, &flow.syn(1_000)).forwarded(WAN, &["passed tcp-syn-on-live"]);
        assert_eq!(fw.state(&flow.syn(0).key()), "time-wait");
    }
}

#[test]
fn a_wrong_checksum_reopens_nothing() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        finish(&mut fw, &flow, true);
        fw.send(LAN, &flow.syn(90_000).bad_l4_checksum()).dropped("bad-l4-checksum", &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "closed");
    }
}

#[test]
fn the_policy_is_asked_again_for_the_responder() {
    for net in nets() {
        for by_reset in [false, true] {
            let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
            fw.open_tcp(&flow, "lan-to-wan");
            finish(&mut fw, &flow, by_reset);
            let state = fw.state(&flow.syn(0).key());
            fw.send(WAN, &flow.reversed().syn(90_000)).dropped("policy-drop", &["default-deny refused"]);
            assert_eq!(fw.state(&flow.syn(0).key()), state);
            assert_eq!(fw.expect_session(&flow.syn(0).key()).keys[0], flow.syn(0).key());
        }
    }
}

/// The lab's rules, and the same the other way.
fn both_ways() -> Vec<Rule> {
    [lab_rules(), vec![allow("wan-to-lan", WAN, LAN, &[Service::Any])]].concat()
}

#[test]
fn the_responder_may_become_the_initiator() {
    for net in nets() {
        for resolved in [true, false] {
            let (mut fw, flow) = (Firewall::with_rules(both_ways()), Flow::of(&net));
            fw.open_tcp(&flow, "lan-to-wan");
            finish(&mut fw, &flow, true);
            let other = flow.reversed();
            let reopened = ["sessions-reopened", "wan-to-lan admitted"];
            if resolved {
                fw.send(WAN, &other.syn(90_000)).forwarded(LAN, &reopened);
            } else {
                fw.neighbour(LAN, net.client, AdjacencyState::Incomplete);
                fw.send(WAN, &other.syn(90_000)).pends(&reopened);
                fw.neighbour(LAN, net.client, AdjacencyState::Resolved);
                assert_eq!(fw.housekeep().counts(&["forwarded"]).len(), 1);
            }
            let session = fw.expect_session(&other.syn(0).key());
            assert_eq!(session.keys, [other.syn(0).key(), flow.syn(0).key()]);
            assert_eq!(session.binding.zones, [zone(WAN), zone(LAN)]);
            assert_eq!(session.path.next_hops, [fw.hop(LAN, net.client), fw.hop(WAN, net.server)]);
            fw.send(LAN, &other.syn_ack(70_000, 90_001)).forwarded(WAN, &[]);
            fw.send(WAN, &other.out(ACK, 90_001, 70_001)).forwarded(LAN, &[]);
            fw.send(LAN, &other.back(ACK, 70_001, 90_001).payload_len(10)).forwarded(WAN, &[]);
            assert_eq!(fw.state(&other.syn(0).key()), "established");
            assert_eq!(fw.expect_session(&other.syn(0).key()).packets, [2, 2]);
            // And back again.
            fw.send(LAN, &other.back(RST, 70_011, 0)).forwarded(WAN, &[]);
            fw.send(LAN, &flow.syn(3_000_000)).forwarded(WAN, REOPENED);
            fw.housekeep().silent(&[]);
            assert_eq!(
                (fw.workers[0].counters.sessions(), fw.workers[0].counters.half_open()),
                ([1, 0, 0, 0], 1)
            );
            fw.idle(33_000).silent(&["sessions-expired"]);
            assert!(fw.sessions().is_empty());
        }
    }
}

#[test]
fn a_policy_that_refuses_by_now_ends_the_finished_session() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        finish(&mut fw, &flow, true);
        fw.reload(|setup| setup.rules.clear());
        let names = ["sessions-rebound", "default-deny refused"];
        fw.send(LAN, &flow.syn(90_000)).dropped("policy-changed", &names);
        fw.housekeep().silent(&["sessions-terminated"]);
        fw.send(LAN, &flow.syn(90_000)).dropped("policy-drop", &["default-deny refused"]);
    }
}

#[test]
fn a_predecessor_has_its_end_logged() {
    for net in nets() {
        let rule = Rule { log: true, ..allow("logged", LAN, WAN, &[Service::Any]) };
        let id = rule.id;
        let (mut fw, flow) = (Firewall::with_rules(vec![rule]), Flow::of(&net));
        fw.open_tcp(&flow, "logged");
        finish(&mut fw, &flow, true);
        fw.notices();
        fw.send(LAN, &flow.syn(90_000)).forwarded(WAN, &["sessions-reopened", "logged admitted"]);
        let (key, packet) = (flow.syn(0).key(), if net.v6 { 60 } else { 40 });
        let ended = Notice::SessionEnded { key, rule: id, bytes: [2 * packet, 2 * packet] };
        assert_eq!(fw.notices(), [ended, Notice::SessionOpened { key, rule: id }]);
    }
}

#[test]
fn a_live_session_begins_anew_if_the_responder_says_so() {
    for net in nets() {
        let (mut fw, flow) = (Firewall::lab(), Flow::of(&net));
        fw.open_tcp(&flow, "lan-to-wan");
        fw.send(LAN, &flow.syn(800_000)).forwarded(WAN, &["passed tcp-syn-on-live"]);
        fw.send(WAN, &flow.syn_ack(600_000, 800_001)).forwarded(LAN, &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "syn-received");
        assert_eq!(fw.expect_session(&flow.syn(0).key()).packets, [2, 2]);
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.half_open(), 1);
        fw.send(LAN, &flow.out(ACK, 800_001, 600_001)).forwarded(WAN, &[]);
        assert_eq!(fw.state(&flow.syn(0).key()), "established");
        fw.housekeep().silent(&[]);
        assert_eq!(fw.workers[0].counters.half_open(), 0);
    }
}

#[test]
fn a_full_table_has_room_for_successors() {
    for net in nets() {
        let mut fw = Firewall::new(Setup { slots: 1, ..Setup::default() });
        let flow = Flow::of(&net);
        fw.open_tcp(&flow, "lan-to-wan");
        finish(&mut fw, &flow, true);
        fw.send(LAN, &flow.datagram()).dropped("table-full", &[]);
        fw.send(LAN, &flow.syn(90_000)).forwarded(WAN, REOPENED);
    }
}
