//! Two machines and a wire, without sessions: what the parts do together. Sessions, losses and crashes are
//! the simulator's.

use super::*;
use crate::heartbeat::{AreaHashes, Areas, Report as Description};
use crate::ids::{Incarnation, NodeId, PairId, SessionHandle};
use crate::keys::{Entropy, Identity, PublicKey, SecretKey, Timing};
use crate::membership::{Command, Loss, Mirror, Refusal, Role};
use crate::record::{Addresses, Key, Lifetime, Record, RuleRef, Session, Tuple};
use crate::stream::{Applied, Ended, Outcome, Reading, Tag};
use std::collections::VecDeque;

struct Seed(u8);

impl Entropy for Seed {
    fn draw(&mut self) -> [u8; 32] {
        self.0 = self.0.wrapping_add(1);
        std::array::from_fn(|at| self.0.wrapping_mul(31) ^ at as u8)
    }
}

/// Holds nothing; may have something to offer, and takes in what is offered.
#[derive(Default)]
struct NoSessions {
    offers: Vec<Session>,
    adopted: Vec<Session>,
    outcomes: VecDeque<Outcome>,
}

impl Source for NoSessions {
    fn handles(&self) -> u32 {
        16
    }
    fn next_changed(&mut self) -> Option<SessionHandle> {
        None
    }
    fn next_ended(&mut self) -> Option<Ended> {
        None
    }
    fn ends_lost(&self) -> u64 {
        0
    }
    fn waiting(&self) -> u32 {
        0
    }
    fn rounds(&mut self) -> u64 {
        0
    }
    fn read(&mut self, _: SessionHandle) -> Reading {
        Reading::Nothing
    }
    fn since_split(&mut self, handle: SessionHandle) -> Reading {
        self.offers.get(handle.0 as usize).map_or(Reading::Nothing, |session| Reading::Session(*session))
    }
}

impl Sink for NoSessions {
    fn hand(&mut self, _: &Record, _: Tag) -> bool {
        false
    }
    fn room(&self) -> u32 {
        100
    }
    fn adopt(&mut self, session: &Session, tag: Tag) -> bool {
        self.adopted.push(*session);
        self.outcomes.push_back(Outcome { tag, applied: Applied::Absent });
        true
    }
    fn next_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }
    fn held(&mut self, _: SessionHandle) -> Reading {
        Reading::Nothing
    }
    fn purge(&mut self) {}
    fn purging(&self) -> bool {
        false
    }
}

/// A node around a machine that confirms everything at once.
#[derive(Default)]
struct Node {
    source: NoSessions,
    sink: NoSessions,
    out: VecDeque<(PathId, Vec<u8>)>,
    reports: VecDeque<Report>,
    notices: Vec<Notice>,
    narrow: Option<(usize, usize)>,
    attracted: u32,
    mirror_ages: Vec<Micros>,
    difference: Option<Difference>,
    verified: Vec<stream::Event>,
    description: Description,
    /// Lives of the partner that proved themselves.
    confirmed: u32,
    splits: Vec<Split>,
}

impl Host for Node {
    type Source = NoSessions;
    type Sink = NoSessions;

    fn tables(&mut self) -> (&mut NoSessions, &mut NoSessions) {
        (&mut self.source, &mut self.sink)
    }

    fn send(&mut self, path: PathId, datagram: &[u8]) -> bool {
        self.out.push_back((path, datagram.to_vec()));
        true
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Persist(term) => self.reports.push_back(Report::Persisted(term)),
            Order::Install(term) => self.reports.push_back(Report::Installed(term)),
            Order::PrepareTarget => self.reports.push_back(Report::TargetPrepared),
            Order::Park => self.reports.push_back(Report::Parked),
            Order::Attract => self.attracted += 1,
            Order::Notice(notice) => self.notices.push(notice),
            Order::Split(split) => self.splits.push(split),
            Order::Stream(event @ stream::Event::Verified { asked: true, .. }) => self.verified.push(event),
            Order::Keys(keys::Event::PeerConfirmed { .. }) => self.confirmed += 1,
            Order::PathSize { size, expected, .. } => self.narrow = Some((size, expected)),
            _ => {}
        }
    }

    fn mirror_age(&mut self, age: Micros) {
        self.mirror_ages.push(age);
    }

    fn differs(&mut self, difference: Option<Difference>) {
        self.difference = difference;
    }

    fn describe(&self) -> Description {
        self.description.clone()
    }
}

