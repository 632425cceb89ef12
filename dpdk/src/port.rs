//! Ports: finding the device, configuring what it can do, and starting it.
//!
//! A port starts once. Some drivers (af_packet among them) give up their sockets when stopped and would
//! come back deaf, so there is no restart: when the [`Port`] and all of its queue handles are gone it is
//! stopped, closed and its virtual device removed, and it can be opened anew.

mod attach;
mod error;

use std::any::Any;
use std::ffi::{CStr, CString};
use std::mem::zeroed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};

use wire::MacAddr;

use attach::{VDEV_BUS, attach, find};
pub use error::PortError;

use crate::device::{Bus, Device};
use crate::eal::{CONTROL, Eal};
use crate::errno::Errno;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::rss::RssKey;

/// A port, for control: its queues are separate handles.
#[derive(Debug)]
pub struct Port {
    inner: Arc<Inner>,
    info: PortInfo,
}

/// What a port is and can do, as its driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The device's name.
    pub device: String,
    /// The driver's name.
    pub driver: String,
    /// The port's own address.
    pub mac: MacAddr,
    /// Most receive queues.
    pub rx_queues_max: u16,
    /// Most transmit queues.
    pub tx_queues_max: u16,
    /// Most address filters, its own address included.
    pub mac_addresses_max: u32,
    /// Places in the table that maps hashes to receive queues; 0 if there is none.
    pub reta_size: u16,
    /// Bytes of an RSS key; 0 if there is no RSS.
    pub rss_key_len: u8,
    /// Largest MTU.
    pub mtu_max: u16,
    /// Everything it offers.
    pub capabilities: PortFeatures,
}

/// Things that hardware may do for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortFeatures {
    /// Spreads packets over receive queues by a hash.
    pub rss: bool,
    /// Leaves that hash in the mbuf.
    pub rx_rss_hash: bool,
    /// Checks IPv4 header checksums.
    pub rx_ipv4_checksum: bool,
    /// Checks TCP and UDP checksums.
    pub rx_l4_checksum: bool,
    /// Receives frames that are longer than an mbuf.
    pub rx_scatter: bool,
    /// Writes IPv4 header checksums.
    pub tx_ipv4_checksum: bool,
    /// Writes TCP and UDP checksums.
    pub tx_l4_checksum: bool,
    /// Sends frames of several segments.
    pub tx_multi_segment: bool,
}

/// How a port is to be run.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues, one per worker.
    pub rx_queues: u16,
    /// Transmit queues, one per sender.
    pub tx_queues: u16,
    /// The hash key, for ports that have RSS; `None`: no RSS.
    pub rss_key: Option<RssKey>,
    /// Descriptors of each receive queue; adjusted to what the port allows.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; adjusted to what the port allows.
    pub tx_descriptors: u16,
    /// Longest network-layer packet, in bytes.
    pub mtu: u16,
    /// Accept frames for any address.
    pub promiscuous: bool,
}

/// A started port's queues.
#[derive(Debug)]
pub struct Queues {
    /// Receive queues, by number.
    pub rx: Vec<RxQueue>,
    /// Transmit queues, by number.
    pub tx: Vec<TxQueue>,
    /// What the hardware does now.
    pub features: PortFeatures,
}

/// A port's counters since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets that the port dropped because nobody fetched them in time.
    pub rx_missed: u64,
    /// Frames with errors.
    pub rx_errors: u64,
    /// Packets dropped because the mempool was empty.
    pub rx_no_mbuf: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that the port took but could not send.
    pub tx_errors: u64,
}

/// A link as its driver sees it. Virtual devices call themselves up, whatever lies below: ask the kernel
/// about the interface of an af_packet port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Frames can pass.
    pub up: bool,
    /// Speed, 0 or all ones where unknown.
    pub speed_mbps: u32,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// A DPDK port that is ours, until the last handle goes.
