//! Whether a processor worked for this thread alone.
//!
//! What a virtual machine calls a processor is often one of two hyperthreads of a core, and the other one may
//! be somebody else's: while that one works, each of them gets about half of the core, and everything takes up
//! to twice as many clocks. The kernel cannot know. A firewall's worker has a core to itself, so what is
//! measured in such moments is kept apart. They are found without looking at what was measured: a piece of work
//! that uses nothing but the core's arithmetic, always the same, tells by the time that it takes whether the
//! core is shared just then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Looks at the core before and after what is measured.
#[derive(Default)]
pub struct Probe {
    was_quiet: bool,
}

impl Probe {
    /// True if nobody shares the core now and nobody did at the last look. Takes about a microsecond.
    #[inline]
    pub fn quiet_since(&mut self) -> bool {
        self.looked(look())
    }

    fn looked(&mut self, is_quiet: bool) -> bool {
        std::mem::replace(&mut self.was_quiet, is_quiet) && is_quiet
    }
}

/// How often the kernel has taken the processor from a thread of this process.
pub fn preemptions(tid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// This thread's id.
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// The clocks that a look takes on a core of its own, as far as this process has seen; looks for a while.
pub fn fastest() -> u64 {
    let began = Instant::now();
    while began.elapsed() < LOOK {
        look();
    }
    FASTEST.load(Ordering::Relaxed)
}

/// Another process has seen this.
pub fn known(fastest: u64) {
    FASTEST.fetch_min(fastest, Ordering::Relaxed);
}

static FASTEST: AtomicU64 = AtomicU64::new(u64::MAX);
/// How long [`fastest`] looks: neighbours pause more often than that.
const LOOK: Duration = Duration::from_secs(1);
/// So many rounds take about a thousand clocks.
const ROUNDS: u32 = 400;
/// What came before still keeps the core waiting for memory during the first ones.
const WARM_UP: u32 = 40;

/// A look; true if it was about as fast as the fastest. A shared core makes it half as fast again at least, and on
/// a core of its own it is never off by more than a hundredth.
#[inline]
fn look() -> bool {
    dpdk::keep_busy(WARM_UP);
    let began = dpdk::cycles();
    dpdk::keep_busy(ROUNDS);
    let clocks = dpdk::cycles() - began;
    let fastest = FASTEST.load(Ordering::Relaxed);
    if clocks < fastest {
        known(clocks);
    }
    is_quiet(clocks, fastest)
}

const fn is_quiet(clocks: u64, fastest: u64) -> bool {
    clocks < fastest.saturating_add(fastest / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_quiet_between_two_looks_that_were_about_as_fast_as_ever() {
        assert_eq!(
            [900, 1_000, 1_060, 1_070].map(|clocks| is_quiet(clocks, 1_000)),
            [true, true, true, false]
        );
        assert!(is_quiet(1_000, u64::MAX));
        let mut probe = Probe::default();
        let looks = [true, true, true, false, true, true];
        assert_eq!(looks.map(|look| probe.looked(look)), [false, true, true, false, false, true]);
    }

    #[test]
    fn what_was_fastest_here_or_elsewhere_is_remembered() {
        let here = fastest();
        assert!((1..u64::MAX).contains(&here));
        known(u64::MAX);
        assert!(fastest() <= here);
        known(1);
        assert_eq!(fastest(), 1);
        assert!(!look(), "nobody is so fast");
    }

    #[test]
    fn threads_have_a_count_of_preemptions() {
        assert!(std::fs::exists(format!("/proc/self/task/{}/status", thread_id())).unwrap());
        assert_eq!(preemptions(0), 0);
    }
}
