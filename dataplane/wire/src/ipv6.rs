//! IPv6 (RFC 8200) and its fragment header.

use crate::desc::{Desc, Kind};
use crate::ipv4::FragmentPlace;
use crate::key::Proto;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Extension headers that are walked (RFC 8200 §4.1): hop-by-hop options, only right behind the fixed header.
pub const HOP_BY_HOP: u8 = 0;
/// Routing (§4.4).
pub const ROUTING: u8 = 43;
/// Fragment (§4.5).
pub const FRAGMENT: u8 = 44;
/// Authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Destination options (§4.6).
pub const DEST_OPTIONS: u8 = 60;

/// The fixed header, as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version 6, traffic class, flow label.
    pub version_class_flow: U32,
    /// Length of what follows this header.
    pub payload_len: U16,
    /// What follows: an extension header or a protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Sender.
    pub src: [u8; 16],
    /// Receiver.
    pub dst: [u8; 16],
}

impl Ipv6Header {
    /// The header at the packet's start; `None` if it is cut short or no IPv6.
    pub fn view(packet: &[u8]) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(packet).ok()?;
        (header.version_class_flow.get() >> 28 == 6).then_some(header)
    }

    /// DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// Flow label (RFC 6437).
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0xf_ffff
    }

    /// Writes a header with traffic class and flow label 0. `None` if there is no room or the payload is
    /// too long.
    pub fn emit(
        packet: &mut [u8],
        src: [u8; 16],
        dst: [u8; 16],
        (next_header, hop_limit): (Proto, u8),
        payload_len: usize,
    ) -> Option<usize> {
        let header = Self {
            version_class_flow: U32::new(6 << 28),
            payload_len: U16::new(u16::try_from(payload_len).ok()?),
            next_header: next_header.0,
            hop_limit,
            src,
            dst,
        };
        header.write_to_prefix(packet).ok()?;
        Some(HEADER_LEN)
    }
}

/// The fragment header (§4.5), as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FragmentHeader {
    /// The first header of the fragmentable part.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in bytes (a multiple of 8); the lowest bit says that more follow.
    pub offset_more: U16,
    /// Identification.
    pub id: U32,
}

