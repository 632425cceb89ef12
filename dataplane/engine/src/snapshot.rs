//! What a worker needs to know beside its sessions: one immutable value, published as a whole, so that
//! policy, routes and neighbours always belong together (decision 7).

use crate::ids::{WorkerId, ZoneId};
use crate::neighbour::NeighbourTable;
use crate::policy::Policy;
use crate::routes::Routes;
use crate::track::Timeouts;
use std::sync::Arc;
use wire::steer::ToeplitzKey;
use wire::{Addr, MacAddr};

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
}

impl Snapshot {
    /// True if `addr` is one of the firewall's own.
    pub fn is_local(&self, addr: Addr) -> bool {
        self.ports.iter().any(|port| port.addresses.contains(&addr))
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
