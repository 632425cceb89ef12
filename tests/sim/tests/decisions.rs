//! The decisions behind the pair, each as the scenario that it answers.
//!
//! The checkers watch all along: one that forwards, never older over newer, nothing from the dead, nothing
//! local, no claim that is not true, install before attract; and each `finish` compares both tables.

mod common;

use common::{CRASH_A, CUT_SYNC, MEND_SYNC, START_A, became_active, cut, lost_since, mend, ms, pair, world};
use sim::{Fault, PathSetup, Quality, Setup};
use sync::datagram::Kind;
use sync::ids::Micros;
use sync::membership::{Cause, Command, OnActiveRestart, Role};

#[test]
fn decision_17_a_tuple_deleted_and_opened_again_while_the_partner_was_away_is_taken() {
    let mut setup = Setup::new(17);
    setup.load = sim::Load { flows: 30, ends: 400, rate: 4_000, ..setup.load };
    let mut world = pair(setup);
    world.fault(CUT_SYNC);
    world.run_until(world.now() + ms(200)).unwrap();
    assert!(world.ahead(0) > 10, "{}", world.describe());
    world.fault(MEND_SYNC);
    world.finish().unwrap();
}

#[test]
fn decision_18_terms_keep_the_parity_of_their_node_and_grow() {
    let mut world = pair(Setup::new(18));
    let mut last = world.status(0).unwrap().term;
    assert_eq!(last.get() % 2, 0);
    for round in 0..6 {
        let node = world.active().unwrap();
        // Readiness takes a round of heartbeats to be known.
        world.run_until(world.now() + ms(50)).unwrap();
        world.fault(Fault::Crash { node, disk: round % 2 == 1 });
        world.run_until(world.now() + ms(100)).unwrap();
        let heir = world.active().unwrap();
        let term = world.status(heir).unwrap().term;
        assert_eq!((heir, term.get() as usize % 2), (1 - node, 1 - node));
        assert!(term > last, "{term} after {last}");
        last = term;
        world.fault(Fault::Start { node });
        assert!(world.run_while(world.now() + ms(2_000), |world| !world.in_order()).unwrap());
        assert!(world.status(heir).unwrap().term >= last);
    }
    world.finish().unwrap();
}

#[test]
fn decision_18_data_of_a_term_that_is_over_is_refused() {
    let mut setup = Setup::new(180);
    setup.load.rate = 3_000;
    let mut world = pair(setup);
    let mut refused = 0;
    for _ in 0..6 {
        let node = world.active().unwrap();
        // What it sends before it freezes is still under way when the other one has taken over.
        let quality = Quality { delay_us: 1_000, reorder: 600, jitter_us: 5_000, ..Quality::CABLE };
        world.fault(Fault::Quality { path: 0, quality });
        world.run_until(world.now() + ms(50)).unwrap();
        world.fault(Fault::Freeze { node, us: ms(80) });
        world.run_until(world.now() + ms(60)).unwrap();
        world.fault(MEND_SYNC);
        refused += world.status(1 - node).unwrap().stream.counters.refused_late_term;
        assert!(world.run_while(world.now() + ms(2_000), |world| !world.in_order()).unwrap());
    }
    assert!(refused > 0, "nothing came late");
    world.finish().unwrap();
}

#[test]
fn decision_19_a_delayed_insert_after_its_delete_leaves_no_ghost() {
    for seed in 190..200 {
        let mut setup = Setup::new(seed);
        setup.load = sim::Load { flows: 40, ends: 450, rate: 8_000, ..setup.load };
        setup.stream.tombstones = 32;
        setup.paths[0].quality =
            Quality { delay_us: 300, jitter_us: 2_000, reorder: 300, duplicate: 200, ..Quality::CABLE };
        let mut world = pair(setup);
        world.run_until(world.now() + ms(300)).unwrap();
        let counters = world.status(1).unwrap().stream.counters;
        assert!(counters.refused_late > 0 && counters.older_refused + counters.buried > 0, "{counters:?}");
        world.finish().unwrap();
    }
}

#[test]
fn decision_20_deletes_that_find_no_room_are_found_all_the_same() {
    let mut setup = Setup::new(20);
    for size in &mut setup.sizes {
        size.ends = 1;
    }
    setup.load = sim::Load { ends: 400, rate: 8_000, ..setup.load };
    let mut world = pair(setup);
    world.fault(CUT_SYNC);
    world.run_until(world.now() + ms(150)).unwrap();
    world.fault(MEND_SYNC);
    world.run_until(world.now() + ms(100)).unwrap();
    assert!(world.status(0).unwrap().stream.counters.deletes_unknown > 0);
    world.finish().unwrap();
}

