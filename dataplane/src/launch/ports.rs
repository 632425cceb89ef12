//! Devices become data ports: opened, given as many queues as workers can use, started.

use crate::config::{self, Config};
use dpdk::{Device, DeviceError, Eal, Mempool, Port, PortConfig, PortError, PortFeatures, Queues, RssKey};
use engine::ZoneId;
use engine::snapshot::Steering;
use ipnet::IpNet;
use std::net::Ipv6Addr;
use thiserror::Error;
use wire::steer::BUCKETS;
use wire::{Addr, MacAddr};

/// Why a data port cannot be had. Each names the port as the configuration does.
#[derive(Debug, Error)]
pub enum DataPortError {
    /// The device's name.
    #[error("port `{port}`: {source}")]
    Device {
        /// The port.
        port: String,
        /// What is wrong.
        source: DeviceError,
    },
    /// The device.
    #[error("port `{port}`: {source}")]
    Port {
        /// The port.
        port: String,
        /// What is wrong.
        source: PortError,
    },
}

/// A port that runs.
pub struct OpenPort {
    /// For control.
    pub port: Port,
    /// For the workers.
    pub queues: Queues,
}

/// All devices, for the EAL: data ports, then sync links.
pub fn devices(config: &Config) -> Result<Vec<Device>, DataPortError> {
    let mut devices = data_devices(config)?;
    for link in config.pair.iter().flat_map(|pair| &pair.links) {
        devices.push(link_device(link)?);
    }
    Ok(devices)
}

/// The devices of the data ports.
pub fn data_devices(config: &Config) -> Result<Vec<Device>, DataPortError> {
    config.ports.iter().map(|settings| device(&settings.name, &settings.device)).collect()
}

/// The device of a sync link.
pub fn link_device(link: &config::SyncLink) -> Result<Device, DataPortError> {
    device(&link.name, &link.device)
}

fn device(name: &str, device: &config::Device) -> Result<Device, DataPortError> {
    let named = |source| DataPortError::Device { port: name.to_owned(), source };
    device.to_string().parse().map_err(named)
}

/// Opens and starts a port.
pub fn open(
    eal: Eal,
    settings: &config::Port,
    device: &Device,
    plan: &QueuePlan<'_>,
    pool: &Mempool,
) -> Result<OpenPort, DataPortError> {
    let failed = |source| DataPortError::Port { port: settings.name.clone(), source };
    let mut port = Port::open(eal, device).map_err(failed)?;
    let wanted = plan.port_config(&port, settings.mtu);
    let queues = port.start(&wanted, pool).map_err(failed)?;
    plan.steer(&port, &settings.name, &queues.features, wanted.rx_queues);
    Ok(OpenPort { port, queues })
}

/// How queues are dealt out.
pub struct QueuePlan<'s> {
    /// How many workers there are.
    pub workers: u16,
    /// Who owns which packets.
    pub steering: &'s Steering,
    /// Descriptors in each queue.
    pub descriptors: u16,
}

impl QueuePlan<'_> {
    fn port_config(&self, port: &Port, mtu: u16) -> PortConfig {
        let info = port.info();
        // With more than one queue this driver's sockets form a fan-out group from the moment they are
        // made: a queue that nobody polls would swallow its share of the packets.
        let rx_queues = if info.driver == "net_af_packet" {
            info.rx_queues_max
        } else {
            info.rx_queues_max.min(self.workers)
        };
        PortConfig {
            rx_queues,
            tx_queues: info.tx_queues_max.min(self.workers),
            rss_key: (rx_queues > 1).then(|| RssKey::symmetric(self.steering.key().word())),
            rx_descriptors: self.descriptors,
            tx_descriptors: self.descriptors,
            mtu,
            promiscuous: true,
        }
    }

    /// Lets the hardware steer as the software would: what it gets wrong goes through the mesh.
    fn steer(&self, port: &Port, name: &str, features: &PortFeatures, rx_queues: u16) {
        if !features.rss || rx_queues < 2 || usize::from(port.info().reta_size) < BUCKETS {
            return;
        }
        let table: Vec<u16> =
            (0..BUCKETS as u32).map(|bucket| u16::from(self.steering.owner(bucket).0) % rx_queues).collect();
        if let Err(error) = port.set_reta(&table) {
            tracing::warn!(port = name, %error, "the port does not steer packets to their workers: the mesh does");
        }
    }
}

