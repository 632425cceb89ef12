//! Rows of the list of features, each as the scenario that shows it. What the checkers watch all along is in
//! [`sim::check`]; each `finish` compares both tables.

mod common;

use common::{CRASH_A, CUT_SYNC, MEND_SYNC, START_A, became_active, cut, lost_since, mend, ms, pair, world};
use sim::tables::Size;
use sim::{Fault, Load, PathSetup, Quality, Setup, World, quick_membership};
use sync::ids::Micros;
use sync::keys::Timing;
use sync::membership::{Cause, Command, Mirror, OnActiveRestart, Role};
use sync::stream::{Damage, Event, SentByKind};

const NEVER: Micros = Micros::from_secs(3_600);
const SWITCHOVER: Command = Command::Switchover;

/// Two sync links and a data network.
fn two_links(seed: u64) -> Setup {
    let mut setup = Setup::new(seed);
    setup.paths = vec![PathSetup::SYNC, PathSetup::SYNC, PathSetup::DATA];
    setup
}

/// Some thousand sessions, and users that mostly use them.
fn large(seed: u64) -> Setup {
    let mut setup = Setup::new(seed);
    setup.sizes = [Size { workers: 2, slots: 2_560, ring: 512, ends: 512 }; 2];
    setup.load = Load { rate: 40_000, flows: 4_000, ends: 20, local: 0, ..setup.load };
    setup
}

fn rest(world: &mut World, for_ms: u64) {
    let passed = world.run_until(world.now() + ms(for_ms));
    assert!(passed.is_ok(), "{passed:?}");
}

fn settle(world: &mut World, within_ms: u64) {
    let found = world.run_while(world.now() + ms(within_ms), |world| !world.in_order());
    assert!(found.is_ok_and(|found| found), "{}", world.describe());
}

fn sent(world: &World, node: usize) -> SentByKind {
    world.status(node).map(|status| status.stream.counters.sent).unwrap_or_default()
}

fn bytes_sent(world: &World, node: usize) -> u64 {
    world.status(node).map_or(0, |status| status.stream.counters.bytes_sent)
}

fn bulks(world: &World, node: usize) -> usize {
    world.stream_events(node).iter().filter(|(_, event)| matches!(event, Event::BulkBegan)).count()
}

fn unmoved(world: &World) {
    assert_eq!((world.active(), became_active(world, 1)), (Some(0), vec![]), "{}", world.describe());
}

#[test]
fn b16_sync_moves_to_the_next_path_and_back() {
    let mut setup = Setup::new(16);
    setup.paths = vec![PathSetup::SYNC, PathSetup { carries_sync: true, ..PathSetup::DATA }];
    let mut world = pair(setup);
    rest(&mut world, 100);
    assert!(world.carried(0) > 20 && world.carried(1) == 0);
    cut(&mut world, &[0]);
    rest(&mut world, 100);
    let before = world.carried(1);
    rest(&mut world, 100);
    assert!(world.carried(1) > before + 20 && world.status(0).unwrap().paths[1].in_use);
    settle(&mut world, 200);
    mend(&mut world, &[0]);
    rest(&mut world, 100);
    let before = [world.carried(0), world.carried(1)];
    rest(&mut world, 100);
    assert!(world.carried(0) > before[0] + 20 && world.carried(1) == before[1]);
    unmoved(&world);
    assert_eq!([0, 1].map(|node| world.told(node, "hasync_connection_failed_timeout")), [0, 0]);
    world.finish().unwrap();
}

#[test]
fn b22_a_session_is_there_a_round_trip_later() {
    let mut setup = Setup::new(22);
    setup.load.rate = 300;
    let mut world = pair(setup);
    let mut took = Vec::new();
    while took.len() < 200 {
        assert!(world.run_while(world.now() + ms(1_000), |world| world.ahead(0) == 0).unwrap());
        let began = world.now();
        assert!(world.run_while(began + ms(100), |world| world.ahead(0) > 0).unwrap());
        took.push(world.now() - began);
    }
    took.sort_unstable();
    // A worker's mark, the sync core's sleep, the cable, the owner: each some tens of microseconds.
    assert!(took[100] < 600 && took[198] < 3_000, "{took:?}");
    world.finish().unwrap();
}

