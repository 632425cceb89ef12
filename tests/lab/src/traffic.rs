//! Real clients in the lab, and what they report: curl, ping, iperf3.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    error::{LabError, Result},
    exec::{self, SHORT},
    state::RUN_DIR,
    topology::{Family, Host},
};

/// A finished download.
#[derive(Clone, Debug)]
pub struct Download {
    /// Bytes received.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: String,
    /// Wall time of curl alone.
    pub took: Duration,
}

/// Fetches a URL with curl on a host and hashes what came.
pub fn download(host: Host, family: Family, url: &str, limit: Duration) -> Result<Download> {
    let path: PathBuf = Path::new(RUN_DIR).join(format!("download-{}", std::process::id()));
    let mut command = exec::on(host, "curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", family.switch()]);
    command.args(["--max-time", &limit.as_secs().max(1).to_string(), "--output"]).arg(&path).arg(url);
    let output = exec::check(&mut command, limit + Duration::from_secs(5))?;
    let bytes = std::fs::metadata(&path).map_err(LabError::io("look at the download"))?.len();
    let sha256 = sha256(&path)?;
    std::fs::remove_file(&path).map_err(LabError::io("remove the download"))?;
    Ok(Download { bytes, sha256, took: output.took })
}

/// SHA-256 of a file, by coreutils: the lab needs no implementation of its own.
pub fn sha256(path: &Path) -> Result<String> {
    let output = exec::check(Command::new("sha256sum").arg(path), Duration::from_secs(60))?;
    let hash = output.stdout.split_ascii_whitespace().next().unwrap_or_default();
    if hash.len() == 64 { Ok(hash.into()) } else { Err(LabError::output("sha256sum", &output.stdout)) }
}

/// What `ping` reports.
#[derive(Clone, Debug, PartialEq)]
pub struct PingReport {
    /// Echo requests sent.
    pub sent: u32,
    /// Replies.
    pub received: u32,
    /// ICMP errors.
    pub errors: u32,
    /// Mean round trip in ms, if any came back.
    pub mean_ms: Option<f64>,
    /// All that it said.
    pub text: String,
}

/// Pings from a host. `extra` are further switches, such as `-s 1472 -M do` or `-t 1`.
pub fn ping(host: Host, to: IpAddr, count: u32, extra: &[&str]) -> Result<PingReport> {
    let mut command = exec::on(host, "ping");
    // Once a reply has come, ping waits for the last one no longer than an interval: a processor that was away
    // for longer is no loss.
    command.args([if to.is_ipv4() { "-4" } else { "-6" }, "-n", "-W", "2", "-i", "0.1"]);
    command.args(["-c", &count.to_string()]).args(extra).arg(to.to_string());
    let output = exec::run(&mut command, SHORT)?;
    parse_ping(&output.stdout).ok_or_else(|| {
        LabError::output(format!("ping (exit code {})", output.code), &(output.stdout + &output.stderr))
    })
}

fn parse_ping(text: &str) -> Option<PingReport> {
    let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |word: &str| -> Option<u32> {
        let part = summary.split(',').find(|part| part.contains(word))?;
        part.split_ascii_whitespace().find_map(|token| token.trim_start_matches('+').parse().ok())
    };
    let mean_ms = text
        .lines()
        .find_map(|line| line.strip_prefix("rtt "))
        .and_then(|line| line.split('=').nth(1))
        .and_then(|values| values.split('/').nth(1))
        .and_then(|value| value.trim().parse().ok());
    Some(PingReport {
        sent: number("transmitted")?,
        received: number("received")?,
        errors: number("errors").unwrap_or(0),
        mean_ms,
        text: text.into(),
    })
}

/// What `iperf3` reports.
#[derive(Clone, Debug, PartialEq)]
pub struct IperfReport {
    /// Goodput that the receiver saw.
    pub mbit_per_s: f64,
    /// TCP: segments sent again.
    pub retransmits: Option<u64>,
    /// UDP: datagrams lost and sent.
    pub lost: Option<(u64, u64)>,
    /// Local ports of the data streams, in the order of the streams.
    pub local_ports: Vec<u16>,
}

/// What an iperf3 run shall be like.
#[derive(Clone, Copy, Debug)]
pub struct IperfPlan {
    /// Family to use.
    pub family: Family,
    /// Port of the server.
    pub port: u16,
    /// Length of the run.
    pub seconds: u32,
    /// UDP at this rate in Mbit/s; otherwise TCP as fast as it goes.
    pub udp_mbit_per_s: Option<u32>,
    /// The server sends.
    pub reverse: bool,
}

