//! Start, death, cut, stall, restart, split.

use super::super::*;
use super::pair::{A, B, DATA, Pair, SYNC};
use crate::heartbeat::{Areas, Difference};
use crate::ids::Term;

use Role::{Active, Fault, Init, Isolated, Recovering, Standby, Syncing};

#[test]
fn a_node_alone_becomes_active_after_the_boot_delay() {
    let mut pair = Pair::new(|_| {});
    pair.start(A);
    pair.run(2_990);
    assert_eq!(pair.role(A), Some(Init));
    pair.run(20);
    assert_eq!(pair.changes(A), [(Init, Active, Cause::BootDelay)]);
    assert!(pair.forwards(A));
    assert_eq!(pair.state(A).role_word().deadline, crate::ids::Micros::NEVER);
}

#[test]
fn two_that_start_together_agree_on_the_preferred_one_without_waiting() {
    let mut pair = Pair::new(|_| {});
    pair.start(A);
    pair.start(B);
    pair.run(300);
    assert_eq!(pair.roles(), (Active, Syncing));
    assert_eq!(pair.changes(A), [(Init, Active, Cause::Vote)]);
    assert_eq!(pair.terms(), (2, 2));
    assert_eq!(pair.overlaps, []);
}

#[test]
fn b_27_a_silent_active_is_replaced_after_the_dead_time() {
    let mut pair = Pair::at_work();
    pair.kill(A);
    let gap = pair.until_forwards(B, 400);
    assert!((200..=301).contains(&gap), "took over after {gap} ms");
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::Silence)]);
    assert_eq!(pair.state(B).term(), Term::new(3).unwrap());
    assert_eq!(pair.notices(B), ["peer_gone"]);
}

#[test]
fn decision_38_installs_before_it_attracts() {
    let mut pair = Pair::at_work();
    pair.kill(A);
    pair.until_forwards(B, 400);
    pair.run(30);
    let order: Vec<&Effect> = pair.nodes[B]
        .effects
        .iter()
        .map(|(_, effect)| effect)
        .filter(|effect| matches!(effect, Effect::Install(_) | Effect::Attract))
        .collect();
    assert_eq!(order, [&Effect::Install(Term::new(3).unwrap()), &Effect::Attract]);
}

#[test]
fn decision_38_announces_after_20_ms_without_confirmation_and_says_so() {
    let mut pair = Pair::at_work();
    pair.nodes[B].deaf_workers = true;
    pair.kill(A);
    pair.until_forwards(B, 400);
    pair.run(15);
    assert_eq!(pair.did(B, &Effect::Attract), 0);
    pair.run(10);
    assert_eq!(pair.did(B, &Effect::Attract), 1);
    assert_eq!(pair.notices(B), ["peer_gone", "announced_unconfirmed"]);
}

#[test]
fn s_27_the_active_announces_periodically_and_the_standby_never() {
    let mut pair = Pair::at_work();
    pair.run(30_000);
    assert_eq!(pair.did(A, &Effect::Announce), 3);
    assert_eq!(pair.did(B, &Effect::Announce) + pair.did(B, &Effect::Attract), 0);
}

#[test]
fn n_08_only_the_sync_link_down_changes_no_role_and_makes_the_mirror_stale() {
    let mut pair = Pair::at_work();
    pair.cut[SYNC] = [true; 2];
    pair.run(59_000);
    assert_eq!(pair.roles(), (Active, Standby));
    assert_eq!(pair.changes(A).len() + pair.changes(B).len(), 0);
    assert_eq!(pair.notices(A), ["hasync_connection_failed_timeout"]);
    assert_eq!(pair.notices(B), ["hasync_connection_failed_timeout"]);
    assert_eq!(pair.state(B).mirror(), Mirror::Stale);
    // N-11: repeated at the set rate.
    pair.run(3_000);
    assert_eq!(pair.notices(A).len(), 2);
    pair.cut[SYNC] = [false; 2];
    pair.run(500);
    assert_eq!(pair.notices(B).last(), Some(&"hasync_connection_restored"));
    pair.sync(B);
    assert_eq!(pair.state(B).mirror(), Mirror::Complete);
}

