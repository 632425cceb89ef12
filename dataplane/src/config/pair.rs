//! `[pair]`: who the other node is, how the two hear each other, and how they share the work.
//!
//! What must be equal on both nodes is hashed by [`Config::pair_hash`](super::Config::pair_hash); the rest
//! (keys, addresses, devices) belongs to the node alone. Nothing here changes without a restart: a node
//! that changed its identity while it ran would have to leave the pair first.

use super::Config;
use super::model::Device;
use super::pair_keys::{self, NodeKey};
use super::ports::{Ports, device_of, unusable_host};
use super::reader::{Reader, Section, Text, quoted};
use super::sections::checked_name;
use engine::PortId;
use engine::snapshot::ControlPorts;
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use sync::ids::{Micros, NodeId, PairId, PathId};
use sync::keys::PublicKey;
use sync::membership::{self, OnActiveRestart};
use wire::MacAddr;
use wire::steer::ToeplitzKey;

/// The most sync links.
const MAX_LINKS: usize = 2;

/// `[pair]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairSettings {
    /// The pair, 1..=255; the same on both nodes.
    pub id: PairId,
    /// This node, 0 or 1.
    pub node: NodeId,
    /// The node that is to be active if nothing speaks against it.
    pub preferred: NodeId,
    /// This node's key.
    pub key: NodeKey,
    /// The partner's, pinned.
    pub partner_key: PublicKey,
    /// The word of the steering hash: an odd number of one bits.
    pub steering_key: u16,
    /// Where the term is kept over restarts.
    pub state_dir: PathBuf,
    /// What becomes of the mirror when the active node restarts unnoticed.
    pub on_active_restart: OnActiveRestart,
    /// Whether an incomplete mirror takes over from a dead node.
    pub takeover_incomplete: bool,
    /// Whether the preferred node gets the role back by itself.
    pub preempt: bool,
    /// How long a node listens after its start.
    pub boot_delay_ms: u32,
    /// Whether session sync may run over the data ports.
    pub lan_fallback: bool,
    /// Megabits a second of session sync over a data port at most; 0 is no limit.
    pub lan_fallback_mbit: u32,
    /// The most sessions a second that are sent again after a loss.
    pub resync_rate: Option<NonZeroU32>,
    /// Whether verbs that damage the mirror on purpose are obeyed.
    pub debug_verbs: bool,
    /// `[pair.heartbeat]`.
    pub heartbeat: Heartbeat,
    /// UDP port of the stream.
    pub stream_port: u16,
    /// `[[pair.link]]`, the best one first.
    pub links: Vec<SyncLink>,
}

/// `[pair.heartbeat]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Between two of them.
    pub interval_ms: u32,
    /// So many missing ones mean death.
    pub misses: u32,
    /// Their UDP port.
    pub port: u16,
}

/// `[[pair.link]]`: a link between the two nodes and nobody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncLink {
    /// Its name, unique among links and ports.
    pub name: String,
    /// What DPDK opens for it.
    pub device: Device,
    /// This node's address there.
    pub address: IpAddr,
    /// The partner's.
    pub partner: IpAddr,
    /// The largest IP packet in bytes.
    pub mtu: u16,
}

/// A way between the nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairPath {
    /// Its number: sync links first, then the ports with a node address, in order.
    pub id: PathId,
    /// The link's or the port's name.
    pub name: String,
    /// Which of the two.
    pub kind: PathKind,
    /// This node's address.
    pub address: IpAddr,
    /// The partner's.
    pub partner: IpAddr,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// Whether session sync may run over it.
    pub carries_sync: bool,
    /// Bytes of sessions a second that may run over it; 0 is no limit.
    pub byte_rate: u64,
}

/// What a path runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// A sync link, by its place in [`PairSettings::links`].
    SyncLink(usize),
    /// A data port.
    DataPort(PortId),
}

impl Heartbeat {
    /// Between two of them.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }
}

