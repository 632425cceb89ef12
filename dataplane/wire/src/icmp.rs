//! ICMP (RFC 792) and ICMPv6 (RFC 4443), which share their header, and the packet that an error quotes.
//!
//! An error belongs to the session of the packet it quotes, not to its own addresses: that packet's key is
//! what it is tracked and steered by. The quote is input like any other and proves little; whoever sent
//! the error chose it.

use crate::desc::{Desc, Kind};
use crate::ipv4::Ipv4Header;
use crate::ipv6::{AUTHENTICATION, DEST_OPTIONS, FRAGMENT, FragmentHeader, HOP_BY_HOP, Ipv6Header, ROUTING};
use crate::key::{FlowKey, Proto, echo_ports};
use crate::parse::MAX_EXTENSION_HEADERS;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header that all messages share.
pub const HEADER_LEN: usize = 8;

/// The header, as it lies in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type of the message.
    pub kind: u8,
    /// Subtype.
    pub code: u8,
    /// Checksum; ICMPv6's covers a pseudo-header, too.
    pub check: U16,
    /// Identifier and sequence number, next-hop MTU and the like.
    pub rest: [u8; 4],
}

impl IcmpHeader {
    /// The header that `desc` found; `None` if the packet is no ICMP of either family.
    pub fn view<'a>(frame: &'a [u8], desc: &Desc) -> Option<&'a Self> {
        match desc.kind {
            Kind::EchoRequest
            | Kind::EchoReply
            | Kind::IcmpError
            | Kind::NeighbourDiscovery
            | Kind::IcmpOther => {}
            Kind::Tcp | Kind::Udp | Kind::OtherIp | Kind::Fragment | Kind::Arp => return None,
        }
        Self::ref_from_prefix(frame.get(usize::from(desc.l4)..)?).ok().map(|(header, _)| header)
    }

    /// Writes a header; the checksum is left to [`crate::checksum`]. `None` if there is no room.
    pub fn emit(message: &mut [u8], kind: u8, code: u8, rest: [u8; 4]) -> Option<usize> {
        Self { kind, code, check: U16::ZERO, rest }.write_to_prefix(message).ok()?;
        Some(HEADER_LEN)
    }
}

/// What an error says of the packet that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// The quoted packet's key, from its sender to its receiver, VRF 0.
    pub key: FlowKey,
    /// Its protocol, behind extension headers.
    pub proto: Proto,
    /// TCP's sequence number.
    pub tcp_seq: Option<u32>,
    /// Where its IP header starts in the frame.
    pub l3: u16,
    /// Where its transport header starts in the frame.
    pub l4: u16,
}

/// The packet that an error quotes. `None` if `desc` is no error, if the quote ends before its ports, if
/// it is a later fragment (no ports), an error itself, or an ICMP message that no session can have sent.
pub fn quoted(frame: &[u8], desc: &Desc) -> Option<Quoted> {
    if desc.kind != Kind::IcmpError {
        return None;
    }
    let end = usize::from(desc.l3) + usize::from(desc.ip_len);
    let l3 = usize::from(desc.l4) + HEADER_LEN;
    let packet = frame.get(l3..end.min(frame.len()))?;
    let (key, header_len) = if desc.key.is_v6() { quoted_v6(packet)? } else { quoted_v4(packet)? };
    let proto = key.proto();
    let start = packet.get(header_len..)?.first_chunk::<8>()?;
    let [p0, p1, p2, p3, p4, p5, p6, p7] = *start;
    let (sport, dport) = match proto {
        Proto::TCP | Proto::UDP => (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([p2, p3])),
        Proto::ICMP | Proto::ICMP6 => {
            let is_request = match (proto == Proto::ICMP6, desc.key.is_v6(), p0) {
                (false, false, 8) | (true, true, 128) => true,
                (false, false, 0) | (true, true, 129) => false,
                _ => return None,
            };
            echo_ports(is_request, u16::from_be_bytes([p4, p5]))
        }
        // As the parser has it: other protocols have no ports.
        _ => (0, 0),
    };
    let tail = key.tail | u64::from(sport) | u64::from(dport) << 16;
    Some(Quoted {
        key: FlowKey { tail, ..key },
        proto,
        tcp_seq: (proto == Proto::TCP).then(|| u32::from_be_bytes([p4, p5, p6, p7])),
        l3: l3 as u16,
        l4: (l3 + header_len) as u16,
    })
}

