//! Subjects with a processor of their own: beside a generator that has the other one, or beside each other.

use crate::figure::{Run, Turns};
use crate::flows::{Flows, Kind};
use crate::load::{Load, interleaved};
use crate::pktgen::{Latency, Pace};
use crate::quiet::{preemptions, thread_id};
use crate::rig::{Result, Wires};
use crate::subject::{Meter, Subject};
use dpdk::{BURST, Eal, LcoreGuard};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long one figure takes.
pub const STRETCH: Duration = Duration::from_millis(50);
/// The subject is given so long for its last packets.
const PATIENCE: Duration = Duration::from_secs(2);
/// Packets that wait on a port, at most: few enough to stay in a cache.
const BACKLOG: usize = 512;
/// Packets that wait on a port under a rate, at most: a subject that was stopped for longer is not paid back.
const QUEUE: usize = 2048;
/// Packets between two looks at the clock.
const SLICE: u64 = 4096;

/// Clocks per packet of a subject with a processor of its own, a run for each stretch of [`STRETCH`]. They hold
/// what it costs to fetch packets from another processor's caches.
pub fn on_two_cores(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    traffic: (&Flows, &mut impl Iterator<Item = u32>),
    stretches: usize,
) -> Result<Vec<Run>> {
    let (meter, stretch, eal) = (subject.meter(), AtomicUsize::new(0), load.eal());
    let watch = |stop: &AtomicBool| turn_through(subject, &*meter, &stretch, stop);
    let ((), runs) = beside(eal, watch, || {
        let (injected, collected) = (load.injected, load.collected);
        feed(load, wires, traffic, (&stretch, stretches));
        all_back(load, wires, (injected, collected))
    })?;
    Ok(runs)
}

/// What a subject is offered while its latency is taken.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Packets a second, both ends together.
    pub rate: f64,
    /// Packets that leave one end at once.
    pub burst: u32,
    /// The clock's rate.
    pub hz: f64,
    /// For so long.
    pub length: Duration,
}

