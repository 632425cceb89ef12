//! What is up right now, looked up anew: the state file says what was meant, `/proc` and `/run/netns` say
//! what is.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    netns,
    state::LabState,
    topology::{Family, HOST_INTERFACE, Host, LINKS},
};

/// The lab as it is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Every namespace is there and every daemon runs.
    pub up: bool,
    /// It was put up by `lab up`.
    pub detached: bool,
    /// Namespaces that are there.
    pub namespaces: Vec<NamespaceStatus>,
    /// The end hosts.
    pub hosts: Vec<HostStatus>,
    /// The firewall's nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A namespace.
#[derive(Debug, Serialize)]
pub struct NamespaceStatus {
    /// Its name.
    pub name: &'static str,
    /// The word for it in `lab exec`.
    pub host: &'static str,
    /// Processes inside.
    pub pids: Vec<u32>,
}

/// An end host.
#[derive(Debug, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Its interface.
    pub interface: &'static str,
    /// The interface's MAC.
    pub mac: &'static str,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The firewall's addresses on its link.
    pub gateways: Vec<String>,
}

/// A firewall node.
#[derive(Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The daemon's process id, while it runs.
    pub pid: Option<u32>,
    /// Its control socket.
    pub control_socket: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

impl Status {
    /// Looks around.
    pub fn read() -> Self {
        let state = LabState::load();
        let namespaces: Vec<_> =
            Host::ALL.into_iter().filter(|host| netns::exists(*host)).map(namespace).collect();
        let hosts = LINKS
            .iter()
            .filter(|link| netns::exists(link.host))
            .map(|link| HostStatus {
                name: link.host.name(),
                namespace: link.host.namespace(),
                interface: HOST_INTERFACE,
                mac: link.host_mac,
                addresses: Family::BOTH
                    .into_iter()
                    .filter_map(|family| {
                        Some(format!("{}/{}", link.host.address(family)?, family.prefix_length()))
                    })
                    .collect(),
                gateways: Family::BOTH
                    .into_iter()
                    .filter_map(|family| link.host.gateway(family).map(|address| address.to_string()))
                    .collect(),
            })
            .collect();
        let detached = state.as_ref().is_some_and(|state| state.detached);
        let nodes: Vec<_> = state
            .into_iter()
            .flat_map(|state| state.nodes)
            .map(|node| NodeStatus {
                name: node.name,
                namespace: node.namespace,
                pid: node.process.filter(|process| process.alive()).map(|process| process.pid),
                control_socket: node.control_socket,
                config: node.config,
                log: node.log,
            })
            .collect();
        let up = Host::SINGLE.into_iter().all(netns::exists)
            && (nodes.len() < 2 || Host::ALL.into_iter().all(netns::exists))
            && !nodes.is_empty()
            && nodes.iter().all(|node| node.pid.is_some());
        Self { up, detached, namespaces, hosts, nodes }
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = format!("lab: {}\n", if self.up { "up" } else { "not up" });
        for namespace in &self.namespaces {
            let pids: Vec<String> = namespace.pids.iter().map(u32::to_string).collect();
            text +=
                &format!("namespace {} ({}): pids [{}]\n", namespace.name, namespace.host, pids.join(" "));
        }
        for host in &self.hosts {
            text += &format!(
                "host {}: {} {} {}, gateways {}\n",
                host.name,
                host.interface,
                host.mac,
                host.addresses.join(" "),
                host.gateways.join(" ")
            );
        }
        for node in &self.nodes {
            let pid = node.pid.map_or_else(|| "not running".into(), |pid| format!("pid {pid}"));
            text += &format!(
                "node {}: {pid}\n  control socket {}\n  configuration  {}\n  log            {}\n",
                node.name,
                node.control_socket.display(),
                node.config.display(),
                node.log.display()
            );
        }
        text.trim_end().to_owned()
    }
}

fn namespace(host: Host) -> NamespaceStatus {
    NamespaceStatus {
        name: host.namespace(),
        host: host.name(),
        pids: netns::processes(host).into_iter().map(|process| process.pid).collect(),
    }
}
