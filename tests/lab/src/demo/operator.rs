//! The operator's view: the real `ha-ctl`, run as a person would, its JSON read.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;

use crate::{
    error::{LabError, Result},
    exec,
    node::ha_ctl,
};

const LIMIT: Duration = Duration::from_secs(15);

/// `ha-ctl` at one node.
#[derive(Clone, Debug)]
pub struct Operator {
    socket: PathBuf,
}

impl Operator {
    /// For the node with this control socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Runs `ha-ctl --json` with arguments and hands back what it printed.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let output = exec::check(ha_ctl(&self.socket)?.arg("--json").args(arguments), LIMIT)?;
        serde_json::from_str(&output.stdout).map_err(|error| {
            LabError::output(format!("ha-ctl {} ({error})", arguments.join(" ")), &output.stdout)
        })
    }

    /// Runs `ha-ctl` with arguments that change something; it must succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        exec::check(ha_ctl(&self.socket)?.args(arguments), LIMIT).map(|output| output.stdout)
    }

    /// `ha-ctl status`.
    pub fn status(&self) -> Result<proto::Status> {
        self.json(&["status"])
    }

    /// `ha-ctl sessions --count` with filters, such as `["--port", "80"]`.
    pub fn session_counts(&self, filters: &[&str]) -> Result<proto::SessionCounts> {
        self.json(&[&["sessions", "--count"], filters].concat())
    }

    /// `ha-ctl sessions` with filters.
    pub fn sessions(&self, filters: &[&str]) -> Result<proto::Sessions> {
        self.json(&[&["sessions"], filters].concat())
    }

    /// `ha-ctl rules`.
    pub fn rules(&self) -> Result<proto::Rules> {
        self.json(&["rules"])
    }

    /// Packets that a rule denied so far.
    pub fn denied_by(&self, rule: &str) -> Result<u64> {
        let rules = self.rules()?;
        let found = rules.rules.iter().find(|known| known.name == rule);
        found
            .map(|known| known.packets_denied)
            .ok_or_else(|| LabError::output("ha-ctl rules", &format!("there is no rule {rule}")))
    }

    /// `ha-ctl counters`.
    pub fn counters(&self) -> Result<proto::Counters> {
        self.json(&["counters"])
    }

    /// Drop reasons that have counted something, by name.
    pub fn drops(&self) -> Result<Vec<(String, u64)>> {
        let counters = self.counters()?;
        Ok(counters
            .drops
            .into_iter()
            .filter(|drop| drop.packets > 0)
            .map(|drop| (drop.name, drop.packets))
            .collect())
    }
}
