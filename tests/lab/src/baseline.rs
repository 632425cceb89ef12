//! What the lab carries, and what of that is the firewall's doing: iperf3 over the very same veths, through
//! `understudyd` in both ways of polling, through `dpdk-testpmd` that only copies frames from port to port,
//! and through a bridge of the kernel without any program. A figure of the first means something only beside
//! the others, taken in the same minutes: rounds go through all of them in turn, and medians are shown.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, process::Stdio, time::Duration};

use serde::Serialize;

use crate::{
    error::{LabError, Result},
    exec::{self, Running},
    guard::{Lab, LabOptions, Polling},
    measure::median,
    netns,
    report::table,
    servers::IperfServer,
    state::RUN_DIR,
    topology::{Family, HOST_INTERFACE, Host, LINKS},
    traffic::{IperfPlan, IperfReport, iperf_to, ping},
};

const PORT: u16 = 5201;
const UDP_MBIT_PER_S: u32 = 1000;

/// Who carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Forwarder {
    Adaptive,
    Busy,
    Testpmd,
    Kernel,
}

impl Forwarder {
    const ALL: [Forwarder; 4] = [Forwarder::Adaptive, Forwarder::Busy, Forwarder::Testpmd, Forwarder::Kernel];

    fn name(self) -> &'static str {
        match self {
            Forwarder::Adaptive => "understudyd, adaptive",
            Forwarder::Busy => "understudyd, busy",
            Forwarder::Testpmd => "testpmd io",
            Forwarder::Kernel => "kernel bridge",
        }
    }
}

/// All measurements.
#[derive(Debug, Serialize)]
pub struct Baseline {
    rounds: u32,
    seconds: u32,
    rows: Vec<Row>,
}

/// One forwarder, family and kind of traffic: medians over the rounds.
#[derive(Debug, Serialize)]
struct Row {
    forwarder: &'static str,
    family: &'static str,
    traffic: &'static str,
    mbit_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_permille: Option<f64>,
    /// Goodput of each round.
    rounds_mbit_per_s: Vec<f64>,
}

type Samples = BTreeMap<(Forwarder, Family, &'static str), Vec<IperfReport>>;

impl Baseline {
    fn new(rounds: u32, seconds: u32, samples: &Samples) -> Self {
        let rows = samples
            .iter()
            .map(|((forwarder, family, traffic), reports)| {
                let of = |value: fn(&IperfReport) -> Option<f64>| {
                    median(&mut reports.iter().filter_map(value).collect::<Vec<f64>>())
                };
                Row {
                    forwarder: forwarder.name(),
                    family: family.name(),
                    traffic,
                    mbit_per_s: of(|report| Some(report.mbit_per_s)).unwrap_or(0.0),
                    retransmits: of(|report| report.retransmits.map(|count| count as f64)),
                    lost_permille: of(|report| {
                        report.lost.map(|(lost, sent)| lost as f64 * 1000.0 / sent.max(1) as f64)
                    }),
                    rounds_mbit_per_s: reports.iter().map(|report| report.mbit_per_s.round()).collect(),
                }
            })
            .collect();
        Self { rounds, seconds, rows }
    }

    /// For people.
    pub fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let quality = match (row.retransmits, row.lost_permille) {
                (Some(retransmits), _) => format!("{retransmits:.0} retransmits"),
                (_, Some(lost)) => format!("{lost:.0} ‰ lost"),
                _ => String::new(),
            };
            let goodput = format!("{:.0} Mbit/s", row.mbit_per_s);
            vec![row.forwarder.into(), row.family.into(), row.traffic.into(), goodput, quality]
        });
        let table = table(&["forwarder", "family", "iperf3", "goodput", "quality"], rows);
        format!(
            "{table}\nmedians of {} rounds of {} s each; UDP offered at {UDP_MBIT_PER_S} Mbit/s",
            self.rounds, self.seconds
        )
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

/// Measures; needs the machine for itself to mean much.
pub fn run(rounds: u32, seconds: u32, patience: Duration) -> Result<Baseline> {
    let mut samples = Samples::new();
    for round in 1..=rounds.max(1) {
        for forwarder in Forwarder::ALL {
            eprintln!("lab: round {round} of {rounds}, {}", forwarder.name());
            measure_one(forwarder, seconds, patience, &mut samples)?;
        }
    }
    Ok(Baseline::new(rounds, seconds, &samples))
}

fn measure_one(forwarder: Forwarder, seconds: u32, patience: Duration, samples: &mut Samples) -> Result<()> {
    let polling = match forwarder {
        Forwarder::Adaptive => Some(Polling::Adaptive),
        Forwarder::Busy => Some(Polling::Busy),
        Forwarder::Testpmd | Forwarder::Kernel => None,
    };
    let lab = Lab::up(&LabOptions { polling, daemon: polling.is_some(), patience, ..LabOptions::default() })?;
    let iperf3 = IperfServer::start(Host::Server, PORT)?;
    let testpmd = match forwarder {
        Forwarder::Adaptive | Forwarder::Busy => None,
        Forwarder::Testpmd => {
            share_one_network()?;
            Some(start_testpmd()?)
        }
        Forwarder::Kernel => {
            share_one_network()?;
            bridge_in_the_kernel()?;
            None
        }
    };
    for family in Family::BOTH {
        let server = if polling.is_some() { family.server() } else { server_nearby(family) };
        // Neighbours first: nobody's figure shall hold the wait for them.
        ping(Host::Client, server, 2, &[])?;
        let plans = [
            ("TCP", IperfPlan::tcp(family, PORT, seconds)),
            ("UDP", IperfPlan::udp(family, PORT, seconds, UDP_MBIT_PER_S)),
        ];
        for (traffic, plan) in plans {
            samples.entry((forwarder, family, traffic)).or_default().push(iperf_to(plan, server)?);
        }
    }
    drop((testpmd, iperf3));
    lab.down().map(drop)
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
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        netns::batch(Host::Server, &format!("address add {address} dev {HOST_INTERFACE}{nodad}\n"))?;
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
    netns::bridge(Host::A)?;
    exec::wait_for("bridge forwarding", Duration::from_secs(20), || {
        let report = ping(Host::Client, server_nearby(Family::V4), 1, &["-W", "1"]).ok()?;
        (report.received == 1).then_some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_shown_beside_all_rounds() {
        let report = |mbit_per_s| IperfReport {
            mbit_per_s,
            retransmits: Some(3),
            lost: None,
            local_ports: Vec::new(),
        };
        let mut samples = Samples::new();
        samples.insert((Forwarder::Busy, Family::V4, "TCP"), [900.0, 100.0, 500.0].map(report).to_vec());
        let baseline = Baseline::new(3, 2, &samples);
        assert_eq!(baseline.rows[0].mbit_per_s, 500.0);
        assert_eq!(baseline.rows[0].rounds_mbit_per_s, [900.0, 100.0, 500.0]);
        assert!(baseline.table().contains("500 Mbit/s"), "{}", baseline.table());
    }
}
