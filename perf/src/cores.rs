//! Subjects with a processor of their own: beside a generator that has the other one, or beside each other.

use crate::figure::Turns;
use crate::flows::Flows;
use crate::load::{Kind, Load, interleaved};
use crate::pktgen::{Latency, Pace};
use crate::rig::{Result, Wires};
use crate::subject::{Meter, Subject};
use dpdk::{BURST, Eal, LcoreGuard};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// Clocks per packet of a subject with a processor of its own, a figure for each stretch of [`STRETCH`]. They
/// hold what it costs to fetch packets from another processor's caches.
pub fn on_two_cores(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    traffic: (&Flows, &mut impl Iterator<Item = u32>),
    stretches: usize,
) -> Result<Vec<f64>> {
    let (meter, stretch, eal) = (subject.meter(), AtomicUsize::new(0), load.eal());
    let watch = |subject: &mut _, stop: &AtomicBool| turn_through(subject, &*meter, &stretch, stop);
    let ((), runs) = beside(eal, subject, watch, || {
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
pub fn timed(
    load: &mut Load,
    subject: &mut impl Subject,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut impl Iterator<Item = u32>),
    offer: Offer,
) -> Result<(Latency, f64)> {
    let mut latency = Latency::new().ok_or("a histogram")?;
    let turn = |subject: &mut _, stop: &AtomicBool| turn_until(subject, stop);
    let (rate, ()) = beside(load.eal(), subject, turn, || {
        let (injected, collected) = (load.injected, load.collected);
        let mut paces = [(); 2].map(|()| Pace::new(offer.rate / 2.0, offer.burst * 2, offer.hz));
        let mut under_way: [VecDeque<(u64, usize)>; 2] = Default::default();
        let began = Instant::now();
        while began.elapsed() < offer.length {
            for (kind, pace) in [Kind::FORTH, Kind::BACK].into_iter().zip(&mut paces) {
                let now = dpdk::cycles();
                let granted = pace.take(now, offer.burst);
                let at = usize::from(kind.port.0);
                if granted < offer.burst || wires.ports.get(at).is_none_or(|port| port.waiting() > QUEUE) {
                    pace.give_back(granted);
                    continue;
                }
                for _ in 0..offer.burst.div_ceil(BURST as u32) {
                    let taken =
                        load.inject(wires, flows, kind, order.take(offer.burst.min(BURST as u32) as usize));
                    under_way[1 - at].push_back((now, taken));
                }
            }
            load.collect_by_port(wires, |port, count| settle(&mut under_way[port], count, &mut latency));
        }
        let rate = (load.collected - collected) as f64 / began.elapsed().as_secs_f64();
        all_back(load, wires, (injected, collected))?;
        Ok(rate)
    })?;
    Ok((latency, rate))
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
pub fn side_by_side<S, I>(eal: Eal, lanes: Vec<Lane<'_, S, I>>, length: Duration) -> Result<Vec<f64>>
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
    let run = |lane: Lane<'_, S, I>, cpu| -> std::result::Result<f64, String> {
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

/// Runs `watch` over the subject on the second processor while this thread, on the first one, does `feed`.
fn beside<S: Subject, F, W: Send>(
    eal: Eal,
    subject: &mut S,
    watch: impl FnOnce(&mut S, &AtomicBool) -> W + Send,
    feed: impl FnOnce() -> Result<F>,
) -> Result<(F, W)> {
    let (own, other) = match processors()?.as_slice() {
        [own, other, ..] => (*own, *other),
        _ => return Err("two processors are needed, this process may use one".into()),
    };
    let (stop, before) = (AtomicBool::new(false), sched_getaffinity(None)?);
    pin(own)?;
    let both = std::thread::scope(|scope| -> Result<(F, W)> {
        let ends = StopOnDrop(&stop);
        let thread = scope.spawn(|| -> std::result::Result<W, String> {
            pin(other).map_err(|error| error.to_string())?;
            let _lcore = LcoreGuard::register(eal).map_err(|error| error.to_string())?;
            Ok(watch(subject, &stop))
        });
        let fed = feed()?;
        drop(ends);
        Ok((fed, thread.join().map_err(|_| "the subject's thread ended by a panic")??))
    });
    sched_setaffinity(None, &before)?;
    both
}

/// Keeps both ports full for so many stretches and one to warm up.
fn feed(
    load: &mut Load,
    wires: &mut Wires,
    (flows, order): (&Flows, &mut impl Iterator<Item = u32>),
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

fn turn_until(subject: &mut impl Subject, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        subject.turn();
    }
}

/// Ends the subject's thread also if the generator fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The processors that this process may use.
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
}
