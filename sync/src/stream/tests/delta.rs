//! Changes, acks, loss and bulk.

use super::pair::{BAD, GOOD, Pair};
use crate::ids::Micros;
use crate::membership::Mirror;
use crate::stream::{Config, Counters};

fn settled(pair: &Pair) -> bool {
    pair.nodes[0].stream.flushed() && pair.nodes[0].stream.proven()
}

#[test]
fn b_22_a_new_session_is_mirrored_within_a_round_trip() {
    let mut pair = Pair::new(64, 1);
    pair.start();
    pair.until(100, settled);
    assert!(pair.nodes[0].sessions.touch(7));
    assert!(pair.nodes[0].stream.flushed(), "it was not asked again");
    pair.step();
    assert!(!pair.nodes[0].stream.flushed());
    let took = pair.until(10, |pair| pair.nodes[1].sessions.len() == 1);
    assert!(took <= Micros(400), "{took:?}");
    pair.until(10, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Complete);
}

#[test]
fn b_19_ten_changes_before_the_sync_core_looks_cost_one_record() {
    let mut pair = Pair::new(64, 1);
    pair.start();
    pair.until(100, settled);
    for _ in 0..10 {
        pair.nodes[0].sessions.touch(7);
    }
    pair.until(100, settled);
    let sent = pair.nodes[0].stream.status(pair.now).counters.sent;
    assert_eq!((sent.new.records, sent.refresh.records, sent.bulk.records), (1, 0, 0));
    pair.nodes[0].sessions.touch(7);
    pair.until(100, settled);
    let sent = pair.nodes[0].stream.status(pair.now).counters.sent;
    assert_eq!((sent.new.records, sent.refresh.records), (1, 1));
    pair.assert_equal();
}

#[test]
fn x_05_a_partner_without_memory_gets_everything_while_changes_go_on() {
    let mut pair = Pair::new(20_000, 2);
    for number in 0..15_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    for number in 0..50 {
        pair.run(1);
        pair.nodes[0].sessions.touch(number * 7);
        pair.nodes[0].sessions.end(number * 11 + 1);
        pair.nodes[0].sessions.touch(15_000 + number);
    }
    pair.until(1_000, settled);
    pair.assert_equal();
    assert_eq!(pair.nodes[1].stream.mirror(), Mirror::Complete);
}

#[test]
fn b_23_what_is_lost_is_sent_again_as_it_is_then() {
    let mut pair = Pair::new(4_096, 3);
    pair.channel = BAD;
    pair.start();
    for round in 0..200_u32 {
        for number in 0..10 {
            pair.nodes[0].sessions.touch(round * 10 + number);
            pair.nodes[0].sessions.pass(round * 7 + number);
        }
        if round > 20 {
            pair.nodes[0].sessions.end((round - 20) * 10);
        }
        pair.run(2);
    }
    pair.until(5_000, settled);
    pair.assert_equal();
    let status = pair.nodes[0].stream.status(pair.now);
    assert!(status.counters.datagrams_lost > 10, "{status:?}");
}

/// Nobody calls before the deadline or an arrival: nothing is forgotten, and nothing spins.
#[test]
fn a_stream_that_is_only_called_when_it_is_due_settles_and_rests() {
    let config = Config { scrub_pass: Micros::from_secs(1_000_000), ..Config::default() };
    let mut pair = Pair::with(4_096, 11, config);
    for number in 0..3_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.channel = BAD;
    pair.start();
    let (began, mut steps) = (pair.now, 0);
    while !settled(&pair) {
        pair.step_when_due();
        steps += 1;
        assert!(steps < 20_000 && pair.now < began.after(Micros::from_secs(20)), "{}", pair.dump());
    }
    pair.channel = GOOD;
    pair.assert_equal();
    // At rest: a comparison each second, and the scrubber's ticks.
    let rests = pair.now;
    steps = 0;
    while pair.now < rests.after(Micros::from_secs(3)) {
        pair.step_when_due();
        steps += 1;
    }
    assert!(steps < 5_000, "{steps}");
}

/// Nothing that is sent may be called lost before an answer can come.
#[test]
fn b_28_a_path_of_seconds_carries_the_stream() {
    for delay_ms in [150, 400, 2_000] {
        let mut pair = Pair::new(256, 13);
        pair.channel.delay = Micros::from_millis(delay_ms);
        for number in 0..100 {
            pair.nodes[0].sessions.touch(number);
        }
        pair.start();
        pair.until(60_000, settled);
        let before = pair.nodes[0].stream.status(pair.now).counters;
        for number in 100..110 {
            pair.nodes[0].sessions.touch(number);
            pair.run(delay_ms);
        }
        pair.until(10_000, settled);
        pair.assert_equal();
        let counters = pair.nodes[0].stream.status(pair.now).counters;
        assert_eq!((counters.timeouts, counters.datagrams_lost), (before.timeouts, before.datagrams_lost));
    }
}

