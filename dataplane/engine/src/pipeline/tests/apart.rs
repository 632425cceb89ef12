//! Splits: what each node remembers of the time without the other, what the one that stayed active takes of
//! the other's sessions, and what a takeover with a stale mirror believes.

use super::firewall::{Firewall, Setup};
use super::net::{Flow, LAN, WAN, allow, nets};
use super::pair::{Pair, TERMS};
use crate::mirror::{Adoption, AdoptionRefused, Imported};
use crate::policy::Service;
use crate::role::RoleView;
use crate::time::Ticks;
use wire::FlowKey;
use wire::tcp_flags::ACK;

const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];

fn apart(fw: &mut Firewall) -> Ticks {
    let now = fw.now;
    fw.workers[0].engine.set_apart(Some(now));
    now
}

/// Both nodes are active from now on.
fn split(pair: &mut Pair) -> [Ticks; 2] {
    pair.wait(10);
    pair.take_over();
    [apart(pair.a()), apart(pair.b())]
}

fn activity(fw: &Firewall) -> u32 {
    fw.workers[0].engine.activity()
}

fn since(fw: &Firewall, key: &FlowKey, split: Ticks) -> Option<bool> {
    fw.expect_session(key).since_split(split, split)
}

/// What the loser says of a session, and whether both ends have sent since.
fn offer(fw: &Firewall, key: &FlowKey, split: Ticks) -> (Imported, bool) {
    let view = fw.expect_session(key);
    (Imported::of(&view, fw.now, &fw.snapshot.timeouts), view.since_split(split, split).unwrap())
}

fn adopt(fw: &mut Firewall, (record, two_way): &(Imported, bool)) -> Adoption {
    let (now, snapshot) = (fw.now, fw.snapshot.clone());
    fw.workers[0].engine.adopt(now, &snapshot, record, *two_way)
}

