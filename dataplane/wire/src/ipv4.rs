//! IPv4 (RFC 791; RFC 6864 for the identification field; RFC 1812 for what a router does with it).

use crate::checksum;
use crate::desc::{Desc, Kind};
use crate::key::Proto;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// The fixed part of the header, as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version 4 and header length in 32-bit words.
    pub version_len: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of the packet, header included.
    pub total_len: U16,
    /// Identification, for reassembly only.
    pub id: U16,
    /// Don't fragment 0x4000, more fragments 0x2000, offset in units of 8 bytes.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub proto: u8,
    /// Header checksum.
    pub check: U16,
    /// Sender.
    pub src: [u8; 4],
    /// Receiver.
    pub dst: [u8; 4],
}

/// A fragment's place in its packet, for both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentPlace {
    /// Identification: 16 bits over IPv4, 32 over IPv6.
    pub id: u32,
    /// Offset in bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

impl Ipv4Header {
    /// The header at the packet's start; `None` if it is cut short, no IPv4, or its length makes no sense.
    pub fn view(packet: &[u8]) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(packet).ok()?;
        let fits = header.version_len >> 4 == 4 && (HEADER_LEN..=packet.len()).contains(&header.header_len());
        fits.then_some(header)
    }

    /// Length of the header, options included.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_len & 0xf) * 4
    }

    /// True if the packet must not be fragmented on its way.
    pub fn dont_fragment(&self) -> bool {
        self.fragment.get() & 0x4000 != 0
    }

    /// Where this fragment belongs; a whole packet is at 0 with nothing more.
    pub fn fragment_place(&self) -> FragmentPlace {
        let field = self.fragment.get();
        FragmentPlace {
            id: u32::from(self.id.get()),
            offset: (field & 0x1fff) << 3,
            more: field & 0x2000 != 0,
        }
    }

    /// Writes a header without options for a packet that is never fragmented (RFC 6864 §4.1: its
    /// identification may be anything). `None` if there is no room or the payload is too long.
    pub fn emit(packet: &mut [u8], fields: &Ipv4Fields, payload_len: usize) -> Option<usize> {
        let mut header = Self {
            version_len: 0x45,
            traffic_class: fields.traffic_class,
            total_len: U16::new(u16::try_from(HEADER_LEN + payload_len).ok()?),
            id: U16::ZERO,
            fragment: U16::new(0x4000),
            ttl: fields.ttl,
            proto: fields.proto.0,
            check: U16::ZERO,
            src: fields.src,
            dst: fields.dst,
        };
        header.check = U16::new(checksum::ipv4_header(header.as_bytes()));
        header.write_to_prefix(packet).ok()?;
        Some(HEADER_LEN)
    }
}

/// What varies in the headers that we write.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4Fields {
    /// Sender.
    pub src: [u8; 4],
    /// Receiver.
    pub dst: [u8; 4],
    /// What follows.
    pub proto: Proto,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