impl PairSettings {
    /// The other node.
    pub fn partner(&self) -> NodeId {
        NodeId(1 - self.node.0.min(1))
    }

    /// The MAC address that the active node owns, for IPv4 and IPv6 alike.
    pub fn virtual_mac(&self) -> MacAddr {
        MacAddr([0x00, 0x00, 0x5e, 0x00, 0x01, self.id.0])
    }

    /// The UDP ports on which the nodes talk.
    pub fn control_ports(&self) -> ControlPorts {
        ControlPorts { stream: self.stream_port, heartbeat: self.heartbeat.port }
    }

    /// The steering hash; both nodes have the same.
    pub fn steering(&self) -> ToeplitzKey {
        ToeplitzKey::new(self.steering_key).unwrap_or_default()
    }
}

impl Config {
    /// The ways between the nodes in the order of their numbers; none without a pair.
    pub fn pair_paths(&self) -> Vec<PairPath> {
        let Some(pair) = &self.pair else { return Vec::new() };
        let links = pair.links.iter().enumerate().map(|(place, link)| PairPath {
            id: PathId(0),
            name: link.name.clone(),
            kind: PathKind::SyncLink(place),
            address: link.address,
            partner: link.partner,
            mtu: link.mtu,
            carries_sync: true,
            byte_rate: 0,
        });
        let ports = self.numbered_ports().filter_map(|(number, port)| {
            let addresses = port.pair?;
            Some(PairPath {
                id: PathId(0),
                name: port.name.clone(),
                kind: PathKind::DataPort(number),
                address: addresses.own,
                partner: addresses.partner,
                mtu: port.mtu,
                carries_sync: pair.lan_fallback,
                byte_rate: u64::from(pair.lan_fallback_mbit) * 1_000_000 / 8,
            })
        });
        let numbered = (0_u8..).zip(links.chain(ports));
        numbered.map(|(number, path)| PairPath { id: PathId(number), ..path }).collect()
    }

    /// What the decision maker is told; none without a pair.
    pub fn membership(&self) -> Option<membership::Config> {
        let pair = self.pair.as_ref()?;
        let paths = self.pair_paths().iter().map(|path| path.carries_sync).collect();
        Some(pair.membership(paths))
    }
}

impl PairSettings {
    fn membership(&self, paths: Vec<bool>) -> membership::Config {
        membership::Config {
            preferred: self.preferred == self.node,
            paths,
            sync_links: self.links.len(),
            interval: Micros::from_millis(self.heartbeat.interval_ms.into()),
            misses: self.heartbeat.misses,
            boot_delay: Micros::from_millis(self.boot_delay_ms.into()),
            takeover_incomplete: self.takeover_incomplete,
            on_active_restart: self.on_active_restart,
            preempt: self.preempt,
            ..membership::Config::new(self.node, self.partner())
        }
    }
}

