//! What the answers hold. Field names are the wire's; see the crate's notes on units.

use crate::PairStatus;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The node as a whole (`status`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's configured name.
    pub node: String,
    /// The daemon's release.
    pub version: String,
    /// What it does in the pair; a single node is active.
    pub role: Role,
    /// Since the start of the process.
    pub uptime_ms: u64,
    /// The rules in force.
    pub policy: Policy,
    /// What the session table lies in.
    pub memory: Memory,
    /// The DPDK environment.
    pub eal: Eal,
    /// What an operator should know and may want to change, one sentence each.
    pub warnings: Vec<String>,
    /// The packet workers.
    pub workers: Vec<Worker>,
    /// The data ports.
    pub ports: Vec<Port>,
    /// How full the session table is.
    pub sessions: SessionUsage,
    /// How many packet buffers are in use.
    pub mbufs: MbufUsage,
    /// The pair; absent on a node that stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairStatus>,
}

/// A node's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Started, not yet anything else.
    Init,
    /// A standby that does not have all sessions yet.
    Syncing,
    /// Ready to take over.
    Standby,
    /// Forwards.
    Active,
    /// Cut off, and knows it.
    Isolated,
    /// Unfit.
    Fault,
    /// Restarted as the former active node; gets its sessions back first.
    Recovering,
    /// A role that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Init => "init",
            Role::Syncing => "syncing",
            Role::Standby => "standby",
            Role::Active => "active",
            Role::Isolated => "isolated",
            Role::Fault => "fault",
            Role::Recovering => "recovering",
            Role::Unknown => "unknown",
        })
    }
}

/// The rules in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Grows by one with each policy that takes effect.
    pub epoch: u64,
    /// Rules in it, the default deny not counted.
    pub rules: u32,
    /// The last attempt to load a configuration (start or SIGHUP).
    pub last_reload: Option<Reload>,
}

/// An attempt to load a configuration. A failed one leaves the last good policy in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reload {
    /// When: milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// True if it took effect.
    pub ok: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the session table lies in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The page size in use: 4096 where there are no huge pages.
    pub page_bytes: u64,
    /// What is mapped for sessions, over all workers.
    pub table_bytes: u64,
}

/// The DPDK environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Eal {
    /// True if packet buffers lie in huge pages.
    pub huge_pages: bool,
}

/// A packet worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// Its number, from 0.
    pub id: u32,
    /// The CPU that it is pinned to; absent if the scheduler may move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// `busy` or `adaptive`.
    pub polling: String,
    /// The share of the last second that it spent on packets.
    pub busy_permille: u32,
    /// Bursts that held at least one packet.
    pub bursts: u64,
    /// Packets received.
    pub packets: u64,
    /// Sessions in its shard now.
    pub sessions: u64,
}

/// A data port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// Its configured name.
    pub name: String,
    /// The device: a PCI address or a vdev string.
    pub device: String,
    /// Its zone.
    pub zone: String,
    /// Its link-layer address, as `02:00:5e:10:00:01`.
    pub mac: String,
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// True if the link is up.
    pub link: bool,
    /// Its addresses, each with its prefix length.
    pub addresses: Vec<String>,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets transmitted.
    pub tx_packets: u64,
    /// Bytes transmitted.
    pub tx_bytes: u64,
    /// Packets that the device lost because nobody fetched them in time.
    pub rx_missed: u64,
    /// Packets that the device did not take for transmission.
    pub tx_dropped: u64,
}

/// How full the session table is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionUsage {
    /// Sessions now.
    pub in_use: u64,
    /// Room, over all workers.
    pub capacity: u64,
    /// Of `in_use`, those whose beginning is not complete.
    pub half_open: u64,
    /// Of `in_use`, TCP.
    pub tcp: u64,
    /// Of `in_use`, UDP.
    pub udp: u64,
    /// Of `in_use`, ICMP and ICMPv6 echo.
    pub icmp: u64,
    /// Of `in_use`, other IP protocols.
    pub other: u64,
    /// Of `in_use`, TCP whose checks are relaxed since a takeover.
    #[serde(default)]
    pub relaxed: u64,
    /// Ever created.
    pub created_total: u64,
    /// Ended by their timeout.
    pub expired_total: u64,
    /// Refused because the table was full.
    pub refused_full_total: u64,
}

/// Packet buffers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MbufUsage {
    /// Taken from the pool now, those waiting in receive rings included.
    pub in_use: u64,
    /// In the pool altogether.
    pub total: u64,
}

