//! UDP (RFC 768; RFC 9868 for bytes behind its length).

use crate::checksum;
use crate::desc::{Desc, Kind};
use crate::ether::{EtherHeader, Link};
use crate::key::Addr;
use std::ops::Range;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// The header, as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Sender's port; 0 if no answer is expected.
    pub sport: U16,
    /// Receiver's port.
    pub dport: U16,
    /// Length of header and payload.
    pub len: U16,
    /// Checksum; 0 means none, which IPv6 does not allow.
    pub check: U16,
}

impl UdpHeader {
    /// The header that `desc` found; `None` if the packet is no UDP.
    pub fn view<'a>(frame: &'a [u8], desc: &Desc) -> Option<&'a Self> {
        if desc.kind != Kind::Udp {
            return None;
        }
        Self::ref_from_prefix(frame.get(usize::from(desc.l4)..)?).ok().map(|(header, _)| header)
    }

    /// Writes a header; the checksum is left to [`crate::checksum`]. `None` if there is no room or the
    /// payload is too long.
    pub fn emit(segment: &mut [u8], sport: u16, dport: u16, payload_len: usize) -> Option<usize> {
        let len = U16::new(u16::try_from(HEADER_LEN + payload_len).ok()?);
        let header = Self { sport: U16::new(sport), dport: U16::new(dport), len, check: U16::ZERO };
        header.write_to_prefix(segment).ok()?;
        Some(HEADER_LEN)
    }
}

/// A UDP datagram to one of the node's own ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent the frame to whom on the link.
    pub link: Link,
    /// The sender's address.
    pub src: Addr,
    /// The receiver's address.
    pub dst: Addr,
    /// The sender's port.
    pub sport: u16,
    /// The receiver's port.
    pub dport: u16,
    /// Time to live, or hop limit, as it arrived.
    pub ttl: u8,
    /// Where in the frame the payload is.
    pub payload: Range<usize>,
}

/// Reads a frame that carries a UDP datagram to one of `ports` at one of the addresses `own`. `None` for
/// everything else, and for a datagram whose checksum is wrong.
pub fn parse_udp_to(frame: &[u8], own: &[Addr], ports: &[u16]) -> Option<Datagram> {
    let desc = crate::parse(frame, frame.len()).ok()?;
    let header = UdpHeader::view(frame, &desc)?;
    let (src, dst) = (desc.key.src(), desc.key.dst());
    let (sport, dport) = (header.sport.get(), header.dport.get());
    if !own.contains(&dst) || !ports.contains(&dport) || !checksum::verify_transport(frame, &desc) {
        return None;
    }
    let start = usize::from(desc.l4) + HEADER_LEN;
    let end = usize::from(desc.l4) + usize::from(header.len.get());
    frame.get(start..end)?;
    let ether = EtherHeader::view(frame)?;
    let link = Link { src: ether.src(), dst: ether.dst() };
    Some(Datagram { link, src, dst, sport, dport, ttl: desc.ttl, payload: start..end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::{ParseError, parse};

    #[test]
    fn header_is_read_and_written() {
        let frame = Frame::udp([10, 1, 0, 10], [10, 2, 0, 10], 5353, 53).payload(b"abc").bytes();
        let desc = parse(&frame, frame.len()).unwrap();
        let header = UdpHeader::view(&frame, &desc).unwrap();
        assert_eq!((header.sport.get(), header.dport.get(), header.len.get()), (5353, 53, 11));
        let mut out = [0u8; 8];
        assert_eq!(UdpHeader::emit(&mut out, 5353, 53, 3), Some(8));
        assert_eq!(out[..6], frame[34..40]);
        assert_eq!(UdpHeader::emit(&mut out, 1, 2, 65_528), None);
    }

    #[test]
    fn lengths_beyond_the_packet_are_refused_and_a_surplus_is_not() {
        let good = Frame::udp([10, 1, 0, 10], [10, 2, 0, 10], 1, 2).payload(b"abcd").bytes();
        for (len, verdict) in
            [(7, Err(ParseError::BadUdpLen)), (13, Err(ParseError::BadUdpLen)), (9, Ok(Kind::Udp))]
        {
            let mut frame = good.clone();
            frame[39] = len;
            assert_eq!(parse(&frame, frame.len()).map(|d| d.kind), verdict, "length {len}");
        }
    }
}
