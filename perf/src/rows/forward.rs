//! What a packet costs the worker: of established sessions, and the first one of a session.

use super::{Effort, Measured, PER_PACKET, PER_SESSION, TWO_CORES};
use crate::bed::{SPARE, drops};
use crate::figure::{Figure, Turns};
use crate::flows::{Flows, Shuffle, Step, Traffic};
use crate::load::{DEPTH, Kind, Load, Order, interleaved, on_two_cores};
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use crate::subject::Subject;
use crate::world::LAN;
use dpdk::BURST;

/// Rules of a policy that is not asked.
const FEW_RULES: usize = 10;

/// Established sessions, generator and worker in turn on one thread.
pub fn established(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows) = (Load::new(ground), Flows::new(traffic));
    let mut ceiling = Ceiling::new(ground, traffic, sessions)?;
    let config = RigConfig { slots: sessions + SPARE, rules: FEW_RULES, part: Part::Alone };
    let mut rig = Rig::new(ground, config)?;
    load.open(&mut rig, &flows, traffic, sessions)?;
    let mut order = Order::new(sessions);
    let mut runs = Vec::new();
    for run in 0..=effort.runs {
        ceiling.run(&mut load, effort.packets)?;
        let Rig { firewall, wires, .. } = &mut rig;
        let clocks = interleaved(&mut load, firewall, wires, (&flows, &mut order), effort.packets)
            .map_err(|error| format!("{error}; dropped: {}", drops(&rig.counters)))?;
        // The first run warms up.
        if run > 0 {
            runs.push(clocks);
        }
    }
    Ok(vec![Measured {
        name: format!("established {}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value: Figure::of(runs),
        ceiling: Some(ceiling.figure()),
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    }])
}