/// Sessions, one row each (`sessions`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sessions {
    /// True if more sessions match than the rows show.
    pub truncated: bool,
    /// The sessions, in no particular order.
    pub rows: Vec<SessionRow>,
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    /// The worker whose shard holds it.
    pub worker: u32,
    /// Its place in the shard; with `worker` it names the session while it lives.
    pub slot: u32,
    /// IP protocol.
    pub proto: Protocol,
    /// Address family.
    pub family: Family,
    /// The side that opened it.
    pub from: Endpoint,
    /// The side that it was opened to.
    pub to: Endpoint,
    /// The zone of `from`.
    pub from_zone: String,
    /// The zone of `to`.
    pub to_zone: String,
    /// The rule that admitted it.
    pub rule: String,
    /// Its state by name: for TCP after RFC 9293 (`established`, …), else `new` or `replied`.
    pub state: String,
    /// Since its last packet.
    pub idle_ms: u64,
    /// Until it ends if no packet comes.
    pub expires_ms: u64,
    /// Packets.
    pub packets: PerDirection,
    /// Bytes of IP packets.
    pub bytes: PerDirection,
    /// Its replication version.
    pub version: u64,
    /// Its traffic group.
    pub group: u32,
    /// True if the partner has it.
    pub replicated: bool,
    /// The same with the reason: `yes`, `from-sync` (it came from the partner), `no(no partner)`, `no(rule)`, …
    pub sync: String,
}

/// One side of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port; for ICMP echo the identifier; 0 for protocols without ports.
    pub port: u16,
}

/// A count for each direction of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PerDirection {
    /// From the side that opened it.
    pub fwd: u64,
    /// Towards that side.
    pub rev: u64,
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Totals by protocol and state (`sessions` with `count`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionCounts {
    /// All that match.
    pub total: u64,
    /// The same by protocol and state; zeros left out.
    pub by_state: Vec<SessionCount>,
}

/// How many sessions of a protocol are in a state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionCount {
    /// IP protocol.
    pub proto: Protocol,
    /// State, as in [`SessionRow::state`].
    pub state: String,
    /// How many.
    pub sessions: u64,
}

/// Every counter by name, zeros included (`counters`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// Why packets were not forwarded.
    pub drops: Vec<DropCounter>,
    /// Everything else that is counted.
    pub other: Vec<Counter>,
}

/// A reason for which packets were not forwarded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropCounter {
    /// The reason's stable name.
    pub name: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// Packets.
    pub packets: u64,
}

/// Something else that is counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// Its stable name.
    pub name: String,
    /// What it counts, in a sentence.
    pub meaning: String,
    /// How often.
    pub value: u64,
}

/// The rules in their order, the default deny last (`rules`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// The policy epoch that they belong to.
    pub epoch: u64,
    /// The rules; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// A rule with what it did. In the lists, empty means any.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, unique.
    pub name: String,
    /// The number that stands for the name in records; the same on both nodes.
    pub id: u32,
    /// Zones that packets come from.
    pub from: Vec<String>,
    /// Zones that packets go to.
    pub to: Vec<String>,
    /// Source prefixes.
    pub source: Vec<String>,
    /// Destination prefixes.
    pub destination: Vec<String>,
    /// Services, as in the configuration.
    pub services: Vec<String>,
    /// `allow`, `drop` or `reject`.
    pub action: String,
    /// True if its decisions are logged.
    pub log: bool,
    /// True if its sessions are replicated.
    pub transparent_failover: bool,
    /// The age from which they are.
    pub sync_after_s: u32,
    /// Sessions that it admitted.
    pub sessions_created: u64,
    /// Packets that it dropped or rejected.
    pub packets_denied: u64,
    /// Since it last decided; absent if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hit_ms: Option<u64>,
}

/// Link-layer neighbours (`neighbours`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Neighbours {
    /// The neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// A link-layer neighbour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// The port that it is reached through, by name.
    pub port: String,
    /// Its link-layer address; absent until it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `incomplete`, `reachable` or `failed`.
    pub state: String,
    /// Since it was last confirmed; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// The routing table (`routes`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Routes {
    /// The routes; the longest prefix that matches decides.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The destination prefix.
    pub to: String,
    /// The gateway; absent if the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The port, by name.
    pub port: String,
    /// Where it comes from.
    pub source: RouteSource,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteSource {
    /// A port's address.
    Connected,
    /// The configuration.
    Static,
    /// One that this client does not know: its daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteSource::Connected => "connected",
            RouteSource::Static => "static",
            RouteSource::Unknown => "unknown",
        })
    }
}

/// An IP protocol. On the wire a string: a name where there is a usual one, else the number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Protocol = Protocol(1);
    /// TCP.
    pub const TCP: Protocol = Protocol(6);
    /// UDP.
    pub const UDP: Protocol = Protocol(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Protocol = Protocol(58);

    const NAMES: [(u8, &str); 9] = [
        (1, "icmp"),
        (6, "tcp"),
        (17, "udp"),
        (47, "gre"),
        (50, "esp"),
        (51, "ah"),
        (58, "icmpv6"),
        (89, "ospf"),
        (132, "sctp"),
    ];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((number, _)) = Self::NAMES.iter().find(|(_, name)| text.eq_ignore_ascii_case(name)) {
            return Ok(Protocol(*number));
        }
        let names: Vec<&str> = Self::NAMES.iter().map(|(_, name)| *name).collect();
        let wrong = || format!("{text:?} is no IP protocol: use {}, or a number up to 255", names.join(", "));
        text.parse().map(Protocol).map_err(|_| wrong())
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "golden.rs"]
mod golden;