struct World {
    pairs: Vec<(Pair, Node)>,
    now: Micros,
    /// Which datagrams pass, by path and size.
    passes: fn(PathId, usize) -> bool,
    alive: [bool; 2],
    /// Steps between two turns of each node; what arrives meanwhile waits.
    every: [u64; 2],
    steps: u64,
    waiting: [VecDeque<(PathId, Vec<u8>)>; 2],
}

impl World {
    fn new() -> Self {
        Self::with_paths(vec![true, false])
    }

    /// Two paths, of which so many may carry sessions.
    fn with_paths(carries_sync: Vec<bool>) -> Self {
        let secrets = [3, 4].map(|seed| SecretKey::from_random(Seed(seed).draw()));
        let publics: Vec<PublicKey> = secrets.iter().map(SecretKey::public).collect();
        let pairs = secrets.into_iter().zip(0_u8..).map(|(secret, me)| {
            let identity = Identity {
                pair: PairId(7),
                me: NodeId(me),
                peer: NodeId(1 - me),
                incarnation: Incarnation(100 + u64::from(me)),
                secret,
                partner: publics[usize::from(1 - me)],
                paths: 2,
            };
            let config = PairConfig {
                membership: Arc::new(membership::Config {
                    paths: carries_sync.clone(),
                    ..membership::Config::new(NodeId(me), NodeId(1 - me))
                }),
                paths: vec![
                    PathConfig { datagram_max: 1_472, byte_rate: 0 },
                    PathConfig { datagram_max: 1_472, byte_rate: 12_500_000 },
                ],
                stream: stream::Config::default(),
                group: GroupId(0),
                persisted: Term::ZERO,
            };
            let entropy = Box::new(Seed(me * 100));
            (Pair::new(config, identity, Timing::default(), entropy, 16, Micros(1)), Node::default())
        });
        Self {
            pairs: pairs.collect(),
            now: Micros(1),
            passes: |_, _| true,
            alive: [true; 2],
            every: [1; 2],
            steps: 0,
            waiting: Default::default(),
        }
    }

    fn run(&mut self, for_ms: u64) {
        let end = self.now.after(Micros::from_millis(for_ms));
        while self.now < end {
            self.now = self.now.after(Micros(500));
            self.steps += 1;
            for me in 0..2 {
                if !self.alive[me] || !self.steps.is_multiple_of(self.every[me]) {
                    continue;
                }
                self.hand_in(me);
                let (pair, node) = &mut self.pairs[me];
                while let Some(report) = node.reports.pop_front() {
                    pair.report(report, self.now, node);
                }
                pair.turn(self.now, node);
            }
            for me in 0..2 {
                let sent: Vec<_> = self.pairs[me].1.out.drain(..).collect();
                if !self.alive[me] || !self.alive[1 - me] {
                    continue;
                }
                let passing =
                    sent.into_iter().filter(|(path, datagram)| (self.passes)(*path, datagram.len()));
                self.waiting[1 - me].extend(passing);
                if self.every[1 - me] == 1 {
                    self.hand_in(1 - me);
                }
            }
        }
    }

    fn hand_in(&mut self, me: usize) {
        let (pair, node) = &mut self.pairs[me];
        for (path, mut datagram) in self.waiting[me].drain(..) {
            let _ = pair.handle(self.now, path, &mut datagram, node);
        }
    }

    fn command(&mut self, me: usize, command: Command) {
        let (pair, node) = &mut self.pairs[me];
        pair.report(Report::Command(command), self.now, node);
    }

    fn roles(&self) -> [Role; 2] {
        [0, 1].map(|me| self.pairs[me].0.state().role())
    }
}

#[test]
fn two_nodes_become_a_pair_and_the_standby_is_complete() {
    let mut world = World::new();
    world.run(6_000);
    assert_eq!(world.roles(), [Role::Active, Role::Standby]);
    let status = world.pairs[0].0.status(world.now);
    assert_eq!(status.partner.unwrap().mirror, Mirror::Complete);
    assert!(status.proven && status.keys.is_some() && status.partner_report.is_some());
    assert!(status.paths.iter().all(|path| path.alive && path.size == Some(1_472)));
    assert_eq!(status.paths.iter().map(|path| path.in_use).collect::<Vec<_>>(), [true, false]);
    assert!(world.pairs[0].1.attracted > 0);
    assert_eq!(world.pairs[1].1.attracted, 0);
}