#[test]
fn n_10_a_stale_standby_takes_over_from_a_proven_dead_active_with_an_alarm() {
    let mut pair = Pair::at_work();
    pair.cut[SYNC] = [true; 2];
    pair.run(5_000);
    pair.clear();
    pair.kill(A);
    pair.until_forwards(B, 301);
    assert_eq!(pair.notices(B), ["peer_gone", "takeover_stale_mirror"]);
}

#[test]
fn n_10_a_sync_link_that_dies_just_before_the_active_makes_the_mirror_stale() {
    let mut pair = Pair::at_work();
    pair.cut[SYNC] = [true; 2];
    pair.run(250);
    pair.kill(A);
    pair.until_forwards(B, 301);
    assert!(pair.notices(B).contains(&"takeover_stale_mirror"), "{:?}", pair.notices(B));
}

#[test]
fn b_16_one_data_path_down_changes_nothing() {
    let mut pair = Pair::at_work();
    pair.cut[DATA] = [true; 2];
    pair.run(5_000);
    assert_eq!(pair.roles(), (Active, Standby));
    assert_eq!(pair.notices(B), [""; 0]);
}

#[test]
fn decision_36_a_standby_that_is_itself_cut_off_does_not_take_over() {
    let mut pair = Pair::at_work();
    pair.fitness(B, |fitness| fitness.forwarding = Forwarding::Isolated);
    pair.kill(A);
    pair.run(10_000);
    assert_eq!(pair.role(B), Some(Isolated));
    assert_eq!(pair.notices(B), ["peer_gone", "takeover_vetoed"]);
    // Once it is not any more, it does.
    pair.fitness(B, |fitness| fitness.forwarding = Forwarding::Able);
    pair.run(1);
    assert_eq!(pair.changes(B).last().unwrap().1, Active);
}

#[test]
fn x_12_an_invalid_configuration_is_always_a_veto() {
    let mut pair = Pair::at_work();
    pair.fitness(B, |fitness| fitness.config_valid = false);
    pair.kill(A);
    pair.run(10_000);
    assert_eq!(pair.role(B), Some(Standby));
    assert_eq!(pair.notices(B), ["peer_gone", "takeover_vetoed"]);
}

#[test]
fn decision_36_an_incomplete_standby_takes_over_from_a_dead_active_if_it_may() {
    for may in [true, false] {
        let mut pair = Pair::at_work_with(|config| config.takeover_incomplete = may);
        pair.event(B, Event::Mirror(Mirror::Partial));
        pair.run(300);
        assert_eq!(pair.roles(), (Active, Syncing));
        pair.clear();
        pair.kill(A);
        pair.run(10_000);
        if may {
            assert_eq!(pair.changes(B), [(Syncing, Active, Cause::Silence)]);
            assert_eq!(pair.notices(B), ["peer_gone", "takeover_incomplete_mirror"]);
        } else {
            assert_eq!(pair.role(B), Some(Syncing));
            assert_eq!(pair.notices(B), ["peer_gone", "takeover_vetoed"]);
        }
    }
}

#[test]
fn an_active_that_cannot_forward_makes_room_at_once() {
    let mut pair = Pair::at_work();
    pair.fitness(A, |fitness| fitness.forwarding = Forwarding::Isolated);
    pair.run(2);
    assert_eq!(pair.roles(), (Isolated, Active));
    assert_eq!(pair.changes(A), [(Active, Isolated, Cause::Unfit)]);
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::Vote)]);
    assert_eq!(pair.overlaps, []);
}

#[test]
fn when_neither_can_forward_the_active_stays() {
    let mut pair = Pair::at_work();
    pair.fitness(B, |fitness| fitness.forwarding = Forwarding::Isolated);
    pair.run(10);
    pair.fitness(A, |fitness| fitness.forwarding = Forwarding::Fault);
    pair.run(1_000);
    assert_eq!(pair.roles(), (Active, Isolated));
}

