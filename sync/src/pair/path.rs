//! The ways to the partner: which one carries the stream, and how large a datagram passes.
//!
//! A path that came alive is tested in both directions with a datagram of full size, which the partner
//! answers in the same size. What does not pass is tried smaller; the stream uses what was seen to pass. The
//! size in use is tried again every second: a path that shrinks while it lives would swallow every full
//! datagram and no heartbeat.

use super::PathConfig;
use crate::datagram::{HEADER, Probe, ProbeStep, TAG};
use crate::ids::Micros;

/// Payload sizes that are tried when the full one does not pass: common tunnels, IPv6's and IPv4's minimum.
const SMALLER: [usize; 4] = [1_372, 1_232, 1_024, 508];
/// What passes everywhere: used until a test succeeded.
pub(super) const SAFE: usize = 1_024;
const TRIES: u8 = 4;
const FIRST_TRY: Micros = Micros::from_millis(50);
/// Between two tries of the size in use.
const AGAIN: Micros = Micros::from_secs(1);
/// Between two tries of the full size on a path that took less.
const FULL_AGAIN: Micros = Micros::from_secs(30);

/// What is known of a path's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Test {
    /// Not alive.
    Idle,
    /// A size is being tried; `passed` is the one that did last.
    Trying { size: usize, tries: u8, next: Micros, passed: Option<usize> },
    /// A size passed; looked at again then.
    Passed { size: usize, again: Micros },
}

/// One path's self-test.
#[derive(Clone, Debug)]
pub(super) struct PathTest {
    full: usize,
    test: Test,
    token: u64,
    sent_at: Micros,
    /// When the full size is tried again.
    full_at: Micros,
    /// The size that the stream may use, of the whole datagram.
    usable: usize,
    rtt: Option<Micros>,
}

/// A path as operators see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStatus {
    /// Whether it may carry sessions.
    pub carries_sync: bool,
    /// Whether the stream uses it now.
    pub in_use: bool,
    /// Whether the own link is up.
    pub link_up: bool,
    /// Whether heartbeats pass both ways.
    pub alive: bool,
    /// Since when the partner has not been heard on it.
    pub silent: Option<Micros>,
    /// How long a question and its answer took last.
    pub rtt: Option<Micros>,
    /// Largest datagram that passed both ways, in bytes of payload; `None` before the test.
    pub size: Option<usize>,
}

/// A finding that the operator should know.
pub(super) struct Shrunk {
    pub size: usize,
    pub expected: usize,
}

impl PathTest {
    pub fn new(config: PathConfig) -> Self {
        let full = config.datagram_max.min(crate::datagram::MAX_DATAGRAM);
        Self {
            full,
            test: Test::Idle,
            token: 0,
            sent_at: Micros(0),
            full_at: Micros(0),
            usable: full.min(SAFE),
            rtt: None,
        }
    }

    /// Bytes of body that fit.
    pub fn body_max(&self) -> usize {
        self.usable.saturating_sub(HEADER + TAG)
    }

    pub fn rtt(&self) -> Option<Micros> {
        self.rtt
    }

    /// What passed.
    pub fn size(&self) -> Option<usize> {
        match self.test {
            Test::Passed { size, .. } => Some(size),
            Test::Trying { passed, .. } => passed,
            Test::Idle => None,
        }
    }

    /// The path came alive or died.
    pub fn alive(&mut self, alive: bool, now: Micros) {
        match (alive, self.test) {
            (true, Test::Idle) => {
                self.test = Test::Trying { size: self.full, tries: 0, next: now, passed: None };
            }
            (false, _) => {
                self.test = Test::Idle;
                self.usable = self.full.min(SAFE);
                self.rtt = None;
            }
            _ => {}
        }
    }

    /// A question that is due: its token and the size of the whole datagram.
    pub fn due(&mut self, now: Micros) -> Option<(Probe, usize)> {
        if let Test::Passed { size, again } = self.test
            && now >= again
        {
            let tried = if now >= self.full_at { self.full } else { size };
            self.test = Test::Trying { size: tried, tries: 0, next: now, passed: Some(size) };
        }
        let Test::Trying { size, tries, next, passed } = self.test else { return None };
        if now < next {
            return None;
        }
        let (size, tries, passed) = match passed {
            _ if tries < TRIES => (size, tries, passed),
            // Larger than what is in use, and it does not pass: as it was.
            Some(used) if size > used => {
                self.full_at = now.after(FULL_AGAIN);
                (used, 0, passed)
            }
            // What passed does not any more.
            _ => {
                self.usable = self.full.min(SAFE);
                (self.smaller(size), 0, None)
            }
        };
        let wait = Micros(FIRST_TRY.0 << tries);
        self.test = Test::Trying { size, tries: tries + 1, next: now.after(wait), passed };
        self.token = self.token.wrapping_add(1);
        self.sent_at = now;
        Some((Probe { step: ProbeStep::Request, token: self.token }, size))
    }

