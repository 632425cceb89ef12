//! Packets to a subject and back: the stateless load under which clocks are counted.
//!
//! Frames go into a port's ring 32 at a time, in one piece, so that each poll of the subject finds a full
//! burst, as it does under load. What comes out is written anew and sent again: the pool is not touched
//! unless the subject drops packets.

use crate::bed::drops;
use crate::figure::Turns;
use crate::flows::{Flows, Shuffle, Step, Traffic};
use crate::rig::{Ground, Result, Rig, Wires};
use crate::subject::{Meter, Subject};
use crate::world::{LAN, WAN};
use dpdk::{BURST, Burst, LcoreGuard, Mbuf, Mempool};
use engine::PortId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
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

/// What a load sends: from which end, and where in their flows packets are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Where in its flow.
    pub step: Step,
    /// By which port.
    pub port: PortId,
}

impl Kind {
    /// What an established initiator sends.
    pub const FORTH: Kind = Kind { step: Step::FromInitiator, port: LAN };
    /// What an established responder sends.
    pub const BACK: Kind = Kind { step: Step::FromResponder, port: WAN };
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

    /// Takes back what came out. Returns how many.
    #[inline]
    pub fn collect(&mut self, wires: &mut Wires) -> u64 {
        let mut count = 0;
        let mut burst = Burst::new();
        for port in &mut wires.ports {
            while port.collect_burst(&mut burst) > 0 {
                count += burst.len() as u64;
                self.spare.extend(burst.drain(..));
            }
        }
        self.collected += count;
        count
    }

    /// Opens sessions, handshakes and all. A partner's sync core, where one is played, looks each time.
    pub fn open(&mut self, rig: &mut Rig, flows: &Flows, traffic: Traffic, count: u32) -> Result<()> {
        let steps: &[Kind] = if traffic.is_tcp() {
            &[
                Kind { step: Step::Syn, port: LAN },
                Kind { step: Step::SynAck, port: WAN },
                Kind { step: Step::FromInitiator, port: LAN },
            ]
        } else {
            &[Kind::FORTH, Kind::BACK]
        };
        let meter = rig.firewall.meter();
        let mut ignored = Turns::default();
        for first in (0..count).step_by(BURST * DEPTH) {
            let last = count.min(first + (BURST * DEPTH) as u32);
            for kind in steps {
                for first in (first..last).step_by(BURST) {
                    self.inject(&mut rig.wires, flows, *kind, first..last);
                }
                self.serve(&mut rig.firewall, &*meter, &rig.wires, &mut ignored);
                self.collect(&mut rig.wires);
            }
            ignored = Turns::default();
            rig.drain_marks();
        }
        if rig.sessions() != u64::from(count) {
            let drops = drops(&rig.counters);
            return Err(format!("{} of {count} sessions could be opened: {drops}", rig.sessions()).into());
        }
        Ok(())
    }

    /// Has the subject turn until nothing waits; `turns` learns what each turn took.
    #[inline]
    pub fn serve(&mut self, subject: &mut impl Subject, meter: &dyn Meter, wires: &Wires, turns: &mut Turns) {
        while wires.ports.iter().any(|port| port.waiting() > 0) {
            let (clocks, packets) = (meter.clocks(), meter.packets());
            subject.turn();
            turns.add(meter.clocks() - clocks, meter.packets() - packets);
        }
    }
}