/// `[pair]`, if it is there and can be used.
pub(super) fn read(reader: &mut Reader, root: &mut Section<'_>, ports: &mut Ports) -> Option<PairSettings> {
    if !root.has("pair") {
        // Asked for, so that it is known.
        reader.section(root, "pair");
        return None;
    }
    let mut section = reader.section(root, "pair");
    let id =
        needed_number(reader, &mut section, "id", 1..=255, "number the pair: id = 1, the same on both nodes");
    let node = needed_number(
        reader,
        &mut section,
        "node-id",
        0..=1,
        "write node-id = 0 on one node, 1 on the other",
    );
    let preferred = reader.number(&mut section, "preferred", "a node", 0..=1, 0);
    let (key, partner_key) = keys(reader, &mut section);
    let steering_key = steering_key(reader, &mut section);
    let state_dir = match reader.text(&mut section, "state-dir") {
        Some(text) => absolute(reader, "state-dir", &text),
        None => Some(PathBuf::from("/var/lib/understudy")),
    };
    let choices = [("reclaim", OnActiveRestart::Reclaim), ("purge", OnActiveRestart::Purge)];
    let on_active_restart = reader.choice(&mut section, "on-active-restart", &choices).unwrap_or_default();
    let takeover_incomplete = reader.flag(&mut section, "takeover-incomplete", true);
    let preempt = reader.flag(&mut section, "preempt", false);
    let boot_delay_ms = reader.number(&mut section, "boot-delay-ms", "milliseconds", 0..=600_000, 3_000);
    let lan_fallback = reader.flag(&mut section, "lan-fallback", true);
    let lan_fallback_mbit =
        reader.number(&mut section, "lan-fallback-mbit", "megabits a second", 0..=1_000_000, 100);
    let resync_rate = reader.number(&mut section, "resync-rate", "sessions a second", 0..=100_000_000, 0);
    let debug_verbs = reader.flag(&mut section, "debug-verbs", false);
    let heartbeat = heartbeat(reader, &mut section);
    let stream_port = stream_port(reader, &mut section, heartbeat.port);
    let links = links(reader, &mut section, ports);
    if let Some(links) = &links {
        some_path(reader, &section, links, ports, lan_fallback);
    }
    section.finish(reader);
    Some(PairSettings {
        // They fit: their ranges say so.
        id: PairId(id? as u8),
        node: NodeId(node? as u8),
        preferred: NodeId(preferred as u8),
        key: key?,
        partner_key: partner_key?,
        steering_key: steering_key?,
        state_dir: state_dir?,
        on_active_restart,
        takeover_incomplete,
        preempt,
        boot_delay_ms,
        lan_fallback,
        lan_fallback_mbit,
        resync_rate: NonZeroU32::new(resync_rate),
        debug_verbs,
        heartbeat,
        stream_port: stream_port?,
        links: links?,
    })
}

fn needed_number(
    reader: &mut Reader,
    section: &mut Section<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u32>,
    help: &str,
) -> Option<u32> {
    let present = section.has(key);
    let number = reader.optional_number(section, key, "the pair", range);
    if !present {
        reader.report(section.span.clone(), format!("{key} in {} is missing", section.called), help);
    }
    number
}

fn keys(reader: &mut Reader, section: &mut Section<'_>) -> (Option<NodeKey>, Option<PublicKey>) {
    let help = "make a key on each node with `ha-ctl keygen --out FILE` and name the file";
    let secret = reader.needed_text(section, "secret-key-file", help);
    let secret = secret.and_then(|text| pair_keys::secret(reader, &text));
    let help = "write what `ha-ctl keygen --show FILE` prints on the partner";
    let text = reader.needed_text(section, "partner-key", help);
    let partner = text.as_ref().and_then(|text| pair_keys::partner(reader, text));
    if let (Some(secret), Some(partner), Some(text)) = (&secret, &partner, text)
        && secret.public == *partner
    {
        reader.report(text.span, "partner-key is this node's own key", help);
        return (None, None);
    }
    (secret, partner)
}

fn steering_key(reader: &mut Reader, section: &mut Section<'_>) -> Option<u16> {
    let default = u32::from(ToeplitzKey::DEFAULT_WORD);
    let word = reader.number(section, "steering-key", "the steering hash", 1..=65_535, default) as u16;
    if ToeplitzKey::new(word).is_some() {
        return Some(word);
    }
    let message = format!("steering-key {word} has an even number of one bits ({})", word.count_ones());
    let help = format!("use {}, or leave it out on both nodes", word ^ 1);
    reader.report(section.span_of("steering-key"), message, help);
    None
}