/// The place of the IPv6 fragment that `desc` found: its header lies right before the payload.
pub fn fragment(frame: &[u8], desc: &Desc) -> Option<FragmentPlace> {
    if desc.kind != Kind::Fragment || !desc.key.is_v6() {
        return None;
    }
    let at = usize::from(desc.l4).checked_sub(8)?;
    let (header, _) = FragmentHeader::ref_from_prefix(frame.get(at..)?).ok()?;
    let field = header.offset_more.get();
    Some(FragmentPlace { id: header.id.get(), offset: field & 0xfff8, more: field & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::{ParseError, parse};

    const SRC: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 0x10];
    const DST: [u16; 8] = [0xfd00, 2, 0, 0, 0, 0, 0, 0x10];

    fn desc(frame: &Frame) -> Desc {
        let bytes = frame.bytes();
        parse(&bytes, bytes.len()).unwrap()
    }

    fn error(frame: &Frame) -> ParseError {
        let bytes = frame.bytes();
        parse(&bytes, bytes.len()).unwrap_err()
    }

    #[test]
    fn header_fields_are_where_rfc_8200_puts_them() {
        let frame = Frame::udp(SRC, DST, 1, 2).ttl(7).traffic_class(0xb8).bytes();
        let header = Ipv6Header::view(&frame[14..]).unwrap();
        assert_eq!((header.payload_len.get(), header.next_header, header.hop_limit), (8, 17, 7));
        assert_eq!((header.traffic_class(), header.flow_label()), (0xb8, 0));
        let mut out = [0u8; 40];
        let pair = (header.src, header.dst);
        assert_eq!(Ipv6Header::emit(&mut out, pair.0, pair.1, (Proto::UDP, 7), 8), Some(40));
        assert_eq!(out[4..], frame[18..54]);
        assert!(Ipv6Header::view(&frame[14..53]).is_none());
    }

    #[test]
    fn extension_headers_are_walked_to_the_transport() {
        let frame = Frame::tcp(SRC, DST, 1, 2)
            .extension(HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
            .extension(DEST_OPTIONS, &[1, 12])
            .extension(ROUTING, &[2, 0, 0, 0, 0, 0])
            .extension(AUTHENTICATION, &[0; 10])
            .payload(b"x");
        let d = desc(&frame);
        assert_eq!((d.kind, d.has_options, d.l4), (Kind::Tcp, true, 54 + 8 + 8 + 8 + 12));
        assert_eq!((d.key, d.tcp.payload_len), (frame.key(), 1));
    }

    #[test]
    fn chains_that_rfc_8200_does_not_allow_are_refused() {
        let frame = || Frame::udp(SRC, DST, 1, 2);
        let bad = ParseError::BadExtensionHeaders;
        assert_eq!(error(&frame().extension(DEST_OPTIONS, &[]).extension(HOP_BY_HOP, &[])), bad);
        assert_eq!(error(&frame().extension(ROUTING, &[0, 0])), bad);
        assert_eq!(error(&frame().extension(ROUTING, &[0, 1])), bad);
        assert_eq!(error(&frame().extension(ROUTING, &[4, 1])), ParseError::SourceRouted);
        assert_eq!(error(&frame().extension(ROUTING, &[2, 0]).extension(ROUTING, &[2, 0])), bad);
        let many = (0..9).fold(frame(), |f, _| f.extension(DEST_OPTIONS, &[]));
        assert_eq!(error(&many), bad);
        assert_eq!(error(&frame().extension(DEST_OPTIONS, &[0; 518])), bad);
        let eight = (0..8).fold(frame(), |f, _| f.extension(DEST_OPTIONS, &[]));
        assert_eq!(desc(&eight).kind, Kind::Udp);
        let mut beyond = frame().extension(DEST_OPTIONS, &[]).bytes();
        beyond[55] = 2;
        assert_eq!(parse(&beyond, beyond.len()).unwrap_err(), bad);
    }

    /// Found by the comparison with etherparse: eight bytes with SPI and no sequence number.
    #[test]
    fn an_authentication_header_has_its_fixed_part() {
        let mut bytes = Frame::udp(SRC, DST, 1, 2).extension(AUTHENTICATION, &[0; 6]).bytes();
        assert_eq!(parse(&bytes, bytes.len()).unwrap_err(), ParseError::BadExtensionHeaders);
        bytes[55] = 1;
        assert_eq!(parse(&bytes, bytes.len()).unwrap_err(), ParseError::BadUdpLen);
    }

    #[test]
    fn opaque_and_absent_payloads_are_other_ip() {
        for proto in [Proto::ESP, Proto(59), Proto(135), Proto::ICMP] {
            let d = desc(&Frame::ip(SRC, DST, proto).payload_len(16));
            assert_eq!((d.kind, d.key.proto(), d.key.sport()), (Kind::OtherIp, proto, 0));
        }
        assert_eq!(desc(&Frame::ip(SRC, DST, Proto(59)).extension(HOP_BY_HOP, &[])).kind, Kind::OtherIp);
    }

    #[test]
    fn fragments_keep_their_place_and_atomic_ones_are_whole_packets() {
        let first = Frame::udp(SRC, DST, 1, 2).payload_len(1232).id(0xdead_beef).fragment(0, true);
        let d = desc(&first);
        assert_eq!((d.kind, d.key.sport(), d.key.proto(), d.l4), (Kind::Fragment, 0, Proto::UDP, 62));
        let place = FragmentPlace { id: 0xdead_beef, offset: 0, more: true };
        assert_eq!(fragment(&first.bytes(), &d), Some(place));
        let last = Frame::ip(SRC, DST, Proto::UDP).payload_len(3).id(9).fragment(1240, false);
        let place = FragmentPlace { id: 9, offset: 1240, more: false };
        assert_eq!(fragment(&last.bytes(), &desc(&last)), Some(place));
        // RFC 6946 §4
        let atomic = desc(&Frame::udp(SRC, DST, 1, 2).fragment(0, false));
        assert_eq!((atomic.kind, atomic.key.sport(), atomic.has_options), (Kind::Udp, 1, true));
        assert_eq!(
            error(&Frame::ip(SRC, DST, Proto::UDP).payload_len(9).fragment(8, true)),
            ParseError::BadFragment
        );
    }

    #[test]
    fn addresses_that_no_host_has_are_named() {
        let unspecified = [0u16; 8];
        let loopback = [0, 0, 0, 0, 0, 0, 0, 1];
        let mapped = [0, 0, 0, 0, 0, 0xffff, 0x0a01, 0x000a];
        let all_nodes = [0xff02, 0, 0, 0, 0, 0, 0, 1];
        for src in [unspecified, loopback, mapped, all_nodes] {
            assert_eq!(error(&Frame::udp(src, DST, 1, 2)), ParseError::SourceAddress);
        }
        for dst in [unspecified, loopback, mapped, [0xff01, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(error(&Frame::udp(SRC, dst, 1, 2)), ParseError::DestinationAddress);
        }
        assert_eq!(error(&Frame::udp(SRC, SRC, 1, 2)), ParseError::LandAttack);
        assert_eq!(desc(&Frame::udp(SRC, all_nodes, 1, 2)).kind, Kind::Udp);
        // A host without an address joins groups, with a router alert (RFC 3810 §5), and does nothing else.
        let report = Frame::icmp(unspecified, all_nodes, 143, 0, [0; 4]).extension(HOP_BY_HOP, &[5, 2]);
        assert_eq!(desc(&report).kind, Kind::IcmpOther);
        let datagram = Frame::udp(unspecified, all_nodes, 1, 2).extension(HOP_BY_HOP, &[5, 2]);
        assert_eq!(error(&datagram), ParseError::SourceAddress);
        // NAT64's prefix begins with a zero byte, too.
        assert_eq!(desc(&Frame::udp([0x64, 0xff9b, 0, 0, 0, 0, 1, 2], DST, 1, 2)).kind, Kind::Udp);
    }

    #[test]
    fn lengths_beyond_the_frame_are_refused() {
        let bytes = Frame::udp(SRC, DST, 1, 2).payload(b"x").bytes();
        assert_eq!(parse(&bytes[..62], 62).unwrap_err(), ParseError::BadIpLen);
        assert_eq!(parse(&bytes[..53], 53).unwrap_err(), ParseError::TooShort);
        assert_eq!(parse(&bytes[..53], 63).unwrap_err(), ParseError::HeadersSplit);
        assert_eq!(parse(&bytes[..60], 63).unwrap_err(), ParseError::HeadersSplit);
        assert!(parse(&bytes[..62], 63).is_ok());
    }
}
