//! DPDK, typed and safe: the only crate that calls it.
//!
//! | to get | call |
//! |---|---|
//! | the EAL, once a process | [`Eal::init`] |
//! | memory for packets | [`Mempool::create`] |
//! | a port and its queues | [`Port::open`], [`Port::start`] |
//! | packets | [`RxQueue::burst`], [`TxQueue::burst`], [`Mempool::alloc`] |
//! | a worker thread with mempool caches | [`LcoreGuard::register`] |
//! | ports made of rings, and tests | [`testing`], [`test`](macro@test) |
//!
//! What makes it hard to misuse: an [`Eal`] value is the proof that initialisation took place, and
//! everything else is made from it; an [`Mbuf`] is move-only and frees its packet when dropped; a queue
//! is an owned handle that may move to a worker's thread but never be shared; a port stops only when all
//! its queue handles are gone.
//!
//! Per packet there is no call into C: [`Mbuf`]'s accessors are plain loads at the offsets that the
//! installed headers give. Calls are made once a burst.
#![allow(unsafe_code)]

mod device;
mod eal;
mod errno;
mod hugepages;
mod lcore;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod rss;
pub mod testing;

pub use device::{Device, DeviceError};
pub use dpdk_macros::test;
pub use eal::{Eal, EalConfig, EalError, HugePages};
pub use errno::Errno;
pub use hugepages::PageTurn;
pub use lcore::{LcoreError, LcoreGuard, cycles, keep_busy, tsc_hz};
pub use mbuf::{Burst, L4Checksum, Mbuf, free_burst};
pub use mempool::{DEFAULT_DATA_ROOM, Mempool, MempoolConfig, MempoolError};
pub use port::{LinkState, Port, PortConfig, PortError, PortFeatures, PortInfo, PortStats, Queues};
pub use queue::{BURST, RxQueue, TxQueue};
pub use rss::{RssKey, RssKeyError};

/// The DPDK release that the process runs with, as it names itself ("DPDK 22.11.11").
pub fn version() -> String {
    // SAFETY: returns a pointer to a static string of the library.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}