/// Clocks per packet of established flows in random order, half from either end, in one thread.
pub fn interleaved(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    traffic: (&Flows, &mut Order),
    packets: u64,
) -> Result<f64> {
    let meter = subject.meter();
    let (flows, order) = traffic;
    let mut turns = Turns::default();
    let (injected, collected) = (load.injected, load.collected);
    while load.injected - injected < packets {
        for _ in 0..DEPTH {
            for kind in [Kind::FORTH, Kind::BACK] {
                load.inject(wires, flows, kind, &mut *order);
            }
        }
        load.serve(subject, &*meter, wires, &mut turns);
        load.collect(wires);
    }
    let (injected, collected) = (load.injected - injected, load.collected - collected);
    if injected != collected {
        return Err(format!("{collected} of {injected} packets passed").into());
    }
    Ok(turns.mean())
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

/// The same with generator and subject on a processor each: a figure for each stretch of
/// [`STRETCH`]. The subject's clocks now hold what it costs to fetch packets from another processor's
/// caches.
pub fn on_two_cores(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    traffic: (&Flows, &mut Order),
    stretches: usize,
) -> Result<Vec<f64>> {
    let [own, other] = two_processors()?;
    let (meter, stop, eal) = (subject.meter(), AtomicBool::new(false), load.pool.eal());
    let before = sched_getaffinity(None)?;
    pin(own)?;
    let (injected, collected) = (load.injected, load.collected);
    let stretch = AtomicUsize::new(0);
    let runs = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let _ends = StopOnDrop(&stop);
        let thread = scope.spawn(|| -> std::result::Result<Vec<f64>, String> {
            pin(other).map_err(|error| error.to_string())?;
            let _lcore = LcoreGuard::register(eal).map_err(|error| error.to_string())?;
            Ok(turn_through(subject, &*meter, &stretch, &stop))
        });
        feed(load, wires, traffic, (&stretch, stretches));
        // What waits is still worked on, so that the count comes out even.
        let began = Instant::now();
        while load.injected - injected > load.collected - collected && began.elapsed() < PATIENCE {
            load.collect(wires);
        }
        stop.store(true, Ordering::Relaxed);
        Ok(thread.join().map_err(|_| "the subject's thread ended by a panic")??)
    });
    sched_setaffinity(None, &before)?;
    let (injected, collected) = (load.injected - injected, load.collected - collected);
    if injected != collected {
        return Err(format!("{collected} of {injected} packets passed").into());
    }
    runs
}

/// How long one figure of [`on_two_cores`] takes.
pub const STRETCH: Duration = Duration::from_millis(50);
/// The subject is given so long for its last packets.
const PATIENCE: Duration = Duration::from_secs(2);
/// Packets that wait on a port, at most: few enough to stay in a cache.
const BACKLOG: usize = 512;

/// Keeps both ports full for so many stretches and one to warm up.
fn feed(
    load: &mut Load,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut Order),
    (stretch, stretches): (&AtomicUsize, usize),
) {
    for _ in 0..=stretches {
        let began = Instant::now();
        while began.elapsed() < STRETCH {
            for kind in [Kind::FORTH, Kind::BACK] {
                let port = wires.ports.get(usize::from(kind.port.0));
                if port.is_some_and(|port| port.waiting() < BACKLOG) {
                    load.inject(wires, flows, kind, &mut *order);
                }
            }
            load.collect(wires);
        }
        stretch.fetch_add(1, Ordering::Relaxed);
    }
}

/// Turns until it is told to stop; clocks per packet of each stretch but the first.
fn turn_through(
    subject: &mut impl Subject,
    meter: &dyn Meter,
    stretch: &AtomicUsize,
    stop: &AtomicBool,
) -> Vec<f64> {
    let (mut runs, mut turns, mut current) = (Vec::new(), Turns::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let (clocks, packets) = (meter.clocks(), meter.packets());
        subject.turn();
        turns.add(meter.clocks() - clocks, meter.packets() - packets);
        let now = stretch.load(Ordering::Relaxed);
        if now != current {
            let done = std::mem::take(&mut turns);
            if current > 0 && !done.is_empty() {
                runs.push(done.mean());
            }
            current = now;
        }
    }
    runs
}

/// Ends the subject's thread also if the generator fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn two_processors() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    match (cpus.next(), cpus.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err("two processors are needed, this process may use one".into()),
    }
}

fn pin(cpu: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}
