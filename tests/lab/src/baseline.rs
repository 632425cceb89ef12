//! What the lab itself can carry: iperf3 over the very same veths, once through `dpdk-testpmd` that only
//! copies frames from port to port, once with no program of DPDK's in between. A firewall's figure means
//! something only beside these two.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde::Serialize;

use crate::{
    error::{LabError, Result},
    exec::{self, Running, SHORT},
    guard::{Lab, LabOptions},
    report::table,
    servers::IperfServer,
    state::RUN_DIR,
    topology::{Family, HOST_INTERFACE, Host, LINKS},
    traffic::{IperfPlan, IperfReport, iperf_to, ping},
};

const PORT: u16 = 5201;

/// All measurements.
#[derive(Debug, Serialize)]
pub struct Baseline {
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// Who carried the frames.
    forwarder: &'static str,
    family: &'static str,
    traffic: String,
    mbit_per_s: f64,
    retransmits: Option<u64>,
    lost_permille: Option<f64>,
}

impl Baseline {
    /// For people.
    pub fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let quality = match (row.retransmits, row.lost_permille) {
                (Some(retransmits), _) => format!("{retransmits} retransmits"),
                (_, Some(lost)) => format!("{lost:.1} ‰ lost"),
                _ => String::new(),
            };
            vec![
                row.forwarder.into(),
                row.family.into(),
                row.traffic.clone(),
                format!("{:.0} Mbit/s", row.mbit_per_s),
                quality,
            ]
        });
        table(&["forwarder", "family", "traffic", "goodput", "quality"], rows)
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

/// Measures; needs the lab for itself.
pub fn run(seconds: u32, patience: Duration) -> Result<Baseline> {
    let lab = Lab::up(&LabOptions { patience, ..LabOptions::default().without_daemon() })?;
    share_one_network()?;
    let iperf3 = IperfServer::start(Host::Server, PORT)?;
    let mut rows = Vec::new();
    {
        let _testpmd = start_testpmd()?;
        measure("testpmd io", seconds, &mut rows)?;
    }
    bridge_in_the_kernel()?;
    measure("kernel bridge", seconds, &mut rows)?;
    drop(iperf3);
    lab.down()?;
    Ok(Baseline { rows })
}

/// The server on the client's network, for forwarders that do not route.
fn server_nearby(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 1, 0, 20]),
        Family::V6 => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, 0x20]),
    }
}

fn share_one_network() -> Result<()> {
    for family in Family::BOTH {
        let address = format!("{}/{}", server_nearby(family), family.prefix_length());
        let mut command = Command::new("ip");
        command.args(["-n", Host::Server.namespace(), "address", "add", &address, "dev", HOST_INTERFACE]);
        if family == Family::V6 {
            command.arg("nodad");
        }
        exec::check(&mut command, SHORT)?;
    }
    Ok(())
}

fn start_testpmd() -> Result<Running> {
    let path = Path::new(RUN_DIR).join("testpmd.log");
    let log = fs::File::create(&path).map_err(LabError::io("create testpmd's log"))?;
    let errors = log.try_clone().map_err(LabError::io("create testpmd's log"))?;
    let mut command = exec::on(Host::A, "dpdk-testpmd");
    command.args(["-l", "0,1", "--no-pci", "--in-memory", "-m", "256"]);
    for (index, link) in LINKS.iter().enumerate() {
        command.arg(format!("--vdev={}", link.device(index)));
    }
    // Not interactive, its standard input open: it ends when that closes.
    command.args([
        "--",
        "--forward-mode=io",
        "--auto-start",
        "--total-num-mbufs=16384",
        "--stats-period=3600",
    ]);
    command.stdin(Stdio::piped()).stdout(log).stderr(errors);
    let mut running = Running::start(&mut command)?;
    let ready = exec::wait_for("testpmd forwarding", Duration::from_secs(20), || {
        let passes = ping(Host::Client, server_nearby(Family::V4), 1, &["-W", "1"])
            .is_ok_and(|ping| ping.received == 1);
        (passes || running.ended().is_some()).then_some(passes)
    });
    match ready {
        Ok(true) => Ok(running),
        _ => Err(LabError::Command {
            line: "dpdk-testpmd".into(),
            status: "did not forward".into(),
            stderr: crate::node::log_tail(&path, 20),
        }),
    }
}

fn bridge_in_the_kernel() -> Result<()> {
    let mut lines = String::from("link add br0 type bridge\nlink set br0 up\n");
    for link in LINKS {
        lines += &format!("link set {} master br0\n", link.node_interface);
    }
    let mut command = Command::new("ip");
    command.args(["-n", Host::A.namespace(), "-batch", "-"]);
    exec::check_with_input(&mut command, &lines, SHORT)?;
    exec::wait_for("bridge forwarding", Duration::from_secs(20), || {
        let report = ping(Host::Client, server_nearby(Family::V4), 1, &["-W", "1"]).ok()?;
        (report.received == 1).then_some(())
    })
}

fn measure(forwarder: &'static str, seconds: u32, rows: &mut Vec<Row>) -> Result<()> {
    for family in Family::BOTH {
        eprintln!("lab: {forwarder}, {}, TCP for {seconds} s", family.name());
        let tcp = iperf_to(IperfPlan::tcp(family, PORT, seconds), server_nearby(family))?;
        rows.push(row(forwarder, family, "TCP".into(), &tcp));
        for rate in [100, 1000] {
            eprintln!("lab: {forwarder}, {}, UDP at {rate} Mbit/s for {seconds} s", family.name());
            let udp = iperf_to(IperfPlan::udp(family, PORT, seconds, rate), server_nearby(family))?;
            rows.push(row(forwarder, family, format!("UDP {rate} Mbit/s"), &udp));
        }
    }
    Ok(())
}

fn row(forwarder: &'static str, family: Family, traffic: String, report: &IperfReport) -> Row {
    Row {
        forwarder,
        family: family.name(),
        traffic,
        mbit_per_s: report.mbit_per_s,
        retransmits: report.retransmits,
        lost_permille: report.lost.map(|(lost, sent)| lost as f64 * 1000.0 / sent.max(1) as f64),
    }
}
