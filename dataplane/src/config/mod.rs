//! The configuration: from a TOML file to checked, typed values.
//!
//! What an operator wrote is either understood as a whole or refused as a whole, with every problem named in
//! its place and what to do about it. A refused file changes nothing: at start the daemon does not start, on
//! SIGHUP the last good configuration stays in force (fail closed). Unknown keys are problems, for a misspelt
//! `destination` must not become "any".
//!
//! The keys are described in `docs/configuration.md`, an example is `docs/understudyd.example.toml`.

mod model;
mod ports;
mod problem;
mod reader;
mod reload;
mod rules;
mod sections;

pub use model::{
    Action, Device, Eal, HugePages, Log, LogFormat, LogLevel, Node, Polling, Port, Rule, Service, Sessions,
    StaticRoute, Timeouts, Workers, Zones,
};
pub use problem::{ConfigError, Invalid, Problem};

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
    pub routes: Vec<StaticRoute>,
    /// `[[rule]]`, in order.
    pub rules: Vec<Rule>,
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
    let ports = ports::read(reader, &mut root);
    let routes = ports::routes(reader, &mut root, &ports);
    let rules = rules::read(reader, &mut root, &ports);
    root.finish(reader);
    Some(Config {
        node: node?,
        log,
        eal,
        workers,
        sessions,
        timeouts,
        ports: ports.ports,
        zones: ports.zones,
        routes,
        rules,
    })
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.into(), source };
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
mod tests;
