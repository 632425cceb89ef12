//! The same course for Understudy and for what a user would run instead, one after the other, on the same
//! cables: how long streams are silent when the active machine dies, whether connections live on, how fast
//! sessions reach the standby and what that costs, how long a node that has nothing needs.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::Serialize;

use super::{Figure, Setting};
use crate::{
    crowd::TcpCrowd,
    demo::pair::wait_pair,
    echo::EchoServer,
    error::{LabError, Result},
    exec,
    generator::Generator,
    guard::{Lab, LabOptions},
    pair::PairSettings,
    pairview::PairView,
    report::table,
    rival::{Cache, Rival, RivalOptions, wait_for_role},
    stream::{StreamKind, Streams},
    topology::{Family, Host},
};

const ECHO_PORT: u16 = 7450;
const CONNECTIONS: usize = 100;
/// Sessions offered in a second while the standby has to keep up.
const OFFERED: u32 = 100_000;
const SETTLE: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

/// What is compared, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Understudy,
    /// conntrackd's default: a cache that is committed at a takeover.
    Cached,
    /// Into the kernel's table at once.
    Direct,
}

impl System {
    const ALL: [System; 3] = [System::Understudy, System::Direct, System::Cached];

    const fn name(self) -> &'static str {
        match self {
            System::Understudy => "Understudy, heartbeats 100 ms x 3",
            System::Direct => "nftables + conntrackd (no external cache) + keepalived, adverts 100 ms",
            System::Cached => "nftables + conntrackd (external cache) + keepalived, adverts 100 ms",
        }
    }

    const fn short(self) -> &'static str {
        match self {
            System::Understudy => "Understudy",
            System::Direct => "conntrackd, direct",
            System::Cached => "conntrackd, cached",
        }
    }
}

/// What is asked of a comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of the table.
    pub sessions: Vec<u32>,
    /// Deaths for each system and size.
    pub runs: u32,
    /// How long to wait for another lab's end.
    pub patience: Duration,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// A row for each system and size.
    pub rows: Vec<Row>,
}

/// One system with a table of one size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The system.
    pub system: &'static str,
    /// Its name in pictures.
    #[serde(skip)]
    short: &'static str,
    /// Sessions in its table.
    pub sessions: u32,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What went otherwise than it should.
    pub faults: Vec<String>,
}

/// Goes through everything. A system that fails in the middle leaves a fault, not the whole comparison.
pub fn run(plan: &Plan) -> Result<Comparison> {
    let mut rows = Vec::new();
    for &sessions in &plan.sessions {
        for system in System::ALL {
            eprintln!("lab: {sessions} sessions, {}", system.name());
            let mut row = Row {
                system: system.name(),
                short: system.short(),
                sessions,
                figures: Vec::new(),
                faults: Vec::new(),
            };
            if let Err(error) = course(system, sessions, plan, &mut row) {
                row.faults.push(error.to_string());
            }
            eprintln!("{}", row.lines());
            rows.push(row);
        }
    }
    Ok(Comparison { rows })
}

fn course(system: System, sessions: u32, plan: &Plan, row: &mut Row) -> Result<()> {
    let mut subject: Box<dyn Subject> = match system {
        System::Understudy => Box::new(Own::up(sessions, plan.patience)?),
        System::Cached => Box::new(Kernel::up(Cache::External, plan.patience)?),
        System::Direct => Box::new(Kernel::up(Cache::None, plan.patience)?),
    };
    let mut add = |figure: Option<Figure>| row.figures.extend(figure);
    let generator = Generator::new(Family::V4, sessions)?;
    let filled = fill(subject.as_mut(), &generator, sessions)?;
    add(Figure::of("sessions a second that reached the standby", "/s", vec![filled.per_second]));
    add(Figure::of("sessions that never reached it", "", vec![filled.missing]));
    add(Figure::of("processor time for syncing, both nodes", "us/session", vec![filled.cpu_us]));
    let back = subject.rebuild(Host::B)?;
    add(Figure::of("full copy to a node that has nothing", "ms", vec![back]));

    let _echo = EchoServer::start(Host::Server, ECHO_PORT)?;
    let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1))?;
    let mut gaps: Vec<(StreamKind, Vec<f64>)> = StreamKind::ALL.map(|kind| (kind, Vec::new())).into();
    let (mut stalls, mut survivors) = (Vec::new(), Vec::new());
    let mut active = Host::A;
    for run in 1..=plan.runs {
        subject.settle(active)?;
        let crowd = TcpCrowd::start(ECHO_PORT, CONNECTIONS, Duration::from_millis(20))?;
        std::thread::sleep(SETTLE);
        let killed = subject.kill(active)?;
        let go_on = exec::wait_for("streams after the death", LONG, || {
            let after = killed + Duration::from_millis(50);
            let flows = streams.tracks().iter().all(|track| track.last().is_some_and(|last| last.at > after));
            flows.then_some(())
        });
        if let Err(error) = go_on {
            row.faults.push(format!("run {run}: {error}"));
        }
        std::thread::sleep(SETTLE);
        let now = Instant::now();
        for (kind, gaps) in &mut gaps {
            let Some(track) = streams.track(*kind) else { continue };
            gaps.push(track.longest_silence(killed, now).length.as_secs_f64() * 1000.0);
        }
        let alive = crowd.wait_alive_since(now, Duration::from_secs(20));
        survivors.push(alive as f64);
        stalls.push(longest_stall(&crowd, killed));
        drop(crowd);
        subject.revive(active)?;
        active = active.partner();
    }
    for (kind, gaps) in gaps {
        row.figures.extend(Figure::of(format!("gap {}", kind.name()), "ms", gaps));
    }
    row.figures.extend(Figure::of(format!("TCP connections of {CONNECTIONS} that lived on"), "", survivors));
    row.figures.extend(Figure::of("all TCP together without an echo", "ms", stalls));
    if let Some(commit) = subject.commit(active.partner())? {
        row.figures.extend(Figure::of("commit of the cache", "ms", vec![commit]));
    }
    Ok(())
}