fn heartbeat(reader: &mut Reader, parent: &mut Section<'_>) -> Heartbeat {
    let mut section = reader.subsection(parent, "heartbeat", "pair.heartbeat");
    let interval_ms = reader.number(&mut section, "interval-ms", "milliseconds", 5..=10_000, 100);
    let misses = reader.number(&mut section, "misses", "heartbeats", 2..=20, 3);
    let port = reader.number(&mut section, "port", "a UDP port", 1..=65_535, 801) as u16;
    // What a heartbeat lets the workers forward ends a margin before the partner may judge. It has to last
    // until the next heartbeat went out, and half an interval more for a scheduler that is late.
    let margin_ms = membership::Config::new(NodeId(0), NodeId(1)).margin.as_millis();
    let dead_ms = u64::from(interval_ms) * u64::from(misses);
    let needed_ms = (u64::from(interval_ms) * 3).div_ceil(2) + margin_ms;
    if dead_ms < needed_ms {
        let message = format!(
            "{misses} misses of {interval_ms} ms are {dead_ms} ms, too short for the margin of {margin_ms} ms"
        );
        let enough = needed_ms.div_ceil(u64::from(interval_ms).max(1));
        reader.report(
            section.span.clone(),
            message,
            format!("write misses = {enough} or more, or a longer interval-ms"),
        );
    }
    section.finish(reader);
    Heartbeat { interval_ms, misses, port }
}

fn stream_port(reader: &mut Reader, parent: &mut Section<'_>, heartbeat: u16) -> Option<u16> {
    let mut section = reader.subsection(parent, "stream", "pair.stream");
    let port = reader.number(&mut section, "port", "a UDP port", 1..=65_535, 689) as u16;
    let differs = port != heartbeat;
    if !differs {
        let message = format!("heartbeats and the stream both use UDP port {port}");
        reader.report(
            section.span.clone(),
            message,
            "give [pair.heartbeat] and [pair.stream] different ports",
        );
    }
    section.finish(reader);
    differs.then_some(port)
}

/// `[[pair.link]]`; none if one of them cannot be used.
fn links(reader: &mut Reader, parent: &mut Section<'_>, ports: &mut Ports) -> Option<Vec<SyncLink>> {
    let sections = reader.sublist(parent, "link", "pair.link");
    if let Some(first_too_many) = sections.get(MAX_LINKS) {
        let message = format!("there are {} sync links", sections.len());
        reader.report(first_too_many.span.clone(), message, format!("at most {MAX_LINKS} can be used"));
    }
    let wanted = sections.len();
    let mut links: Vec<SyncLink> = Vec::new();
    for section in sections.into_iter().take(MAX_LINKS) {
        let Some((link, span)) = link(reader, section, ports) else { continue };
        let pair = |link: &SyncLink| (link.address, link.partner);
        if links.iter().any(|other| pair(other) == pair(&link)) {
            let message = format!("a second sync link runs from {} to {}", link.address, link.partner);
            reader.report(span, message, "give each link addresses of its own");
            continue;
        }
        links.push(link);
    }
    (links.len() == wanted).then_some(links)
}

fn link(
    reader: &mut Reader,
    mut section: Section<'_>,
    ports: &mut Ports,
) -> Option<(SyncLink, Range<usize>)> {
    let name = reader.needed_text(&mut section, "name", "give the link a name: name = \"sync0\"");
    let name = name.and_then(|text| link_name(reader, &text, ports));
    let help = "name a device: \"0000:03:00.0\" (PCI) or \"net_af_packet2,iface=sync0\" (virtual)";
    let device = reader.needed_text(&mut section, "device", help);
    let device = device.and_then(|text| device_of(reader, &text, &section.called, &mut ports.unique));
    let help = "give this node's address on the link: address = \"169.254.77.1\"";
    let address = reader.needed_text(&mut section, "address", help);
    let address = address.and_then(|text| link_address(reader, &text, "address", ports));
    let help = "give the partner's address on the link: partner = \"169.254.77.2\"";
    let partner = reader.needed_text(&mut section, "partner", help);
    let span = partner.as_ref().map_or(section.span.clone(), |text| text.span.clone());
    let partner = partner.and_then(|text| link_address(reader, &text, "partner", ports));
    let mtu = reader.number(&mut section, "mtu", "bytes", 576..=9_216, 1_500) as u16;
    let called = section.called.clone();
    section.finish(reader);
    let (address, partner) = (address?, partner?);
    if address == partner {
        let message = format!("address and partner in {called} are the same");
        reader.report(span, message, "give each node an address of its own on the link");
        return None;
    }
    if address.is_ipv4() != partner.is_ipv4() {
        let message = format!("address and partner in {called} are of different families");
        reader.report(span, message, "use IPv4 on both ends or IPv6 on both ends");
        return None;
    }
    if address.is_ipv6() && mtu < 1_280 {
        let message = format!("{called} has IPv6 addresses and an MTU of {mtu}");
        reader.report(span, message, "IPv6 needs an MTU of at least 1280 (RFC 8200, section 5)");
        return None;
    }
    Some((SyncLink { name: name?, device: device?, address, partner, mtu }, span))
}

