//! What happens to the mirror when nodes lose each other, their memory or their marks.

use super::pair::{Pair, turn};
use crate::ids::{Incarnation, Micros, SessionHandle};
use crate::membership::Mirror;
use crate::record::State;
use crate::stream::{Config, Damage, Event, Peer, Refused};

fn settled(pair: &Pair) -> bool {
    let leader = if pair.nodes[0].sessions.active { 0 } else { 1 };
    pair.nodes[leader].stream.flushed()
        && pair.nodes[leader].stream.proven()
        && pair.nodes[1 - leader].stream.mirror() == Mirror::Complete
}

fn filled(capacity: u32, sessions: u32) -> Pair {
    let mut pair = Pair::new(capacity, 5);
    for number in 0..sessions {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(2_000, settled);
    pair.assert_equal();
    pair.nodes.iter_mut().for_each(|node| node.events.clear());
    pair
}

fn sent(pair: &Pair) -> u64 {
    pair.nodes[0].stream.status(pair.now).counters.bytes_sent
}

#[test]
fn x_04_repair_after_a_cut_moves_only_what_differs_deletions_included() {
    let mut pair = filled(400_000, 300_000);
    let bulk = sent(&pair);
    let before = (pair.bytes, sent(&pair));
    pair.cut();
    pair.run(10);
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Stale);
    assert!(!pair.nodes[0].stream.proven() && !pair.nodes[0].stream.flushed());
    for number in 0..100 {
        pair.nodes[0].sessions.touch(number * 3);
        pair.nodes[0].sessions.end(number * 3 + 1);
        pair.nodes[0].sessions.touch(300_000 + number);
        pair.run(1);
    }
    assert_eq!(sent(&pair), before.1, "nothing is sent into the void");
    let dirty = pair.nodes[0].stream.status(pair.now).dirty;
    assert!((250..=300).contains(&dirty), "{dirty}");
    pair.mend();
    let took = pair.until(2_000, settled);
    pair.assert_equal();
    let moved = pair.bytes - before.0;
    assert!(moved * 100 < bulk, "{moved} of {bulk} bytes");
    assert!(took < Micros::from_secs(1), "{took:?}");
    assert!(matches!(
        pair.nodes[0].events[..],
        [Event::RepairBegan { buckets: 100 }, Event::Repaired { .. }]
    ));
}

#[test]
fn b_24_memory_stays_flat_while_the_partner_is_absent() {
    let mut pair = filled(2_000, 1_000);
    pair.nodes[0].stream.peer(Peer::Absent, pair.now);
    pair.channel.cut = true;
    for round in 0..500_u32 {
        for number in 0..100 {
            pair.nodes[0].sessions.touch(1_000 + round * 100 + number);
        }
        pair.step();
        for number in 0..100 {
            pair.nodes[0].sessions.end(1_000 + round * 100 + number);
        }
        pair.step();
    }
    let status = pair.nodes[0].stream.status(pair.now);
    assert!(status.dirty <= 2_000 + 65_536, "{status:?}");
    assert_eq!(status.in_flight, 0);
    pair.channel.cut = false;
    pair.meet();
    pair.until(5_000, settled);
    pair.assert_equal();
}

#[test]
fn b_25_the_same_partner_is_repaired_and_a_new_one_gets_everything() {
    let mut pair = filled(4_096, 3_000);
    pair.nodes[0].stream.peer(Peer::Absent, pair.now);
    pair.nodes[1].stream.peer(Peer::Absent, pair.now);
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Stale);
    pair.nodes[0].sessions.touch(1);
    pair.run(10);
    pair.meet();
    pair.until(1_000, settled);
    pair.assert_equal();
    let sent = pair.nodes[0].stream.status(pair.now).counters.sent;
    assert_eq!((sent.bulk.records, sent.refresh.records, sent.repair.records), (3_000, 1, 0));

    pair.restart(1, 2);
    assert!(!pair.nodes[0].stream.proven());
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[0].stream.status(pair.now).counters.sent.bulk.records, 6_000);
    assert!(matches!(pair.nodes[0].events[..], [Event::BulkBegan, Event::BulkDone { sessions: 3_000, .. }]));
}

