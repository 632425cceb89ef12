//! Ethernet II (IEEE 802.3 §3.2.6, RFC 894, RFC 2464): 14 bytes, no tag.

use crate::key::MacAddr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header.
pub const HEADER_LEN: usize = 14;

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The header as it lies in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EtherHeader {
    /// Receiver.
    pub dst: [u8; 6],
    /// Sender.
    pub src: [u8; 6],
    /// What follows.
    pub ethertype: U16,
}

impl EtherHeader {
    /// The header at the frame's start; `None` if the frame is shorter.
    pub fn view(frame: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(frame).ok().map(|(header, _)| header)
    }

    /// The sender's address.
    pub fn src(&self) -> MacAddr {
        MacAddr(self.src)
    }

    /// The receiver's address.
    pub fn dst(&self) -> MacAddr {
        MacAddr(self.dst)
    }

    /// Writes a header at the frame's start; `None` if there is no room.
    pub fn emit(frame: &mut [u8], link: Link, ethertype: u16) -> Option<usize> {
        let header = Self { dst: link.dst.0, src: link.src.0, ethertype: U16::new(ethertype) };
        header.write_to_prefix(frame).ok()?;
        Some(HEADER_LEN)
    }
}

/// Both link-layer addresses of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Sender.
    pub src: MacAddr,
    /// Receiver.
    pub dst: MacAddr,
}

impl Link {
    /// Rewrites both addresses of a frame, as forwarding does. False if it is too short.
    #[inline(always)]
    pub fn rewrite(self, frame: &mut [u8]) -> bool {
        let Some(head) = frame.first_chunk_mut::<12>() else { return false };
        let ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]) = (self.dst.0, self.src.0);
        *head = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_written_read_and_rewritten() {
        let (a, b, c) = (MacAddr([2; 6]), MacAddr([4; 6]), MacAddr([6; 6]));
        let mut frame = [0u8; HEADER_LEN];
        assert_eq!(EtherHeader::emit(&mut frame, Link { src: a, dst: b }, ETHERTYPE_ARP), Some(14));
        let header = EtherHeader::view(&frame).unwrap();
        assert_eq!((header.src(), header.dst(), header.ethertype.get()), (a, b, ETHERTYPE_ARP));
        assert!(Link { src: b, dst: c }.rewrite(&mut frame));
        let header = EtherHeader::view(&frame).unwrap();
        assert_eq!((header.src(), header.dst(), header.ethertype.get()), (b, c, ETHERTYPE_ARP));
    }

    #[test]
    fn short_frames_have_no_header() {
        assert!(EtherHeader::view(&[0; 13]).is_none());
        let link = Link { src: MacAddr([2; 6]), dst: MacAddr([4; 6]) };
        assert_eq!(EtherHeader::emit(&mut [0; 13], link, ETHERTYPE_IPV4), None);
        assert!(!link.rewrite(&mut [0; 11]));
    }
}
