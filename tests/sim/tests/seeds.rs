//! Ten thousand drawn courses, in as many tests as there may be cores: each runs its own share.

use sim::{random, run};

/// Courses of one share.
const SHARE: u64 = 1_250;

fn share(number: u64) {
    let mut failed = Vec::new();
    let (mut events, mut overlap) = (0, 0);
    for seed in number * SHARE..(number + 1) * SHARE {
        match run(random(seed), false) {
            Ok(world) => {
                events += world.events();
                overlap = overlap.max(world.longest_overlap());
            }
            Err(failure) => {
                let what = failure.what.lines().next().unwrap_or_default().to_owned();
                println!("seed {seed} at {} us: {what}", failure.at);
                println!("    cargo run --release -p sim -- --seed {seed} --trace");
                failed.push(seed);
            }
        }
    }
    println!("{SHARE} seeds, {events} events, both forwarded for {overlap} us at most (in a partition)");
    assert!(failed.is_empty(), "each line above names a course and the command that repeats it: {failed:?}");
    assert!(events > SHARE * 1_000, "the courses became trivial: {events} events");
}

macro_rules! shares {
    ($($name:ident: $number:literal,)*) => {$(
        #[test]
        fn $name() {
            share($number);
        }
    )*};
}

shares! {
    seeds_0_to_1249: 0,
    seeds_1250_to_2499: 1,
    seeds_2500_to_3749: 2,
    seeds_3750_to_4999: 3,
    seeds_5000_to_6249: 4,
    seeds_6250_to_7499: 5,
    seeds_7500_to_8749: 6,
    seeds_8750_to_9999: 7,
}