/// The partner lost its memory while this node was not active yet: it is known, and empty.
#[test]
fn b_25_a_partner_that_started_anew_before_this_node_was_active_gets_everything() {
    let mut pair = filled(4_096, 3_000);
    pair.restart(0, 2);
    pair.lead(1, 3);
    let settled = |pair: &Pair| pair.nodes[1].stream.proven() && pair.nodes[1].stream.flushed();
    pair.until(1_000, settled);
    pair.assert_equal();
    let sent = pair.nodes[1].stream.status(pair.now).counters.sent;
    assert_eq!((sent.bulk.records, sent.repair.records), (3_000, 0));
    assert!(matches!(pair.nodes[1].events[..], [Event::BulkBegan, Event::BulkDone { sessions: 3_000, .. }]));
}

#[test]
fn x_05_a_bulk_goes_on_where_a_cut_stopped_it() {
    let mut pair = Pair::new(50_000, 6);
    for number in 0..40_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(1_000, |pair| pair.nodes[1].sessions.len() > 10_000);
    pair.cut();
    pair.run(300);
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Partial);
    let (done, all) = pair.nodes[0].stream.status(pair.now).bulk.unwrap();
    assert!((10_000..40_000).contains(&done) && all == 50_000, "{done}");
    pair.mend();
    pair.until(2_000, settled);
    pair.assert_equal();
    let sent = pair.nodes[0].stream.status(pair.now).counters.sent;
    assert_eq!(sent.bulk.records, 40_000);
}

#[test]
fn x_16_after_a_switchover_the_old_active_nodes_table_is_proven_not_sent() {
    let mut pair = filled(4_096, 3_000);
    pair.lead(1, 3);
    pair.nodes[1].sessions.touch(5);
    pair.nodes[1].sessions.touch(4_000);
    pair.nodes[1].sessions.end(6);
    pair.until(1_000, settled);
    pair.assert_equal();
    let sent = pair.nodes[1].stream.status(pair.now).counters.sent;
    assert!(sent.bulk.records + sent.new.records + sent.refresh.records <= 2, "{sent:?}");
    assert_eq!((sent.delete.records, sent.repair.records), (1, 0));
    // And back.
    pair.lead(0, 4);
    pair.until(1_000, settled);
    pair.assert_equal();
}

#[test]
fn decision_18_what_the_other_lineage_had_and_the_active_node_has_not_goes() {
    let mut pair = filled(4_096, 1_000);
    // Node 1 took over unseen, and served for a while.
    pair.cut();
    pair.nodes[1].sessions.lead(super::pair::term(3));
    pair.nodes[1].stream.lead(super::pair::term(3), pair.now);
    for number in 0..50 {
        pair.nodes[1].sessions.touch(number);
        pair.nodes[1].sessions.touch(2_000 + number);
        pair.nodes[1].sessions.end(500 + number);
        pair.nodes[0].sessions.touch(100 + number);
    }
    pair.run(20);
    pair.lead(0, 4);
    pair.mend();
    pair.until(2_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].sessions.len(), 1_000);
}

#[test]
fn decision_20_ends_that_found_no_room_are_found() {
    let mut pair = filled(4_096, 3_000);
    for number in 0..1_000 {
        pair.nodes[0].sessions.end(number);
    }
    assert_eq!(pair.nodes[0].sessions.ends_lost, 744);
    pair.step();
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].sessions.len(), 2_000);
}

/// The look at all handles acts on what it has read: a second reading may find the owner busy.
#[test]
fn decision_20_ends_that_found_no_room_are_found_while_owners_write() {
    let mut pair = filled(4_096, 3_000);
    pair.nodes[0].sessions.read_once = Some(std::collections::HashSet::new());
    for number in 0..1_000 {
        pair.nodes[0].sessions.end(number);
    }
    pair.until(1_000, |pair| pair.nodes[0].stream.status(pair.now).counters.sent.delete.records > 0);
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].sessions.len(), 2_000);
}

fn damages(events: &[Event]) -> Vec<Damage> {
    let damage = |event: &Event| match event {
        Event::Corrupt { damage, .. } => Some(*damage),
        _ => None,
    };
    events.iter().filter_map(damage).collect()
}

