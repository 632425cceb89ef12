//! The demo of the pair: all kinds of traffic through two nodes, the active one killed with SIGKILL in the
//! middle, then its return and a switchover on command.
//!
//! Whether a session survived is judged by the programs that use it, at their ends: numbered records on TCP,
//! the hash of a download, characters typed into ssh, one-millisecond streams over sessions that only the
//! client opened.

use std::{
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    ECHO_PORT, HTTP_PORT, SSH_PORT,
    live::Live,
    operator::Operator,
    verdict::{Gaps, Line, PairReport, Sessions, Survival, Verdict},
};
use crate::{
    control::Control,
    crowd::{TcpCrowd, UdpCrowd},
    echo::EchoServer,
    error::{LabError, Result},
    events::now_us,
    exec::{self, Running},
    guard::{Lab, LabOptions},
    pair::PairSettings,
    pairview::PairView,
    picture::{Mark, Picture, Series},
    probe::{ACK, Segment, TcpTap, send_segment},
    servers::HttpServer,
    ssh::{SshServer, Typist},
    state::RUN_DIR,
    stream::{StreamKind, Streams, slices},
    topology::{Family, Host},
    traffic,
};

/// What the demo shall be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pair's heartbeats.
    pub pair: PairSettings,
    /// Where the picture goes.
    pub picture: PathBuf,
    /// How long to wait for another lab's end.
    pub patience: Duration,
}

const CONNECTIONS: usize = 200;
const UDP_SESSIONS: usize = 40;
const DOWNLOAD_BYTES: u64 = 100_000_000;
/// So that it takes some ten seconds, most of them after the kill.
const DOWNLOAD_RATE: &str = "10M";
/// How long a session may take to go on: TCP doubles its patience with each retransmission.
const RECOVERY: Duration = Duration::from_secs(15);
/// How long a node may take to be ready to take over.
pub const READY: Duration = Duration::from_secs(30);
/// Connections that get forged segments, in each family.
const FORGED: usize = 5;

/// Everything that talks while nodes come and go.
struct Traffic {
    tcp: TcpCrowd,
    udp: UdpCrowd,
    typists: Vec<Typist>,
    streams: Streams,
    download: Download,
    _servers: (HttpServer, EchoServer, SshServer),
}

/// Puts a pair up, kills its active node under traffic, brings it back and switches over.
pub fn run(plan: &Plan) -> Result<PairReport> {
    let options = LabOptions { patience: plan.patience, ..LabOptions::pair(plan.pair.clone()) };
    let mut lab = Lab::up(&options)?;
    let live = Live::start(vec![
        (Host::A, lab.node_at(Host::A)?.control()),
        (Host::B, lab.node_at(Host::B)?.control()),
    ]);
    live.say("two nodes are up; waiting until b mirrors a");
    wait_pair(&mut lab, Host::A)?;
    live.say(format!(
        "traffic: {CONNECTIONS} TCP echoes, {UDP_SESSIONS} UDP sessions, a download, ssh, four streams at 1 ms"
    ));
    let traffic = Traffic::start()?;
    live.watch(&traffic.streams);
    thread::sleep(Duration::from_millis(1500));
    wait_pair(&mut lab, Host::A)?;
    let before = traffic.alive_since(Instant::now() - Duration::from_millis(900));

    live.say("SIGKILL to node a, which is active");
    let kill = kill_active(&mut lab, Host::A)?;
    let after = traffic.survivors(kill.at + Duration::from_millis(u64::from(plan.pair.dead_ms())), &live);
    live.say("all that can recover has; judging");
    let mut lines = judge(&traffic, &kill, &before, &after);
    let verdict = close_verdict(&mut lab, &traffic, &kill, &before, &after, &mut lines)?;
    draw(&traffic, &kill, plan)?;

    match way_back(&mut lab, &traffic, &live) {
        Ok(more) => lines.extend(more),
        Err(error) => {
            // The first line says what; a table is no place for the rest.
            let what = error.to_string().lines().next().unwrap_or_default().to_owned();
            lines.push(line("the way back", "to be carried out", what, false));
        }
    }
    drop(live);
    drop(traffic);
    let stopped = lab.down()?;
    lines.push(line(
        "shutdown",
        "exit code 0",
        format!("{stopped:?}"),
        stopped == crate::process::Stopped::Asked(0),
    ));
    Ok(PairReport { verdict, lines, picture: plan.picture.display().to_string() })
}