/// A follower that cannot compare yet says so: nobody waits for an answer that does not come.
#[test]
fn x_03_digests_of_a_table_that_is_being_counted_are_asked_again_soon() {
    let mut pair = Pair::new(256, 14);
    (0..100).for_each(|number| assert!(pair.nodes[0].sessions.touch(number)));
    pair.start();
    pair.until(500, settled);
    // A round trip of a second was measured, and stands.
    pair.channel.delay = Micros::from_millis(500);
    pair.nodes[0].sessions.touch(1);
    pair.run(1_500);
    pair.channel.delay = Micros(50);
    let slot = pair.nodes[1].sessions.index[&super::table::key(7)];
    pair.nodes[1].sessions.busy.insert(slot);
    pair.nodes[1].stream.follow(super::pair::term(4), pair.now);
    pair.lead(1, 5);
    pair.lead(0, 6);
    pair.run(40);
    assert!(!settled(&pair), "the count has not come past a busy owner");
    pair.nodes[1].sessions.busy.clear();
    pair.until(200, settled);
    pair.assert_equal();
}

#[test]
fn b_16_a_shared_path_is_not_flooded() {
    let mut pair = Pair::with(20_000, 12, Config { byte_rate: 1_000_000, ..Config::default() });
    for number in 0..10_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    let took = pair.until(5_000, settled);
    let sent = pair.nodes[0].stream.status(pair.now).counters.bytes_sent;
    assert!(sent > 400_000 && took > Micros(sent * 9 / 10), "{sent} bytes in {took:?}");
    pair.assert_equal();
}

#[test]
fn x_14_a_slow_owner_slows_the_sender_and_loses_nothing() {
    let mut pair = Pair::new(20_000, 4);
    pair.nodes[1].sessions.ring_size = 512;
    pair.nodes[1].sessions.speed = 20;
    for number in 0..10_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(5_000, settled);
    pair.assert_equal();
}

/// A datagram with more deletes than there are tombstones would be refused for as long as anything below it
/// is missing: two such in turn, each because of the other one, for ever.
#[test]
fn decision_19_the_deletes_of_one_datagram_always_find_room() {
    let mut pair = Pair::with(4_096, 5, Config { tombstones: 1, max_body: 8_900, ..Config::default() });
    for number in 0..2_000 {
        pair.nodes[0].sessions.touch(number);
    }
    pair.start();
    pair.until(1_000, settled);
    let mut body = vec![0; 9_000];
    let mut next = |pair: &mut Pair| {
        let node = &mut pair.nodes[0];
        node.stream
            .transmit(pair.now, &mut node.sessions, &mut body)
            .map(|(_, length)| body[..length].to_vec())
    };
    pair.nodes[0].sessions.touch(5);
    assert!(next(&mut pair).is_some(), "and it is lost");
    (1_000..1_200).for_each(|number| assert!(pair.nodes[0].sessions.end(number)));
    let deletes: Vec<Vec<u8>> = std::iter::from_fn(|| next(&mut pair)).collect();
    assert_eq!(deletes.len(), 200_usize.div_ceil(64));
    let node = &mut pair.nodes[1];
    for (at, body) in deletes.iter().enumerate() {
        assert_eq!(node.stream.data(pair.now, body, &mut node.sessions), Ok(()));
        let refused = node.stream.status(pair.now).counters.refused_tombstones;
        assert_eq!(refused, at as u64, "there is room for one of them");
    }
    node.sessions.step();
    assert_eq!(node.sessions.len(), 2_000 - 64);
    pair.until(1_000, settled);
    pair.assert_equal();
}

fn counters(pair: &Pair, node: usize) -> Counters {
    pair.nodes[node].stream.status(pair.now).counters
}

/// Changes arrive, but what says that their owner has done them is lost for so long.
fn lose_the_ack(pair: &mut Pair, changes: std::ops::Range<u32>, outage_ms: u64) {
    pair.nodes[1].sessions.speed = 0;
    changes.for_each(|number| assert!(pair.nodes[0].sessions.touch(number)));
    pair.run(3);
    pair.channel.loss = 100;
    pair.nodes[1].sessions.speed = usize::MAX;
    pair.run(outage_ms);
    pair.channel.loss = 0;
}

/// The active node knows that everything arrived and leaves the rest to the owners there: what they did must
/// reach it, although it has nothing more to say that would be acknowledged.
#[test]
fn b_23_an_ack_that_is_lost_is_asked_for() {
    for (outage_ms, within_ms) in [(3, 30), (30, 80), (200, 400)] {
        let mut pair = Pair::new(64, 1);
        pair.start();
        pair.until(100, settled);
        lose_the_ack(&mut pair, 7..8, outage_ms);
        pair.until(within_ms, settled);
        pair.assert_equal();
        // What arrived is not sent again.
        assert_eq!(counters(&pair, 0).sent.lost.records, 0, "{outage_ms} ms");
    }
}