#[test]
fn decision_32_a_stuck_worker_moves_the_role() {
    let mut pair = Pair::at_work();
    pair.fitness(A, |fitness| fitness.forwarding = Forwarding::Fault);
    pair.run(2);
    assert_eq!(pair.roles(), (Fault, Active));
}

#[test]
fn decision_32_the_workers_of_a_stalled_node_stop_before_the_standby_starts() {
    let mut pair = Pair::at_work();
    pair.nodes[A].stalled = true;
    let mut stopped = 0;
    while !pair.forwards(B) {
        pair.run(1);
        stopped += u64::from(!pair.forwards(A));
    }
    assert!(stopped >= 5, "A stopped {stopped} ms before B started");
    assert_eq!(pair.overlaps, []);
}

#[test]
fn x_10_a_node_that_was_stalled_steps_down_and_does_not_claim_the_role() {
    let mut pair = Pair::at_work();
    pair.nodes[A].stalled = true;
    pair.run(5_000);
    assert!(pair.forwards(B));
    pair.nodes[A].stalled = false;
    pair.run(1_000);
    assert_eq!(pair.roles(), (Syncing, Active));
    assert_eq!(pair.notices(A)[..2], ["own_stall", "lease_expired"]);
    assert_eq!(pair.changes(A), [(Active, Syncing, Cause::Outlived)]);
    assert_eq!(pair.overlaps, []);
}

#[test]
fn decision_11_a_stalled_standby_drains_and_waits_before_it_judges() {
    let mut pair = Pair::at_work();
    pair.nodes[B].stalled = true;
    pair.run(5_000);
    pair.nodes[B].stalled = false;
    pair.run(2_000);
    assert_eq!(pair.roles(), (Active, Standby));
    assert_eq!(pair.changes(B), []);
}

#[test]
fn a_short_stall_costs_nothing() {
    let mut pair = Pair::at_work();
    for node in [A, B] {
        pair.nodes[node].stalled = true;
        pair.run(150);
        pair.nodes[node].stalled = false;
        pair.run(500);
    }
    assert_eq!(pair.roles(), (Active, Standby));
    assert_eq!(pair.changes(A).len() + pair.changes(B).len(), 0);
}

#[test]
fn decision_32_the_lease_is_infinite_only_without_a_ready_partner() {
    let mut pair = Pair::at_work();
    let deadline = |pair: &Pair| pair.state(A).role_word().deadline;
    assert_ne!(deadline(&pair), crate::ids::Micros::NEVER);
    pair.kill(B);
    pair.run(5_000);
    assert_ne!(deadline(&pair), crate::ids::Micros::NEVER);
    assert!(pair.forwards(A));
    // Long gone: nobody counts on it any more.
    pair.run(30_000);
    assert_eq!(deadline(&pair), crate::ids::Micros::NEVER);
    assert_eq!(pair.changes(A), []);
}

#[test]
fn decision_33_reclaim_a_ready_standby_takes_over_from_a_restarted_active_at_once() {
    let mut pair = Pair::at_work();
    pair.kill(A);
    pair.run(20);
    pair.start(A);
    assert!(pair.forwards(B));
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::PeerRestarted)]);
    pair.run(500);
    assert_eq!(pair.roles(), (Syncing, Active));
    assert_eq!(pair.overlaps, []);
}

#[test]
fn decision_33_reclaim_an_unfit_standby_gives_the_mirror_back() {
    let mut pair = Pair::at_work();
    pair.fitness(B, |fitness| fitness.config_valid = false);
    pair.run(200);
    pair.kill(A);
    pair.run(20);
    pair.start(A);
    assert_eq!(pair.did(B, &Effect::OfferMirror), 1);
    pair.run(300);
    assert_eq!(pair.role(A), Some(Recovering));
    assert_eq!(pair.did(A, &Effect::RequestMirror), 1);
    assert!(!pair.forwards(A));
    pair.event(A, Event::Mirror(Mirror::Complete));
    pair.run(150);
    assert_eq!(pair.roles(), (Active, Standby));
    assert!(pair.forwards(A));
}