#[test]
fn decision_21_what_a_stuck_owner_has_not_applied_is_not_acknowledged() {
    let mut world = pair(Setup::new(21));
    // Short enough that the node stays fit.
    world.fault(Fault::Stick { node: 1, worker: 0, us: ms(25) });
    world.run_until(world.now() + ms(20)).unwrap();
    let status = world.status(0).unwrap();
    assert!(status.stream.unprotected >= world.ahead(0) && world.ahead(0) > 0, "{}", world.describe());
    world.fault(CRASH_A);
    world.run_until(world.now() + ms(200)).unwrap();
    assert_eq!(world.active(), Some(1));
    world.finish().unwrap();
}

#[test]
fn decision_21_what_the_partner_refuses_is_shown_and_clears_readiness() {
    let mut setup = Setup::new(210);
    setup.load.untakable = 200;
    let mut world = world(setup);
    world.run_until(ms(400)).unwrap();
    let status = world.status(0).unwrap();
    assert!(status.stream.refused[1] > 5, "{:?}", status.stream);
    assert!(!status.proven && status.stream.unprotected >= status.stream.refused[1]);
    assert_eq!(world.roles()[1], Some(Role::Syncing));
    world.fault(Fault::Command { node: 0, command: Command::Switchover });
    world.run_until(ms(500)).unwrap();
    assert_eq!((world.active(), world.told(0, "switchover_refused")), (Some(0), 1));
}

#[test]
fn decision_22_ports_used_again_under_nat_leave_no_two_sessions_with_one_key() {
    let mut displaced = 0;
    for seed in 220..230 {
        let mut setup = Setup::new(seed);
        setup.load = sim::Load { flows: 300, ends: 450, rate: 15_000, local: 0, ..setup.load };
        for size in &mut setup.sizes {
            *size = sim::tables::Size { slots: 512, ends: 256, ring: 256, ..*size };
        }
        setup.paths[0].quality = Quality { jitter_us: 3_000, reorder: 300, ..Quality::CABLE };
        let mut world = pair(setup);
        world.run_until(world.now() + ms(200)).unwrap();
        displaced += world.status(1).unwrap().stream.counters.displaced;
        world.finish().unwrap();
    }
    assert!(displaced > 0, "no insert overtook the delete of the session before");
}

#[test]
fn decision_24_what_is_not_mentioned_is_not_deleted() {
    let mut setup = Setup::new(24);
    setup.load.ends = 0;
    let mut world = pair(setup);
    let before = world.sessions(0);
    world.fault(CUT_SYNC);
    world.run_until(world.now() + ms(200)).unwrap();
    let (kept, opened) = (world.sessions(1), world.sessions(0));
    assert!(opened > before && kept >= before, "{before}, then {opened} and {kept}");
    world.fault(MEND_SYNC);
    world.finish().unwrap();
    assert!(world.sessions(1) >= opened, "{} of {opened}", world.sessions(1));
}

#[test]
fn decision_25_what_waits_for_an_absent_partner_is_bounded() {
    let mut setup = Setup::new(25);
    setup.load = sim::Load { rate: 20_000, ends: 300, flows: 400, ..setup.load };
    for size in &mut setup.sizes {
        size.slots = 512;
    }
    let mut world = pair(setup);
    world.fault(Fault::Crash { node: 1, disk: false });
    world.run_until(world.now() + ms(200)).unwrap();
    let sent = world.status(0).unwrap().stream.counters;
    for _ in 0..10 {
        world.run_until(world.now() + ms(300)).unwrap();
        let stream = world.status(0).unwrap().stream;
        // A mark for each session, and one for each bucket with deletes.
        assert!(stream.dirty <= 2 * 512 + 65_536 && stream.in_flight == 0, "{stream:?}");
        assert_eq!(stream.counters.datagrams_sent, sent.datagrams_sent, "nobody is there to take anything");
    }
    world.fault(Fault::Start { node: 1 });
    world.finish().unwrap();
}

#[test]
fn decision_29_the_handshake_takes_any_path() {
    let mut setup = Setup::new(29);
    setup.plan.push((0, Fault::Cut { path: 0, from: None, carrier: false }));
    let mut world = world(setup);
    world.run_until(ms(150)).unwrap();
    assert!([0, 1].iter().all(|&node| world.status(node).unwrap().partner_incarnation.is_some()));
    assert_eq!(world.active(), Some(0));
    world.fault(MEND_SYNC);
    world.finish().unwrap();
}

