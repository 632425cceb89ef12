//! A cable that is not what it should be: loses frames, doubles them, holds them back.
//!
//! Not every kernel has netem, so this is a program of the lab's own (`lab forwarder`), run in the switch's
//! namespace between the two ports of a sync link, which leave their bridge for that time. What happens to
//! frames is drawn from a seed.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    frames::{FRAME_MAX, FramePort, wait_any},
    topology::{Host, SyncLink},
};

/// In which direction a link is impaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// In both.
    #[default]
    Both,
    /// Only what node a sends.
    FromA,
    /// Only what node b sends.
    FromB,
}

/// What happens to the frames of a link. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Impairment {
    /// Percent that are lost.
    pub loss: f64,
    /// Percent that arrive twice.
    pub duplication: f64,
    /// Percent that others overtake.
    pub reordering: f64,
    /// How much later all arrive.
    pub delay_ms: u32,
    /// Which frames it happens to.
    pub direction: Direction,
}

impl Impairment {
    /// Whether it changes anything.
    pub fn is_none(&self) -> bool {
        self.loss <= 0.0 && self.duplication <= 0.0 && self.reordering <= 0.0 && self.delay_ms == 0
    }
}

/// How long a frame is held back that others shall overtake.
const OVERTAKEN_AFTER: Duration = Duration::from_millis(3);
/// Frames under way at most; beyond that the cable is full and they are lost.
const HELD_MAX: usize = 65_536;

/// What becomes of frames, apart from sockets and clock.
#[derive(Debug)]
struct Fate {
    impairment: Impairment,
    state: u64,
    order: u64,
    held: BinaryHeap<Reverse<Held>>,
}

/// A frame under way: when it leaves, its place among those that leave then, where it came in, its bytes.
type Held = (Instant, u64, usize, Vec<u8>);

impl Fate {
    fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, state: seed | 1, order: 0, held: BinaryHeap::new() }
    }

    /// True in so many percent of calls.
    fn drawn(&mut self, percent: f64) -> bool {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (word as f64) * 100.0 < percent * f64::from(u32::MAX)
    }

    /// A frame that came in from a side: 0 is node a.
    fn arrive(&mut self, side: usize, frame: &[u8], now: Instant) {
        let Impairment { loss, duplication, reordering, delay_ms, direction } = self.impairment;
        let spared = match direction {
            Direction::Both => false,
            Direction::FromA => side != 0,
            Direction::FromB => side != 1,
        };
        if spared {
            return self.hold(side, frame, now);
        }
        if self.drawn(loss) {
            return;
        }
        let mut due = now + Duration::from_millis(delay_ms.into());
        if self.drawn(duplication) {
            self.hold(side, frame, due);
        }
        if self.drawn(reordering) {
            due += OVERTAKEN_AFTER;
        }
        self.hold(side, frame, due);
    }

    fn hold(&mut self, side: usize, frame: &[u8], due: Instant) {
        if self.held.len() < HELD_MAX {
            self.order += 1;
            self.held.push(Reverse((due, self.order, side, frame.to_vec())));
        }
    }

    /// The next frame that leaves now, with the side it came in from.
    fn leave(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        if self.held.peek().is_none_or(|Reverse((due, ..))| *due > now) {
            return None;
        }
        self.held.pop().map(|Reverse((_, _, side, frame))| (side, frame))
    }

    /// How long nothing leaves.
    fn pause(&self, now: Instant) -> Duration {
        let next = self.held.peek().map(|Reverse((due, ..))| due.saturating_duration_since(now));
        next.unwrap_or(Duration::from_millis(200)).min(Duration::from_millis(200))
    }
}

/// Carries frames between the ports of a sync link until the process ends. Runs in the switch's namespace.
pub fn run(link: SyncLink, impairment: Impairment, seed: u64) -> Result<()> {
    let ports =
        [FramePort::open_here(&link.node_port(Host::A))?, FramePort::open_here(&link.node_port(Host::B))?];
    let mut fate = Fate::new(impairment, seed);
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        wait_any(&[&ports[0], &ports[1]], fate.pause(Instant::now()));
        for (side, port) in ports.iter().enumerate() {
            // A bounded number at a time, so that a flood from one side does not silence the other.
            for _ in 0..256 {
                let Some(length) = port.receive(&mut buffer) else { break };
                fate.arrive(side, &buffer[..length], Instant::now());
            }
        }
        while let Some((side, frame)) = fate.leave(Instant::now()) {
            ports[1 - side].send(&frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(impairment: Impairment, count: u32) -> Vec<u32> {
        let (mut fate, start) = (Fate::new(impairment, 7), Instant::now());
        let mut out = Vec::new();
        for number in 0..count {
            let now = start + Duration::from_millis(number.into());
            fate.arrive(0, &number.to_be_bytes(), now);
            while let Some((side, frame)) = fate.leave(now) {
                assert_eq!(side, 0);
                out.push(u32::from_be_bytes(frame.try_into().unwrap()));
            }
        }
        out
    }

    #[test]
    fn nothing_is_changed_by_default() {
        assert!(Impairment::default().is_none());
        assert_eq!(through(Impairment::default(), 1000), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn loss_and_duplication_hit_the_share_that_was_asked_for() {
        let lost = through(Impairment { loss: 20.0, ..Impairment::default() }, 10_000).len();
        assert!((7_800..8_200).contains(&lost), "{lost} of 10000 are left");
        let doubled = through(Impairment { duplication: 5.0, ..Impairment::default() }, 10_000).len();
        assert!((10_400..10_600).contains(&doubled), "{doubled} came of 10000");
        assert_eq!(through(Impairment { loss: 100.0, ..Impairment::default() }, 1000), Vec::<u32>::new());
    }

    #[test]
    fn reordering_loses_nothing() {
        let out = through(Impairment { reordering: 10.0, ..Impairment::default() }, 10_000);
        let overtaken = out.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((500..1_500).contains(&overtaken), "{overtaken}");
        assert!(out.len() > 9_990, "{}", out.len());
    }

    #[test]
    fn delay_keeps_order() {
        let out = through(Impairment { delay_ms: 50, ..Impairment::default() }, 1000);
        assert_eq!(out, (0..950).collect::<Vec<_>>());
    }

    #[test]
    fn one_direction_is_spared() {
        let impairment = Impairment { loss: 100.0, direction: Direction::FromB, ..Impairment::default() };
        assert_eq!(through(impairment, 10).len(), 10);
        let impairment = Impairment { direction: Direction::FromA, ..impairment };
        assert_eq!(through(impairment, 10), Vec::<u32>::new());
    }
}
