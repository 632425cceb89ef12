//! The model check of the election: every course that two nodes can take within bounds.
//!
//! The nodes are not a model of the decision maker, they are the decision maker: [`sync::membership::step`],
//! a pure function, is run on every state that can be reached when an adversary crashes and starts nodes,
//! stalls and continues them, cuts and mends paths, loses, delays, reorders and replays heartbeats, cuts nodes
//! off from their networks, and asks for switchovers, at most as often as its budget allows. States that
//! differ only in when they came about count as one.
//!
//! # What is checked
//! After every single event:
//! - at most one node forwards (workers, by lease) unless the nodes could not hear each other, or one hangs
//!   that had no ready partner and so an endless lease (decision 32);
//! - never are two nodes active in the same term;
//! - a new incarnation is never active by memory: it heard the other one or waited out the boot delay;
//! - if only the sync link fails, the active node stays active and the other one does not take over.
//!
//! From every state, after all faults end:
//! - exactly one node forwards within [`SETTLE_TICKS`], and all agree on its term;
//! - the same when a crashed node stays down: no state is a dead end, no switchover loses the active.
//!
//! A search of our own, since the last two follow a bounded course from each state rather than ask for
//! "eventually", and since the adversary's budget belongs to the state.
#![forbid(unsafe_code)]

pub mod world;

use std::collections::{HashMap, HashSet};
use world::{Action, Budget, Violation, World};

/// How many heartbeat intervals a healed pair may need until exactly one node forwards.
pub const SETTLE_TICKS: u32 = 20;

/// What a search saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// Deepest course, in steps.
    pub depth: usize,
    /// The longest time that a healed pair needed to settle, in heartbeat intervals.
    pub slowest_settling: u32,
}

/// A course that breaks a property.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What is broken.
    pub violation: Violation,
    /// The adversary's actions, and whether B took its turn first.
    pub course: Vec<(Action, bool)>,
}

/// Searches all courses from `start` up to `depth` steps, breadth first.
///
/// # Errors
/// With the shortest course that breaks a property.
pub fn search(start: &World, depth: usize) -> Result<Outcome, Box<Counterexample>> {
    let mut outcome = Outcome::default();
    let mut seen = HashSet::from([start.fingerprint()]);
    // Courses as a tree: each entry names its parent and the step that led to it.
    let mut steps: Vec<(usize, Action, bool)> = vec![(0, Action::Pass, false)];
    let mut frontier = vec![(start.clone(), 0)];
    let mut settling = HashMap::new();
    while outcome.depth < depth && !frontier.is_empty() {
        outcome.depth += 1;
        let mut next = Vec::new();
        for (world, at) in frontier {
            for action in world.actions() {
                for swapped in [false, true] {
                    let fail = |violation| {
                        let course = course(&steps, at, (action, swapped));
                        Box::new(Counterexample { violation, course })
                    };
                    let mut reached = world.clone();
                    reached.act(action, swapped).map_err(fail)?;
                    outcome.transitions += 1;
                    if !seen.insert(reached.fingerprint()) {
                        continue;
                    }
                    for revive in [true, false] {
                        let ticks = settle(&reached, revive, &mut settling).map_err(fail)?;
                        outcome.slowest_settling = outcome.slowest_settling.max(ticks);
                    }
                    steps.push((at, action, swapped));
                    next.push((reached, steps.len() - 1));
                }
            }
        }
        frontier = next;
    }
    outcome.states = seen.len();
    Ok(outcome)
}

fn course(steps: &[(usize, Action, bool)], mut at: usize, last: (Action, bool)) -> Vec<(Action, bool)> {
    let mut course = vec![last];
    while at != 0 {
        let (parent, action, swapped) = steps[at];
        course.push((action, swapped));
        at = parent;
    }
    course.reverse();
    course
}

/// How long it takes after the end of all faults until exactly one node forwards. What was followed once is
/// remembered.
fn settle(world: &World, revive: bool, known: &mut HashMap<u128, u32>) -> Result<u32, Violation> {
    if !revive && world.roles().iter().all(Option::is_none) {
        return Ok(0);
    }
    let mut world = world.clone();
    world.heal(revive)?;
    let mut passed = Vec::new();
    let rest = loop {
        let fingerprint = world.fingerprint();
        if let Some(&rest) = known.get(&fingerprint) {
            break rest;
        }
        if passed.len() as u32 > SETTLE_TICKS {
            return Err(format!(
                "not settled {SETTLE_TICKS} intervals after the end of all faults: {:?}",
                world.roles()
            ));
        }
        passed.push(fingerprint);
        let settled = world.settled();
        world.act(Action::Pass, false)?;
        // Settled is what stays so.
        if settled && world.settled() {
            break 0;
        }
    };
    let total = rest + passed.len() as u32;
    if total > SETTLE_TICKS + 1 {
        return Err(format!("settles only after {total} intervals: {:?}", world.roles()));
    }
    for (index, fingerprint) in passed.iter().enumerate() {
        known.insert(*fingerprint, total - index as u32);
    }
    Ok(total)
}

/// The faults that may happen on one course of the small search.
pub const SMALL: Budget =
    Budget { crashes: 1, stalls: 1, cuts: 2, datagrams: 1, isolations: 1, switchovers: 1 };
