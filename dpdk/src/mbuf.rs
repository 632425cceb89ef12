//! The packet buffer.
//!
//! An [`Mbuf`] is one pointer. Its accessors are plain loads and stores at offsets that come from the
//! installed headers ([`dpdk_sys::us_mbuf_layout`]): nothing here calls into C per packet, except for
//! what changes a chain of segments.

use std::fmt;
use std::mem::{ManuallyDrop, size_of};
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys::us_mbuf_layout as layout;
use dpdk_sys::us_tx_offload_layout as tx_layout;
use wire::{PacketBuf, RxChecksum};

use crate::queue::BURST;

/// A packet, owned: it moves, is never copied, and goes back to its pool when dropped.
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<dpdk_sys::rte_mbuf>,
}

/// A burst of packets on its way.
pub type Burst = ArrayVec<Mbuf, BURST>;

/// Which transport checksum the port is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4Checksum {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

const _: () = assert!(size_of::<Option<Mbuf>>() == 8);

// SAFETY: an mbuf belongs to whoever holds the handle, and pools take it back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: a shared handle only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `raw` is the first segment of a live packet that nobody else holds: reference count 1 in every
    /// segment, lengths within the buffers.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(raw: NonNull<dpdk_sys::rte_mbuf>) -> Self {
        Self { raw }
    }

    /// The pointer, which now owns the packet.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> NonNull<dpdk_sys::rte_mbuf> {
        ManuallyDrop::new(self).raw
    }

    #[inline(always)]
    fn as_ptr(&self) -> *mut dpdk_sys::rte_mbuf {
        self.raw.as_ptr()
    }

    /// The port that it was received on, in DPDK's numbering.
    #[inline(always)]
    pub fn dpdk_port(&self) -> u16 {
        // SAFETY: a live mbuf (see `from_raw`), and the offset is that of a u16.
        unsafe { load(self.as_ptr(), layout::US_MBUF_PORT) }
    }

    /// Number of segments, 1 for a contiguous frame.
    #[inline(always)]
    pub fn segment_count(&self) -> u16 {
        // SAFETY: a live mbuf, and the offset is that of a u16.
        unsafe { load(self.as_ptr(), layout::US_MBUF_NB_SEGS) }
    }

    /// Free bytes before the first segment's data.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    /// Free bytes behind the first segment's data.
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        usize::from(self.buf_len())
            .saturating_sub(usize::from(self.data_off()))
            .saturating_sub(usize::from(self.data_len()))
    }

    /// Opens `count` bytes before the data, for a header to be written. They hold what was there before.
    /// False if there is no room: nothing changed.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> bool {
        let Some(offset) = self.headroom().checked_sub(count) else { return false };
        let Some(total) = u32::try_from(count).ok().and_then(|n| self.pkt_len().checked_add(n)) else {
            return false;
        };
        let raw = self.as_ptr();
        // `count` is at most the head room, so it and the new lengths fit: the segment stays in its
        // buffer.
        let data_len = self.data_len() + count as u16;
        // SAFETY: a live mbuf, held mutably; offsets and types are those of the fields.
        unsafe {
            store(raw, layout::US_MBUF_DATA_OFF, offset as u16);
            store(raw, layout::US_MBUF_DATA_LEN, data_len);
            store(raw, layout::US_MBUF_PKT_LEN, total);
        }
        true
    }

    /// Cuts `count` bytes off the front of the first segment. False if it has fewer: nothing changed.
    #[inline]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let Some(data_len) = usize::from(self.data_len()).checked_sub(count) else { return false };
        let raw = self.as_ptr();
        let (data_off, pkt_len) = (self.data_off() + count as u16, self.pkt_len() - count as u32);
        // SAFETY: as in `prepend`; `count` is at most the segment's length.
        unsafe {
            store(raw, layout::US_MBUF_DATA_OFF, data_off);
            store(raw, layout::US_MBUF_DATA_LEN, data_len as u16);
            store(raw, layout::US_MBUF_PKT_LEN, pkt_len);
        }
        true
    }

    /// Hangs `tail` behind the last segment. Gives it back if the chain would have too many segments.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        if u64::from(self.pkt_len()) + u64::from(tail.pkt_len()) > u64::from(u32::MAX) {
            return Err(tail);
        }
        // SAFETY: both are live packets held by nobody else; on success (0) the chain owns the tail, on
        // failure nothing was changed.
        if unsafe { dpdk_sys::us_mbuf_chain(self.as_ptr(), tail.as_ptr()) } != 0 {
            return Err(tail);
        }
        std::mem::forget(tail);
        Ok(())
    }

    /// The frame's bytes, segment by segment.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = Some(self.raw);
        std::iter::from_fn(move || {
            let raw = next?.as_ptr();
            // SAFETY: `raw` is a segment of this live packet, borrowed for as long as the slice lives;
            // data_off and data_len lie within its buffer; `next` is null or the next segment.
            unsafe {
                next = NonNull::new(load::<*mut dpdk_sys::rte_mbuf>(raw, layout::US_MBUF_NEXT));
                Some(std::slice::from_raw_parts(
                    data(raw),
                    usize::from(load::<u16>(raw, layout::US_MBUF_DATA_LEN)),
                ))
            }
        })
    }

    /// The whole frame, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }

    /// Asks the port to write checksums on transmission: the IPv4 header's if `ipv4`, the transport's if
    /// `l4`, for a frame whose link and network headers are that long. The transport field must hold the
    /// pseudo-header's sum. Ports without the feature
    /// ([`PortFeatures`](crate::PortFeatures)) send the frame as it is. False for lengths that the
    /// descriptor cannot express: nothing changed.
    pub fn request_checksums(&mut self, l2_len: u8, l3_len: u16, ipv4: bool, l4: Option<L4Checksum>) -> bool {
        let fits = u32::from(l2_len) < 1 << tx_layout::US_TX_L2_LEN_BITS
            && u32::from(l3_len) < 1 << tx_layout::US_TX_L3_LEN_BITS;
        if !fits {
            return false;
        }
        let mut flags = if ipv4 {
            dpdk_sys::US_MBUF_TX_IPV4 | dpdk_sys::US_MBUF_TX_IP_CKSUM
        } else {
            dpdk_sys::US_MBUF_TX_IPV6
        };
        flags |= match l4 {
            Some(L4Checksum::Tcp) => dpdk_sys::US_MBUF_TX_TCP_CKSUM,
            Some(L4Checksum::Udp) => dpdk_sys::US_MBUF_TX_UDP_CKSUM,
            None => 0,
        };
        let lengths = u64::from(l2_len) << tx_layout::US_TX_L2_LEN_SHIFT
            | u64::from(l3_len) << tx_layout::US_TX_L3_LEN_SHIFT;
        let kept = self.ol_flags() & !TX_CHECKSUM_FLAGS;
        let raw = self.as_ptr();
        // SAFETY: a live mbuf, held mutably; both fields are u64.
        unsafe {
            store(raw, layout::US_MBUF_OL_FLAGS, kept | flags);
            store(raw, layout::US_MBUF_TX_OFFLOAD, lengths);
        }
        true
    }

    /// What the port said of the frame, as a test's injected packet would have it from hardware.
    pub fn set_rx_metadata(&mut self, rss_hash: Option<u32>, ip: RxChecksum, l4: RxChecksum) {
        const RX: u64 = dpdk_sys::US_MBUF_RX_RSS_HASH
            | dpdk_sys::US_MBUF_RX_IP_CKSUM_MASK
            | dpdk_sys::US_MBUF_RX_L4_CKSUM_MASK;
        let flag = |state, good, bad| match state {
            RxChecksum::Unknown => 0,
            RxChecksum::Good => good,
            RxChecksum::Bad => bad,
        };
        let mut flags = self.ol_flags() & !RX;
        flags |= flag(ip, dpdk_sys::US_MBUF_RX_IP_CKSUM_GOOD, dpdk_sys::US_MBUF_RX_IP_CKSUM_BAD);
        flags |= flag(l4, dpdk_sys::US_MBUF_RX_L4_CKSUM_GOOD, dpdk_sys::US_MBUF_RX_L4_CKSUM_BAD);
        if rss_hash.is_some() {
            flags |= dpdk_sys::US_MBUF_RX_RSS_HASH;
        }
        let raw = self.as_ptr();
        // SAFETY: a live mbuf, held mutably; offsets and types are those of the fields.
        unsafe {
            store(raw, layout::US_MBUF_OL_FLAGS, flags);
            store(raw, layout::US_MBUF_RSS, rss_hash.unwrap_or(0));
        }
    }

    /// Starts loading the packet's first cache line.
    #[inline(always)]
    pub(crate) fn prefetch_data(&self) {
        // SAFETY: a live mbuf; a prefetch has no effect but on caches, whatever the address.
        unsafe {
            let pointer = data(self.as_ptr());
            #[cfg(target_arch = "x86_64")]
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(pointer.cast());
            #[cfg(not(target_arch = "x86_64"))]
            let _ = pointer;
        }
    }

    #[inline(always)]
    fn data_off(&self) -> u16 {
        // SAFETY: a live mbuf, and the offset is that of a u16.
        unsafe { load(self.as_ptr(), layout::US_MBUF_DATA_OFF) }
    }

    #[inline(always)]
    fn data_len(&self) -> u16 {
        // SAFETY: as above.
        unsafe { load(self.as_ptr(), layout::US_MBUF_DATA_LEN) }
    }

    #[inline(always)]
    fn buf_len(&self) -> u16 {
        // SAFETY: as above.
        unsafe { load(self.as_ptr(), layout::US_MBUF_BUF_LEN) }
    }

    #[inline(always)]
    fn pkt_len(&self) -> u32 {
        // SAFETY: a live mbuf, and the offset is that of a u32.
        unsafe { load(self.as_ptr(), layout::US_MBUF_PKT_LEN) }
    }

    #[inline(always)]
    fn ol_flags(&self) -> u64 {
        // SAFETY: a live mbuf, and the offset is that of a u64.
        unsafe { load(self.as_ptr(), layout::US_MBUF_OL_FLAGS) }
    }
}

