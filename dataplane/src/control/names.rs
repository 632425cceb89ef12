//! From the numbers that workers use to the names that operators gave.

use crate::config::Config;
use engine::{PortId, RuleId, ZoneId};
use std::collections::HashMap;

/// What the rule behind all rules is called.
pub const DEFAULT_DENY: &str = "default-deny";

/// The names of one configuration; rules that the one before it had, too, for their sessions live on until
/// their next packet.
#[derive(Clone, Debug, Default)]
pub struct Names {
    zones: Vec<String>,
    ports: Vec<String>,
    rules: HashMap<RuleId, String>,
    former_rules: HashMap<RuleId, String>,
}

impl Names {
    /// The names in `config`; `before` are those of the configuration that it replaces.
    pub fn new(config: &Config, before: Option<&Names>) -> Self {
        let rules = config.rules.iter().map(|rule| (rule.id, rule.name.clone())).collect();
        Self {
            zones: config.zones.clone(),
            ports: config.ports.iter().map(|port| port.name.clone()).collect(),
            rules,
            former_rules: before.map(|names| names.rules.clone()).unwrap_or_default(),
        }
    }

    /// A zone's name.
    pub fn zone(&self, zone: ZoneId) -> &str {
        if zone == ZoneId::SELF {
            return "self";
        }
        self.zones.get(usize::from(zone.0)).map_or("?", String::as_str)
    }

    /// A port's name.
    pub fn port(&self, port: PortId) -> &str {
        self.ports.get(usize::from(port.0)).map_or("?", String::as_str)
    }

    /// A rule's name.
    pub fn rule(&self, rule: RuleId) -> &str {
        if rule == RuleId::DEFAULT_DENY {
            return DEFAULT_DENY;
        }
        self.rules.get(&rule).or_else(|| self.former_rules.get(&rule)).map_or("(removed)", String::as_str)
    }
}
