//! The configuration as types: what [`super::Config`] holds. Every value here has been checked.

use engine::{PortId, ZoneId};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// `[node]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What the node is called.
    pub name: String,
    /// Where `ha-ctl` finds the daemon.
    pub control_socket: PathBuf,
}

/// `[log]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Log {
    /// What is written.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happened.
    Info,
    /// And how.
    Debug,
}

impl LogLevel {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[eal]`: DPDK's environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Eal {
    /// Memory for packet buffers and drivers.
    pub memory_mb: u32,
    /// Whether it lies in huge pages.
    pub huge_pages: HugePages,
    /// Packet buffers.
    pub mbufs: u32,
    /// Further EAL arguments, passed as they are; none holds a NUL byte.
    pub args: Vec<String>,
}

/// Whether huge pages are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    /// If there are any; a warning if not.
    Auto,
    /// Or the daemon does not start.
    Require,
    /// Ordinary pages.
    Never,
}

/// `[workers]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workers {
    /// How many, 1..=16.
    pub count: u8,
    /// What an idle one does.
    pub polling: Polling,
    /// The CPU of each; empty where the scheduler decides.
    pub cpus: Vec<u16>,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polling {
    /// Spins a little, then sleeps in growing steps.
    Adaptive,
    /// Spins: for isolated CPUs.
    Busy,
}

impl Polling {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Polling::Adaptive => "adaptive",
            Polling::Busy => "busy",
        }
    }
}

/// `[sessions]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sessions {
    /// Room for sessions, over all workers.
    pub capacity: u32,
    /// Of them, the most that may be half-open.
    pub half_open_max: u32,
}

/// `[[port]]`: a data port. Its [`PortId`] is its place in the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its name, unique.
    pub name: String,
    /// What DPDK opens for it.
    pub device: Device,
    /// The zone that it belongs to.
    pub zone: ZoneId,
    /// The firewall's own addresses on it, host bits and prefix length.
    pub addresses: Vec<IpNet>,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// What each node of a pair has of its own there; the port carries heartbeats then.
    pub pair: Option<PairAddresses>,
}

/// The two nodes' own addresses in a network that they share. `addresses` of the port belong to the active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairAddresses {
    /// This node's.
    pub own: IpAddr,
    /// The partner's, of the same family and in the same network.
    pub partner: IpAddr,
}

/// What DPDK opens for a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Device {
    /// A PCI address, in full and in small letters: `0000:03:00.0`.
    Pci(String),
    /// A virtual device, as for EAL's `--vdev`: `net_af_packet0,iface=lan0`.
    Vdev(String),
}

impl Device {
    /// The name under which EAL knows it: a virtual device's without its arguments.
    pub fn name(&self) -> &str {
        match self {
            Device::Pci(address) => address,
            Device::Vdev(text) => text.split_once(',').map_or(text, |(name, _)| name),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Pci(text) | Device::Vdev(text) => f.write_str(text),
        }
    }
}

/// `[[route]]`: a static route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticRoute {
    /// The destination prefix, host bits zero.
    pub to: IpNet,
    /// The gateway, on the link of `port`.
    pub via: IpAddr,
    /// The port whose network holds the gateway.
    pub port: PortId,
}
