//! The checkers can fail: each way to break the system on purpose is caught, and by the checker that is
//! there for it.

use sim::tables::Defect;
use sim::{Failure, Fault, Setup, World, run};
use sync::datagram::Kind;

/// What a checker says of a broken system, in one of a few courses.
fn caught(of: impl Fn(u64) -> Setup) -> String {
    let seen = (0..20).find_map(|seed| run(of(seed), false).err());
    seen.map_or_else(|| "nothing".to_owned(), |failure: Box<Failure>| failure.what)
}

fn broken(defect: Defect) -> impl Fn(u64) -> Setup {
    move |seed| {
        let mut setup = Setup::new(seed).with(250, Fault::Verify { node: 0 });
        setup.defects = [Some(defect); 2];
        setup.load.rate = 6_000;
        setup.load.ends = 300;
        for path in &mut setup.paths {
            path.quality.reorder = 200;
            path.quality.duplicate = 100;
            path.quality.loss = 20;
        }
        setup
    }
}

#[test]
fn a_sound_system_passes_the_same_courses() {
    for seed in 0..20 {
        let mut setup = broken(Defect::Ages)(seed);
        setup.defects = [None; 2];
        assert!(run(setup, false).is_ok(), "seed {seed}");
    }
}

#[test]
fn a_table_that_stores_older_over_newer_is_caught() {
    let what = caught(broken(Defect::OlderOverNewer));
    assert!(what.starts_with("older over newer") || what.starts_with("a dead session"), "{what}");
}

#[test]
fn a_table_that_tells_local_sessions_is_caught() {
    let what = caught(|seed| {
        let mut setup = broken(Defect::TellsLocal)(seed);
        setup.load.local = 200;
        setup
    });
    assert!(what.starts_with("a local session was replicated"), "{what}");
}

#[test]
fn an_owner_that_answers_before_it_applies_is_caught() {
    let what = caught(broken(Defect::AnswersEarly));
    let seen = ["not protected", "proven", "a dead session came back"];
    assert!(seen.iter().any(|part| what.contains(part)), "{what}");
}

#[test]
fn an_owner_that_keeps_what_it_deleted_is_caught() {
    let what = caught(broken(Defect::KeepsDeleted));
    assert!(what.contains("proven") || what.contains("differ") || what.contains("does not"), "{what}");
}

#[test]
fn a_standby_that_ages_sessions_by_itself_is_caught() {
    let what = caught(|seed| {
        let mut setup = broken(Defect::Ages)(seed);
        setup.load.rate = 400;
        setup.with(900, Fault::Verify { node: 0 })
    });
    assert!(what.contains("is not active and Ended"), "{what}");
}

#[test]
fn a_table_that_stores_something_else_is_caught() {
    let what = caught(|seed| {
        // Its memory is looked through too slowly for the scrubber to find it first.
        let mut setup = broken(Defect::Garbles)(seed);
        setup.stream.scrub_pass = sync::ids::Micros::from_secs(3_600);
        setup
    });
    assert!(what.contains("tables differ") || what.contains("does not"), "{what}");
}

#[test]
fn an_owner_that_ignores_what_the_loser_of_a_split_offers_is_caught() {
    let split = |seed: u64| {
        let mut setup = Setup::new(seed);
        for path in [0, 1] {
            setup = setup.with(300, Fault::Cut { path, from: None, carrier: false });
            setup = setup.with(450, Fault::Mend { path });
        }
        setup
    };
    for seed in 0..20 {
        assert!(run(split(seed), false).is_ok(), "seed {seed}");
    }
    let what = caught(|seed| Setup { defects: [Some(Defect::IgnoresOffers); 2], ..split(seed) });
    assert!(what.starts_with("after the split"), "{what}");
}

#[test]
fn a_node_that_ignores_its_lease_is_caught() {
    let what = caught(|seed| {
        let mut setup = Setup::new(seed).with(300, Fault::Hang { node: 0, us: 200_000 });
        setup.ignores_lease = [true; 2];
        setup
    });
    assert!(what.starts_with("both forward"), "{what}");
}

#[test]
fn a_node_that_obeys_its_lease_is_not() {
    for seed in 0..20 {
        let setup = Setup::new(seed).with(300, Fault::Hang { node: 0, us: 200_000 });
        assert!(run(setup, false).is_ok(), "seed {seed}");
    }
}

#[test]
fn a_standby_that_does_not_take_over_is_caught() {
    let what = caught(|seed| {
        let mut setup = Setup::new(seed).with(600, Fault::Crash { node: 0, disk: false });
        setup.never_active = [false, true];
        setup.with(900, Fault::Start { node: 0 })
    });
    assert!(what.starts_with("b did not take over in time"), "{what}");
}

#[test]
fn a_link_that_loses_all_acks_is_caught() {
    let what = caught(|seed| {
        let mut setup = Setup::new(seed);
        setup.lost_kind = Some(Kind::Ack);
        setup
    });
    assert!(what.starts_with("the pair does not find itself"), "{what}");
}

#[test]
fn tables_without_sessions_prove_nothing() {
    let mut setup = Setup::new(1);
    setup.load.steady = 0;
    setup.load.flows = 4;
    setup.load.ends = 900;
    let what = run(setup, false).err().map(|failure| failure.what).unwrap_or_default();
    assert!(what.contains("equality would say nothing"), "{what}");
}

#[test]
fn the_same_seed_takes_the_same_course() {
    let course = || {
        let mut world = World::new(sim::random(77), true);
        world.run_until(300_000).unwrap();
        let trace = world.failure(String::new()).trace;
        (world.events(), trace)
    };
    let (first, second) = (course(), course());
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1 && first.1.len() > 100, "the courses differ");
}
