//! What a packet costs the worker: of established sessions, and the first one of a session.

use super::{Effort, Measured, PER_PACKET, PER_SESSION, SLICES, in_turn, opened};
use crate::bed::{SPARE, drops};
use crate::figure::{Figure, Run, Turns};
use crate::flows::{Flows, Kind, Shuffle, Traffic};
use crate::load::{DEPTH, Load, Order, interleaved, serve_timed};
use crate::rig::{Ground, Part, Result, Rig, RigConfig, Wires};
use crate::subject::{Macswap, Subject};
use dpdk::BURST;
use std::ops::Range;

/// Established sessions, generator and worker in turn on one thread.
pub fn established(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows, mut order) = (Load::new(ground), Flows::new(traffic), Order::new(sessions));
    let mut ceiling = Ceiling::new(ground, traffic, sessions)?;
    let mut rig = opened(ground, &mut load, traffic, (sessions, Part::Alone))?;
    let [ceiling, value] = in_turn(effort, |subject, packets, turns| match subject {
        0 => ceiling.run(&mut load, packets, turns),
        _ => pass(&mut load, &mut rig, (&flows, &mut order), packets, turns),
    })?;
    Ok(vec![Measured {
        name: format!("established {}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value,
        ceiling: Some(ceiling),
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    }])
}

/// Packets of established sessions through a worker.
fn pass(
    load: &mut Load,
    rig: &mut Rig,
    traffic: (&Flows, &mut Order),
    packets: u64,
    turns: &mut Turns,
) -> Result<()> {
    let Rig { firewall, wires, .. } = rig;
    interleaved(load, firewall, wires, traffic, packets, turns)
        .map_err(|error| format!("{error}; dropped: {}", drops(&rig.counters)).into())
}

/// New sessions: policy, insertion under both keys, forwarding, until the table is full. With a partner run by
/// run in turn without and with, and the difference: what it costs to tell it.
pub fn new_sessions(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    (rules, partner): (usize, bool),
    effort: Effort,
) -> Result<Vec<Measured>> {
    let mut load = Load::new(ground);
    let mut ceiling = Ceiling::new(ground, traffic, sessions)?;
    let parts: &[Part] = if partner { &[Part::Alone, Part::Active] } else { &[Part::Alone] };
    let (mut ceilings, mut runs, mut page_bytes) = (Vec::new(), [Vec::new(), Vec::new()], 0);
    // Each run takes tables of its own, which the process keeps: few runs. The first one warms up.
    for run in 0..=effort.runs.div_ceil(2) {
        let config = |part| RigConfig { slots: sessions + SPARE, rules, part };
        let mut rigs =
            parts.iter().map(|part| Rig::new(ground, config(*part))).collect::<Result<Vec<_>>>()?;
        let mut turns: [Turns; 3] = Default::default();
        for slice in 0..SLICES {
            let from = |slice: u64| (u64::from(sessions) * slice / SLICES) as u32;
            ceiling.run(&mut load, effort.packets / SLICES, &mut turns[2])?;
            for (rig, turns) in rigs.iter_mut().zip(&mut turns) {
                open(&mut load, rig, traffic, (from(slice)..from(slice + 1), sessions), turns)?;
            }
        }
        let [alone, paired, macswap] = turns;
        if run > 0 {
            page_bytes = rigs.first().map_or(0, |rig| rig.page_bytes);
            ceilings.push(macswap.mean());
            runs[0].push(alone.mean());
            runs[1].push(paired.mean());
        }
    }
    let (ceiling, [alone, paired]) = (Figure::of_runs(&ceilings), runs);
    let tell = |(paired, alone): (&Run, &Run)| paired.with(*alone, |paired, alone| paired - alone);
    let told: Vec<Run> = paired.iter().zip(&alone).map(tell).collect();
    let row = |name: String, runs: Vec<Run>, ceiling| Measured {
        name,
        sessions: sessions.into(),
        unit: PER_SESSION.into(),
        value: Figure::of_runs(&runs),
        ceiling,
        page_bytes,
        hz: ground.hz(),
    };
    let name = format!("new {}, {rules} rules", traffic.name());
    let mut rows = vec![row(name.clone(), alone, Some(ceiling))];
    if partner {
        rows.push(row(format!("{name}, partner"), paired, Some(ceiling)));
        rows.push(row(format!("telling a partner of a new {}", traffic.name()), told, None));
    }
    Ok(rows)
}

/// First packets of these flows, of `sessions` in all.
fn open(
    load: &mut Load,
    rig: &mut Rig,
    traffic: Traffic,
    (numbers, sessions): (Range<u32>, u32),
    turns: &mut Turns,
) -> Result<()> {
    let kind = Kind::first(traffic);
    let (flows, order, meter) = (Flows::new(traffic), Shuffle::new(sessions), rig.firewall.meter());
    let last = numbers.end;
    for first in numbers.step_by(BURST * DEPTH) {
        let last = last.min(first + (BURST * DEPTH) as u32);
        for first in (first..last).step_by(BURST) {
            load.inject(&mut rig.wires, &flows, kind, (first..last).map(|n| order.flow(n)));
        }
        serve_timed(&mut rig.firewall, &*meter, &rig.wires, turns);
        load.collect(&mut rig.wires);
        rig.drain_marks();
    }
    if rig.sessions() != u64::from(last) {
        let drops = drops(&rig.counters);
        return Err(format!("{} of {last} sessions could be opened: {drops}", rig.sessions()).into());
    }
    Ok(())
}

