//! The mirror: applying records is idempotent and ordered by version, reading them back loses nothing, and
//! what ended is told.

use super::firewall::Setup;
use super::net::{Flow, LAN, Net, WAN, allow, lab_rules, net, nets};
use super::pair::{ENDS, Node, Pair, TERMS};
use crate::ids::{RuleId, ZoneId};
use crate::mirror::{Import, ImportRefused, Imported, ImportedState, Removal};
use crate::policy::{Rule, Service};
use crate::role::RoleView;
use crate::table::{Slot, flags};
use crate::track::Timeouts;
use proptest::prelude::*;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, RST, SYN};
use wire::{Addr, FlowKey, Proto};

const ADMITTED: [&str; 2] = ["sessions-created", "lan-to-wan admitted"];

fn udp_record(net: &Net, version: u64) -> Imported {
    let key = FlowKey::new(net.client, net.server, Proto::UDP, 40_000, 80).unwrap();
    Imported {
        keys: [key, key.reversed()],
        version,
        rule: RuleId::from_name("lan-to-wan"),
        generation: 1,
        zones: [ZoneId(LAN.0), ZoneId(WAN.0)],
        group: crate::GroupId(0),
        remaining_ms: 100_000,
        state: ImportedState::Flow(1),
        bytes: [1, 2],
        packets: [3, 4],
    }
}

fn standby() -> Node {
    Node::new(1, Setup::default())
}

fn stored(slot: u32) -> Import {
    Import::Stored { slot: Slot(slot), displaced: [None; 2] }
}

#[test]
fn x_06_import_is_idempotent_and_never_older_over_newer() {
    for net in nets() {
        let mut b = standby();
        let record = udp_record(&net, 5);
        assert_eq!(b.import(&record), stored(0));
        assert_eq!(b.import(&record), Import::Held { slot: Slot(0), version: 5 });
        assert_eq!(b.import(&Imported { version: 4, ..record }), Import::Held { slot: Slot(0), version: 5 });
        assert_eq!(b.import(&Imported { version: 9, bytes: [7, 8], ..record }), stored(0));
        assert_eq!(b.fw.expect_session(&record.keys[0]).bytes, [7, 8]);
        assert_eq!(b.fw.sessions().len(), 1);
        // A version of a higher term is newer whatever its counter.
        assert_eq!(b.import(&Imported { version: 1 << 44 | 1, ..record }), stored(0));
        b.fw.housekeep().silent(&[
            "sessions-mirrored",
            "sessions-mirrored",
            "sessions-mirrored",
            "mirror-held",
            "mirror-held",
        ]);
    }
}

#[test]
fn x_06_of_two_sessions_with_one_key_the_newer_one_stays_whole() {
    // Two sessions whose replies would have the same key: a port of source NAT that was used again.
    let n = net(false);
    let translated = FlowKey::new(n.server, n.far, Proto::UDP, 80, 9_000).unwrap();
    let record = |sport: u16, version| {
        let key = FlowKey::new(n.client, n.server, Proto::UDP, sport, 80).unwrap();
        Imported { keys: [key, translated], ..udp_record(&n, version) }
    };
    let mut b = standby();
    assert_eq!(b.import(&record(1, 5)), stored(0));
    assert_eq!(b.import(&record(2, 4)), Import::Held { slot: Slot(0), version: 5 });
    let displaced = [Some(Slot(0)), None];
    let outcome = b.import(&record(2, 6));
    assert!(
        matches!(outcome, Import::Stored { displaced: d, .. } if d == [None, Some(Slot(0))] || d == displaced)
    );
    assert_eq!(b.fw.sessions().len(), 1);
    assert!(b.fw.session(&record(1, 0).keys[0]).is_none());
    assert_eq!(b.fw.workers[0].engine.lookup(&record(2, 0).keys[0]).map(|(_, version)| version), Some(6));
    // Its late delete finds nothing, and the translated key names no initiator.
    assert_eq!(b.remove(&record(1, 0).keys[0], 99, false), Removal::Absent);
    assert_eq!(b.remove(&translated, 99, false), Removal::Absent);
    b.fw.housekeep().silent(&["sessions-mirrored", "sessions-mirrored", "mirror-held", "mirror-displaced"]);
}

