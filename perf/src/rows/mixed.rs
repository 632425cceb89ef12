//! Connections that open, send and close, through the worker: what `pktgen` asks of it, in one thread.

use super::{Effort, Measured, PER_CONNECTION, PER_PACKET, in_turn};
use crate::bed::drops;
use crate::figure::Turns;
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

/// The mix through a worker and through the ceiling; clocks per packet, and per connection.
pub fn mixed(ground: &Ground, name: &str, mix: Mix, effort: Effort) -> Result<Vec<Measured>> {
    let mut rig = Rig::new(ground, RigConfig { slots: mix.slots, rules: 1_000, part: Part::Alone })?;
    let (mut free, mut macswap) = ground.macswap()?;
    let generator = || Generator::new(plan(ground, &mix)).ok_or("no such mix");
    let (mut own, mut others) = (generator()?, generator()?);
    // Until first connections have become later ones, which begin and end at all times.
    let mut ignored = Turns::default();
    while own.counts.closed.min(others.counts.closed) < u64::from(mix.flows) * 2 {
        let packets = u64::from(mix.flows);
        play(ground, &mut own, &mut rig.firewall, &mut rig.wires, packets, &mut ignored);
        play(ground, &mut others, &mut macswap, &mut free, packets, &mut ignored);
    }
    let before = own.counts;
    let [ceiling, per_packet] = in_turn(effort, |subject, packets, turns| {
        match subject {
            0 => play(ground, &mut others, &mut macswap, &mut free, packets, turns),
            _ => play(ground, &mut own, &mut rig.firewall, &mut rig.wires, packets, turns),
        }
        Ok(())
    })?;
    // The generator's doing, not the machine's: over all runs, since a short one may see few connections end.
    let connections = own.counts.closed - before.closed;
    let packets = (own.counts.sent - before.sent) as f64 / connections as f64;
    settle(ground, &mut own, &mut rig)?;
    let measured = |name: String, unit: &str, factor| Measured {
        name,
        sessions: rig.sessions(),
        unit: unit.into(),
        value: per_packet.scaled(factor),
        ceiling: Some(ceiling.scaled(factor)),
        page_bytes: rig.page_bytes,
        hz: ground.hz(),
    };
    Ok(vec![
        measured(format!("mixed: {name}"), PER_PACKET, 1.0),
        measured(format!("mixed: {name}, whole"), PER_CONNECTION, packets),
    ])
}

/// So many packets of the mix.
fn play(
    ground: &Ground,
    generator: &mut Generator,
    subject: &mut impl Subject,
    wires: &mut Wires,
    packets: u64,
    turns: &mut Turns,
) {
    let meter = subject.meter();
    let before = meter.packets();
    let pace = Pace::new(0.0, 1, ground.hz());
    let mut driven = Drive { generator, wire: wires, pool: ground.pool, pace, neighbours: None };
    drive(&mut driven, |_| {
        let (clocks, then) = (meter.clocks(), meter.packets());
        subject.turn();
        turns.add(meter.clocks() - clocks, meter.packets() - then);
        meter.packets() - before < packets
    });
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