/// New sessions a second that a partner is told of, in [`replication`].
const NEW_PER_SECOND: f64 = 100_000.0;
/// Clocks of a packet that the tables have room for at that rate.
const SLOWEST: f64 = 1_000.0;

/// Established sessions without a partner, with one, and with one while 100,000 sessions a second of the
/// worker's time are new: told clock by clock, so that a slow worker gets no fewer. Three workers, whose tables
/// are of one size, have their share of each moment.
pub fn replication(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows, mut order) = (Load::new(ground), Flows::new(traffic), Order::new(sessions));
    let mut ceiling = Ceiling::new(ground, traffic, sessions)?;
    let per_run = NEW_PER_SECOND * effort.packets as f64 * SLOWEST / ground.hz();
    // A burst more at the end of each slice, and somewhat more packets than were asked for.
    let room =
        (per_run * (effort.runs + 1) as f64 * 1.1) as u32 + (effort.runs + 1) as u32 * 64 * BURST as u32;
    let rig = |part| -> Result<Rig> {
        Rig::new(ground, RigConfig { slots: sessions + room + SPARE, rules: 1_000, part })
    };
    let mut rigs = [rig(Part::Alone)?, rig(Part::Active)?, rig(Part::Active)?];
    for rig in &mut rigs {
        load.open(rig, &flows, traffic, sessions)?;
    }
    let mut newcomers = Newcomers { next: sessions, last: sessions + room, traffic };
    let [ceiling, off, on, busy] = in_turn(effort, |subject, packets, turns| {
        let [off, on, busy] = &mut rigs;
        let traffic = (&flows, &mut order);
        match subject {
            0 => ceiling.run(&mut load, packets, turns)?,
            1 => pass(&mut load, off, traffic, packets, turns)?,
            2 => pass(&mut load, on, traffic, packets, turns)?,
            _ => newcomers.run(ground.hz(), &mut load, busy, traffic, packets, turns)?,
        }
        on.drain_marks();
        Ok(())
    })?;
    let names = ["no partner", "partner", "partner, 100 k new sessions/s"];
    let row = |(name, value): (&str, Figure)| Measured {
        name: format!("replication, {}: {name}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value,
        ceiling: Some(ceiling),
        page_bytes: rigs[0].page_bytes,
        hz: ground.hz(),
    };
    Ok(names.into_iter().zip([off, on, busy]).map(row).collect())
}

/// Flows whose first packets come between those of the others.
struct Newcomers {
    next: u32,
    last: u32,
    traffic: Traffic,
}

impl Newcomers {
    /// New ones and others together.
    fn run(
        &mut self,
        hz: f64,
        load: &mut Load,
        rig: &mut Rig,
        (flows, order): (&Flows, &mut Order),
        packets: u64,
        turns: &mut Turns,
    ) -> Result<()> {
        let meter = rig.firewall.meter();
        let kind = Kind::first(self.traffic);
        let (mut opened, mut spent) = (0_u64, 0.0);
        let (injected, collected) = (load.injected, load.collected);
        while load.injected - injected < packets {
            while (opened as f64) < spent * NEW_PER_SECOND / hz {
                let until = self.last.min(self.next + BURST as u32);
                let taken = load.inject(&mut rig.wires, flows, kind, self.next..until);
                if taken == 0 {
                    return Err("the worker is too slow for the room that its new sessions have".into());
                }
                opened += taken as u64;
                self.next = until;
            }
            for _ in 0..DEPTH {
                for kind in [Kind::FORTH, Kind::BACK] {
                    load.inject(&mut rig.wires, flows, kind, &mut *order);
                }
            }
            let (clocks, before) = (meter.clocks(), meter.packets());
            serve_timed(&mut rig.firewall, &*meter, &rig.wires, turns);
            // Time in which the kernel let somebody else work brings no sessions.
            let most = (meter.packets() - before) as f64 * SLOWEST;
            spent += most.min((meter.clocks() - clocks) as f64);
            load.collect(&mut rig.wires);
            rig.drain_marks();
        }
        if load.injected - injected != load.collected - collected {
            return Err(format!("packets were dropped: {}", drops(&rig.counters)).into());
        }
        Ok(())
    }
}

/// The ceiling, on ports of its own and with the same frames.
pub struct Ceiling {
    wires: Wires,
    macswap: Macswap,
    flows: Flows,
    order: Order,
}

impl Ceiling {
    /// With frames of so many flows.
    pub fn new(ground: &Ground, traffic: Traffic, sessions: u32) -> Result<Self> {
        let (wires, macswap) = ground.macswap()?;
        Ok(Self { wires, macswap, flows: Flows::new(traffic), order: Order::new(sessions) })
    }

    /// So many packets through it.
    pub fn run(&mut self, load: &mut Load, packets: u64, turns: &mut Turns) -> Result<()> {
        let traffic = (&self.flows, &mut self.order);
        interleaved(load, &mut self.macswap, &mut self.wires, traffic, packets, turns)
    }
}