#[test]
fn b23_what_is_lost_is_sent_again_and_keeps_to_its_rate() {
    let mut setup = large(23);
    setup.stream.resync_rate = 200;
    let mut world = pair(setup);
    let before = sent(&world, 0).lost.records;
    world.fault(Fault::Quality { path: 0, quality: Quality { loss: 200, ..Quality::CABLE } });
    rest(&mut world, 1_000);
    let again = sent(&world, 0).lost.records - before;
    assert!((150..=210).contains(&again), "{again}");
    assert!(world.status(0).unwrap().stream.counters.datagrams_lost > 20);
    world.fault(Fault::Load { rate: 300 });
    mend(&mut world, &[0]);
    // What waits is sent at the same rate.
    settle(&mut world, 30_000);
    world.finish().unwrap();
}

#[test]
fn b24_nothing_is_sent_to_an_absent_partner_and_nothing_piles_up() {
    let mut setup = large(24);
    setup.load.rate = 20_000;
    let mut world = pair(setup);
    world.fault(Fault::Crash { node: 1, disk: false });
    rest(&mut world, 200);
    let carried = world.carried(0) + world.carried(1);
    for _ in 0..5 {
        rest(&mut world, 400);
        let stream = world.status(0).unwrap().stream;
        // A mark for each slot, and one for each bucket in which something ended.
        assert!(stream.in_flight == 0 && stream.dirty <= 2 * 2_560 + 65_536, "{stream:?}");
    }
    assert_eq!(world.carried(0) + world.carried(1), carried);
    world.fault(Fault::Start { node: 1 });
    world.fault(Fault::Load { rate: 1_000 });
    world.finish().unwrap();
}

#[test]
fn b25_a_partner_that_slept_gets_the_changes_and_a_new_one_everything() {
    let mut world = pair(Setup::new(25));
    rest(&mut world, 100);
    let (before, records) = (bulks(&world, 0), sent(&world, 0).bulk.records);
    world.fault(Fault::Freeze { node: 1, us: ms(300) });
    rest(&mut world, 310);
    settle(&mut world, 1_000);
    assert_eq!((bulks(&world, 0), sent(&world, 0).bulk.records), (before, records));
    world.fault(Fault::Crash { node: 1, disk: false });
    rest(&mut world, 50);
    world.fault(Fault::Start { node: 1 });
    settle(&mut world, 1_000);
    assert_eq!(bulks(&world, 0), before + 1);
    assert!(sent(&world, 0).bulk.records >= records + 20);
    unmoved(&world);
    world.finish().unwrap();
}

#[test]
fn b26_what_an_active_node_forgot_in_a_restart_does_not_come_back() {
    let mut setup = Setup::new(26);
    setup.membership.on_active_restart = OnActiveRestart::Purge;
    let mut world = pair(setup);
    rest(&mut world, 100);
    let old = world.sessions(1);
    world.fault(Fault::Load { rate: 0 });
    world.fault(CRASH_A);
    rest(&mut world, 2);
    world.fault(START_A);
    assert!(world.run_while(world.now() + ms(500), |world| !world.forwards(0)).unwrap());
    // Only the steady users speak.
    settle(&mut world, 2_000);
    assert!(old > 30 && world.sessions(1) <= 8, "{old}, then {}", world.sessions(1));
    rest(&mut world, 50);
    world.fault(CRASH_A);
    assert!(world.run_while(world.now() + ms(100), |world| !world.forwards(1)).unwrap());
    assert!(world.sessions(1) <= 8);
    world.fault(START_A);
    world.fault(Fault::Load { rate: 2_000 });
    world.finish().unwrap();
}

