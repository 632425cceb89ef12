//! What a pair does as a whole, against the size of its tables: a bulk, a takeover, a repair. Real workers, real
//! streams and seals, memory where the sync link would be ([`crate::transfer`]).
//!
//! A bulk is timed twice. *Two processors*: the active node's sync core on one, the standby's sync core and
//! worker in turn on the other, by the clock on the wall. *A processor each*: on one thread, with the time
//! that it would take if each of them had one.

use super::{Effort, FEW_RULES, Measured};
use crate::cores::{Pinned, beside};
use crate::figure::{Figure, Run};
use crate::flows::{Flows, Kind, Traffic};
use crate::load::Load;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use crate::subject::Subject;
use crate::transfer::{Moment, PATIENCE, Transfer, Unwatched};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use sync::ids::{Micros, Term};
use sync::lease::RoleWord;
use sync::membership::Role;
use sync::stream::Sink;

/// What the pair carries.
const TRAFFIC: Traffic = Traffic::Tcp4;
/// Sessions that are opened while the link is down.
const MISSED: u32 = 1_000;
/// Runs, at most: those with many sessions take long.
const RUNS: usize = 5;

/// Two nodes with room for more than the sessions that the active one has.
struct Nodes {
    load: Load,
    flows: Flows,
    active: Rig,
    standby: Rig,
    slots: u32,
    hz: f64,
}

impl Nodes {
    fn new(ground: &Ground, sessions: u32, more: u32) -> Result<Self> {
        let slots = sessions + more + crate::bed::SPARE;
        let rig = |part| Rig::new(ground, RigConfig { slots, rules: FEW_RULES, part });
        let (mut load, flows) = (Load::new(ground), Flows::new(TRAFFIC));
        let (mut active, standby) = (rig(Part::Active)?, rig(Part::Standby)?);
        load.open(&mut active, &flows, TRAFFIC, sessions)?;
        Ok(Self { load, flows, active, standby, slots, hz: ground.hz() })
    }

    /// The standby has nothing any more. What was on its way when the last transfer ended is stored first or
    /// in between: it is emptied until nothing is left.
    fn empty(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let is_empty = self.standby.sessions() == 0;
            let (_, owners) = self.standby.core()?;
            while owners.next_outcome().is_some() {}
            let purging = owners.purging();
            if !purging && !is_empty {
                owners.purge();
            }
            let had_work = self.standby.turn();
            if !purging && is_empty && !had_work {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} sessions stay on the standby", self.standby.sessions()).into());
            }
        }
    }

    /// Turns until the mirror is proven; the milliseconds that this takes where everybody has a processor. Steps
    /// in which somebody else ran in our place count as ordinary ones.
    fn prove(&mut self, transfer: &mut Transfer) -> Result<Run> {
        let _pinned = Pinned::to_one()?;
        let (mut quiet, mut all, mut steps) = ((0.0, 0.0), (0.0, 0.0), 0.0);
        transfer.prove(&mut self.active, &mut self.standby, self.hz, |step| {
            let add = |sum: &mut (f64, f64)| *sum = (sum.0 + ms(step.took), sum.1 + 1.0);
            steps += 1.0;
            match step.moment {
                Moment::Quiet => [&mut quiet, &mut all].into_iter().for_each(add),
                Moment::Shared => add(&mut all),
                Moment::Interrupted => (),
            }
        })?;
        Ok(Run::of(quiet, all).scaled(steps))
    }

    /// The same with a processor for each node, by the clock on the wall.
    fn prove_on_two(&mut self, ground: &Ground, transfer: &mut Transfer) -> Result<Duration> {
        let Self { active, standby, .. } = self;
        let (began, origin, gave_up) = (Instant::now(), transfer.now, AtomicBool::new(false));
        let now = || origin.after(Micros(began.elapsed().as_micros() as u64));
        let [leader, follower] = &mut transfer.ends;
        let follow = |stop: &AtomicBool| -> std::result::Result<(), String> {
            let mut turn = || -> Result<()> {
                let ticks = standby.ticks();
                follower.turn(now(), ticks, standby.core()?, &mut Unwatched)?;
                while standby.turn() {}
                Ok(())
            };
            let mut turned = Ok(());
            while turned.is_ok() && !stop.load(Ordering::Relaxed) {
                turned = turn().map_err(|error| error.to_string());
            }
            gave_up.store(turned.is_err(), Ordering::Relaxed);
            turned
        };
        let lead = || -> Result<Result<Duration>> {
            while !leader.stream.proven() {
                let ticks = active.ticks();
                active.turn();
                leader.turn(now(), ticks, active.core()?, &mut Unwatched)?;
                if began.elapsed() > PATIENCE || gave_up.load(Ordering::Relaxed) {
                    // What the other one says comes first.
                    return Ok(Err(format!("no proof: {:?}", leader.stream.status(now())).into()));
                }
            }
            Ok(Ok(began.elapsed()))
        };
        let (took, followed) = beside(ground.pool.eal(), follow, lead)?;
        followed?;
        took
    }

    fn holds_all(&self) -> Result<()> {
        let (here, there) = (self.active.sessions(), self.standby.sessions());
        if here == there { Ok(()) } else { Err(format!("{there} of {here} sessions arrived").into()) }
    }

    /// Opens flows, and leaves their marks to whoever wants them.
    fn open(&mut self, numbers: Range<u32>) {
        for first in numbers.clone().step_by(dpdk::BURST) {
            for kind in Kind::opening(TRAFFIC) {
                self.load.inject(&mut self.active.wires, &self.flows, *kind, first..numbers.end);
                self.active.firewall.turn();
                self.load.collect(&mut self.active.wires);
            }
        }
    }

    fn row(&self, name: &str, sessions: u32, value: Figure) -> Measured {
        Measured {
            name: name.to_owned(),
            sessions: sessions.into(),
            unit: "ms".into(),
            value,
            ceiling: None,
            page_bytes: self.active.page_bytes,
            hz: self.hz,
        }
    }
}