impl PacketBuf for Mbuf {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: a live mbuf: data_len bytes from its data pointer on lie in its buffer, which was
        // initialised when the pool was made, and nobody writes there while this handle is borrowed.
        unsafe { std::slice::from_raw_parts(data(self.as_ptr()), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; nobody else holds the packet.
        unsafe { std::slice::from_raw_parts_mut(data(self.as_ptr()), usize::from(self.data_len())) }
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.pkt_len() as usize
    }

    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        self.segment_count() == 1
    }

    #[inline]
    fn linearise(&mut self) -> bool {
        // SAFETY: a live packet held by nobody else. The function copies the other segments behind the
        // first one's data and frees them; if they do not fit it changes nothing and answers -1.
        self.is_contiguous() || unsafe { dpdk_sys::us_mbuf_linearise(self.as_ptr()) } == 0
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) -> bool {
        let room = usize::from(self.buf_len()).saturating_sub(usize::from(self.data_off()));
        if len > room || !self.is_contiguous() {
            return false;
        }
        let raw = self.as_ptr();
        // SAFETY: a live mbuf, held mutably; `len` is within the buffer, hence within u16.
        unsafe {
            store(raw, layout::US_MBUF_DATA_LEN, len as u16);
            store(raw, layout::US_MBUF_PKT_LEN, len as u32);
        }
        true
    }