    fn smaller(&self, size: usize) -> usize {
        SMALLER.into_iter().find(|candidate| *candidate < size).unwrap_or(self.full)
    }

    /// An answer of `size` bytes came in.
    pub fn answered(&mut self, token: u64, size: usize, now: Micros) -> Option<Shrunk> {
        if token != self.token {
            return None;
        }
        let Test::Trying { size: tried, .. } = self.test else { return None };
        if size < tried {
            return None;
        }
        self.rtt = Some(now.since(self.sent_at));
        let before = self.usable;
        self.usable = tried;
        self.test = Test::Passed { size: tried, again: now.after(AGAIN) };
        if before != tried || self.full_at == Micros(0) {
            self.full_at = now.after(FULL_AGAIN);
        }
        (tried < self.full && before != tried).then_some(Shrunk { size: tried, expected: self.full })
    }

    pub fn deadline(&self) -> Micros {
        match self.test {
            Test::Idle => Micros::NEVER,
            Test::Trying { next, .. } => next,
            Test::Passed { again, .. } => again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 1_472;

    fn ms(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    #[test]
    fn x_08_a_path_that_takes_the_full_size_is_used_with_it() {
        let mut path = PathTest::new(PathConfig { datagram_max: FULL, byte_rate: 0 });
        assert_eq!(path.body_max(), SAFE - 40);
        assert!(path.due(ms(0)).is_none());
        path.alive(true, ms(1));
        let (probe, size) = path.due(ms(1)).unwrap();
        assert_eq!(size, FULL);
        assert!(path.answered(probe.token, FULL, ms(3)).is_none());
        assert_eq!((path.size(), path.rtt()), (Some(FULL), Some(ms(2))));
        assert_eq!(path.body_max(), FULL - 40);
        path.alive(false, ms(9));
        assert_eq!(path.body_max(), SAFE - 40);
    }

    #[test]
    fn x_08_a_narrow_path_is_found_and_told() {
        let mut path = PathTest::new(PathConfig { datagram_max: FULL, byte_rate: 0 });
        path.alive(true, ms(0));
        let mut now = ms(0);
        let shrunk = loop {
            now = now.max(path.deadline());
            let (probe, size) = path.due(now).unwrap();
            if size <= 1_300 {
                break path.answered(probe.token, size, now).unwrap();
            }
            // An answer to an older or a smaller question proves nothing.
            assert!(path.answered(probe.token.wrapping_sub(1), size, now).is_none());
            assert!(path.answered(probe.token, size - 1, now).is_none());
        };
        assert_eq!((shrunk.size, shrunk.expected), (1_232, FULL));
        assert!(now < ms(3_000), "{now:?}");
        assert_eq!(path.body_max(), 1_232 - 40);
        // It keeps an eye on that size, and later looks whether the full one passes by now.
        let mut sizes = Vec::new();
        while sizes.last() != Some(&FULL) {
            now = now.max(path.deadline());
            let (probe, size) = path.due(now).unwrap();
            assert_eq!(path.body_max(), 1_232 - 40);
            sizes.push(size);
            if size < FULL {
                assert!(path.answered(probe.token, size, now).is_none(), "told once");
            }
        }
        assert_eq!((sizes.len(), sizes[0]), (30, 1_232));
    }

    #[test]
    fn x_08_a_path_that_shrinks_while_it_lives_is_found_within_two_seconds() {
        let mut path = PathTest::new(PathConfig { datagram_max: FULL, byte_rate: 0 });
        path.alive(true, ms(0));
        let (probe, _) = path.due(ms(0)).unwrap();
        path.answered(probe.token, FULL, ms(1));
        let mut now = ms(1);
        let shrunk = loop {
            now = now.max(path.deadline());
            let (probe, size) = path.due(now).unwrap();
            if size < FULL {
                assert_eq!(path.body_max(), SAFE - 40, "small until one passes");
                break path.answered(probe.token, size, now).unwrap();
            }
        };
        assert_eq!(shrunk.size, 1_372);
        assert!(now < ms(2_000), "{now:?}");
    }
}