#[test]
fn decision_33_recovering_lasts_a_second_at_most() {
    let mut pair = Pair::at_work();
    pair.fitness(B, |fitness| fitness.config_valid = false);
    pair.run(200);
    pair.kill(A);
    pair.run(20);
    pair.start(A);
    let waited = pair.until_forwards(A, 1_500);
    assert!((1_000..1_350).contains(&waited), "{waited} ms");
}

#[test]
fn b_26_purge_empties_the_mirror_and_leaves_the_role_to_the_restarted_node() {
    let mut pair = Pair::at_work_with(|config| config.on_active_restart = OnActiveRestart::Purge);
    pair.kill(A);
    pair.run(20);
    pair.start(A);
    assert_eq!(pair.did(B, &Effect::DiscardMirror), 1);
    assert_eq!(pair.state(B).mirror(), Mirror::None);
    pair.run(500);
    assert_eq!(pair.roles(), (Active, Syncing));
    assert_eq!(pair.changes(B), [(Standby, Syncing, Cause::Followed)]);
    // And back to the rules: it takes over when A dies for good.
    pair.kill(A);
    pair.until_forwards(B, 400);
}

#[test]
fn decision_33_a_new_incarnation_is_never_active_by_memory() {
    let mut pair = Pair::at_work();
    pair.kill(A);
    pair.kill(B);
    pair.start(A);
    pair.run(2_900);
    assert_eq!(pair.role(A), Some(Init));
    assert!(!pair.forwards(A));
    // Its term is above everything that it claimed before.
    pair.run(200);
    assert!(pair.state(A).term() > Term::new(2).unwrap());
}

#[test]
fn decision_31_a_heartbeat_of_an_unconfirmed_incarnation_changes_nothing() {
    let mut pair = Pair::at_work();
    let mut beat = pair.state(A).beat(crate::ids::PathId(0), crate::ids::Micros(1)).unwrap();
    beat.said.incarnation = crate::ids::Incarnation(666);
    beat.said.number = u64::MAX;
    beat.claim.seen = Term::MAX;
    let before = pair.state(B).clone();
    pair.event(B, Event::Heard { path: crate::ids::PathId(0), beat, differs: None });
    assert_eq!(pair.state(B), &before);
}

#[test]
fn decision_34_a_split_ends_with_one_active_the_one_with_the_users() {
    for (activity, winner) in [((10, 41), B), ((41, 10), A), ((40, 10), B), ((0, 0), B)] {
        let mut pair = Pair::at_work();
        pair.cut_all(true);
        pair.run(5_000);
        assert_eq!(pair.roles(), (Active, Active));
        pair.fitness(A, |fitness| fitness.activity = activity.0);
        pair.fitness(B, |fitness| fitness.activity = activity.1);
        pair.clear();
        pair.cut_all(false);
        pair.run(250);
        // With equal numbers the higher term stays: B's.
        let loser = 1 - winner;
        assert_eq!(pair.role(winner), Some(Active), "{activity:?}");
        assert_eq!(pair.role(loser), Some(Syncing), "{activity:?}");
        assert!(pair.notices(winner).contains(&"conflict_both_peers_active"));
        assert_eq!(pair.did(loser, &Effect::OfferMerge), 1);
        assert_eq!(pair.did(winner, &Effect::AcceptMerge), 1);
        assert_eq!(pair.did(winner, &Effect::Attract), 1, "X-11: the winner announces again");
        assert!(!pair.forwards(loser));
        // Both are in one term again, above every one that was claimed.
        let (a, b) = pair.terms();
        assert_eq!(a, b);
        assert!(a >= 3);
    }
}

#[test]
fn decision_18_a_standby_of_another_lineage_discards_its_mirror() {
    let mut pair = Pair::at_work();
    let mut beat = pair.state(A).beat(crate::ids::PathId(0), crate::ids::Micros(1)).unwrap();
    beat.said.number += 1;
    beat.claim.term = Term::ZERO;
    pair.event(B, Event::Heard { path: crate::ids::PathId(0), beat, differs: None });
    assert_eq!(pair.did(B, &Effect::DiscardMirror), 1);
    assert!(pair.notices(B).contains(&"mirror_other_lineage"));
}

