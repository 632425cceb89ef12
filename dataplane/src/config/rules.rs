//! `[[rule]]`: who may open sessions to whom.

use super::ports::{Ports, prefix};
use super::reader::{Reader, Section, Text, nearest, quoted};
use super::sections::checked_name;
use engine::policy::{Action, Rule, Service, ZoneSet};
use engine::{GroupId, RuleId, ZoneId};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashSet};
use wire::Proto;

/// The zone of the firewall's own addresses.
pub(super) const SELF: &str = "self";
/// Every zone, every address, every service.
pub(super) const ANY: &str = "any";
/// The rule behind all rules.
pub(super) const DEFAULT_DENY: &str = "default-deny";

pub(super) fn read(reader: &mut Reader, root: &mut Section<'_>, ports: &Ports) -> Vec<Rule> {
    let mut taken: BTreeMap<RuleId, String> =
        BTreeMap::from([(RuleId::DEFAULT_DENY, DEFAULT_DENY.to_owned())]);
    reader
        .list(root, "rule")
        .into_iter()
        .filter_map(|section| rule(reader, section, ports, &mut taken))
        .collect()
}

fn rule(
    reader: &mut Reader,
    mut section: Section<'_>,
    ports: &Ports,
    taken: &mut BTreeMap<RuleId, String>,
) -> Option<Rule> {
    let name =
        reader.needed_text(&mut section, "name", "give the rule a name that it keeps: name = \"lan-to-wan\"");
    let name = name.and_then(|text| rule_name(reader, &text, taken));
    let from = zone_set(reader, &mut section, "from", ports);
    let to = zone_set(reader, &mut section, "to", ports);
    let source = prefixes(reader, &mut section, "source");
    let destination = prefixes(reader, &mut section, "destination");
    one_family(reader, &section, &source, &destination);
    let services = services(reader, &mut section);
    let actions = [Action::Allow, Action::Drop, Action::Reject].map(|action| (action_text(action), action));
    let problems_before = reader.problems.len();
    let action = reader.choice(&mut section, "action", &actions);
    if action.is_none() && reader.problems.len() == problems_before {
        let message = format!("action in {} is missing", section.called);
        reader.report(section.span.clone(), message, "write action = \"allow\", \"drop\" or \"reject\"");
    }
    let log = reader.flag(&mut section, "log", false);
    let transparent_failover = reader.flag(&mut section, "transparent-failover", true);
    let sync_after_s = reader.number(&mut section, "sync-after-s", "seconds", 0..=3_600, 0) as u16;
    section.finish(reader);
    let name = name?;
    Some(Rule {
        id: RuleId::from_name(&name),
        name,
        from: from?,
        to: to?,
        source,
        destination,
        services,
        action: action?,
        log,
        replicate: transparent_failover,
        sync_after_s,
        group: GroupId(0),
    })
}

/// A name whose id no other rule has: sessions and records know their rule by it.
fn rule_name(reader: &mut Reader, text: &Text<'_>, taken: &mut BTreeMap<RuleId, String>) -> Option<String> {
    let name = checked_name(reader, "rule name", text)?;
    if name == DEFAULT_DENY {
        let message = format!("{DEFAULT_DENY:?} is the name of the rule behind all rules");
        reader.report(text.span.clone(), message, "choose another name");
        return None;
    }
    let Some(other) = taken.insert(RuleId::from_name(&name), name.clone()) else { return Some(name) };
    if other == name {
        reader.report(
            text.span.clone(),
            format!("a second rule is called {name:?}"),
            "give each rule a name of its own",
        );
    } else {
        let message = format!("the names {other:?} and {name:?} have the same id");
        reader.report(text.span.clone(), message, "rename one of the two rules; any other name will do");
    }
    None
}

fn zone_set(
    reader: &mut Reader,
    section: &mut Section<'_>,
    key: &'static str,
    ports: &Ports,
) -> Option<ZoneSet> {
    let problems_before = reader.problems.len();
    let texts = reader.texts(section, key);
    if texts.is_empty() {
        // A wrong type is reported already, and a list of wrong values, too.
        if reader.problems.len() == problems_before {
            let message = format!("{key} in {} is missing or empty", section.called);
            let help = format!("name zones, {key} = [\"lan\"], or all of them, {key} = \"any\"");
            reader.report(section.span.clone(), message, help);
        }
        return None;
    }
    let mut set = ZoneSet::NONE;
    for text in &texts {
        match text.text {
            // The firewall itself is never meant by the way: an open "to any" must not open it, too.
            ANY if set.contains(ZoneId::SELF) => set = ZoneSet::ANY,
            ANY => set = ZoneSet::TRANSIT,
            SELF if key == "to" => set = set.with(ZoneId::SELF),
            SELF => {
                let message = format!(
                    "{key} in {} names the firewall itself, whose own packets no rule judges",
                    section.called
                );
                reader.report(text.span.clone(), message, "name the zones that packets come from");
            }
            name => match ports.zones.iter().position(|zone| zone == name) {
                Some(place) => set = set.with(ZoneId(place as u8)),
                None if ports.complete => unknown_zone(reader, text, &ports.zones),
                // The zone of a port that could not be read, perhaps: that port's problem is enough.
                None => {}
            },
        }
    }
    if reader.problems.len() > problems_before {
        return None;
    }
    Some(set)
}