#[test]
fn decision_34_sessions_with_traffic_from_both_ends_are_counted_once() {
    for net in nets() {
        let mut fw = Firewall::lab();
        let old = Flow::of(&net);
        fw.open_tcp(&old, "lan-to-wan");
        fw.idle(10).sent.clear();
        let split = apart(&mut fw);
        let key = old.syn(0).key();
        assert_eq!((since(&fw, &key, split), activity(&fw)), (None, 0));
        fw.send(LAN, &old.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        assert_eq!((since(&fw, &key, split), activity(&fw)), (Some(false), 0));
        for _ in 0..3 {
            fw.send(WAN, &old.back(ACK, 5_001, 1_001)).forwarded(LAN, &[]);
        }
        assert_eq!((since(&fw, &key, split), activity(&fw)), (Some(true), 1));
        // One that is opened meanwhile.
        let new = Flow::between(net.client, net.server, 41_000, 53);
        fw.send(LAN, &new.datagram()).forwarded(WAN, &ADMITTED);
        assert_eq!(since(&fw, &new.datagram().key(), split), Some(false));
        fw.send(WAN, &new.reversed().datagram()).forwarded(LAN, &[]);
        assert_eq!((since(&fw, &new.datagram().key(), split), activity(&fw)), (Some(true), 2));

        // What was noted stays when the partner is back, and counts for nothing in the next split.
        fw.workers[0].engine.set_apart(None);
        assert_eq!((since(&fw, &key, split), activity(&fw)), (Some(true), 2));
        fw.idle(10).sent.clear();
        let split = apart(&mut fw);
        assert_eq!((since(&fw, &key, split), activity(&fw)), (None, 0));
        fw.send(WAN, &old.back(ACK, 5_001, 1_001)).forwarded(LAN, &[]);
        assert_eq!((since(&fw, &key, split), activity(&fw)), (Some(false), 0));
    }
}

#[test]
fn decision_35_what_passed_before_the_split_was_noticed_is_offered() {
    for net in nets() {
        let mut fw = Firewall::lab();
        let [old, between] = [40_000, 40_001].map(|port| Flow::between(net.client, net.server, port, 53));
        let both = |fw: &mut Firewall, flow: &Flow| {
            fw.send_all(LAN, &[flow.datagram()]).sent.clear();
            fw.send_all(WAN, &[flow.reversed().datagram()]).sent.clear();
        };
        // Marks of an earlier split mean nothing.
        apart(&mut fw);
        both(&mut fw, &old);
        both(&mut fw, &between);
        fw.workers[0].engine.set_apart(None);
        fw.idle(10).sent.clear();
        let began = fw.now;
        both(&mut fw, &between);
        fw.idle(300).sent.clear();
        let noticed = apart(&mut fw);
        let since = |fw: &Firewall, flow: &Flow| {
            fw.expect_session(&flow.datagram().key()).since_split(began, noticed)
        };
        assert_eq!((since(&fw, &old), since(&fw, &between)), (None, Some(false)));
        both(&mut fw, &between);
        assert_eq!((since(&fw, &between), activity(&fw)), (Some(true), 1));
    }
}

#[test]
fn decision_35_a_session_that_is_missing_is_inserted_in_the_winners_term_and_mirrored_back() {
    for net in nets() {
        let mut pair = Pair::lab();
        let splits = split(&mut pair);
        let flow = Flow::of(&net);
        pair.b().open_tcp(&flow, "lan-to-wan");
        let key = flow.syn(0).key();
        let offered = offer(pair.b(), &key, splits[1]);
        assert!(offered.1);
        pair.nodes[1].set_role(RoleView::Standby);
        assert!(matches!(adopt(pair.a(), &offered), Adoption::Inserted(_)));
        let version = pair.nodes[0].version(&key);
        assert_eq!(version >> 44, u64::from(TERMS[0]));
        assert!(version & ((1 << 44) - 1) > offered.0.version & ((1 << 44) - 1));
        // Again: nothing happens.
        assert!(matches!(adopt(pair.a(), &offered), Adoption::Kept(_)));
        assert_eq!(pair.nodes[0].version(&key), version);
        let records = pair.nodes[0].records();
        assert_eq!(records.iter().map(|r| (r.keys[0], r.version)).collect::<Vec<_>>(), [(key, version)]);
        pair.nodes[0].forget_counts();
        // It is the winner's own: traffic passes, and its time runs out.
        pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        pair.a().send(WAN, &flow.back(ACK, 5_001, 1_001)).forwarded(LAN, &[]);
        pair.a().idle(8_000_000).sent.clear();
        assert!(pair.a().session(&key).is_none());
    }
}

#[test]
fn decision_35_present_the_side_with_traffic_from_both_ends_keeps_its_state() {
    for (ours, theirs, replaced) in
        [(false, true, true), (true, true, false), (false, false, false), (true, false, false)]
    {
        for net in nets() {
            let mut pair = Pair::lab();
            let flow = Flow::of(&net);
            pair.a().open_tcp(&flow, "lan-to-wan");
            pair.sync(0);
            let splits = split(&mut pair);
            for (at, both) in [(0, ours), (1, theirs)] {
                let fw = &mut pair.nodes[at].fw;
                fw.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
                if both {
                    fw.send_all(WAN, &[flow.back(ACK, 5_001, 1_001)]).sent.clear();
                }
            }
            let key = flow.syn(0).key();
            let offered = offer(pair.b(), &key, splits[1]);
            assert_eq!(offered.1, theirs);
            let before = pair.nodes[0].version(&key);
            let outcome = adopt(pair.a(), &offered);
            let after = pair.nodes[0].version(&key);
            if replaced {
                assert!(matches!(outcome, Adoption::Replaced(_)), "{outcome:?}");
                assert!(after > before && after > offered.0.version.min(u64::from(TERMS[1]) << 44));
            } else {
                assert!(matches!(outcome, Adoption::Kept(_)), "{outcome:?}");
                assert_eq!(after, before);
            }
            pair.nodes[0].forget_counts();
        }
    }
}

#[test]
fn decision_35_a_collision_leaves_the_winners_session_alone() {
    for net in nets() {
        let mut pair = Pair::lab();
        let splits = split(&mut pair);
        let flow = Flow::between(net.client, net.server, 40_000, 53);
        pair.b().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        let key = flow.datagram().key();
        let (mut record, _) = offer(pair.b(), &key, splits[1]);
        // The same two ends, opened by the other one.
        record.keys.swap(0, 1);
        record.zones.swap(0, 1);
        pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        assert!(matches!(adopt(pair.a(), &(record, true)), Adoption::Kept(_)));
        assert_eq!(pair.a().sessions().len(), 1);
        assert_eq!(pair.a().expect_session(&key).keys[0], key);
        pair.nodes[0].forget_counts();
    }
}

#[test]
fn decision_35_no_rule_no_merge() {
    for net in nets() {
        let mut pair = Pair::lab();
        let splits = split(&mut pair);
        let flow = Flow::of(&net);
        pair.b().open_tcp(&flow, "lan-to-wan");
        let offered = offer(pair.b(), &flow.syn(0).key(), splits[1]);
        pair.a().reload(|setup: &mut Setup| {
            setup.rules = vec![allow("back", WAN, LAN, &[Service::Any])];
        });
        assert_eq!(adopt(pair.a(), &offered), Adoption::Refused(AdoptionRefused::NotAdmitted));
        // Zones that its addresses do not have here.
        let mut other = offered;
        other.0.zones.swap(0, 1);
        assert_eq!(adopt(pair.a(), &other), Adoption::Refused(AdoptionRefused::NotAdmitted));
        assert_eq!(pair.a().sessions().len(), 0);
        pair.nodes[0].set_role(RoleView::Standby);
        assert_eq!(adopt(pair.a(), &offered), Adoption::Refused(AdoptionRefused::NotActive));
        pair.nodes[0].forget_counts();
    }
}

/// Node 1 takes over with a mirror of which nobody told for so long.
fn stale_takeover(pair: &mut Pair, stale_ms: u32) {
    let fw = pair.b();
    let now = fw.now;
    fw.workers[0].engine.activate_stale(TERMS[1], stale_ms, now);
    pair.nodes[1].forget_counts();
}

#[test]
fn decision_36_after_a_stale_takeover_tcp_waits_for_the_inside_host() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.sync(0);
        pair.wait(5_000);
        stale_takeover(&mut pair, 5_000);
        let b = pair.b();
        for _ in 0..2 {
            b.send(WAN, &flow.back(ACK, 5_001, 1_001)).dropped("stale-unconfirmed", &[]);
        }
        b.send(LAN, &flow.out(ACK, 1_001, 5_001)).forwarded(WAN, &[]);
        b.send_all(WAN, &[flow.back(ACK, 5_001, 1_001)]).sent.clear();
        assert_eq!(b.sessions()[0].packets, [3, 2]);
        // A connection that is opened now is not asked for anything.
        let new = Flow::between(net.client, net.server, 41_000, 80);
        b.open_tcp(&new, "lan-to-wan");
    }
}