#[test]
fn decision_35_the_loser_of_a_contest_keeps_what_it_has_from_a_higher_term() {
    let mut pair = Pair::at_work();
    // B was active in a term that A never heard of, and lost.
    pair.cut_all(true);
    pair.run(1_000);
    pair.fitness(A, |fitness| fitness.activity = 1_000);
    pair.cut_all(false);
    pair.run(300);
    assert_eq!(pair.roles(), (Active, Syncing));
    assert_eq!(pair.terms(), (4, 4));
    assert_eq!((pair.did(B, &Effect::DiscardMirror), pair.did(B, &Effect::OfferMerge)), (0, 1));
}

#[test]
fn decision_18_terms_are_reserved_in_advance_and_never_used_twice() {
    let mut pair = Pair::at_work();
    assert!(pair.nodes[A].disk > pair.state(A).term());
    let mut claimed = vec![pair.state(A).term()];
    for _ in 0..5 {
        let (active, other) = if pair.role(A) == Some(Active) { (A, B) } else { (B, A) };
        pair.kill(active);
        pair.until_forwards(other, 4_000);
        claimed.push(pair.state(other).term());
        pair.start(active);
        pair.run(500);
        pair.sync(active);
        pair.run(300);
    }
    assert!(claimed.windows(2).all(|pair| pair[0] < pair[1]), "{claimed:?}");
}

#[test]
fn a_term_that_could_not_be_written_down_is_an_alarm_not_an_outage() {
    let mut pair = Pair::at_work();
    let mut state = pair.state(B).clone();
    state.persisted = Term::ZERO;
    pair.nodes[B].state = Some(state);
    pair.kill(A);
    pair.until_forwards(B, 400);
    assert!(pair.notices(B).contains(&"term_not_persisted"));
}

#[test]
fn a_vote_that_is_faster_than_the_disk_is_no_alarm() {
    let mut pair = Pair::new(|_| {});
    pair.nodes[A].disk_hangs = true;
    pair.start(A);
    pair.start(B);
    pair.run(500);
    assert_eq!(pair.role(A), Some(Active));
    assert!(!pair.notices(A).contains(&"term_not_persisted"));
    // Who takes over later in a term that is still not written says so.
    pair.kill(B);
    pair.nodes[B].disk_hangs = true;
    pair.start(B);
    pair.run(500);
    pair.sync(B);
    pair.run(500);
    pair.kill(A);
    pair.until_forwards(B, 400);
    assert!(pair.notices(B).contains(&"term_not_persisted"));
}

#[test]
fn a_one_way_cut_of_one_path_is_noticed_on_both_sides() {
    let mut pair = Pair::at_work();
    pair.cut[SYNC][A] = true;
    pair.run(1_000);
    assert!(!pair.state(A).paths()[SYNC].alive());
    assert!(!pair.state(B).paths()[SYNC].alive());
    assert_eq!(pair.roles(), (Active, Standby));
}

/// A cable pulled soon after both nodes came up must not black-hole traffic for the hold-down.
#[test]
fn s_18_the_first_role_is_not_held_down() {
    let mut pair = Pair::at_work();
    pair.fitness(A, |fitness| fitness.quality = 63);
    pair.run(2_000);
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::Grant)]);
}