#[test]
fn b_21_a_partner_that_starts_is_heard_and_complete_within_a_few_turns() {
    // Also if what follows a heartbeat comes together with it, because a node sleeps between its turns.
    for (late, every) in (1..=20).flat_map(|nap| [0, 1].map(|late| (late, nap))) {
        let mut world = World::with_paths(vec![true, true]);
        world.alive[late] = false;
        world.run(6_000);
        assert_eq!(world.roles()[1 - late], Role::Active);
        world.alive[late] = true;
        world.every[late] = every;
        let limit = world.now.after(Micros::from_secs(2));
        while world.pairs.iter().any(|(_, node)| node.confirmed == 0) && world.now < limit {
            world.run(1);
        }
        let confirmed = world.now;
        while world.pairs[late].0.state().mirror() != Mirror::Complete && world.now < limit {
            world.run(1);
        }
        let took = world.now.since(confirmed);
        let counters = [1 - late, late].map(|me| world.pairs[me].0.stream().status(world.now).counters);
        assert_eq!((counters[0].timeouts, counters[1].refused_other_term), (0, 0), "{late}, every {every}");
        assert!(took.0 < 10_000 + 8 * 500 * every, "{late}, every {every}: {took:?}");
    }
}

#[test]
fn b_27_the_standby_takes_over_when_the_active_node_falls_silent() {
    let mut world = World::new();
    world.run(6_000);
    world.alive[0] = false;
    // The last heartbeat left up to an interval before the end.
    world.run(190);
    assert_eq!(world.roles()[1], Role::Standby);
    world.run(120);
    assert_eq!(world.roles()[1], Role::Active);
    assert_eq!(world.pairs[1].1.attracted, 1);
    assert!(world.pairs[1].0.status(world.now).partner.is_none());
    assert_eq!(world.pairs[1].1.mirror_ages, [Micros(0)]);
}

#[test]
fn decision_36_a_takeover_says_how_old_its_mirror_is() {
    let mut world = World::new();
    world.run(6_000);
    world.passes = |path, _| path != PathId(0);
    world.run(2_000);
    world.alive[0] = false;
    world.run(400);
    assert_eq!(world.roles()[1], Role::Active);
    assert!(world.pairs[1].1.notices.contains(&Notice::StaleMirror));
    let [age] = world.pairs[1].1.mirror_ages[..] else { panic!("{:?}", world.pairs[1].1.mirror_ages) };
    assert!((2_200_000..2_450_000).contains(&age.0), "{age:?}");
}

fn flow(port: u16, two_way: bool) -> Session {
    let addresses = Addresses::V4([[10, 1, 0, 10], [10, 2, 0, 10]]);
    Session {
        key: Key { tuple: Tuple { addresses, ports: [port, 53] }, proto: 17, vrf: 0 },
        reply: None,
        version: crate::ids::Version::new(Term::new(3).unwrap(), 7),
        group: GroupId(0),
        rule: RuleRef { id: 9, generation: 0 },
        zones: [0, 1],
        remaining: Lifetime::from_ms(30_000),
        state: crate::record::State::Flow(1),
        two_way,
        age_s: None,
        counters: None,
    }
}

#[test]
fn s_26_after_a_split_the_losers_sessions_reach_the_winner_once() {
    for (users, winner) in [([0, 0], 1), ([10, 0], 0), ([0, 10], 1)] {
        let mut world = World::new();
        world.run(6_000);
        world.passes = |_, _| false;
        world.run(2_000);
        assert_eq!(world.roles(), [Role::Active, Role::Active]);
        let now = world.now;
        for (at, activity) in users.into_iter().enumerate() {
            let (pair, node) = &mut world.pairs[at];
            let fitness = membership::Fitness {
                forwarding: membership::Forwarding::Able,
                config_valid: true,
                quality: 100,
                activity,
            };
            pair.report(Report::Fitness(fitness), now, node);
            node.source.offers = (0..10).map(|port| flow(1_000 * at as u16 + port, port % 2 == 0)).collect();
        }
        world.passes = |_, _| true;
        world.run(1_000);
        let loser = 1 - winner;
        assert_eq!(world.roles()[winner], Role::Active);
        assert_eq!(world.roles()[loser], Role::Standby, "{:?}", world.pairs[loser].1.notices);
        let offered = world.pairs[loser].1.source.offers.clone();
        let mut adopted = world.pairs[winner].1.sink.adopted.clone();
        adopted.sort_by_key(|session| session.key.tuple.ports);
        assert_eq!(adopted, offered);
        assert!(world.pairs[loser].1.sink.adopted.is_empty());
        let counters = world.pairs[loser].0.stream().status(world.now).counters;
        // The first ones may come before the winner knows that it won.
        assert!((10..=20).contains(&counters.offered), "{counters:?}");
        assert!(world.pairs[winner].0.status(world.now).proven);
    }
}

