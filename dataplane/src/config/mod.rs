//! The configuration: from a TOML file to checked, typed values.
//!
//! What an operator wrote is either understood as a whole or refused as a whole, with every problem named in
//! its place and what to do about it. A refused file changes nothing: at start the daemon does not start, on
//! SIGHUP the last good configuration stays in force (fail closed). Unknown keys are problems, for a misspelt
//! `destination` must not become "any".
//!
//! The keys are described in `docs/configuration.md`, an example is `docs/understudyd.example.toml`.

mod identity;
mod model;
mod pair;
mod pair_keys;
mod ports;
mod problem;
mod reader;
mod reload;
mod rules;
mod sections;

pub use identity::{Area, AreaHashes};
pub use model::{
    Device, Eal, HugePages, Log, LogFormat, LogLevel, Node, PairAddresses, Polling, Port, Sessions,
    StaticRoute, Workers,
};
pub use pair::{Heartbeat, PairPath, PairSettings, PathKind, SyncLink};
pub use pair_keys::NodeKey;
pub use problem::{ConfigError, Invalid, Problem};
pub use rules::{action_text, service_text};

use engine::policy::{Policy, Rule, RuleSlots, ZoneSet};
use engine::routes::{Gateway, Route, Routes};
use engine::track::Timeouts;
use engine::{PortId, ZoneId};
use reader::{Reader, Section};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::de::DeTable;

/// The longest configuration file in bytes: thousands of rules, and nothing that was named by mistake.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The most ports.
pub const MAX_PORTS: usize = 32;

/// A whole, checked configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[log]`.
    pub log: Log,
    /// `[eal]`.
    pub eal: Eal,
    /// `[workers]`.
    pub workers: Workers,
    /// `[sessions]`.
    pub sessions: Sessions,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[[port]]`, in order: a [`PortId`] is the place in this list.
    pub ports: Vec<Port>,
    /// The names of all zones, sorted: a [`ZoneId`] is the place in this list.
    pub zones: Vec<String>,
    /// `[[route]]`.
    pub static_routes: Vec<StaticRoute>,
    /// `[[rule]]`, in order.
    pub rules: Vec<Rule>,
    /// `[pair]`; none on a node that stands alone.
    pub pair: Option<PairSettings>,
    /// What looks like a mistake and can be used all the same, a sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text; `name` stands for it in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let mut reader = Reader::default();
        match read(&mut reader, text) {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Invalid(Box::new(Invalid::new(name, text, reader.problems)))),
        }
    }

    /// The rules for the policy's compiler, in order.
    pub fn policy_rules(&self) -> Vec<Rule> {
        self.rules.clone()
    }

    /// All routes: the networks of the ports' addresses, then the static ones.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for (port, settings) in self.numbered_ports() {
            for address in &settings.addresses {
                let route = Route { prefix: address.trunc(), port, gateway: Gateway::OnLink };
                // Two addresses of a port may share a network.
                if !routes.contains(&route) {
                    routes.push(route);
                }
            }
        }
        routes.extend(self.static_routes.iter().map(|route| Route {
            prefix: route.to,
            port: route.port,
            gateway: Gateway::Via(route.via.into()),
        }));
        routes
    }

    /// How long idle sessions live.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The names of some zones; none stands for all of them but the firewall itself.
    pub fn zone_names(&self, zones: ZoneSet) -> Vec<String> {
        if zones == ZoneSet::TRANSIT {
            return Vec::new();
        }
        if zones == ZoneSet::ANY {
            return vec![rules::ANY.to_owned(), rules::SELF.to_owned()];
        }
        zones.iter().map(|zone| self.zone_name(zone).to_owned()).collect()
    }

    /// A zone's name; `self` for the firewall itself.
    pub fn zone_name(&self, zone: ZoneId) -> &str {
        if zone == ZoneId::SELF {
            return rules::SELF;
        }
        self.zones.get(usize::from(zone.0)).map_or("?", String::as_str)
    }

    /// A port with its number.
    pub fn numbered_ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        (0_u8..).map(PortId).zip(&self.ports)
    }
}

/// Reads everything; what could not be used has left problems behind.
fn read(reader: &mut Reader, text: &str) -> Option<Config> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What follows a syntax error may be read wrongly: nothing else is judged then.
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            reader.report(span, error.message().to_owned(), "the file is not TOML: see https://toml.io");
        }
        return None;
    }
    let mut root = Section::root(&document);
    let node = sections::node(reader, &mut root);
    let log = sections::log(reader, &mut root);
    let eal = sections::eal(reader, &mut root);
    let workers = sections::workers(reader, &mut root);
    let sessions = sections::sessions(reader, &mut root);
    let timeouts = sections::timeouts(reader, &mut root);
    let mut ports = ports::read(reader, &mut root);
    let static_routes = ports::routes(reader, &mut root, &ports);
    let rules = rules::read(reader, &mut root, &ports);
    let pair = pair::read(reader, &mut root, &mut ports);
    root.finish(reader);
    let (ports, zones) = (ports.ports, ports.zones);
    let node = node?;
    let warnings = Vec::new();
    let mut config = Config {
        node,
        log,
        eal,
        workers,
        sessions,
        timeouts,
        ports,
        zones,
        static_routes,
        rules,
        pair,
        warnings,
    };
    if reader.problems.is_empty() {
        compile(reader, &mut config);
    }
    Some(config)
}

/// Makes what the packet path will use, so that a configuration that was accepted cannot fail there.
fn compile(reader: &mut Reader, config: &mut Config) {
    match Policy::compile(&config.rules, &mut RuleSlots::new()) {
        Ok(policy) => config.warnings.extend(policy.warnings().iter().map(ToString::to_string)),
        Err(error) => reader.report(0..0, error.to_string(), ""),
    }
    if let Err(error) = Routes::build(&config.routes()) {
        reader.report(0..0, error.to_string(), "");
    }
    // The kernel's frames are cut silently at 1,518 bytes there.
    let cut = |port: &&Port| port.mtu > 1_500 && port.device.name().starts_with("net_af_packet");
    for port in config.ports.iter().filter(cut) {
        let Port { name, mtu, .. } = port;
        let warning =
            format!("port {name:?} has an MTU of {mtu}, and net_af_packet carries 1500 bytes; lower the MTU");
        config.warnings.push(warning);
    }
    if config.rules.is_empty() {
        config.warnings.push("there is no rule: nothing passes the firewall; add a [[rule]]".into());
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason| ConfigError::Read { path: path.into(), reason };
    // Asked before it is opened, for opening a FIFO without a writer would wait for one.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ConfigError::NotAFile { path: path.into() });
    }
    let mut bytes = Vec::new();
    let most = MAX_FILE_BYTES as u64 + 1;
    File::open(path).map_err(unreadable)?.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ConfigError::NotText { path: path.into(), at }
    })
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod tests;
