//! Faults: cables that are pulled, links that lose frames, and (through [`Lab`](crate::Lab)) processes that
//! are killed, stopped and started again.
//!
//! A cable is cut at the switch, so the node sees what it sees when a cable is pulled: no carrier. Cutting a
//! sync link takes the carrier from both nodes, as with a direct cable. Everything here lives in the
//! namespaces or in processes inside them, so it goes with the lab, however that ends.
//!
//! [`partition`] is the cut of *everything between the nodes* (fault P of the feature list): the sync links
//! lose their carrier, and the switches no longer pass frames between the two nodes' ports. The hosts still
//! reach both. That is the partition that decisions 34 and 35 are about: both nodes see good links and
//! traffic, and neither hears the other. (A node that is cut off from everything is a different case, `cut
//! lan-a` with `cut wan-a`: it knows it.)

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use serde::{Deserialize, Serialize};

use crate::{
    error::{LabError, Result},
    exec::{self, Running},
    forwarder::{Direction, Impairment},
    frames::FramePort,
    netns,
    node::{Node, find_program},
    process::ProcessRef,
    state::{LabState, RUN_DIR},
    topology::{Host, Network, SyncLink, VIRTUAL_MAC},
};

/// A cable of a pair's lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cable {
    /// Between the nodes.
    Sync(SyncLink),
    /// Between a node and a network's switch.
    Data(Network, Host),
}

impl Cable {
    /// The cable of that name: `sync0`, `lan-a`.
    pub fn from_name(name: &str) -> Option<Self> {
        let data = Network::BOTH.into_iter().flat_map(|network| Host::NODES.map(|node| (network, node)));
        SyncLink::from_name(name).map(Cable::Sync).or_else(|| {
            data.into_iter()
                .find(|(network, node)| network.node_port(*node) == name)
                .map(|(network, node)| Cable::Data(network, node))
        })
    }

    /// The switch's ports at its ends.
    fn ports(self) -> Vec<String> {
        match self {
            Cable::Sync(link) => Host::NODES.map(|node| link.node_port(node)).into(),
            Cable::Data(network, node) => vec![network.node_port(node)],
        }
    }
}

/// What happens to a node's daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: hung, not dead.
    Stop,
    /// SIGCONT.
    Cont,
    /// SIGKILL and a start right behind it; only the start where it does not run.
    Restart,
}

/// Does something to a node of the lab that `lab up` has put up. Tests have [`Lab`](crate::Lab) for it.
pub fn hit(node: Host, fault: ProcessFault) -> Result<()> {
    let state = LabState::load().filter(|state| state.detached);
    let mut state =
        state.ok_or_else(|| LabError::Busy("there is no lab: `lab up --nodes 2` first".into()))?;
    let entry = state.nodes.iter_mut().find(|entry| entry.name == node.name());
    let entry =
        entry.ok_or_else(|| LabError::Unsupported(format!("this lab has no node {}", node.name())))?;
    let process = entry.process.filter(|process| process.alive());
    let signal = |signal| match process {
        Some(process) if process.signal(signal) => Ok(process),
        _ => Err(LabError::Busy(format!("node {} does not run", node.name()))),
    };
    match fault {
        ProcessFault::Kill => drop(signal(Signal::KILL)?.gone_within(Duration::from_secs(5))),
        ProcessFault::Stop => drop(signal(Signal::STOP)?),
        ProcessFault::Cont => drop(signal(Signal::CONT)?),
        ProcessFault::Restart => {
            if let Some(process) = process {
                process.signal(Signal::KILL);
                process.gone_within(Duration::from_secs(5));
            }
            let mut fresh = Node::attach(node);
            fresh.start()?;
            *entry = fresh.leave_running();
        }
    }
    state.store()
}

/// Sync links that this lab has.
pub fn sync_links() -> Result<Vec<SyncLink>> {
    let there = netns::within(Host::Switch, || {
        let names = nix::ifaddrs::getifaddrs().map(|all| all.map(|one| one.interface_name).collect());
        names.unwrap_or_else(|_| Vec::<String>::new())
    })?;
    Ok(SyncLink::ALL.into_iter().filter(|link| there.contains(&link.bridge())).collect())
}

/// Pulls a cable.
pub fn cut(cable: Cable) -> Result<()> {
    set(cable, "down")
}

/// Plugs a cable in again.
pub fn mend(cable: Cable) -> Result<()> {
    set(cable, "up")
}

fn set(cable: Cable, state: &str) -> Result<()> {
    let lines: String = cable.ports().iter().map(|port| format!("link set {port} {state}\n")).collect();
    netns::batch(Host::Switch, &lines)
}

/// Cuts everything between the nodes, and nothing between them and the hosts.
pub fn partition() -> Result<()> {
    for link in sync_links()? {
        cut(Cable::Sync(link))?;
    }
    keep_apart(true)
}

/// Mends everything: cables, switches, impaired links.
pub fn mend_all() -> Result<()> {
    keep_apart(false)?;
    for link in sync_links()? {
        impair(link, Impairment::default())?;
        mend(Cable::Sync(link))?;
    }
    for network in Network::BOTH {
        for node in Host::NODES {
            mend(Cable::Data(network, node))?;
        }
    }
    Ok(())
}

