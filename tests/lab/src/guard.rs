//! A lab as a value: put up whole, taken down when it goes, also when a test panics.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    config::NodeConfig,
    error::{LabError, Result},
    interrupt, netns,
    node::Node,
    pair::{self, NodeKeys, PairSettings},
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
    /// Firewall nodes: one, or a pair.
    pub nodes: u8,
    /// What a pair is like.
    pub pair: PairSettings,
    /// Workers of each; `None` leaves it to the configuration.
    pub workers: Option<u16>,
    /// How they poll; `None` leaves it to the configuration.
    pub polling: Option<Polling>,
    /// Folder with an own `a.toml`; otherwise the lab's default is used.
    pub config_dir: Option<PathBuf>,
    /// TOML laid over the configuration, in order.
    pub overlays: Vec<String>,
    /// TOML laid over one node's configuration, behind the others.
    pub node_overlays: Vec<(Host, String)>,
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
            pair: PairSettings::default(),
            workers: None,
            polling: None,
            config_dir: None,
            overlays: Vec::new(),
            node_overlays: Vec::new(),
            rules_first: Vec::new(),
            daemon: true,
            patience: Duration::from_secs(900),
        }
    }
}

impl LabOptions {
    /// Two nodes that protect each other.
    pub fn pair(pair: PairSettings) -> Self {
        Self { nodes: 2, pair, ..Self::default() }
    }

    /// Lays TOML over one node's configuration.
    #[must_use]
    pub fn overlay_on(mut self, node: Host, text: impl Into<String>) -> Self {
        self.node_overlays.push((node, text.into()));
        self
    }

    /// Sets how many sessions fit.
    #[must_use]
    pub fn capacity(self, sessions: u32) -> Self {
        self.overlay(format!("[sessions]\ncapacity = {sessions}\n"))
    }

