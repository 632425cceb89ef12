//! SIGHUP: another configuration without a restart.
//!
//! All or nothing: what cannot be read, compiled or applied leaves the policy in force as it is, and the
//! reason stays in `ha-ctl status` until a later attempt succeeds. Sessions are not touched here; workers
//! re-evaluate each at its next packet, because the policy generation moved on (decision 7).

use super::core::{Core, unix_ms};
use super::names::Names;
use crate::config::{Config, ConfigError};
use crate::ruleset::{Ruleset, RulesetError};
use engine::policy::RuleSlots;
use engine::snapshot::Snapshot;
use proto::Reload;
use std::sync::Arc;
use thiserror::Error;

/// A configuration that can take effect.
pub(super) struct Plan {
    config: Config,
    ruleset: Ruleset,
    restart_needed: Vec<String>,
}

/// Why it cannot.
#[derive(Debug, Error)]
pub(super) enum ReloadError {
    /// The file.
    #[error("{}", .0.lines().join("; "))]
    Config(#[from] ConfigError),
    /// Its rules or routes.
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    /// Its ports, which rules and routes refer to.
    #[error("ports and zones cannot change while the daemon runs: {}; restart it", changed.join(", "))]
    Ports {
        /// As the operator knows them.
        changed: Vec<String>,
    },
}

impl Plan {
    /// What `wanted` means for a daemon that runs with `running`.
    pub(super) fn new(wanted: Config, running: &Config, slots: &RuleSlots) -> Result<Self, ReloadError> {
        let restart_needed = wanted.diff_restart_needed(running);
        if wanted.ports != running.ports || wanted.zones != running.zones {
            return Err(ReloadError::Ports { changed: restart_needed });
        }
        let ruleset = Ruleset::compile(&wanted, slots)?;
        // What needs a restart stays as it runs, also for the next comparison.
        let config = Config {
            node: running.node.clone(),
            eal: running.eal.clone(),
            workers: running.workers.clone(),
            sessions: running.sessions,
            pair: running.pair.clone(),
            ..wanted
        };
        Ok(Self { config, ruleset, restart_needed })
    }
}

impl Core {
    /// Reads the configuration again and puts it into force, or says why not.
    pub fn reload(&mut self) {
        let path = self.config_path.display().to_string();
        let plan = Config::load(&self.config_path)
            .map_err(ReloadError::from)
            .and_then(|wanted| Plan::new(wanted, &self.config, &self.ruleset.slots));
        let error = match plan {
            Ok(plan) => {
                self.apply(plan);
                let restart = self.restart_needed.join(", ");
                let (epoch, rules) = (self.generation, self.config.rules.len());
                tracing::info!(
                    event = "reloaded",
                    path,
                    epoch,
                    rules,
                    restart_needed = restart,
                    "the configuration was reloaded"
                );
                None
            }
            Err(error) => {
                tracing::error!(event = "reload-failed", path, %error, "the configuration was not reloaded: the old one stays in force");
                Some(error.to_string())
            }
        };
        self.last_reload = Some(Reload { at_ms: unix_ms(), ok: error.is_none(), error });
    }

    pub(super) fn apply(&mut self, plan: Plan) {
        let Plan { config, ruleset, restart_needed } = plan;
        for warning in &config.warnings {
            tracing::warn!(event = "config-warning", "{warning}");
        }
        for slot in ruleset.slots.recycled() {
            self.rule_meter.restart(*slot, &self.counters);
        }
        self.generation += 1;
        let old = &self.snapshot;
        let next: Snapshot = ruleset.snapshot(
            self.generation,
            old.ports.clone(),
            Arc::clone(&old.neighbours),
            old.steering.clone(),
        );
        self.names = Arc::new(Names::new(&config, Some(&self.names)));
        if let Some(log) = &self.log {
            log.apply(config.log);
        }
        (self.config, self.ruleset, self.restart_needed) = (config, ruleset, restart_needed);
        self.publish(next);
        self.describe_to_partner();
    }
}
