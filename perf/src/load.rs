//! Packets to a subject and back: the stateless load under which clocks are counted.
//!
//! Frames go into a port's ring 32 at a time, in one piece, so that each poll of the subject finds a full
//! burst, as it does under load. What comes out is written anew and sent again: the pool is not touched
//! unless the subject drops packets.

use crate::bed::drops;
use crate::figure::Turns;
use crate::flows::{Flows, Kind, Shuffle, Traffic};
use crate::rig::{Ground, Result, Rig, Wires};
use crate::subject::{Meter, Subject};
use dpdk::{BURST, Burst, Mbuf, Mempool};
use wire::PacketBuf;

/// Bursts that wait on each port before the subject turns, in one-thread mode. The subject then has its
/// own code and data in the caches, as it would have without a generator beside it.
pub const DEPTH: usize = 8;

/// A subject's surroundings: packets that wait to be written.
pub struct Load {
    pool: Mempool,
    spare: Vec<Mbuf>,
    /// Packets put in.
    pub injected: u64,
    /// Packets that came out.
    pub collected: u64,
}

impl Load {
    /// A load out of the ground's pool.
    pub fn new(ground: &Ground) -> Self {
        Self { pool: ground.pool, spare: Vec::with_capacity(8192), injected: 0, collected: 0 }
    }

    /// Writes a burst of these flows and lets it arrive. Fewer than all only if the pool is empty or the
    /// ring full; the caller leaves room.
    #[inline]
    pub fn inject(
        &mut self,
        wires: &mut Wires,
        flows: &Flows,
        kind: Kind,
        numbers: impl Iterator<Item = u32>,
    ) -> usize {
        let mut burst = Burst::new();
        for flow in numbers.take(BURST) {
            let Some(mut frame) = self.spare.pop().or_else(|| self.pool.alloc()) else { break };
            frame.set_len(128);
            if let Some(len) = flows.write(frame.bytes_mut(), flow, kind.step) {
                frame.set_len(len);
            }
            burst.push(frame);
        }
        let Some(port) = wires.ports.get_mut(usize::from(kind.port.0)) else { return 0 };
        let taken = port.inject_burst(&mut burst);
        self.spare.extend(burst.drain(..));
        self.injected += taken as u64;
        taken
    }

    /// Takes back what came out.
    #[inline]
    pub fn collect(&mut self, wires: &mut Wires) {
        self.collect_by_port(wires, |_, _| ());
    }

    /// Takes back what came out; `each` learns how many came out of which port.
    #[inline]
    pub fn collect_by_port(&mut self, wires: &mut Wires, mut each: impl FnMut(usize, usize)) {
        let mut burst = Burst::new();
        for (at, port) in wires.ports.iter_mut().enumerate() {
            while port.collect_burst(&mut burst) > 0 {
                each(at, burst.len());
                self.collected += burst.len() as u64;
                self.spare.extend(burst.drain(..));
            }
        }
    }

    /// The EAL of its pool.
    pub fn eal(&self) -> dpdk::Eal {
        self.pool.eal()
    }

    /// Opens sessions, handshakes and all. A partner's sync core, where one is played, looks each time.
    pub fn open(&mut self, rig: &mut Rig, flows: &Flows, traffic: Traffic, count: u32) -> Result<()> {
        self.open_some(rig, flows, traffic, (count, |number| number))
    }

    /// The same for so many flows with other numbers.
    pub fn open_some(
        &mut self,
        rig: &mut Rig,
        flows: &Flows,
        traffic: Traffic,
        (count, number): (u32, impl Fn(u32) -> u32),
    ) -> Result<()> {
        for first in (0..count).step_by(BURST * DEPTH) {
            let last = count.min(first + (BURST * DEPTH) as u32);
            for kind in Kind::opening(traffic) {
                for first in (first..last).step_by(BURST) {
                    self.inject(&mut rig.wires, flows, *kind, (first..last).map(&number));
                }
                serve(&rig.wires, || rig.firewall.turn());
                self.collect(&mut rig.wires);
            }
            rig.drain_marks();
        }
        if rig.sessions() != u64::from(count) {
            let drops = drops(&rig.counters);
            return Err(format!("{} of {count} sessions could be opened: {drops}", rig.sessions()).into());
        }
        Ok(())
    }
}

/// Turns until nothing waits.
#[inline]
fn serve(wires: &Wires, mut turn: impl FnMut()) {
    while wires.ports.iter().any(|port| port.waiting() > 0) {
        turn();
    }
}

/// Has the subject turn until nothing waits; `turns` learns what each turn took.
#[inline]
pub fn serve_timed(subject: &mut impl Subject, meter: &dyn Meter, wires: &Wires, turns: &mut Turns) {
    serve(wires, || {
        let (clocks, packets) = (meter.clocks(), meter.packets());
        subject.turn();
        turns.add(meter.clocks() - clocks, meter.packets() - packets);
    });
}

/// Packets of established flows, half from either end, in one thread; `turns` learns what each turn took.
pub fn interleaved(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut impl Iterator<Item = u32>),
    packets: u64,
    turns: &mut Turns,
) -> Result<()> {
    let meter = subject.meter();
    let (injected, collected) = (load.injected, load.collected);
    while load.injected - injected < packets {
        for _ in 0..DEPTH {
            for kind in [Kind::FORTH, Kind::BACK] {
                load.inject(wires, flows, kind, &mut *order);
            }
        }
        serve_timed(subject, &*meter, wires, turns);
        load.collect(wires);
    }
    let (injected, collected) = (load.injected - injected, load.collected - collected);
    if injected != collected {
        return Err(format!("{collected} of {injected} packets passed").into());
    }
    Ok(())
}

/// All flows in random order, again and again.
pub struct Order {
    shuffle: Shuffle,
    number: u32,
}

impl Order {
    /// Over so many flows.
    pub fn new(flows: u32) -> Self {
        Self { shuffle: Shuffle::new(flows), number: 0 }
    }
}

impl Iterator for Order {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let flow = self.shuffle.flow(self.number);
        self.number = self.number.wrapping_add(1);
        Some(flow)
    }
}
