//! What can be wrong with a rule set: errors refuse it, warnings come with it.

use std::collections::HashMap;

use ipnet::IpNet;
use thiserror::Error;
use wire::Proto;

use super::rule::{Rule, Service};
use super::services::{self, Span};
use super::slots::MAX_RULES;
use crate::ids::RuleId;
use crate::routes;

/// Why a rule set cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PolicyError {
    /// More rules than there are counters.
    #[error("{count} rules, at most {max} are possible; merge rules that differ in one list only", max = MAX_RULES)]
    TooManyRules {
        /// How many there are.
        count: usize,
    },
    /// A name twice.
    #[error("two rules are named `{name}`; rename one of them")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two names with the same number.
    #[error("the rules `{first}` and `{second}` have the same id {id:?}; rename one of them")]
    IdCollision {
        /// The earlier rule.
        first: String,
        /// The later rule.
        second: String,
        /// The id of both.
        id: RuleId,
    },
    /// The number of default deny.
    #[error("rule `{rule}` has the id of the default rule; rename it")]
    ReservedId {
        /// The rule.
        rule: String,
    },
    /// A rule between no zones.
    #[error("rule `{rule}` has no zone in its `{side}` list; name one, or \"any\"")]
    NoZone {
        /// The rule.
        rule: String,
        /// "from" or "to".
        side: &'static str,
    },
    /// A port range that ends before it starts.
    #[error("rule `{rule}`: the port range {low}-{high} is the wrong way round; write {high}-{low}")]
    InvertedPorts {
        /// The rule.
        rule: String,
        /// The first port.
        low: u16,
        /// The last port.
        high: u16,
    },
    /// Ports of a protocol that has none.
    #[error("rule `{rule}` names ports of IP protocol {}, which has none; use tcp, udp or sctp", proto.0)]
    PortlessProto {
        /// The rule.
        rule: String,
        /// The protocol.
        proto: Proto,
    },
    /// IPv4 on one side, IPv6 on the other.
    #[error(
        "rule `{rule}` can never match: its sources are {sources} only and its destinations are not; \
         list prefixes of the same family on both sides"
    )]
    FamilyMismatch {
        /// The rule.
        rule: String,
        /// The family of the sources.
        sources: &'static str,
    },
    /// More combinations than a compiled policy may hold.
    #[error(
        "the compiled policy would need more than {limit_mb} MB; use fewer different address lists or zones"
    )]
    TooLarge {
        /// The limit.
        limit_mb: usize,
    },
}

/// What looks like a mistake, but can be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PolicyWarning {
    /// Everything that the rule matches is decided by one rule before it.
    #[error(
        "rule `{rule}` is never reached: rule `{by}` before it matches all that it matches; move or remove it"
    )]
    Unreachable {
        /// The rule.
        rule: String,
        /// The rule before it.
        by: String,
    },
}

/// Refuses what cannot be compiled.
pub(super) fn validate(rules: &[Rule]) -> Result<(), PolicyError> {
    if rules.len() > MAX_RULES {
        return Err(PolicyError::TooManyRules { count: rules.len() });
    }
    let mut names: HashMap<&str, ()> = HashMap::new();
    let mut ids: HashMap<RuleId, &str> = HashMap::new();
    for rule in rules {
        let name = || rule.name.clone();
        if names.insert(&rule.name, ()).is_some() {
            return Err(PolicyError::DuplicateName { name: name() });
        }
        if rule.id == RuleId::DEFAULT_DENY {
            return Err(PolicyError::ReservedId { rule: name() });
        }
        if let Some(first) = ids.insert(rule.id, &rule.name) {
            return Err(PolicyError::IdCollision { first: first.to_owned(), second: name(), id: rule.id });
        }
        for (side, zones) in [("from", rule.from), ("to", rule.to)] {
            if zones.is_empty() {
                return Err(PolicyError::NoZone { rule: name(), side });
            }
        }
        validate_services(rule)?;
        validate_families(rule)?;
    }
    Ok(())
}

fn validate_services(rule: &Rule) -> Result<(), PolicyError> {
    for service in &rule.services {
        let Service::Ports { proto, low, high } = *service else { continue };
        if ![Proto::TCP, Proto::UDP, Proto::SCTP].contains(&proto) {
            return Err(PolicyError::PortlessProto { rule: rule.name.clone(), proto });
        }
        if low > high {
            return Err(PolicyError::InvertedPorts { rule: rule.name.clone(), low, high });
        }
    }
    Ok(())
}

