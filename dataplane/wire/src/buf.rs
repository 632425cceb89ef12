//! The packet-buffer trait: what the engine needs of an mbuf, and a heap buffer that offers the same
//! without DPDK.

/// What the receiving port said of a packet's checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxChecksum {
    /// The port did not look: software checks the IPv4 header.
    Unknown,
    /// The port found the checksum right.
    Good,
    /// The port found it wrong.
    Bad,
}

/// A frame, owned: dropping it frees it. Only the first segment is addressable; headers must lie there
/// (decision 6), else [`PacketBuf::linearise`] in the slow lane.
pub trait PacketBuf: Sized {
    /// The first segment's bytes, from the link-layer header on.
    fn bytes(&self) -> &[u8];

    /// The same, for rewriting in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// The whole frame's length in bytes, all segments together.
    fn frame_len(&self) -> usize;

    /// True if the frame lies in one segment.
    fn is_contiguous(&self) -> bool;

    /// Brings the whole frame into the first segment. False if there is no room: the frame is unchanged.
    fn linearise(&mut self) -> bool;

    /// Sets a contiguous frame's length: cuts padding, or grows into the tail room (new bytes are
    /// unspecified and must be written by the caller). False if there is no room or the frame is
    /// not contiguous: it is unchanged then.
    fn set_len(&mut self, len: usize) -> bool;

    /// The symmetric RSS hash where the port computed one.
    fn rss_hash(&self) -> Option<u32>;

    /// What the port said of the IPv4 header's checksum.
    fn ip_checksum(&self) -> RxChecksum;

    /// What the port said of the TCP, UDP or ICMP checksum.
    fn l4_checksum(&self) -> RxChecksum;
}

/// A frame on the heap, for tests, benches and tools.
#[derive(Debug, Clone)]
pub struct HeapBuf {
    bytes: Vec<u8>,
}

/// Like an mbuf's default data room.
const HEAP_ROOM: usize = 2048;

impl Default for HeapBuf {
    /// Empty, but with room, unlike a default vector.
    fn default() -> Self {
        Self::new()
    }
}

impl HeapBuf {
    /// An empty frame with room for 2,048 bytes.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(HEAP_ROOM) }
    }

    /// A frame that holds `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut buf = Self { bytes: Vec::with_capacity(bytes.len().max(HEAP_ROOM)) };
        buf.bytes.extend_from_slice(bytes);
        buf
    }
}

impl PacketBuf for HeapBuf {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    fn is_contiguous(&self) -> bool {
        true
    }

    fn linearise(&mut self) -> bool {
        true
    }

    fn set_len(&mut self, len: usize) -> bool {
        if len > self.bytes.capacity() {
            return false;
        }
        // Unspecified, as in an mbuf: whoever forgets to write them shall notice.
        self.bytes.resize(len, 0xa5);
        true
    }

    fn rss_hash(&self) -> Option<u32> {
        None
    }

    fn ip_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }

    fn l4_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
}
