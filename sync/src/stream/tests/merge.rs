//! After a split: what the loser's users did does not get lost (decision 35).

use super::pair::{BAD, Pair, term};
use super::table::key;
use crate::ids::Micros;
use crate::membership::Mirror;
use crate::stream::Peer;

fn settled(pair: &Pair) -> bool {
    pair.nodes[0].stream.flushed()
        && pair.nodes[0].stream.proven()
        && pair.nodes[1].stream.mirror() == Mirror::Complete
}

/// Both nodes were one pair with `common` sessions and lost each other; node 1 is active too, in term 3.
fn split(capacity: u32, common: u32, seed: u64) -> Pair {
    let mut pair = Pair::new(capacity, seed);
    for number in 0..common {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(2_000, settled);
    pair.channel.cut = true;
    for node in &mut pair.nodes {
        node.stream.link(false, pair.now);
        node.stream.peer(Peer::Absent, pair.now);
    }
    pair.nodes[1].sessions.lead(term(3));
    pair.nodes[1].stream.lead(term(3), pair.now);
    pair.run(10);
    pair
}

/// They hear each other again, each active still.
fn heal(pair: &mut Pair) {
    pair.channel.cut = false;
    pair.nodes[0].stream.contest(true);
    pair.nodes[1].stream.contest(true);
    pair.meet();
    pair.run(3);
}

/// Node 1 gives in, node 0 hears of it and goes on above both terms.
fn node_1_gives_in(pair: &mut Pair) {
    let now = pair.now;
    pair.nodes[1].sessions.active = false;
    pair.nodes[1].stream.contest(false);
    pair.nodes[1].stream.offer_merge();
    pair.nodes[1].stream.follow(term(2), now);
    pair.run(2);
    pair.nodes[0].stream.accept_merge();
    pair.nodes[0].stream.contest(false);
    pair.nodes[0].sessions.lead(term(4));
    pair.nodes[0].stream.lead(term(4), now);
    pair.nodes[1].stream.follow(term(4), now);
    pair.nodes.iter_mut().for_each(|node| node.sessions.forget());
}

fn merged(pair: &mut Pair) -> Micros {
    heal(pair);
    node_1_gives_in(pair);
    let took = pair.until(4_000, settled);
    pair.assert_equal();
    took
}

#[test]
fn decision_35_the_losers_sessions_with_traffic_are_inserted_and_the_rest_goes() {
    let mut pair = split(1_000, 100, 1);
    let [a, b] = &mut pair.nodes;
    // Opened on the loser: 200 and 201 with traffic, 202 without.
    for number in 200..203 {
        b.sessions.touch(number);
    }
    b.sessions.use_since(200, true);
    b.sessions.use_since(201, false);
    a.sessions.touch(300);
    a.sessions.use_since(300, true);
    assert!(merged(&mut pair) < Micros::from_millis(500));
    let [a, b] = &pair.nodes;
    assert_eq!(a.sessions.merged, [2, 0, 0]);
    for (number, stays) in [(200, true), (201, true), (202, false), (300, true), (5, true)] {
        assert_eq!(a.sessions.index.contains_key(&key(number)), stays, "{number}");
        assert_eq!(b.sessions.index.contains_key(&key(number)), stays, "{number}");
    }
    let versions = a.sessions.versions();
    assert_eq!(versions[&key(200)].term(), term(4));
}

#[test]
fn decision_35_the_side_with_two_way_traffic_keeps_its_state() {
    let mut pair = split(1_000, 100, 2);
    let [a, b] = &mut pair.nodes;
    // 1: the loser's users; 2: the winner's; 3: both; 6: one way at the loser; 7: the loser's key collides.
    b.sessions.use_since(1, true);
    a.sessions.use_since(2, true);
    b.sessions.use_since(2, false);
    a.sessions.use_since(3, true);
    b.sessions.use_since(3, true);
    b.sessions.use_since(6, false);
    b.sessions.use_since(7, true);
    a.sessions.taken.insert(key(7));
    let before = a.sessions.versions();
    merged(&mut pair);
    let a = &pair.nodes[0].sessions;
    assert_eq!(a.merged, [0, 1, 4]);
    let after = a.versions();
    for number in [2, 3, 6, 7] {
        assert_eq!(after[&key(number)], before[&key(number)], "{number}");
    }
    assert!(after[&key(1)] > before[&key(1)]);
    assert_eq!(after[&key(1)].term(), term(4));
}

#[test]
fn decision_35_nothing_is_overwritten_before_it_was_offered() {
    let mut pair = split(1_000, 100, 3);
    // The winner changed the session, without an answer; the loser has the users.
    pair.nodes[0].sessions.touch(1);
    pair.nodes[1].sessions.use_since(1, true);
    let number = pair.nodes[1].sessions.index[&key(1)];
    let theirs = pair.nodes[1].sessions.slots[number as usize].unwrap();
    heal(&mut pair);
    node_1_gives_in(&mut pair);
    pair.until(4_000, settled);
    pair.assert_equal();
    let slot = pair.nodes[0].sessions.index[&key(1)];
    let ours = pair.nodes[0].sessions.slots[slot as usize].unwrap();
    assert_eq!((ours.state, ours.version.term()), (theirs.state, term(4)));
}

#[test]
fn decision_35_a_bad_link_loses_no_offer() {
    for seed in 0..6 {
        let mut pair = split(4_000, 500, seed);
        for number in 1_000..2_000 {
            pair.nodes[1].sessions.touch(number);
            pair.nodes[1].sessions.use_since(number, number % 2 == 0);
        }
        pair.channel = BAD;
        pair.nodes[0].sessions.ring_size = 64;
        pair.nodes[0].sessions.speed = 16;
        heal(&mut pair);
        pair.channel = BAD;
        node_1_gives_in(&mut pair);
        pair.until(8_000, settled);
        pair.assert_equal();
        assert_eq!(pair.nodes[0].sessions.len(), 1_500, "{}", pair.dump());
        assert_eq!(pair.nodes[0].sessions.merged[0], 1_000);
    }
}

#[test]
fn decision_35_a_merge_ends_when_the_loser_says_nothing() {
    let mut pair = split(1_000, 100, 4);
    pair.nodes[1].sessions.touch(200);
    pair.nodes[1].sessions.use_since(200, true);
    heal(&mut pair);
    // An older release follows and offers nothing.
    pair.nodes[1].sessions.active = false;
    pair.nodes[1].stream.contest(false);
    pair.nodes[1].stream.follow(term(4), pair.now);
    pair.nodes[0].stream.contest(false);
    pair.nodes[0].sessions.lead(term(4));
    pair.nodes[0].stream.lead(term(4), pair.now);
    pair.nodes[0].stream.accept_merge();
    pair.nodes[0].sessions.touch(1);
    pair.run(1_900);
    let counters = pair.nodes[0].stream.status(pair.now).counters;
    assert!(!pair.nodes[0].stream.proven(), "{counters:?}");
    pair.nodes.iter_mut().for_each(|node| node.sessions.forget());
    pair.until(2_000, settled);
    pair.assert_equal();
    assert!(!pair.nodes[0].sessions.index.contains_key(&key(200)));
}

#[test]
fn decision_35_a_merge_ends_with_its_partner() {
    let mut pair = split(1_000, 100, 5);
    heal(&mut pair);
    pair.nodes[0].stream.accept_merge();
    pair.nodes[0].stream.contest(false);
    pair.run(5);
    pair.nodes[0].stream.peer(Peer::Absent, pair.now);
    pair.nodes[0].stream.turn(pair.now, &mut pair.nodes[1].sessions, &mut super::table::Sessions::new(1));
    assert!(!pair.nodes[0].stream.is_merging());
    assert_eq!(pair.nodes[0].stream.deadline(), Micros::NEVER);
}

#[test]
fn decision_35_a_contested_table_is_told_to_nobody() {
    let mut pair = split(1_000, 100, 6);
    pair.nodes[0].sessions.touch(1);
    heal(&mut pair);
    let before = pair.nodes[0].stream.status(pair.now).counters.datagrams_sent;
    pair.nodes[0].sessions.touch(2);
    pair.nodes[0].sessions.end(3);
    pair.run(100);
    let counters = pair.nodes[0].stream.status(pair.now).counters;
    assert_eq!(counters.datagrams_sent, before);
    assert!(!pair.nodes[0].stream.flushed() && !pair.nodes[0].stream.proven());
}
