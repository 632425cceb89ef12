//! Clocks per packet in one-core mode.

use crate::bed::{Bed, BedConfig, LAN, WAN};
use crate::flows::{Flows, Shuffle, Step, Traffic};
use engine::{BURST, Burst, Ticks};
use quanta::Clock;
use serde::Serialize;
use wire::{HeapBuf, PacketBuf};

/// Minimum, median and maximum over the runs, in TSC clocks per packet.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// The fastest run.
    pub min: f64,
    /// The middle run.
    pub median: f64,
    /// The slowest run.
    pub max: f64,
}

impl Figure {
    fn of(mut runs: Vec<f64>) -> Figure {
        runs.sort_by(f64::total_cmp);
        let at = |i: usize| runs.get(i).copied().unwrap_or(f64::NAN);
        Figure { min: at(0), median: at(runs.len() / 2), max: at(runs.len().saturating_sub(1)) }
    }
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Sessions in the table.
    pub sessions: u32,
    /// Clocks per packet, or per session.
    pub clocks: Figure,
}

/// The stopwatch: TSC clocks, its own cost taken off.
pub struct Stopwatch {
    clock: Clock,
    overhead: u64,
}

impl Default for Stopwatch {
    fn default() -> Self {
        let clock = Clock::new();
        let overhead = (0..1_000)
            .map(|_| {
                let start = clock.raw();
                clock.raw() - start
            })
            .min()
            .unwrap_or(0);
        Self { clock, overhead }
    }
}

impl Stopwatch {
    /// Clocks that `work` takes.
    #[inline(always)]
    pub fn time(&self, work: impl FnOnce()) -> u64 {
        let start = self.clock.raw();
        work();
        (self.clock.raw() - start).saturating_sub(self.overhead)
    }
}

/// The clocks of a run's bursts. On a shared machine some bursts are interrupted for milliseconds; the
/// slowest two in a hundred are left out of the mean.
#[derive(Default)]
struct Bursts(Vec<u64>);

impl Bursts {
    #[inline(always)]
    fn add(&mut self, clocks: u64) {
        self.0.push(clocks);
    }

    fn mean(mut self) -> f64 {
        self.0.sort_unstable();
        let kept = (self.0.len() * 98).div_ceil(100).max(1);
        self.0.iter().take(kept).sum::<u64>() as f64 / kept as f64
    }
}

/// Slots that handshakes under way must not fill.
pub const SPARE: u32 = 96;

/// Runs of a row; the median is quoted.
pub const RUNS: usize = 7;

/// Clocks per packet of established sessions, packets in random order over all of them, half from either
/// end.
pub fn established(
    traffic: Traffic,
    sessions: u32,
    packets: u32,
) -> Result<(Row, Bed), Box<dyn std::error::Error>> {
    // The index at 85 %: every slot in use but the few that a table keeps free of half-open sessions.
    let mut bed = Bed::new(BedConfig { slots: sessions + SPARE, rules: 10, replicate: false })?;
    let flows = Flows::new(traffic);
    bed.open_sessions(&flows, traffic, sessions);
    if bed.sessions() != sessions {
        let drops = bed.drops();
        return Err(format!("{} of {sessions} sessions could be opened: {drops}", bed.sessions()).into());
    }
    let (watch, order) = (Stopwatch::default(), Shuffle::new(sessions));
    let (mut runs, mut number) = (Vec::new(), 0_u32);
    let mut burst: Burst<HeapBuf> = Burst::new();
    for run in 0..=RUNS {
        let (mut bursts, mut done) = (Bursts::default(), 0_u32);
        while done < packets {
            let (step, port) =
                if done & 32 == 0 { (Step::FromInitiator, LAN) } else { (Step::FromResponder, WAN) };
            bed.load(&mut burst, &flows, step, (0..BURST as u32).map(|n| order.flow(number.wrapping_add(n))));
            number = number.wrapping_add(BURST as u32);
            done += burst.len() as u32;
            bursts.add(watch.time(|| bed.run(Ticks(1), port, &mut burst)));
            if bed.sink.sent.len() != BURST {
                return Err(format!("{} of {BURST} packets passed", bed.sink.sent.len()).into());
            }
        }
        // The first round warms up.
        if run > 0 {
            runs.push(bursts.mean() / BURST as f64);
        }
    }
    let name = format!("established {}", traffic.name());
    Ok((Row { name, sessions, clocks: Figure::of(runs) }, bed))
}

/// Clocks per new session: policy of `rules` rules, both keys, until the table is full.
pub fn new_sessions(
    traffic: Traffic,
    sessions: u32,
    rules: usize,
    replicate: bool,
) -> Result<Row, Box<dyn std::error::Error>> {
    let (watch, flows) = (Stopwatch::default(), Flows::new(traffic));
    let step = if traffic.is_tcp() { Step::Syn } else { Step::FromInitiator };
    let mut runs = Vec::new();
    for _ in 0..3 {
        let mut bed = Bed::new(BedConfig { slots: sessions, rules, replicate })?;
        let (mut burst, mut bursts) = (Burst::new(), Bursts::default());
        let order = Shuffle::new(sessions);
        let mut number = 0;
        while number + (BURST as u32) <= sessions {
            bed.load(&mut burst, &flows, step, (number..number + BURST as u32).map(|n| order.flow(n)));
            number += BURST as u32;
            bursts.add(watch.time(|| bed.run(Ticks(1), LAN, &mut burst)));
            bed.drain_marks();
        }
        runs.push(bursts.mean() / BURST as f64);
    }
    let marks = if replicate { ", marked" } else { "" };
    let name = format!("new {} session, {rules} rules{marks}", traffic.name());
    Ok(Row { name, sessions, clocks: Figure::of(runs) })
}

/// The ceiling: the same harness, the same frames, both MAC addresses swapped and nothing else.
pub fn macswap(packets: u32) -> Result<Row, Box<dyn std::error::Error>> {
    let mut bed = Bed::new(BedConfig { slots: 1_024, rules: 1, replicate: false })?;
    let (watch, flows) = (Stopwatch::default(), Flows::new(Traffic::Tcp4));
    let mut burst: Burst<HeapBuf> = Burst::new();
    let mut runs = Vec::new();
    for run in 0..=RUNS {
        let (mut bursts, mut done) = (Bursts::default(), 0);
        while done < packets {
            bed.load(&mut burst, &flows, Step::FromInitiator, 0..BURST as u32);
            done += burst.len() as u32;
            bursts.add(watch.time(|| {
                for mut frame in burst.drain(..) {
                    if let Some(macs) = frame.bytes_mut().first_chunk_mut::<12>() {
                        macs.rotate_left(6);
                    }
                    bed.sink.sent.push(frame);
                }
            }));
        }
        if run > 0 {
            runs.push(bursts.mean() / BURST as f64);
        }
    }
    Ok(Row { name: "ceiling: macswap".into(), sessions: 0, clocks: Figure::of(runs) })
}
