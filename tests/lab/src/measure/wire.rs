//! What replication costs on the sync link, and how soon a session is protected.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Figure, Figures, Setting, ms};
use crate::{
    control::Control,
    demo::{ECHO_PORT, HTTP_PORT, pair::wait_pair},
    echo::{Connections, EchoServer},
    error::{LabError, Result},
    generator::Generator,
    guard::Lab,
    netns,
    servers::HttpServer,
    topology::{Family, Host, SyncLink},
    traffic,
};

/// Sessions for the bytes of one: many, so that datagrams are full.
const TCP_SESSIONS: usize = 4_000;
const UDP_SESSIONS: u32 = 40_000;
const LARGE_FILE: u64 = 1 << 30;

/// Measures.
pub fn run(setting: &Setting, runs: u32) -> Result<Figures> {
    let mut setting = setting.clone();
    setting.sessions = setting.sessions.max(UDP_SESSIONS * 2 + 20_000);
    let mut lab = Lab::up(&setting.lab_options())?;
    wait_pair(&mut lab, Host::A)?;
    let (a, b) = (lab.node_at(Host::A)?.control(), lab.node_at(Host::B)?.control());
    let _echo = EchoServer::start(Host::Server, ECHO_PORT)?;
    let mut faults = Vec::new();
    let idle = {
        let before = sent()?;
        thread::sleep(Duration::from_secs(1));
        (sent()? - before) as f64
    };
    // First, while there is no other session whose changes would count.
    let records = large_transfer(&a, &mut faults)?;
    let udp = per_session(&a, idle, f64::from(UDP_SESSIONS), || {
        Generator::new(Family::V4, UDP_SESSIONS)?.fill(&a, UDP_SESSIONS, 50_000)?;
        wait_protected(&a)
    })?;
    let tcp = per_session(&a, idle, TCP_SESSIONS as f64, || {
        let to = SocketAddr::new(Family::V4.server(), ECHO_PORT);
        let open = Connections::open(Host::Client, to, TCP_SESSIONS, Duration::from_secs(10))?;
        wait_protected(&a)?;
        // Open until the bytes are read: closings are records, too.
        Ok(open)
    })?;
    let mut latencies = latencies(&b, runs)?;
    let unseen = latencies.iter().filter(|latency| latency.is_nan()).count();
    if unseen > 0 {
        faults.push(format!("{unseen} of {} connections never became usable on b", latencies.len()));
    }
    latencies.retain(|latency| !latency.is_nan());
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied();
    let figures = [
        Figure::of("bytes of a UDP record, IPv4", "bytes", vec![udp.record])
            .map(|figure| figure.must("<= 40")),
        Figure::of("bytes of a TCP record, IPv4", "bytes", vec![tcp.record])
            .map(|figure| figure.must("<= 56")),
        Figure::of("link bytes per UDP session", "bytes", vec![udp.link]),
        Figure::of("link bytes per TCP session, opened one by one", "bytes", vec![tcp.link]),
        Figure::of("records for 1 GiB in one session", "", vec![records]).map(|figure| figure.must("< 10")),
        Figure::of("idle link, bytes/s", "bytes", vec![idle]),
        Figure::of("ESTABLISHED on a to usable on b", "ms", latencies.clone()),
        at(0.99).and_then(|p99| Figure::of("the same, p99", "ms", vec![p99])),
    ];
    let title = "what replication costs on the sync link, and how soon a session is protected".into();
    Ok(Figures { title, figures: figures.into_iter().flatten().collect(), faults })
}

fn sent() -> Result<u64> {
    Ok(netns::counters(Host::A, SyncLink::FIRST.name())?.tx_bytes)
}

/// Bytes for a session.
struct Bytes {
    /// Of its record.
    record: f64,
    /// On the link, frames and acknowledgements and all, the idle link's share taken off.
    link: f64,
}

fn per_session<T>(
    active: &Control,
    idle_per_s: f64,
    sessions: f64,
    action: impl FnOnce() -> Result<T>,
) -> Result<Bytes> {
    let (before, records, started) = (sent()?, sent_as(active, "new")?, Instant::now());
    let _held = action()?;
    let carried = (sent()? - before) as f64 - idle_per_s * started.elapsed().as_secs_f64();
    let now = sent_as(active, "new")?;
    Ok(Bytes { record: (now.1 - records.1) / (now.0 - records.0), link: carried / sessions })
}

/// Records of a kind that the active sent so far, and their bytes.
fn sent_as(active: &Control, kind: &str) -> Result<(f64, f64)> {
    let status = active.ask("status")?;
    let kinds = status["pair"]["sync"]["sent"].as_array().cloned().unwrap_or_default();
    let found = kinds.iter().find(|sent| sent["kind"] == kind);
    let number = |field: &str| found.and_then(|sent| sent[field].as_f64()).unwrap_or(0.0);
    Ok((number("records"), number("bytes")))
}

fn wait_protected(active: &Control) -> Result<()> {
    crate::exec::wait_for("all sessions protected", Duration::from_secs(20), || {
        let view = crate::pairview::PairView::ask(active)?;
        (view.unprotected == 0 && view.in_sync).then_some(())
    })
}

/// Records that the active sent so far.
fn records_sent(active: &Control) -> Result<u64> {
    let status = active.ask("status")?;
    let records = &status["pair"]["sync"]["records_sent"];
    records.as_u64().ok_or_else(|| LabError::output("records sent in status", &status["pair"].to_string()))
}

fn large_transfer(active: &Control, faults: &mut Vec<String>) -> Result<f64> {
    let server = HttpServer::start(Host::Server, HTTP_PORT)?;
    server.publish_random("large", LARGE_FILE, 5)?;
    let before = records_sent(active)?;
    let url = server.url(Family::V4, "large");
    let got = traffic::download(Host::Client, Family::V4, &url, Duration::from_secs(120))?;
    if got.bytes != LARGE_FILE {
        faults.push(format!("{} of {LARGE_FILE} bytes arrived", got.bytes));
    }
    Ok((records_sent(active)? - before) as f64)
}

/// Opens connections one by one, and asks the standby for each until it has it.
fn latencies(standby: &Control, runs: u32) -> Result<Vec<f64>> {
    let to = SocketAddr::new(Family::V4.server(), ECHO_PORT);
    let mut all = Vec::new();
    for _ in 0..runs.max(100) {
        let mut open = Connections::open(Host::Client, to, 1, Duration::from_secs(5))?;
        let established = Instant::now();
        let Some(port) = open.streams().first().and_then(|stream| stream.local_addr().ok()) else { continue };
        let question =
            json!({ "v": 1, "cmd": "sessions", "count": true, "port": port.port(), "state": "established" });
        let mut seen = false;
        while !seen && established.elapsed() < Duration::from_secs(5) {
            let answer = standby.request(question.clone())?;
            seen = answer["total"].as_u64() == Some(1);
        }
        all.push(if seen { ms(established.elapsed()) } else { f64::NAN });
        drop(open);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(all)
}