fn link_name(reader: &mut Reader, text: &Text<'_>, ports: &mut Ports) -> Option<String> {
    let name = checked_name(reader, "name of the sync link", text)?;
    if ports.unique.names.insert(name.clone()) {
        return Some(name);
    }
    let message = format!("a port or another sync link is called {name:?} already");
    reader.report(text.span.clone(), message, "give each link a name of its own");
    None
}

/// A host's address on a link that leads nowhere else: link-local ones are as good as any.
fn link_address(reader: &mut Reader, text: &Text<'_>, key: &str, ports: &Ports) -> Option<IpAddr> {
    let help = "write an address for the link alone, such as \"169.254.77.1\" or \"fd00:77::1\", without prefix length";
    let Ok(address) = text.text.parse::<IpAddr>() else {
        reader.report(text.span.clone(), format!("{key} {} is no address", quoted(text.text)), help);
        return None;
    };
    // A whole-address prefix has no network and no broadcast address.
    let wrong = match unusable_host(IpNet::from(address)) {
        Some(wrong) if !wrong.starts_with("is link-local") => Some(wrong.to_owned()),
        _ => {
            let shares = |port: &&super::Port| port.addresses.iter().any(|net| net.contains(&address));
            let port = ports.ports.iter().find(shares);
            port.map(|port| format!("lies in the network of port {:?}", port.name))
        }
    };
    let Some(wrong) = wrong else { return Some(address) };
    reader.report(text.span.clone(), format!("{key} {address} of a sync link {wrong}"), help);
    None
}

/// Without a path there is no pair; without one for the stream there is no mirror.
fn some_path(
    reader: &mut Reader,
    section: &Section<'_>,
    links: &[SyncLink],
    ports: &Ports,
    lan_fallback: bool,
) {
    let data_paths = ports.ports.iter().any(|port| port.pair.is_some());
    if !links.is_empty() || !ports.is_faultless() {
        return;
    }
    if !data_paths {
        let help = "add a [[pair.link]], or node-address and partner-address to a [[port]]";
        reader.report(section.span.clone(), "no path leads to the partner", help);
    } else if !lan_fallback {
        let message = "session sync has no path: there is no sync link, and lan-fallback is false";
        reader.report(section.span.clone(), message, "add a [[pair.link]], or allow lan-fallback");
    }
}

/// An absolute path.
pub(super) fn absolute(reader: &mut Reader, key: &str, text: &Text<'_>) -> Option<PathBuf> {
    let wrong = if !text.text.starts_with('/') {
        "is not an absolute path"
    } else if text.text.contains('\0') {
        "holds a NUL character"
    } else if text.text.len() > 4_095 {
        "is too long"
    } else {
        return Some(PathBuf::from(text.text));
    };
    let message = format!("{key} {} {wrong}", quoted(text.text));
    reader.report(text.span.clone(), message, "write a path that begins with \"/\"");
    None
}