/// A pair of which node 0 is active, and the time at which it lost node 1, which has just taken over.
fn parted() -> (World, Micros) {
    let mut world = World::new();
    world.run(6_000);
    // Told of a beginning that nobody was there for.
    world.pairs.iter_mut().for_each(|(_, node)| node.splits.clear());
    let cut = world.now;
    world.passes = |_, _| false;
    while world.roles()[1] != Role::Active {
        world.run(1);
    }
    (world, cut)
}

#[test]
fn decision_35_a_split_begins_before_anybody_notices() {
    let (mut world, cut) = parted();
    let [split] = world.pairs[0].1.splits[..] else { panic!("{:?}", world.pairs[0].1.splits) };
    assert!(split.lasts && split.noticed < world.now, "before the other one has users: {split:?}");
    assert!(split.since < cut && cut.since(split.since) < Micros::from_millis(250), "{split:?}, cut {cut:?}");
    let [other] = world.pairs[1].1.splits[..] else { panic!("{:?}", world.pairs[1].1.splits) };
    assert!(
        other.since == other.noticed && world.now.since(other.since) < Micros::from_millis(2),
        "{other:?}"
    );
    // Nothing that follows moves it, least of all the end.
    world.run(5_000);
    world.passes = |_, _| true;
    world.run(1_000);
    assert_eq!(world.roles(), [Role::Standby, Role::Active]);
    let over = |split| Split { lasts: false, ..split };
    assert_eq!(world.pairs[0].1.splits, [split, over(split)]);
    assert_eq!(world.pairs[1].1.splits, [other, over(other)]);
}

#[test]
fn decision_35_nodes_that_answer_are_no_split() {
    let mut world = World::new();
    world.run(6_000);
    world.pairs.iter_mut().for_each(|(_, node)| node.splits.clear());
    // Neither turns at once.
    world.every = [40, 60];
    world.run(5_000);
    assert_eq!((&world.pairs[0].1.splits[..], &world.pairs[1].1.splits[..]), (&[][..], &[][..]));
}

#[test]
fn decision_35_a_split_that_comes_before_the_last_one_was_merged_continues_it() {
    let (mut world, _) = parted();
    let first = world.pairs[0].1.splits[0];
    world.pairs[0].1.source.offers = vec![flow(1, true)];
    world.passes = |_, _| true;
    while world.roles() != [Role::Syncing, Role::Active] {
        world.run(1);
    }
    world.passes = |_, _| false;
    // Who is not armed waits for as long as after a boot.
    world.run(4_000);
    assert_eq!(world.roles(), [Role::Active, Role::Active], "{:?}", world.pairs[0].1.notices);
    let second = world.pairs[0].1.splits.last().copied().unwrap();
    assert!(second.lasts && second.noticed > first.noticed);
    assert_eq!(second.since, first.since, "nobody took what was done in the first");
    world.passes = |_, _| true;
    world.run(1_000);
    // Now both have the same, and what is next is a split of its own.
    let end = world.now;
    world.passes = |_, _| false;
    world.run(1_000);
    for (_, node) in &world.pairs {
        let third = node.splits.last().copied().unwrap();
        assert!(third.lasts && end.since(third.since) < Micros::from_millis(250), "{third:?} after {end:?}");
    }
}

#[test]
fn x_16_a_switchover_moves_the_role_and_back() {
    let mut world = World::new();
    world.run(6_000);
    world.command(0, Command::Switchover);
    world.run(1_000);
    assert_eq!(world.roles(), [Role::Standby, Role::Active], "{:?}", world.pairs[0].1.notices);
    world.command(0, Command::Switchover);
    world.run(1_000);
    assert_eq!(world.roles(), [Role::Active, Role::Standby], "{:?}", world.pairs[1].1.notices);
}

#[test]
fn b_16_the_stream_moves_to_another_path_only_if_that_may_carry_it() {
    let mut world = World::new();
    world.run(6_000);
    world.passes = |path, _| path != PathId(0);
    world.run(1_000);
    assert_eq!(world.roles(), [Role::Active, Role::Standby], "no takeover");
    let notices = &world.pairs[0].1.notices;
    assert!(notices.contains(&Notice::SyncLost(Loss::Failure)), "{notices:?}");
    assert_eq!(world.pairs[1].0.state().mirror(), Mirror::Stale);
    world.command(0, Command::Switchover);
    let refused = Notice::SwitchoverRefused(Refusal::NotInSync);
    assert!(world.pairs[0].1.notices.contains(&refused));
    world.passes = |_, _| true;
    world.run(1_000);
    assert!(world.pairs[0].1.notices.contains(&Notice::SyncBack));
    assert_eq!(world.pairs[1].0.state().mirror(), Mirror::Complete);
}

