//! What the sync core costs on either node, in one thread: real tables, real records, real seals, and
//! memory where the sync link would be ([`crate::transfer`]).
//!
//! Each stage is timed by itself: reading and encoding, sealing, opening and decoding with all that an
//! acknowledgement takes, and the worker's storing. In the daemon they run on three threads of two
//! machines, so the slowest of them sets the rate.

use super::{Effort, FEW_RULES, Measured, opened};
use crate::bed::SPARE;
use crate::figure::{Figure, Run};
use crate::flows::Traffic;
use crate::load::Load;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use crate::transfer::{Moment, Stage, Step, Transfer};
use sync::datagram::{HEADER, TAG};

/// Bytes of IPv4 and UDP in front of a datagram.
const IP_UDP: u64 = 28;

/// Clocks of each stage, and the records that went through it: in quiet steps, and in all that were not
/// interrupted.
#[derive(Clone, Copy, Default)]
struct Costs {
    quiet: [(f64, f64); 4],
    all: [(f64, f64); 4],
}

impl Costs {
    fn add(&mut self, step: &Step) {
        let costs: &mut [_] = match step.moment {
            Moment::Quiet => &mut [&mut self.quiet, &mut self.all],
            Moment::Shared => &mut [&mut self.all],
            Moment::Interrupted => &mut [],
        };
        for costs in costs {
            for ((sum, clocks), records) in costs.iter_mut().zip(step.clocks).zip(step.records) {
                *sum = (sum.0 + clocks as f64, sum.1 + records as f64);
            }
        }
    }

    fn per_record(&self, stage: Stage) -> Run {
        Run::of(self.quiet[stage as usize], self.all[stage as usize])
    }
}

/// A bulk of all sessions from one table to another, so many times; the sender's and the receiver's costs
/// for each record.
pub fn sync_core(ground: &Ground, traffic: Traffic, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let mut active = opened(ground, &mut Load::new(ground), traffic, (sessions, Part::Active))?;
    let (mut stages, mut bytes) = (Vec::new(), 0.0);
    // Each run fills a table of its own, which the process keeps: few runs.
    for _ in 0..effort.runs.div_ceil(3) {
        let config = RigConfig { slots: sessions + SPARE, rules: FEW_RULES, part: Part::Standby };
        let mut standby = Rig::new(ground, config)?;
        let mut transfer = Transfer::new(sessions + SPARE);
        let mut costs = Costs::default();
        transfer.prove(&mut active, &mut standby, ground.hz(), |step| costs.add(&step))?;
        stages.push(costs);
        if standby.sessions() != u64::from(sessions) {
            return Err(format!("{} of {sessions} sessions arrived", standby.sessions()).into());
        }
        let sent = transfer.ends[0].stream.status(transfer.now).counters;
        let wire = sent.bytes_sent + sent.datagrams_sent * ((HEADER + TAG) as u64 + IP_UDP);
        // What a busy machine makes the sender take for lost is sent again, and counts on both sides.
        let kinds = [sent.sent.bulk, sent.sent.lost, sent.sent.new, sent.sent.refresh, sent.sent.repair];
        bytes = wire as f64 / kinds.iter().map(|kind| kind.records).sum::<u64>() as f64;
    }
    let per_record =
        |stage: &dyn Fn(&Costs) -> Run| Figure::of_runs(&stages.iter().map(stage).collect::<Vec<_>>());
    let row = |name: &str, unit: &str, value| Measured {
        name: format!("sync, {}: {name}", traffic.name()),
        sessions: sessions.into(),
        unit: unit.into(),
        value,
        ceiling: None,
        page_bytes: active.page_bytes,
        hz: ground.hz(),
    };
    let of = |stage| per_record(&|costs| costs.per_record(stage));
    let add = |one: f64, two: f64| one + two;
    let out = per_record(&|costs| costs.per_record(Stage::Send).with(costs.per_record(Stage::Seal), add));
    Ok(vec![
        row("read and encode", "clocks/record", of(Stage::Send)),
        row("seal", "clocks/record", of(Stage::Seal)),
        row("open, decode, acknowledge", "clocks/record", of(Stage::Receive)),
        row("store, by the worker", "clocks/record", of(Stage::Store)),
        row("sent", "records/s", out.rate(ground.hz())),
        row("received", "records/s", of(Stage::Receive).rate(ground.hz())),
        row("on the wire", "bytes/record", Figure::of(vec![bytes])),
    ])
}
