//! What is measured. Each row runs in a process of its own, so that the next one finds memory and huge
//! pages as this one did, and brings its own ceiling from the same minutes.

mod forward;

use crate::figure::Figure;
use crate::flows::Traffic;
use crate::rig::{Ground, Result};
use clap::{Args, Subcommand};
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
        /// With a partner to whom they are to be told.
        #[arg(long)]
        partner: bool,
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
/// Clocks for each new session.
pub const PER_SESSION: &str = "clocks/session";

/// Packet buffers: more than all rings hold.
const MBUFS: u32 = 16_383;

impl Row {
    /// Measures.
    pub fn measure(self, effort: Effort) -> Result<Vec<Measured>> {
        let ground = Ground::lay(MBUFS)?;
        match self {
            Row::Established { traffic, sessions, two_cores: false } => {
                forward::established(&ground, traffic, sessions, effort)
            }
            Row::Established { traffic, sessions, two_cores: true } => {
                forward::established_on_two_cores(&ground, traffic, sessions, effort)
            }
            Row::New { traffic, sessions, rules, partner } => {
                forward::new_sessions(&ground, traffic, sessions, (rules, partner), effort)
            }
        }
    }
}