/// Key without ports, and the header's length. The header's checksum and length may have been changed on
/// the way, so they prove nothing.
fn quoted_v4(packet: &[u8]) -> Option<(FlowKey, usize)> {
    let header = Ipv4Header::view(packet)?;
    if header.fragment_place().offset != 0 {
        return None;
    }
    Some((FlowKey::v4(header.src, header.dst, Proto(header.proto), 0, 0), header.header_len()))
}

/// The same behind extension headers, under the parser's bounds.
fn quoted_v6(packet: &[u8]) -> Option<(FlowKey, usize)> {
    let header = Ipv6Header::view(packet)?;
    let (mut next, mut at) = (header.next_header, crate::ipv6::HEADER_LEN);
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let [following, len, ..] = *packet.get(at..)?.first_chunk::<8>()?;
        at += match next {
            HOP_BY_HOP | ROUTING | DEST_OPTIONS => (usize::from(len) + 1) * 8,
            // RFC 4302 §2: SPI and sequence number are always there.
            AUTHENTICATION if len > 0 => (usize::from(len) + 2) * 4,
            AUTHENTICATION => return None,
            FRAGMENT => {
                let (fragment, _) = FragmentHeader::ref_from_prefix(packet.get(at..)?).ok()?;
                if fragment.offset_more.get() & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            _ => return Some((FlowKey::v6(header.src, header.dst, Proto(next), 0, 0), at)),
        };
        next = following;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::key::Addr;
    use crate::{ParseError, parse};

    const ROUTER: [u8; 4] = [10, 9, 0, 1];
    const SRC: [u8; 4] = [10, 1, 0, 10];
    const DST: [u8; 4] = [10, 2, 0, 10];
    const ROUTER6: [u16; 8] = [0xfd00, 9, 0, 0, 0, 0, 0, 1];
    const SRC6: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 0x10];
    const DST6: [u16; 8] = [0xfd00, 2, 0, 0, 0, 0, 0, 0x10];

    /// A "time exceeded" of either family about `about`, and what it quotes.
    fn quote(about: &Frame, quoted_len: usize) -> Option<Quoted> {
        let frame = if about.key().is_v6() {
            Frame::icmp_error(ROUTER6, SRC6, 3, 0, about, quoted_len)
        } else {
            Frame::icmp_error(ROUTER, SRC, 11, 0, about, quoted_len)
        };
        let bytes = frame.bytes();
        let desc = parse(&bytes, bytes.len()).ok()?;
        assert_eq!((desc.kind, desc.key.sport()), (Kind::IcmpError, 0));
        assert!(crate::checksum::verify_transport(&bytes, &desc));
        quoted(&bytes, &desc)
    }

    #[test]
    fn quotes_of_both_families_give_the_quoted_flow() {
        for (src, dst) in [(Addr::from(SRC), Addr::from(DST)), (SRC6.into(), DST6.into())] {
            let v6 = matches!(src, Addr::V6(_));
            let header_len = if v6 { 40 } else { 20 };
            let tcp = Frame::tcp(src, dst, 40_000, 80).seq(0x0102_0304).payload_len(400);
            let about = quote(&tcp, header_len + 8).unwrap();
            assert_eq!((about.key, about.tcp_seq), (tcp.key(), Some(0x0102_0304)));
            assert_eq!(usize::from(about.l3), 14 + header_len + 8);
            assert_eq!(usize::from(about.l4), 14 + header_len + 8 + header_len);
            let udp = Frame::udp(src, dst, 5, 6).payload_len(100);
            assert_eq!(quote(&udp, 4096).map(|q| (q.key, q.tcp_seq)), Some((udp.key(), None)));
            let request = Frame::echo_request(src, dst, 99, 1);
            assert_eq!(quote(&request, 4096).map(|q| q.key), Some(request.key()));
            let reply = Frame::echo_reply(src, dst, 99, 1);
            assert_eq!(quote(&reply, 4096).map(|q| q.key), Some(reply.key()));
            assert_ne!(request.key(), reply.key());
            let gre = Frame::ip(src, dst, Proto::GRE).payload_len(8);
            assert_eq!(quote(&gre, 4096).map(|q| q.key), Some(gre.key()));
        }
    }

    #[test]
    fn quoted_options_and_extension_headers_are_skipped() {
        let v4 = Frame::tcp(SRC, DST, 1, 2).ip_options(&[1; 8]);
        assert_eq!(quote(&v4, 36).map(|q| q.key), Some(v4.key()));
        let v6 = Frame::tcp(SRC6, DST6, 1, 2).extension(60, &[0; 6]).extension(51, &[0; 10]);
        assert_eq!(quote(&v6, 40 + 8 + 12 + 8).map(|q| q.key), Some(v6.key()));
        assert_eq!(quote(&v6, 40 + 8 + 12 + 7), None);
        let first = Frame::udp(SRC6, DST6, 1, 2).payload_len(8).fragment(0, true);
        assert_eq!(quote(&first, 4096).map(|q| q.key), Some(first.key()));
    }

    #[test]
    fn later_fragments_errors_and_odd_messages_quote_nothing() {
        let later4 = Frame::ip(SRC, DST, Proto::UDP).payload_len(16).fragment(8, false);
        let later6 = Frame::ip(SRC6, DST6, Proto::UDP).payload_len(16).fragment(8, false);
        let error = Frame::icmp_error(SRC, DST, 3, 1, &Frame::udp(DST, SRC, 1, 2), 28);
        let redirect = Frame::icmp(SRC, DST, 5, 1, [0; 4]).payload_len(28);
        let wrong_family = Frame::ip(SRC, DST, Proto::ICMP6).payload(&[128, 0, 0, 0, 0, 1, 0, 1]);
        for about in [later4, later6, error, redirect, wrong_family] {
            assert_eq!(quote(&about, 4096), None);
        }
        let many = (0..9).fold(Frame::udp(SRC6, DST6, 1, 2), |f, _| f.extension(60, &[]));
        assert_eq!(quote(&many, 4096), None);
    }

    #[test]
    fn errors_that_quote_too_little_are_refused() {
        let about4 = Frame::udp(SRC, DST, 1, 2).payload_len(32);
        let about6 = Frame::udp(SRC6, DST6, 1, 2).payload_len(32);
        for (frame, verdict) in [
            (Frame::icmp_error(ROUTER, SRC, 3, 3, &about4, 27), Err(ParseError::BadIcmp)),
            (Frame::icmp_error(ROUTER, SRC, 3, 3, &about4, 28), Ok(Kind::IcmpError)),
            (Frame::icmp_error(ROUTER, SRC, 12, 0, &about4, 0), Err(ParseError::BadIcmp)),
            (Frame::icmp_error(ROUTER6, SRC6, 1, 4, &about6, 47), Err(ParseError::BadIcmp)),
            (Frame::icmp_error(ROUTER6, SRC6, 2, 0, &about6, 48), Ok(Kind::IcmpError)),
            // A quote of the other family
            (Frame::icmp_error(ROUTER, SRC, 3, 3, &about6, 48), Err(ParseError::BadIcmp)),
            (Frame::icmp_error(ROUTER6, SRC6, 1, 4, &about4, 60), Err(ParseError::BadIcmp)),
            // Redirect and source quench are no errors that anybody forwards.
            (Frame::icmp_error(ROUTER, SRC, 5, 1, &about4, 28), Ok(Kind::IcmpOther)),
            (Frame::icmp_error(ROUTER, SRC, 4, 0, &about4, 28), Ok(Kind::IcmpOther)),
            (Frame::ip(ROUTER, SRC, Proto::ICMP).payload(&[8, 0, 0, 0, 0, 0, 0]), Err(ParseError::BadIcmp)),
            (Frame::icmp(ROUTER, SRC, 8, 9, [0; 4]), Ok(Kind::IcmpOther)),
        ] {
            let bytes = frame.bytes();
            assert_eq!(parse(&bytes, bytes.len()).map(|d| d.kind), verdict);
        }
    }
}