/// Descriptors in each of `queues` receive queues, so that all of them, filled, leave half of the mbufs.
pub fn descriptors(mbufs: u32, queues: u32) -> u16 {
    let share = mbufs / 2 / queues.max(1);
    [1024, 512, 256].into_iter().find(|count| u32::from(*count) <= share).unwrap_or(128)
}

/// The link-local address that follows from a MAC address (RFC 4291 appendix A).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// A port as the packet path sees it.
pub fn view(zone: ZoneId, mac: MacAddr, mtu: u16, addresses: &[IpNet]) -> engine::snapshot::PortView {
    let mut own: Vec<Addr> = addresses.iter().map(|address| Addr::from(address.addr())).collect();
    if speaks_ipv6(addresses) {
        own.push(Addr::from(link_local(mac)));
    }
    // Both forms of it, ones and zeros (RFC 1812 §4.2.3.1). A network of one or two addresses has none
    // (RFC 3021).
    let broadcasts = addresses
        .iter()
        .filter(|address| address.addr().is_ipv4() && address.prefix_len() < 31)
        .flat_map(|address| [address.broadcast(), address.network()].map(Addr::from))
        .collect();
    engine::snapshot::PortView {
        zone,
        mac,
        mtu,
        addresses: own,
        broadcasts,
        virtual_mac: None,
        node_address: Vec::new(),
        partner_address: Vec::new(),
    }
}

/// True if one of the addresses is of IPv6.
pub fn speaks_ipv6(addresses: &[IpNet]) -> bool {
    addresses.iter().any(|address| address.addr().is_ipv6())
}

/// The kernel interface that a virtual device sits on.
pub fn interface(device: &config::Device) -> Option<String> {
    let device: Device = device.to_string().parse().ok()?;
    device.arg("iface").map(str::to_owned)
}

/// Which worker polls a receive queue.
pub fn poller(queue: u16, workers: u16) -> usize {
    usize::from(queue % workers.max(1))
}

/// Which worker owns the transmit queue that `worker` sends by; itself if there are enough.
pub fn sender(worker: u16, tx_queues: u16) -> u16 {
    worker % tx_queues.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);

    #[test]
    fn a_link_local_address_follows_from_the_mac_where_ipv6_is_spoken() {
        assert_eq!(link_local(MAC), "fe80::5eff:fe10:1".parse::<Ipv6Addr>().unwrap());
        let both = ["10.1.0.1/24".parse().unwrap(), "fd00:1::1/64".parse().unwrap()];
        let view6 = view(ZoneId(0), MAC, 1500, &both);
        assert_eq!(view6.addresses.len(), 3);
        assert_eq!(view6.addresses[2], Addr::from(link_local(MAC)));
        assert_eq!(view6.broadcasts, [Addr::V4([10, 1, 0, 255]), Addr::V4([10, 1, 0, 0])]);
        let view4 = view(ZoneId(0), MAC, 1500, &both[..1]);
        assert_eq!(view4.addresses, [Addr::V4([10, 1, 0, 1])]);
    }

    #[test]
    fn point_to_point_networks_have_no_broadcast_address() {
        let addresses = ["10.1.0.0/31".parse().unwrap(), "10.2.0.1/32".parse().unwrap()];
        assert_eq!(view(ZoneId(0), MAC, 1500, &addresses).broadcasts, []);
    }

    #[test]
    fn queues_are_dealt_out_so_that_each_has_a_poller_and_each_worker_a_way_out() {
        assert_eq!((0..4).map(|queue| poller(queue, 2)).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!((0..4).map(|worker| sender(worker, 1)).collect::<Vec<_>>(), [0; 4]);
        assert_eq!((0..4).map(|worker| sender(worker, 2)).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!((0..4).map(|worker| sender(worker, 4)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn few_mbufs_mean_short_queues() {
        assert_eq!(descriptors(16_384, 2), 1024);
        assert_eq!(descriptors(16_384, 16), 512);
        assert_eq!(descriptors(1_024, 2), 256);
        assert_eq!(descriptors(1_024, 32), 128);
    }
}