#[derive(Debug)]
pub(crate) struct Inner {
    id: u16,
    name: String,
    started: AtomicBool,
    /// The bus device to remove at the end, if this crate made it.
    remove: Option<CString>,
    /// What must outlive the port, such as a test port's rings.
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

/// One bit for every DPDK port that has an `Inner`.
static OPEN: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(dpdk_sys::RTE_MAX_ETHPORTS <= 64);

/// Ethernet header and frame check sequence.
const ETHER_OVERHEAD: u32 = 18;

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rss_key: None,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            promiscuous: true,
        }
    }
}

impl Port {
    /// Finds the device's port; a virtual device is created.
    pub fn open(eal: Eal, device: &Device) -> Result<Self, PortError> {
        let control = control();
        let name = device.name().to_owned();
        let mut remove = None;
        let id = match find(&name) {
            Some(id) => id,
            None if device.bus() == Bus::Pci && !eal.allows(device) => {
                return Err(PortError::NotAllowed(name));
            }
            None if device.bus() == Bus::Pci => return Err(PortError::NotProbed(name)),
            None => {
                attach(device)?;
                remove = CString::new(name.clone()).ok();
                find(&name).ok_or_else(|| PortError::NoDriver(device.to_string()))?
            }
        };
        Self::adopt(&control, id, name, remove, None)
    }

    /// Takes a port that exists, which nobody else has taken.
    pub(crate) fn adopt(
        _control: &MutexGuard<'_, ()>,
        id: u16,
        name: String,
        remove: Option<CString>,
        keep: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Self, PortError> {
        let bit = 1 << id;
        if OPEN.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(PortError::AlreadyOpen(name));
        }
        let inner = Inner { id, name, started: AtomicBool::new(false), remove, _keep: keep };
        let info = match inner.info() {
            Ok(info) => info,
            Err(error) => {
                inner.close();
                // Closed here, under the lock that its `drop` would take again.
                std::mem::forget(inner);
                return Err(error);
            }
        };
        Ok(Self { inner: Arc::new(inner), info })
    }

    /// What the port is and can do.
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// DPDK's number for it, which received mbufs carry.
    pub fn dpdk_port(&self) -> u16 {
        self.inner.id
    }

    /// Configures and starts the port; received packets come from `pool`. Works once.
    pub fn start(&mut self, config: &PortConfig, pool: &Mempool) -> Result<Queues, PortError> {
        let _control = control();
        if self.inner.started.load(Ordering::Acquire) {
            return Err(PortError::AlreadyStarted(self.info.device.clone()));
        }
        let dev_info = self.inner.dev_info()?;
        let features = self.choose_features(config, pool, &dev_info)?;
        self.configure(config, &features, &dev_info)?;
        self.set_up_queues(config, pool, &dev_info)?;
        // SAFETY: the port is ours, configured and stopped.
        self.check("start", unsafe { dpdk_sys::rte_eth_dev_start(self.inner.id) })?;
        self.inner.started.store(true, Ordering::Release);
        self.set_promiscuous_locked(config.promiscuous)?;
        let rx = (0..config.rx_queues).map(|q| RxQueue::new(Arc::clone(&self.inner), q)).collect();
        let tx = (0..config.tx_queues)
            .map(|q| TxQueue::new(Arc::clone(&self.inner), q, features.tx_multi_segment))
            .collect();
        Ok(Queues { rx, tx, features })
    }

    /// Maps hashes to receive queues: hash `h` goes to queue `table[h % table.len()]`. The length is a
    /// power of two, at most the port's own table.
    pub fn set_reta(&self, table: &[u16]) -> Result<(), PortError> {
        let _control = control();
        let reta_size = self.info.reta_size;
        if !table.len().is_power_of_two() || table.len() > usize::from(reta_size) {
            return Err(PortError::RetaSize {
                device: self.info.device.clone(),
                len: table.len(),
                reta_size,
            });
        }
        const GROUP: usize = dpdk_sys::US_RETA_GROUP_SIZE as usize;
        let groups = usize::from(reta_size).div_ceil(GROUP);
        let mut entries = vec![dpdk_sys::rte_eth_rss_reta_entry64 { mask: 0, reta: [0; GROUP] }; groups];
        for (place, queue) in table.iter().cycle().take(usize::from(reta_size)).enumerate() {
            let entry = &mut entries[place / GROUP];
            entry.mask |= 1 << (place % GROUP);
            entry.reta[place % GROUP] = *queue;
        }
        // SAFETY: the port is ours; the array covers reta_size places.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(self.inner.id, entries.as_mut_ptr(), reta_size) };
        self.check("set its steering table", result)
    }