#[test]
fn decision_36_other_sessions_that_outlived_their_timeout_are_dropped() {
    for net in nets() {
        let (long, short) = (
            Flow::between(net.client, net.server, 40_001, 53),
            Flow::between(net.client, net.server, 40_002, 53),
        );
        let mut pair = Pair::lab();
        for flow in [long, short] {
            pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        }
        // One was answered and lives for 120 s, the other one for 30 s.
        pair.a().send(WAN, &long.reversed().datagram()).forwarded(LAN, &[]);
        pair.sync(0);
        pair.nodes[1].fw.now = pair.nodes[1].fw.now.after(40_000);
        let b = pair.b();
        let now = b.now;
        b.workers[0].engine.activate_stale(TERMS[1], 40_000, now);
        b.send(WAN, &long.reversed().datagram()).forwarded(LAN, &[]);
        b.send(WAN, &short.reversed().datagram()).dropped("stale-session", &[]);
        b.housekeep().sent.clear();
        assert!(b.session(&short.datagram().key()).is_none());
        // The client opens it anew.
        b.send(LAN, &short.datagram()).forwarded(WAN, &ADMITTED);
    }
}

#[test]
fn decision_36_what_was_dropped_goes_without_a_packet_too() {
    for net in nets() {
        let flow = Flow::between(net.client, net.server, 40_001, 53);
        let mut pair = Pair::lab();
        pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
        pair.sync(0);
        pair.nodes[1].fw.now = pair.nodes[1].fw.now.after(31_000);
        stale_takeover(&mut pair, 31_000);
        pair.b().idle(2_000).sent.clear();
        assert_eq!(pair.b().sessions().len(), 0);
    }
}

#[test]
fn decision_36_a_fresh_mirror_is_used_as_it_is() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.sync(0);
        pair.wait(300);
        stale_takeover(&mut pair, 0);
        pair.b().send(WAN, &flow.back(ACK, 5_001, 1_001)).forwarded(LAN, &[]);
        // A role that comes back later is judged anew.
        pair.nodes[1].set_role(RoleView::Standby);
        stale_takeover(&mut pair, 60_000);
        pair.wait(10);
        pair.nodes[1].set_role(RoleView::Standby);
        pair.nodes[1].set_role(RoleView::Active { term: TERMS[1] + 2 });
        pair.b().send_all(WAN, &[flow.back(ACK, 5_001, 1_001)]).sent.clear();
        assert_eq!(pair.b().sessions()[0].packets, [2, 3]);
    }
}
