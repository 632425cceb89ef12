//! What the sync core costs on either node, in one thread: real tables, real records, real seals, and
//! memory where the sync link would be ([`crate::transfer`]).
//!
//! Each stage is timed by itself: reading and encoding, sealing, opening and decoding with all that an
//! acknowledgement takes, and the worker's storing. In the daemon they run on three threads of two
//! machines, so the slowest of them sets the rate.

use super::{Effort, Measured};
use crate::bed::SPARE;
use crate::figure::Figure;
use crate::flows::{Flows, Traffic};
use crate::load::Load;
use crate::rig::{Ground, Part, Result, Rig, RigConfig};
use crate::transfer::{Clocks, Node, Stage, Transfer};
use dataplane::pair::tables::{Changes, Owners};
use engine::Ticks;
use std::time::{Duration, Instant};
use sync::datagram::{HEADER, TAG};
use sync::ids::Micros;

/// Bytes of IPv4 and UDP in front of a datagram.
const IP_UDP: u64 = 28;
/// A transfer that takes longer has come to a halt.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clocks of each stage, and the records that went through it.
#[derive(Clone, Copy, Default)]
struct Costs {
    clocks: [u64; 4],
    records: [u64; 4],
}

impl Costs {
    fn per_record(&self, stage: Stage) -> f64 {
        self.clocks[stage as usize] as f64 / self.records[stage as usize] as f64
    }
}

/// A bulk of all sessions from one table to another, so many times; the sender's and the receiver's costs
/// for each record.
pub fn sync_core(ground: &Ground, traffic: Traffic, sessions: u32, effort: Effort) -> Result<Vec<Measured>> {
    let (mut load, flows) = (Load::new(ground), Flows::new(traffic));
    let rig = |part| Rig::new(ground, RigConfig { slots: sessions + SPARE, rules: 10, part });
    let (mut active, mut stages, mut bytes) = (rig(Part::Active)?, Vec::new(), 0.0);
    load.open(&mut active, &flows, traffic, sessions)?;
    // Each run fills a table of its own, which the process keeps: few runs.
    for _ in 0..effort.runs.div_ceil(3) {
        let mut standby = rig(Part::Standby)?;
        let mut transfer = Transfer::new(sessions + SPARE);
        stages.push(undisturbed(&mut transfer, &mut active, &mut standby, ground.hz())?);
        if standby.sessions() != u64::from(sessions) {
            return Err(format!("{} of {sessions} sessions arrived", standby.sessions()).into());
        }
        let sent = transfer.ends[0].stream.status(transfer.now).counters;
        let wire = sent.bytes_sent + sent.datagrams_sent * ((HEADER + TAG) as u64 + IP_UDP);
        // What a busy machine makes the sender take for lost is sent again, and counts on both sides.
        let kinds = [sent.sent.bulk, sent.sent.lost, sent.sent.new, sent.sent.refresh, sent.sent.repair];
        bytes = wire as f64 / kinds.iter().map(|kind| kind.records).sum::<u64>() as f64;
    }
    let per_record = |stage: &dyn Fn(&Costs) -> f64| Figure::of(stages.iter().map(stage).collect());
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
    let out = per_record(&|costs| costs.per_record(Stage::Send) + costs.per_record(Stage::Seal));
    Ok(vec![
        row("read and encode", "clocks/record", of(Stage::Send)),
        row("seal", "clocks/record", of(Stage::Seal)),
        row("open, decode, acknowledge", "clocks/record", of(Stage::Receive)),
        row("store, by the worker", "clocks/record", of(Stage::Store)),
        row("sent", "records/s", out.rate(ground.hz())),
        row("received", "records/s", of(Stage::Receive).rate(ground.hz())),
        row("on the wire", "bytes/record", Figure { min: bytes, median: bytes, max: bytes }),
    ])
}

impl Node for Rig {
    fn core(&mut self) -> Result<(&mut Changes, &mut Owners)> {
        let core = self.core.as_mut().ok_or("a node without a partner has no sync core")?;
        Ok((&mut core.changes, &mut core.owners))
    }

    fn ticks(&self, _: Micros) -> Ticks {
        self.clock.ticks(dpdk::cycles())
    }

    fn turn(&mut self, _: Ticks) -> bool {
        self.firewall.worker.turn(dpdk::cycles())
    }
}

/// Until the digests are equal; the costs of those steps in which the kernel let no other thread run in
/// our place.
fn undisturbed(transfer: &mut Transfer, active: &mut Rig, standby: &mut Rig, hz: f64) -> Result<Costs> {
    let (began, mut clocks, mut costs) = (Instant::now(), Clocks::new(hz), Costs::default());
    while !transfer.ends[0].stream.proven() {
        let (clocks_before, before, preempted) = (clocks.of, records(transfer, standby), preemptions());
        transfer.step(active, standby, &mut clocks)?;
        if preemptions() == preempted {
            let after = records(transfer, standby);
            for stage in 0..4 {
                costs.clocks[stage] += clocks.of[stage] - clocks_before[stage];
                costs.records[stage] += after[stage] - before[stage];
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("no proof: {:?}", transfer.ends[0].stream.status(transfer.now)).into());
        }
    }
    Ok(costs)
}

/// By stage.
fn records(transfer: &Transfer, standby: &Rig) -> [u64; 4] {
    let [sender, receiver] = &transfer.ends;
    let sent = sender.stream.status(transfer.now).counters.sent.bulk.records;
    [sent, sent, receiver.stream.status(transfer.now).counters.records_received, standby.sessions()]
}

/// How often the kernel has taken the processor from this thread.
pub(super) fn preemptions() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