    /// Lets frames for one more address in.
    pub fn add_mac(&self, mac: MacAddr) -> Result<(), PortError> {
        let _control = control();
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: the port is ours; the address is only read.
        let result = unsafe { dpdk_sys::rte_eth_dev_mac_addr_add(self.inner.id, &mut address, 0) };
        self.check("add an address filter", result)
    }

    /// Takes such an address back.
    pub fn remove_mac(&self, mac: MacAddr) -> Result<(), PortError> {
        let _control = control();
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: the port is ours; the address is only read.
        let result = unsafe { dpdk_sys::rte_eth_dev_mac_addr_remove(self.inner.id, &mut address) };
        self.check("remove an address filter", result)
    }

    /// Accepts frames for any address, or no longer.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let _control = control();
        self.set_promiscuous_locked(on)
    }

    /// True while frames for any address are accepted.
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: the port is ours; only reads a flag.
        unsafe { dpdk_sys::rte_eth_promiscuous_get(self.inner.id) == 1 }
    }

    /// The counters.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let _control = control();
        // SAFETY: a struct of integers, for which zero is a value.
        let mut stats: dpdk_sys::rte_eth_stats = unsafe { zeroed() };
        // SAFETY: the port is ours and `stats` is what the function fills.
        let result = unsafe { dpdk_sys::rte_eth_stats_get(self.inner.id, &mut stats) };
        self.check("read its counters", result)?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }

    /// The link, without waiting for it.
    pub fn link(&self) -> Result<LinkState, PortError> {
        let _control = control();
        let mut link = dpdk_sys::us_link { speed_mbps: 0, up: 0, full_duplex: 0 };
        // SAFETY: the port is ours and `link` is what the function fills.
        let result = unsafe { dpdk_sys::us_link_get(self.inner.id, &mut link) };
        self.check("read its link state", result)?;
        Ok(LinkState { up: link.up != 0, speed_mbps: link.speed_mbps, full_duplex: link.full_duplex != 0 })
    }

    fn choose_features(
        &self,
        config: &PortConfig,
        pool: &Mempool,
        dev_info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<PortFeatures, PortError> {
        let info = &self.info;
        let device = || info.device.clone();
        for (direction, wanted, max) in [
            ("receive", config.rx_queues, info.rx_queues_max),
            ("transmit", config.tx_queues, info.tx_queues_max),
        ] {
            if wanted == 0 || wanted > max {
                return Err(PortError::QueueCount { device: device(), direction, wanted, max });
            }
        }
        if config.mtu < dev_info.min_mtu || config.mtu > info.mtu_max {
            return Err(PortError::Mtu { device: device(), mtu: config.mtu, max: info.mtu_max });
        }
        let frame = u32::from(config.mtu) + overhead(dev_info);
        let mut features = info.capabilities;
        if frame <= u32::from(pool.data_room()) {
            features.rx_scatter = false;
        } else if !features.rx_scatter {
            return Err(PortError::MbufTooSmall { device: device(), frame, data_room: pool.data_room() });
        }
        if config.rss_key.is_none() {
            features.rss = false;
        }
        features.rx_rss_hash &= features.rss;
        // virtio's "checked" includes frames of neighbours that never got a checksum: not fit to forward.
        features.rx_l4_checksum &= info.driver != "net_virtio";
        Ok(features)
    }

    fn configure(
        &self,
        config: &PortConfig,
        features: &PortFeatures,
        dev_info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<(), PortError> {
        // SAFETY: a struct of integers, enums with a zero and nullable pointers.
        let mut conf: dpdk_sys::rte_eth_conf = unsafe { zeroed() };
        conf.rxmode.mtu = u32::from(config.mtu);
        conf.rxmode.offloads = features.rx_offloads() & dev_info.rx_offload_capa;
        conf.txmode.offloads = features.tx_offloads() & dev_info.tx_offload_capa;
        conf.rxmode.mq_mode = dpdk_sys::US_MQ_RX_NONE;
        let mut key = config.rss_key.map(|key| key.bytes(key_len(dev_info)).to_vec());
        if let Some(key) = key.as_mut().filter(|_| features.rss) {
            conf.rxmode.mq_mode = dpdk_sys::US_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
            conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
            conf.rx_adv_conf.rss_conf.rss_hf = RSS_FLOWS & dev_info.flow_type_rss_offloads;
        }
        // SAFETY: the port is ours and stopped; `conf` and the key it points to outlive the call, which
        // copies them.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_configure(self.inner.id, config.rx_queues, config.tx_queues, &conf)
        };
        self.check("be configured", result)
    }

    fn set_up_queues(
        &self,
        config: &PortConfig,
        pool: &Mempool,
        dev_info: &dpdk_sys::rte_eth_dev_info,
    ) -> Result<(), PortError> {
        let (mut rx_count, mut tx_count) = (config.rx_descriptors, config.tx_descriptors);
        let id = self.inner.id;
        // SAFETY: the port is ours; both counts are in-out values.
        let result = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_count, &mut tx_count) };
        self.check("have its descriptors adjusted", result)?;
        // SAFETY: the port is ours and its device exists.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) } as u32;
        for queue in 0..config.rx_queues {
            // SAFETY: the port is ours, configured with this many queues and stopped; the defaults come
            // from its driver; the pool is never freed.
            let result = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_count,
                    socket,
                    &dev_info.default_rxconf,
                    pool.as_ptr(),
                )
            };
            self.check("set up a receive queue", result)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            let result = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_count, socket, &dev_info.default_txconf)
            };
            self.check("set up a transmit queue", result)?;
        }
        Ok(())
    }

    fn set_promiscuous_locked(&self, on: bool) -> Result<(), PortError> {
        // SAFETY: the port is ours and the control lock is held.
        let result = unsafe {
            if on {
                dpdk_sys::rte_eth_promiscuous_enable(self.inner.id)
            } else {
                dpdk_sys::rte_eth_promiscuous_disable(self.inner.id)
            }
        };
        match Errno::check(result) {
            // A driver without the notion gets every frame anyway.
            Err(Errno::NOT_SUPPORTED) => Ok(()),
            _ => self.check("change its promiscuous mode", result),
        }
    }

    fn check(&self, what: &'static str, result: i32) -> Result<(), PortError> {
        self.inner.check(what, result)
    }
}