impl IperfPlan {
    /// TCP from client to server.
    pub fn tcp(family: Family, port: u16, seconds: u32) -> Self {
        Self { family, port, seconds, udp_mbit_per_s: None, reverse: false }
    }

    /// UDP from client to server at a rate.
    pub fn udp(family: Family, port: u16, seconds: u32, mbit_per_s: u32) -> Self {
        Self { udp_mbit_per_s: Some(mbit_per_s), ..Self::tcp(family, port, seconds) }
    }
}

/// Runs iperf3 on the client against the server's own address.
pub fn iperf(plan: IperfPlan) -> Result<IperfReport> {
    iperf_to(plan, plan.family.server())
}

/// Runs iperf3 on the client against some address of the server.
pub fn iperf_to(plan: IperfPlan, server: IpAddr) -> Result<IperfReport> {
    let mut command = exec::on(Host::Client, "iperf3");
    command.args(["-J", plan.family.switch(), "--connect-timeout", "3000"]);
    command.args(["-c", &server.to_string(), "-p", &plan.port.to_string(), "-t", &plan.seconds.to_string()]);
    if let Some(rate) = plan.udp_mbit_per_s {
        command.args(["-u", "-l", "1400", "-b", &format!("{rate}M")]);
    }
    if plan.reverse {
        command.arg("-R");
    }
    let output = exec::run(&mut command, Duration::from_secs(u64::from(plan.seconds) + 20))?;
    let report: Value = serde_json::from_str(&output.stdout)
        .map_err(|_| LabError::output("iperf3", &(output.stdout.clone() + &output.stderr)))?;
    if let Some(error) = report["error"].as_str() {
        return Err(LabError::output("iperf3", error));
    }
    parse_iperf(&report).ok_or_else(|| LabError::output("iperf3", &output.stdout))
}

fn parse_iperf(report: &Value) -> Option<IperfReport> {
    let end = &report["end"];
    let local_ports = report["start"]["connected"]
        .as_array()?
        .iter()
        .filter_map(|stream| stream["local_port"].as_u64().and_then(|port| u16::try_from(port).ok()))
        .collect();
    // What the receiver saw; `sum` alone would be the sender's view for UDP.
    let rate = end["sum_received"]["bits_per_second"].as_f64()?;
    let datagrams = &end["sum"];
    let lost =
        datagrams["packets"].as_u64().map(|sent| (datagrams["lost_packets"].as_u64().unwrap_or(sent), sent));
    Some(IperfReport {
        mbit_per_s: rate / 1e6,
        retransmits: end["sum_sent"]["retransmits"].as_u64(),
        lost,
        local_ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_reports_are_read() {
        let text = "PING 10.2.0.10 (10.2.0.10) 56(84) bytes of data.\n\n--- 10.2.0.10 ping statistics ---\n20 packets transmitted, 19 received, 5% packet loss, time 400ms\nrtt min/avg/max/mdev = 0.045/0.123/0.310/0.010 ms\n";
        let report = parse_ping(text).unwrap();
        assert_eq!((report.sent, report.received, report.errors), (20, 19, 0));
        assert_eq!(report.mean_ms, Some(0.123));
        let text = "From 10.1.0.1 icmp_seq=1 Time to live exceeded\n--- 10.2.0.10 ping statistics ---\n3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 40ms\n";
        let report = parse_ping(text).unwrap();
        assert_eq!((report.sent, report.received, report.errors, report.mean_ms), (3, 0, 3, None));
        assert_eq!(parse_ping("ping: connect: Network is unreachable\n"), None);
    }

    #[test]
    fn iperf_reports_are_read() {
        let tcp = serde_json::json!({"start": {"connected": [{"local_port": 40000}]}, "end": {
            "sum_sent": {"bits_per_second": 2.1e9, "retransmits": 3}, "sum_received": {"bits_per_second": 2.0e9}}});
        let report = parse_iperf(&tcp).unwrap();
        assert_eq!((report.mbit_per_s, report.retransmits, report.lost), (2000.0, Some(3), None));
        assert_eq!(report.local_ports, [40000]);
        let udp = serde_json::json!({"start": {"connected": [{"local_port": 40001}]}, "end": {
            "sum": {"bits_per_second": 1.1e8, "lost_packets": 2, "packets": 100},
            "sum_received": {"bits_per_second": 1.0e8, "lost_packets": 2, "packets": 100}}});
        let report = parse_iperf(&udp).unwrap();
        assert_eq!((report.mbit_per_s, report.retransmits, report.lost), (100.0, None, Some((2, 100))));
    }
}