#[test]
fn b27_a_takeover_begins_within_the_configured_time_a_hundred_times() {
    for round in 0..100 {
        let setup = Setup::new(2_700 + round);
        let (dead, interval) = (setup.dead(), setup.interval());
        let mut world = pair(setup);
        world.run_until(world.now() + ms(60) + round * interval / 100).unwrap();
        let killed = world.now();
        world.fault(CRASH_A);
        assert!(world.run_while(killed + ms(500), |world| !world.forwards(1)).unwrap());
        let took = world.now() - killed;
        // The last heartbeat went out up to an interval before.
        assert!((dead - interval..=dead + 5_000).contains(&took), "{took} us in round {round}");
        assert_eq!(became_active(&world, 1), [Cause::Silence]);
    }
}

#[test]
fn b28_a_slow_network_within_the_limit_moves_nothing() {
    let mut setup = Setup::new(28);
    setup.membership = quick_membership(2_000);
    // The limit: an echo that is older than the dead time gives no credit, and it is a round trip and an
    // interval old.
    setup.membership.misses = 4;
    setup.keys = Timing { renew_every: NEVER, ..Timing::default() };
    (setup.load.rate, setup.load.steady_every_us) = (10, 100_000);
    // What a round trip of four seconds has under way finds room in the rings.
    setup.sizes = [Size { ring: 4_096, ..setup.sizes[0] }; 2];
    setup.start_at = [0, 0];
    let mut world = world(setup);
    assert!(world.run_while(ms(200_000), |world| !world.in_order()).unwrap(), "{}", world.describe());
    rest(&mut world, 10_000);
    for path in [0, 1] {
        let quality = Quality { delay_us: 2_000_000, jitter_us: 300_000, ..Quality::CABLE };
        world.fault(Fault::Quality { path, quality });
    }
    let before = world.packets();
    rest(&mut world, 60_000);
    unmoved(&world);
    assert_eq!((lost_since(&world, before), world.longest_overlap()), (0, 0));
    // And the mirror follows, as far behind as the way is long.
    assert!(world.ahead(0) < 40, "{}", world.describe());
    world.finish().unwrap();
}

#[test]
fn n07_lost_sync_links_are_not_a_lost_partner() {
    let mut world = pair(two_links(7));
    rest(&mut world, 100);
    cut(&mut world, &[0, 1]);
    rest(&mut world, 200);
    for node in [0, 1] {
        let status = world.status(node).unwrap();
        assert_eq!(status.paths.iter().map(|path| path.alive).collect::<Vec<_>>(), [false, false, true]);
        assert!(status.partner.is_some() && world.told(node, "hasync_connection_failed_timeout") > 0);
        assert_eq!(world.told(node, "peer_gone"), 0);
    }
    mend(&mut world, &[0, 1]);
    rest(&mut world, 100);
    assert_eq!([0, 1].map(|node| world.told(node, "hasync_connection_restored")), [1, 1]);
    world.finish().unwrap();
}

#[test]
fn n08_a_minute_without_sync_moves_no_role_and_loses_no_packet() {
    let mut setup = two_links(8);
    setup.load.rate = 200;
    let mut world = pair(setup);
    rest(&mut world, 100);
    let before = world.packets();
    cut(&mut world, &[0, 1]);
    rest(&mut world, 60_000);
    unmoved(&world);
    let after = world.packets();
    assert!(after.sent - before.sent > 50_000);
    assert_eq!((lost_since(&world, before), world.longest_overlap()), (0, 0));
    mend(&mut world, &[0, 1]);
    world.finish().unwrap();
}

#[test]
fn n09_a_mirror_that_is_not_told_is_stale_and_says_since_when() {
    let mut world = pair(two_links(9));
    rest(&mut world, 100);
    cut(&mut world, &[0, 1]);
    rest(&mut world, 400);
    let (active, standby) = (world.status(0).unwrap(), world.status(1).unwrap());
    assert_eq!(standby.mirror, Mirror::Stale);
    let age = world.stale_for(1).unwrap();
    assert!((350..=400).contains(&age.as_millis()), "{age:?}");
    assert!(!active.proven && world.ahead(0) > 10 && active.stream.unprotected >= world.ahead(0));
    mend(&mut world, &[0, 1]);
    settle(&mut world, 1_000);
    assert_eq!((world.status(1).unwrap().mirror, world.stale_for(1)), (Mirror::Complete, None));
    world.finish().unwrap();
}