#[test]
fn x_06_one_record_can_displace_two_sessions() {
    let n = net(false);
    let keyed = |a: u16, b: u16, version| {
        let key = FlowKey::new(n.client, n.server, Proto::UDP, a, 80).unwrap();
        let reply = FlowKey::new(n.server, n.far, Proto::UDP, 80, b).unwrap();
        Imported { keys: [key, reply], ..udp_record(&n, version) }
    };
    let mut b = standby();
    assert_eq!((b.import(&keyed(1, 10, 5)), b.import(&keyed(2, 20, 7))), (stored(0), stored(1)));
    // Newer than one of them only: nothing happens to either.
    assert_eq!(b.import(&keyed(1, 20, 6)), Import::Held { slot: Slot(1), version: 7 });
    assert_eq!(b.fw.sessions().len(), 2);
    let Import::Stored { slot, displaced } = b.import(&keyed(1, 20, 8)) else { panic!("{}", b.fw.dump()) };
    assert_eq!(displaced, [Some(Slot(0)), Some(Slot(1))]);
    assert!(slot.0 > 1, "a slot of its own: {slot:?}");
    assert_eq!(b.fw.sessions().len(), 1);
}

#[test]
fn s_02_s_03_reading_a_mirrored_session_back_loses_nothing() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        let udp = Flow { ports: (5_000, 53), ..flow };
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.a().send(LAN, &flow.out(ACK, 1_001, 5_001).payload_len(700)).forwarded(WAN, &[]);
        pair.a().send(LAN, &udp.datagram()).forwarded(WAN, &ADMITTED);
        pair.a().send(WAN, &udp.reversed().datagram()).forwarded(LAN, &[]);
        let echo = Frame::echo_request(net.client, net.server, 7, 1);
        pair.a().send(LAN, &echo).forwarded(WAN, &ADMITTED);
        let gre = Frame::ip(net.client, net.server, Proto::GRE).payload_len(40);
        pair.a().send(LAN, &gre).forwarded(WAN, &ADMITTED);

        let (now, timeouts) = (pair.a().now, Timeouts::default());
        let records = pair.nodes[0].records();
        assert_eq!(records.len(), 4);
        for record in &records {
            assert!(matches!(pair.nodes[1].import(record), Import::Stored { .. }));
        }
        for record in &records {
            let view = pair.b().expect_session(&record.keys[0]);
            assert!(view.is_replicable());
            assert_eq!(Imported::of(&view, now, &timeouts), *record);
        }
        // Later, too, but for the time that is left.
        pair.wait(1_000);
        for record in &records {
            let view = pair.b().expect_session(&record.keys[0]);
            let later = Imported::of(&view, now.after(1_000), &timeouts);
            assert_eq!(later, Imported { remaining_ms: record.remaining_ms - 1_000, ..*record });
        }
    }
}

#[test]
fn records_that_cannot_be_kept_are_refused_by_name() {
    let n = net(false);
    let mut b = standby();
    let good = udp_record(&n, 5);
    let refused = Import::Refused;
    let zones = [ZoneId(LAN.0), ZoneId(77)];
    assert_eq!(b.import(&Imported { zones, ..good }), refused(ImportRefused::UnknownZone));
    let vrf = good.keys.map(|key| key.with_vrf(3));
    let tcp = FlowKey::new(n.client, n.server, Proto::TCP, 1, 2).unwrap();
    let v6 = FlowKey::new(net(true).client, net(true).server, Proto::UDP, 1, 2).unwrap();
    let v6_nat = FlowKey::new(net(true).server, net(true).far, Proto::UDP, 1, 2).unwrap();
    for keys in [vrf, [tcp, tcp.reversed()], [good.keys[0], v6], [v6, v6_nat], [good.keys[0]; 2]] {
        assert_eq!(b.import(&Imported { keys, ..good }), refused(ImportRefused::Unsupported), "{keys:?}");
    }
    b.set_role(RoleView::Active { term: 3 });
    assert_eq!(b.import(&good), refused(ImportRefused::NotMirroring));
    b.set_role(RoleView::Closed);
    assert_eq!(b.import(&good), refused(ImportRefused::NotMirroring), "the lease may come back");

    let mut small = Node::new(1, Setup { slots: 2, ..Setup::default() });
    let of = |sport| {
        let key = FlowKey::new(n.client, n.server, Proto::UDP, sport, 80).unwrap();
        Imported { keys: [key, key.reversed()], ..good }
    };
    assert_eq!((small.import(&of(1)), small.import(&of(2))), (stored(0), stored(1)));
    assert_eq!(small.import(&of(3)), refused(ImportRefused::Full));
    assert_eq!(small.import(&Imported { version: 6, ..of(2) }), stored(1), "an update needs no room");
    // A displaced one makes the room.
    let key = of(3).keys[0];
    let taker = Imported { keys: [key, of(1).keys[1]], version: 6, ..good };
    assert!(matches!(small.import(&taker), Import::Stored { displaced: [None, Some(Slot(0))], .. }));
}