#[test]
fn decision_30_renewal_loses_nothing() {
    let mut setup = Setup::new(30);
    setup.keys.renew_every = Micros::from_millis(40);
    setup.keys.overlap = Micros::from_millis(15);
    setup.busy = 0;
    let mut world = pair(setup);
    let lost = |world: &sim::World, node| {
        let counters = world.status(node).unwrap().stream.counters;
        (counters.datagrams_lost, counters.passed)
    };
    // What overtook the heartbeat that began the term.
    let before = [0, 1].map(|node| lost(&world, node));
    world.run_until(ms(1_500)).unwrap();
    for node in [0, 1] {
        let status = world.status(node).unwrap();
        assert!(status.keys.unwrap().renewals > 20, "{:?}", status.keys);
        assert_eq!(lost(&world, node), before[node]);
    }
    world.finish().unwrap();
}

#[test]
fn decision_30_a_failed_renewal_does_not_look_like_death() {
    let mut setup = Setup::new(301);
    setup.keys.renew_every = Micros::from_millis(100);
    let mut world = pair(setup);
    world.fault(Fault::LoseKind(Some(Kind::Handshake)));
    world.run_until(ms(2_000)).unwrap();
    assert_eq!(
        (world.roles(), became_active(&world, 1)),
        ([Some(Role::Active), Some(Role::Standby)], vec![])
    );
    assert!(world.in_order(), "{}", world.describe());
    world.finish().unwrap();
    assert!(world.status(0).unwrap().keys.unwrap().renewals > 0);
}

#[test]
fn decision_31_replayed_heartbeats_do_not_keep_a_dead_node_alive() {
    let mut setup = Setup::new(31);
    setup.record = true;
    let mut world = pair(setup);
    world.run_until(world.now() + ms(300)).unwrap();
    // The checker wants the takeover in time, replay or not.
    world.fault(CRASH_A);
    world.fault(Fault::Replay { node: 0 });
    world.run_until(world.now() + ms(120)).unwrap();
    assert_eq!(became_active(&world, 1), [Cause::Silence]);
    world.fault(START_A);
    world.finish().unwrap();
}

#[test]
fn decision_32_workers_of_a_hung_sync_core_stop_before_the_other_node_begins() {
    for lasts in [15, 22, 28, 31, 35, 60, 500] {
        let mut world = pair(Setup::new(320 + lasts));
        world.run_until(world.now() + ms(100)).unwrap();
        world.fault(Fault::Hang { node: 0, us: ms(lasts) });
        world.run_until(world.now() + ms(lasts + 150)).unwrap();
        assert_eq!(world.longest_overlap(), 0);
        // The last heartbeat went out up to an interval before.
        let may = if lasts < 20 {
            [0, 0]
        } else if lasts > 32 {
            [1, 1]
        } else {
            [0, 1]
        };
        assert!(may.contains(&world.active().unwrap()), "{lasts} ms");
        world.finish().unwrap();
    }
}

#[test]
fn decision_32_a_stuck_worker_makes_its_node_unfit() {
    let mut world = pair(Setup::new(329));
    world.fault(Fault::Stick { node: 0, worker: 1, us: ms(400) });
    world.run_until(world.now() + ms(100)).unwrap();
    assert_eq!((world.active(), world.roles()[0]), (Some(1), Some(Role::Fault)));
    world.finish().unwrap();
}

#[test]
fn decision_33_a_ready_standby_takes_over_at_once_from_a_node_that_restarted() {
    let mut world = pair(Setup::new(33));
    world.run_until(world.now() + ms(100)).unwrap();
    let (begun, sessions) = (world.now(), world.sessions(0));
    world.fault(CRASH_A);
    world.run_until(begun + ms(2)).unwrap();
    world.fault(START_A);
    let took = world.run_while(begun + ms(25), |world| !world.forwards(1)).unwrap();
    assert!(took, "not before the dead time is over: {}", world.describe());
    assert_eq!(became_active(&world, 1), [Cause::PeerRestarted]);
    assert!(world.sessions(1) + 4 >= sessions);
    assert_eq!(became_active(&world, 0), [Cause::Vote], "the new incarnation is not active by memory");
    world.finish().unwrap();
}

