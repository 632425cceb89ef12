//! The demo of one firewall: real programs on both sides, and a table of what passed and what did not.
//!
//! Each check says beforehand what it expects, opens a known number of sessions and compares that number
//! with what the operator's tool counts. A check that cannot be carried out has failed; none is skipped.

use std::time::{Duration, Instant};

use crate::{
    echo::EchoServer,
    error::Result,
    guard::{Lab, LabOptions},
    servers::{HttpServer, IperfServer},
    topology::{Family, Host},
};

use super::{
    ECHO_PORT, HTTP_PORT, INSIDE_PORT, IPERF_PORT, Operator, Report,
    checks::{self, Stage},
    outcome::{Finding, Progress},
};

/// Puts a lab up, runs every check, takes it down.
pub fn run(patience: Duration) -> Result<Report> {
    let started = Instant::now();
    let mut progress = Progress::default();
    let mut lab = progress.step("lab: firewall, client and server in namespaces", || {
        Lab::up(&LabOptions { patience, ..LabOptions::default() })
    })?;
    let stage = progress.step("servers: nginx, iperf3, echo", || {
        Ok(Stage {
            operator: Operator::new(lab.node()?.socket_path()),
            http: HttpServer::start(Host::Server, HTTP_PORT)?,
            iperf: IperfServer::start(Host::Server, IPERF_PORT)?,
            echo: EchoServer::start(Host::Server, ECHO_PORT)?,
            blocked: EchoServer::start(Host::Server, crate::config::BLOCKED_PORT)?,
            inside: EchoServer::start(Host::Client, INSIDE_PORT)?,
        })
    })?;
    let buffers_before = stage.buffers_in_use()?;
    let mut rows = Vec::new();
    for (name, check) in CHECKS {
        for family in Family::BOTH {
            rows.push(progress.check(name, Some(family), || check(&stage, family)));
        }
    }
    rows.push(progress.check("packet buffers", None, || checks::buffers_return(&stage, buffers_before)));
    let totals = stage.operator.session_counts(&[]);
    let drops = stage.operator.drops();
    drop(stage);
    rows.push(progress.check("shutdown", None, || checks::clean_end(lab)));
    Ok(Report::new(rows, totals?, drops?, started.elapsed()))
}

type Check = fn(&Stage, Family) -> Result<Finding>;

/// What is checked, in both families each, in this order.
const CHECKS: [(&str, Check); 7] = [
    ("ping", checks::pings),
    ("HTTP 100 MB", checks::http_download),
    ("iperf3 TCP", checks::iperf_tcp),
    ("iperf3 UDP", checks::iperf_udp),
    ("500 connections", checks::parallel_connections),
    ("blocked LAN→WAN", checks::blocked_outward),
    ("blocked WAN→LAN", checks::blocked_inward),
];
