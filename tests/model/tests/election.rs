//! The small search, as an ordinary test.

use model::world::World;
use model::{SMALL, search};

fn holds(start: &World, depth: usize, at_least: usize) {
    match search(start, depth) {
        Ok(outcome) => {
            println!("{outcome:?}");
            assert!(outcome.states >= at_least, "the search became trivial: {outcome:?}");
        }
        Err(found) => assert_eq!(found.course, [], "{}", found.violation),
    }
}

#[test]
fn every_course_of_a_pair_at_work_keeps_one_active() {
    holds(&World::at_work(SMALL).unwrap(), 4, 15_000);
}

#[test]
fn every_course_of_a_cold_start_ends_with_one_active() {
    holds(&World::cold(SMALL), 4, 15_000);
}