#[test]
fn s_18_better_quality_moves_the_role_once_and_flapping_is_bounded() {
    let mut pair = Pair::at_work();
    pair.run(10_000);
    pair.fitness(A, |fitness| fitness.quality = 63);
    pair.run(2_000);
    assert_eq!(pair.roles(), (Standby, Active));
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::Grant)]);
    pair.clear();
    let mut last_swap_s = 0;
    for second in 0..180 {
        pair.sync(A);
        pair.sync(B);
        pair.fitness(B, |fitness| fitness.quality = if second % 2 == 0 { 40 } else { 100 });
        let role = pair.role(A);
        pair.run(1_000);
        last_swap_s = if pair.role(A) == role { last_swap_s } else { second };
    }
    // Each node may be activated four times in the window: then it is quiet.
    let swaps = pair.changes(A).len() / 2 + pair.changes(B).len() / 2;
    assert!((1..=8).contains(&swaps), "{swaps} swaps");
    assert!(last_swap_s < 100, "still swapping after {last_swap_s} s");
    assert_eq!(pair.overlaps, []);
}

#[test]
fn n_23_the_preferred_node_returns_only_if_told_to_and_only_in_sync() {
    for preempt in [false, true] {
        let mut pair = Pair::at_work_with(|config| config.preempt = preempt);
        pair.kill(A);
        pair.until_forwards(B, 400);
        pair.start(A);
        pair.run(20_000);
        assert_eq!(pair.roles(), (Syncing, Active), "not before it is in sync");
        pair.sync(A);
        pair.run(2_000);
        let expected = if preempt { (Active, Standby) } else { (Standby, Active) };
        assert_eq!(pair.roles(), expected);
        assert!(pair.state(A).preferred() && !pair.state(B).preferred());
    }
}

#[test]
fn x_13_a_difference_is_told_once_within_a_second_and_so_is_its_end() {
    let mut pair = Pair::at_work();
    for (areas, notice) in [(&[1][..], "pair_differs"), (&[1, 2], "pair_differs")] {
        pair.differs = Some(Difference::Config(Areas::of(areas)));
        pair.run(1_000);
        assert_eq!((pair.notices(A), pair.notices(B)), (vec![notice], vec![notice]), "{areas:?}");
        pair.clear();
        pair.run(2_000);
        assert_eq!(pair.notices(B), [""; 0], "told once");
    }
    // It ends with the partner's next life, too.
    pair.kill(B);
    pair.run(1_000);
    pair.differs = None;
    pair.start(B);
    pair.clear();
    pair.run(1_000);
    assert!(pair.notices(A).contains(&"pair_agrees"), "{:?}", pair.notices(A));
    assert!(!pair.notices(B).contains(&"pair_agrees"), "the new life never heard of it");
}

fn told(pair: &Pair, node: usize, notice: Notice) -> bool {
    pair.nodes[node].effects.iter().any(|(_, effect)| *effect == Effect::Notice(notice))
}

#[test]
fn s_17_n_12_a_standby_that_stops_on_purpose_is_restarting_and_no_failure() {
    let mut pair = Pair::at_work();
    assert_eq!(pair.state(A).presence(), Presence::Here);
    pair.event(B, Event::Command(Command::Leave));
    pair.run(150);
    assert_eq!((pair.notices(A), pair.state(A).presence()), (vec!["peer_leaving"], Presence::Restarting));
    // Nobody hands the role to a node that is about to stop.
    pair.event(A, Event::Command(Command::Switchover));
    assert!(told(&pair, A, Notice::SwitchoverRefused(Refusal::PartnerUnfit)));
    pair.kill(B);
    pair.run(1_000);
    assert!(told(&pair, A, Notice::PeerGone(Loss::Maintenance)));
    assert_eq!(pair.state(A).presence(), Presence::Restarting);
    assert!(pair.state(A).forwards(pair.state(A).last_step));
    pair.start(B);
    pair.run(1_000);
    assert_eq!(pair.state(A).presence(), Presence::Here);
    assert!(told(&pair, A, Notice::PeerBack) && !told(&pair, A, Notice::PeerAbsent));
    // The next end is one that nobody announced.
    pair.clear();
    pair.kill(B);
    pair.run(1_000);
    assert!(told(&pair, A, Notice::PeerGone(Loss::Failure)));
    assert_eq!(pair.state(A).presence(), Presence::Absent);
}

