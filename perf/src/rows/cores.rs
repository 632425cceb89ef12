//! The worker with a processor of its own: clocks, how long packets take, and several workers at a time.

use super::{Effort, FEW_RULES, Measured, PER_PACKET, TWO_CORES, opened};
use crate::bed::{SPARE, drops};
use crate::cores::{Lane, Offer, STRETCH, on_two_cores, processors, side_by_side, timed};
use crate::figure::{Figure, Run};
use crate::flows::{Flows, Shuffle, Traffic};
use crate::load::{Load, Order};
use crate::pktgen::Percentiles;
use crate::rig::{Ground, Part, Result, Rig, RigConfig, Wires};
use crate::subject::{Macswap, Subject};
use crate::world;
use engine::WorkerId;
use std::iter::{Copied, Cycle};
use std::slice::Iter;
use std::time::Duration;

/// The rates at which packets are timed, as parts of what the worker can do.
const LOADS: [f64; 2] = [0.5, 0.9];
/// How long packets are timed in a run.
const TIMED: Duration = Duration::from_millis(200);

/// Established sessions, generator and worker on a processor each.
pub fn established(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows, mut order) = (Load::new(ground), Flows::new(traffic), Order::new(sessions));
    let (mut free, mut macswap) = ground.macswap()?;
    let mut rig = opened(ground, &mut load, traffic, (sessions, Part::Alone))?;
    let (mut ceilings, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        ceilings.extend(on_two_cores(&mut load, &mut macswap, &mut free, (&flows, &mut order), 2)?);
        let Rig { firewall, wires, .. } = &mut rig;
        let stretches = on_two_cores(&mut load, firewall, wires, (&flows, &mut order), 2);
        runs.extend(stretches.map_err(|error| format!("{error}; dropped: {}", drops(&rig.counters)))?);
    }
    Ok(vec![Measured {
        name: format!("established {}, {TWO_CORES}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value: Figure::of_runs(&runs),
        ceiling: Some(Figure::of_runs(&ceilings)),
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    }])
}

/// How long packets take at parts of the rate that the worker can do, and through the ceiling at the same rates.
pub fn latency(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    burst: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows, mut order) = (Load::new(ground), Flows::new(traffic), Order::new(sessions));
    let (mut free, mut macswap) = ground.macswap()?;
    let mut rig = opened(ground, &mut load, traffic, (sessions, Part::Alone))?;
    let Rig { firewall, wires, page_bytes, .. } = &mut rig;
    let clocks = on_two_cores(&mut load, firewall, wires, (&flows, &mut order), effort.runs)?;
    let most = ground.hz() / Figure::of_runs(&clocks).median;
    let mut rows = Vec::new();
    for part in LOADS {
        let offer = Offer { rate: most * part, burst, hz: ground.hz(), length: TIMED };
        let (mut own, mut others, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.runs {
            let (latency, _) = timed(&mut load, &mut macswap, &mut free, (&flows, &mut order), offer)?;
            others.push(latency.percentiles(ground.hz()));
            let (latency, rate) = timed(&mut load, firewall, wires, (&flows, &mut order), offer)?;
            own.push(latency.percentiles(ground.hz()));
            rates.push(rate);
        }
        let name = format!("latency, {}, bursts of {burst}, {:.0} % load", traffic.name(), part * 100.0);
        let mut row = |what: &str, unit: &str, value, ceiling| {
            rows.push(Measured {
                name: format!("{name}: {what}"),
                sessions: sessions.into(),
                unit: unit.into(),
                value,
                ceiling,
                page_bytes: *page_bytes,
                hz: ground.hz(),
            });
        };
        row("passed", PACKETS, Figure::of(rates), None);
        for (what, quantile) in QUANTILES {
            let figure = |of: &[Percentiles]| Figure::of(of.iter().map(quantile).collect());
            row(what, "us", figure(&own), Some(figure(&others)));
        }
    }
    Ok(rows)
}

/// What is quoted of a histogram.
type Quantile = fn(&Percentiles) -> f64;
const QUANTILES: [(&str, Quantile); 4] = [
    ("p50", |latency| latency.p50_us),
    ("p99", |latency| latency.p99_us),
    ("p99.9", |latency| latency.p999_us),
    ("max", |latency| latency.max_us),
];

/// The unit of rates.
const PACKETS: &str = "packets/s";

