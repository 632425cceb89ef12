//! Frames that tests put into the engine.

use wire::PacketBuf;
use wire::buf::{HeapBuf, RxChecksum};

/// A buffer that a test can make and look into.
pub trait TestBuf: PacketBuf + Clone {
    /// A frame that holds `bytes`.
    fn of(bytes: &[u8]) -> Self;

    /// The whole frame, all segments.
    fn whole(&self) -> Vec<u8>;
}

impl TestBuf for HeapBuf {
    fn of(bytes: &[u8]) -> Self {
        HeapBuf::from_bytes(bytes)
    }

    fn whole(&self) -> Vec<u8> {
        self.bytes().to_vec()
    }
}

/// A frame in two segments, and what a port said of it.
#[derive(Clone, Debug)]
pub struct Segmented {
    first: Vec<u8>,
    rest: Vec<u8>,
    /// Bytes that the first segment can hold.
    room: usize,
    rss: Option<u32>,
    l4: RxChecksum,
}

impl Segmented {
    /// A frame whose first segment has `at` bytes and room for `room`.
    pub fn split(bytes: &[u8], at: usize, room: usize) -> Self {
        let (first, rest) = bytes.split_at(at.min(bytes.len()));
        Self { first: first.to_vec(), rest: rest.to_vec(), room, rss: None, l4: RxChecksum::Unknown }
    }

    /// The same with the port's symmetric hash.
    pub fn with_rss(mut self, hash: u32) -> Self {
        self.rss = Some(hash);
        self
    }

    /// The same with the port's word on the transport checksum.
    pub fn with_l4(mut self, l4: RxChecksum) -> Self {
        self.l4 = l4;
        self
    }
}

impl TestBuf for Segmented {
    fn of(bytes: &[u8]) -> Self {
        Self::split(bytes, bytes.len(), 2_048)
    }

    fn whole(&self) -> Vec<u8> {
        [self.first.as_slice(), &self.rest].concat()
    }
}

impl PacketBuf for Segmented {
    fn bytes(&self) -> &[u8] {
        &self.first
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.first
    }

    fn frame_len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn is_contiguous(&self) -> bool {
        self.rest.is_empty()
    }

    fn linearise(&mut self) -> bool {
        let fits = self.frame_len() <= self.room;
        if fits {
            self.first.append(&mut self.rest);
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.rest.is_empty() && len <= self.room;
        if fits {
            self.first.resize(len, 0);
        }
        fits
    }

    fn rss_hash(&self) -> Option<u32> {
        self.rss
    }

    fn ip_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }

    fn l4_checksum(&self) -> RxChecksum {
        self.l4
    }
}
