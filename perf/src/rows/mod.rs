//! What is measured. Each row runs in a process of its own, so that the next one finds memory and huge
//! pages as this one did, and brings its own ceiling from the same minutes.

mod cores;
mod forward;
mod lines;
mod memory;
pub mod mixed;
mod pair;
mod sync_core;

use crate::bed::SPARE;
use crate::cores::Pinned;
use crate::figure::{Figure, Turns};
use crate::flows::{Flows, Traffic};
use crate::load::Load;
use crate::pktgen::Sizes;
use crate::quiet;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use clap::{Args, Subcommand};
use mixed::Mix;
use serde::{Deserialize, Serialize};

/// A measurement.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Row {
    /// Packets of established sessions, in random order over all of them, half from either end.
    Established {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many there are; the table has no room for more.
        sessions: u32,
        /// Generator and worker on a processor each.
        #[arg(long)]
        two_cores: bool,
    },
    /// First packets of flows, until the table is full.
    New {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many there are in the end.
        sessions: u32,
        /// Rules of the policy; the last one admits them.
        #[arg(long, default_value_t = 1_000)]
        rules: usize,
        /// Also with a partner to whom they are to be told, run by run in turn.
        #[arg(long)]
        partner: bool,
    },
    /// Established sessions without a partner, with one, and with one while 100,000 sessions a second are new.
    Replication {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many there are.
        sessions: u32,
    },
    /// How long packets of established sessions take, at half and nine tenths of what the worker can do.
    Latency {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many there are.
        sessions: u32,
        /// Packets that leave one end at once.
        #[arg(long, default_value_t = 32)]
        burst: u32,
    },
    /// One worker on one processor, two on two, and so on.
    Scaling {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many each worker has.
        sessions: u32,
    },
    /// The memory that a packet of an established session touches, and nothing but that.
    Lines {
        /// Sessions in a table as large.
        sessions: u32,
    },
    /// Memory of a session.
    Memory {
        /// How many there are.
        sessions: u32,
    },
    /// The sync core on both nodes: all sessions from one table to another.
    Sync {
        /// What the sessions carry.
        traffic: Traffic,
        /// How many there are.
        sessions: u32,
    },
    /// All sessions to a partner that has none, from the first datagram to the proof.
    Bulk {
        /// How many there are.
        sessions: u32,
    },
    /// From the order to take over to the first packet of a mirrored session that is forwarded.
    Takeover {
        /// How many there are.
        sessions: u32,
    },
    /// 1,000 sessions that were opened while the link was down, from its return to the proof.
    Repair {
        /// How many there are beside those.
        sessions: u32,
    },
    /// Connections of all kinds that open, send and close, under a policy of 1,000 rules.
    Mixed {
        /// Connections at a time.
        flows: u32,
        /// Data packets of each.
        #[arg(long, default_value_t = 8)]
        packets_per_flow: u32,
        /// Slots of the table: TCP connections keep theirs for two minutes after they closed.
        #[arg(long, default_value_t = 4_000_000)]
        slots: u32,
        /// Frames of seven times 64, four times 594, once 1,518 bytes instead of 64 all.
        #[arg(long)]
        imix: bool,
    },
}

/// How long to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Effort {
    /// Runs; the median is quoted.
    #[arg(long, global = true, default_value_t = 9)]
    pub runs: usize,
    /// Packets a run.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub packets: u64,
    /// What [`quiet::fastest`] said elsewhere; looked for if it is not given.
    #[arg(long, global = true, hide = true)]
    pub fastest: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// Sessions in the table.
    pub sessions: u64,
    /// What is counted, per what.
    pub unit: String,
    /// How much of it.
    pub value: Figure,
    /// The ceiling on the same ports in the same minutes.
    pub ceiling: Option<Figure>,
    /// Bytes of the pages of the table; 0 if there is none.
    pub page_bytes: u64,
    /// The processor's clocks in a second.
    pub hz: f64,
}

/// Clocks for each packet.
pub const PER_PACKET: &str = "clocks/packet";
/// What the names of rows end in whose worker has a processor of its own.
pub const TWO_CORES: &str = "two cores";
/// Clocks for each new session.
pub const PER_SESSION: &str = "clocks/session";
/// Clocks for all packets of a connection.
pub const PER_CONNECTION: &str = "clocks/connection";

/// Pieces of a run: several subjects take turns at so many of them, so that whatever happens to the machine
/// meanwhile happens to all.
const SLICES: u64 = 8;

/// Measures `N` subjects in turn, a slice of a run at a time. `slice` has a subject work on so many packets and
/// notes the clocks of its turns. The first run warms up.
fn in_turn<const N: usize>(
    effort: Effort,
    mut slice: impl FnMut(usize, u64, &mut Turns) -> Result<()>,
) -> Result<[Figure; N]> {
    let mut runs = [const { Vec::new() }; N];
    for run in 0..=effort.runs {
        let mut turns = std::array::from_fn::<Turns, N, _>(|_| Turns::default());
        for _ in 0..SLICES {
            for (subject, turns) in turns.iter_mut().enumerate() {
                slice(subject, effort.packets / SLICES, turns)?;
            }
        }
        if run > 0 {
            runs.iter_mut().zip(turns).for_each(|(runs, turns)| runs.push(turns.mean()));
        }
    }
    Ok(runs.map(|runs| Figure::of_runs(&runs)))
}

