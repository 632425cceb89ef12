//! Runs courses from a shell: `sim --seed N [--trace [--last LINES]]` repeats one,
//! `sim --seeds N [--from M] [--seconds S] [--keep-going]` runs many.
#![forbid(unsafe_code)]

use sim::{random, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Wishes {
    seed: Option<u64>,
    trace: bool,
    from: u64,
    seeds: u64,
    seconds: Option<u64>,
    keep_going: bool,
    last: usize,
}

fn main() -> ExitCode {
    let Some(wishes) = read_arguments() else {
        eprintln!(
            "usage: sim --seed N [--trace [--last LINES]] | sim --seeds N [--from M] [--seconds S] [--keep-going]"
        );
        return ExitCode::FAILURE;
    };
    match wishes.seed {
        Some(seed) => one(seed, wishes.trace, wishes.last),
        None => many(&wishes),
    }
}

fn read_arguments() -> Option<Wishes> {
    let mut wishes = Wishes { seeds: 10_000, last: 300, ..Wishes::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next()?.parse().ok();
        match argument.as_str() {
            "--seed" => wishes.seed = Some(number()?),
            "--seeds" => wishes.seeds = number()?,
            "--from" => wishes.from = number()?,
            "--seconds" => wishes.seconds = Some(number()?),
            "--last" => wishes.last = number()? as usize,
            "--trace" => wishes.trace = true,
            "--keep-going" => wishes.keep_going = true,
            _ => return None,
        }
    }
    Some(wishes)
}

fn one(seed: u64, trace: bool, last: usize) -> ExitCode {
    let setup = random(seed);
    println!("seed {seed}: {} paths, plan:", setup.paths.len());
    for (at, fault) in &setup.plan {
        println!("{:>9.3} ms  {fault:?}", *at as f64 / 1_000.0);
    }
    match run(setup, trace) {
        Ok(world) => {
            println!(
                "holds: {} events, {:.3} ms{}",
                world.events(),
                world.now() as f64 / 1e3,
                world.describe()
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            for line in failure.trace.iter().skip(failure.trace.len().saturating_sub(last)) {
                println!("{line}");
            }
            println!("{:>9.3} ms  VIOLATION: {}", failure.at as f64 / 1_000.0, failure.what);
            ExitCode::FAILURE
        }
    }
}

fn many(wishes: &Wishes) -> ExitCode {
    let begun = Instant::now();
    let limit = wishes.seconds.map(Duration::from_secs);
    let (next, done, failed) = (AtomicU64::new(wishes.from), AtomicU64::new(0), AtomicU64::new(0));
    let (events, simulated, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let merged = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = limit.is_some_and(|limit| begun.elapsed() > limit);
                    if seed >= wishes.from + wishes.seeds || late || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    match run(random(seed), false) {
                        Ok(world) => {
                            events.fetch_add(world.events(), Ordering::Relaxed);
                            simulated.fetch_add(world.now(), Ordering::Relaxed);
                            merged.fetch_add(world.merged().iter().sum(), Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            stop.store(!wishes.keep_going, Ordering::Relaxed);
                            let first = failure.what.lines().next().unwrap_or("");
                            println!("seed {seed} at {:.3} ms: {first}", failure.at as f64 / 1_000.0);
                            println!("    cargo run --release -p sim -- --seed {seed} --trace");
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (done, failed) = (done.into_inner(), failed.into_inner());
    println!(
        "{done} seeds, {failed} failed, {} events, {} sessions merged, {:.0} s of the world in {:.1} s",
        events.into_inner(),
        merged.into_inner(),
        simulated.into_inner() as f64 / 1e6,
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
