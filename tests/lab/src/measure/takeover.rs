//! Gaps of one-millisecond streams when the active node is killed, and when it hands over on command. Nodes
//! take turns: the one that was killed returns, mirrors the other, and that one is next.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{FILL_PER_SECOND, Figure, Figures, Setting, ms};
use crate::{
    demo::pair::{kill_active, switchover, wait_pair},
    error::Result,
    generator::Generator,
    guard::Lab,
    stream::{StreamKind, Streams},
    topology::{Family, Host},
};

/// How long streams flow before and after what is measured.
const SETTLE: Duration = Duration::from_millis(500);

struct Bed {
    lab: Lab,
    streams: Streams,
    _generator: Generator,
}

fn bed(setting: &Setting) -> Result<Bed> {
    let mut lab = Lab::up(&setting.lab_options())?;
    wait_pair(&mut lab, Host::A)?;
    let generator = Generator::new(Family::V4, setting.sessions)?;
    if setting.sessions > 0 {
        let control = lab.node_at(Host::A)?.control();
        let took = generator.fill(&control, setting.sessions, FILL_PER_SECOND)?;
        eprintln!("lab: {} sessions in {:.1} s", setting.sessions, took.as_secs_f64());
    }
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1))?;
    Ok(Bed { lab, streams, _generator: generator })
}

/// Kills the active node so many times.
pub fn takeover(setting: &Setting, runs: u32) -> Result<Figures> {
    let mut bed = bed(setting)?;
    let mut active = Host::A;
    let mut gaps: Vec<(StreamKind, Vec<f64>)> = StreamKind::ALL.map(|kind| (kind, Vec::new())).into();
    let (mut detection, mut faults) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        wait_pair(&mut bed.lab, active)?;
        thread::sleep(SETTLE);
        // A death knows no heartbeat's phase; without this, ours would follow the last takeover's.
        let interval_us = u64::from(setting.pair.interval_ms) * 1000;
        thread::sleep(Duration::from_micros((interval_us * u64::from(run) * 618 / 1000) % interval_us));
        let kill = kill_active(&mut bed.lab, active)?;
        // Whichever does not is a fault below.
        let _ = bed.streams.wait_alive_since(kill.at + Duration::from_millis(50), Duration::from_secs(10));
        thread::sleep(SETTLE);
        let now = Instant::now();
        let mut words = String::new();
        for (kind, gaps) in &mut gaps {
            let Some(track) = bed.streams.track(*kind) else { continue };
            let gap = ms(track.longest_silence(kill.at, now).length);
            gaps.push(gap);
            words += &format!("{} {gap:.1} ms  ", kind.name());
            if track.last().is_none_or(|last| last.at + SETTLE < now) {
                faults.push(format!("run {run}: {} did not go on", kind.name()));
            }
        }
        if kill.detected.is_none() {
            faults.push(format!("run {run}: node {} never said that it is active", kill.successor.name()));
        }
        detection.push(kill.detected.map_or(f64::NAN, ms));
        eprintln!("lab: run {run} of {runs}: {words}");
        bed.lab.node_at(active)?.stop();
        bed.lab.start(active)?;
        active = active.partner();
    }
    let dead_ms = setting.pair.dead_ms();
    let mut figures: Vec<Figure> = gaps
        .into_iter()
        .filter_map(|(kind, gaps)| Figure::of(format!("gap {}", kind.name()), "ms", gaps))
        .map(|figure| match dead_ms {
            300 => figure.must("median < 280, worst < 340"),
            30 => figure.must("median < 60"),
            _ => figure,
        })
        .collect();
    figures.extend(Figure::of("detection", "ms", detection));
    let title = format!(
        "takeover after SIGKILL, heartbeats {} ms x {}, {} mirrored sessions and those of the streams",
        setting.pair.interval_ms, setting.pair.misses, setting.sessions
    );
    Ok(Figures { title, figures, faults })
}

/// Switches over so many times, to and fro.
pub fn switchovers(setting: &Setting, runs: u32) -> Result<Figures> {
    let mut bed = bed(setting)?;
    let mut active = Host::A;
    let (mut lost, mut silence, mut took, mut faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        wait_pair(&mut bed.lab, active)?;
        thread::sleep(SETTLE);
        let first: Vec<u64> = bed.streams.tracks().iter().map(|track| track.sent()).collect();
        let asked = Instant::now();
        switchover(&mut bed.lab, active)?;
        took.push(ms(asked.elapsed()));
        thread::sleep(SETTLE);
        let last: Vec<u64> = bed.streams.tracks().iter().map(|track| track.sent()).collect();
        thread::sleep(Duration::from_millis(200));
        let mut missing = 0;
        let mut longest: f64 = 0.0;
        for ((track, first), last) in bed.streams.tracks().iter().zip(first).zip(last) {
            let gone = track.missing(first, last);
            if !gone.is_empty() {
                faults.push(format!("run {run}: {} lost {gone:?}", track.kind().name()));
            }
            missing += gone.len();
            let length = track.longest_silence(asked, asked + SETTLE).length;
            longest = longest.max(ms(length));
        }
        eprintln!("lab: run {run} of {runs}: {missing} lost, longest silence {longest:.1} ms");
        lost.push(missing as f64);
        silence.push(longest);
        active = active.partner();
    }
    let figures = [
        Figure::of("packets lost", "", lost).map(|figure| figure.must("0")),
        Figure::of("longest silence", "ms", silence),
        Figure::of("from command to active", "ms", took),
    ];
    let title = format!("switchover on command, {} sessions and those of the streams", setting.sessions);
    Ok(Figures { title, figures: figures.into_iter().flatten().collect(), faults })
}
