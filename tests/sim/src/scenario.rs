//! Courses drawn from a seed: what the pair is made of, what its users do, and up to four things that go
//! wrong.

use crate::link::Quality;
use crate::rng::Rng;
use crate::setup::{Fault, PathSetup, Setup, quick_membership};
use crate::tables::Size;
use crate::world::{Failure, World};
use sync::ids::Micros;
use sync::membership::{Command, OnActiveRestart};

/// A course of a seed.
#[must_use]
pub fn random(seed: u64) -> Setup {
    let mut rng = Rng::new(seed ^ 0x5eed_0f5c_e0a5_1023);
    let mut setup = Setup::new(seed);
    shape(&mut setup, &mut rng);
    let begin = 110 + rng.below(90);
    let mut at_ms = begin;
    for _ in 0..rng.below(5) {
        at_ms += draw_fault(&mut setup, &mut rng, at_ms);
        at_ms += rng.pick(&[0, 3, 20, 60, 250]) + rng.below(10);
    }
    setup.faults_end = setup.faults_end.max(at_ms * 1_000);
    setup
}

/// What the pair is made of.
fn shape(setup: &mut Setup, rng: &mut Rng) {
    for size in &mut setup.sizes {
        *size = Size {
            workers: rng.pick(&[1, 2, 3]),
            slots: 256,
            ring: rng.pick(&[32, 64, 256, 1_024]),
            ends: rng.pick(&[4, 32, 128]),
        };
    }
    if rng.chance(300) {
        setup.paths = vec![PathSetup::SYNC, PathSetup::SYNC, PathSetup::DATA];
    } else if rng.chance(300) {
        setup.paths =
            vec![PathSetup::SYNC, PathSetup { carries_sync: true, byte_rate: 12_500_000, ..PathSetup::DATA }];
    } else if rng.chance(300) {
        setup.paths.push(PathSetup::DATA);
    }
    for path in &mut setup.paths {
        path.quality.delay_us = rng.pick(&[20, 50, 200, 1_000]);
        path.quality.jitter_us = rng.pick(&[0, 50, 500]);
        if rng.chance(200) {
            path.quality.loss = rng.pick(&[1, 10, 50]);
            path.quality.duplicate = rng.pick(&[0, 5, 50]);
            path.quality.reorder = rng.pick(&[0, 10, 100]);
        }
        if rng.chance(60) {
            path.quality.mtu = 1_300;
        }
    }
    setup.membership = quick_membership(10);
    if rng.chance(150) {
        setup.membership.on_active_restart = OnActiveRestart::Purge;
    }
    setup.membership.takeover_incomplete = rng.chance(700);
    setup.membership.preempt = rng.chance(150);
    setup.drift_ppm = [0, 1].map(|_| rng.range(0, 400) as i64 - 200);
    setup.start_at = rng.pick(&[[0, 0], [0, 1_000], [5_000, 0], [0, 90_000], [60_000, 0]]);
    setup.load.rate = rng.pick(&[300, 800, 1_500, 4_000]);
    setup.load.steady_every_us = 2_000;
    setup.load.flows = rng.pick(&[40, 80, 160]);
    setup.load.ends = rng.pick(&[50, 150, 300]);
    setup.load.local = rng.pick(&[0, 60, 150]);
    setup.load.untakable = 0;
    setup.busy = rng.pick(&[0, 0, 10, 100]);
    setup.stream.verify_every = Micros::from_millis(rng.pick(&[60, 150, 300]));
    setup.stream.scrub_pass = Micros::from_millis(rng.pick(&[50, 150]));
    setup.stream.tombstones = rng.pick(&[16, 64, 16_384]);
    setup.keys.renew_every = Micros::from_millis(rng.pick(&[150, 400, 60_000]));
}

