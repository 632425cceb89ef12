//! Bodies that were sealed properly and yet say nonsense: a partner of a broken release, or worse.

use proptest::collection::vec;
use proptest::prelude::*;

use super::pair::{Pair, Random, ack, turn};
use crate::datagram::{Ack, Malformed, Prefix};
use crate::ids::{GroupId, Seq};
use crate::membership::Mirror;
use crate::record::Shared;

fn settled(pair: &Pair) -> bool {
    let mirror = pair.nodes[1].stream.mirror();
    pair.nodes[0].stream.flushed() && pair.nodes[0].stream.proven() && mirror == Mirror::Complete
}

fn prefix(seq: u64, floor: u64) -> Vec<u8> {
    let shared = Shared { term: super::pair::term(2), generation: 4, group: GroupId(0) };
    let mut body = vec![0; Prefix::LEN];
    Prefix { seq: Seq(seq), floor: Seq(floor), shared }.write(&mut body).unwrap();
    body
}

/// What both machines say to a body, whatever it is.
fn feed(pair: &mut Pair, body: &[u8]) -> [Result<(), Malformed>; 2] {
    let now = pair.now;
    let node = &mut pair.nodes[1];
    let data = node.stream.data(now, body, &mut node.sessions);
    let node = &mut pair.nodes[0];
    let acked = ack(node, now, body);
    turn(node, now);
    [data, acked]
}

#[test]
fn what_says_nothing_is_malformed_and_changes_nothing() {
    let mut pair = Pair::new(64, 1);
    pair.nodes[0].sessions.touch(1);
    pair.start();
    pair.until(200, settled);
    let before = pair.nodes.each_ref().map(|node| (node.stream.digest(), node.stream.status(pair.now)));
    let torn = [prefix(1_000, 1), vec![1, 51, 2, 0]].concat();
    let many = [prefix(1_000, 1), [1, 0, 255].repeat(5)].concat();
    for body in [vec![], vec![0; 15], prefix(0, 0), prefix(9, 0), torn, many] {
        let node = &mut pair.nodes[1];
        assert_eq!(node.stream.data(pair.now, &body, &mut node.sessions), Err(Malformed), "{body:?}");
    }
    let mut buf = [0; 64];
    // It covers what was never sent; it does not say whose it is.
    for ack_of in [Seq(1_000_000), Seq(0)] {
        let length = Ack { cumulative: ack_of, window: 9, bitmap: &[1], runs: &[] }.write(&mut buf).unwrap();
        assert_eq!(ack(&mut pair.nodes[0], pair.now, &buf[..length]), Err(Malformed));
    }
    assert_eq!(before, pair.nodes.each_ref().map(|n| (n.stream.digest(), n.stream.status(pair.now))));
}

/// What the partner says of an earlier term may be of a sequence that this process knows nothing of.
#[test]
fn an_ack_of_another_term_is_no_nonsense() {
    let mut pair = Pair::new(64, 1);
    pair.start();
    pair.until(200, settled);
    let mut body = vec![0; 1_400];
    let node = &mut pair.nodes[1];
    node.stream.follow(super::pair::term(3), pair.now);
    let old = Ack { cumulative: Seq(1_000), window: 9, bitmap: &[], runs: &[] };
    let (_, length) = node.stream.transmit(pair.now, &mut node.sessions, &mut body).unwrap();
    let ours = Ack::read(&body[..length]).unwrap();
    let (runs, mut said) = (ours.runs.to_vec(), [0; 1_400]);
    let length = Ack { runs: &[], ..old }.write(&mut said).unwrap();
    said[length..length + runs.len()].copy_from_slice(&runs);
    let before = pair.nodes[0].stream.status(pair.now);
    let node = &mut pair.nodes[0];
    assert_eq!(ack(node, pair.now, &said[..length + runs.len()]), Ok(()));
    assert_eq!(node.stream.status(pair.now), before);
    node.stream.lead(super::pair::term(3), pair.now);
    assert_eq!(ack(node, pair.now, &said[..length + runs.len()]), Err(Malformed));
}