/// A firewall whose table is filled with established sessions.
fn opened(ground: &Ground, load: &mut Load, traffic: Traffic, (sessions, part): (u32, Part)) -> Result<Rig> {
    let mut rig = Rig::new(ground, RigConfig { slots: sessions + SPARE, rules: FEW_RULES, part })?;
    load.open(&mut rig, &Flows::new(traffic), traffic, sessions)?;
    Ok(rig)
}

/// Rules of a policy that is not asked.
const FEW_RULES: usize = 10;
/// Packet buffers: more than all rings hold.
const MBUFS: u32 = 16_383;

impl Row {
    /// The arguments of `perf row` that name it.
    pub fn args(self) -> Vec<String> {
        let words = |words: &[&dyn ToString]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let flag = |on: bool, name: &str| on.then(|| name.to_owned());
        match self {
            Row::Established { traffic, sessions, two_cores } => {
                let mut args = words(&[&"established", &traffic.name(), &sessions]);
                args.extend(flag(two_cores, "--two-cores"));
                args
            }
            Row::New { traffic, sessions, rules, partner } => {
                let mut args = words(&[&"new", &traffic.name(), &sessions, &"--rules", &rules]);
                args.extend(flag(partner, "--partner"));
                args
            }
            Row::Replication { traffic, sessions } => words(&[&"replication", &traffic.name(), &sessions]),
            Row::Latency { traffic, sessions, burst } => {
                words(&[&"latency", &traffic.name(), &sessions, &"--burst", &burst])
            }
            Row::Scaling { traffic, sessions } => words(&[&"scaling", &traffic.name(), &sessions]),
            Row::Lines { sessions } => words(&[&"lines", &sessions]),
            Row::Memory { sessions } => words(&[&"memory", &sessions]),
            Row::Sync { traffic, sessions } => words(&[&"sync", &traffic.name(), &sessions]),
            Row::Bulk { sessions } => words(&[&"bulk", &sessions]),
            Row::Takeover { sessions } => words(&[&"takeover", &sessions]),
            Row::Repair { sessions } => words(&[&"repair", &sessions]),
            Row::Mixed { flows, packets_per_flow, slots, imix } => {
                let mut args =
                    words(&[&"mixed", &flows, &"--packets-per-flow", &packets_per_flow, &"--slots", &slots]);
                args.extend(flag(imix, "--imix"));
                args
            }
        }
    }

    /// Sessions that it needs memory for.
    pub fn slots(self) -> u32 {
        match self {
            Row::Established { sessions, .. } | Row::Latency { sessions, .. } | Row::Lines { sessions } => {
                sessions
            }
            // A table for each run, or several beside each other.
            Row::New { sessions, .. } | Row::Memory { sessions } => sessions.saturating_mul(12),
            Row::Replication { sessions, .. } => sessions.saturating_mul(6),
            Row::Scaling { sessions, .. } | Row::Sync { sessions, .. } => sessions.saturating_mul(4),
            // Two tables, and what the machines know of each session.
            Row::Bulk { sessions } | Row::Takeover { sessions } | Row::Repair { sessions } => {
                sessions.saturating_mul(3)
            }
            Row::Mixed { slots, .. } => slots,
        }
    }

    /// Whether its threads choose processors for themselves.
    fn is_parallel(self) -> bool {
        match self {
            Row::Established { two_cores, .. } => two_cores,
            Row::Latency { .. } | Row::Scaling { .. } | Row::Bulk { .. } => true,
            _ => false,
        }
    }

    /// Measures.
    pub fn measure(self, effort: Effort) -> Result<Vec<Measured>> {
        let ground = Ground::lay(MBUFS)?;
        quiet::known(effort.fastest.unwrap_or_else(quiet::fastest));
        // As a worker's is, after DPDK has started threads of its own, which stay where they are.
        let _pinned = if self.is_parallel() { None } else { Some(Pinned::to_one()?) };
        match self {
            Row::Established { traffic, sessions, two_cores: false } => {
                forward::established(&ground, traffic, sessions, effort)
            }
            Row::Established { traffic, sessions, two_cores: true } => {
                cores::established(&ground, traffic, sessions, effort)
            }
            Row::Latency { traffic, sessions, burst } => {
                cores::latency(&ground, traffic, sessions, burst, effort)
            }
            Row::Scaling { traffic, sessions } => cores::scaling(&ground, traffic, sessions, effort),
            Row::Lines { sessions } => lines::lines(&ground, sessions, effort),
            Row::Memory { sessions } => memory::memory(&ground, sessions, effort),
            Row::New { traffic, sessions, rules, partner } => {
                forward::new_sessions(&ground, traffic, sessions, (rules, partner), effort)
            }
            Row::Replication { traffic, sessions } => {
                forward::replication(&ground, traffic, sessions, effort)
            }
            Row::Sync { traffic, sessions } => sync_core::sync_core(&ground, traffic, sessions, effort),
            Row::Bulk { sessions } => pair::bulk(&ground, sessions, effort),
            Row::Takeover { sessions } => pair::takeover(&ground, sessions, effort),
            Row::Repair { sessions } => pair::repair(&ground, sessions, effort),
            Row::Mixed { flows, packets_per_flow, slots, imix } => {
                let sizes = if imix { Sizes::Imix } else { Sizes::Fixed(64) };
                let mix = Mix { flows, packets_per_flow, sizes, slots, only: None };
                let frames = if imix { "IMIX" } else { "64 B" };
                mixed::mixed(
                    &ground,
                    &format!("{packets_per_flow} packets a connection, {frames}"),
                    mix,
                    effort,
                )
            }
        }
    }
}
