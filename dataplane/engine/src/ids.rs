//! Names of things, one type each, so that a port is never taken for a zone.

use std::fmt;

/// A data port's logical number: its place in the configuration, equal on both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PortId(pub u8);

/// A zone's number: its place in the configuration's sorted list of zone names. 255 zones at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ZoneId(pub u8);

impl ZoneId {
    /// The firewall itself: packets for its own addresses go "to" this zone.
    pub const SELF: ZoneId = ZoneId(255);
}

/// A worker's number, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct WorkerId(pub u8);

/// The traffic group that a session belongs to (decision 28); 0 unless configured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupId(pub u8);

/// A rule's stable name as a number: a hash of its configured name, the same on both nodes and across
/// reloads (decision 7). The compiler refuses two rules whose ids collide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RuleId(pub u32);

impl RuleId {
    /// The rule behind all rules: what none of them decided is dropped.
    pub const DEFAULT_DENY: RuleId = RuleId(0);

    /// The id of the rule with this name: 32-bit FNV-1a, never 0.
    pub fn from_name(name: &str) -> RuleId {
        let mut hash = 0x811c_9dc5_u32;
        for byte in name.bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        RuleId(hash.max(1))
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleId({:#010x})", self.0)
    }
}
