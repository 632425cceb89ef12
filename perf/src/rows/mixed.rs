//! Connections that open, send and close, through the worker: what `pktgen` asks of it, in one thread.

use super::{Effort, Measured, PER_PACKET};
use crate::bed::drops;
use crate::figure::{Figure, Turns};
use crate::flows::{FIREWALL, NEIGHBOUR, Traffic};
use crate::pktgen::{Counts, Drive, Generator, Pace, Plan, Sizes, drive};
use crate::rig::{Ground, Part, Result, Rig, RigConfig, Wires};
use crate::subject::Subject;
use wire::ether::Link;

/// What the connections are.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Connections at a time.
    pub flows: u32,
    /// Data packets of each.
    pub packets_per_flow: u32,
    /// Frame sizes.
    pub sizes: Sizes,
    /// Slots of the table: connections that are over keep theirs for a while.
    pub slots: u32,
    /// What they carry; all four kinds if `None`.
    pub only: Option<Traffic>,
}

/// A generator's plan towards a worker on rings.
pub fn plan(ground: &Ground, mix: &Mix) -> Plan {
    Plan {
        flows: mix.flows,
        traffic: mix.only.map_or(Traffic::ALL.to_vec(), |only| vec![only]),
        sizes: mix.sizes,
        packets_per_flow: mix.packets_per_flow,
        new_per_second: 0.0,
        links: [Link { src: NEIGHBOUR, dst: FIREWALL }; 2],
        hz: ground.hz(),
        timed_every: 0,
    }
}

/// Runs the mix for so many packets; clocks per packet, and per connection.
pub fn mixed(ground: &Ground, name: &str, mix: Mix, effort: Effort) -> Result<Vec<Measured>> {
    let mut rig = Rig::new(ground, RigConfig { slots: mix.slots, rules: 1_000, part: Part::Alone })?;
    let mut generator = Generator::new(plan(ground, &mix)).ok_or("no such mix")?;
    let (mut per_packet, mut per_connection) = (Vec::new(), Vec::new());
    while generator.counts.closed < mix.flows.into() {
        let Rig { firewall, wires, .. } = &mut rig;
        play(ground, &mut generator, firewall, wires, u64::from(mix.flows));
    }
    for _ in 0..effort.runs {
        let before = generator.counts;
        let Rig { firewall, wires, .. } = &mut rig;
        let clocks = play(ground, &mut generator, firewall, wires, effort.packets);
        let connections = (generator.counts.closed - before.closed).max(1);
        per_packet.push(clocks);
        let packets = generator.counts.sent - before.sent;
        per_connection.push(clocks * packets as f64 / connections as f64);
    }
    settle(ground, &mut generator, &mut rig)?;
    let measured = |name: String, unit: &str, runs| Measured {
        name,
        sessions: rig.sessions(),
        unit: unit.into(),
        value: Figure::of(runs),
        ceiling: None,
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    };
    Ok(vec![
        measured(format!("mixed: {name}"), PER_PACKET, per_packet),
        measured(format!("mixed: {name}, whole"), "clocks/connection", per_connection),
    ])
}

/// Clocks per packet.
fn play(
    ground: &Ground,
    generator: &mut Generator,
    subject: &mut impl Subject,
    wires: &mut Wires,
    packets: u64,
) -> f64 {
    let (meter, mut turns) = (subject.meter(), Turns::default());
    let before = meter.packets();
    let pace = Pace::new(0.0, 1, ground.hz());
    let mut driven = Drive { generator, wire: wires, pool: ground.pool, pace, neighbours: None };
    drive(&mut driven, |_| {
        let (clocks, then) = (meter.clocks(), meter.packets());
        subject.turn();
        turns.add(meter.clocks() - clocks, meter.packets() - then);
        meter.packets() - before < packets
    });
    turns.mean()
}

/// Everything that was sent came out or was dropped under a counter.
fn settle(ground: &Ground, generator: &mut Generator, rig: &mut Rig) -> Result<()> {
    let pace = Pace::new(0.0, 1, ground.hz());
    let mut driven = Drive { generator, wire: &mut rig.wires, pool: ground.pool, pace, neighbours: None };
    for _ in 0..64 {
        rig.firewall.turn();
        driven.drain();
    }
    let Counts { sent, arrived, .. } = generator.counts;
    if sent != arrived {
        return Err(format!("{arrived} of {sent} packets passed; dropped: {}", drops(&rig.counters)).into());
    }
    Ok(())
}
