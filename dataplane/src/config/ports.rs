//! `[[port]]` and `[[route]]`: devices, addresses, zones, and gateways that must lie on a link.

use super::MAX_PORTS;
use super::model::{Device, PairAddresses, Port, StaticRoute};
use super::reader::{Reader, Section, Text, quoted};
use super::rules::{ANY, SELF};
use super::sections::checked_name;
use engine::{PortId, ZoneId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

/// The most addresses of a port.
const MAX_ADDRESSES: usize = 64;

/// The ports that could be read.
pub(super) struct Ports {
    pub(super) ports: Vec<Port>,
    /// Sorted names; a [`ZoneId`] is a place in it.
    pub(super) zones: Vec<String>,
    /// False if a port is missing here: what depends on all zones is not judged then.
    pub(super) complete: bool,
    /// False if a port had any problem: what depends on all networks is not judged then.
    faultless: bool,
    /// What the ports' names and devices are taken by; sync links must keep away from it as well.
    pub(super) unique: Unique,
}

impl Ports {
    /// True if what depends on all networks can be judged.
    pub(super) fn is_faultless(&self) -> bool {
        self.faultless
    }
}

/// A port before its zone has a number.
struct Draft {
    name: String,
    device: Device,
    zone: String,
    addresses: Vec<(IpNet, Range<usize>)>,
    mtu: u16,
    pair: Option<PairAddresses>,
}

pub(super) fn read(reader: &mut Reader, root: &mut Section<'_>) -> Ports {
    let sections = reader.list(root, "port");
    if sections.is_empty() {
        let help = "add a [[port]] with name, device, zone and addresses for each network";
        reader.report(0..0, "there is no port", help);
    } else if let Some(first_too_many) = sections.get(MAX_PORTS) {
        let message = format!("there are {} ports", sections.len());
        reader.report(first_too_many.span.clone(), message, format!("at most {MAX_PORTS} can be used"));
    }
    let problems_before = reader.problems.len();
    let wanted = sections.len();
    let mut unique = Unique { paired: root.has("pair"), ..Unique::default() };
    let drafts: Vec<Draft> = sections
        .into_iter()
        .take(MAX_PORTS)
        .filter_map(|section| port(reader, section, &mut unique))
        .collect();
    overlaps(reader, &drafts);

    let zones: BTreeSet<String> = drafts.iter().map(|draft| draft.zone.clone()).collect();
    let zones: Vec<String> = zones.into_iter().collect();
    let complete = drafts.len() == wanted;
    let faultless = complete && reader.problems.len() == problems_before;
    let ports = drafts.into_iter().map(|draft| finished(draft, &zones)).collect();
    Ports { ports, zones, complete, faultless, unique }
}

fn finished(draft: Draft, zones: &[String]) -> Port {
    // There are at most MAX_PORTS zones, each of them in the list.
    let zone = zones.iter().position(|zone| *zone == draft.zone).unwrap_or(0);
    let addresses = draft.addresses.into_iter().map(|(address, _)| address).collect();
    let Draft { name, device, mtu, pair, .. } = draft;
    Port { name, device, zone: ZoneId(zone as u8), addresses, mtu, pair }
}

/// What two ports must not share.
#[derive(Default)]
pub(super) struct Unique {
    pub(super) names: BTreeSet<String>,
    devices: BTreeMap<String, String>,
    /// There is a `[pair]`.
    paired: bool,
}

fn port(reader: &mut Reader, mut section: Section<'_>, unique: &mut Unique) -> Option<Draft> {
    let name = reader.needed_text(&mut section, "name", "give the port a name: name = \"lan\"");
    let name = name.and_then(|text| port_name(reader, &text, unique));
    let device = reader.needed_text(
        &mut section,
        "device",
        "name a device: \"0000:03:00.0\" (PCI) or \"net_af_packet0,iface=lan0\" (virtual)",
    );
    let device = device.and_then(|text| device_of(reader, &text, &section.called, unique));
    let zone =
        reader.needed_text(&mut section, "zone", "name the zone that the port belongs to: zone = \"lan\"");
    let zone = zone.and_then(|text| zone_name(reader, &text));
    let texts = reader.texts(&mut section, "addresses");
    let written = texts.len();
    if let Some(first_too_many) = texts.get(MAX_ADDRESSES) {
        let message = format!("{} has {written} addresses", section.called);
        reader.report(first_too_many.span.clone(), message, format!("at most {MAX_ADDRESSES} can be used"));
    }
    let addresses: Vec<_> =
        texts.iter().take(MAX_ADDRESSES).filter_map(|text| interface_address(reader, text)).collect();
    if written == 0 {
        let message = format!("addresses in {} is missing or empty", section.called);
        reader.report(
            section.span.clone(),
            message,
            "give the firewall's own addresses: addresses = [\"10.1.0.1/24\"]",
        );
    }
    let mtu = reader.number(&mut section, "mtu", "bytes", 576..=9_216, 1_500) as u16;
    if let (Some((_, span)), true) = (addresses.iter().find(|(net, _)| net.addr().is_ipv6()), mtu < 1_280) {
        let message = format!("{} has an IPv6 address and an MTU of {mtu}", section.called);
        reader.report(span.clone(), message, "IPv6 needs an MTU of at least 1280 (RFC 8200, section 5)");
    }
    let all_read = addresses.len() == written;
    let pair = pair_addresses(reader, &mut section, &addresses, all_read, unique.paired);
    section.finish(reader);
    Some(Draft { name: name?, device: device?, zone: zone?, addresses, mtu, pair })
}

/// `node-address` and `partner-address`: both or none.
fn pair_addresses(
    reader: &mut Reader,
    section: &mut Section<'_>,
    shared: &[(IpNet, Range<usize>)],
    all_read: bool,
    paired: bool,
) -> Option<PairAddresses> {
    let texts = ["node-address", "partner-address"].map(|key| (key, reader.text(section, key)));
    let [(_, own), (_, partner)] = &texts;
    let (Some(own), Some(partner)) = (own, partner) else {
        // A wrong type is reported already, and counts as given here.
        for ((key, text), other) in texts.iter().zip(["partner-address", "node-address"]) {
            if text.is_some() && !section.has(other) {
                let message = format!("{other} in {} is missing, and {key} is there", section.called);
                let help = "give both nodes' own addresses on the port, or neither";
                reader.report(section.span.clone(), message, help);
            }
        }
        return None;
    };
    if !paired {
        let message = format!("node-address in {} is for a pair, and there is no [pair]", section.called);
        reader.report(own.span.clone(), message, "remove the line, or add [pair]");
        return None;
    }
    let judge =
        |reader: &mut Reader, text: &Text<'_>, key: &str| own_address(reader, text, key, shared, all_read);
    let (a, b) = (judge(reader, own, "node-address"), judge(reader, partner, "partner-address"));
    let (a, b) = (a?, b?);
    let network =
        |address: IpAddr| shared.iter().map(|(net, _)| net.trunc()).find(|net| net.contains(&address));
    let wrong = if a == b {
        "are the same"
    } else if all_read && network(a) != network(b) {
        "lie in different networks"
    } else {
        return Some(PairAddresses { own: a, partner: b });
    };
    let message = format!("node-address and partner-address in {} {wrong}", section.called);
    reader.report(partner.span.clone(), message, "give each node an address of its own in one network");
    None
}

/// An address of one node alone, in one of the networks of its port.
fn own_address(
    reader: &mut Reader,
    text: &Text<'_>,
    key: &str,
    shared: &[(IpNet, Range<usize>)],
    all_read: bool,
) -> Option<IpAddr> {
    let help = "write an address of the port's network that nobody else uses, as in \"10.1.0.2\"";
    let Ok(address) = text.text.parse::<IpAddr>() else {
        let message = format!("{key} {} is no address", quoted(text.text));
        reader.report(text.span.clone(), message, format!("{help}; without prefix length"));
        return None;
    };
    let wrong = if shared.iter().any(|(net, _)| net.addr() == address) {
        Some("is a shared address of the port, which the active node owns".to_owned())
    } else {
        match shared.iter().find(|(net, _)| net.contains(&address)) {
            Some((net, _)) => {
                let host = IpNet::new(address, net.prefix_len()).ok();
                host.and_then(unusable_host).map(|wrong| format!("is no host: it {wrong}"))
            }
            None if all_read => Some("is in no network of the port".to_owned()),
            None => None,
        }
    };
    let Some(wrong) = wrong else { return Some(address) };
    reader.report(text.span.clone(), format!("{key} {address} {wrong}"), help);
    None
}

fn port_name(reader: &mut Reader, text: &Text<'_>, unique: &mut Unique) -> Option<String> {
    let name = checked_name(reader, "port name", text)?;
    if !unique.names.insert(name.clone()) {
        reader.report(
            text.span.clone(),
            format!("a second port is called {name:?}"),
            "give each port a name of its own",
        );
        return None;
    }
    Some(name)
}

fn zone_name(reader: &mut Reader, text: &Text<'_>) -> Option<String> {
    let name = checked_name(reader, "zone name", text)?;
    if name == SELF || name == ANY {
        let message = format!("no port can be in the zone {name:?}: the word has a meaning in rules");
        reader.report(text.span.clone(), message, "choose another name, such as \"lan\"");
        return None;
    }
    Some(name)
}

pub(super) fn device_of(
    reader: &mut Reader,
    text: &Text<'_>,
    owner: &str,
    unique: &mut Unique,
) -> Option<Device> {
    let Some(device) = parse_device(text.text) else {
        let message =
            format!("device {} in {owner} is neither a PCI address nor a virtual device", quoted(text.text));
        let looks_like_kernel_name = !text.text.is_empty()
            && text.text.len() <= 15
            && text.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let help = if looks_like_kernel_name {
            format!("for the kernel's interface {0} write \"net_af_packet0,iface={0}\"", text.text)
        } else {
            "write \"0000:03:00.0\" for a PCI device, \"net_af_packet0,iface=lan0\" for a virtual one".into()
        };
        reader.report(text.span.clone(), message, help);
        return None;
    };
    // A name twice is refused by EAL; an interface twice would receive each packet twice.
    let interface =
        device.to_string().split(',').find(|argument| argument.starts_with("iface=")).map(str::to_owned);
    for part in [Some(device.name().to_owned()), interface].into_iter().flatten() {
        if let Some(other) = unique.devices.insert(part.clone(), owner.to_owned()) {
            let message = format!("{part:?} is used by {other} and by {owner}");
            reader.report(
                text.span.clone(),
                message,
                "give each port a device of its own; number them, as in net_af_packet1",
            );
            return None;
        }
    }
    Some(device)
}

/// A device, `None` if the text has neither form.
fn parse_device(text: &str) -> Option<Device> {
    if let Some(address) = parse_pci(text) {
        return Some(Device::Pci(address));
    }
    let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
    let driver_like = name.strip_prefix("net_").or_else(|| name.strip_prefix("eth_"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // EAL keeps 64 bytes for a name, its end byte included.
    let name_fits = !driver_like.is_empty() && name.len() < 64 && name.chars().all(plain);
    let arguments_fit = arguments.chars().all(|c| c.is_ascii_graphic()) && arguments.len() <= 512;
    let ends_well = !text.ends_with(',');
    (name_fits && arguments_fit && ends_well).then(|| Device::Vdev(text.to_owned()))
}

/// `[domain:]bus:device.function` in hexadecimal, in full and in small letters.
fn parse_pci(text: &str) -> Option<String> {
    let hex = |part: &str, max_digits: usize, max: u32| {
        let fits =
            !part.is_empty() && part.len() <= max_digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(part, 16).ok();
        number.filter(|number| fits && *number <= max)
    };
    let (front, function) = text.split_once('.')?;
    let mut parts = front.rsplit(':');
    let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() {
        return None;
    }
    let (domain, bus) = (hex(domain, 8, u32::MAX)?, hex(bus, 2, 0xff)?);
    let (device, function) = (hex(device, 2, 0x1f)?, hex(function, 1, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// An own address with its prefix length; host bits are what it is about.
fn interface_address(reader: &mut Reader, text: &Text<'_>) -> Option<(IpNet, Range<usize>)> {
    let help =
        "write the firewall's own address with its prefix length, as in \"10.1.0.1/24\" or \"fd00:1::1/64\"";
    let Some(net) = parse_net(text.text) else {
        let message = match text.text.parse::<IpAddr>() {
            Ok(_) => format!("address {} lacks its prefix length", quoted(text.text)),
            Err(_) => format!("{} is no address with a prefix length", quoted(text.text)),
        };
        reader.report(text.span.clone(), message, help);
        return None;
    };
    if let Some(wrong) = unusable_host(net) {
        reader.report(text.span.clone(), format!("{net} cannot be a port's address: it {wrong}"), help);
        return None;
    }
    Some((net, text.span.clone()))
}

/// An address with a prefix length. Stricter than `IpNet`'s own parser, which takes `10.1.0.010`: for some
/// programs that is 10, for others 8.
fn parse_net(text: &str) -> Option<IpNet> {
    let (address, len) = text.split_once('/')?;
    let plain = !len.is_empty() && len.len() <= 3 && len.bytes().all(|byte| byte.is_ascii_digit());
    let len = len.parse().ok().filter(|_| plain)?;
    IpNet::new(address.parse().ok()?, len).ok()
}

/// Why an address cannot be a host's in its network; `None` if it can.
pub(super) fn unusable_host(net: IpNet) -> Option<&'static str> {
    let address = net.addr();
    if net.prefix_len() == 0 {
        Some("has a prefix of length 0, which covers everything")
    } else if address.is_unspecified() {
        Some("is the unspecified address")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if address.is_loopback() {
        Some("is a loopback address")
    } else if is_link_local(address) {
        Some("is link-local; such addresses are not configured")
    } else if has_network_address(net) && address == net.network() {
        Some("is the network itself, its host bits are zero")
    } else if address.is_ipv4() && has_network_address(net) && address == net.broadcast() {
        Some("is the network's broadcast address")
    } else {
        None
    }
}

/// Point-to-point links use all their addresses (RFC 3021, RFC 6164), others not the lowest one.
fn has_network_address(net: IpNet) -> bool {
    net.max_prefix_len() - net.prefix_len() >= 2
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Two ports must not claim the same addresses: a packet would have two ways.
fn overlaps(reader: &mut Reader, drafts: &[Draft]) {
    let mut seen: Vec<(usize, IpNet)> = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        for (net, span) in &draft.addresses {
            let clash = seen.iter().find(|(other, earlier)| {
                let same_port = *other == place;
                if same_port { earlier.addr() == net.addr() } else { overlap(*earlier, *net) }
            });
            if let Some((other, earlier)) = clash {
                let message = match drafts.get(*other) {
                    Some(port) if *other != place => {
                        format!(
                            "{net} on port {:?} overlaps with {earlier} on port {:?}",
                            draft.name, port.name
                        )
                    }
                    _ => format!("{} stands twice on port {:?}", net.addr(), draft.name),
                };
                reader.report(span.clone(), message, "each network belongs to one port");
            }
            seen.push((place, *net));
        }
    }
}

/// `[[route]]`.
pub(super) fn routes(reader: &mut Reader, root: &mut Section<'_>, ports: &Ports) -> Vec<StaticRoute> {
    let mut routes: Vec<StaticRoute> = Vec::new();
    let mut known: BTreeSet<IpNet> =
        ports.ports.iter().flat_map(|port| &port.addresses).map(|address| address.trunc()).collect();
    for mut section in reader.list(root, "route") {
        let to = reader.needed_text(&mut section, "to", "name the destination: to = \"10.3.0.0/16\"");
        let to = to.and_then(|text| Some((prefix(reader, &text)?, text.span)));
        let via = reader.needed_text(&mut section, "via", "name the gateway: via = \"10.2.0.254\"");
        let via = via.and_then(|text| Some((gateway(reader, &text)?, text.span)));
        section.finish(reader);
        let (Some((to, to_span)), Some((via, via_span))) = (to, via) else { continue };
        if to.addr().is_ipv4() != via.is_ipv4() {
            let message = format!("the route to {to} has a gateway of the other family, {via}");
            reader.report(via_span, message, "use an IPv4 gateway for IPv4 and an IPv6 gateway for IPv6");
            continue;
        }
        if !known.insert(to) {
            let message = format!("{to} has a route or a port already");
            reader.report(to_span, message, "keep one of them: each destination has one way");
            continue;
        }
        if let Some(port) = on_link(reader, via, via_span, ports) {
            routes.push(StaticRoute { to, via, port });
        }
    }
    routes
}

fn gateway(reader: &mut Reader, text: &Text<'_>) -> Option<IpAddr> {
    match text.text.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("gateway {} is no address", quoted(text.text));
            reader.report(
                text.span.clone(),
                message,
                "write an address such as \"10.2.0.254\" or \"fd00:2::fe\"",
            );
            None
        }
    }
}

/// The port on whose network the gateway is.
fn on_link(reader: &mut Reader, via: IpAddr, span: Range<usize>, ports: &Ports) -> Option<PortId> {
    for (number, port) in (0_u8..).zip(&ports.ports) {
        if port.addresses.iter().any(|own| own.addr() == via) {
            let message = format!("gateway {via} is the firewall's own address on port {:?}", port.name);
            reader.report(span, message, "name the router behind that port");
            return None;
        }
        if port.pair.is_some_and(|pair| pair.own == via || pair.partner == via) {
            let message = format!("gateway {via} is a node's own address on port {:?}", port.name);
            reader.report(span, message, "name the router behind that port");
            return None;
        }
        let Some(net) = port.addresses.iter().find(|net| net.contains(&via)) else { continue };
        let host = IpNet::new(via, net.prefix_len()).ok()?;
        if let Some(wrong) = unusable_host(host) {
            reader.report(span, format!("gateway {via} is no host: it {wrong}"), "name the router's address");
            return None;
        }
        return Some(PortId(number));
    }
    if ports.faultless {
        let message = format!("gateway {via} is in no port's network");
        reader.report(
            span,
            message,
            "use a gateway on one of the ports' networks, or give a port an address there",
        );
    }
    None
}

/// A prefix whose host bits are zero, or a single address.
pub(super) fn prefix(reader: &mut Reader, text: &Text<'_>) -> Option<IpNet> {
    let net = match (parse_net(text.text), text.text.parse::<IpAddr>()) {
        (Some(net), _) => net,
        (_, Ok(address)) => IpNet::from(address),
        _ => {
            let message = format!("{} is no prefix", quoted(text.text));
            reader.report(
                text.span.clone(),
                message,
                "write a prefix such as \"10.1.0.0/24\" or \"fd00:1::/64\"",
            );
            return None;
        }
    };
    if net != net.trunc() {
        let message = format!("{net} has bits set behind its prefix length");
        let help =
            format!("write \"{}\" for the network or \"{}\" for the one address", net.trunc(), net.addr());
        reader.report(text.span.clone(), message, help);
        return None;
    }
    Some(net)
}