impl Traffic {
    fn start() -> Result<Self> {
        let http = HttpServer::start(Host::Server, HTTP_PORT)?;
        let echo = EchoServer::start(Host::Server, ECHO_PORT)?;
        let sshd = SshServer::start(Host::Server, SSH_PORT)?;
        let tcp = TcpCrowd::start(ECHO_PORT, CONNECTIONS, Duration::from_millis(100))?;
        let udp = UdpCrowd::start(UDP_SESSIONS, Duration::from_millis(50))?;
        let type_in = |family| Typist::start(&sshd, family, Duration::from_millis(50));
        let typists = vec![type_in(Family::V4)?, type_in(Family::V6)?];
        let streams = Streams::start(&StreamKind::ALL, Duration::from_millis(1))?;
        let download = Download::start(&http)?;
        Ok(Self { tcp, udp, typists, streams, download, _servers: (http, echo, sshd) })
    }

    fn icmp_alive_since(&self, moment: Instant) -> usize {
        let pings = self.streams.tracks().iter().filter(|track| matches!(track.kind(), StreamKind::Icmp(_)));
        pings.filter(|track| track.alive_since(moment)).count()
    }

    fn udp_streams_alive_since(&self, moment: Instant) -> usize {
        let udp = self.streams.tracks().iter().filter(|track| matches!(track.kind(), StreamKind::Udp(_)));
        udp.filter(|track| track.alive_since(moment)).count()
    }

    fn alive_since(&self, moment: Instant) -> Alive {
        Alive {
            tcp: self.tcp.alive_since(moment),
            udp: self.udp.alive_since(moment) + self.udp_streams_alive_since(moment),
            icmp: self.icmp_alive_since(moment),
            ssh: self.typists.iter().filter(|typist| typist.wait_alive_since(moment, Duration::ZERO)).count(),
        }
    }

    /// Waits until everything has gone on after a moment, or has had all the time it may take.
    fn survivors(&self, moment: Instant, live: &Live) -> Alive {
        let deadline = Instant::now() + RECOVERY;
        let tcp = self.tcp.wait_alive_since(moment, RECOVERY);
        live.say(format!("{tcp} TCP connections go on"));
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        self.udp.wait_alive_since(moment, left);
        let ssh = self.typists.iter().filter(|typist| typist.wait_alive_since(moment, left)).count();
        Alive { tcp, ssh, ..self.alive_since(moment) }
    }
}

/// How many of each kind are alive.
#[derive(Clone, Copy, Debug)]
struct Alive {
    tcp: usize,
    udp: usize,
    icmp: usize,
    ssh: usize,
}

/// The kill and what was seen of the takeover.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// Right before the signal.
    pub at: Instant,
    /// When the other node became active.
    pub detected: Option<Duration>,
    /// Who it is.
    pub successor: Host,
}

/// Kills the active node and waits for the other one to become active.
pub fn kill_active(lab: &mut Lab, active: Host) -> Result<Kill> {
    let successor = active.partner();
    let process = lab.node_at(active)?.process();
    let process = process.ok_or_else(|| LabError::Config(format!("node {} does not run", active.name())))?;
    let at_us = now_us();
    let at = Instant::now();
    process.signal(Signal::KILL);
    let became_active = |lab: &mut Lab| {
        let events = lab.node_at(successor).map(|node| node.events()).unwrap_or_default();
        events.into_iter().find(|event| event.at_us >= at_us && event.became("active"))
    };
    let event = exec::wait_for("takeover", Duration::from_secs(20), || became_active(lab)).ok();
    let detected = event.map(|event| Duration::from_micros(event.at_us - at_us));
    Ok(Kill { at, detected, successor })
}

/// Waits until one node is active and the other mirrors all of its sessions.
pub fn wait_pair(lab: &mut Lab, active: Host) -> Result<()> {
    let (first, second) = (lab.node_at(active)?.control(), lab.node_at(active.partner())?.control());
    let view = |control: &Control| PairView::ask(control);
    let ready = exec::wait_for("a pair in sync", READY, || {
        let (active, standby) = (view(&first)?, view(&second)?);
        let ready = active.role == "active" && standby.role == "standby" && active.in_sync;
        (ready && active.unprotected == 0).then_some(())
    });
    ready.map_err(|error| {
        let line = |control: &Control| view(control).map_or_else(|| "no answer".into(), |view| view.line());
        LabError::Config(format!(
            "{error}; {}: {}; {}: {}",
            active.name(),
            line(&first),
            active.partner().name(),
            line(&second)
        ))
    })
}

/// A download that is under way while nodes come and go.
struct Download {
    running: std::sync::Mutex<Running>,
    path: PathBuf,
    expected: String,
}

