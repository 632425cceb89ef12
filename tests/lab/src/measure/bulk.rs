//! How long the whole table takes to a node that has none, while traffic flows; and what a repair moves after
//! an outage of the sync link in which little has changed.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{FILL_PER_SECOND, Figure, Figures, Setting, ms};
use crate::{
    control::Control,
    demo::pair::wait_pair,
    error::{LabError, Result},
    exec,
    faults::{self, Cable},
    generator::Generator,
    guard::Lab,
    netns,
    pairview::PairView,
    stream::{StreamKind, Streams},
    topology::{Family, Host, SyncLink},
};

/// Sessions that change while the link is cut.
const CHANGES: u32 = 1_000;
/// How long it is cut.
const CUT: Duration = Duration::from_secs(10);

/// Measures bulk syncs and repairs.
pub fn run(setting: &Setting, runs: u32) -> Result<Figures> {
    let mut setting = setting.clone();
    // The LAN would carry on: here the outage is meant to be one.
    setting.options.overlays.push("[pair]\nlan-fallback = false\n".into());
    setting.sessions += CHANGES * runs;
    let mut lab = Lab::up(&setting.lab_options())?;
    wait_pair(&mut lab, Host::A)?;
    let generator = Generator::new(Family::V4, setting.sessions)?;
    let (a, b) = (lab.node_at(Host::A)?.control(), lab.node_at(Host::B)?.control());
    let filled = setting.sessions - CHANGES * runs;
    generator.fill(&a, filled, FILL_PER_SECOND)?;
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1))?;
    let mut bulk = Samples::default();
    let mut repair = Samples::default();
    let mut faults = Vec::new();
    for run in 0..runs {
        wait_pair(&mut lab, Host::A)?;
        bulk.push(bulk_sync(&mut lab, &streams, &mut faults)?);
        let have = filled + CHANGES * run;
        repair.push(repair_after_cut(&generator, (&a, &b), have)?);
        eprintln!("lab: run {} of {runs}: bulk {:?}, repair {:?}", run + 1, bulk.last(), repair.last());
    }
    let share = repair.bytes.iter().zip(&bulk.bytes).map(|(repair, bulk)| repair * 100.0 / bulk).collect();
    let figures = [
        Figure::of("bulk sync, start to ready", "ms", bulk.ready_ms),
        Figure::of("bulk sync, announced to proven", "ms", bulk.transfer_ms)
            .map(|figure| figure.must("< 1000")),
        Figure::of("bulk sync, bytes from the active", "bytes", bulk.bytes),
        Figure::of("forwarding while it went on, packets lost", "", bulk.lost).map(|figure| figure.must("0")),
        Figure::of("repair, link back to proven", "ms", repair.ready_ms).map(|figure| figure.must("< 1000")),
        Figure::of("repair, by the active's word", "ms", repair.own_word_ms),
        Figure::of("repair, bytes from the active", "bytes", repair.bytes),
        Figure::of("repair, share of the bulk's bytes", "%", share).map(|figure| figure.must("< 1")),
    ];
    let title = format!(
        "bulk sync of {filled} sessions under traffic; repair after {} s without sync link and {CHANGES} new sessions",
        CUT.as_secs()
    );
    Ok(Figures { title, figures: figures.into_iter().flatten().collect(), faults })
}

#[derive(Default)]
struct Samples {
    ready_ms: Vec<f64>,
    transfer_ms: Vec<f64>,
    own_word_ms: Vec<f64>,
    bytes: Vec<f64>,
    lost: Vec<f64>,
}

#[derive(Debug)]
struct Sample {
    ready_ms: f64,
    transfer_ms: f64,
    own_word_ms: f64,
    bytes: f64,
    lost: f64,
}

impl Samples {
    fn push(&mut self, sample: Sample) {
        self.ready_ms.push(sample.ready_ms);
        self.transfer_ms.push(sample.transfer_ms);
        self.own_word_ms.push(sample.own_word_ms);
        self.bytes.push(sample.bytes);
        self.lost.push(sample.lost);
    }

