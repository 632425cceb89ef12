//! The checks themselves.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    config::{BLOCK_RULE, BLOCKED_PORT, DEFAULT_RULE},
    echo::{Connections, EchoServer},
    error::Result,
    exec::wait_for,
    guard::Lab,
    netns,
    probe::{ConnectOutcome, TcpTap, connect},
    process::Stopped,
    servers::{HttpServer, IperfServer},
    topology::{Family, Host},
    traffic::{self, IperfPlan, ping},
};

use super::{Operator, outcome::Finding};

const DOWNLOAD_BYTES: u64 = 100_000_000;
const CONNECTIONS: usize = 500;
const ROUNDS: u32 = 5;
const IPERF_SECONDS: u32 = 2;
const UDP_MBIT_PER_S: u32 = 50;
/// One SYN each: a kernel sends its second one only after a second.
const ATTEMPTS: u64 = 3;
const ATTEMPT_LIMIT: Duration = Duration::from_millis(400);

/// Everything that stands ready while the checks run.
pub struct Stage {
    /// The operator at the node.
    pub operator: Operator,
    /// nginx on the server.
    pub http: HttpServer,
    /// iperf3 on the server.
    pub iperf: IperfServer,
    /// The echo server on the server.
    pub echo: EchoServer,
    /// A listener on the server behind the blocked port.
    pub blocked: EchoServer,
    /// A listener on the client that the outside must not reach.
    pub inside: EchoServer,
}

impl Stage {
    /// Packet buffers in use now.
    pub fn buffers_in_use(&self) -> Result<u64> {
        Ok(self.operator.status()?.mbufs.in_use)
    }

    fn sessions(&self, filters: &[&str]) -> Result<u64> {
        Ok(self.operator.session_counts(filters)?.total)
    }

    /// Sessions between client and server on a port of the server, in a family.
    fn sessions_on(&self, family: Family, port: u16) -> Result<u64> {
        self.sessions(&["--address", &family.server().to_string(), "--port", &port.to_string()])
    }
}

pub fn pings(stage: &Stage, family: Family) -> Result<Finding> {
    const COUNT: u32 = 20;
    let proto = if family == Family::V4 { "icmp" } else { "icmpv6" };
    let count = || stage.sessions(&["--proto", proto, "--address", &family.server().to_string()]);
    let before = count()?;
    let report = ping(Host::Client, family.server(), COUNT, &[])?;
    Ok(Finding {
        expected: format!("{COUNT} of {COUNT} replies"),
        measured: format!(
            "{} of {} replies, mean {:.2} ms",
            report.received,
            report.sent,
            report.mean_ms.unwrap_or(0.0)
        ),
        sessions: Some((1, count()? - before)),
        good: report.received == COUNT && report.sent == COUNT,
    })
}

pub fn http_download(stage: &Stage, family: Family) -> Result<Finding> {
    let name = format!("random-{}", family.name());
    let file = stage.http.publish_random(&name, DOWNLOAD_BYTES, 1 + family as u64)?;
    let expected = traffic::sha256(&file)?;
    let before = stage.sessions_on(family, stage.http.port())?;
    let got =
        traffic::download(Host::Client, family, &stage.http.url(family, &name), Duration::from_secs(30))?;
    let equal = got.sha256 == expected;
    Ok(Finding {
        expected: format!("{DOWNLOAD_BYTES} bytes, SHA-256 {}…", &expected[..8]),
        measured: format!(
            "{} bytes, {}…, {:.0} Mbit/s",
            got.bytes,
            &got.sha256[..8],
            got.bytes as f64 * 8e-6 / got.took.as_secs_f64()
        ),
        sessions: Some((1, stage.sessions_on(family, stage.http.port())? - before)),
        good: equal && got.bytes == DOWNLOAD_BYTES,
    })
}

pub fn iperf_tcp(stage: &Stage, family: Family) -> Result<Finding> {
    let port = stage.iperf.port();
    let before = stage.sessions_on(family, port)?;
    let report = traffic::iperf(IperfPlan::tcp(family, port, IPERF_SECONDS))?;
    Ok(Finding {
        expected: "more than 100 Mbit/s".into(),
        measured: format!("{:.0} Mbit/s, {} retransmits", report.mbit_per_s, report.retransmits.unwrap_or(0)),
        // The control connection and the data connection.
        sessions: Some((2, stage.sessions_on(family, port)? - before)),
        good: report.mbit_per_s > 100.0,
    })
}

pub fn iperf_udp(stage: &Stage, family: Family) -> Result<Finding> {
    let port = stage.iperf.port();
    let before = stage.sessions_on(family, port)?;
    let report = traffic::iperf(IperfPlan::udp(family, port, IPERF_SECONDS, UDP_MBIT_PER_S))?;
    let (lost, sent) = report.lost.unwrap_or((u64::MAX, 0));
    Ok(Finding {
        expected: format!("{UDP_MBIT_PER_S} Mbit/s, at most 1 % lost"),
        measured: format!("{:.1} Mbit/s, {lost} of {sent} lost", report.mbit_per_s),
        // The control connection over TCP and the flow of datagrams.
        sessions: Some((2, stage.sessions_on(family, port)? - before)),
        good: sent > 0 && lost.saturating_mul(100) <= sent,
    })
}

