//! Namespaces and veths: made whole, or not at all.
//!
//! The hosts' ends have every transmit offload off, because the other end is a packet socket that takes
//! frames as they are: a partial checksum or a 64 KiB super-segment would reach the firewall as such. The
//! node's ends have no address, no IPv6 and no ARP: the kernel there must never answer for the firewall.

use std::{
    fs,
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    error::{LabError, Result},
    exec::{SHORT, check, check_with_input, run},
    process::ProcessRef,
    topology::{Family, HOST_INTERFACE, Host, LINKS, Link, Network, SyncLink},
};

/// Whether a namespace is there.
pub fn exists(host: Host) -> bool {
    path(host).exists()
}

/// Processes that live in a namespace.
pub fn processes(host: Host) -> Vec<ProcessRef> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let (Some(wanted), Ok(all)) = (identity(&path(host)), fs::read_dir("/proc")) else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| identity(Path::new(&format!("/proc/{pid}/ns/net"))) == Some(wanted))
        .filter_map(ProcessRef::of)
        .collect()
}

/// Makes the namespaces of a one-node lab, with links, addresses and routes.
pub fn create() -> Result<()> {
    Host::SINGLE.into_iter().try_for_each(create_namespace)?;
    for link in LINKS {
        add_veth(
            (Host::A, link.node_interface, link.node_mac),
            (link.host, HOST_INTERFACE, Some(link.host_mac)),
        )?;
        node_side_up(Host::A, link.node_interface)?;
        host_side_up(link)?;
    }
    Ok(())
}

/// Makes the namespaces of a pair's lab: the same networks with a switch in each, and the sync links.
pub fn create_pair(sync_links: &[SyncLink]) -> Result<()> {
    Host::ALL.into_iter().try_for_each(create_namespace)?;
    let switch = Host::Switch;
    let bridges = Network::BOTH.map(Network::bridge);
    for bridge in bridges.into_iter().chain(sync_links.iter().map(|link| link.bridge())) {
        // A plain cable: no spanning tree, no waiting, no opinion on who wants which multicast.
        let options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        batch(switch, &format!("link add {bridge} {options}\nlink set {bridge} up\n"))?;
    }
    for network in Network::BOTH {
        let link = network.link();
        add_veth((link.host, HOST_INTERFACE, link.host_mac), (switch, network.host_port(), None))?;
        switch_side_up(network.host_port(), &network.bridge())?;
        host_side_up(link)?;
        for node in Host::NODES {
            let (interface, port) = (link.node_interface, network.node_port(node));
            add_veth((node, interface, &network.node_mac(node)), (switch, &port, None))?;
            switch_side_up(&port, &network.bridge())?;
            node_side_up(node, interface)?;
        }
    }
    for link in sync_links {
        for node in Host::NODES {
            let port = link.node_port(node);
            add_veth((node, link.name(), &link.node_mac(node)), (switch, &port, None))?;
            switch_side_up(&port, &link.bridge())?;
            node_side_up(node, link.name())?;
        }
    }
    Ok(())
}

fn create_namespace(host: Host) -> Result<()> {
    check(Command::new("ip").args(["netns", "add", host.namespace()]), SHORT)?;
    // Before any interface exists, so that none ever has a moment with the kernel's defaults.
    let settings = match host {
        Host::Client | Host::Server => HOST_SYSCTLS,
        Host::A | Host::B | Host::Switch => NODE_SYSCTLS,
    };
    within(host, || settings.iter().try_for_each(|(key, value)| write_sysctl(key, value)))??;
    batch(host, "link set lo up\n")
}

/// Removes every namespace of the lab; veths go with them.
pub fn delete() -> Result<()> {
    let mut outcome = Ok(());
    for host in Host::ALL.into_iter().filter(|host| exists(*host)) {
        let deleted = check(Command::new("ip").args(["netns", "delete", host.namespace()]), SHORT);
        // Somebody else may have been first; and whatever is wrong with one, the others go.
        if let Err(error) = deleted
            && exists(host)
        {
            outcome = Err(error);
        }
    }
    outcome
}

/// Runs a closure with the network of a host. It gets a thread of its own, so the caller's network stays;
/// sockets opened inside keep their namespace for life.
pub fn within<T: Send>(host: Host, action: impl FnOnce() -> T + Send) -> Result<T> {
    let file =
        File::open(path(host)).map_err(LabError::io(format!("open namespace {}", host.namespace())))?;
    thread::scope(|scope| {
        let runner = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(LabError::errno(format!("enter namespace {}", host.namespace())))?;
            Ok(action())
        });
        match runner.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Frames that the kernel counted on one of the lab's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Frames that came in.
    pub rx_packets: u64,
    /// Frames that went out.
    pub tx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
}

/// The kernel's counters of an interface.
pub fn counters(host: Host, interface: &str) -> Result<InterfaceCounters> {
    let table = within(host, || fs::read_to_string("/proc/thread-self/net/dev"))?
        .map_err(LabError::io("read interface counters"))?;
    parse_counters(&table, interface)
        .ok_or_else(|| LabError::output(format!("counters of {interface} in {}", host.namespace()), &table))
}

