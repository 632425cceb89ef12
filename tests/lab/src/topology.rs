//! The fixed plan of the lab: who is where, under which name and address.
//!
//! ```text
//!  us-client                    us-a                     us-server
//!  eth0 10.1.0.10/24   ──  lan0 │ wan0   ──   10.2.0.10/24 eth0
//!       fd00:1::10/64     .1 ::1│.1 ::1       fd00:2::10/64
//! ```
//!
//! Names and addresses are constants, not settings: captures, configurations and bug reports from different
//! machines then read alike. The firewall's addresses exist only inside `understudyd`; the kernel of `us-a`
//! has none, so that whatever is answered there was answered by the firewall.
//!
//! A lab with a pair has a switch between, a namespace of its own with a bridge for each network, so that a
//! cable can be pulled at either end and frames can be lost, doubled or late on their way:
//!
//! ```text
//!  us-client      us-switch        us-a  (node address .2)
//!  eth0 ── client│br-lan│lan-a ── lan0 │ wan0 ── wan-a│br-wan│server ── eth0   us-server
//!                │      │lan-b ── lan0 │ wan0 ── wan-b│      │
//!                                  us-b  (node address .3)
//!                  sync0-a│br-sync0│sync0-b: between sync0 of us-a (169.254.77.1) and of us-b (.2)
//!                  sync1-a│br-sync1│sync1-b: optional, IPv6 (fd77::1, fd77::2)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A place in the lab where programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// The client in the LAN.
    Client,
    /// The server in the WAN.
    Server,
    /// The first firewall node.
    A,
    /// The second firewall node of a pair.
    B,
    /// What the cables of a pair's lab go through.
    Switch,
}

/// Address family of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A veth pair: a host's `eth0` and the node's port.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The end host.
    pub host: Host,
    /// Name of the node's end inside the node's namespace; also the port's name with a `0` behind.
    pub node_interface: &'static str,
    /// MAC of the host's end.
    pub host_mac: &'static str,
    /// MAC of the node's end.
    pub node_mac: &'static str,
}

/// Interface name of an end host.
pub const HOST_INTERFACE: &str = "eth0";

/// Both links of a one-node lab, in the order of the node's ports.
pub const LINKS: [Link; 2] = [
    Link {
        host: Host::Client,
        node_interface: "lan0",
        host_mac: "02:55:53:01:00:10",
        node_mac: "02:55:53:01:00:0a",
    },
    Link {
        host: Host::Server,
        node_interface: "wan0",
        host_mac: "02:55:53:02:00:10",
        node_mac: "02:55:53:02:00:0a",
    },
];

impl Link {
    /// The DPDK device on the node's end. Its rings hold four times the driver's default: on a machine where
    /// client, server and firewall share two cores a poller is away for longer than 512 frames last.
    pub fn device(&self, index: usize) -> String {
        format!("net_af_packet{index},iface={},framecnt=2048", self.node_interface)
    }
}

impl Host {
    /// Every place a lab can have, whether or not this one has it.
    pub const ALL: [Host; 5] = [Host::Client, Host::Server, Host::A, Host::B, Host::Switch];
    /// The places of a lab with one node.
    pub const SINGLE: [Host; 3] = [Host::Client, Host::Server, Host::A];
    /// Both nodes of a pair.
    pub const NODES: [Host; 2] = [Host::A, Host::B];

    /// Name for people and for the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Host::Client => "client",
            Host::Server => "server",
            Host::A => "a",
            Host::B => "b",
            Host::Switch => "switch",
        }
    }

    /// Name of the network namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Host::Client => "us-client",
            Host::Server => "us-server",
            Host::A => "us-a",
            Host::B => "us-b",
            Host::Switch => "us-switch",
        }
    }

    /// The host of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.name() == name)
    }

    /// Own address of an end host in a family; nodes have none that a kernel knows.
    pub const fn address(self, family: Family) -> Option<IpAddr> {
        match self {
            Host::Client => Some(family.client()),
            Host::Server => Some(family.server()),
            Host::A | Host::B | Host::Switch => None,
        }
    }

    /// The firewall's address on an end host's link: its default gateway.
    pub const fn gateway(self, family: Family) -> Option<IpAddr> {
        match (self, family) {
            (Host::Client, Family::V4) => Some(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1))),
            (Host::Client, Family::V6) => Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1))),
            (Host::Server, Family::V4) => Some(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1))),
            (Host::Server, Family::V6) => Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1))),
            (Host::A | Host::B | Host::Switch, _) => None,
        }
    }
}

/// A data network of a pair's lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// Where the client is.
    Lan,
    /// Where the server is.
    Wan,
}

impl Network {
    /// Both, in the order of the nodes' ports.
    pub const BOTH: [Network; 2] = [Network::Lan, Network::Wan];