#[test]
fn b_20_a_handshake_is_never_announced_nor_taken_in() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        pair.a().send(LAN, &flow.syn(1_000)).forwarded(WAN, &ADMITTED);
        assert_eq!(pair.nodes[0].changes().len(), 0);
        pair.a().send(WAN, &flow.syn_ack(5_000, 1_001)).forwarded(LAN, &[]);
        assert_eq!(pair.nodes[0].changes().len(), 0);
        let view = pair.a().expect_session(&flow.syn(0).key());
        assert!(!view.is_replicable());
        let half_open = Imported::of(&view, pair.a().now, &Timeouts::default());
        assert_eq!(pair.nodes[1].import(&half_open), Import::Refused(ImportRefused::Unsupported));
        // Nor does its end.
        pair.a().idle(40_000).silent(&["sessions-expired"]);
        assert_eq!(pair.nodes[0].ends(), []);
        // The first ACK makes it one.
        pair.a().open_tcp(&flow, "lan-to-wan");
        assert_eq!(pair.nodes[0].changes().len(), 1);
    }
}

#[test]
fn b_05_sessions_of_a_local_rule_are_neither_announced_nor_missed() {
    let local = Rule { replicate: false, ..lab_rules().remove(0) };
    let mut pair = Pair::new(Setup { rules: vec![local], ..Setup::default() });
    let flow = Flow::of(&net(false));
    pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
    assert_eq!(pair.nodes[0].changes().len(), 0);
    pair.a().idle(40_000).silent(&["sessions-expired"]);
    assert_eq!(pair.nodes[0].ends(), []);
}

#[test]
fn ends_are_told_under_a_version_above_all() {
    for net in nets() {
        let mut pair = Pair::lab();
        let flow = Flow::of(&net);
        pair.a().open_tcp(&flow, "lan-to-wan");
        assert_eq!(pair.sync(0), 1);
        let key = flow.syn(0).key();
        let (held, mirrored) = (pair.nodes[0].version(&key), pair.nodes[1].version(&key));
        assert_eq!((held, held >> 44), (mirrored, u64::from(TERMS[0])));
        // Reset, mirrored once more, then gone.
        pair.a().send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        assert_eq!(pair.sync(0), 1);
        assert_eq!(pair.b().state(&key), "closed");
        pair.a().idle(12_000).silent(&["sessions-expired"]);
        let ends = pair.nodes[0].ends();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].key, key);
        assert!(ends[0].version > pair.nodes[1].version(&key));
        assert_eq!(pair.nodes[1].remove(&ends[0].key, ends[0].version, false), Removal::Removed(Slot(0)));
        assert_eq!(pair.nodes[1].remove(&ends[0].key, ends[0].version, false), Removal::Absent);
        pair.b().housekeep().silent(&["mirror-removed"]);
        // The standby tells nobody.
        assert_eq!(pair.nodes[1].ends(), []);
        assert_eq!(pair.nodes[1].changes().len(), 0);
    }
}

