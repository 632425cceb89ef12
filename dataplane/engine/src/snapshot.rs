//! What a worker needs to know beside its sessions: one immutable value, published as a whole, so that
//! policy, routes and neighbours always belong together (decision 7).

use crate::hash::{FACTOR, OFFSET, fold};
use crate::ids::{WorkerId, ZoneId};
use crate::neighbour::NeighbourTable;
use crate::policy::Policy;
use crate::routes::Routes;
use crate::track::Timeouts;
use std::ops::Deref;
use std::sync::Arc;
use wire::steer::ToeplitzKey;
use wire::{Addr, FlowKey, MacAddr};

/// A data port as the packet path sees it.
#[derive(Clone, Debug)]
pub struct PortView {
    /// The zone behind it.
    pub zone: ZoneId,
    /// Its own MAC address.
    pub mac: MacAddr,
    /// The largest IP packet that leaves by it, in bytes.
    pub mtu: u16,
    /// The firewall's own addresses on it, the IPv6 link-local one included.
    pub addresses: Vec<Addr>,
    /// The directed broadcast addresses of its IPv4 networks: never forwarded (RFC 2644).
    pub broadcasts: Vec<Addr>,
    /// The MAC address that `addresses` are at while this node is the pair's active one; without a pair
    /// they are at `mac`.
    pub virtual_mac: Option<MacAddr>,
    /// This node's own addresses on that network, at `mac` in every role.
    pub node_address: Vec<Addr>,
    /// The partner's own addresses there.
    pub partner_address: Vec<Addr>,
}

impl PortView {
    /// The MAC address of what the firewall forwards and of its shared addresses.
    #[inline(always)]
    pub fn face(&self) -> MacAddr {
        self.virtual_mac.unwrap_or(self.mac)
    }

    /// True if `addr` is the firewall's own on this port, shared or not.
    pub fn is_own(&self, addr: Addr) -> bool {
        self.addresses.contains(&addr) || self.node_address.contains(&addr)
    }
}

/// All data ports by [`crate::PortId`], and a filter before their addresses: a new session asks several
/// times whether an address is the firewall's own, and nearly none is.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    list: Vec<PortView>,
    /// A bit for the hash of each own and broadcast address.
    filter: [u64; FILTER_WORDS],
}

const FILTER_WORDS: usize = 8;

impl From<Vec<PortView>> for Ports {
    fn from(list: Vec<PortView>) -> Self {
        let mut filter = [0; FILTER_WORDS];
        for port in &list {
            for addr in port.addresses.iter().chain(&port.node_address).chain(&port.broadcasts) {
                let (word, bit) = filter_place(*addr);
                filter[word] |= bit;
            }
        }
        Self { list, filter }
    }
}

impl Deref for Ports {
    type Target = [PortView];

    fn deref(&self) -> &[PortView] {
        &self.list
    }
}

impl Ports {
    /// False if `addr` is no port's own address and no broadcast address; true says nothing.
    #[inline(always)]
    pub(crate) fn may_know(&self, addr: Addr) -> bool {
        let (word, bit) = filter_place(addr);
        self.filter[word] & bit != 0
    }
}

#[inline(always)]
fn filter_place(addr: Addr) -> (usize, u64) {
    let word = match addr {
        Addr::V4(octets) => u32::from_ne_bytes(octets).into(),
        Addr::V6(octets) => {
            let wide = u128::from_ne_bytes(octets);
            wide as u64 ^ (wide >> 64) as u64
        }
    };
    // Neighbouring addresses differ in few bits: fold the product, whose halves depend on all of them.
    let hash = fold(word ^ OFFSET, FACTOR);
    (hash as usize >> 6 & (FILTER_WORDS - 1), 1 << (hash & 63))
}

/// UDP ports on which the pair's nodes talk over data ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlPorts {
    /// The session stream.
    pub stream: u16,
    /// Heartbeats.
    pub heartbeat: u16,
}

impl Default for ControlPorts {
    fn default() -> Self {
        Self { stream: 689, heartbeat: 801 }
    }
}