#[test]
fn n10_a_stale_standby_waits_for_the_death_of_the_active_node() {
    let mut world = pair(two_links(10));
    rest(&mut world, 100);
    cut(&mut world, &[0, 1]);
    rest(&mut world, 100);
    // A link of the active node fails too: it is worse, and nothing moves.
    world.fault(Fault::Fitness { node: 0, quality: 40 });
    rest(&mut world, 300);
    unmoved(&world);
    world.fault(CRASH_A);
    rest(&mut world, 100);
    assert_eq!((became_active(&world, 1), world.told(1, "takeover_stale_mirror")), (vec![Cause::Silence], 1));
    world.finish().unwrap();
}

#[test]
fn n11_the_event_of_lost_sync_comes_in_time_and_again_at_its_rate() {
    let setup = two_links(11);
    let (dead, every) = (setup.dead(), setup.membership.alarm_every.0);
    let mut world = pair(setup);
    rest(&mut world, 100);
    cut(&mut world, &[0, 1]);
    let began = world.now();
    world.run_until(began + 5 * every).unwrap();
    for node in [0, 1] {
        let lost = |id: &str| id == "hasync_connection_failed_timeout";
        let told = world.notices(node).iter().filter(|(_, notice)| lost(notice.id()));
        let at: Vec<u64> = told.map(|(at, _)| at - began).collect();
        assert!(at.len() == 5 && at[0] <= dead + 20_000, "{at:?}");
        let apart = at.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.into_iter().all(|apart| (every..=every + 12_000).contains(&apart)), "{at:?}");
    }
    mend(&mut world, &[0, 1]);
    world.finish().unwrap();
}

#[test]
fn n18_resync_by_hand_needs_no_restart() {
    let mut setup = Setup::new(18);
    // The slow look at memory would not find it for a while.
    setup.stream.scrub_pass = Micros::from_secs(6);
    setup.load.steady = 0;
    let mut world = pair(setup);
    rest(&mut world, 100);
    world.fault(Fault::Load { rate: 0 });
    rest(&mut world, 50);
    world.fault(Fault::Damage { node: 1, kind: 1 });
    rest(&mut world, 1);
    assert_eq!(world.ahead(0), 1, "{}", world.describe());
    let before = bulks(&world, 0);
    world.fault(Fault::Resync { node: 0 });
    rest(&mut world, 50);
    assert_eq!((world.ahead(0), bulks(&world, 0)), (0, before + 1));
    settle(&mut world, 15_000);
    world.check_equal().unwrap();
    unmoved(&world);
}

#[test]
fn n22_the_role_moves_only_to_a_node_that_is_in_sync() {
    let mut setup = large(220);
    setup.start_at = [0, ms(400)];
    setup.membership.preempt = true;
    let mut world = world(setup);
    assert!(world.run_while(ms(2_000), |world| world.roles()[1] != Some(Role::Syncing)).unwrap());
    world.fault(Fault::Command { node: 0, command: SWITCHOVER });
    rest(&mut world, 5);
    assert_eq!((world.active(), world.told(0, "switchover_refused")), (Some(0), 1));
    settle(&mut world, 2_000);
    rest(&mut world, 50);
    world.fault(Fault::Command { node: 0, command: SWITCHOVER });
    assert!(world.run_while(world.now() + ms(200), |world| !world.forwards(1)).unwrap());
    world.finish().unwrap();
}

#[test]
fn n23_the_preferred_node_and_the_active_node_are_two_things() {
    for preempt in [false, true] {
        let mut setup = Setup::new(230);
        setup.membership.preempt = preempt;
        let mut world = pair(setup);
        rest(&mut world, 100);
        world.fault(CRASH_A);
        rest(&mut world, 100);
        world.fault(START_A);
        rest(&mut world, 2_000);
        let preferred = [0, 1].map(|node| world.status(node).unwrap().preferred);
        let back = usize::from(!preempt);
        assert_eq!((preferred, world.active()), ([true, false], Some(back)), "{}", world.describe());
        world.finish().unwrap();
    }
}