/// The same with a processor for each.
pub fn established_on_two_cores(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows) = (Load::new(ground), Flows::new(traffic));
    let mut order = Order::new(sessions);
    let (mut wires, mut macswap) = ground.macswap()?;
    let stretches = effort.runs * 2;
    let ceiling = on_two_cores(&mut load, &mut macswap, &mut wires, (&flows, &mut order), stretches)?;
    let config = RigConfig { slots: sessions + SPARE, rules: FEW_RULES, part: Part::Alone };
    let mut rig = Rig::new(ground, config)?;
    load.open(&mut rig, &flows, traffic, sessions)?;
    let Rig { firewall, wires, .. } = &mut rig;
    let runs = on_two_cores(&mut load, firewall, wires, (&flows, &mut order), stretches)
        .map_err(|error| format!("{error}; dropped: {}", drops(&rig.counters)))?;
    Ok(vec![Measured {
        name: format!("established {}, {TWO_CORES}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value: Figure::of(runs),
        ceiling: Some(Figure::of(ceiling)),
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    }])
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
    let (mut alone, mut paired, mut page_bytes) = (Vec::new(), Vec::new(), 0);
    // Each run takes a table of its own, which the process keeps: few runs.
    for _ in 0..=effort.runs.div_ceil(2) {
        ceiling.run(&mut load, effort.packets)?;
        let mut fill = |part| -> Result<f64> {
            let mut rig = Rig::new(ground, RigConfig { slots: sessions + SPARE, rules, part })?;
            page_bytes = rig.page_bytes;
            fill(&mut load, &mut rig, traffic, sessions)
        };
        alone.push(fill(Part::Alone)?);
        if partner {
            paired.push(fill(Part::Active)?);
        }
    }
    let ceiling = ceiling.figure();
    let told: Vec<f64> = paired.iter().zip(&alone).map(|(paired, alone)| paired - alone).collect();
    let row = |name: String, runs: Vec<f64>, ceiling| Measured {
        name,
        sessions: sessions.into(),
        unit: PER_SESSION.into(),
        value: Figure::of(runs),
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

/// Clocks per session, until there are so many.
fn fill(load: &mut Load, rig: &mut Rig, traffic: Traffic, sessions: u32) -> Result<f64> {
    let kind = Kind { step: if traffic.is_tcp() { Step::Syn } else { Step::FromInitiator }, port: LAN };
    let (flows, order) = (Flows::new(traffic), Shuffle::new(sessions));
    let (meter, mut turns) = (rig.firewall.meter(), Turns::default());
    for first in (0..sessions).step_by(BURST * DEPTH) {
        let last = sessions.min(first + (BURST * DEPTH) as u32);
        for first in (first..last).step_by(BURST) {
            load.inject(&mut rig.wires, &flows, kind, (first..last).map(|n| order.flow(n)));
        }
        load.serve(&mut rig.firewall, &*meter, &rig.wires, &mut turns);
        load.collect(&mut rig.wires);
        rig.drain_marks();
    }
    if rig.sessions() != u64::from(sessions) {
        let drops = drops(&rig.counters);
        return Err(format!("{} of {sessions} sessions could be opened: {drops}", rig.sessions()).into());
    }
    Ok(turns.mean())
}

/// New sessions a second that a partner is told of, in [`replication`].
const NEW_PER_SECOND: f64 = 100_000.0;

/// Established sessions without a partner, with one, and with one while 100,000 sessions a second of the
/// worker's time are new: told clock by clock, so that a slow worker gets no fewer.
pub fn replication(
    ground: &Ground,
    traffic: Traffic,
    sessions: u32,
    effort: Effort,
) -> Result<Vec<Measured>> {
    let (mut load, flows) = (Load::new(ground), Flows::new(traffic));
    let mut ceiling = Ceiling::new(ground, traffic, sessions)?;
    let per_run = (NEW_PER_SECOND * effort.packets as f64 * 2_000.0 / ground.hz()) as u32;
    let room = per_run.saturating_mul(effort.runs as u32 + 1);
    let rig = |slots, part| Rig::new(ground, RigConfig { slots: slots + SPARE, rules: 1_000, part });
    let mut alone = rig(sessions, Part::Alone)?;
    let mut paired = rig(sessions + room, Part::Active)?;
    load.open(&mut alone, &flows, traffic, sessions)?;
    load.open(&mut paired, &flows, traffic, sessions)?;
    let mut order = Order::new(sessions);
    let mut newcomers = Newcomers { next: sessions, last: sessions + room, traffic };
    let mut runs: [Vec<f64>; 3] = Default::default();
    for run in 0..=effort.runs {
        ceiling.run(&mut load, effort.packets)?;
        let Rig { firewall, wires, .. } = &mut alone;
        let off = interleaved(&mut load, firewall, wires, (&flows, &mut order), effort.packets)?;
        let Rig { firewall, wires, .. } = &mut paired;
        let on = interleaved(&mut load, firewall, wires, (&flows, &mut order), effort.packets)?;
        paired.drain_marks();
        let busy = newcomers.run(ground, &mut load, &mut paired, (&flows, &mut order), effort.packets)?;
        if run > 0 {
            runs.iter_mut().zip([off, on, busy]).for_each(|(runs, clocks)| runs.push(clocks));
        }
    }
    let ceiling = ceiling.figure();
    let names = ["no partner", "partner", "partner, 100 k new sessions/s"];
    let row = |(name, runs): (&str, Vec<f64>)| Measured {
        name: format!("replication, {}: {name}", traffic.name()),
        sessions: sessions.into(),
        unit: PER_PACKET.into(),
        value: Figure::of(runs),
        ceiling: Some(ceiling),
        page_bytes: paired.page_bytes,
        hz: ground.hz(),
    };
    Ok(names.into_iter().zip(runs).map(row).collect())
}

/// Flows whose first packets come between those of the others.
struct Newcomers {
    next: u32,
    last: u32,
    traffic: Traffic,
}

impl Newcomers {
    /// Clocks per packet, new ones and others together.
    fn run(
        &mut self,
        ground: &Ground,
        load: &mut Load,
        rig: &mut Rig,
        (flows, order): (&Flows, &mut Order),
        packets: u64,
    ) -> Result<f64> {
        let meter = rig.firewall.meter();
        let kind =
            Kind { step: if self.traffic.is_tcp() { Step::Syn } else { Step::FromInitiator }, port: LAN };
        let (mut turns, mut opened) = (Turns::default(), 0_u64);
        let (clocks, injected, collected) = (meter.clocks(), load.injected, load.collected);
        while load.injected - injected < packets {
            let due = (meter.clocks() - clocks) as f64 * NEW_PER_SECOND / ground.hz();
            while (opened as f64) < due && self.next < self.last {
                let until = self.last.min(self.next + BURST as u32);
                opened += load.inject(&mut rig.wires, flows, kind, self.next..until) as u64;
                self.next = until;
            }
            for _ in 0..DEPTH {
                for kind in [Kind::FORTH, Kind::BACK] {
                    load.inject(&mut rig.wires, flows, kind, &mut *order);
                }
            }
            load.serve(&mut rig.firewall, &*meter, &rig.wires, &mut turns);
            load.collect(&mut rig.wires);
            rig.drain_marks();
        }
        if load.injected - injected != load.collected - collected {
            return Err(format!("packets were dropped: {}", drops(&rig.counters)).into());
        }
        Ok(turns.mean())
    }
}

/// The ceiling, measured between the runs of a row.
pub struct Ceiling {
    wires: crate::rig::Wires,
    macswap: crate::subject::Macswap,
    flows: Flows,
    order: Order,
    runs: Vec<f64>,
}

impl Ceiling {
    /// On ports of its own, with the same frames.
    pub fn new(ground: &Ground, traffic: Traffic, sessions: u32) -> Result<Self> {
        let (wires, macswap) = ground.macswap()?;
        Ok(Self { wires, macswap, flows: Flows::new(traffic), order: Order::new(sessions), runs: Vec::new() })
    }

    /// One run.
    pub fn run(&mut self, load: &mut Load, packets: u64) -> Result<()> {
        let traffic = (&self.flows, &mut self.order);
        let clocks = interleaved(load, &mut self.macswap, &mut self.wires, traffic, packets)?;
        self.runs.push(clocks);
        Ok(())
    }

    /// Over all runs but the first.
    pub fn figure(self) -> Figure {
        Figure::of(self.runs.into_iter().skip(1).collect())
    }
}