    #[inline(always)]
    fn rss_hash(&self) -> Option<u32> {
        if self.ol_flags() & dpdk_sys::US_MBUF_RX_RSS_HASH == 0 {
            return None;
        }
        // SAFETY: a live mbuf, and the offset is that of a u32.
        Some(unsafe { load(self.as_ptr(), layout::US_MBUF_RSS) })
    }

    #[inline(always)]
    fn ip_checksum(&self) -> RxChecksum {
        checksum(
            self.ol_flags() & dpdk_sys::US_MBUF_RX_IP_CKSUM_MASK,
            dpdk_sys::US_MBUF_RX_IP_CKSUM_GOOD,
            dpdk_sys::US_MBUF_RX_IP_CKSUM_BAD,
        )
    }

    #[inline(always)]
    fn l4_checksum(&self) -> RxChecksum {
        checksum(
            self.ol_flags() & dpdk_sys::US_MBUF_RX_L4_CKSUM_MASK,
            dpdk_sys::US_MBUF_RX_L4_CKSUM_GOOD,
            dpdk_sys::US_MBUF_RX_L4_CKSUM_BAD,
        )
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle owns the packet, and this is its end.
        unsafe { dpdk_sys::us_mbuf_free(self.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len", &self.pkt_len()).field("segments", &self.segment_count()).finish()
    }
}

/// Frees a whole burst at once, which is cheaper than one by one.
#[inline]
pub fn free_burst<const N: usize>(burst: &mut ArrayVec<Mbuf, N>) {
    let count = burst.len();
    if count == 0 {
        return;
    }
    // SAFETY: the first `count` places hold live packets that the vector owned until set_len(0), and an
    // `Mbuf` has the layout of a pointer to an mbuf.
    unsafe {
        burst.set_len(0);
        dpdk_sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), count as u32);
    }
}