/// Whether the switches pass nothing between the nodes' ports; the sync links stay as they are.
pub fn keep_apart(apart: bool) -> Result<()> {
    let word = if apart { "on" } else { "off" };
    let ports = Network::BOTH.into_iter().flat_map(|network| Host::NODES.map(|node| network.node_port(node)));
    let lines: String =
        ports.map(|port| format!("link set {port} type bridge_slave isolated {word}\n")).collect();
    netns::batch(Host::Switch, &lines)
}

/// Holds the hosts at a node: the switches send the virtual MAC's frames there, whoever announces it. In a
/// split this says on which side the hosts are.
pub fn hold_hosts(node: Host) -> Result<()> {
    lead_hosts(node, &["static", "sticky"])
}

/// Lets announcements move the hosts again. Until one does, they are where this says.
pub fn leave_hosts(node: Host) -> Result<()> {
    lead_hosts(node, &["dynamic"])
}

fn lead_hosts(node: Host, kind: &[&str]) -> Result<()> {
    for network in Network::BOTH {
        let mut command = Command::new("bridge");
        command.args(["-n", Host::Switch.namespace(), "fdb", "replace", VIRTUAL_MAC]);
        command.args(["dev", &network.node_port(node), "master"]).args(kind);
        exec::check(&mut command, exec::SHORT)?;
    }
    Ok(())
}

/// Sets the MTU of a node's end of a sync link: what is larger it neither sends nor takes.
pub fn set_mtu(link: SyncLink, node: Host, bytes: u16) -> Result<()> {
    netns::batch(node, &format!("link set {} mtu {bytes}\n", link.name()))
}

/// An impaired link, as it is kept on disk: `lab fault` adds to what an earlier call has set.
#[derive(Debug, Serialize, Deserialize)]
struct Impaired {
    impairment: Impairment,
    forwarder: ProcessRef,
}

fn record(link: SyncLink) -> PathBuf {
    PathBuf::from(RUN_DIR).join(format!("impaired-{}.json", link.name()))
}

fn recorded(link: SyncLink) -> Option<Impaired> {
    let text = fs::read_to_string(record(link)).ok()?;
    serde_json::from_str::<Impaired>(&text).ok().filter(|impaired| impaired.forwarder.alive())
}

/// What is done to a link's frames now.
pub fn impairment(link: SyncLink) -> Impairment {
    recorded(link).map(|impaired| impaired.impairment).unwrap_or_default()
}

/// Sets what is done to a link's frames; the default is a good cable again.
pub fn impair(link: SyncLink, impairment: Impairment) -> Result<()> {
    let before = recorded(link);
    if let Some(before) = &before {
        before.forwarder.terminate(Duration::from_secs(2));
        let _ = fs::remove_file(record(link));
    }
    let ports = Host::NODES.map(|node| link.node_port(node));
    if impairment.is_none() {
        if before.is_some() {
            let bridge = link.bridge();
            netns::batch(
                Host::Switch,
                &ports.map(|port| format!("link set {port} master {bridge}\n")).concat(),
            )?;
        }
        return Ok(());
    }
    let mut command = exec::on(Host::Switch, find_program("lab", "LAB")?);
    command.args(["forwarder", link.name()]);
    command.args(["--loss", &impairment.loss.to_string()]);
    command.args(["--duplication", &impairment.duplication.to_string()]);
    command.args(["--reordering", &impairment.reordering.to_string()]);
    command.args(["--delay-ms", &impairment.delay_ms.to_string()]);
    command.args(["--direction", direction_name(impairment.direction)]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if before.is_none() {
        netns::batch(Host::Switch, &ports.map(|port| format!("link set {port} nomaster\n")).concat())?;
    }
    // Neither an interrupt at the terminal nor this program's end is for it.
    command.process_group(0);
    // Its life is the lab's, not this value's: the switch's namespace is swept with the lab.
    let forwarder = Running::start(&mut command)?.leave_running();
    let forwarder = forwarder.ok_or_else(|| LabError::Config("the forwarder ended at once".into()))?;
    let text = serde_json::to_string(&Impaired { impairment, forwarder })
        .map_err(|error| LabError::Config(error.to_string()))?;
    fs::write(record(link), text).map_err(LabError::io("write what a link suffers"))
}

/// A direction's name on the command line.
pub const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "both",
        Direction::FromA => "from-a",
        Direction::FromB => "from-b",
    }
}

/// A port of a sync link at the switch: sees what both nodes send, and sends to that node as if it were its
/// partner.
pub fn sync_port(link: SyncLink, node: Host) -> Result<FramePort> {
    FramePort::open(Host::Switch, &link.node_port(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cables_have_the_names_of_the_manual() {
        assert_eq!(Cable::from_name("sync1"), Some(Cable::Sync(SyncLink::SECOND)));
        assert_eq!(Cable::from_name("wan-b"), Some(Cable::Data(Network::Wan, Host::B)));
        assert_eq!(Cable::from_name("lan-c"), None);
        assert_eq!(Cable::Sync(SyncLink::FIRST).ports(), ["sync0-a", "sync0-b"]);
    }
}