/// What concerns the pair and not a single port. The default is a node without a partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairView {
    /// Where the partner's datagrams are told from others.
    pub control: ControlPorts,
    /// So long after a takeover, TCP segments of unknown connections that a rule would admit are answered
    /// with a reset, so that their senders reconnect at once (decision 40). 0 is never.
    pub reset_unknown_ms: u32,
}

/// Which worker owns which of the 128 buckets of the steering hash (decision 5).
#[derive(Clone, Debug)]
pub struct Steering {
    key: ToeplitzKey,
    owners: [WorkerId; 128],
    workers: u8,
}

impl Steering {
    /// Buckets dealt out in turn.
    pub fn new(key: ToeplitzKey, workers: u8) -> Self {
        let workers = workers.max(1);
        Self { key, owners: std::array::from_fn(|bucket| WorkerId(bucket as u8 % workers)), workers }
    }

    /// True if there is nobody to share with.
    #[inline(always)]
    pub fn is_single(&self) -> bool {
        self.workers == 1
    }

    /// The owner of the packets with this steering hash.
    #[inline(always)]
    pub fn owner(&self, hash: u32) -> WorkerId {
        self.owners.get((hash & 127) as usize).copied().unwrap_or_default()
    }

    /// The owner of the session with this key.
    pub fn owner_of(&self, key: &FlowKey) -> WorkerId {
        self.owner(self.key.flow_hash(key))
    }

    /// The hash's key.
    #[inline(always)]
    pub fn key(&self) -> &ToeplitzKey {
        &self.key
    }
}

/// Everything that workers read and never write.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The policy generation's low half: sessions bound under another one are re-evaluated.
    pub generation: u16,
    /// Data ports by [`crate::PortId`].
    pub ports: Ports,
    /// The compiled rules.
    pub policy: Arc<Policy>,
    /// Where to.
    pub routes: Arc<Routes>,
    /// Through whom.
    pub neighbours: Arc<NeighbourTable>,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// Who owns which packets.
    pub steering: Steering,
    /// The pair.
    pub pair: PairView,
}

impl Snapshot {
    /// True if `addr` is one of the firewall's own.
    #[inline]
    pub fn is_local(&self, addr: Addr) -> bool {
        self.ports.may_know(addr) && self.ports.iter().any(|port| port.is_own(addr))
    }

    /// True if nothing that goes to `addr` may be forwarded: multicast, or the broadcast address of the
    /// world or of an attached network.
    #[inline]
    pub fn is_group(&self, addr: Addr) -> bool {
        match addr {
            Addr::V4([first, ..]) => {
                first >= 224
                    || self.ports.may_know(addr)
                        && self.ports.iter().any(|port| port.broadcasts.contains(&addr))
            }
            Addr::V6([first, ..]) => first == 0xff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter never denies an address that a port has, in either family.
    #[test]
    fn an_own_address_is_never_filtered_out() {
        let v4 = |n: u16| Addr::V4([10, 1, (n >> 8) as u8, n as u8]);
        let v6 = |n: u16| Addr::from([0xfd00, 1, 0, 0, 0, 0, 0, n]);
        let port = |n: u16| PortView {
            zone: ZoneId(0),
            mac: MacAddr::default(),
            mtu: 1_500,
            addresses: vec![v4(n), v6(n)],
            broadcasts: vec![v4(n + 1_000)],
            virtual_mac: None,
            node_address: vec![v4(n + 2_000), v6(n + 2_000)],
            partner_address: vec![v4(n + 3_000)],
        };
        for first in 0..500 {
            let ports = Ports::from(vec![port(first), port(first + 500)]);
            for own in [v4(first), v6(first), v4(first + 1_500), v4(first + 2_000), v6(first + 2_500)] {
                assert!(ports.may_know(own), "{own:?}");
            }
            let strangers = (10_000..11_000).filter(|n| ports.may_know(v4(*n)) || ports.may_know(v6(*n)));
            assert!(strangers.count() < 150, "it filters nothing");
        }
    }
}
