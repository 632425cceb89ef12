//! The meaning of a policy, written as plainly as possible: the first rule that matches.
//!
//! The compiled form must agree with this for every rule set and every question; property tests hold the
//! two against each other. It also answers "which rule would decide" where speed does not matter.

use std::net::IpAddr;

use ipnet::IpNet;
use wire::{Addr, Proto};

use super::rule::{Query, Rule, Service};

/// The place of the first rule that matches.
pub fn first_match(rules: &[Rule], query: &Query) -> Option<usize> {
    rules.iter().position(|rule| matches(rule, query))
}

/// True if `rule`, taken alone, matches.
pub fn matches(rule: &Rule, query: &Query) -> bool {
    rule.from.contains(query.from)
        && rule.to.contains(query.to)
        && covers(&rule.source, query.key.src())
        && covers(&rule.destination, query.key.dst())
        && (rule.services.is_empty() || rule.services.iter().any(|s| serves(s, query)))
}

fn covers(prefixes: &[IpNet], addr: Addr) -> bool {
    let addr = IpAddr::from(addr);
    prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&addr))
}

fn serves(service: &Service, query: &Query) -> bool {
    let proto = query.key.proto();
    match *service {
        Service::Any => true,
        Service::Proto(wanted) => proto == wanted,
        Service::Ports { proto: wanted, low, high } => {
            proto == wanted && (low..=high).contains(&query.key.dport())
        }
        Service::IcmpEcho => query.echo && (proto == Proto::ICMP || proto == Proto::ICMP6),
    }
}