#[test]
fn a_sequence_that_jumps_is_followed_without_growth() {
    let mut pair = Pair::new(64, 1);
    pair.start();
    pair.until(200, settled);
    let node = &mut pair.nodes[1];
    // The lag is 32 bits wide.
    for seq in [5_000, 1 << 33, u64::MAX - 1] {
        let lag = u64::from(u32::MAX).min(seq - 1);
        for floor in [seq - lag, seq] {
            assert_eq!(node.stream.data(pair.now, &prefix(seq, floor), &mut node.sessions), Ok(()));
        }
    }
    let counters = node.stream.status(pair.now).counters;
    assert_eq!((counters.refused_ahead, counters.refused_late), (3, 0));
}

/// A partner that once says a floor far above what it sends would be refused for ever.
#[test]
fn a_floor_that_jumps_stops_the_stream_for_a_moment_only() {
    for jump in [300, 5_000, 1 << 40] {
        let mut pair = Pair::new(64, 1);
        pair.nodes[0].sessions.touch(1);
        pair.start();
        pair.until(200, settled);
        let node = &mut pair.nodes[1];
        assert_eq!(node.stream.data(pair.now, &prefix(jump, jump), &mut node.sessions), Ok(()));
        pair.lenient = true;
        pair.nodes[0].sessions.touch(2);
        pair.until(5_000, |pair| settled(pair) && pair.nodes[1].sessions.len() == 2);
        pair.assert_equal();
        assert_eq!(pair.nodes[1].stream.status(pair.now).counters.astray, 1);
    }
}

/// A network that delivers everything twice, and the second time in one go.
#[test]
fn late_copies_do_not_begin_a_sequence_anew() {
    let mut pair = Pair::new(64, 1);
    pair.start();
    pair.until(200, settled);
    let copies: Vec<_> = (1..200).map(|seq| prefix(seq, seq)).collect();
    let node = &mut pair.nodes[1];
    for body in copies.iter().chain(&copies) {
        assert_eq!(node.stream.data(pair.now, body, &mut node.sessions), Ok(()));
    }
    let counters = node.stream.status(pair.now).counters;
    assert!(counters.refused_late >= 199 && counters.astray == 0, "{counters:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Noise behind a proper prefix, proper datagrams with flipped bytes, and plain noise.
    #[test]
    fn nothing_that_arrives_stops_a_stream(
        noise in vec((any::<u8>(), 0_u64..40, vec(any::<u8>(), 0..300)), 1..20),
        seed: u64,
    ) {
        let mut pair = Pair::new(64, seed);
        for number in 0..20 {
            pair.nodes[0].sessions.touch(number);
        }
        pair.lenient = true;
        pair.nodes[1].sessions.tampered = true;
        pair.start();
        pair.run(2);
        let mut random = Random(seed);
        let mut body = vec![0; 1_400];
        for (what, ahead, bytes) in noise {
            let made = match what % 3 {
                0 => bytes,
                1 => [prefix(1 + ahead, 1), bytes].concat(),
                _ => {
                    let from = usize::from(what) / 3 % 2;
                    pair.nodes[0].sessions.touch(u32::from(what) % 30);
                    let node = &mut pair.nodes[from];
                    let sent = node.stream.transmit(pair.now, &mut node.sessions, &mut body);
                    let mut made = sent.map_or(bytes, |(_, length)| body[..length].to_vec());
                    if !made.is_empty() {
                        let at = random.below(made.len() as u64) as usize;
                        made[at] ^= 1 << random.below(8);
                    }
                    made
                }
            };
            let _ = feed(&mut pair, &made);
            pair.run(1);
            let status = pair.nodes[1].stream.status(pair.now);
            prop_assert!(status.tombstones as usize <= pair.config.tombstones);
        }
        pair.run(5);
    }
}