fn ms(micros: Micros) -> f64 {
    micros.0 as f64 / 1e3
}

/// All sessions to a partner that has none.
pub fn bulk(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let mut nodes = Nodes::new(ground, sessions, 0)?;
    let (mut walls, mut alone) = (Vec::new(), Vec::new());
    // The first run finds memory that nobody has touched yet.
    for run in 0..=effort.runs.min(RUNS) {
        let took = nodes.prove(&mut Transfer::new(nodes.slots))?;
        nodes.holds_all()?;
        nodes.empty()?;
        let wall = nodes.prove_on_two(ground, &mut Transfer::new(nodes.slots))?;
        nodes.holds_all()?;
        nodes.empty()?;
        if run > 0 {
            alone.push(took);
            walls.push(wall.as_secs_f64() * 1e3);
        }
    }
    Ok(vec![
        nodes.row("bulk, tcp4: two processors", sessions, Figure::of(walls)),
        nodes.row("bulk, tcp4: a processor each", sessions, Figure::of_runs(&alone)),
    ])
}

/// Sessions that were opened while the link was down.
pub fn repair(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let runs = effort.runs.min(RUNS) as u32;
    let mut nodes = Nodes::new(ground, sessions, (runs + 1) * MISSED)?;
    let mut transfer = Transfer::new(nodes.slots);
    nodes.prove(&mut transfer)?;
    let mut took = Vec::new();
    for run in 0..=runs {
        transfer.link(false);
        let first = sessions + run * MISSED;
        nodes.open(first..first + MISSED);
        for _ in 0..16 {
            transfer.step(&mut nodes.active, &mut nodes.standby, &mut Unwatched)?;
        }
        transfer.link(true);
        let time = nodes.prove(&mut transfer)?;
        nodes.holds_all()?;
        if run > 0 {
            took.push(time);
        }
    }
    Ok(vec![nodes.row("repair, tcp4: 1,000 missed", sessions, Figure::of_runs(&took))])
}

/// From the order to the first packet, sync core and worker one after the other.
pub fn takeover(ground: &Ground, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let mut nodes = Nodes::new(ground, sessions, 0)?;
    let mut transfer = Transfer::new(nodes.slots);
    nodes.prove(&mut transfer)?;
    let (mut took, mut turns, mut term) = (Vec::new(), Vec::new(), 3);
    for run in 0..=effort.runs {
        let (first, turn) = take_over(&mut nodes, &mut transfer, run as u32, term)?;
        term += 2;
        let core = nodes.standby.core.as_ref().ok_or("a standby without a sync core")?;
        core.role.show(RoleWord::closed(Role::Standby, Term::new(term).unwrap_or_default()));
        nodes.standby.firewall.turn();
        transfer.ends[1].stream.follow(Term::new(term).unwrap_or_default(), transfer.now);
        term += 2;
        if run > 0 {
            took.push(first);
            turns.push(turn);
        }
    }
    Ok(vec![
        nodes.row("takeover, tcp4: order to first packet", sessions, Figure::of(took)),
        nodes.row("takeover, tcp4: of it the stream's", sessions, Figure::of(turns)),
    ])
}

/// Milliseconds in all, and of those of the stream's machine.
fn take_over(nodes: &mut Nodes, transfer: &mut Transfer, run: u32, term: u32) -> Result<(f64, f64)> {
    let Nodes { load, flows, standby, hz, .. } = nodes;
    let term = Term::new(term).ok_or("too many takeovers")?;
    let core = standby.core.as_ref().ok_or("a standby without a sync core")?;
    let began = dpdk::cycles();
    core.role.ask_install(term);
    core.role.show(RoleWord { role: Role::Active, term, deadline: Micros::NEVER });
    transfer.ends[1].stream.lead(term, transfer.now);
    let led = dpdk::cycles();
    // What waited before is thrown away, then the worker is ready.
    standby.firewall.turn();
    let mut turns = 0;
    let before = load.collected;
    while load.collected == before {
        load.inject(&mut standby.wires, flows, Kind::FORTH, std::iter::once(run % 1_000));
        standby.firewall.turn();
        load.collect(&mut standby.wires);
        turns += 1;
        if turns > 1_000 {
            return Err(format!("nothing passes: {}", crate::bed::drops(&standby.counters)).into());
        }
    }
    let ms = |clocks: u64| clocks as f64 / *hz * 1e3;
    Ok((ms(dpdk::cycles() - began), ms(led - began)))
}