impl Download {
    fn start(server: &HttpServer) -> Result<Self> {
        let file = server.publish_random("file", DOWNLOAD_BYTES, 3)?;
        let expected = traffic::sha256(&file)?;
        let path = PathBuf::from(RUN_DIR).join("download");
        let mut command = exec::on(Host::Client, "curl");
        command.args([
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "--limit-rate",
            DOWNLOAD_RATE,
            "--max-time",
            "60",
        ]);
        command.arg("--output").arg(&path).arg(server.url(Family::V4, "file"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { running: std::sync::Mutex::new(Running::start(&mut command)?), path, expected })
    }

    /// Waits for its end; whether the file is whole, and in words.
    fn finish(&self) -> (bool, String) {
        let ended = match self.running.lock() {
            Ok(mut running) => running.wait(Duration::from_secs(70)),
            Err(_) => return (false, "nobody waited for it".into()),
        };
        match (ended, traffic::sha256(&self.path)) {
            (Ok(0), Ok(hash)) if hash == self.expected => (true, format!("whole, SHA-256 {}…", &hash[..8])),
            (Ok(0), Ok(hash)) => (false, format!("another SHA-256: {}…", &hash[..8])),
            (Ok(code), _) => (false, format!("curl ended with {code}")),
            (Err(error), _) => (false, error.to_string()),
        }
    }
}

fn line(what: &str, expected: &str, measured: String, good: bool) -> Line {
    Line { what: what.into(), expected: expected.into(), measured, good }
}

fn survival(what: &str, before: usize, survived: usize) -> Line {
    let good = before > 0 && survived == before;
    line(what, &format!("all {before} go on"), format!("{survived} of {before}"), good)
}

fn judge(traffic: &Traffic, kill: &Kill, before: &Alive, after: &Alive) -> Vec<Line> {
    let mut lines = vec![line(
        "takeover",
        "node b says that it is active",
        kill.detected
            .map_or_else(|| "never".into(), |after| format!("{} ms after the kill", after.as_millis())),
        kill.detected.is_some(),
    )];
    let now = Instant::now();
    for track in traffic.streams.tracks() {
        let silence = track.longest_silence(kill.at, now);
        lines.push(line(
            &format!("gap of {}", track.kind().name()),
            "the stream goes on",
            format!("{:.1} ms", silence.length.as_secs_f64() * 1000.0),
            track.alive_since(now - Duration::from_millis(500)),
        ));
    }
    let mut tcp = survival("TCP after the kill", before.tcp, after.tcp);
    tcp.good &= before.tcp == CONNECTIONS;
    if let Some(lost) = traffic.tcp.members().iter().find_map(|member| member.ended.clone()) {
        tcp.measured += &format!(" ({lost})");
    }
    lines.push(tcp);
    lines.push(survival("UDP after the kill", before.udp, after.udp));
    lines.push(survival("ping after the kill", before.icmp, after.icmp));
    lines.push(survival("ssh after the kill", before.ssh, after.ssh));
    lines
}

fn close_verdict(
    lab: &mut Lab,
    traffic: &Traffic,
    kill: &Kill,
    before: &Alive,
    after: &Alive,
    lines: &mut Vec<Line>,
) -> Result<Verdict> {
    let accepted = out_of_window(&traffic.tcp)?;
    lines.push(line(
        "forged segments",
        "none far outside the window passes",
        format!("{accepted} passed"),
        accepted == 0,
    ));
    let control = lab.node_at(kill.successor)?.control();
    let relaxed = exec::wait_for("sessions whose checks are back", Duration::from_secs(5), || {
        PairView::ask(&control)?.relaxed.filter(|left| *left == 0)
    })
    .ok()
    .or_else(|| PairView::ask(&control)?.relaxed);
    let left = relaxed.map_or_else(|| "not known".into(), |left| format!("{left} sessions"));
    lines.push(line("relaxed checks", "0 sessions left", left, relaxed == Some(0)));
    let (download_ok, words) = traffic.download.finish();
    lines.push(line("download of 100 MB", "whole", words, download_ok));
    let now = Instant::now();
    let gap = |kind| {
        let silence = traffic.streams.track(kind).map(|track| track.longest_silence(kill.at, now).length);
        silence.map_or(f64::NAN, tenths_ms)
    };
    let survived = |before, survived| Survival { before, survived };
    Ok(Verdict {
        killed: kill.successor.partner().name(),
        detection_ms: kill.detected.map(tenths_ms),
        gap_ms: Gaps {
            udp4: gap(StreamKind::Udp(Family::V4)),
            udp6: gap(StreamKind::Udp(Family::V6)),
            icmp: gap(StreamKind::Icmp(Family::V4)),
        },
        sessions: Sessions {
            tcp: survived(before.tcp, after.tcp),
            udp: survived(before.udp, after.udp),
            icmp: survived(before.icmp, after.icmp),
        },
        download_ok,
        out_of_window_accepted: accepted,
        relaxed_left: relaxed,
    })
}

/// Milliseconds with one decimal.
fn tenths_ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Sends segments from the server's side with sequence numbers from nowhere, two for each connection and half
/// the number space apart, so that one at least is far outside whatever the window is. How many came through.
fn out_of_window(tcp: &TcpCrowd) -> Result<u64> {
    const MARK: &[u8] = b"forged after the takeover";
    let mut passed = 0;
    for family in Family::BOTH {
        let tap = TcpTap::start(Host::Client, family)?;
        let all = tcp.members();
        for member in all.iter().filter(|member| member.family == family).take(FORGED) {
            for seq in [0x1000_0000, 0x9000_0000] {
                let forged = Segment::bare(ECHO_PORT, member.client_port, seq, 1, ACK);
                send_segment(Host::Server, family, &Segment { payload: MARK.to_vec(), ..forged })?;
            }
        }
        thread::sleep(Duration::from_millis(200));
        passed += tap.seen(|segment| segment.payload == MARK).len() as u64;
    }
    Ok(passed)
}

fn draw(traffic: &Traffic, kill: &Kill, plan: &Plan) -> Result<()> {
    const BEFORE: Duration = Duration::from_millis(500);
    const SLICE: Duration = Duration::from_millis(10);
    let count = usize::try_from((u64::from(plan.pair.dead_ms()) + 1500) / 10).unwrap_or(200);
    let from = kill.at - BEFORE;
    let now = Instant::now();
    let mut series: Vec<Series> = traffic
        .streams
        .tracks()
        .iter()
        .map(|track| Series {
            name: track.kind().name().into(),
            note: format!("gap {:.0} ms", track.longest_silence(kill.at, now).length.as_secs_f64() * 1000.0),
            counts: track.slices(from, SLICE, count),
        })
        .collect();
    series.push(Series {
        name: "tcp".into(),
        note: "200 echoes".into(),
        counts: slices(traffic.tcp.echoes().into_iter(), from, SLICE, count),
    });
    let mut marks = vec![Mark { at_ms: 0.0, label: "SIGKILL to node a".into(), colour: "#c0392b" }];
    if let Some(after) = kill.detected {
        let at_ms = after.as_secs_f64() * 1000.0;
        marks.push(Mark { at_ms, label: format!("node b is active ({at_ms:.0} ms)"), colour: "#1e8449" });
    }
    let title =
        format!("Takeover after SIGKILL, heartbeats {} ms x {}", plan.pair.interval_ms, plan.pair.misses);
    let picture = Picture { title, start_ms: -(BEFORE.as_secs_f64() * 1000.0), slice: SLICE, series, marks };
    picture.write(&plan.picture)
}

/// The killed node returns, mirrors the other, and becomes active again on command.
fn way_back(lab: &mut Lab, traffic: &Traffic, live: &Live) -> Result<Vec<Line>> {
    live.say("node a returns");
    lab.node_at(Host::A)?.stop();
    lab.start(Host::A)?;
    wait_pair(lab, Host::B)?;
    live.say("a mirrors b; switchover on command");
    switch_back(lab, traffic, live)
}

/// A switchover from node b back to node a under the same traffic: nothing may be lost.
fn switch_back(lab: &mut Lab, traffic: &Traffic, live: &Live) -> Result<Vec<Line>> {
    let first: Vec<u64> = traffic.streams.tracks().iter().map(|track| track.sent()).collect();
    let asked = Instant::now();
    switchover(lab, Host::B)?;
    live.say("node a is active again");
    let switched = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let last: Vec<u64> = traffic.streams.tracks().iter().map(|track| track.sent()).collect();
    thread::sleep(Duration::from_millis(500));
    let mut lines = Vec::new();
    for ((track, first), last) in traffic.streams.tracks().iter().zip(first).zip(last) {
        let missing = track.missing(first, last);
        let silence = track.longest_silence(asked, switched + Duration::from_secs(1)).length;
        lines.push(line(
            &format!("switchover, {}", track.kind().name()),
            "0 packets lost",
            format!(
                "{} of {} lost, silence {:.1} ms",
                missing.len(),
                last - first,
                silence.as_secs_f64() * 1000.0
            ),
            missing.is_empty() && last > first,
        ));
    }
    let alive = traffic.survivors(switched, live);
    lines.push(survival("TCP after the switchover", CONNECTIONS, alive.tcp));
    lines.push(survival("UDP after the switchover", UDP_SESSIONS + 2, alive.udp));
    lines.push(survival("ping after the switchover", 2, alive.icmp));
    lines.push(survival("ssh after the switchover", traffic.typists.len(), alive.ssh));
    Ok(lines)
}

/// Asks the active node to hand over, and waits until the other one is active and mirrored again.
pub fn switchover(lab: &mut Lab, from: Host) -> Result<()> {
    let operator = Operator::new(lab.node_at(from)?.socket_path());
    operator.run(&["switchover"])?;
    let control = lab.node_at(from.partner())?.control();
    exec::wait_for("the switchover", Duration::from_secs(5), || {
        let view = PairView::ask(&control)?;
        (view.role == "active").then_some(())
    })
}