fn parse_counters(table: &str, interface: &str) -> Option<InterfaceCounters> {
    let line = table.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == interface).then_some(rest)
    })?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    Some(InterfaceCounters {
        rx_packets: *fields.get(1)?,
        tx_packets: *fields.get(9)?,
        rx_bytes: *fields.first()?,
        tx_bytes: *fields.get(8)?,
    })
}

const NODE_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/ip_forward", "0"),
];

/// No duplicate address detection (it costs two seconds), no router solicitations (nobody answers them).
const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

fn write_sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    match fs::write(&path, value) {
        // A kernel built without a feature need not have it switched off.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(LabError::io(format!("write {path}"))),
    }
}

/// A cable between two places. Where no MAC is given the kernel draws one.
fn add_veth(one: (Host, &str, &str), other: (Host, &str, Option<&str>)) -> Result<()> {
    let other_mac = other.2.map_or_else(String::new, |mac| format!(" address {mac}"));
    let line = format!(
        "link add {} netns {} address {} mtu 1500 type veth peer name {} netns {}{other_mac} mtu 1500\n",
        one.1,
        one.0.namespace(),
        one.2,
        other.1,
        other.0.namespace(),
    );
    check_with_input(Command::new("ip").args(["-batch", "-"]), &line, SHORT).map(drop)
}

fn node_side_up(node: Host, interface: &str) -> Result<()> {
    batch(node, &format!("link set {interface} arp off\nlink set {interface} up\n"))?;
    offloads_off(node, interface)
}

fn switch_side_up(port: &str, bridge: &str) -> Result<()> {
    // Its offloads may stay: nothing but whole frames comes in at the other ends.
    batch(Host::Switch, &format!("link set {port} master {bridge}\nlink set {port} up\n"))
}

fn host_side_up(link: Link) -> Result<()> {
    let mut lines = format!("link set {HOST_INTERFACE} up\n");
    for family in Family::BOTH {
        if let (Some(own), Some(gateway)) = (link.host.address(family), link.host.gateway(family)) {
            let nodad = if family == Family::V6 { " nodad" } else { "" };
            lines += &format!("address add {own}/{} dev {HOST_INTERFACE}{nodad}\n", family.prefix_length());
            lines += &format!("route add default via {gateway} dev {HOST_INTERFACE}\n");
        }
    }
    batch(link.host, &lines)?;
    offloads_off(link.host, HOST_INTERFACE)
}

/// Takes a node's cables out of the switches, all at once, or puts them back: what its machine's death looks
/// like from outside. No link goes down, since where anything on this machine masquerades, the kernel answers
/// that by going through the sessions of all namespaces, in the middle of what is measured.
pub(crate) fn plug(node: Host, plugged: bool) -> Result<()> {
    let data = Network::BOTH.map(|network| (network.node_port(node), network.bridge()));
    let all = data.into_iter().chain([(SyncLink::FIRST.node_port(node), SyncLink::FIRST.bridge())]);
    let lines = all.map(|(port, bridge)| match plugged {
        true => format!("link set {port} master {bridge}\n"),
        false => format!("link set {port} nomaster\n"),
    });
    batch(Host::Switch, &lines.collect::<String>())
}

/// Has the kernel of a node carry frames from data port to data port, with nothing in between.
pub(crate) fn bridge(node: Host) -> Result<()> {
    let ports = LINKS.map(|link| format!("link set {} master br0\n", link.node_interface)).concat();
    batch(node, &format!("link add br0 type bridge\nlink set br0 up\n{ports}"))
}

/// Lines for `ip -batch` in a host's namespace.
pub(crate) fn batch(host: Host, lines: &str) -> Result<()> {
    check_with_input(Command::new("ip").args(["-n", host.namespace(), "-batch", "-"]), lines, SHORT).map(drop)
}

fn offloads_off(host: Host, interface: &str) -> Result<()> {
    let mut command = crate::exec::on(host, "ethtool");
    command.args(["-K", interface]);
    for feature in ["tx", "sg", "tso", "gso", "gro"] {
        command.args([feature, "off"]);
    }
    check(&mut command, SHORT)?;
    // Not every kernel has these on a veth; where they are missing there is nothing to switch off.
    for feature in ["txvlan", "rxvlan", "tx-udp-segmentation", "rx-gro-list"] {
        run(crate::exec::on(host, "ethtool").args(["-K", interface, feature, "off"]), SHORT)?;
    }
    Ok(())
}

fn path(host: Host) -> PathBuf {
    Path::new("/run/netns").join(host.namespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_right_columns() {
        let table = "Inter-|   Receive                |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    lo:       0       1    0    0    0     0          0         0        0       2    0    0    0     0       0          0\n  lan0: 999999     3    0    0    0     0          0         0      222       4    0    0    0     0       0          0\n";
        let counted = |rx_packets, tx_packets, rx_bytes, tx_bytes| {
            Some(InterfaceCounters { rx_packets, tx_packets, rx_bytes, tx_bytes })
        };
        assert_eq!(parse_counters(table, "lan0"), counted(3, 4, 999_999, 222));
        assert_eq!(parse_counters(table, "lo"), counted(1, 2, 0, 0));
        assert_eq!(parse_counters(table, "wan0"), None);
    }
}
