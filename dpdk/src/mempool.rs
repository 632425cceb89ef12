//! Memory for packets, allocated at the start.
//!
//! Pools are never freed: a driver's ring, another thread's burst or a cache may hold an mbuf of it at
//! any time, and what is allocated at the start is needed until the end. So a [`Mempool`] is a plain
//! handle, and an [`Mbuf`] needs no life time.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use thiserror::Error;
use wire::PacketBuf;

use crate::eal::{CONTROL, Eal};
use crate::errno::Errno;
use crate::mbuf::Mbuf;

/// A pool of mbufs. Copies name the same pool.
#[derive(Clone, Copy)]
pub struct Mempool {
    raw: NonNull<dpdk_sys::rte_mempool>,
    eal: Eal,
    capacity: u32,
    data_room: u16,
    serial: u32,
}

/// What a pool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Mbufs in all. One less than a power of two wastes no memory.
    pub capacity: u32,
    /// Mbufs that each registered thread keeps aside for itself, at most.
    pub cache: u32,
    /// Bytes of a packet that one mbuf holds, head room not counted.
    pub data_room: u16,
}

/// Why there is no pool.
#[derive(Debug, Error)]
pub enum MempoolError {
    /// No mbufs.
    #[error("a mempool needs at least one mbuf")]
    Empty,
    /// The caches of DPDK have a largest size, and one cache must not hold the whole pool.
    #[error("a cache of {cache} mbufs does not fit a pool of {capacity}: at most {max}")]
    CacheTooLarge {
        /// As asked for.
        cache: u32,
        /// The pool's size.
        capacity: u32,
        /// What would do.
        max: u32,
    },
    /// The mbuf with its head room would be longer than 65,535 bytes.
    #[error("a data room of {0} bytes is too large: at most {max}", max = DATA_ROOM_MAX)]
    DataRoomTooLarge(u16),
    /// Not enough memory.
    #[error(
        "no memory for {capacity} mbufs of {data_room} bytes (about {need_mb} MB): raise the EAL's memory or ask \
         for fewer mbufs"
    )]
    NoMemory {
        /// The pool's size.
        capacity: u32,
        /// Bytes of a packet.
        data_room: u16,
        /// What it would take.
        need_mb: u64,
    },
    /// Anything else.
    #[error("the mempool of {capacity} mbufs was not made: {errno}")]
    Create {
        /// The pool's size.
        capacity: u32,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// A whole ordinary frame with room to spare.
pub const DEFAULT_DATA_ROOM: u16 = 2048;

const DATA_ROOM_MAX: u16 = u16::MAX - dpdk_sys::US_PKTMBUF_HEADROOM as u16;

/// Names of pools are global in the process and must differ.
static SERIAL: AtomicU32 = AtomicU32::new(0);

// SAFETY: the pool's own functions are safe from any thread (its ring is multi-producer and
// multi-consumer, its caches are one per registered thread), and it is never freed.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self { capacity: 16_383, cache: 256, data_room: DEFAULT_DATA_ROOM }
    }
}

impl MempoolConfig {
    /// Megabytes that the pool takes of the EAL's memory, about.
    pub fn need_mb(&self) -> u64 {
        // The mbuf itself, its head room, the pool's header and trailer, a slot of the ring.
        let each = u64::from(self.data_room) + 128 + 128 + 64 + 64 + 8;
        (u64::from(self.capacity) * each).div_ceil(1024 * 1024)
    }

    fn check(&self) -> Result<(), MempoolError> {
        let &Self { capacity, cache, data_room } = self;
        if capacity == 0 {
            return Err(MempoolError::Empty);
        }
        let max = (capacity / 3 * 2).min(dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE);
        if cache > max {
            return Err(MempoolError::CacheTooLarge { cache, capacity, max });
        }
        if data_room > DATA_ROOM_MAX {
            return Err(MempoolError::DataRoomTooLarge(data_room));
        }
        Ok(())
    }
}

impl Mempool {
    /// Makes a pool out of the EAL's memory.
    pub fn create(eal: Eal, config: &MempoolConfig) -> Result<Self, MempoolError> {
        config.check()?;
        let &MempoolConfig { capacity, cache, data_room } = config;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("us-pool-{serial}")).unwrap_or_default();
        let room = data_room + dpdk_sys::US_PKTMBUF_HEADROOM as u16;
        let control = CONTROL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the EAL runs; the name is zero-terminated and copied; all sizes were checked.
        let raw = unsafe {
            let socket = i32::try_from(dpdk_sys::rte_socket_id()).unwrap_or(-1);
            dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr(), capacity, cache, 0, room, socket)
        };
        let errno = Errno::last();
        drop(control);
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw, eal, capacity, data_room, serial }),
            None if errno == Errno::NO_MEMORY => {
                Err(MempoolError::NoMemory { capacity, data_room, need_mb: config.need_mb() })
            }
            None => Err(MempoolError::Create { capacity, errno }),
        }
    }

    /// The EAL that it was made with.
    pub fn eal(&self) -> Eal {
        self.eal
    }

    /// Mbufs in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of a packet that one mbuf holds behind the usual head room.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// Mbufs that nobody holds, the caches' included. Exact only while nothing is allocated or freed.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives for ever; the function only reads its counters.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Mbufs that somebody holds: drivers, queues, the program.
    pub fn in_use(&self) -> u32 {
        // SAFETY: as in `available`.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    /// An empty mbuf, or nothing if the pool has none left.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives for ever. What it returns is a fresh mbuf that nobody else holds.
        unsafe { Some(Mbuf::from_raw(NonNull::new(dpdk_sys::us_mbuf_alloc(self.raw.as_ptr()))?)) }
    }

    /// `count` empty mbufs at the end of `out`: all of them or, if the pool or `out` has not enough room,
    /// none (false).
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, out: &mut ArrayVec<Mbuf, N>, count: usize) -> bool {
        if count == 0 {
            return true;
        }
        if count > out.remaining_capacity() {
            return false;
        }
        let Ok(wanted) = u32::try_from(count) else { return false };
        let len = out.len();
        // SAFETY: `out` has room for `count` more, and an `Mbuf` has the layout of a non-null pointer to
        // an mbuf. DPDK writes either all of them and returns 0, or none.
        unsafe {
            let free = out.as_mut_ptr().add(len).cast::<*mut dpdk_sys::rte_mbuf>();
            if dpdk_sys::us_mbuf_alloc_bulk(self.raw.as_ptr(), free, wanted) != 0 {
                return false;
            }
            out.set_len(len + count);
        }
        true
    }

    /// A new one-segment frame that holds `bytes`; nothing if the pool is empty or they do not fit.
    pub fn frame(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        if !mbuf.set_len(bytes.len()) {
            return None;
        }
        mbuf.bytes_mut().copy_from_slice(bytes);
        Some(mbuf)
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl PartialEq for Mempool {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Mempool {}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("name", &format_args!("us-pool-{}", self.serial))
            .field("capacity", &self.capacity)
            .field("in_use", &self.in_use())
            .finish()
    }
}