const TX_CHECKSUM_FLAGS: u64 = dpdk_sys::US_MBUF_TX_IPV4
    | dpdk_sys::US_MBUF_TX_IPV6
    | dpdk_sys::US_MBUF_TX_IP_CKSUM
    | dpdk_sys::US_MBUF_TX_L4_MASK;

/// Both bits together mean "not in the packet, but the data is intact" (a virtual machine's neighbour
/// that left it out). Such a frame is not fit to be forwarded, so software may find that out.
#[inline(always)]
fn checksum(flags: u64, good: u64, bad: u64) -> RxChecksum {
    if flags == good {
        RxChecksum::Good
    } else if flags == bad {
        RxChecksum::Bad
    } else {
        RxChecksum::Unknown
    }
}

/// # Safety
/// `raw` points to a live mbuf and `offset` is the place of a field of type `T` in it.
#[inline(always)]
unsafe fn load<T: Copy>(raw: *const dpdk_sys::rte_mbuf, offset: layout::Type) -> T {
    // SAFETY: by the caller's promise in bounds, aligned and initialised.
    unsafe { raw.byte_add(offset as usize).cast::<T>().read() }
}

/// # Safety
/// As for [`load`], and nobody else uses the mbuf.
#[inline(always)]
unsafe fn store<T: Copy>(raw: *mut dpdk_sys::rte_mbuf, offset: layout::Type, value: T) {
    // SAFETY: by the caller's promise in bounds, aligned and not shared.
    unsafe { raw.byte_add(offset as usize).cast::<T>().write(value) }
}

/// # Safety
/// `raw` points to a live mbuf.
#[inline(always)]
unsafe fn data(raw: *mut dpdk_sys::rte_mbuf) -> *mut u8 {
    // SAFETY: buf_addr points to the buffer and data_off lies within it.
    unsafe {
        let buffer: *mut u8 = load(raw, layout::US_MBUF_BUF_ADDR);
        buffer.add(usize::from(load::<u16>(raw, layout::US_MBUF_DATA_OFF)))
    }
}