/// How long packets take through a subject with a processor of its own, from the moment that their burst
/// enters a ring, and how many passed in a second. Frames need no stamps: those of a port come out in order.
///
/// Pieces of the time in which the kernel took a processor from either thread are left out, those behind them
/// too: what was under way waited. On a machine that is never quiet everything counts.
pub fn timed(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut impl Iterator<Item = u32>),
    offer: Offer,
) -> Result<(Latency, f64)> {
    let (tid, turns) = (AtomicU32::new(0), AtomicUsize::new(0));
    let turn = |stop: &AtomicBool| {
        tid.store(thread_id(), Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) {
            subject.turn();
            turns.store(turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    };
    let (timed, ()) = beside(load.eal(), turn, || {
        let (injected, collected) = (load.injected, load.collected);
        let mut stream = Paced::new(offer, load.collected)?;
        let (mut disturbed, mut calm) = (Kept::new()?, Kept::new()?);
        let mut kernel = Preemptions::default();
        while calm.time < offer.length && calm.time + disturbed.time < offer.length * PATIENT {
            let took = stream.piece(load, wires, flows, order, &turns);
            let threads = [thread_id(), tid.load(Ordering::Relaxed)];
            if kernel.quiet(threads) { &mut calm } else { &mut disturbed }.keep(
                &mut stream,
                load.collected,
                took,
            );
        }
        all_back(load, wires, (injected, collected))?;
        Ok(if calm.passed > 0 { calm } else { disturbed })
    })?;
    let rate = timed.passed as f64 / timed.time.as_secs_f64();
    Ok((timed.latency, rate))
}

/// A piece of the time, after which it is asked what the kernel did.
const PIECE: Duration = Duration::from_millis(5);
/// How often the time that was asked for is tried.
const PATIENT: u32 = 5;

/// Packets under way at a rate.
struct Paced {
    offer: Offer,
    paces: [Pace; 2],
    /// When bursts left, and how much of them is not back, by the port where they come out.
    under_way: [VecDeque<(u64, usize)>; 2],
    latency: Latency,
    collected: u64,
}

impl Paced {
    fn new(offer: Offer, collected: u64) -> Result<Self> {
        let paces = [(); 2].map(|()| Pace::new(offer.rate / 2.0, offer.burst * 2, offer.hz));
        let latency = Latency::new().ok_or("a histogram")?;
        Ok(Self { offer, paces, under_way: Default::default(), latency, collected })
    }

    /// Sends and collects for a while, and until the subject is known to run: whoever waits for a processor is
    /// then counted as disturbed, and nowhere else.
    fn piece(
        &mut self,
        load: &mut Load,
        wires: &mut Wires,
        flows: &Flows,
        order: &mut impl Iterator<Item = u32>,
        turns: &AtomicUsize,
    ) -> Duration {
        let (began, burst) = (Instant::now(), self.offer.burst);
        while began.elapsed() < PIECE {
            for (kind, pace) in [Kind::FORTH, Kind::BACK].into_iter().zip(&mut self.paces) {
                let now = dpdk::cycles();
                let granted = pace.take(now, burst);
                let at = usize::from(kind.port.0);
                if granted < burst || wires.ports.get(at).is_none_or(|port| port.waiting() > QUEUE) {
                    pace.give_back(granted);
                    continue;
                }
                let mut left = burst as usize;
                while left > 0 {
                    let taken = load.inject(wires, flows, kind, order.take(left.min(BURST)));
                    self.under_way[1 - at].push_back((now, taken));
                    left = left.saturating_sub(BURST);
                }
            }
            let Self { under_way, latency, .. } = self;
            load.collect_by_port(wires, |port, count| settle(&mut under_way[port], count, latency));
        }
        let turn = turns.load(Ordering::Relaxed);
        while turns.load(Ordering::Relaxed) == turn && began.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        began.elapsed()
    }
}

/// What came of some pieces.
struct Kept {
    latency: Latency,
    passed: u64,
    time: Duration,
}

impl Kept {
    fn new() -> Result<Self> {
        Ok(Self { latency: Latency::new().ok_or("a histogram")?, passed: 0, time: Duration::ZERO })
    }

    /// Takes a piece's packets.
    fn keep(&mut self, stream: &mut Paced, collected: u64, took: Duration) {
        self.latency.add(&stream.latency);
        stream.latency.clear();
        self.passed += collected - stream.collected;
        stream.collected = collected;
        self.time += took;
    }
}

/// How often the kernel has taken processors from two threads.
#[derive(Default)]
struct Preemptions {
    before: Option<u64>,
    was_quiet: bool,
}

impl Preemptions {
    /// Nothing of that in this piece, and not in the one before.
    fn quiet(&mut self, threads: [u32; 2]) -> bool {
        let count = threads.iter().map(|tid| preemptions(*tid)).sum();
        let is_quiet = self.before.replace(count) == Some(count);
        std::mem::replace(&mut self.was_quiet, is_quiet) && is_quiet
    }
}

/// So many packets of a port have come out.
fn settle(under_way: &mut VecDeque<(u64, usize)>, mut count: usize, latency: &mut Latency) {
    let now = dpdk::cycles();
    while count > 0
        && let Some((sent, waiting)) = under_way.front_mut()
    {
        let done = count.min(*waiting);
        (0..done).for_each(|_| latency.record(*sent, now));
        count -= done;
        *waiting -= done;
        if *waiting == 0 {
            under_way.pop_front();
        }
    }
}

/// One of several subjects that work at the same time, each with its generator on its own processor.
pub struct Lane<'a, S, I> {
    /// Its packets.
    pub load: &'a mut Load,
    /// What is measured.
    pub subject: &'a mut S,
    /// Its ports' other ends.
    pub wires: &'a mut Wires,
    /// Its flows.
    pub flows: &'a Flows,
    /// Their order.
    pub order: &'a mut I,
}

/// Clocks per packet of each lane while all of them work, the generator of each between its turns.
pub fn side_by_side<S, I>(eal: Eal, lanes: Vec<Lane<'_, S, I>>, length: Duration) -> Result<Vec<Run>>
where
    S: Subject,
    I: Iterator<Item = u32> + Send,
{
    let cpus = processors()?;
    if cpus.len() < lanes.len() {
        return Err(
            format!("{} processors are needed, this process may use {}", lanes.len(), cpus.len()).into()
        );
    }
    let barrier = Barrier::new(lanes.len());
    let run = |lane: Lane<'_, S, I>, cpu| -> std::result::Result<Run, String> {
        let ready = pin(cpu).map_err(|error| error.to_string());
        let lcore = LcoreGuard::register(eal).map_err(|error| error.to_string());
        // Whoever fails still comes here, or the others would wait for ever.
        barrier.wait();
        let (_, _lcore) = (ready?, lcore?);
        let (began, mut turns) = (Instant::now(), Turns::default());
        let Lane { load, subject, wires, flows, order } = lane;
        while began.elapsed() < length {
            interleaved(load, subject, wires, (flows, &mut *order), SLICE, &mut turns)
                .map_err(|error| error.to_string())?;
        }
        Ok(turns.mean())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            lanes.into_iter().zip(cpus).map(|(lane, cpu)| scope.spawn(move || run(lane, cpu))).collect();
        let joined = threads.into_iter().map(|thread| {
            let clocks = thread.join().map_err(|_| "a lane ended by a panic".to_owned());
            Ok(clocks.flatten()?)
        });
        joined.collect()
    })
}