#[test]
fn decision_33_purge_empties_the_mirror_of_a_node_that_restarted() {
    let mut setup = Setup::new(331);
    setup.membership.on_active_restart = OnActiveRestart::Purge;
    let mut world = pair(setup);
    world.run_until(world.now() + ms(100)).unwrap();
    world.fault(Fault::Load { rate: 0 });
    world.fault(CRASH_A);
    world.run_until(world.now() + ms(2)).unwrap();
    world.fault(START_A);
    assert!(world.run_while(world.now() + ms(500), |world| !world.forwards(0)).unwrap());
    assert!(world.sessions(1) < 10, "{}", world.describe());
    assert_eq!(became_active(&world, 1), []);
    world.finish().unwrap();
}

#[test]
fn decision_34_after_a_split_one_stays_within_a_bound() {
    for seed in 340..346 {
        let mut world = pair(Setup::new(seed));
        cut(&mut world, &[0, 1]);
        world.run_until(world.now() + ms(200)).unwrap();
        assert!(world.forwards(0) && world.forwards(1), "each for its side: {}", world.describe());
        mend(&mut world, &[0, 1]);
        let healed = world.now();
        assert!(world.run_while(healed + ms(40), |world| world.active().is_none()).unwrap());
        let told = |node| world.told(node, "conflict_both_peers_active");
        assert!(told(0) + told(1) > 0);
        world.finish().unwrap();
        assert!(world.longest_overlap() < ms(200 + 40));
    }
}

/// Both sides of a split have users; whoever gives in, what they did is in both tables afterwards. The
/// checker names what is missing.
#[test]
fn decision_35_what_users_did_on_either_side_of_a_split_survives() {
    let mut merged = [0; 2];
    for seed in 3_500..3_520 {
        let mut setup = Setup::new(seed);
        setup.load.rate = 4_000;
        setup.load.ends = 50;
        for size in &mut setup.sizes {
            size.slots = 256;
        }
        if seed % 2 == 0 {
            setup.paths[0].quality = Quality { loss: 50, reorder: 100, duplicate: 50, ..Quality::CABLE };
        }
        let mut world = pair(setup);
        world.run_until(world.now() + ms(100)).unwrap();
        cut(&mut world, &[0, 1]);
        world.run_until(world.now() + ms(150)).unwrap();
        assert!(world.forwards(0) && world.forwards(1), "{}", world.describe());
        mend(&mut world, &[0, 1]);
        assert!(world.run_while(world.now() + ms(3_000), |world| !world.in_order()).unwrap());
        world.check_merged().unwrap();
        merged = [merged[0] + world.merged()[0], merged[1] + world.merged()[1]];
        world.finish().unwrap();
    }
    assert!(merged[0] > 100 && merged[1] > 100, "{merged:?}");
}

/// The node that was active goes on from the cut until it notices, and may not have noticed for long when the
/// nodes meet again.
#[test]
fn decision_35_what_users_did_before_the_nodes_noticed_the_split_survives() {
    let mut merged = [0; 2];
    for seed in 35_000..35_040 {
        let mut setup = Setup::new(seed);
        setup.load.rate = 6_000;
        setup.load.ends = 50;
        for size in &mut setup.sizes {
            size.slots = 256;
        }
        let mut world = pair(setup);
        world.run_until(world.now() + ms(100) + 500 * (seed % 20)).unwrap();
        cut(&mut world, &[0, 1]);
        assert!(world.run_while(world.now() + ms(100), |world| !world.forwards(1)).unwrap());
        world.run_until(world.now() + 500 * (seed % 8)).unwrap();
        mend(&mut world, &[0, 1]);
        assert!(world.run_while(world.now() + ms(6_000), |world| !world.in_order()).unwrap());
        world.check_merged().unwrap();
        merged = [merged[0] + world.merged()[0], merged[1] + world.merged()[1]];
        world.finish().unwrap();
    }
    assert!(merged[0] > 100, "{merged:?}");
}

#[test]
fn decision_36_who_is_cut_off_itself_does_not_take_over() {
    let mut world = pair(Setup::new(36));
    world.fault(Fault::Isolate { node: 1, off: true });
    world.run_until(world.now() + ms(50)).unwrap();
    world.fault(CRASH_A);
    world.run_until(world.now() + ms(400)).unwrap();
    assert_eq!((became_active(&world, 1), world.told(1, "takeover_vetoed")), (vec![], 1));
    world.fault(Fault::Isolate { node: 1, off: false });
    world.run_until(world.now() + ms(50)).unwrap();
    assert_eq!(world.active(), Some(1), "able again, it does not wait for ever");
    world.finish().unwrap();
}