/// The place of the IPv4 fragment that `desc` found.
pub fn fragment(frame: &[u8], desc: &Desc) -> Option<FragmentPlace> {
    if desc.kind != Kind::Fragment || desc.key.is_v6() {
        return None;
    }
    Ipv4Header::view(frame.get(usize::from(desc.l3)..)?).map(Ipv4Header::fragment_place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::{ParseError, parse};

    const SRC: [u8; 4] = [10, 1, 0, 10];
    const DST: [u8; 4] = [10, 2, 0, 10];

    fn error(frame: &[u8]) -> ParseError {
        parse(frame, frame.len()).unwrap_err()
    }

    /// Sets a byte of the IPv4 header and mends the checksum.
    fn with(frame: &Frame, at: usize, value: u8) -> Vec<u8> {
        let mut bytes = frame.bytes();
        bytes[14 + at] = value;
        mend(&mut bytes);
        bytes
    }

    fn mend(bytes: &mut [u8]) {
        let header_len = usize::from(bytes[14] & 0xf) * 4;
        bytes[24..26].fill(0);
        let check = checksum::ipv4_header(&bytes[14..bytes.len().min(14 + header_len.max(20))]);
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
    }

    #[test]
    fn header_fields_are_where_rfc_791_puts_them() {
        let frame = Frame::udp(SRC, DST, 1, 2).ttl(7).traffic_class(0xb8).id(0x1234).bytes();
        let header = Ipv4Header::view(&frame[14..]).unwrap();
        assert_eq!((header.header_len(), header.total_len.get(), header.ttl, header.proto), (20, 28, 7, 17));
        assert_eq!((header.traffic_class, header.src, header.dst), (0xb8, SRC, DST));
        assert!(header.dont_fragment());
        let mut out = [0u8; 20];
        let fields = Ipv4Fields { src: SRC, dst: DST, proto: Proto::UDP, ttl: 7, traffic_class: 0xb8 };
        assert_eq!(Ipv4Header::emit(&mut out, &fields, 8), Some(20));
        assert_eq!(checksum::ipv4_header(&out), 0);
        assert_eq!(Ipv4Header::emit(&mut out, &fields, 65_516), None);
        assert!(Ipv4Header::view(&frame[14..33]).is_none());
    }

    #[test]
    fn lengths_that_contradict_each_other_are_named() {
        let frame = Frame::udp(SRC, DST, 1, 2).payload(b"12345678");
        assert_eq!(error(&with(&frame, 3, 19)), ParseError::BadIpLen);
        assert_eq!(error(&with(&frame, 3, 37)), ParseError::BadIpLen);
        assert_eq!(error(&with(&frame, 0, 0x44)), ParseError::BadIpHeaderLen);
        assert_eq!(error(&with(&frame, 0, 0x4f)), ParseError::BadIpHeaderLen);
        assert_eq!(error(&with(&frame, 0, 0x65)), ParseError::BadIpVersion);
        // A receiver that truncates silently (net_af_packet) leaves a frame shorter than its IP length.
        let bytes = frame.bytes();
        assert_eq!(error(&bytes[..bytes.len() - 1]), ParseError::BadIpLen);
        assert_eq!(error(&bytes[..33]), ParseError::TooShort);
    }

    #[test]
    fn padding_of_short_frames_is_not_payload() {
        let bytes = Frame::tcp(SRC, DST, 1, 2).pad_to(60).bytes();
        let desc = parse(&bytes, bytes.len()).unwrap();
        assert_eq!((desc.ip_len, desc.tcp.payload_len), (40, 0));
    }

    #[test]
    fn addresses_that_no_host_has_are_named() {
        for first in [0, 127, 224, 239, 240, 255] {
            assert_eq!(error(&Frame::udp([first, 1, 2, 3], DST, 1, 2).bytes()), ParseError::SourceAddress);
        }
        for first in [0, 127] {
            assert_eq!(
                error(&Frame::udp(SRC, [first, 1, 2, 3], 1, 2).bytes()),
                ParseError::DestinationAddress
            );
        }
        assert_eq!(error(&Frame::tcp(SRC, SRC, 80, 80).bytes()), ParseError::LandAttack);
        for first in [1, 126, 128, 223] {
            let bytes = Frame::udp([first, 1, 2, 3], [224, 0, 0, 1], 1, 2).bytes();
            assert!(parse(&bytes, bytes.len()).is_ok(), "{first}");
        }
    }

    #[test]
    fn options_are_walked_and_source_routes_refused() {
        let frame = Frame::tcp(SRC, DST, 1, 2);
        let record_route = frame.clone().ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]).bytes();
        let desc = parse(&record_route, record_route.len()).unwrap();
        assert_eq!((desc.has_options, desc.l4, desc.kind), (true, 42, Kind::Tcp));
        for option in [131, 137] {
            let bytes = frame.clone().ip_options(&[1, option, 7, 4, 10, 0, 0, 1]).bytes();
            assert_eq!(error(&bytes), ParseError::SourceRouted);
        }
        assert_eq!(error(&frame.clone().ip_options(&[7, 9, 4, 0]).bytes()), ParseError::BadIpOptions);
        assert_eq!(error(&frame.clone().ip_options(&[7, 1, 4, 0]).bytes()), ParseError::BadIpOptions);
        assert_eq!(error(&frame.clone().ip_options(&[1, 1, 1, 7]).bytes()), ParseError::BadIpOptions);
        assert_eq!(error(&frame.ip_options(&[1; 4]).bad_ip_checksum().bytes()), ParseError::BadIpChecksum);
    }

    #[test]
    fn fragments_keep_their_place_and_have_no_ports() {
        let first = Frame::udp(SRC, DST, 1, 2).payload_len(1472).id(77).fragment(0, true).bytes();
        let desc = parse(&first, first.len()).unwrap();
        assert_eq!((desc.kind, desc.key.sport(), desc.key.dport()), (Kind::Fragment, 0, 0));
        assert_eq!(fragment(&first, &desc), Some(FragmentPlace { id: 77, offset: 0, more: true }));
        let last = Frame::ip(SRC, DST, Proto::UDP).payload_len(5).id(77).fragment(1480, false).bytes();
        let desc = parse(&last, last.len()).unwrap();
        assert_eq!(fragment(&last, &desc), Some(FragmentPlace { id: 77, offset: 1480, more: false }));
        assert_eq!((desc.kind, desc.l4, desc.key.proto()), (Kind::Fragment, 34, Proto::UDP));
    }

    #[test]
    fn impossible_fragments_are_refused() {
        let frame = Frame::ip(SRC, DST, Proto::UDP);
        let uneven = frame.clone().payload_len(9).fragment(8, true).bytes();
        let beyond = frame.clone().payload_len(16).fragment(65_528, false).bytes();
        let empty = frame.fragment(8, true).bytes();
        for bytes in [uneven, beyond, empty] {
            assert_eq!(error(&bytes), ParseError::BadFragment);
        }
    }
}