/// Draws something that goes wrong, and perhaps its end. How long it lasts, in milliseconds.
fn draw_fault(setup: &mut Setup, rng: &mut Rng, at_ms: u64) -> u64 {
    let node = rng.below(2) as usize;
    let path = rng.below(setup.paths.len() as u64) as usize;
    let lasts = rng.pick(&[2, 8, 25, 45, 120, 350]) + rng.below(10);
    let setup_quality = setup.paths[path].quality;
    let mut plan = |at: u64, fault: Fault| {
        setup.plan.push((at * 1_000 + rng.below(1_000), fault));
        setup.faults_end = setup.faults_end.max((at + 1) * 1_000);
    };
    let kind = seed_kind(setup.seed, at_ms);
    match kind {
        0..=17 => {
            plan(at_ms, Fault::Crash { node, disk: kind == 0 });
            if kind % 4 != 3 {
                plan(at_ms + lasts, Fault::Start { node });
            }
        }
        18..=29 => {
            let from = if kind < 24 { None } else { Some(node) };
            plan(at_ms, Fault::Cut { path, from, carrier: kind.is_multiple_of(2) });
            plan(at_ms + lasts, Fault::Mend { path });
        }
        30..=38 => {
            let paths = 0..setup_paths(&setup.paths);
            for path in paths.clone() {
                plan(at_ms, Fault::Cut { path, from: (kind == 38).then_some(node), carrier: false });
            }
            for path in paths {
                plan(at_ms + lasts, Fault::Mend { path });
            }
        }
        39..=52 => {
            let worse = Quality {
                loss: [0, 50, 200, 400][kind as usize % 4],
                duplicate: [0, 50, 100][kind as usize % 3],
                reorder: [0, 100, 300][kind as usize % 3],
                delay_us: [100, 1_000, 4_000][kind as usize % 3],
                jitter_us: [0, 500][kind as usize % 2],
                ..setup_quality
            };
            plan(at_ms, Fault::Quality { path, quality: worse });
            plan(at_ms + lasts, Fault::Mend { path });
        }
        53..=62 => plan(at_ms, Fault::Freeze { node, us: lasts * 1_000 }),
        63..=70 => plan(at_ms, Fault::Hang { node, us: lasts * 1_000 }),
        71..=76 => plan(at_ms, Fault::Stick { node, worker: kind as usize, us: lasts * 1_000 }),
        77..=79 => {
            plan(at_ms, Fault::Isolate { node, off: true });
            plan(at_ms + lasts, Fault::Isolate { node, off: false });
        }
        80..=81 => {
            plan(at_ms, Fault::Fitness { node, quality: 40 });
            plan(at_ms + lasts, Fault::Fitness { node, quality: 100 });
        }
        82..=90 => plan(at_ms, Fault::Command { node, command: Command::Switchover }),
        91..=93 => {
            let command = if kind == 91 { Command::ForceActive } else { Command::ForceStandby };
            plan(at_ms, Fault::Command { node, command });
            plan(at_ms + lasts, Fault::Command { node, command: Command::Unforce });
        }
        94..=95 => plan(at_ms, Fault::Verify { node }),
        96..=97 => plan(at_ms, Fault::Resync { node }),
        _ => plan(at_ms, Fault::Load { rate: 20_000 }),
    }
    if matches!(kind, 82..=90 | 94..) { 20 } else { lasts }
}

fn setup_paths(paths: &[PathSetup]) -> usize {
    paths.len()
}

fn seed_kind(seed: u64, at_ms: u64) -> u64 {
    Rng::new(seed.wrapping_mul(31).wrapping_add(at_ms)).below(100)
}

/// Runs a course to its end: until its faults are over, and then until the pair has come to rest.
///
/// # Errors
/// With what a checker saw.
pub fn run(setup: Setup, trace: bool) -> Result<World, Box<Failure>> {
    let until = setup.faults_end + 5_000;
    let mut world = World::new(setup, trace);
    world.run_until(until.max(130_000)).map_err(Box::new)?;
    world.finish().map_err(Box::new)?;
    Ok(world)
}
