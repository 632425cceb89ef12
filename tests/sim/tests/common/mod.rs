//! What the scripted courses share.

use sim::{Fault, Packets, Setup, World};
use sync::membership::{Cause, Notice, Role};

pub const CUT_SYNC: Fault = Fault::Cut { path: 0, from: None, carrier: true };
pub const MEND_SYNC: Fault = Fault::Mend { path: 0 };
pub const CRASH_A: Fault = Fault::Crash { node: 0, disk: false };
pub const START_A: Fault = Fault::Start { node: 0 };

pub fn world(setup: Setup) -> World {
    World::new(setup, true)
}

/// A pair that has found itself: a is active, b proven.
pub fn pair(setup: Setup) -> World {
    let mut world = world(setup);
    let settled = world.run_while(2_000_000, |world| !world.in_order());
    assert!(settled.is_ok_and(|settled| settled), "{}", world.describe());
    assert_eq!(world.active(), Some(0));
    world
}

pub fn became_active(world: &World, node: usize) -> Vec<Cause> {
    let causes = world.notices(node).iter().filter_map(|(_, notice)| match notice {
        Notice::RoleChanged { to: Role::Active, cause, .. } => Some(*cause),
        _ => None,
    });
    causes.collect()
}

/// Steady packets that were lost since a count.
pub fn lost_since(world: &World, before: Packets) -> u64 {
    world.packets().lost() - before.lost()
}

pub fn ms(ms: u64) -> u64 {
    ms * 1_000
}

/// Paths pass nothing any more; their ends have a carrier.
pub fn cut(world: &mut World, paths: &[usize]) {
    paths.iter().for_each(|&path| world.fault(Fault::Cut { path, from: None, carrier: false }));
}

/// They pass everything again.
pub fn mend(world: &mut World, paths: &[usize]) {
    paths.iter().for_each(|&path| world.fault(Fault::Mend { path }));
}