#[test]
fn x_03_damage_on_the_standby_is_named_within_two_seconds_and_repaired() {
    let mut pair = filled(4_096, 3_000);
    pair.run(1_600);
    let change = |pair: &mut Pair| {
        let slot = pair.nodes[1].sessions.index[&super::table::key(7)];
        if let State::Tcp(tcp) = &mut pair.nodes[1].sessions.slots[slot as usize].as_mut().unwrap().state {
            tcp.halves[1].ack ^= 1;
        }
    };
    let rule = |pair: &mut Pair| {
        let slot = pair.nodes[1].sessions.index[&super::table::key(8)];
        pair.nodes[1].sessions.slots[slot as usize].as_mut().unwrap().rule.id ^= 1;
    };
    let drop = |pair: &mut Pair| {
        let slot = pair.nodes[1].sessions.index[&super::table::key(9)];
        pair.nodes[1].sessions.drop_slot(slot);
    };
    let add = |pair: &mut Pair| assert!(pair.nodes[1].sessions.touch(3_500));
    type Case<'a> = (&'a dyn Fn(&mut Pair), Damage);
    let cases: [Case<'_>; 4] = [
        (&change, Damage::Changed),
        (&rule, Damage::Changed),
        (&drop, Damage::Dropped),
        (&add, Damage::Added),
    ];
    for (case, damage) in cases {
        let before = pair.nodes[0].sessions.slots.clone();
        case(&mut pair);
        pair.until(2_000, |pair| !damages(&pair.nodes[1].events).is_empty());
        assert_eq!(damages(&pair.nodes[1].events), [damage]);
        pair.until(500, settled);
        pair.assert_equal();
        assert_eq!(pair.nodes[0].sessions.slots, before);
        let same = pair.nodes[1].sessions.slots.iter().flatten();
        same.for_each(|mine| assert!(before.contains(&Some(*mine)), "{mine:?}"));
        assert!(matches!(pair.nodes[0].events[..], [Event::RepairBegan { .. }, Event::Repaired { .. }]));
        pair.nodes.iter_mut().for_each(|node| node.events.clear());
        pair.run(1_600);
        assert_eq!(pair.nodes[1].events, []);
    }
}

#[test]
fn x_03_a_change_whose_mark_was_lost_is_found_on_the_active_node() {
    let mut pair = filled(4_096, 3_000);
    pair.nodes[0].sessions.touch(5);
    while crate::stream::Source::next_changed(&mut pair.nodes[0].sessions).is_some() {}
    pair.until(2_000, |pair| damages(&pair.nodes[0].events) == [Damage::Unmarked]);
    pair.until(100, settled);
    pair.assert_equal();
}

/// What waits because the window is full is on its way, however long that takes.
#[test]
fn x_03_changes_and_ends_that_wait_for_room_are_no_damage() {
    let mut pair = filled(4_096, 3_000);
    // Nothing arrives, and the link counts as up: what is under way is bounded, the rest is not read.
    pair.channel.loss = 100;
    let mut waited = 0;
    for round in 0..50 {
        for number in round * 20..round * 20 + 20 {
            pair.nodes[0].sessions.touch(number);
            pair.nodes[0].sessions.touch(3_000 + number);
        }
        (0..4).for_each(|number| assert!(pair.nodes[0].sessions.end(1_000 + round * 4 + number)));
        pair.run(60);
        waited += crate::stream::Source::waiting(&pair.nodes[0].sessions);
    }
    assert!(waited > 1_000, "only {waited} waited for long");
    assert_eq!(damages(&pair.nodes[0].events), []);
    pair.channel.loss = 0;
    pair.until(5_000, settled);
    pair.assert_equal();
    assert_eq!(damages(&pair.nodes[0].events), []);
}

#[test]
fn x_03_an_owner_that_stops_between_change_and_mark_is_no_damage() {
    let mut pair = filled(4_096, 3_000);
    pair.nodes[0].sessions.half_done = Some(vec![]);
    (0..100).for_each(|number| assert!(pair.nodes[0].sessions.touch(number)));
    pair.run(3_000);
    assert_eq!(damages(&pair.nodes[0].events), []);
    pair.nodes[0].sessions.go_on();
    pair.until(1_000, settled);
    pair.run(1_600);
    pair.assert_equal();
    assert_eq!((&pair.nodes[0].events[..], &pair.nodes[1].events[..]), (&[][..], &[][..]));
}

/// What ended is not its own successor, even if its owner has not cleared the slot yet.
#[test]
fn x_03_an_end_that_is_read_before_its_slot_is_cleared_is_an_end() {
    let mut pair = filled(4_096, 3_000);
    let source = &mut pair.nodes[0].sessions;
    let slot = source.index[&super::table::key(7)] as usize;
    let session = source.slots[slot].unwrap();
    assert!(source.end(7));
    let end = crate::stream::Source::next_ended(source).unwrap();
    source.slots[slot] = Some(crate::record::Session { version: end.version, ..session });
    let node = &mut pair.nodes[0];
    assert!(node.stream.ended(&end, 0, &mut node.sessions).is_some());
    node.sessions.slots[slot] = None;
    pair.run(3_000);
    assert_eq!(damages(&pair.nodes[0].events), []);
    assert_eq!(pair.nodes[0].stream.digest().1, 2_999);
}