#[test]
fn s_17_a_restart_that_never_ends_becomes_an_absence() {
    let mut pair = Pair::at_work();
    pair.event(B, Event::Command(Command::Leave));
    pair.run(150);
    pair.kill(B);
    pair.run(119_000);
    assert_eq!(pair.state(A).presence(), Presence::Restarting);
    pair.run(3_000);
    assert_eq!(pair.state(A).presence(), Presence::Absent);
    assert!(told(&pair, A, Notice::PeerAbsent));
}

#[test]
fn n_12_an_active_node_that_stops_on_purpose_hands_over_and_does_not_get_the_role_back() {
    let mut pair = Pair::at_work_with(|config| config.preempt = true);
    pair.event(A, Event::Command(Command::Leave));
    pair.event(A, Event::Command(Command::Switchover));
    pair.run(500);
    assert_eq!(pair.role(B), Some(Active));
    assert_eq!(pair.changes(B), [(Standby, Active, Cause::Grant)]);
    pair.run(20_000);
    assert_eq!(pair.role(B), Some(Active), "preferred, and still not asked");
    pair.kill(A);
    pair.run(1_000);
    assert!(told(&pair, B, Notice::PeerGone(Loss::Maintenance)));
    assert_eq!(pair.overlaps, []);
}

#[test]
fn n_12_a_lost_sync_path_of_a_partner_that_leaves_is_maintenance() {
    for (leaves, loss) in [(false, Loss::Failure), (true, Loss::Maintenance)] {
        let mut pair = Pair::at_work();
        if leaves {
            pair.event(B, Event::Command(Command::Leave));
            pair.run(150);
        }
        pair.cut[SYNC] = [true; 2];
        pair.run(1_000);
        assert!(told(&pair, A, Notice::SyncLost(loss)), "{loss:?}");
    }
}

#[test]
fn a_partner_that_proved_itself_is_heard_after_a_round_trip_and_not_after_an_interval() {
    let mut pair = Pair::at_work();
    pair.kill(B);
    pair.run(1_000);
    assert!(pair.state(A).partner().is_none());
    pair.clear();
    pair.start(B);
    pair.run(2);
    assert!([A, B].iter().all(|node| pair.state(*node).partner().is_some()), "{:?}", pair.roles());
    assert_eq!(pair.roles(), (Role::Active, Role::Syncing));
    // One more for each path, not an answer for each answer.
    assert!([A, B].iter().all(|node| pair.did(*node, &Effect::SendBeats) <= 6));
}

#[test]
fn paths_that_work_one_way_only_are_no_reason_for_more_heartbeats() {
    let mut pair = Pair::at_work();
    pair.kill(B);
    pair.cut = [[true, false], [false, true]];
    pair.run(1_000);
    pair.start(B);
    pair.run(100);
    pair.clear();
    pair.run(1_000);
    for node in [A, B] {
        let beats = pair.did(node, &Effect::SendBeats);
        assert!((9..=12).contains(&beats), "{beats}");
    }
}

/// What is said of a node's readiness on one path is answered on all, and on the others the answer echoes what
/// was said before. It counts nevertheless, whichever arrives first.
#[test]
fn decision_33_a_standby_is_armed_a_round_trip_after_it_is_ready_and_not_an_interval() {
    let orders = [[false, false], [false, true], [true, false], [true, true]];
    for (later_ms, data_first) in (0..100).flat_map(|ms| orders.map(|order| (ms, order))) {
        let mut pair = Pair::at_work_with(|config| config.takeover_incomplete = false);
        pair.data_first = data_first;
        pair.event(B, Event::Mirror(Mirror::Partial));
        pair.run(300 + later_ms);
        // Complete, not complete after all, complete: the active node's lease is bounded since the first.
        for mirror in [Mirror::Complete, Mirror::Partial, Mirror::Complete] {
            pair.event(B, Event::Mirror(mirror));
            pair.run(2);
        }
        pair.clear();
        pair.kill(A);
        let gap = pair.until_forwards(B, 3_500);
        assert!(gap <= 300, "{gap} ms, {later_ms} ms into an interval, {data_first:?}");
        assert_eq!(pair.notices(B), ["peer_gone"]);
    }
}