pub fn parallel_connections(stage: &Stage, family: Family) -> Result<Finding> {
    let to = SocketAddr::new(family.server(), stage.echo.port());
    let before = stage.sessions_on(family, stage.echo.port())?;
    let accepted_before = stage.echo.accepted();
    let mut connections = Connections::open(Host::Client, to, CONNECTIONS, Duration::from_secs(5))?;
    let exact: Vec<usize> = (0..ROUNDS).map(|round| connections.round(round)).collect();
    let counted = stage.sessions_on(family, stage.echo.port())? - before;
    let accepted = stage.echo.accepted() - accepted_before;
    let worst = exact.into_iter().min().unwrap_or(0);
    Ok(Finding {
        expected: format!("{CONNECTIONS} open at once, all echo {ROUNDS} times"),
        measured: format!("{accepted} open at once, {worst} echo in the worst round"),
        sessions: Some((CONNECTIONS as u64, counted)),
        good: accepted == CONNECTIONS && worst == CONNECTIONS,
    })
}

pub fn blocked_outward(stage: &Stage, family: Family) -> Result<Finding> {
    blocked(
        stage,
        family,
        Host::Client,
        SocketAddr::new(family.server(), BLOCKED_PORT),
        &stage.blocked,
        BLOCK_RULE,
    )
}

pub fn blocked_inward(stage: &Stage, family: Family) -> Result<Finding> {
    blocked(
        stage,
        family,
        Host::Server,
        SocketAddr::new(family.client(), stage.inside.port()),
        &stage.inside,
        DEFAULT_RULE,
    )
}

/// Knocks on a door that the policy keeps shut: nothing may come through, and the rule must own up to it.
fn blocked(
    stage: &Stage,
    family: Family,
    from: Host,
    to: SocketAddr,
    listener: &EchoServer,
    rule: &str,
) -> Result<Finding> {
    let target = if from == Host::Client { Host::Server } else { Host::Client };
    let port = to.port().to_string();
    // The firewall must know the neighbour, else "nothing passed" might only mean "no address was known".
    if from == Host::Server {
        ping(Host::Client, family.server(), 1, &[])?;
    }
    let tap = TcpTap::start(target, family)?;
    let (denied_before, accepted_before) = (stage.operator.denied_by(rule)?, listener.accepted());
    let mut silent = 0;
    for _ in 0..ATTEMPTS {
        silent += u64::from(matches!(connect(from, to, ATTEMPT_LIMIT)?, ConnectOutcome::Silence));
    }
    let denied = wait_for("denied packets counted", Duration::from_secs(2), || {
        let denied = stage.operator.denied_by(rule).ok()? - denied_before;
        (denied >= ATTEMPTS).then_some(denied)
    });
    let denied = denied.or_else(|_| stage.operator.denied_by(rule).map(|now| now - denied_before))?;
    let passed = tap.seen(|segment| segment.to_port == to.port()).len();
    let accepted = listener.accepted() - accepted_before;
    Ok(Finding {
        expected: format!("0 of {ATTEMPTS} SYNs pass, {rule} counts {ATTEMPTS}"),
        measured: format!("{passed} passed, {silent} unanswered, {denied} counted"),
        sessions: Some((0, stage.sessions(&["--port", &port, "--address", &to.ip().to_string()])?)),
        good: silent == ATTEMPTS && passed == 0 && accepted == 0 && denied == ATTEMPTS,
    })
}

/// Every packet buffer must come back once the traffic has ended: the cheapest leak detector there is.
pub fn buffers_return(stage: &Stage, before: u64) -> Result<Finding> {
    let started = Instant::now();
    let mut now = stage.buffers_in_use()?;
    while now > before && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
        now = stage.buffers_in_use()?;
    }
    Ok(Finding {
        expected: format!("{before} in use, as before"),
        measured: format!("{now} in use"),
        sessions: None,
        good: now <= before,
    })
}

/// SIGTERM ends the daemon with exit code 0, and nothing of the lab remains.
pub fn clean_end(lab: Lab) -> Result<Finding> {
    let stopped = lab.down()?;
    let left = Host::ALL.into_iter().filter(|host| netns::exists(*host)).count();
    Ok(Finding {
        expected: "exit code 0, nothing left".into(),
        measured: match stopped {
            Stopped::Asked(code) => format!("exit code {code}, {left} namespaces left"),
            Stopped::Before(code) => format!("it had ended before, exit code {code}"),
            Stopped::Killed => "it had to be killed".into(),
        },
        sessions: None,
        good: stopped == Stopped::Asked(0) && left == 0,
    })
}
