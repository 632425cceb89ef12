//! Whether this processor can run what the compiler made.
//!
//! The workspace is built for one baseline, x86-64-v3 with AES and carry-less multiplication. On a lesser
//! processor the first vector instruction would end the process with SIGILL and no word why, so this is
//! asked before anything else. `is_x86_feature_detected!` cannot be the one to ask: for features that the
//! whole program is compiled with it answers yes without looking.

use std::arch::x86_64::{__cpuid, __cpuid_count};

/// The registers that tell.
#[derive(Clone, Copy, Debug, Default)]
struct Leaves {
    /// Leaf 1, ECX.
    one: u32,
    /// Leaf 7, subleaf 0, EBX.
    seven: u32,
    /// Leaf 8000_0001h, ECX.
    extended: u32,
}

/// A feature of the baseline: its name, and where its bit is.
type Feature = (&'static str, fn(&Leaves) -> u32, u32);

const BASELINE: [Feature; 16] = [
    ("pclmulqdq", |l| l.one, 1),
    ("ssse3", |l| l.one, 9),
    ("fma", |l| l.one, 12),
    ("cmpxchg16b", |l| l.one, 13),
    ("sse4.1", |l| l.one, 19),
    ("sse4.2", |l| l.one, 20),
    ("movbe", |l| l.one, 22),
    ("popcnt", |l| l.one, 23),
    ("aes", |l| l.one, 25),
    ("osxsave (the kernel's support for AVX)", |l| l.one, 27),
    ("avx", |l| l.one, 28),
    ("f16c", |l| l.one, 29),
    ("bmi1", |l| l.seven, 3),
    ("avx2", |l| l.seven, 5),
    ("bmi2", |l| l.seven, 8),
    ("lzcnt", |l| l.extended, 5),
];

/// The features of the baseline that this processor lacks.
pub(super) fn missing() -> Vec<&'static str> {
    missing_in(&read())
}

fn missing_in(leaves: &Leaves) -> Vec<&'static str> {
    let lacks = |(_, register, bit): &&Feature| register(leaves) >> bit & 1 == 0;
    BASELINE.iter().filter(lacks).map(|(name, ..)| *name).collect()
}

fn read() -> Leaves {
    let mut leaves = Leaves { one: __cpuid(1).ecx, ..Leaves::default() };
    if __cpuid(0).eax >= 7 {
        leaves.seven = __cpuid_count(7, 0).ebx;
    }
    if __cpuid(0x8000_0000).eax >= 0x8000_0001 {
        leaves.extended = __cpuid(0x8000_0001).ecx;
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_feature_is_named() {
        let all = Leaves { one: u32::MAX, seven: u32::MAX, extended: u32::MAX };
        assert_eq!(missing_in(&all), Vec::<&str>::new());
        let without = |seven| missing_in(&Leaves { seven, ..all });
        assert_eq!(without(!(1 << 5)), ["avx2"]);
        assert_eq!(without(!(1 << 8) & !(1 << 3)), ["bmi1", "bmi2"]);
        assert_eq!(missing_in(&Leaves::default()).len(), BASELINE.len());
    }

    #[test]
    fn the_machine_that_runs_the_tests_has_them_all() {
        assert_eq!(missing(), Vec::<&str>::new());
    }
}