/// One worker on one processor, then two on two and so on, as far as there are processors: each with the same
/// load, its generator between its turns, `sessions` in its table. More than one have to steer: each looks at
/// each packet whether it is for itself.
pub fn scaling(ground: &Ground, traffic: Traffic, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let (mut rows, mut one) = (Vec::new(), None);
    let most = processors()?.len().min(MOST_WORKERS);
    for workers in std::iter::successors(Some(1), |workers| Some(workers * 2)).take_while(|n| *n <= most) {
        let mut team = Team::new(ground, traffic, sessions, workers as u8)?;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for run in 0..=effort.runs {
            let (ceiling, value) = (team.ceiling(ground)?, team.run(ground)?);
            if run > 0 {
                others.push(ceiling);
                own.push(value);
            }
        }
        // What one worker more brings, against as many machines with one.
        let rates = |of: &[Vec<Run>]| -> Vec<f64> {
            of.iter().map(|lanes| lanes.iter().map(|run| ground.hz() / run.best_known()).sum()).collect()
        };
        let clocks = |of: &[Vec<Run>]| Figure::of_runs(&of.concat());
        let (rate, limit) = (Figure::of(rates(&own)), Figure::of(rates(&others)));
        let mut row = |what: String, unit: &str, value, ceiling| {
            rows.push(Measured {
                name: format!("{SCALING}, {}: {what}", traffic.name()),
                sessions: u64::from(sessions) * workers as u64,
                unit: unit.into(),
                value,
                ceiling: Some(ceiling),
                page_bytes: team.page_bytes,
                hz: ground.hz(),
            });
        };
        let plural = if workers == 1 { "" } else { "s" };
        row(format!("{workers} worker{plural}, each"), PER_PACKET, clocks(&own), clocks(&others));
        row(format!("{workers} worker{plural}, together"), PACKETS, rate, limit);
        let (first_rate, first_limit) = *one.get_or_insert((rate.median, limit.median));
        if workers > 1 {
            let (value, ceiling) = (rate.scaled(1.0 / first_rate), limit.scaled(1.0 / first_limit));
            row(format!("{workers} workers against one"), "times", value, ceiling);
        }
    }
    Ok(rows)
}

/// What the names of its rows begin with.
pub const SCALING: &str = "scaling";
/// More are not tried.
const MOST_WORKERS: usize = 16;

/// Workers of one firewall, and as many ceilings.
struct Team {
    flows: Flows,
    rigs: Vec<Rig>,
    macswaps: Vec<(Wires, Macswap)>,
    loads: Vec<Load>,
    /// The flows of each worker's sessions, in the order in which they are visited.
    numbers: Vec<Vec<u32>>,
    page_bytes: u64,
}

impl Team {
    fn new(ground: &Ground, traffic: Traffic, sessions: u32, workers: u8) -> Result<Self> {
        let (flows, steering) = (Flows::new(traffic), world::steering(workers)?);
        let config = RigConfig { slots: sessions + SPARE, rules: FEW_RULES, part: Part::Alone };
        let mut rigs = Rig::team(ground, config, workers)?;
        let (mut loads, mut numbers) = (Vec::new(), Vec::new());
        for (at, rig) in rigs.iter_mut().enumerate() {
            let mut load = Load::new(ground);
            let is_own = |number: &u32| steering.owner_of(&flows.key(*number)) == WorkerId(at as u8);
            let own: Vec<u32> = (0..FLOWS_MAX).filter(is_own).take(sessions as usize).collect();
            let number = |n: u32| own.get(n as usize).copied().unwrap_or(0);
            load.open_some(rig, &flows, traffic, (sessions, number))?;
            let shuffle = Shuffle::new(sessions);
            numbers.push((0..sessions).map(|n| number(shuffle.flow(n))).collect());
            loads.push(load);
        }
        let macswaps = rigs.iter().map(|_| ground.macswap()).collect::<Result<_>>()?;
        let page_bytes = rigs.first().map_or(0, |rig| rig.page_bytes);
        Ok(Self { flows, rigs, macswaps, loads, numbers, page_bytes })
    }

    fn run(&mut self, ground: &Ground) -> Result<Vec<Run>> {
        let subjects = self.rigs.iter_mut().map(|rig| (&mut rig.firewall, &mut rig.wires));
        let lanes = (self.loads.as_mut_slice(), self.numbers.as_slice(), &self.flows);
        let clocks = together(ground, subjects, lanes);
        clocks.map_err(|error| {
            let dropped: Vec<String> = self.rigs.iter().map(|rig| drops(&rig.counters)).collect();
            format!("{error}; dropped: {}", dropped.join("; ")).into()
        })
    }

    fn ceiling(&mut self, ground: &Ground) -> Result<Vec<Run>> {
        let subjects = self.macswaps.iter_mut().map(|(wires, macswap)| (macswap, wires));
        together(ground, subjects, (self.loads.as_mut_slice(), self.numbers.as_slice(), &self.flows))
    }
}

/// Flows that are looked through for a worker's own.
const FLOWS_MAX: u32 = 1 << 24;

/// Clocks per packet of each subject while all of them work.
fn together<'a, S: Subject + 'a>(
    ground: &Ground,
    subjects: impl Iterator<Item = (&'a mut S, &'a mut Wires)>,
    (loads, numbers, flows): (&'a mut [Load], &'a [Vec<u32>], &'a Flows),
) -> Result<Vec<Run>> {
    let mut orders: Vec<Cycle<Copied<Iter<u32>>>> =
        numbers.iter().map(|numbers| numbers.iter().copied().cycle()).collect();
    let lanes = subjects.zip(loads).zip(&mut orders);
    let lanes = lanes.map(|(((subject, wires), load), order)| Lane { load, subject, wires, flows, order });
    side_by_side(ground.pool.eal(), lanes.collect(), STRETCH * 2)
}
