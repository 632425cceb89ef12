//! From a configuration to what workers read: rules compiled, routes built.
//!
//! Start and SIGHUP take the same way, so what `--check` accepts can be loaded.

use crate::config::Config;
use engine::neighbour::NeighbourTable;
use engine::policy::{Policy, PolicyError, RuleSlots};
use engine::routes::{RouteError, Routes};
use engine::snapshot::{PairView, Ports, Snapshot, Steering};
use engine::track::Timeouts;
use std::sync::Arc;
use thiserror::Error;

/// What follows from a configuration, ready to be published.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// The compiled rules.
    pub policy: Arc<Policy>,
    /// Connected and static routes.
    pub routes: Arc<Routes>,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// Which counters belong to which rule.
    pub slots: RuleSlots,
    /// What workers know of the pair.
    pub pair: PairView,
}

/// Why a configuration that reads well cannot be used.
#[derive(Debug, Error)]
pub enum RulesetError {
    /// In the rules.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// In the routes.
    #[error(transparent)]
    Routes(#[from] RouteError),
}

impl Ruleset {
    /// Compiles `config`; rules that had a counter slot in `slots` keep it.
    pub fn compile(config: &Config, slots: &RuleSlots) -> Result<Self, RulesetError> {
        let mut slots = slots.clone();
        let policy = Arc::new(Policy::compile(&config.policy_rules(), &mut slots)?);
        let routes = Arc::new(Routes::build(&config.routes())?);
        let pair = config.pair.as_ref().map(crate::launch::pair::view).unwrap_or_default();
        Ok(Self { policy, routes, timeouts: config.timeouts(), slots, pair })
    }

    /// The snapshot of this rule set.
    pub fn snapshot(
        &self,
        generation: u64,
        ports: Ports,
        neighbours: Arc<NeighbourTable>,
        steering: Steering,
    ) -> Snapshot {
        Snapshot {
            generation: generation as u16,
            ports,
            policy: Arc::clone(&self.policy),
            routes: Arc::clone(&self.routes),
            neighbours,
            timeouts: self.timeouts,
            steering,
            pair: self.pair,
        }
    }
}
