//! The words of a policy: rules, zones, services, questions and answers.

use ipnet::IpNet;
use wire::{FlowKey, Proto};

use crate::ids::{GroupId, RuleId, ZoneId};

/// What happens to a packet that would open a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A session is opened.
    Allow,
    /// The packet vanishes.
    Drop,
    /// The packet vanishes and its sender is told: RST for TCP, ICMP "administratively prohibited" else.
    Reject,
}

/// A set of zones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ZoneSet([u64; 4]);

impl ZoneSet {
    /// No zone at all; a rule with it is refused.
    pub const NONE: ZoneSet = ZoneSet([0; 4]);
    /// Every zone, [`ZoneId::SELF`] included.
    pub const ANY: ZoneSet = ZoneSet([u64::MAX; 4]);
    /// Every zone but [`ZoneId::SELF`]: traffic through the firewall, never to it.
    pub const TRANSIT: ZoneSet = ZoneSet([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1]);

    /// The set with this zone added.
    #[must_use]
    pub const fn with(mut self, zone: ZoneId) -> ZoneSet {
        self.0[(zone.0 >> 6) as usize] |= 1 << (zone.0 & 63);
        self
    }

    /// True if `zone` is in the set.
    pub const fn contains(&self, zone: ZoneId) -> bool {
        self.0[(zone.0 >> 6) as usize] >> (zone.0 & 63) & 1 == 1
    }

    /// True if the set has no zone.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// True if every zone of this set is in `other`.
    pub fn is_subset(&self, other: &ZoneSet) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// The zones of the set.
    pub fn iter(&self) -> impl Iterator<Item = ZoneId> {
        (0..=u8::MAX).map(ZoneId).filter(|&zone| self.contains(zone))
    }
}

impl FromIterator<ZoneId> for ZoneSet {
    fn from_iter<I: IntoIterator<Item = ZoneId>>(zones: I) -> Self {
        zones.into_iter().fold(Self::NONE, ZoneSet::with)
    }
}

impl From<ZoneId> for ZoneSet {
    fn from(zone: ZoneId) -> Self {
        Self::NONE.with(zone)
    }
}

impl std::fmt::Debug for ZoneSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::ANY => f.write_str("any"),
            Self::TRANSIT => f.write_str("transit"),
            _ => f.debug_set().entries(self.iter().map(|z| z.0)).finish(),
        }
    }
}

/// What a rule says about protocol and port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// Everything.
    Any,
    /// Everything of an IP protocol.
    Proto(Proto),
    /// Destination ports `low..=high` of TCP, UDP or SCTP.
    Ports {
        /// TCP, UDP or SCTP.
        proto: Proto,
        /// The first port.
        low: u16,
        /// The last port, itself included.
        high: u16,
    },
    /// Echo requests, ICMP and ICMPv6 alike.
    IcmpEcho,
}

/// A rule. Rules are ordered, the first one that matches decides; empty lists match everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The configured name, unique.
    pub name: String,
    /// [`RuleId::from_name`] of the name.
    pub id: RuleId,
    /// Zones that the packet may come from.
    pub from: ZoneSet,
    /// Zones that the packet may go to.
    pub to: ZoneSet,
    /// Source prefixes.
    pub source: Vec<IpNet>,
    /// Destination prefixes.
    pub destination: Vec<IpNet>,
    /// Services.
    pub services: Vec<Service>,
    /// What happens.
    pub action: Action,
    /// Whether matches are logged.
    pub log: bool,
    /// Whether sessions of this rule are replicated.
    pub replicate: bool,
    /// The age from which they are, in seconds.
    pub sync_after_s: u16,
    /// The traffic group that they belong to.
    pub group: GroupId,
}

/// What the policy is asked about: the first packet of a possible session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// The zone of the port that it came in by.
    pub from: ZoneId,
    /// The zone of the port that it would leave by, or [`ZoneId::SELF`].
    pub to: ZoneId,
    /// Addresses, protocol and ports.
    pub key: FlowKey,
    /// Whether it is an ICMP or ICMPv6 echo request.
    pub echo: bool,
}

/// What the policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// The rule that decided.
    pub rule: RuleId,
    /// Where the rule's counters are (see [`RuleSlots`](super::RuleSlots)).
    pub slot: u16,
    /// Whether it is logged.
    pub log: bool,
    /// Whether the session is replicated.
    pub replicate: bool,
    /// The age from which it is, in seconds.
    pub sync_after_s: u16,
    /// The traffic group of the session.
    pub group: GroupId,
}

impl Decision {
    /// What no rule allows is dropped.
    pub const DEFAULT_DENY: Decision = Decision {
        action: Action::Drop,
        rule: RuleId::DEFAULT_DENY,
        slot: 0,
        log: false,
        replicate: false,
        sync_after_s: 0,
        group: GroupId(0),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_has_the_firewall_itself_and_transit_has_not() {
        let lan = ZoneId(0);
        assert!(ZoneSet::ANY.contains(ZoneId::SELF) && ZoneSet::ANY.contains(lan));
        assert!(!ZoneSet::TRANSIT.contains(ZoneId::SELF) && ZoneSet::TRANSIT.contains(ZoneId(254)));
        assert!(ZoneSet::TRANSIT.is_subset(&ZoneSet::ANY) && !ZoneSet::ANY.is_subset(&ZoneSet::TRANSIT));
        assert!(ZoneSet::default().is_empty());
        let two: ZoneSet = [ZoneId(63), ZoneId(64)].into_iter().collect();
        assert_eq!(two.iter().collect::<Vec<_>>(), [ZoneId(63), ZoneId(64)]);
    }
}