#[test]
fn x03_damage_is_named_within_two_seconds_and_repaired() {
    let named = [Damage::Changed, Damage::Dropped, Damage::Added];
    for (kind, expected) in (0..).zip(named) {
        // Courses in which the session that is hit is not told or ended anew before the scrubber comes by.
        let mut setup = Setup::new(1_003 + u64::from(kind));
        setup.stream = Setup::as_installed(1).stream;
        let mut world = pair(setup);
        rest(&mut world, 100);
        world.fault(Fault::Load { rate: 0 });
        // Until the scrubber has seen everything once as it is.
        rest(&mut world, 1_700);
        world.check_equal().unwrap();
        world.fault(Fault::Damage { node: 1, kind });
        assert!(world.check_equal().is_err());
        let began = world.now();
        while world.check_equal().is_err() {
            rest(&mut world, 5);
            assert!(world.now() <= began + ms(2_000), "{expected:?}");
        }
        let told = world.stream_events(1).iter().filter_map(|(_, event)| match event {
            Event::Corrupt { damage, .. } => Some(*damage),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [expected]);
        settle(&mut world, 500);
        world.finish().unwrap();
    }
}

#[test]
fn x04_an_outage_costs_only_what_changed() {
    let mut setup = large(40);
    setup.start_at = [0, ms(600)];
    let mut world = pair(setup);
    let bulk = bytes_sent(&world, 0);
    let sessions = world.sessions(0);
    assert!(sessions > 3_000, "{sessions}");
    world.fault(Fault::Load { rate: 600 });
    // Until those that live for a moment only have ended.
    rest(&mut world, 1_000);
    world.fault(CUT_SYNC);
    let (before, records) = (bytes_sent(&world, 0), sent(&world, 0));
    rest(&mut world, 100);
    world.fault(Fault::Load { rate: 0 });
    rest(&mut world, 100);
    let changed = u64::from(world.ahead(0) + world.ahead(1));
    assert!((10..100).contains(&changed), "{changed}");
    world.fault(MEND_SYNC);
    rest(&mut world, 1);
    settle(&mut world, 1_000);
    world.check_equal().unwrap();
    let after = sent(&world, 0);
    let again = after.refresh.records + after.new.records + after.repair.records + after.lost.records
        - (records.refresh.records + records.new.records + records.repair.records + records.lost.records);
    assert!(again <= changed + 8 && after.bulk == records.bulk, "{again} sessions for {changed}");
    // Most of it is the proof, which costs the same for a table of any size.
    let moved = bytes_sent(&world, 0) - before;
    assert!(moved < bulk / 15, "{moved} of {bulk} bytes");
}

#[test]
fn x05_a_bulk_goes_on_after_a_cut_and_disturbs_nobody() {
    let mut setup = large(50);
    setup.start_at = [0, ms(600)];
    let mut world = world(setup);
    let copying = |world: &World| world.status(0).and_then(|status| status.stream.bulk);
    let half = |world: &World| copying(world).is_some_and(|(done, all)| done > all / 2);
    assert!(world.run_while(ms(2_000), |world| !half(world)).unwrap());
    let before = world.packets();
    let (done, _) = copying(&world).unwrap();
    world.fault(CUT_SYNC);
    rest(&mut world, 300);
    assert!(
        copying(&world).is_some_and(|(at, _)| at >= done),
        "it begins where it was: {:?}",
        copying(&world)
    );
    world.fault(MEND_SYNC);
    settle(&mut world, 1_000);
    let records = sent(&world, 0).bulk.records;
    assert!(records <= world.sessions(0) as u64 + 200, "{records} for {} sessions", world.sessions(0));
    assert_eq!((lost_since(&world, before), bulks(&world, 0)), (0, 1));
    world.fault(Fault::Load { rate: 2_000 });
    world.finish().unwrap();
}

#[test]
fn x08_a_smaller_link_is_found_and_the_datagrams_fit() {
    for (seed, one_way) in [(80, false), (81, true)] {
        let mut setup = Setup::new(seed);
        setup.paths[0].quality.mtu = if one_way { 1_472 } else { 1_300 };
        let mut world = world(setup);
        settle(&mut world, 2_000);
        if one_way {
            // It shrinks while it lives: heartbeats pass, full datagrams would not.
            let quality = Quality { mtu: 1_300, ..Quality::CABLE };
            world.fault(Fault::Quality { path: 0, quality });
        }
        let sizes = |world: &World| [0, 1].map(|node| world.status(node).and_then(|it| it.paths[0].size));
        let fits = |world: &World| sizes(world) == [Some(1_232); 2];
        let until = world.now() + ms(10_000);
        assert!(world.run_while(until, |world| !fits(world)).unwrap(), "{:?}", sizes(&world));
        settle(&mut world, 1_000);
        assert!(world.in_order(), "{}", world.describe());
        unmoved(&world);
    }
}

#[test]
fn x10_a_node_that_was_stopped_knows_it() {
    let mut world = pair(Setup::as_installed(100));
    rest(&mut world, 3_000);
    world.fault(Fault::Freeze { node: 0, us: ms(5_000) });
    rest(&mut world, 4_999);
    assert_eq!(world.active(), Some(1));
    for _ in 0..3_000 {
        rest(&mut world, 1);
        assert_eq!(world.active(), Some(1), "{}", world.describe());
    }
    assert_eq!((world.longest_overlap(), world.told(0, "own_stall")), (0, 1));
    world.finish().unwrap();
}

#[test]
fn x16_a_switchover_under_load_is_not_refused_by_chance_and_loses_nothing() {
    for seed in 160..166 {
        let mut setup = Setup::new(seed);
        setup.load.steady_every_us = 200;
        setup.busy = 50;
        let mut world = pair(setup);
        rest(&mut world, 50);
        let before = world.packets();
        for _ in 0..5 {
            let from = world.active().unwrap();
            world.fault(Fault::Command { node: from, command: SWITCHOVER });
            let moved = world.run_while(world.now() + ms(200), |world| !world.forwards(1 - from)).unwrap();
            assert!(moved, "{:?} {}", world.notices(from).last(), world.describe());
            settle(&mut world, 1_000);
            rest(&mut world, 50);
        }
        assert_eq!((lost_since(&world, before), world.longest_overlap()), (0, 0), "{:?}", world.packets());
        // And it is refused to a partner that does not hold everything.
        let from = world.active().unwrap();
        world.fault(CUT_SYNC);
        rest(&mut world, 60);
        world.fault(Fault::Command { node: from, command: SWITCHOVER });
        rest(&mut world, 100);
        assert_eq!((world.active(), world.told(from, "switchover_refused")), (Some(from), 1));
        world.finish().unwrap();
    }
}

#[test]
fn x19_the_nodes_need_not_have_as_many_workers() {
    for (seed, workers) in [(190, [1, 3]), (191, [4, 1])] {
        let mut setup = Setup::new(seed);
        for (size, workers) in setup.sizes.iter_mut().zip(workers) {
            *size = Size { workers, slots: 320 / workers, ring: 64, ends: 64 };
        }
        let mut world = pair(setup);
        for _ in 0..2 {
            let from = world.active().unwrap();
            rest(&mut world, 100);
            let sessions = world.sessions(from);
            world.fault(Fault::Crash { node: from, disk: false });
            rest(&mut world, 100);
            assert_eq!(world.active(), Some(1 - from));
            assert!(sessions > 20 && world.sessions(1 - from) + 8 > sessions, "{}", world.describe());
            world.fault(Fault::Start { node: from });
            settle(&mut world, 2_000);
        }
        world.finish().unwrap();
    }
}
