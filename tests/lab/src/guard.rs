//! A lab as a value: put up whole, taken down when it goes, also when a test panics.

use std::{path::PathBuf, time::Duration};

use crate::{
    config::NodeConfig,
    error::{LabError, Result},
    netns,
    node::Node,
    process::{ProcessRef, Stopped},
    state::{self, LabLock, LabState},
    topology::Host,
};

/// How workers wait for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polling {
    /// Sleep while there is nothing to do.
    #[default]
    Adaptive,
    /// Never sleep.
    Busy,
}

/// What a lab shall be like.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Firewall nodes.
    pub nodes: u8,
    /// Workers of each; `None` leaves it to the configuration.
    pub workers: Option<u16>,
    /// How they poll; `None` leaves it to the configuration.
    pub polling: Option<Polling>,
    /// Folder with an own `a.toml`; otherwise the lab's default is used.
    pub config_dir: Option<PathBuf>,
    /// TOML laid over the configuration, in order.
    pub overlays: Vec<String>,
    /// TOML with rules that go before the others.
    pub rules_first: Vec<String>,
    /// Whether to start the daemon; without it there are only namespaces and links.
    pub daemon: bool,
    /// How long to wait for another lab's end.
    pub patience: Duration,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            workers: None,
            polling: None,
            config_dir: None,
            overlays: Vec::new(),
            rules_first: Vec::new(),
            daemon: true,
            patience: Duration::from_secs(900),
        }
    }
}

impl LabOptions {
    /// Lays TOML over the configuration.
    #[must_use]
    pub fn overlay(mut self, text: impl Into<String>) -> Self {
        self.overlays.push(text.into());
        self
    }

    /// Puts rules before the others.
    #[must_use]
    pub fn rules_first(mut self, text: impl Into<String>) -> Self {
        self.rules_first.push(text.into());
        self
    }

    /// Sets the number of workers.
    #[must_use]
    pub fn workers(mut self, count: u16) -> Self {
        self.workers = Some(count);
        self
    }

    /// Only namespaces and links.
    #[must_use]
    pub fn without_daemon(mut self) -> Self {
        self.daemon = false;
        self
    }

    /// The configuration that these options come to.
    pub fn config(&self, node: Host) -> Result<NodeConfig> {
        let mut config = match &self.config_dir {
            Some(dir) => NodeConfig::from_dir(dir, node)?,
            None => NodeConfig::lab_default(node)?,
        };
        if let Some(workers) = self.workers {
            config.overlay(&format!("[workers]\ncount = {workers}\n"))?;
        }
        if let Some(polling) = self.polling {
            let word = match polling {
                Polling::Adaptive => "adaptive",
                Polling::Busy => "busy",
            };
            config.overlay(&format!("[workers]\npolling = \"{word}\"\n"))?;
        }
        self.overlays.iter().try_for_each(|text| config.overlay(text))?;
        self.rules_first.iter().try_for_each(|text| config.rules_first(text))?;
        Ok(config)
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    node: Option<Node>,
    lock: Option<LabLock>,
}

impl Lab {
    /// Puts a lab up. What an earlier one left behind is removed first; a living one is waited for.
    pub fn up(options: &LabOptions) -> Result<Self> {
        require_root()?;
        if options.nodes != 1 {
            return Err(LabError::Unsupported(format!(
                "a lab with {} nodes: the pair is not built yet, only --nodes 1 is",
                options.nodes
            )));
        }
        let config = options.config(Host::A)?;
        let lock = LabLock::take(options.patience, |message| eprintln!("lab: {message}"))?;
        if let Some(other) = LabState::load().filter(LabState::in_use) {
            return Err(LabError::Busy(format!(
                "a lab is up already ({}); `lab down` ends it",
                if other.detached { "from `lab up`" } else { "of another program" }
            )));
        }
        sweep()?;
        // From here on dropping the value takes everything down again.
        let mut lab = Self { node: None, lock: Some(lock) };
        netns::create()?;
        lab.node = Some(Node::prepare(Host::A, config)?);
        lab.store(false)?;
        if options.daemon {
            lab.node()?.start()?;
            lab.store(false)?;
        }
        Ok(lab)
    }

