//! What a worker needs to know beside its sessions: one immutable value, published as a whole, so that
//! policy, routes and neighbours always belong together (decision 7).

use crate::ids::{WorkerId, ZoneId};
use crate::neighbour::NeighbourTable;
use crate::policy::Policy;
use crate::routes::Routes;
use crate::track::Timeouts;
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
    pub ports: Vec<PortView>,
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
    pub fn is_local(&self, addr: Addr) -> bool {
        self.ports.iter().any(|port| port.is_own(addr))
    }

    /// True if nothing that goes to `addr` may be forwarded: multicast, or the broadcast address of the
    /// world or of an attached network.
    pub fn is_group(&self, addr: Addr) -> bool {
        match addr {
            Addr::V4([first, ..]) => {
                first >= 224 || self.ports.iter().any(|port| port.broadcasts.contains(&addr))
            }
            Addr::V6([first, ..]) => first == 0xff,
        }
    }
}
