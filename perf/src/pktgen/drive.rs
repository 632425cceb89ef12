//! The loop that joins a generator, a wire and the clock.

use super::generator::{Arrival, Generator};
use super::neighbour::Neighbours;
use super::wire::Wire;
use super::{Pace, Side};
use dpdk::{BURST, Burst, Mempool};
use wire::PacketBuf;

/// How a generator is driven.
pub struct Drive<'a, W> {
    /// What it sends.
    pub generator: &'a mut Generator,
    /// By what.
    pub wire: &'a mut W,
    /// Packet buffers.
    pub pool: Mempool,
    /// Packets a second and burst, both sides together.
    pub pace: Pace,
    /// Whom it answers.
    pub neighbours: Option<&'a mut Neighbours>,
}

/// What the loop saw, beside the generator's own counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packets that the wire did not take: written, and never sent.
    pub unsent: u64,
    /// Turns of the loop.
    pub turns: u64,
}

/// Room for the longest frame.
const FRAME_MAX: usize = 1_514;

/// Sends, receives, and lets `between` do its part, as long as that returns true.
pub fn drive<W: Wire>(drive: &mut Drive<'_, W>, mut between: impl FnMut(&mut W) -> bool) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        for side in Side::BOTH {
            outcome.unsent += drive.send(side);
        }
        let goes_on = between(drive.wire);
        for side in Side::BOTH {
            drive.receive(side);
        }
        outcome.turns += 1;
        if !goes_on {
            return outcome;
        }
    }
}

impl<W: Wire> Drive<'_, W> {
    /// Takes what still comes, without sending.
    pub fn drain(&mut self) {
        for side in Side::BOTH {
            self.receive(side);
        }
    }

    /// A burst from one side, as the pace and the wire allow. Returns how many packets the wire refused.
    fn send(&mut self, side: Side) -> u64 {
        let now = dpdk::cycles();
        let room = self.wire.room(side).min(BURST) as u32;
        let granted = self.pace.take(now, room);
        let mut burst = Burst::new();
        for _ in 0..granted {
            let Some(mut frame) = self.pool.alloc() else { break };
            frame.set_len(FRAME_MAX);
            let Some(len) = self.generator.next(side, now, frame.bytes_mut()) else { break };
            frame.set_len(len);
            burst.push(frame);
        }
        self.pace.give_back(granted - burst.len() as u32);
        self.wire.send(side, &mut burst);
        let refused = burst.len() as u64;
        dpdk::free_burst(&mut burst);
        refused
    }

    fn receive(&mut self, side: Side) {
        let mut burst = Burst::new();
        loop {
            self.wire.receive(side, &mut burst);
            if burst.is_empty() {
                return;
            }
            let now = dpdk::cycles();
            for frame in &burst {
                if self.generator.arrived(side, now, frame.bytes()) == Arrival::Foreign {
                    self.answer(side, frame.bytes());
                }
            }
            let was_full = burst.is_full();
            dpdk::free_burst(&mut burst);
            if !was_full {
                return;
            }
        }
    }

    #[cold]
    fn answer(&mut self, side: Side, frame: &[u8]) {
        let Some(neighbours) = &mut self.neighbours else { return };
        let mut out = [0; 128];
        let Some(len) = neighbours.hear(side, frame, &mut out) else { return };
        let frame = out.get(..len).and_then(|bytes| self.pool.frame(bytes));
        let mut burst: Burst = frame.into_iter().collect();
        self.wire.send(side, &mut burst);
    }
}