/// The longest time after a moment in which no connection at all heard its echo.
fn longest_stall(crowd: &TcpCrowd, since: Instant) -> f64 {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for at in crowd.echoes().into_iter().filter(|at| *at >= since) {
        longest = longest.max(at.saturating_duration_since(last));
        last = last.max(at);
    }
    longest.as_secs_f64() * 1000.0
}

struct Filled {
    per_second: f64,
    missing: f64,
    cpu_us: f64,
}

fn fill(subject: &mut dyn Subject, generator: &Generator, sessions: u32) -> Result<Filled> {
    let (cpu, started) = (subject.sync_cpu(), Instant::now());
    generator.fill_until(sessions, OFFERED, || subject.sessions())?;
    let mirrored = subject.wait_mirrored(u64::from(sessions))?;
    let took = started.elapsed().as_secs_f64();
    let reached = mirrored.min(u64::from(sessions)) as f64;
    Ok(Filled {
        per_second: reached / took,
        missing: f64::from(sessions) - reached,
        cpu_us: (subject.sync_cpu() - cpu).as_secs_f64() * 1e6 / f64::from(sessions),
    })
}

/// A pair under test; node a is the active one at first.
trait Subject {
    /// Sessions on node a.
    fn sessions(&mut self) -> Result<u64>;
    /// Waits until node b was told of so many, or no more come; how many.
    fn wait_mirrored(&mut self, wanted: u64) -> Result<u64>;
    /// Processor time spent on syncing so far, on both nodes.
    fn sync_cpu(&mut self) -> Duration;
    /// A standby is started anew with nothing: milliseconds from its programs' start until it has everything.
    fn rebuild(&mut self, standby: Host) -> Result<f64>;
    /// Waits until the active node's partner is ready to take over.
    fn settle(&mut self, active: Host) -> Result<()>;
    /// The node's machine dies; when.
    fn kill(&mut self, node: Host) -> Result<Instant>;
    /// It is back.
    fn revive(&mut self, node: Host) -> Result<()>;
    /// Milliseconds for making a mirror usable, where that is a step of its own.
    fn commit(&mut self, standby: Host) -> Result<Option<f64>>;
}

struct Own {
    lab: Lab,
}

impl Own {
    fn up(sessions: u32, patience: Duration) -> Result<Self> {
        let options = LabOptions { patience, ..LabOptions::default() };
        let setting = Setting { pair: PairSettings::default(), sessions, options };
        let mut lab = Lab::up(&setting.lab_options())?;
        wait_pair(&mut lab, Host::A)?;
        Ok(Self { lab })
    }

    fn view(&mut self, node: Host) -> Result<PairView> {
        Ok(PairView::of(&self.lab.node_at(node)?.control().ask("status")?))
    }
}

impl Subject for Own {
    fn sessions(&mut self) -> Result<u64> {
        Ok(self.view(Host::A)?.sessions)
    }

    fn wait_mirrored(&mut self, wanted: u64) -> Result<u64> {
        let deadline = Instant::now() + LONG;
        loop {
            let (a, b) = (self.view(Host::A)?, self.view(Host::B)?);
            if (b.sessions >= wanted && a.unprotected == 0) || Instant::now() > deadline {
                return Ok(b.sessions);
            }
        }
    }

    fn sync_cpu(&mut self) -> Duration {
        let nodes = Host::NODES.iter().filter_map(|node| self.lab.node_at(*node).ok()?.process());
        nodes.filter_map(|process| process.thread_cpu_time("sync-core")).sum()
    }

    fn rebuild(&mut self, standby: Host) -> Result<f64> {
        self.lab.node_at(standby)?.stop();
        self.lab.start(standby)?;
        let started = Instant::now();
        wait_pair(&mut self.lab, standby.partner())?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }

    fn settle(&mut self, active: Host) -> Result<()> {
        wait_pair(&mut self.lab, active)
    }