    /// The nodes of such a lab.
    pub fn hosts(&self) -> &'static [Host] {
        if self.nodes == 2 { &Host::NODES } else { &Host::NODES[..1] }
    }

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

    /// The configuration that these options come to; a pair's keys are drawn anew each time.
    pub fn config(&self, node: Host) -> Result<NodeConfig> {
        let [a, b] = pair::draw_keys()?;
        self.config_with(node, if node == Host::B { &b } else { &a })
    }

    fn config_with(&self, node: Host, keys: &NodeKeys) -> Result<NodeConfig> {
        let mut config = match &self.config_dir {
            Some(dir) => NodeConfig::from_dir(dir, node)?,
            None if self.nodes == 2 => NodeConfig::lab_pair(node, &self.pair, keys, &Node::dir_of(node))?,
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
        let own = self.node_overlays.iter().filter(|(host, _)| *host == node);
        own.into_iter().try_for_each(|(_, text)| config.overlay(text))?;
        self.rules_first.iter().try_for_each(|text| config.rules_first(text))?;
        Ok(config)
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    keys: [NodeKeys; 2],
    lock: Option<LabLock>,
}

impl Lab {
    /// Puts a lab up. What an earlier one left behind is removed first; a living one is waited for.
    pub fn up(options: &LabOptions) -> Result<Self> {
        require_root()?;
        if !(1..=2).contains(&options.nodes) {
            return Err(LabError::Unsupported(format!(
                "a lab with {} nodes: a pair has two, --nodes 1 is a firewall alone",
                options.nodes
            )));
        }
        let keys = pair::draw_keys()?;
        let configs: Vec<NodeConfig> = options
            .hosts()
            .iter()
            .zip(&keys)
            .map(|(host, keys)| options.config_with(*host, keys))
            .collect::<Result<_>>()?;
        let lock = LabLock::take(options.patience, |message| eprintln!("lab: {message}"))?;
        if let Some(other) = LabState::load().filter(LabState::in_use) {
            return Err(LabError::Busy(format!(
                "a lab is up already ({}); `lab down` ends it",
                if other.detached { "from `lab up`" } else { "of another program" }
            )));
        }
        sweep()?;
        // From here on dropping the value takes everything down again.
        let mut lab = Self { nodes: Vec::new(), keys, lock: Some(lock) };
        if options.nodes == 2 {
            netns::create_pair(options.pair.sync_links())?;
        } else {
            netns::create()?;
        }
        for (host, config) in options.hosts().iter().zip(configs) {
            if options.nodes == 2 {
                lab.keys[usize::from(*host == Host::B)].store(&Node::dir_of(*host))?;
            }
            lab.nodes.push(Node::prepare(*host, config)?);
        }
        lab.store(false)?;
        if options.daemon {
            lab.nodes.iter_mut().try_for_each(Node::spawn)?;
            lab.store(false)?;
            lab.nodes.iter_mut().try_for_each(Node::ready)?;
        }
        Ok(lab)
    }

    /// The firewall node, or the first of a pair.
    pub fn node(&mut self) -> Result<&mut Node> {
        self.node_at(Host::A)
    }

    /// A node by where it runs.
    pub fn node_at(&mut self, host: Host) -> Result<&mut Node> {
        let found = self.nodes.iter_mut().find(|node| node.host() == host);
        found.ok_or_else(|| LabError::Config(format!("this lab has no node {}", host.name())))
    }

    /// Starts a node's daemon (again) and waits until it answers.
    pub fn start(&mut self, host: Host) -> Result<()> {
        self.node_at(host)?.start()?;
        self.store(false).map(drop)
    }

    /// The keys of node a and of node b.
    pub fn keys(&self) -> &[NodeKeys; 2] {
        &self.keys
    }

    /// Leaves the lab up when this program ends; `lab down` ends it.
    pub fn detach(mut self) -> Result<LabState> {
        let state = self.store(true)?;
        self.lock.take().map_or(Ok(()), LabLock::leave)?;
        for node in self.nodes.drain(..) {
            node.leave_running();
        }
        Ok(state)
    }

    /// Takes the lab down and tells how its daemons ended: the first that did not end well speaks for all.
    pub fn down(mut self) -> Result<Stopped> {
        let all: Vec<Stopped> = self.nodes.iter_mut().map(Node::stop).collect();
        let stopped = all.iter().find(|stopped| **stopped != Stopped::Asked(0)).or(all.first());
        self.nodes.clear();
        let swept = sweep();
        // Swept already, or it cannot be: dropping need not try again.
        self.lock.take();
        swept.map(|()| stopped.copied().unwrap_or(Stopped::Before(0)))
    }

    fn store(&self, detached: bool) -> Result<LabState> {
        let owner = ProcessRef::of(std::process::id())
            .ok_or_else(|| LabError::Config("cannot read our own entry in /proc".into()))?;
        let state = LabState {
            version: LabState::VERSION,
            owner,
            detached,
            nodes: self.nodes.iter().map(Node::state).collect(),
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
        for mut node in self.nodes.drain(..) {
            // A stopped process hears nothing else.
            node.signal(rustix::process::Signal::CONT);
            node.stop();
            if std::thread::panicking() {
                eprintln!(
                    "--- log of node {} ---\n{}",
                    node.host().name(),
                    crate::node::log_tail(&node.log_path(), 40)
                );
            }
        }
        match sweep() {
            // Another thread does it.
            Ok(()) | Err(LabError::Interrupted(_)) => {}
            Err(error) => eprintln!("lab: could not take everything down: {error}"),
        }
    }
}

/// Ends every process of the lab and removes its namespaces and files, whoever left them. Nothing of it is
/// an error if it is not there. The caller holds the lock.
pub fn sweep() -> Result<()> {
    interrupt::check("take the lab down")?;
    // First: whatever else fails, the machine has its own limits again.
    let limits = crate::rival::restore_limits();
    let recorded = LabState::load().into_iter().flat_map(|state| state.nodes).filter_map(|node| node.process);
    end(&recorded.collect::<Vec<_>>());
    // What ends may start something with its last breath.
    for _ in 0..SWEEPS {
        // Only the lab's programs live in the lab's namespaces: being there is proof enough.
        let living = Host::ALL.into_iter().flat_map(netns::processes);
        let living: Vec<ProcessRef> = living.filter(|process| process.pid != std::process::id()).collect();
        if living.is_empty() {
            break;
        }
        end(&living);
    }
    netns::delete()?;
    // What they were is among the files.
    limits?;
    state::clear()
}

/// How often the namespaces are looked through for programs.
const SWEEPS: usize = 4;

/// SIGTERM to all, and SIGKILL to what does not follow.
fn end(all: &[ProcessRef]) {
    for process in all {
        process.signal(rustix::process::Signal::TERM);
        process.signal(rustix::process::Signal::CONT);
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    for process in all {
        if !process.gone_within(deadline.saturating_duration_since(Instant::now())) {
            process.signal(rustix::process::Signal::KILL);
        }
    }
    for process in all {
        process.gone_within(Duration::from_secs(3));
    }
}

/// Takes everything down because a signal has come: the lab, if this program has one, and every program that
/// it has started, wherever that is on its way. Other threads start nothing more from here on; the caller
/// ends the program.
pub fn sweep_interrupted() -> Result<()> {
    let left = interrupt::close();
    if left.holds {
        eprintln!("lab: interrupted, taking everything down");
    }
    end(&left.started);
    // Who merely waits for another's lab just goes.
    if left.holds { sweep() } else { Ok(()) }
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
    fn three_nodes_are_refused_by_name() {
        let options = LabOptions { nodes: 3, ..LabOptions::default() };
        if let Err(error @ LabError::Unsupported(_)) = Lab::up(&options) {
            assert_eq!(
                error.to_string(),
                "unsupported: a lab with 3 nodes: a pair has two, --nodes 1 is a firewall alone"
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
