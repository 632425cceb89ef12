//! What is being done, and how long the rest will take: guessed from how long its parts took on another
//! machine, and corrected by how long the first of them took on this one.

use std::time::{Duration, Instant};

/// Steps with what each is expected to take.
pub(super) struct Progress {
    started: Instant,
    all: Duration,
    done: Duration,
    steps: usize,
    step: usize,
}

impl Progress {
    pub(super) fn of(expected: impl IntoIterator<Item = Duration>) -> Self {
        let expected: Vec<Duration> = expected.into_iter().collect();
        let all = expected.iter().sum();
        Self { started: Instant::now(), all, done: Duration::ZERO, steps: expected.len(), step: 0 }
    }

    /// Says what begins now.
    pub(super) fn begin(&mut self, what: &str, expected: Duration) {
        self.step += 1;
        let left = remaining(self.started.elapsed(), self.done, self.all);
        eprintln!(
            "lab: step {} of {}, about {}:{:02} left: {what}",
            self.step,
            self.steps,
            left.as_secs() / 60,
            left.as_secs() % 60
        );
        self.done += expected;
    }
}

fn remaining(spent: Duration, done: Duration, all: Duration) -> Duration {
    let left = all.saturating_sub(done);
    if done.is_zero() { left } else { left.mul_f64(spent.as_secs_f64() / done.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_what_was_needed() {
        let seconds = Duration::from_secs;
        assert_eq!(remaining(seconds(0), seconds(0), seconds(90)), seconds(90));
        assert_eq!(remaining(seconds(60), seconds(30), seconds(90)), seconds(120));
        assert_eq!(remaining(seconds(60), seconds(90), seconds(90)), seconds(0));
    }
}