    /// Name of the port and of the zone.
    pub const fn name(self) -> &'static str {
        match self {
            Network::Lan => "lan",
            Network::Wan => "wan",
        }
    }

    /// The end host in it, and its interface's link in a lab with one node.
    pub const fn link(self) -> Link {
        match self {
            Network::Lan => LINKS[0],
            Network::Wan => LINKS[1],
        }
    }

    /// The switch's bridge for it.
    pub fn bridge(self) -> String {
        format!("br-{}", self.name())
    }

    /// The switch's port to the end host.
    pub const fn host_port(self) -> &'static str {
        self.link().host.name()
    }

    /// The switch's port to a node.
    pub fn node_port(self, node: Host) -> String {
        format!("{}-{}", self.name(), node.name())
    }

    /// MAC of a node's interface.
    pub fn node_mac(self, node: Host) -> String {
        match node {
            Host::B => self.link().node_mac.replace(":0a", ":0b"),
            _ => self.link().node_mac.into(),
        }
    }

    /// A node's own address, which it keeps whoever is active.
    pub const fn node_address(self, node: Host) -> Ipv4Addr {
        let host = if matches!(node, Host::B) { 3 } else { 2 };
        match self {
            Network::Lan => Ipv4Addr::new(10, 1, 0, host),
            Network::Wan => Ipv4Addr::new(10, 2, 0, host),
        }
    }
}

/// A dedicated link between the nodes of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SyncLink(u8);

impl SyncLink {
    /// All that a lab can have.
    pub const ALL: [SyncLink; 2] = [SyncLink(0), SyncLink(1)];
    /// The first one.
    pub const FIRST: SyncLink = SyncLink(0);
    /// The second one, which has IPv6 addresses.
    pub const SECOND: SyncLink = SyncLink(1);

    /// Its place in the configuration.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its name, and that of the nodes' interfaces.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "sync0",
            _ => "sync1",
        }
    }

    /// The switch's bridge for it.
    pub fn bridge(self) -> String {
        format!("br-{}", self.name())
    }

    /// The switch's port to a node.
    pub fn node_port(self, node: Host) -> String {
        format!("{}-{}", self.name(), node.name())
    }

    /// A node's address on it.
    pub const fn address(self, node: Host) -> IpAddr {
        let host = if matches!(node, Host::B) { 2 } else { 1 };
        match self.0 {
            0 => IpAddr::V4(Ipv4Addr::new(169, 254, 77, host)),
            _ => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16)),
        }
    }

    /// MAC of a node's interface.
    pub fn node_mac(self, node: Host) -> String {
        let last = if node == Host::B { "0b" } else { "0a" };
        format!("02:55:53:07:{:02x}:{last}", self.0)
    }

    /// The DPDK device on a node's end, behind those of the data ports.
    pub fn device(self) -> String {
        format!("net_af_packet{},iface={},framecnt=2048", LINKS.len() + self.index(), self.name())
    }

    /// The link of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|link| link.name() == name)
    }
}

/// The pair's id in the lab.
pub const PAIR_ID: u8 = 7;
/// The virtual MAC that goes with it.
pub const VIRTUAL_MAC: &str = "00:00:5e:00:01:07";

impl Host {
    /// A node's number in its pair.
    pub const fn node_id(self) -> Option<u8> {
        match self {
            Host::A => Some(0),
            Host::B => Some(1),
            _ => None,
        }
    }

    /// The other node of the pair; an end host has none and stays itself.
    #[must_use]
    pub const fn partner(self) -> Self {
        match self {
            Host::A => Host::B,
            Host::B => Host::A,
            other => other,
        }
    }
}

impl Family {
    /// Both families, in the order of every table.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The switch that ping, curl and iperf3 share.
    pub const fn switch(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }

    /// Prefix length of the lab's networks.
    pub const fn prefix_length(self) -> u8 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }

    /// The client's address.
    pub const fn client(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 1, 0, 10)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x10)),
        }
    }

    /// The server's address.
    pub const fn server(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 2, 0, 10)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x10)),
        }
    }

    /// An address of the server as it stands in a URL.
    pub fn url_host(self) -> String {
        match self.server() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_host() {
        for host in Host::ALL {
            assert_eq!(Host::from_name(host.name()), Some(host));
        }
        assert_eq!(Host::from_name("us-client"), None);
    }

    #[test]
    fn each_host_shares_a_network_with_its_gateway() {
        for host in [Host::Client, Host::Server] {
            let (Some(IpAddr::V4(own)), Some(IpAddr::V4(gateway))) =
                (host.address(Family::V4), host.gateway(Family::V4))
            else {
                panic!("{host:?} lacks IPv4");
            };
            assert_eq!(own.octets()[..3], gateway.octets()[..3]);
            let (Some(IpAddr::V6(own)), Some(IpAddr::V6(gateway))) =
                (host.address(Family::V6), host.gateway(Family::V6))
            else {
                panic!("{host:?} lacks IPv6");
            };
            assert_eq!(own.segments()[..4], gateway.segments()[..4]);
        }
        assert_eq!(Host::A.address(Family::V4), None);
    }

    #[test]
    fn a_pair_has_addresses_and_names_of_its_own() {
        assert_eq!(Network::Lan.node_port(Host::B), "lan-b");
        assert_eq!(Network::Wan.node_address(Host::B).to_string(), "10.2.0.3");
        assert_ne!(Network::Lan.node_mac(Host::A), Network::Lan.node_mac(Host::B));
        for link in SyncLink::ALL {
            assert_eq!(SyncLink::from_name(link.name()), Some(link));
            assert_ne!(link.address(Host::A), link.address(Host::B));
            assert_ne!(link.node_mac(Host::A), link.node_mac(Host::B));
        }
        assert_eq!(SyncLink::SECOND.device(), "net_af_packet3,iface=sync1,framecnt=2048");
        assert_eq!((Host::A.partner(), Host::A.node_id()), (Host::B, Some(0)));
    }
}
