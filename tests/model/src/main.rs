//! Runs the large search and prints what it saw: `model [DEPTH]`.
#![forbid(unsafe_code)]

use model::world::{Budget, World};
use model::{Outcome, SMALL, search};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let depth = std::env::args().nth(1).and_then(|depth| depth.parse().ok()).unwrap_or(5);
    let faults = Budget { crashes: 2, stalls: 2, ..SMALL };
    let mut total = 0;
    let none = Budget { crashes: 0, stalls: 0, cuts: 0, datagrams: 0, isolations: 0, switchovers: 0 };
    let cuts = Budget { stalls: 1, cuts: 2, ..none };
    let crashes = Budget { crashes: 2, switchovers: 1, ..none };
    let searches = [
        ("at work", World::at_work(faults), depth),
        ("cold start", Ok(World::cold(faults)), depth),
        ("cuts and a stall, deep", World::at_work(cuts), depth + 4),
        ("crashes and a switchover, deep", World::at_work(crashes), depth + 4),
    ];
    for (name, start, depth) in searches {
        let begun = Instant::now();
        let found = match start {
            Ok(start) => search(&start, depth).map_err(|found| format!("{found:#?}")),
            Err(violation) => Err(violation),
        };
        match found {
            Ok(Outcome { states, transitions, depth, slowest_settling }) => {
                total += states;
                println!(
                    "{name}: {states} states, {transitions} transitions, depth {depth}, slowest settling \
                     {slowest_settling} intervals, {:.1} s",
                    begun.elapsed().as_secs_f64()
                );
            }
            Err(found) => {
                println!("{name}: {found}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("total: {total} states, all properties hold");
    ExitCode::SUCCESS
}