fn validate_families(rule: &Rule) -> Result<(), PolicyError> {
    let (sources, destinations) = (Families::of(&rule.source), Families::of(&rule.destination));
    if sources.v4 && destinations.v4 || sources.v6 && destinations.v6 {
        return Ok(());
    }
    let sources = if sources.v4 { "IPv4" } else { "IPv6" };
    Err(PolicyError::FamilyMismatch { rule: rule.name.clone(), sources })
}

/// The families that a prefix list speaks of; an empty one of both.
#[derive(Clone, Copy)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    pub(super) fn of(prefixes: &[IpNet]) -> Self {
        let has = |v6: bool| prefixes.is_empty() || prefixes.iter().any(|p| matches!(p, IpNet::V6(_)) == v6);
        Self { v4: has(false), v6: has(true) }
    }
}

/// The rules that one rule before them hides.
pub(super) fn unreachable(rules: &[Rule]) -> Vec<PolicyWarning> {
    let extents: Vec<Extent> = rules.iter().map(Extent::of).collect();
    let mut warnings = Vec::new();
    for (place, later) in extents.iter().enumerate() {
        if let Some(earlier) = extents[..place].iter().position(|earlier| later.is_within(earlier)) {
            let (rule, by) = (rules[place].name.clone(), rules[earlier].name.clone());
            warnings.push(PolicyWarning::Unreachable { rule, by });
        }
    }
    warnings
}

/// What a rule matches, each dimension as disjoint spans in rising order.
struct Extent<'a> {
    rule: &'a Rule,
    services: Vec<Span>,
    source: [Vec<(u128, u128)>; 2],
    destination: [Vec<(u128, u128)>; 2],
}

impl<'a> Extent<'a> {
    fn of(rule: &'a Rule) -> Self {
        let (from, to) = (Families::of(&rule.source), Families::of(&rule.destination));
        // A family that one side excludes does not count on the other side either.
        let both = Families { v4: from.v4 && to.v4, v6: from.v6 && to.v6 };
        Self {
            rule,
            services: services::spans(&rule.services),
            source: address_spans(&rule.source, both),
            destination: address_spans(&rule.destination, both),
        }
    }

    fn is_within(&self, other: &Extent<'_>) -> bool {
        self.rule.from.is_subset(&other.rule.from)
            && self.rule.to.is_subset(&other.rule.to)
            && is_within(&self.services, &other.services)
            && (0..2).all(|family| {
                is_within(&self.source[family], &other.source[family])
                    && is_within(&self.destination[family], &other.destination[family])
            })
    }
}

/// The addresses of a list by family, IPv4 in the upper bits.
fn address_spans(prefixes: &[IpNet], families: Families) -> [Vec<(u128, u128)>; 2] {
    [(false, families.v4), (true, families.v6)].map(|(v6, wanted)| match (wanted, prefixes.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => vec![(0, u128::MAX)],
        (true, false) => {
            let of_family = prefixes.iter().filter(|p| matches!(p, IpNet::V6(_)) == v6);
            merge(of_family.map(span).collect())
        }
    })
}

fn span(prefix: &IpNet) -> (u128, u128) {
    let entry = routes::entry(prefix, 0);
    (entry.left, entry.left | u128::MAX.checked_shr(entry.len).unwrap_or(0))
}

/// The same numbers as disjoint spans in rising order, neighbours joined.
pub(super) fn merge<T: Copy + Ord + Successor>(mut spans: Vec<(T, T)>) -> Vec<(T, T)> {
    spans.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(spans.len());
    for (low, high) in spans {
        match merged.last_mut() {
            Some(last) if low <= last.1.successor() => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// The next number, or the same one at the end.
pub(super) trait Successor {
    fn successor(self) -> Self;
}

impl Successor for u32 {
    fn successor(self) -> Self {
        self.saturating_add(1)
    }
}

impl Successor for u128 {
    fn successor(self) -> Self {
        self.saturating_add(1)
    }
}

/// True if every number of `inner` is in `outer`; both merged.
fn is_within<T: Copy + Ord>(inner: &[(T, T)], outer: &[(T, T)]) -> bool {
    inner.iter().all(|&(low, high)| {
        let place = outer.partition_point(|&(_, end)| end < low);
        outer.get(place).is_some_and(|&(start, end)| start <= low && high <= end)
    })
}