    /// The firewall node.
    pub fn node(&mut self) -> Result<&mut Node> {
        self.node.as_mut().ok_or_else(|| LabError::Config("this lab has no node".into()))
    }

    /// Leaves the lab up when this program ends; `lab down` ends it.
    pub fn detach(mut self) -> Result<LabState> {
        let state = self.store(true)?;
        if let Some(node) = self.node.take() {
            node.leave_running();
        }
        self.lock.take();
        Ok(state)
    }

    /// Takes the lab down and tells how its daemon ended.
    pub fn down(mut self) -> Result<Stopped> {
        let stopped = self.node.as_mut().map_or(Stopped::Before(0), Node::stop);
        self.node.take();
        let swept = sweep();
        // Swept already, or it cannot be: dropping need not try again.
        self.lock.take();
        swept.map(|()| stopped)
    }

    fn store(&self, detached: bool) -> Result<LabState> {
        let owner = ProcessRef::of(std::process::id())
            .ok_or_else(|| LabError::Config("cannot read our own entry in /proc".into()))?;
        let state = LabState {
            version: LabState::VERSION,
            owner,
            detached,
            nodes: self.node.iter().map(Node::state).collect(),
        };
        state.store()?;
        Ok(state)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        if let Some(mut node) = self.node.take() {
            node.stop();
            if std::thread::panicking() {
                eprintln!(
                    "--- log of node {} ---\n{}",
                    node.host().name(),
                    crate::node::log_tail(&node.log_path(), 40)
                );
            }
        }
        if let Err(error) = sweep() {
            eprintln!("lab: could not take everything down: {error}");
        }
    }
}

/// Ends every process of the lab and removes its namespaces and files, whoever left them. Nothing of it is
/// an error if it is not there. The caller holds the lock, or is about to end.
pub fn sweep() -> Result<()> {
    let recorded = LabState::load().into_iter().flat_map(|state| state.nodes).filter_map(|node| node.process);
    // Only the lab's programs live in the lab's namespaces: being there is proof enough.
    let living = Host::ALL.into_iter().flat_map(netns::processes);
    let all: Vec<ProcessRef> =
        recorded.chain(living).filter(|process| process.pid != std::process::id()).collect();
    for process in &all {
        process.signal(rustix::process::Signal::TERM);
    }
    let stubborn = all.iter().filter(|process| !process.gone_within(Duration::from_secs(3)));
    for process in stubborn {
        process.signal(rustix::process::Signal::KILL);
        process.gone_within(Duration::from_secs(3));
    }
    netns::delete()?;
    state::clear()
}

/// Takes down a lab that this program does not hold, waiting for one that is held.
pub fn down(patience: Duration, notice: impl FnMut(&str)) -> Result<()> {
    require_root()?;
    let _lock = LabLock::take(patience, notice)?;
    sweep()
}

/// Fails unless this is root.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_refused_by_name() {
        let options = LabOptions { nodes: 2, ..LabOptions::default() };
        if let Err(error @ LabError::Unsupported(_)) = Lab::up(&options) {
            assert_eq!(
                error.to_string(),
                "unsupported: a lab with 2 nodes: the pair is not built yet, only --nodes 1 is"
            );
        } else {
            assert!(!rustix::process::geteuid().is_root());
        }
    }

    #[test]
    fn options_reach_the_configuration() {
        let options = LabOptions { polling: Some(Polling::Busy), ..LabOptions::default() }
            .workers(2)
            .overlay("[timeouts]\nudp = 2\n")
            .rules_first("[[rule]]\nname = \"first\"\naction = \"drop\"\n");
        let text = options.config(Host::A).unwrap().to_text().unwrap();
        for line in ["count = 2", "polling = \"busy\"", "udp = 2"] {
            assert!(text.contains(line), "{line} missing in:\n{text}");
        }
        assert!(text.find("\"first\"").unwrap() < text.find("\"lan-to-wan\"").unwrap());
    }
}