impl Inner {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    fn check(&self, what: &'static str, result: i32) -> Result<(), PortError> {
        let failed = |errno| PortError::Operation { device: self.name.clone(), what, errno };
        Errno::check(result).map(drop).map_err(failed)
    }

    fn dev_info(&self) -> Result<dpdk_sys::rte_eth_dev_info, PortError> {
        // SAFETY: a struct of integers, enums with a zero and nullable pointers.
        let mut info: dpdk_sys::rte_eth_dev_info = unsafe { zeroed() };
        // SAFETY: the port exists and is ours; `info` is what the function fills.
        let result = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, &mut info) };
        self.check("be asked what it can do", result)?;
        Ok(info)
    }

    fn info(&self) -> Result<PortInfo, PortError> {
        let raw = self.dev_info()?;
        let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port is ours; `mac` is what the function fills.
        self.check("tell its address", unsafe { dpdk_sys::rte_eth_macaddr_get(self.id, &mut mac) })?;
        let driver = if raw.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: a zero-terminated string that the driver owns as long as the port exists.
            unsafe { CStr::from_ptr(raw.driver_name) }.to_string_lossy().into_owned()
        };
        let frame_mtu = raw.max_rx_pktlen.saturating_sub(overhead(&raw));
        let mtu_max = u16::try_from(frame_mtu).unwrap_or(u16::MAX).min(raw.max_mtu);
        Ok(PortInfo {
            device: self.name.clone(),
            driver,
            mac: MacAddr(mac.addr_bytes),
            rx_queues_max: raw.max_rx_queues,
            tx_queues_max: raw.max_tx_queues,
            mac_addresses_max: raw.max_mac_addrs,
            reta_size: raw.reta_size,
            rss_key_len: raw.hash_key_size,
            mtu_max,
            capabilities: PortFeatures::of(&raw),
        })
    }

    /// To be called once, under the control lock.
    fn close(&self) {
        // SAFETY: the port is ours, no queue handle is left and nobody will use it again. Errors cannot
        // be acted on at this point; DPDK writes them to stderr.
        unsafe {
            if self.started.load(Ordering::Acquire) {
                dpdk_sys::rte_eth_dev_stop(self.id);
            }
            dpdk_sys::rte_eth_dev_close(self.id);
            if let Some(name) = &self.remove {
                dpdk_sys::rte_eal_hotplug_remove(VDEV_BUS.as_ptr(), name.as_ptr());
            }
        }
        OPEN.fetch_and(!(1 << self.id), Ordering::AcqRel);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _control = control();
        self.close();
    }
}