/// The slot of a session that ended has a new tenant, of the same bucket, that was sent before the end
/// was read and is being written now.
#[test]
fn x_03_a_new_tenant_of_the_same_bucket_stays_counted() {
    let hasher = crate::stream::hash::Hasher::new(super::pair::KEY);
    let bucket = |number| hasher.bucket(&super::table::key(number));
    let old = 7;
    let new = (3_000..).find(|&number| bucket(number) == bucket(old)).unwrap();
    for is_busy in [false, true] {
        let mut pair = filled(4_096, 3_000);
        let source = &mut pair.nodes[0].sessions;
        let slot = source.index[&super::table::key(old)];
        assert!(source.end(old));
        let end = crate::stream::Source::next_ended(source).unwrap();
        assert!(source.touch(new));
        assert_eq!(source.index[&super::table::key(new)], slot);
        pair.run(20);
        let node = &mut pair.nodes[0];
        if is_busy {
            node.sessions.busy.insert(slot);
        }
        node.stream.ended(&end, 0, &mut node.sessions);
        node.sessions.busy.clear();
        pair.run(3_000);
        assert_eq!(damages(&pair.nodes[0].events), [], "busy: {is_busy}");
        assert_eq!(pair.nodes[0].stream.digest().1, 3_000);
    }
}

#[test]
fn x_03_traffic_is_no_damage() {
    let mut pair = filled(4_096, 3_000);
    for round in 0..3_000_u32 {
        let number = round * 7 % 3_000;
        pair.nodes[0].sessions.pass(number);
        if round.is_multiple_of(3) {
            pair.nodes[0].sessions.touch(number);
        }
        pair.nodes[0].sessions.end((number + 1_500) % 3_000);
        pair.nodes[0].sessions.touch((number + 1_500) % 3_000);
        pair.run(1);
    }
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!((&pair.nodes[0].events[..], &pair.nodes[1].events[..]), (&[][..], &[][..]));
}

#[test]
fn decision_21_what_the_partner_cannot_take_is_named_and_clears_readiness() {
    let mut pair = Pair::new(1_024, 8);
    pair.nodes[1].sessions.limit = 900;
    for number in 0..1_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(1_000, |pair| pair.nodes[0].stream.status(pair.now).refused[0] == 100);
    pair.run(1_200);
    let status = pair.nodes[0].stream.status(pair.now);
    assert_eq!((status.refused, status.unprotected), ([100, 0, 0, 0], 100));
    assert!(!pair.nodes[0].stream.proven());
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Partial);
    let told = pair.nodes[0].events.iter().filter(|e| matches!(e, Event::Unprotected { .. })).count();
    assert_eq!((told, Refused::Full as u8), (1, 1));
    pair.nodes[1].sessions.limit = 1_024;
    pair.until(5_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[0].stream.status(pair.now).unprotected, 0);
}

#[test]
fn decision_18_late_data_of_an_earlier_term_is_refused_and_counted() {
    let mut pair = filled(64, 10);
    let mut body = vec![0; 1_400];
    pair.nodes[0].sessions.touch(11);
    turn(&mut pair.nodes[0], pair.now);
    let (_, length) =
        pair.nodes[0].stream.transmit(pair.now, &mut pair.nodes[0].sessions, &mut body).unwrap();
    pair.lead(1, 3);
    let node = &mut pair.nodes[0];
    node.stream.follow(super::pair::term(3), pair.now);
    let node = &mut pair.nodes[1];
    assert_eq!(node.stream.data(pair.now, &body[..length], &mut node.sessions), Ok(()));
    assert_eq!(node.stream.data(pair.now, &body[..length], &mut node.sessions), Ok(()));
    assert_eq!(node.stream.status(pair.now).counters.refused_late_term, 2);
    pair.run(1);
    let late = |e: &&Event| matches!(e, Event::LateTerm { .. });
    assert_eq!(pair.nodes[1].events.iter().filter(late).count(), 1);
    assert_eq!(pair.nodes[1].sessions.len(), 10);
}