#[test]
fn b_16_a_shared_path_carries_the_stream_at_its_pace() {
    let mut world = World::with_paths(vec![true, true]);
    world.run(6_000);
    let pace = |world: &World| world.pairs[0].0.status(world.now).stream.byte_rate;
    assert_eq!(pace(&world), 0, "the sync link is its own");
    world.passes = |path, _| path != PathId(0);
    world.run(1_000);
    assert_eq!(pace(&world), 12_500_000);
    assert!(world.pairs[0].0.state().partner().is_some());
    world.passes = |_, _| true;
    world.run(1_000);
    assert_eq!(pace(&world), 0);
}

#[test]
fn x_08_a_link_that_swallows_large_datagrams_is_told_of_and_used_with_small_ones() {
    let mut world = World::new();
    world.passes = |_, size| size <= 1_400;
    world.run(10_000);
    assert_eq!(world.roles(), [Role::Active, Role::Standby]);
    assert_eq!(world.pairs[0].1.narrow, Some((1_372, 1_472)));
    assert_eq!(world.pairs[0].0.status(world.now).paths[0].size, Some(1_372));
}

#[test]
fn x_13_nodes_that_differ_say_so_and_are_not_ready() {
    let mut world = World::new();
    world.pairs[0].1.description.areas = AreaHashes::new(&[1, 2]).unwrap();
    world.pairs[1].1.description.areas = AreaHashes::new(&[1, 3]).unwrap();
    world.run(6_000);
    let difference = Some(Difference::Config(Areas::of(&[1])));
    assert_eq!([0, 1].map(|me: usize| world.pairs[me].1.difference), [difference; 2]);
    let notices = &world.pairs[0].1.notices;
    assert!(notices.iter().any(|notice| notice.id() == "pair_differs"), "{notices:?}");
    world.command(0, Command::Switchover);
    let refused = Notice::SwitchoverRefused(Refusal::Differs);
    assert!(world.pairs[0].1.notices.contains(&refused));
    // Made equal while both run, as a reload does.
    world.pairs[1].1.description.areas = AreaHashes::new(&[1, 2]).unwrap();
    world.run(1_000);
    assert_eq!([0, 1].map(|me: usize| world.pairs[me].1.difference), [None; 2]);
    assert!((0..2).all(|me| world.pairs[me].1.notices.contains(&Notice::Agrees)));
}

#[test]
fn n_13_either_node_can_be_asked_to_compare_both_tables() {
    let mut world = World::new();
    world.run(6_000);
    assert_eq!(world.roles(), [Role::Active, Role::Standby]);
    let equal =
        stream::Event::Verified { equal: true, buckets: 0, groups: stream::Groups::default(), asked: true };
    for asked in [0, 1] {
        let (pair, node) = &mut world.pairs[asked];
        pair.report(Report::Verify, world.now, node);
        world.run(1_000);
        assert_eq!(world.pairs[asked].1.verified, [equal], "node {asked}");
        world.pairs.iter_mut().for_each(|(_, node)| node.verified.clear());
    }
    let before = world.pairs[0].0.status(world.now).stream.counters.rounds;
    world.run(5_000);
    let rounds = world.pairs[0].0.status(world.now).stream.counters.rounds;
    assert_eq!(world.pairs[1].1.verified, [], "told once");
    assert!(rounds - before < 20, "not again with each heartbeat: {rounds} after {before}");
}

#[test]
fn b_17_what_is_not_the_partners_is_counted_and_has_no_effect() {
    let mut world = World::new();
    world.run(6_000);
    let sent: Vec<Vec<u8>> = {
        let (pair, node) = &mut world.pairs[0];
        pair.turn(world.now.after(Micros::from_millis(100)), node);
        node.out.drain(..).map(|(_, datagram)| datagram).collect()
    };
    let now = world.now;
    let (pair, node) = &mut world.pairs[1];
    let before = pair.state().clone();
    for datagram in &sent {
        for at in 0..datagram.len() {
            let mut flipped = datagram.clone();
            flipped[at] ^= 0x40;
            assert!(pair.handle(now, PathId(0), &mut flipped, node).is_err(), "byte {at}");
            let mut cut = datagram[..at].to_vec();
            assert!(pair.handle(now, PathId(0), &mut cut, node).is_err(), "cut at {at}");
        }
    }
    assert!(!sent.is_empty());
    assert_eq!(*pair.state(), before);
}
