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
    pub const ALL: [Host; 4] = [Host::Client, Host::Server, Host::A, Host::B];
    /// The places of a lab with one node.
    pub const SINGLE: [Host; 3] = [Host::Client, Host::Server, Host::A];

    /// Name for people and for the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Host::Client => "client",
            Host::Server => "server",
            Host::A => "a",
            Host::B => "b",
        }
    }

    /// Name of the network namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Host::Client => "us-client",
            Host::Server => "us-server",
            Host::A => "us-a",
            Host::B => "us-b",
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
            Host::A | Host::B => None,
        }
    }

    /// The firewall's address on an end host's link: its default gateway.
    pub const fn gateway(self, family: Family) -> Option<IpAddr> {
        match (self, family) {
            (Host::Client, Family::V4) => Some(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1))),
            (Host::Client, Family::V6) => Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1))),
            (Host::Server, Family::V4) => Some(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1))),
            (Host::Server, Family::V6) => Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1))),
            (Host::A | Host::B, _) => None,
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
}
