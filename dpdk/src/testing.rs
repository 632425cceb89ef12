//! Ports made of rings, and the harness behind [`dpdk::test`](macro@crate::test).
//!
//! A [`RingPort`] is a real port of a real driver whose wire is a pair of rings: what a test injects comes
//! out of a receive queue, what is transmitted can be collected, bit for bit.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use thiserror::Error;

use crate::eal::{Eal, EalConfig, HugePages};
use crate::errno::Errno;
use crate::mbuf::Mbuf;
use crate::mempool::{DEFAULT_DATA_ROOM, Mempool, MempoolConfig};
use crate::port::{Port, PortError, control};
use crate::queue::BURST;

/// The test's side of a port made of rings: one ring per queue and direction.
#[derive(Debug)]
pub struct RingPort {
    rings: Arc<Rings>,
}

/// Why there is no ring port.
#[derive(Debug, Error)]
pub enum RingPortError {
    /// Places must be a power of two, queues at least one and at most sixteen.
    #[error("a ring port has 1 to 16 queues and a power of two of places, not {queues} and {places}")]
    Shape {
        /// Queues in each direction.
        queues: u16,
        /// Places in each ring.
        places: u32,
    },
    /// DPDK refused.
    #[error("cannot make a ring port: {0}")]
    Create(Errno),
    /// The port was made but cannot be used.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl RingPort {
    /// A port with as many queues in each direction, whose rings hold `places - 1` packets each. To be
    /// started like any other.
    pub fn create(_eal: Eal, queues: u16, places: u32) -> Result<(Self, Port), RingPortError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if queues == 0 || queues > 16 || !places.is_power_of_two() || places < 2 {
            return Err(RingPortError::Shape { queues, places });
        }
        let control = control();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let make = |direction: &str| -> Result<Vec<Ring>, RingPortError> {
            (0..queues)
                .map(|queue| Ring::create(&format!("us-{direction}-{serial}-{queue}"), places))
                .collect()
        };
        let rings = Arc::new(Rings { rx: make("rx")?, tx: make("tx")? });
        let pointers = |rings: &[Ring]| rings.iter().map(|ring| ring.raw.as_ptr()).collect::<Vec<_>>();
        let (rx, tx) = (pointers(&rings.rx), pointers(&rings.tx));
        let name = format!("us{serial}");
        let zero_terminated = CString::new(name.as_str()).unwrap_or_default();
        // SAFETY: the EAL runs and the control lock is held; the arrays hold `queues` live rings each,
        // which the port keeps alive (see `adopt`'s last argument); the name is copied.
        let id = unsafe {
            let count = u32::from(queues);
            dpdk_sys::rte_eth_from_rings(zero_terminated.as_ptr(), rx.as_ptr(), count, tx.as_ptr(), count, 0)
        };
        let id = u16::try_from(id).map_err(|_| RingPortError::Create(Errno::last()))?;
        let device = format!("net_ring_{name}");
        let remove = CString::new(device.as_str()).ok();
        let port = Port::adopt(&control, id, device, remove, Some(Box::new(Arc::clone(&rings))))?;
        Ok((Self { rings }, port))
    }

    /// Lets a packet arrive on receive queue 0. Gives it back if the ring is full.
    pub fn inject(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.inject_on(0, mbuf)
    }

    /// Lets a packet arrive on a receive queue. Gives it back if the ring is full or there is none.
    pub fn inject_on(&mut self, queue: u16, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.rings.rx.get(usize::from(queue)) {
            Some(ring) => ring.push(mbuf),
            None => Err(mbuf),
        }
    }

    /// Lets packets arrive on receive queue 0, from the first on; what finds no room stays in `burst`, in
    /// order. Returns how many were taken. The port sees them all at once.
    #[inline]
    pub fn inject_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        self.rings.rx.first().map_or(0, |ring| ring.push_burst(burst))
    }

    /// Puts what was transmitted on queue 0 behind what is in `burst`, as far as there is room. Returns how
    /// many came.
    #[inline]
    pub fn collect_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        self.rings.tx.first().map_or(0, |ring| ring.pop_burst(burst))
    }

    /// Packets that wait on receive queue 0.
    pub fn waiting(&self) -> usize {
        self.rings.rx.first().map_or(0, Ring::len)
    }

    /// The oldest packet that was transmitted on queue 0.
    pub fn collect(&mut self) -> Option<Mbuf> {
        self.collect_from(0)
    }

    /// The oldest packet that was transmitted on a queue.
    pub fn collect_from(&mut self, queue: u16) -> Option<Mbuf> {
        self.rings.tx.get(usize::from(queue))?.pop()
    }
}

/// The EAL for tests: ordinary pages, no hardware, started by whichever test comes first in a process.
///
/// # Panics
/// If it does not start, with the reason.
pub fn eal() -> Eal {
    static START: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _start = START.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(eal) = Eal::get() {
        return eal;
    }
    match Eal::init(&test_config()) {
        Ok(eal) => eal,
        Err(error) => fail(&format!("the tests' EAL: {error}")),
    }
}