#[test]
fn a_successor_in_the_same_slot_is_told_as_an_end_and_a_beginning() {
    for net in nets() {
        let mut pair = Pair::new(Setup {
            rules: vec![
                allow("lan-to-wan", LAN, WAN, &[Service::Any]),
                allow("wan-to-lan", WAN, LAN, &[Service::Any]),
            ],
            ..Setup::default()
        });
        let flow = Flow::of(&net);
        pair.a().open_tcp(&flow, "lan-to-wan");
        pair.a().send(WAN, &flow.back(RST, 5_001, 0)).forwarded(LAN, &[]);
        pair.sync(0);
        // The other end opens it anew: the initiator's key is another one.
        let back = flow.reversed();
        pair.a().send(WAN, &back.syn(900_000)).forwarded(LAN, &["sessions-reopened", "wan-to-lan admitted"]);
        let ends = pair.nodes[0].ends();
        assert_eq!(ends.iter().map(|end| end.key).collect::<Vec<_>>(), [flow.syn(0).key()]);
        assert!(ends[0].version < pair.nodes[0].version(&back.syn(0).key()));
        pair.a().send(LAN, &back.back(SYN | ACK, 80_000, 900_001)).forwarded(WAN, &[]);
        pair.a().send(WAN, &back.out(ACK, 900_001, 80_001)).forwarded(LAN, &[]);
        let records = pair.nodes[0].records();
        assert_eq!(records.len(), 1);
        // Whatever comes first.
        let b = &mut pair.nodes[1];
        let outcome = b.import(&records[0]);
        assert!(matches!(outcome, Import::Stored { slot: Slot(1), displaced: [Some(Slot(0)), None] }));
        assert_eq!(b.remove(&ends[0].key, ends[0].version, false), Removal::Absent);
        assert_eq!(b.version(&records[0].keys[0]), records[0].version);
    }
}

#[test]
fn b_34_a_rule_that_keeps_its_sessions_from_now_on_does_so_with_new_ones() {
    let mut pair = Pair::lab();
    let (old, new) = (Flow::of(&net(false)), Flow { ports: (2_000, 80), ..Flow::of(&net(false)) });
    pair.a().open_tcp(&old, "lan-to-wan");
    pair.sync(0);
    pair.a().reload(|setup| setup.rules = vec![Rule { replicate: false, ..lab_rules().remove(0) }]);
    pair.a().send(LAN, &old.out(ACK, 1_001, 5_001)).forwarded(WAN, &["sessions-rebound"]);
    pair.a().open_tcp(&new, "lan-to-wan");
    assert_eq!(pair.nodes[0].ends(), []);
    assert_eq!(pair.sync(0), 1, "the known one is told of as ever");
    let (old_key, new_key) = (old.syn(0).key(), new.syn(0).key());
    assert!(pair.a().expect_session(&old_key).is_replicable());
    assert!(!pair.a().expect_session(&new_key).is_replicable());
    // And back again: who was local stays local.
    pair.a().reload(|setup| setup.rules = lab_rules());
    pair.a().send(LAN, &new.out(ACK, 1_001, 5_001)).forwarded(WAN, &["sessions-rebound"]);
    assert_eq!(pair.sync(0), 0);
    assert!(!pair.a().expect_session(&new_key).is_replicable());
}

#[test]
fn b_24_ends_that_find_no_room_are_counted() {
    let mut pair = Pair::lab();
    let n = net(false);
    for port in 0..ENDS as u16 + 3 {
        let flow = Flow { ports: (1_000 + port, 53), ..Flow::of(&n) };
        pair.a().send(LAN, &flow.datagram()).forwarded(WAN, &ADMITTED);
    }
    assert_eq!(pair.nodes[0].records().len(), ENDS + 3);
    pair.a().idle(40_000).sent.clear();
    assert_eq!(pair.a().sessions().len(), 0);
    assert_eq!((pair.nodes[0].ends().len(), pair.nodes[0].lost()), (ENDS, 3));
}

#[test]
fn deletes_compare_versions() {
    let mut b = standby();
    let record = udp_record(&net(true), 50);
    let key = record.keys[0];
    assert_eq!(b.remove(&key, 60, false), Removal::Absent);
    b.import(&record);
    let held = Removal::Held { slot: Slot(0), version: 50 };
    assert_eq!(
        (b.remove(&key, 49, false), b.remove(&key, 51, true), b.remove(&key, 49, true)),
        (held, held, held)
    );
    assert_eq!(b.remove(&key, 50, true), Removal::Removed(Slot(0)));
    b.import(&record);
    b.set_role(RoleView::Active { term: 3 });
    assert_eq!(b.remove(&key, 50, true), held, "nobody deletes an active node's sessions");
}