/// The last ack that came said that there is no room, as in a window of zero (RFC 9293, 3.8.6.1).
#[test]
fn b_23_room_of_which_an_ack_told_that_is_lost_is_asked_for() {
    let mut pair = Pair::new(1_024, 1);
    pair.nodes[1].sessions.ring_size = 16;
    pair.start();
    pair.until(100, settled);
    lose_the_ack(&mut pair, 0..100, 3);
    pair.until(200, settled);
    pair.assert_equal();
}

/// Somebody who only comes when he has to asks as well.
#[test]
fn b_23_an_ack_is_asked_for_when_it_is_due() {
    let seldom = Micros::from_secs(1_000_000);
    let mut pair =
        Pair::with(64, 1, Config { verify_every: seldom, scrub_pass: seldom, ..Config::default() });
    pair.start();
    pair.until(100, settled);
    lose_the_ack(&mut pair, 7..8, 1);
    let (began, mut steps) = (pair.now, 0);
    while !settled(&pair) {
        pair.step_when_due();
        steps += 1;
        assert!(steps < 300 && pair.now < began.after(Micros::from_millis(50)), "{}", pair.dump());
    }
}

#[test]
fn b_23_a_third_of_everything_lost_holds_a_change_up_for_a_moment() {
    let config = Config { verify_every: Micros::from_secs(600), ..Config::default() };
    let (mut longest, mut sum) = (Micros(0), 0);
    for seed in 0..200 {
        let mut pair = Pair::with(1_024, seed, config);
        pair.nodes[1].sessions.ring_size = [64, 4_096][seed as usize % 2];
        pair.nodes[1].sessions.speed = 1;
        pair.start();
        pair.until(500, settled);
        pair.channel.loss = 30;
        (0..100).for_each(|number| assert!(pair.nodes[0].sessions.touch(number)));
        let took = pair.until(20_000, settled);
        pair.assert_equal();
        (longest, sum) = (longest.max(took), sum + took.as_millis());
    }
    assert!(longest < Micros::from_millis(2_500) && sum < 200 * 250, "{longest:?}, {sum} ms");
}

/// Asking is for what is waited for: an owner that does nothing is asked about ever more seldom, and nothing
/// is said when nothing is under way.
#[test]
fn b_23_few_are_the_questions_about_a_slow_owner_and_none_are_asked_at_rest() {
    let config = Config { verify_every: Micros::from_secs(600), ..Config::default() };
    let mut pair = Pair::with(64, 1, config);
    pair.start();
    pair.until(100, settled);
    let before = counters(&pair, 0).datagrams_sent;
    pair.nodes[1].sessions.speed = 0;
    pair.nodes[0].sessions.touch(7);
    pair.run(1_900);
    let asked = counters(&pair, 0).datagrams_sent - before - 1;
    assert!((6..=10).contains(&asked), "{asked}");
    pair.nodes[1].sessions.speed = usize::MAX;
    pair.until(5, settled);
    // The next time they are asked as soon as at first.
    pair.nodes[1].sessions.speed = 0;
    pair.nodes[0].sessions.touch(8);
    pair.run(30);
    assert_eq!(counters(&pair, 0).datagrams_sent - before - 2, asked + 1);
    pair.nodes[1].sessions.speed = usize::MAX;
    pair.until(5, settled);
    assert_eq!((counters(&pair, 0).timeouts, counters(&pair, 0).datagrams_lost), (0, 0));
    let before = (counters(&pair, 0).datagrams_sent, counters(&pair, 1).acks_sent);
    pair.run(3_000);
    assert_eq!((counters(&pair, 0).datagrams_sent, counters(&pair, 1).acks_sent), before);
}

/// How long an owner may take is not reckoned from when its work was sent on a path of seconds.
#[test]
fn b_28_what_a_slow_owner_has_is_not_lost_on_a_path_of_seconds() {
    let config = Config { verify_every: Micros::from_secs(600), ..Config::default() };
    let mut pair = Pair::with(64, 13, config);
    pair.channel.delay = Micros::from_millis(2_000);
    pair.start();
    pair.until(60_000, settled);
    pair.run(10_000);
    let before = counters(&pair, 0).datagrams_lost;
    pair.nodes[1].sessions.speed = 0;
    pair.nodes[0].sessions.touch(7);
    pair.run(2_500);
    pair.nodes[1].sessions.speed = usize::MAX;
    pair.run(5_000);
    pair.until(5_000, settled);
    assert_eq!(counters(&pair, 0).datagrams_lost, before);
}