fn unknown_zone(reader: &mut Reader, text: &Text<'_>, zones: &[String]) {
    let known: Vec<&str> = zones.iter().map(String::as_str).collect();
    let help = match nearest(text.text, &known) {
        Some(zone) => format!("did you mean {zone:?}?"),
        None => format!(
            "zones are what ports name: {}; or \"any\", or \"self\" for the firewall",
            known.join(", ")
        ),
    };
    reader.report(text.span.clone(), format!("no port is in zone {}", quoted(text.text)), help);
}

/// Prefixes; empty for any.
fn prefixes(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Vec<IpNet> {
    let texts = reader.texts(section, key);
    if texts.iter().any(|text| text.text == ANY) {
        return Vec::new();
    }
    let mut nets: Vec<IpNet> = Vec::new();
    let mut seen = HashSet::new();
    for text in &texts {
        let Some(net) = prefix(reader, text) else { continue };
        if seen.insert(net) {
            nets.push(net);
        } else {
            reader.report(text.span.clone(), format!("{key} holds {net} twice"), "remove one of the two");
        }
    }
    nets
}

/// Sources of one family and destinations of the other match no packet.
fn one_family(reader: &mut Reader, section: &Section<'_>, source: &[IpNet], destination: &[IpNet]) {
    if source.is_empty() || destination.is_empty() {
        return;
    }
    let common = [true, false].into_iter().any(|v4| {
        let of_family = |nets: &[IpNet]| nets.iter().any(|net| net.addr().is_ipv4() == v4);
        of_family(source) && of_family(destination)
    });
    if !common {
        let message =
            format!("{} can match nothing: source and destination have no family in common", section.called);
        reader.report(section.span.clone(), message, "use IPv4 prefixes on both sides, or IPv6, or both");
    }
}

fn services(reader: &mut Reader, section: &mut Section<'_>) -> Vec<Service> {
    let mut services = Vec::new();
    let mut seen = HashSet::new();
    for text in reader.texts(section, "services") {
        match service(text.text) {
            Ok(service) if seen.insert(service) => services.push(service),
            // Twice the same harms nobody.
            Ok(_) => {}
            Err((what, help)) => {
                reader.report(text.span, format!("service {} {what}", quoted(text.text)), help)
            }
        }
    }
    if services.contains(&Service::Any) {
        return Vec::new();
    }
    services
}

/// A service as it stands in the configuration.
pub fn service_text(service: &Service) -> String {
    let name = |proto: Proto| match proto {
        Proto::TCP => "tcp".to_owned(),
        Proto::UDP => "udp".to_owned(),
        Proto(number) => format!("proto/{number}"),
    };
    match *service {
        Service::Any => ANY.into(),
        Service::IcmpEcho => "icmp-echo".into(),
        Service::Proto(proto) => name(proto),
        Service::Ports { proto, low, high } if low == high => format!("{}/{low}", name(proto)),
        Service::Ports { proto, low, high } => format!("{}/{low}-{high}", name(proto)),
    }
}

/// An action as it stands in the configuration.
pub fn action_text(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reject => "reject",
    }
}

/// A service by its text; else what is wrong, and what to do.
fn service(text: &str) -> Result<Service, (&'static str, String)> {
    const FORMS: &str = "write any, tcp, udp, tcp/80, udp/1000-2000, icmp-echo, or proto/47";
    let protocol = |name: &str| match name {
        "tcp" => Some(Proto::TCP),
        "udp" => Some(Proto::UDP),
        _ => None,
    };
    let Some((name, argument)) = text.split_once('/') else {
        return match text {
            ANY => Ok(Service::Any),
            "icmp-echo" => Ok(Service::IcmpEcho),
            _ => protocol(text).map(Service::Proto).ok_or(("is not known", FORMS.into())),
        };
    };
    if name == "proto" {
        let number = argument.parse().ok().filter(|_| digits(argument));
        return number
            .map(|number| Service::Proto(Proto(number)))
            .ok_or(("has no protocol number", "write proto/N with N up to 255".into()));
    }
    let proto = protocol(name).ok_or(("has ports, which only tcp and udp have", FORMS.to_owned()))?;
    let (low, high) = argument.split_once('-').unwrap_or((argument, argument));
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| digits(text));
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high => Ok(Service::Ports { proto, low, high }),
        (Some(low), Some(high)) => Err(("runs backwards", format!("write {name}/{high}-{low}"))),
        _ => Err(("has no port numbers", format!("write {name}/N or {name}/N-M with numbers up to 65535"))),
    }
}

/// Plain digits: `parse` also takes a sign.
fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
