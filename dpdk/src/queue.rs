//! Receive and transmit queues: the packet path's ends.
//!
//! A handle has one owner. It may move to a worker's thread and is then used from there only (`Send`,
//! not `Sync`, not `Clone`). While any handle lives, its port runs.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::mbuf::Mbuf;
use crate::port::Inner;

/// Packets in a burst. Drivers with vector code want at least this many at a time.
pub const BURST: usize = 32;

/// A port's receive queue.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    /// Keeps the port running.
    _inner: Arc<Inner>,
    _not_sync: PhantomData<Cell<()>>,
}

/// A port's transmit queue.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    multi_segment: bool,
    _inner: Arc<Inner>,
    _not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(inner: Arc<Inner>, queue: u16) -> Self {
        Self { port: inner.id(), queue, _inner: inner, _not_sync: PhantomData }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Puts what has arrived behind what is in `burst`, as far as there is room and at most [`BURST`], and
    /// starts loading each packet's first bytes. Returns how many came. Hand in an empty vector: some
    /// drivers return nothing when asked for fewer than four.
    #[inline]
    pub fn burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let len = burst.len();
        let room = burst.remaining_capacity().min(BURST);
        // SAFETY: the port runs as long as this handle, the queue exists and this is its only user;
        // `burst` has room for `room` more pointers. What the driver wrote are packets that belong to
        // nobody else, and an `Mbuf` has the layout of a non-null pointer to one.
        let count = unsafe {
            let free = burst.as_mut_ptr().add(len).cast::<*mut dpdk_sys::rte_mbuf>();
            let count = usize::from(dpdk_sys::us_rx_burst(self.port, self.queue, free, room as u16));
            burst.set_len(len + count);
            count
        };
        for mbuf in burst.iter().skip(len) {
            mbuf.prefetch_data();
        }
        count
    }
}

impl TxQueue {
    pub(crate) fn new(inner: Arc<Inner>, queue: u16, multi_segment: bool) -> Self {
        Self { port: inner.id(), queue, multi_segment, _inner: inner, _not_sync: PhantomData }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// True if the port sends frames of several segments. Where it does not, linearise them first.
    pub fn multi_segment(&self) -> bool {
        self.multi_segment
    }

    /// Hands packets to the port, from the first on. What it did not take stays in `burst`, in order; the
    /// caller tries again or frees it. Returns how many were taken.
    #[inline]
    pub fn burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let count = burst.len();
        if count == 0 {
            return 0;
        }
        let offered = count.min(usize::from(u16::MAX));
        // SAFETY: the port runs as long as this handle, the queue exists and this is its only user. The
        // first `sent` packets belong to the driver from now on, so they are moved out of the vector
        // without being dropped; the others are moved to its beginning.
        unsafe {
            let packets = burst.as_mut_ptr();
            let sent =
                usize::from(dpdk_sys::us_tx_burst(self.port, self.queue, packets.cast(), offered as u16));
            let rest = count - sent;
            if rest != 0 {
                std::ptr::copy(packets.add(sent), packets, rest);
            }
            burst.set_len(rest);
            sent
        }
    }
}