#[test]
fn b_26_a_purge_empties_the_mirror_in_bounded_steps() {
    let n = net(false);
    let mut b = standby();
    for sport in 0..100 {
        let key = FlowKey::new(n.client, n.server, Proto::UDP, sport, 80).unwrap();
        b.import(&Imported { keys: [key, key.reversed()], ..udp_record(&n, 5) });
    }
    let now = b.fw.now;
    let engine = &mut b.fw.workers[0].engine;
    assert_eq!([0; 4].map(|_| engine.purge(now, 32)), [68, 36, 4, 0]);
    assert_eq!(engine.purge(now, 32), 0);
    assert_eq!(b.fw.sessions().len(), 0);
    assert_eq!(b.fw.totals(0)["sessions-dropped"], 100);
    b.import(&udp_record(&n, 6));
    b.set_role(RoleView::Active { term: 3 });
    assert_eq!(b.fw.workers[0].engine.purge(now, 32), 0);
    assert_eq!(b.fw.sessions().len(), 1, "an active node purges nothing");
}

#[test]
fn the_standby_ages_nothing_and_the_new_active_gives_everything_time() {
    for net in nets() {
        let mut pair = Pair::lab();
        let (udp, tcp) = (Flow { ports: (5_000, 53), ..Flow::of(&net) }, Flow::of(&net));
        pair.a().open_tcp(&tcp, "lan-to-wan");
        pair.a().send(LAN, &udp.datagram()).forwarded(WAN, &ADMITTED);
        assert_eq!(pair.sync(0), 2);
        // An hour without a word: node 0 is dead, but nobody knows it.
        pair.b().idle(3_600_000).silent(&[]);
        assert_eq!(pair.b().sessions().len(), 2);
        pair.nodes[1].set_role(RoleView::Active { term: TERMS[1] });
        // Half of UDP's 30 s.
        pair.b().idle(14_900).silent(&[]);
        pair.b().idle(1_300).silent(&["sessions-expired"]);
        let ends = pair.nodes[1].ends();
        assert_eq!((ends.len(), ends[0].key), (1, udp.datagram().key()), "the partner may still have it");
        assert_eq!(ends[0].version >> 44, u64::from(TERMS[1]));
        // TCP has an hour left of its two.
        pair.b().idle(3_700_000).silent(&[]);
        assert_eq!(pair.b().sessions().len(), 1);
        pair.b().idle(300_000).silent(&["sessions-expired"]);
    }
}

#[test]
fn a_session_of_an_unknown_rule_is_asked_about_before_anything_passes() {
    for net in nets() {
        for (rule, admitted) in [("lan-to-wan", true), ("wan-only", false)] {
            let mut b = standby();
            let record = Imported { rule: RuleId::from_name("gone"), ..udp_record(&net, 5) };
            assert_eq!(b.import(&record), stored(0));
            b.fw.housekeep().silent(&["sessions-mirrored", "mirror-inert"]);
            let view = b.fw.expect_session(&record.keys[0]);
            assert_eq!((view.binding.rule, view.path.flags & flags::INERT), (record.rule, flags::INERT));
            if !admitted {
                b.fw.reload(|setup| setup.rules = vec![allow(rule, WAN, LAN, &[Service::Any])]);
                b.fw.snapshot.generation = 1;
            }
            b.set_role(RoleView::Active { term: 3 });
            let frame = Flow::of(&net).datagram();
            if admitted {
                b.fw.send(LAN, &frame).forwarded(WAN, &["sessions-rebound"]);
                b.fw.send(LAN, &frame).forwarded(WAN, &[]);
                assert_eq!(b.fw.expect_session(&record.keys[0]).binding.rule, RuleId::from_name(rule));
            } else {
                b.fw.send(LAN, &frame)
                    .dropped("policy-changed", &["sessions-rebound", "default-deny refused"]);
                b.fw.housekeep().silent(&["sessions-terminated"]);
                assert_eq!(b.fw.sessions().len(), 0);
            }
        }
    }
}