    fn last(&self) -> (Option<&f64>, Option<&f64>) {
        (self.ready_ms.last(), self.bytes.last())
    }
}

fn sent_on_sync(node: Host) -> Result<u64> {
    Ok(netns::counters(node, SyncLink::FIRST.name())?.tx_bytes)
}

/// Restarts node b, which then has nothing, and waits until it has everything.
fn bulk_sync(lab: &mut Lab, streams: &Streams, faults: &mut Vec<String>) -> Result<Sample> {
    lab.node_at(Host::B)?.stop();
    thread::sleep(Duration::from_secs(1));
    let (bytes, first) = (sent_on_sync(Host::A)?, sent(streams));
    lab.start(Host::B)?;
    let started = Instant::now();
    let (a, b) = (lab.node_at(Host::A)?.control(), lab.node_at(Host::B)?.control());
    let mut heard = None;
    let ready = exec::wait_for("bulk sync", Duration::from_secs(60), || {
        let (of_a, of_b) = (view(&a)?, view(&b)?);
        if heard.is_none() && of_a.partner_heard && of_b.partner_heard {
            heard = Some(Instant::now());
        }
        (of_b.role == "standby" && of_a.in_sync && of_a.unprotected == 0).then(Instant::now)
    })?;
    let last = sent(streams);
    thread::sleep(Duration::from_millis(200));
    let mut lost = 0;
    for ((track, first), last) in streams.tracks().iter().zip(first).zip(last) {
        let missing = track.missing(first, last).len();
        if missing > 0 {
            faults.push(format!("{} packets of {} lost during a bulk sync", missing, track.kind().name()));
        }
        lost += missing;
    }
    Ok(Sample {
        ready_ms: ms(ready - started),
        transfer_ms: heard.map_or(f64::NAN, |heard| ms(ready - heard)),
        own_word_ms: own_word(&a, "last_bulk"),
        bytes: (sent_on_sync(Host::A)? - bytes) as f64,
        lost: lost as f64,
    })
}

/// How long the last bulk or repair took, as the active node tells it.
fn own_word(active: &Control, what: &str) -> f64 {
    let status = active.ask("status").unwrap_or_default();
    status["pair"]["sync"][what]["took_ms"].as_f64().unwrap_or(f64::NAN)
}

fn sent(streams: &Streams) -> Vec<u64> {
    streams.tracks().iter().map(|track| track.sent()).collect()
}

fn view(control: &Control) -> Option<PairView> {
    PairView::ask(control)
}

/// Cuts the sync link, opens some sessions, mends it, and waits until the tables are proven equal again.
fn repair_after_cut(generator: &Generator, nodes: (&Control, &Control), have: u32) -> Result<Sample> {
    let link = Cable::Sync(SyncLink::FIRST);
    faults::cut(link)?;
    thread::sleep(CUT / 2);
    generator.send(have..have + CHANGES, FILL_PER_SECOND / 10);
    thread::sleep(CUT / 2);
    let wanted = view(nodes.0).map(|view| view.sessions);
    let wanted = wanted.ok_or_else(|| LabError::Config("node a does not answer".into()))?;
    let bytes = sent_on_sync(Host::A)?;
    faults::mend(link)?;
    let mended = Instant::now();
    let ready = exec::wait_for("repair", Duration::from_secs(60), || {
        let (of_a, of_b) = (view(nodes.0)?, view(nodes.1)?);
        (of_a.in_sync && of_a.unprotected == 0 && of_b.sessions >= wanted).then(Instant::now)
    })?;
    Ok(Sample {
        ready_ms: ms(ready - mended),
        transfer_ms: f64::NAN,
        own_word_ms: own_word(nodes.0, "last_repair"),
        bytes: (sent_on_sync(Host::A)? - bytes) as f64,
        lost: 0.0,
    })
}