impl PortFeatures {
    fn of(info: &dpdk_sys::rte_eth_dev_info) -> Self {
        let rx = |bits| info.rx_offload_capa & bits == bits;
        let tx = |bits| info.tx_offload_capa & bits == bits;
        Self {
            rss: info.flow_type_rss_offloads & RSS_FLOWS != 0,
            rx_rss_hash: rx(dpdk_sys::US_RX_OFFLOAD_RSS_HASH),
            rx_ipv4_checksum: rx(dpdk_sys::US_RX_OFFLOAD_IPV4_CKSUM),
            rx_l4_checksum: rx(RX_L4),
            rx_scatter: rx(dpdk_sys::US_RX_OFFLOAD_SCATTER),
            tx_ipv4_checksum: tx(dpdk_sys::US_TX_OFFLOAD_IPV4_CKSUM),
            tx_l4_checksum: tx(TX_L4),
            tx_multi_segment: tx(dpdk_sys::US_TX_OFFLOAD_MULTI_SEGS),
        }
    }

    fn rx_offloads(&self) -> u64 {
        bits(self.rx_rss_hash, dpdk_sys::US_RX_OFFLOAD_RSS_HASH)
            | bits(self.rx_ipv4_checksum, dpdk_sys::US_RX_OFFLOAD_IPV4_CKSUM)
            | bits(self.rx_l4_checksum, RX_L4)
            | bits(self.rx_scatter, dpdk_sys::US_RX_OFFLOAD_SCATTER)
    }

    fn tx_offloads(&self) -> u64 {
        bits(self.tx_ipv4_checksum, dpdk_sys::US_TX_OFFLOAD_IPV4_CKSUM)
            | bits(self.tx_l4_checksum, TX_L4)
            | bits(self.tx_multi_segment, dpdk_sys::US_TX_OFFLOAD_MULTI_SEGS)
    }
}

const RX_L4: u64 = dpdk_sys::US_RX_OFFLOAD_TCP_CKSUM | dpdk_sys::US_RX_OFFLOAD_UDP_CKSUM;
const TX_L4: u64 = dpdk_sys::US_TX_OFFLOAD_TCP_CKSUM | dpdk_sys::US_TX_OFFLOAD_UDP_CKSUM;
const RSS_FLOWS: u64 = dpdk_sys::US_RSS_IP | dpdk_sys::US_RSS_TCP | dpdk_sys::US_RSS_UDP;

fn bits(on: bool, bits: u64) -> u64 {
    if on { bits } else { 0 }
}

pub(crate) fn control() -> MutexGuard<'static, ()> {
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a frame that the MTU does not count, as DPDK itself derives them.
fn overhead(info: &dpdk_sys::rte_eth_dev_info) -> u32 {
    let max_mtu = u32::from(info.max_mtu);
    if info.max_mtu != dpdk_sys::US_MTU_UNLIMITED && info.max_rx_pktlen > max_mtu {
        info.max_rx_pktlen - max_mtu
    } else {
        ETHER_OVERHEAD
    }
}

/// Drivers that leave the length open take the classic 40 bytes.
fn key_len(info: &dpdk_sys::rte_eth_dev_info) -> usize {
    if info.hash_key_size == 0 { 40 } else { usize::from(info.hash_key_size) }
}