#[test]
fn next_hops_are_resolved_when_a_record_is_stored_and_wanted_once() {
    for n in nets() {
        let mut b = Node::new(1, Setup { resolved: false, ..Setup::default() });
        let mut record = udp_record(&n, 5);
        for sport in 1..100 {
            let key = FlowKey::new(n.client, n.far, Proto::UDP, sport, 80).unwrap();
            record.keys = [key, key.reversed()];
            b.import(&record);
        }
        let wanted: Vec<_> = b.fw.notices();
        let want = |port, addr: Addr| crate::Notice::NeighbourWanted { port, addr };
        assert_eq!(wanted, [want(WAN, n.router), want(LAN, n.client)]);

        let mut b = standby();
        b.import(&udp_record(&n, 5));
        let hops = [b.fw.hop(WAN, n.server), b.fw.hop(LAN, n.client)];
        assert_eq!(b.fw.expect_session(&udp_record(&n, 5).keys[0]).path.next_hops, hops);
        assert_eq!(b.fw.notices(), []);
    }
}

/// What can happen to a mirror.
#[derive(Clone, Copy, Debug)]
enum Step {
    Import { forward: u16, reply: u16, version: u64 },
    Remove { forward: u16, version: u64, exact: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let import = (0..6_u16, 0..6_u16, 1..40_u64);
    let remove = (0..6_u16, 1..40_u64, any::<bool>());
    prop_oneof![
        4 => import.prop_map(|(forward, reply, version)| Step::Import { forward, reply, version }),
        1 => remove.prop_map(|(forward, version, exact)| Step::Remove { forward, version, exact }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Records in any order, with keys that collide: what is there is what a list of sessions says that is
    /// searched from end to end (decisions 17 and 22).
    #[test]
    fn x_06_a_mirror_is_what_its_records_say(steps in prop::collection::vec(step(), 1..80)) {
        let n = net(false);
        let key = |port| FlowKey::new(n.client, n.server, Proto::UDP, 1_000 + port, 80).unwrap();
        let reply_key = |port| FlowKey::new(n.server, n.far, Proto::UDP, 80, 9_000 + port).unwrap();
        let mut b = Node::new(1, Setup { slots: 16, ..Setup::default() });
        let mut model: Vec<(u16, u16, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Import { forward, reply, version } => {
                    let collides = |s: &(u16, u16, u64)| s.0 == forward || s.1 == reply;
                    let newer = model.iter().any(|s| collides(s) && s.2 >= version);
                    let gone = model.iter().filter(|s| collides(s) && (s.0, s.1) != (forward, reply)).count();
                    let record = Imported { keys: [key(forward), reply_key(reply)], ..udp_record(&n, version) };
                    match b.import(&record) {
                        Import::Stored { displaced, .. } => {
                            prop_assert!(!newer);
                            prop_assert_eq!(displaced.iter().flatten().count(), gone);
                            model.retain(|s| !collides(s));
                            model.push((forward, reply, version));
                        }
                        Import::Held { version: held, .. } => prop_assert!(newer && held >= version),
                        refused => prop_assert!(false, "{refused:?}"),
                    }
                }
                Step::Remove { forward, version, exact } => {
                    let held = model.iter().find(|s| s.0 == forward).map(|s| s.2);
                    let goes = held.is_some_and(|held| if exact { held == version } else { held <= version });
                    match b.remove(&key(forward), version, exact) {
                        Removal::Removed(_) => prop_assert!(goes),
                        Removal::Held { version: v, .. } => prop_assert!(!goes && held == Some(v)),
                        Removal::Absent => prop_assert_eq!(held, None),
                    }
                    model.retain(|s| !goes || s.0 != forward);
                }
            }
            let mut there: Vec<_> = b.fw.sessions().iter().map(|s| (s.keys, s.version)).collect();
            let mut expected: Vec<_> = model.iter().map(|s| ([key(s.0), reply_key(s.1)], s.2)).collect();
            let order = |s: &([FlowKey; 2], u64)| (s.0[0].tail, s.0[1].tail);
            there.sort_by_key(order);
            expected.sort_by_key(order);
            prop_assert_eq!(&there, &expected);
            for port in 0..6 {
                let found = b.fw.workers[0].engine.lookup(&key(port)).map(|(_, version)| version);
                prop_assert_eq!(found, model.iter().find(|s| s.0 == port).map(|s| s.2));
            }
        }
        prop_assert_eq!(b.ends(), []);
        prop_assert_eq!(b.changes().len(), 0);
    }
}