#[test]
fn b_26_a_discarded_mirror_is_filled_again() {
    let mut pair = filled(4_096, 3_000);
    let node = &mut pair.nodes[1];
    node.stream.discard(&mut node.sessions);
    assert_eq!((node.sessions.len(), node.stream.mirror()), (0, Mirror::None));
    // The active node restarts and is active again.
    let sessions = std::mem::replace(&mut pair.nodes[0].sessions, super::table::Sessions::new(4_096));
    assert_eq!(sessions.len(), 3_000);
    pair.nodes[0].stream = crate::stream::Stream::new(Config::default(), super::pair::KEY, 4_096, pair.now);
    pair.nodes[0].incarnation = Incarnation(77);
    for number in 0..10 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.lead(0, 4);
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].sessions.len(), 10);
}

#[test]
fn x_03_an_operator_can_ask_for_proof_and_for_everything() {
    let mut pair = filled(4_096, 3_000);
    pair.nodes[0].stream.verify(pair.now);
    pair.until(500, settled);
    assert_eq!(
        pair.nodes[0].events,
        [Event::Verified { equal: true, buckets: 0, groups: crate::stream::Groups::default(), asked: true }]
    );
    pair.nodes[0].stream.resync(pair.now);
    pair.until(500, settled);
    assert!(matches!(pair.nodes[0].events[1..], [Event::BulkBegan, Event::BulkDone { sessions: 3_000, .. }]));
    pair.assert_equal();
}

/// What waits for a moment is under way; what waits for long is not protected.
#[test]
fn x_16_a_change_that_waits_a_turn_is_no_reason_to_refuse_a_switchover() {
    let mut pair = filled(64, 10);
    pair.nodes[0].sessions.touch(3);
    let slot = pair.nodes[0].sessions.index[&super::table::key(3)];
    pair.nodes[0].sessions.busy.insert(slot);
    for _ in 0..30 {
        pair.run(1);
        assert!(pair.nodes[0].stream.proven() && !pair.nodes[0].stream.flushed());
    }
    pair.run(40);
    assert!(!pair.nodes[0].stream.proven());
    pair.nodes[0].sessions.busy.clear();
    pair.until(100, settled);
}

#[test]
fn decision_2_a_session_that_is_written_all_the_time_does_not_starve_the_rest() {
    let mut pair = filled(64, 10);
    pair.nodes[0].sessions.touch(3);
    let slot = pair.nodes[0].sessions.index[&super::table::key(3)];
    pair.nodes[0].sessions.busy.insert(slot);
    pair.nodes[0].sessions.touch(4);
    pair.run(20);
    assert!(!pair.nodes[0].stream.flushed());
    assert_eq!(pair.nodes[0].stream.status(pair.now).unprotected, 1);
    pair.nodes[0].sessions.busy.clear();
    pair.until(100, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[0].stream.status(pair.now).unprotected, 0);
    let _ = SessionHandle(slot);
}

#[test]
fn b_23_repair_after_a_loss_keeps_to_its_rate() {
    let mut pair = Pair::with(30_000, 9, Config { resync_rate: 1_000, ..Config::default() });
    pair.start();
    pair.until(500, settled);
    pair.channel.loss = 100;
    for number in 0..500 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.run(30);
    pair.channel.loss = 0;
    let before = pair.nodes[0].stream.status(pair.now).counters.sent.lost.records;
    pair.run(250);
    let sent = pair.nodes[0].stream.status(pair.now).counters.sent.lost.records - before;
    assert!((150..=300).contains(&sent), "{sent}");
    pair.until(2_000, settled);
    pair.assert_equal();
}

/// Marks of before the takeover would send the whole table once more.
#[test]
fn x_01_marks_of_before_a_takeover_cost_nothing() {
    let mut pair = filled(4_096, 3_000);
    for number in 0..3_000 {
        pair.nodes[1].sessions.mark_only(number);
    }
    pair.run(1);
    pair.lead(1, 3);
    pair.until(1_000, settled);
    pair.assert_equal();
    let sent = pair.nodes[1].stream.status(pair.now).counters.sent;
    assert_eq!(sent.new.records + sent.refresh.records + sent.bulk.records, 0);
}

/// The key of one session is taken by another one on the standby: the loser goes whole, and comes back if
/// the active node still has it.
#[test]
fn decision_22_a_session_that_lost_its_key_leaves_the_digest() {
    let mut pair = filled(4_096, 3_000);
    let loser = pair.nodes[1].sessions.index[&super::table::key(9)];
    pair.nodes[1].sessions.displace_next = Some(loser);
    pair.nodes[0].sessions.touch(3_100);
    pair.until(3_000, |pair| pair.nodes[0].stream.status(pair.now).counters.sent.repair.records > 0);
    assert_eq!(pair.nodes[1].stream.status(pair.now).counters.displaced, 1);
    pair.until(1_000, settled);
    pair.assert_equal();
}