    fn kill(&mut self, node: Host) -> Result<Instant> {
        let process = self.lab.node_at(node)?.process();
        let process = process.ok_or_else(|| LabError::Config(format!("{} does not run", node.name())))?;
        let at = Instant::now();
        process.signal(Signal::KILL);
        Ok(at)
    }

    fn revive(&mut self, node: Host) -> Result<()> {
        self.lab.node_at(node)?.stop();
        self.lab.start(node)
    }

    fn commit(&mut self, _: Host) -> Result<Option<f64>> {
        Ok(None)
    }
}

struct Kernel {
    pair: Rival,
    cache: Cache,
}

impl Kernel {
    fn up(cache: Cache, patience: Duration) -> Result<Self> {
        Ok(Self { pair: Rival::up(RivalOptions { cache, advert_ms: 100 }, patience)?, cache })
    }
}

impl Subject for Kernel {
    fn sessions(&mut self) -> Result<u64> {
        self.pair.sessions(Host::A)
    }

    fn wait_mirrored(&mut self, wanted: u64) -> Result<u64> {
        self.pair.wait_mirrored(Host::B, wanted, LONG)
    }

    fn sync_cpu(&mut self) -> Duration {
        self.pair.cpu()
    }

    fn rebuild(&mut self, standby: Host) -> Result<f64> {
        let wanted = self.pair.sessions(standby.partner())?;
        self.pair.kill(standby)?;
        self.pair.revive(standby)?;
        let started = Instant::now();
        let have = self.pair.wait_mirrored(standby, wanted * 999 / 1000, LONG)?;
        if have < wanted * 999 / 1000 {
            return Err(LabError::Config(format!("a full copy ended with {have} of {wanted} sessions")));
        }
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }

    fn settle(&mut self, active: Host) -> Result<()> {
        wait_for_role(active)?;
        let wanted = self.pair.sessions(active)?;
        self.pair.wait_mirrored(active.partner(), wanted * 999 / 1000, LONG).map(drop)
    }

    fn kill(&mut self, node: Host) -> Result<Instant> {
        self.pair.kill(node)
    }

    fn revive(&mut self, node: Host) -> Result<()> {
        self.pair.revive(node)
    }

    fn commit(&mut self, standby: Host) -> Result<Option<f64>> {
        if self.cache == Cache::None {
            return Ok(None);
        }
        let wanted = self.pair.sessions(standby.partner())?;
        self.pair.wait_mirrored(standby, wanted * 999 / 1000, LONG)?;
        Ok(Some(self.pair.command(standby, "-c")?.as_secs_f64() * 1000.0))
    }
}

impl Row {
    fn lines(&self) -> String {
        let figure = |f: &Figure| format!("  {}: {} / {} / {} {}", f.name, f.min, f.median, f.max, f.unit);
        let faults = self.faults.iter().map(|fault| format!("  FAULT: {fault}"));
        self.figures.iter().map(figure).chain(faults).collect::<Vec<_>>().join("\n")
    }

    fn median(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.median)
    }
}

impl Comparison {
    /// For people: a table for each size.
    pub fn table(&self) -> String {
        let rows = self.rows.iter().flat_map(|row| {
            let figures = row.figures.iter().map(|figure| {
                let value = format!("{} / {} / {} {}", figure.min, figure.median, figure.max, figure.unit);
                vec![row.sessions.to_string(), row.system.to_owned(), figure.name.clone(), value]
            });
            let faults = row.faults.iter().map(|fault| {
                vec![row.sessions.to_string(), row.system.to_owned(), "fault".into(), fault.clone()]
            });
            figures.chain(faults).collect::<Vec<_>>()
        });
        table(&["sessions", "system", "figure", "min / median / max"], rows)
    }

    /// For programs: one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// The median gap of the stream from server to client, as bars.
    pub fn to_svg(&self) -> String {
        let bars: Vec<(String, f64)> = self
            .rows
            .iter()
            .filter_map(|row| Some((format!("{} · {}", row.sessions, row.short), row.median("gap udp4")?)))
            .collect();
        let longest = bars.iter().map(|bar| bar.1).fold(1.0, f64::max);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" \
             font-size=\"15\">Gap after the active machine's death, median, ms (sessions · system)</text>\n",
            44 + bars.len() * 26
        );
        for (place, (name, value)) in bars.iter().enumerate() {
            let (y, width) = (40 + place * 26, value / longest * 560.0);
            let colour = if name.ends_with("Understudy") { "#2a7" } else { "#88a" };
            let _ = writeln!(
                svg,
                "<text x=\"10\" y=\"{}\">{name}</text><rect x=\"230\" y=\"{y}\" width=\"{width:.1}\" \
                 height=\"18\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{value:.0}</text>",
                y + 14,
                236.0 + width,
                y + 14
            );
        }
        svg + "</svg>\n"
    }

    /// Writes the picture.
    pub fn draw(&self, path: &std::path::Path) -> Result<()> {
        fs::write(path, self.to_svg()).map_err(LabError::io(format!("write {}", path.display())))
    }
}
