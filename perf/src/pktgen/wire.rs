//! What carries a generator's frames.

use super::Side;
use crate::rig::{Result, Wires};
use dpdk::{Burst, Device, Eal, Mempool, Port, PortConfig, Queues};
use std::error::Error;
use wire::MacAddr;

/// Two ways to whatever lies between the generator's two sides.
pub trait Wire {
    /// Sends from the first on; what is not taken stays in `burst`.
    fn send(&mut self, side: Side, burst: &mut Burst);
    /// Puts what has come into `burst`, which is empty.
    fn receive(&mut self, side: Side, burst: &mut Burst);
    /// Places for packets on a side's way out, if that is known: what a sender should not exceed.
    fn room(&self, side: Side) -> usize;
}

/// Packets that wait for an in-process subject on one port, at most.
const BACKLOG: usize = 1024;

impl Wire for Wires {
    #[inline]
    fn send(&mut self, side: Side, burst: &mut Burst) {
        self.ports[side as usize].inject_burst(burst);
    }

    #[inline]
    fn receive(&mut self, side: Side, burst: &mut Burst) {
        self.ports[side as usize].collect_burst(burst);
    }

    #[inline]
    fn room(&self, side: Side) -> usize {
        BACKLOG.saturating_sub(self.ports[side as usize].waiting())
    }
}

/// Two ports of DPDK's: memif between processes, a network card, anything with a driver.
pub struct PortWire {
    queues: [Queues; 2],
    ports: [Port; 2],
}

impl PortWire {
    /// Opens and starts both devices.
    pub fn open(eal: Eal, devices: &[Device; 2], pool: &Mempool) -> Result<Self> {
        let [lan, wan] = devices;
        let start = |device: &Device| -> std::result::Result<(Queues, Port), Box<dyn Error>> {
            let mut port = Port::open(eal, device)?;
            let queues = port.start(&PortConfig::default(), pool)?;
            Ok((queues, port))
        };
        let ((lan_queues, lan), (wan_queues, wan)) = (start(lan)?, start(wan)?);
        Ok(Self { queues: [lan_queues, wan_queues], ports: [lan, wan] })
    }

    /// The ports' own MAC addresses.
    pub fn macs(&self) -> [MacAddr; 2] {
        [self.ports[0].info().mac, self.ports[1].info().mac]
    }

    /// The queues, for something that forwards between them. The ports run as long as both.
    pub fn into_parts(self) -> ([Queues; 2], [Port; 2]) {
        (self.queues, self.ports)
    }
}

impl Wire for PortWire {
    #[inline]
    fn send(&mut self, side: Side, burst: &mut Burst) {
        if let Some(queue) = self.queues[side as usize].tx.first_mut() {
            queue.burst(burst);
        }
    }

    #[inline]
    fn receive(&mut self, side: Side, burst: &mut Burst) {
        if let Some(queue) = self.queues[side as usize].rx.first_mut() {
            queue.burst(burst);
        }
    }

    #[inline]
    fn room(&self, _: Side) -> usize {
        usize::MAX
    }
}