#[test]
fn decision_36_a_stale_mirror_takes_over_with_an_alarm() {
    let mut world = pair(Setup::new(361));
    world.fault(CUT_SYNC);
    world.run_until(world.now() + ms(100)).unwrap();
    assert_eq!(
        (world.active(), became_active(&world, 1)),
        (Some(0), vec![]),
        "the cable alone moves nothing"
    );
    world.fault(CRASH_A);
    world.run_until(world.now() + ms(100)).unwrap();
    assert_eq!((world.active(), world.told(1, "takeover_stale_mirror")), (Some(1), 1));
    world.finish().unwrap();
}

#[test]
fn decision_37_a_switchover_loses_no_packet() {
    for seed in 370..390 {
        let mut setup = Setup::new(seed);
        setup.load.steady_every_us = 100;
        let mut world = pair(setup);
        world.run_until(world.now() + ms(50)).unwrap();
        let before = world.packets();
        for round in 0..4 {
            let (from, asked) = (world.active().unwrap(), round % 2);
            world.fault(Fault::Command { node: asked, command: Command::Switchover });
            let moved = world.run_while(world.now() + ms(200), |world| !world.forwards(1 - from)).unwrap();
            assert!(moved, "{:?} {}", world.notices(from).last(), world.describe());
            assert!(world.run_while(world.now() + ms(500), |world| !world.in_order()).unwrap());
            world.run_until(world.now() + ms(30)).unwrap();
        }
        assert_eq!(lost_since(&world, before), 0, "{:?}", world.packets());
        assert_eq!(world.longest_overlap(), 0);
        assert_eq!([0, 1].map(|node| world.told(node, "conflict_both_peers_active")), [0, 0]);
        world.finish().unwrap();
    }
}

#[test]
fn decision_37_a_grant_that_nobody_uses_lapses_on_both_sides() {
    for at_us in (0..8_000).step_by(250) {
        let mut world = pair(Setup::new(3_700 + at_us));
        world.run_until(world.now() + ms(100)).unwrap();
        world.fault(Fault::Command { node: 0, command: Command::Switchover });
        world.run_until(world.now() + at_us).unwrap();
        // Wherever the handover is, the target does not answer for longer than the grant holds.
        world.fault(Fault::Freeze { node: 1, us: ms(70) });
        world.run_until(world.now() + ms(69)).unwrap();
        assert!(world.forwards(0) || at_us > 1_000, "{}", world.describe());
        world.finish().unwrap();
    }
}

#[test]
fn decision_37_a_crash_anywhere_in_a_switchover_leaves_one_that_forwards() {
    for at_us in (0..10_000).step_by(250) {
        for node in [0, 1] {
            let mut world = pair(Setup::new(37_000 + at_us));
            world.run_until(world.now() + ms(100)).unwrap();
            world.fault(Fault::Command { node: 0, command: Command::Switchover });
            world.run_until(world.now() + at_us).unwrap();
            world.fault(Fault::Crash { node, disk: false });
            // A giver that has just become standby may have to wait for the boot delay.
            let left = world.run_while(world.now() + ms(400), |world| !world.forwards(1 - node)).unwrap();
            assert!(left, "{at_us} us: {}", world.describe());
            world.finish().unwrap();
        }
    }
}

#[test]
fn decision_38_a_worker_that_does_not_confirm_delays_the_announcement_only_so_long() {
    let mut world = pair(Setup::new(38));
    world.run_until(world.now() + ms(100)).unwrap();
    // Too short to make the node unfit, long enough to hold the confirmation back.
    world.fault(CRASH_A);
    world.run_until(world.now() + ms(20)).unwrap();
    world.fault(Fault::Stick { node: 1, worker: 0, us: ms(29) });
    world.run_until(world.now() + ms(60)).unwrap();
    assert_eq!((world.active(), world.told(1, "announced_unconfirmed")), (Some(1), 1));
    world.fault(START_A);
    world.finish().unwrap();
}

#[test]
fn design_6_only_the_sync_link_moves_nothing() {
    let mut setup = Setup::new(6);
    setup.paths = vec![PathSetup::SYNC, PathSetup::SYNC, PathSetup::DATA];
    let mut world = pair(setup);
    world.run_until(world.now() + ms(100)).unwrap();
    let before = world.packets();
    for path in [0, 1] {
        world.fault(Fault::Cut { path, from: None, carrier: path == 0 });
    }
    world.run_until(world.now() + ms(1_000)).unwrap();
    assert_eq!((world.active(), became_active(&world, 1), lost_since(&world, before)), (Some(0), vec![], 0));
    mend(&mut world, &[0, 1]);
    world.finish().unwrap();
}