/// Runs `watch` on the second processor, until it is told to stop, while this thread, on the first one, does
/// `feed`.
pub fn beside<F, W: Send>(
    eal: Eal,
    watch: impl FnOnce(&AtomicBool) -> W + Send,
    feed: impl FnOnce() -> Result<F>,
) -> Result<(F, W)> {
    let (own, other) = match processors()?.as_slice() {
        [own, other, ..] => (*own, *other),
        _ => return Err("two processors are needed, this process may use one".into()),
    };
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
    let _pinned = Pinned::to(own)?;
    std::thread::scope(|scope| -> Result<(F, W)> {
        let ends = StopOnDrop(&stop);
        let thread = scope.spawn(|| -> std::result::Result<W, String> {
            let pinned = pin(other).map_err(|error| error.to_string());
            // It began on our processor: under a real-time policy it would wait there for ever.
            ready.wait();
            pinned?;
            let _lcore = LcoreGuard::register(eal).map_err(|error| error.to_string())?;
            Ok(watch(&stop))
        });
        ready.wait();
        let fed = feed()?;
        drop(ends);
        Ok((fed, thread.join().map_err(|_| "the second thread ended by a panic")??))
    })
}

/// Keeps both ports full for so many stretches and one to warm up.
fn feed(
    load: &mut Load,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut impl Iterator<Item = u32>),
    (stretch, stretches): (&AtomicUsize, usize),
) {
    for _ in 0..=stretches {
        let (began, collected) = (Instant::now(), load.collected);
        let is_on = |load: &Load| {
            let took = began.elapsed();
            // A subject that the kernel does not let work at all is waited for.
            took < STRETCH || (load.collected == collected && took < PATIENCE)
        };
        while is_on(load) {
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

/// What still waits is worked on, so that the count comes out even.
fn all_back(load: &mut Load, wires: &mut Wires, (injected, collected): (u64, u64)) -> Result<()> {
    let began = Instant::now();
    while load.injected - injected > load.collected - collected && began.elapsed() < PATIENCE {
        load.collect(wires);
    }
    let (injected, collected) = (load.injected - injected, load.collected - collected);
    if injected == collected {
        Ok(())
    } else {
        Err(format!("{collected} of {injected} packets passed").into())
    }
}

/// Turns until it is told to stop; clocks per packet of each stretch but the first. Those in which the kernel
/// took the processor away count only if there are no others.
fn turn_through(
    subject: &mut impl Subject,
    meter: &dyn Meter,
    stretch: &AtomicUsize,
    stop: &AtomicBool,
) -> Vec<Run> {
    let (mut calm, mut disturbed) = (Vec::new(), Vec::new());
    let (mut turns, mut current, mut preempted) = (Turns::default(), 0, preemptions(thread_id()));
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        let (clocks, packets) = (meter.clocks(), meter.packets());
        subject.turn();
        turns.add(meter.clocks() - clocks, meter.packets() - packets);
        let now = stretch.load(Ordering::Relaxed);
        if now != current || is_last {
            let done = std::mem::take(&mut turns);
            let before = std::mem::replace(&mut preempted, preemptions(thread_id()));
            if current > 0 && !done.is_empty() {
                if before == preempted { &mut calm } else { &mut disturbed }.push(done.mean());
            }
            current = now;
        }
        if is_last {
            break;
        }
    }
    if calm.is_empty() { disturbed } else { calm }
}

/// Ends the subject's thread also if the generator fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps this thread on a processor until it is dropped. Threads that are spawned meanwhile begin there too.
pub struct Pinned(CpuSet);

impl Pinned {
    /// On the last one that it may use: interrupts mostly go to the first.
    pub fn to_one() -> Result<Self> {
        Self::to(*processors()?.last().ok_or("a thread without a processor")?)
    }

    fn to(cpu: usize) -> Result<Self> {
        let before = sched_getaffinity(None)?;
        pin(cpu)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before, so it still is unless the machine lost the processor: nothing to be done then.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// The processors that this thread may use.
pub fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

fn pin(cpu: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_settle_in_the_order_in_which_they_left() {
        let mut under_way = VecDeque::from([(dpdk::cycles(), 3), (dpdk::cycles(), 2)]);
        let mut latency = Latency::new().unwrap();
        settle(&mut under_way, 4, &mut latency);
        assert_eq!(under_way.iter().map(|(_, waiting)| *waiting).collect::<Vec<_>>(), [1]);
        settle(&mut under_way, 1, &mut latency);
        assert!(under_way.is_empty());
        assert_eq!(latency.percentiles(1e9).samples, 5);
    }

    #[test]
    fn a_piece_is_quiet_if_it_and_the_one_before_were() {
        let mut kernel = Preemptions { before: Some(7), was_quiet: false };
        // No such threads: nothing is ever counted for them, which is a change from seven.
        let quiet = [(); 3].map(|()| kernel.quiet([0, 0]));
        assert_eq!(quiet, [false, false, true]);
    }
}