/// What [`eal`] starts with.
pub fn test_config() -> EalConfig {
    EalConfig { memory_mb: 128, huge_pages: HugePages::Never, ..EalConfig::default() }
}

/// Runs a test with a mempool of its own and checks that all of its mbufs are back at the end. The
/// expansion of [`dpdk::test`](macro@crate::test).
///
/// # Panics
/// If mbufs are missing at the end, with their number.
pub fn run<R>(capacity: u32, cache: u32, test: impl FnOnce(&Mempool) -> R) -> R {
    let config = MempoolConfig { capacity, cache, data_room: DEFAULT_DATA_ROOM };
    let pool = match Mempool::create(eal(), &config) {
        Ok(pool) => pool,
        Err(error) => fail(&format!("the test's mempool: {error}")),
    };
    let before = pool.available();
    let result = test(&pool);
    let after = pool.available();
    if after != before {
        fail(&format!("mbuf leak: {before} were available before the test and {after} are after it"));
    }
    result
}

/// A failed expectation of the test harness is the test's verdict.
#[allow(clippy::panic)]
fn fail(message: &str) -> ! {
    panic!("{message}")
}

#[derive(Debug)]
struct Rings {
    rx: Vec<Ring>,
    tx: Vec<Ring>,
}

/// A ring of mbufs with one user at each end: the [`RingPort`], which lends itself mutably, and a queue of
/// the port, whose handle is neither shared nor cloned.
#[derive(Debug)]
struct Ring {
    raw: NonNull<dpdk_sys::rte_ring>,
}

// SAFETY: each end has one user at a time (see above), wherever that lives; what the ring holds are
// packets, which may move between threads.
unsafe impl Send for Ring {}
// SAFETY: as above; `len` may be asked from anywhere.
unsafe impl Sync for Ring {}

impl Ring {
    fn create(name: &str, places: u32) -> Result<Self, RingPortError> {
        let name = CString::new(name).map_err(|_| RingPortError::Create(Errno::INVALID))?;
        let flags = dpdk_sys::US_RING_SINGLE_ENDED;
        // SAFETY: the EAL runs; the name is zero-terminated and copied; -1 is "any socket".
        let raw = unsafe { dpdk_sys::rte_ring_create(name.as_ptr(), places, -1, flags) };
        NonNull::new(raw).map(|raw| Self { raw }).ok_or_else(|| RingPortError::Create(Errno::last()))
    }

    fn push(&self, mbuf: Mbuf) -> Result<(), Mbuf> {
        let raw = mbuf.into_raw();
        let object = raw.as_ptr().cast();
        // SAFETY: the ring is live; it owns the packet if it took it (1), else nothing changed and the
        // pointer is still ours alone.
        unsafe {
            if dpdk_sys::us_ring_enqueue(self.raw.as_ptr(), &object, 1) == 1 {
                Ok(())
            } else {
                Err(Mbuf::from_raw(raw))
            }
        }
    }

    #[inline]
    fn push_burst<const N: usize>(&self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let count = burst.len();
        // SAFETY: the ring is live. The first `taken` packets belong to it from now on, so they are moved
        // out of the vector without being dropped; the others are moved to its beginning.
        unsafe {
            let packets = burst.as_mut_ptr();
            let taken = dpdk_sys::us_ring_enqueue(self.raw.as_ptr(), packets.cast(), count as u32) as usize;
            std::ptr::copy(packets.add(taken), packets, count - taken);
            burst.set_len(count - taken);
            taken
        }
    }

    #[inline]
    fn pop_burst<const N: usize>(&self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let (len, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: the ring is live and holds packets only; the vector has room for `room` more pointers,
        // and an `Mbuf` has the layout of one that is not null.
        unsafe {
            let free = burst.as_mut_ptr().add(len).cast();
            let count = dpdk_sys::us_ring_dequeue(self.raw.as_ptr(), free, room as u32) as usize;
            burst.set_len(len + count);
            count
        }
    }

    fn len(&self) -> usize {
        // SAFETY: the ring is live; the function only reads its ends.
        unsafe { dpdk_sys::us_ring_count(self.raw.as_ptr()) as usize }
    }

    fn pop(&self) -> Option<Mbuf> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the ring is live and holds packets only, each of which is now ours alone.
        unsafe {
            dpdk_sys::us_ring_dequeue(self.raw.as_ptr(), &mut raw, 1);
            NonNull::new(raw.cast()).map(|raw| Mbuf::from_raw(raw))
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.pop().is_some() {}
        // SAFETY: nobody else has the ring: the port that used it was closed before (it held the other
        // reference to `Rings`).
        unsafe { dpdk_sys::rte_ring_free(self.raw.as_ptr()) }
    }
}

/// Fetches everything that waits on a receive queue.
pub fn drain<const N: usize>(rx: &mut crate::RxQueue) -> ArrayVec<Mbuf, N> {
    let mut all = ArrayVec::new();
    while all.remaining_capacity() >= BURST.min(N) && rx.burst(&mut all) != 0 {}
    all
}
