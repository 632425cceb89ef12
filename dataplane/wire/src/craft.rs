//! Frames that the firewall itself sends, written into bytes that the caller lends: no allocation, and
//! `None` where they do not fit or where nothing may be sent. All checksums are right.
//!
//! Answers take the frame that they answer and its [`Desc`]. Rules on what may be answered are RFC 1122
//! §3.2.2, RFC 4443 §2.4 (errors) and RFC 9293 §3.5.2 (resets). How *often* is the caller's to bound.
//!
//! [`Frame`] is the builder that tests, benches and tools use instead.

mod frame;

use crate::arp::{ArpPacket, Operation};
use crate::checksum::{self, Change, Sum};
use crate::desc::{Desc, Kind, tcp_flags};
use crate::ether::{self, EtherHeader, Link};
use crate::icmp::IcmpHeader;
use crate::ipv4::{Ipv4Fields, Ipv4Header};
use crate::ipv6::Ipv6Header;
use crate::key::{Addr, FlowKey, MacAddr, Proto};
use crate::nd::{self, NdMessage};
use crate::tcp::{Control, TcpHeader};
use crate::udp::{self, UdpHeader};
pub use frame::{DST_MAC, Frame, SRC_MAC};

/// TTL and hop limit of what the firewall sends.
pub const TTL: u8 = 64;

/// Longest ICMP error over IPv4, as an IP packet (RFC 1812 §4.3.2.3).
pub const MAX_ERROR_V4: usize = 576;

/// Longest ICMPv6 error, as an IP packet (RFC 4443 §2.4 c).
pub const MAX_ERROR_V6: usize = 1280;

/// Precedence of ICMP errors over IPv4: internetwork control (RFC 1812 §4.3.2.5).
const ERROR_TRAFFIC_CLASS: u8 = 0xc0;
/// Precedence of what the two nodes tell each other: the same.
const CONTROL_TRAFFIC_CLASS: u8 = ERROR_TRAFFIC_CLASS;

/// An error about a packet, for both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// TTL or hop limit ran out on the way.
    TimeExceeded,
    /// No route to the destination.
    NoRoute,
    /// The destination's neighbour does not answer.
    HostUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// Policy forbids it.
    AdminProhibited,
    /// Longer than the next link takes, and not to be fragmented.
    PacketTooBig {
        /// What the next link takes, as an IP packet.
        mtu: u16,
    },
}

impl IcmpError {
    /// Type, code and rest of the header over IPv4 (RFC 792, RFC 1812 §5.2.7.1, RFC 1191).
    fn v4(self) -> (u8, u8, [u8; 4]) {
        match self {
            IcmpError::TimeExceeded => (11, 0, [0; 4]),
            IcmpError::NoRoute => (3, 0, [0; 4]),
            IcmpError::HostUnreachable => (3, 1, [0; 4]),
            IcmpError::PortUnreachable => (3, 3, [0; 4]),
            IcmpError::AdminProhibited => (3, 13, [0; 4]),
            IcmpError::PacketTooBig { mtu } => (3, 4, u32::from(mtu).to_be_bytes()),
        }
    }

    /// The same over IPv6 (RFC 4443 §3).
    fn v6(self) -> (u8, u8, [u8; 4]) {
        match self {
            IcmpError::TimeExceeded => (3, 0, [0; 4]),
            IcmpError::NoRoute => (1, 0, [0; 4]),
            IcmpError::AdminProhibited => (1, 1, [0; 4]),
            IcmpError::HostUnreachable => (1, 3, [0; 4]),
            IcmpError::PortUnreachable => (1, 4, [0; 4]),
            IcmpError::PacketTooBig { mtu } => (2, 0, u32::from(mtu).to_be_bytes()),
        }
    }
}

/// Asks who has `target` (RFC 826), by broadcast or, to confirm a neighbour (RFC 1122 §2.3.2.1), at `to`.
pub fn arp_request(
    out: &mut [u8],
    own: (MacAddr, [u8; 4]),
    target: [u8; 4],
    to: Option<MacAddr>,
) -> Option<usize> {
    let link = Link { src: own.0, dst: to.unwrap_or(MacAddr::BROADCAST) };
    arp(out, link, Operation::Request, own, (MacAddr([0; 6]), target))
}

/// Says that `own` address is at `own` link-layer address, to `to`.
pub fn arp_reply(out: &mut [u8], own: (MacAddr, [u8; 4]), to: (MacAddr, [u8; 4])) -> Option<usize> {
    arp(out, Link { src: own.0, dst: to.0 }, Operation::Reply, own, to)
}

/// Tells everybody on the link that `own` address is at `own` link-layer address from now on: an announcement
/// (RFC 5227 §2.3, §3). It is a request, which all hosts take; some take a reply only, so both are sent after
/// an address has moved.
pub fn arp_announcement(out: &mut [u8], own: (MacAddr, [u8; 4]), operation: Operation) -> Option<usize> {
    let target = match operation {
        Operation::Request => MacAddr([0; 6]),
        Operation::Reply => own.0,
    };
    arp(out, Link { src: own.0, dst: MacAddr::BROADCAST }, operation, own, (target, own.1))
}

/// The same for IPv6: unsolicited, with the override flag, to all nodes (RFC 4861 §7.2.6).
pub fn unsolicited_advertisement(out: &mut [u8], own: (MacAddr, [u8; 16])) -> Option<usize> {
    neighbour_advertisement(out, own, None)
}

/// Asks who has `target` (RFC 4861 §4.3), at its group or, to confirm a neighbour, at `to`.
pub fn neighbour_solicitation(
    out: &mut [u8],
    own: (MacAddr, [u8; 16]),
    target: [u8; 16],
    to: Option<MacAddr>,
) -> Option<usize> {
    let group = nd::solicited_node(target);
    let (mac, dst) = to.map_or((nd::group_mac(group), group), |mac| (mac, target));
    discovery(out, Link { src: own.0, dst: mac }, (own.1, dst), (nd::SOLICITATION, 0), target)
}

/// Says that `own` address is at `own` link-layer address (RFC 4861 §4.4), as a router. `to` is who asked;
/// `None` tells everybody: unasked, or in answer to duplicate address detection.
pub fn neighbour_advertisement(
    out: &mut [u8],
    own: (MacAddr, [u8; 16]),
    to: Option<(MacAddr, [u8; 16])>,
) -> Option<usize> {
    let (mac, dst) = to.unwrap_or((nd::group_mac(nd::ALL_NODES), nd::ALL_NODES));
    let solicited = if to.is_some() { nd::FLAG_SOLICITED } else { 0 };
    let flags = nd::FLAG_ROUTER | nd::FLAG_OVERRIDE | solicited;
    discovery(out, Link { src: own.0, dst: mac }, (own.1, dst), (nd::ADVERTISEMENT, flags), own.1)
}

/// An error about the packet in `frame`, from the address `from`, over `link`. It quotes as much as the
/// family allows and the first segment holds.
///
/// `None` as well for packets about which nothing may be said: errors and unknown ICMP messages,
/// neighbour discovery, later fragments, link-layer or IP groups as destination (RFC 1122 §3.2.2,
/// RFC 4443 §2.4 e), packets with less than the eight bytes of transport header that a receiver needs to
/// tell whose error it is (RFC 792), or `from` of the other family. Sources that name no single host were refused by
/// [`crate::parse()`], but for the unspecified one, which is refused here.
pub fn icmp_error(
    out: &mut [u8],
    link: Link,
    from: Addr,
    (frame, desc): (&[u8], &Desc),
    error: IcmpError,
) -> Option<usize> {
    if !may_answer_with_error(frame, desc) {
        return None;
    }
    let packet = frame.get(usize::from(desc.l3)..)?;
    let packet = packet.get(..usize::from(desc.ip_len)).unwrap_or(packet);
    let to = desc.key.src();
    let (headers_len, max, (kind, code, rest)) = match from {
        Addr::V4(_) => (20 + 8, MAX_ERROR_V4, error.v4()),
        Addr::V6(_) => (40 + 8, MAX_ERROR_V6, error.v6()),
    };
    let quote = packet.get(..max - headers_len).unwrap_or(packet);
    if quote.len() < usize::from(desc.l4 - desc.l3) + 8 {
        return None;
    }
    let key = FlowKey::new(from, to, icmp_proto(from), 0, 0)?;
    let at = headers(out, link, &key, TTL, ERROR_TRAFFIC_CLASS, 8 + quote.len())?;
    let message = out.get_mut(at..at + 8 + quote.len())?;
    IcmpHeader::emit(message, kind, code, rest)?;
    message.get_mut(8..)?.copy_from_slice(quote);
    seal(message, &key)?;
    Some(at + message.len())
}

/// An echo request without data between the key's addresses; the key's source port is the identifier.
/// `None` if the key is not ICMP's.
pub fn echo_request(out: &mut [u8], link: Link, key: &FlowKey, ttl: u8, sequence: u16) -> Option<usize> {
    let kind = match key.proto() {
        Proto::ICMP => 8,
        Proto::ICMP6 => 128,
        _ => return None,
    };
    let at = headers(out, link, key, ttl, CONTROL_TRAFFIC_CLASS, 8)?;
    let ([a, b], [c, d]) = (key.sport().to_be_bytes(), sequence.to_be_bytes());
    let message = out.get_mut(at..at + 8)?;
    message.copy_from_slice(&[kind, 0, 0, 0, a, b, c, d]);
    seal(message, key)?;
    Some(at + 8)
}

/// Turns an echo request into its reply, in place: addresses swapped, TTL fresh, checksums mended
/// (a wrong one stays wrong). Returns the frame's length without link padding. `None`, with nothing
/// written, if it is no request to one host on either layer, or has options or extension headers.
pub fn echo_reply_in_place(frame: &mut [u8], desc: &Desc) -> Option<usize> {
    if desc.kind != Kind::EchoRequest || desc.has_options || is_group(desc.key.dst()) {
        return None;
    }
    let (l3, l4) = (usize::from(desc.l3), usize::from(desc.l4));
    let len = l3 + usize::from(desc.ip_len);
    if len > frame.len() || l4 + 8 > len || l3 != ether::HEADER_LEN {
        return None;
    }
    let link = EtherHeader::view(frame).map(|header| Link { src: header.dst(), dst: header.src() })?;
    if link.src.is_group() {
        return None;
    }
    // Swapping addresses changes no sum; the message's type and the TTL do.
    let (request, reply) = if desc.key.is_v6() { (128u16, 129u16) } else { (8, 0) };
    let change = Change::new().u16(request << 8, reply << 8);
    let message = frame.get_mut(l4..len)?.first_chunk_mut::<8>()?;
    message[0] = reply as u8;
    let check = change.apply(u16::from_be_bytes([message[2], message[3]]));
    [message[2], message[3]] = check.to_be_bytes();
    let packet = frame.get_mut(l3..len)?;
    match (desc.key.src(), desc.key.dst()) {
        (Addr::V4(src), Addr::V4(dst)) => {
            // RFC 1122 §3.2.2.6 wants the request's type of service.
            let traffic_class = packet.get(1).copied()?;
            let fields = Ipv4Fields { src: dst, dst: src, proto: Proto::ICMP, ttl: TTL, traffic_class };
            Ipv4Header::emit(packet, &fields, usize::from(desc.ip_len) - 20)?;
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            let payload_len = usize::from(desc.ip_len) - 40;
            Ipv6Header::emit(packet, dst, src, (Proto::ICMP6, TTL), payload_len)?;
        }
        _ => return None,
    }
    link.rewrite(frame).then_some(len)
}

/// The reset that answers the segment `desc` found, as its receiver would send it (RFC 9293 §3.10.7.1):
/// at the acknowledged number if it acknowledges anything, else at zero and acknowledging all of it.
/// `None` as well for a reset, a segment to a group, or anything that is no TCP.
pub fn tcp_reset(out: &mut [u8], link: Link, desc: &Desc) -> Option<usize> {
    let tcp = &desc.tcp;
    if desc.kind != Kind::Tcp || tcp.flags & tcp_flags::RST != 0 || is_group(desc.key.dst()) {
        return None;
    }
    let control = if tcp.flags & tcp_flags::ACK != 0 {
        Control { seq: tcp.ack, ack: 0, flags: tcp_flags::RST, window: 0 }
    } else {
        Control { seq: 0, ack: end_seq(desc), flags: tcp_flags::RST | tcp_flags::ACK, window: 0 }
    };
    tcp_control(out, link, &desc.key.reversed(), &control)
}

/// Any segment without payload and options, from `key`'s sender to its receiver: resets at known numbers,
/// challenge ACKs (RFC 5961), probes.
pub fn tcp_control(out: &mut [u8], link: Link, key: &FlowKey, control: &Control) -> Option<usize> {
    let at = headers(out, link, key, TTL, 0, 20)?;
    let segment = out.get_mut(at..at + 20)?;
    TcpHeader::emit(segment, (key.sport(), key.dport()), control)?;
    seal(segment, key)?;
    Some(at + 20)
}

/// Where the payload of a datagram with this key lies in its frame; `None` if the key is not UDP's.
pub fn udp_payload(key: &FlowKey) -> Option<usize> {
    let ip = if key.is_v6() { crate::ipv6::HEADER_LEN } else { crate::ipv4::HEADER_LEN };
    (key.proto() == Proto::UDP).then_some(ether::HEADER_LEN + ip + udp::HEADER_LEN)
}

/// The headers in front of a payload that was written in its place, at [`udp_payload`]. The UDP checksum is
/// written where IPv6 demands one (RFC 8200 §8.1) and left out over IPv4: what we send protects itself.
pub fn udp_around(out: &mut [u8], link: Link, key: &FlowKey, ttl: u8, payload_len: usize) -> Option<usize> {
    udp_payload(key)?;
    let len = udp::HEADER_LEN + payload_len;
    let at = headers(out, link, key, ttl, CONTROL_TRAFFIC_CLASS, len)?;
    let segment = out.get_mut(at..at + len)?;
    UdpHeader::emit(segment, key.sport(), key.dport(), payload_len)?;
    if key.is_v6() {
        seal(segment, key)?;
    }
    Some(at + len)
}

/// The sequence number behind a segment: SYN and FIN count one each (RFC 9293 §3.4).
pub fn end_seq(desc: &Desc) -> u32 {
    let flags = desc.tcp.flags;
    let controls = u32::from(flags & tcp_flags::SYN != 0) + u32::from(flags & tcp_flags::FIN != 0);
    desc.tcp.seq.wrapping_add(u32::from(desc.tcp.payload_len)).wrapping_add(controls)
}

/// RFC 1122 §3.2.2 and RFC 4443 §2.4 (e).
fn may_answer_with_error(frame: &[u8], desc: &Desc) -> bool {
    let about_kind = match desc.kind {
        Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::OtherIp => true,
        Kind::Fragment if desc.key.is_v6() => {
            crate::ipv6::fragment(frame, desc).is_some_and(|place| place.offset == 0)
        }
        Kind::Fragment => crate::ipv4::fragment(frame, desc).is_some_and(|place| place.offset == 0),
        Kind::IcmpError | Kind::IcmpOther | Kind::NeighbourDiscovery | Kind::Arp => false,
    };
    let to_group = EtherHeader::view(frame).is_none_or(|header| header.dst().is_group());
    about_kind && !to_group && !is_group(desc.key.dst()) && desc.key.src() != Addr::V6([0; 16])
}

/// Multicast of either family, and IPv4's limited broadcast.
fn is_group(addr: Addr) -> bool {
    match addr {
        Addr::V4(a) => a[0] >= 224,
        Addr::V6(a) => a[0] == 0xff,
    }
}

fn icmp_proto(addr: Addr) -> Proto {
    match addr {
        Addr::V4(_) => Proto::ICMP,
        Addr::V6(_) => Proto::ICMP6,
    }
}

fn arp(
    out: &mut [u8],
    link: Link,
    operation: Operation,
    sender: (MacAddr, [u8; 4]),
    target: (MacAddr, [u8; 4]),
) -> Option<usize> {
    let at = EtherHeader::emit(out, link, ether::ETHERTYPE_ARP)?;
    Some(at + ArpPacket::emit(out.get_mut(at..)?, operation, sender, target)?)
}

fn discovery(
    out: &mut [u8],
    link: Link,
    (src, dst): ([u8; 16], [u8; 16]),
    (kind, flags): (u8, u8),
    target: [u8; 16],
) -> Option<usize> {
    let len = NdMessage::LEN + NdMessage::OPTION_LEN;
    let key = FlowKey::v6(src, dst, Proto::ICMP6, 0, 0);
    let at = headers(out, link, &key, 255, 0, len)?;
    let message = out.get_mut(at..at + len)?;
    NdMessage::emit(message, kind, flags, target, Some(link.src))?;
    seal(message, &key)?;
    Some(at + len)
}

/// Link-layer and IP header for the key's addresses and protocol; returns where the payload starts.
fn headers(
    out: &mut [u8],
    link: Link,
    key: &FlowKey,
    ttl: u8,
    traffic_class: u8,
    len: usize,
) -> Option<usize> {
    let proto = key.proto();
    match (key.src(), key.dst()) {
        (Addr::V4(src), Addr::V4(dst)) => {
            let at = EtherHeader::emit(out, link, ether::ETHERTYPE_IPV4)?;
            let fields = Ipv4Fields { src, dst, proto, ttl, traffic_class };
            Some(at + Ipv4Header::emit(out.get_mut(at..)?, &fields, len)?)
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            let at = EtherHeader::emit(out, link, ether::ETHERTYPE_IPV6)?;
            Some(at + Ipv6Header::emit(out.get_mut(at..)?, src, dst, (proto, ttl), len)?)
        }
        _ => None,
    }
}

/// Writes the checksum of a whole TCP, UDP, ICMP or ICMPv6 segment between the key's addresses, by the
/// key's protocol. `None` for other protocols or a segment that is too short.
pub fn seal(segment: &mut [u8], key: &FlowKey) -> Option<()> {
    let proto = key.proto();
    let at = match proto {
        Proto::TCP => 16,
        Proto::UDP => 6,
        Proto::ICMP | Proto::ICMP6 => 2,
        _ => return None,
    };
    segment.get_mut(at..at + 2)?.fill(0);
    let sum = if proto == Proto::ICMP { Sum::new() } else { Sum::new().pseudo(key, proto, segment.len()) };
    let sum = sum.bytes(segment);
    let check = if proto == Proto::UDP { sum.finish_udp() } else { sum.finish() };
    segment.get_mut(at..at + 2)?.copy_from_slice(&check.to_be_bytes());
    Some(())
}

/// True if both the IPv4 header's and the transport's checksum of a whole frame are right.
pub fn is_intact(frame: &[u8]) -> bool {
    crate::parse(frame, frame.len()).is_ok_and(|desc| checksum::verify_transport(frame, &desc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desc::tcp_flags::{ACK, RST, SYN};
    use crate::icmp;
    use crate::nd::Neighbour;
    use crate::parse;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x22]);
    const LINK: Link = Link { src: OWN, dst: PEER };
    const ROUTER: [u8; 4] = [10, 1, 0, 1];
    const SRC: [u8; 4] = [10, 1, 0, 10];
    const DST: [u8; 4] = [10, 2, 0, 10];
    const ROUTER6: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 1];
    const SRC6: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 0x10];
    const DST6: [u16; 8] = [0xfd00, 2, 0, 0, 0, 0, 0, 0x10];

    fn octets(segments: [u16; 8]) -> [u8; 16] {
        std::net::Ipv6Addr::from(segments).octets()
    }

    fn desc(frame: &[u8]) -> Desc {
        parse(frame, frame.len()).unwrap()
    }

    /// Every pair of families: router, source, destination.
    fn families() -> [(Addr, Addr, Addr); 2] {
        [(ROUTER.into(), SRC.into(), DST.into()), (ROUTER6.into(), SRC6.into(), DST6.into())]
    }

    #[test]
    fn arp_is_what_the_builder_makes_of_it() {
        let mut out = [0u8; 64];
        let len = arp_request(&mut out, (OWN, ROUTER), SRC, None).unwrap();
        assert_eq!(out[..len], Frame::arp_request(OWN, ROUTER, SRC).bytes());
        let len = arp_request(&mut out, (OWN, ROUTER), SRC, Some(PEER)).unwrap();
        assert_eq!(out[..len], Frame::arp_request(OWN, ROUTER, SRC).eth(OWN, PEER).bytes());
        let len = arp_reply(&mut out, (OWN, ROUTER), (PEER, SRC)).unwrap();
        assert_eq!(out[..len], Frame::arp_reply(OWN, ROUTER, PEER, SRC).bytes());
    }

    #[test]
    fn neighbour_discovery_is_what_a_neighbour_accepts() {
        let mut out = [0u8; 128];
        let (own, target) = (octets(ROUTER6), octets(SRC6));
        let len = neighbour_solicitation(&mut out, (OWN, own), target, None).unwrap();
        assert_eq!(out[..len], Frame::neighbour_solicitation(OWN, own, target).bytes());
        let asked = Neighbour::read(&out[..len], &desc(&out[..len]));
        assert_eq!(asked, Ok(Neighbour::Solicitation { source: Some(own), target, link: Some(OWN) }));

        for (to, solicited) in [(Some((PEER, target)), true), (None, false)] {
            let len = neighbour_advertisement(&mut out, (OWN, own), to).unwrap();
            let told = Neighbour::read(&out[..len], &desc(&out[..len]));
            let link = Some(OWN);
            let expected =
                Neighbour::Advertisement { target: own, link, router: true, solicited, replace: true };
            assert_eq!(told, Ok(expected));
        }
    }

    #[test]
    fn s_28_announcements_say_that_an_address_has_moved() {
        let mut out = [0u8; 128];
        for operation in [Operation::Request, Operation::Reply] {
            let len = arp_announcement(&mut out, (OWN, ROUTER), operation).unwrap();
            let frame = &out[..len];
            let packet = ArpPacket::view(frame, &desc(frame)).unwrap();
            assert!(packet.is_announcement());
            assert_eq!(
                (packet.operation(), packet.sender_mac(), packet.sender),
                (Some(operation), OWN, ROUTER)
            );
            assert_eq!(packet.target_mac, if operation == Operation::Request { [0; 6] } else { OWN.0 });
            assert_eq!((&frame[..6], &frame[6..12]), (&MacAddr::BROADCAST.0[..], &OWN.0[..]));
        }
        let own = octets(ROUTER6);
        let len = unsolicited_advertisement(&mut out, (OWN, own)).unwrap();
        let told = Neighbour::read(&out[..len], &desc(&out[..len]));
        let (link, solicited) = (Some(OWN), false);
        let expected = Neighbour::Advertisement { target: own, link, router: true, solicited, replace: true };
        assert_eq!(told, Ok(expected));
        assert_eq!(out[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(arp_announcement(&mut out[..41], (OWN, ROUTER), Operation::Request), None);
    }

    /// A whole datagram, with a checksum in both families.
    fn udp(out: &mut [u8], link: Link, key: &FlowKey, payload: &[u8]) -> Option<usize> {
        let at = udp_payload(key)?;
        out.get_mut(at..at + payload.len())?.copy_from_slice(payload);
        let len = udp_around(out, link, key, TTL, payload.len())?;
        seal(&mut out[at - udp::HEADER_LEN..len], key)?;
        Some(len)
    }

    #[test]
    fn datagrams_of_our_own_are_read_back_and_nothing_else_is() {
        let mut out = [0u8; 2048];
        for (router, src, _) in families() {
            for payload in [&b""[..], b"x", &[7; 1_300]] {
                let key = FlowKey::new(src, router, Proto::UDP, 40_801, 801).unwrap();
                let len = udp(&mut out, LINK, &key, payload).unwrap();
                let frame = &mut out[..len];
                assert!(is_intact(frame));
                let expected = udp::Datagram {
                    link: LINK,
                    src,
                    dst: router,
                    sport: 40_801,
                    dport: 801,
                    ttl: TTL,
                    payload: len - payload.len()..len,
                };
                let read = |frame: &[u8], own: Addr, port| udp::parse_udp_to(frame, &[own], &[689, port]);
                assert_eq!(read(frame, router, 801), Some(expected.clone()));
                assert_eq!(&frame[expected.payload.clone()], payload);
                assert_eq!((read(frame, src, 801), read(frame, router, 802)), (None, None));
                // Link padding is no payload.
                let mut padded = frame.to_vec();
                padded.resize(len.max(60), 0xee);
                assert_eq!(read(&padded, router, 801), Some(expected));
                for cut in 0..len {
                    assert_eq!(read(&frame[..cut], router, 801), None);
                }
                frame[len - 1] ^= 1;
                assert_eq!(read(frame, router, 801), None, "a wrong checksum");
            }
            let tcp = FlowKey::new(src, router, Proto::TCP, 1, 801).unwrap();
            assert_eq!(udp(&mut out, LINK, &tcp, b"x"), None);
            let fragment = Frame::udp(src, router, 1, 801).payload_len(64).fragment(0, true).bytes();
            assert_eq!(udp::parse_udp_to(&fragment, &[router], &[801]), None);
            let key = FlowKey::new(src, router, Proto::UDP, 1, 801).unwrap();
            assert_eq!(udp(&mut out[..60], LINK, &key, &[0; 40]), None);
        }
    }

    #[test]
    fn errors_quote_within_their_limits_and_point_back_at_the_flow() {
        let errors = [
            (IcmpError::TimeExceeded, (11, 0), (3, 0)),
            (IcmpError::NoRoute, (3, 0), (1, 0)),
            (IcmpError::HostUnreachable, (3, 1), (1, 3)),
            (IcmpError::PortUnreachable, (3, 3), (1, 4)),
            (IcmpError::AdminProhibited, (3, 13), (1, 1)),
            (IcmpError::PacketTooBig { mtu: 1400 }, (3, 4), (2, 0)),
        ];
        let mut out = [0u8; 2048];
        for (router, src, dst) in families() {
            for (error, v4, v6) in errors {
                for payload_len in [0, 8, 1400] {
                    let about = Frame::udp(src, dst, 5, 6).payload_len(payload_len).pad_to(60);
                    let (frame, v6_family) = (about.bytes(), about.key().is_v6());
                    let len = icmp_error(&mut out, LINK, router, (&frame, &desc(&frame)), error).unwrap();
                    assert!(is_intact(&out[..len]));
                    let answer = desc(&out[..len]);
                    assert_eq!(
                        (answer.kind, answer.key.src(), answer.key.dst()),
                        (Kind::IcmpError, router, src)
                    );
                    let header = icmp::IcmpHeader::view(&out[..len], &answer).unwrap();
                    assert_eq!((header.kind, header.code), if v6_family { v6 } else { v4 });
                    if let IcmpError::PacketTooBig { mtu } = error {
                        assert_eq!(header.rest, u32::from(mtu).to_be_bytes());
                    }
                    assert_eq!(icmp::quoted(&out[..len], &answer).unwrap().key, about.key());
                    let (headers, max) = if v6_family { (48, 1280) } else { (28, 576) };
                    let expected = (headers + usize::from(desc(&frame).ip_len)).min(max);
                    assert_eq!(usize::from(answer.ip_len), expected);
                }
            }
        }
    }

    #[test]
    fn nothing_is_said_about_errors_groups_and_later_fragments() {
        let mut out = [0u8; 2048];
        for (router, src, dst) in families() {
            let v6 = matches!(src, Addr::V6(_));
            let group = if v6 { Addr::from(nd::ALL_NODES) } else { Addr::from([224, 0, 0, 1]) };
            let udp = Frame::udp(src, dst, 1, 2).payload_len(64);
            let mut silent = vec![
                Frame::icmp_error(src, dst, if v6 { 1 } else { 3 }, 1, &udp, 60),
                Frame::icmp(src, dst, if v6 { 130 } else { 5 }, 0, [0; 4]).payload_len(16),
                Frame::udp(src, group, 1, 2),
                udp.clone().eth(PEER, MacAddr::BROADCAST),
                Frame::ip(src, dst, Proto::UDP).payload_len(8).fragment(8, false),
            ];
            if v6 {
                silent.push(Frame::neighbour_solicitation(PEER, octets(SRC6), octets(ROUTER6)));
            } else {
                silent.push(Frame::arp_request(PEER, SRC, ROUTER));
            }
            for about in silent {
                let frame = about.bytes();
                let said = icmp_error(&mut out, LINK, router, (&frame, &desc(&frame)), IcmpError::NoRoute);
                assert_eq!(said, None, "{about:?}");
            }
            let first = Frame::udp(src, dst, 1, 2).payload_len(64).fragment(0, true).bytes();
            assert!(
                icmp_error(&mut out, LINK, router, (&first, &desc(&first)), IcmpError::TimeExceeded)
                    .is_some()
            );
            let frame = udp.bytes();
            let about = (&frame[..], &desc(&frame));
            let other_family: Addr = if v6 { ROUTER.into() } else { ROUTER6.into() };
            assert_eq!(icmp_error(&mut out, LINK, other_family, about, IcmpError::NoRoute), None);
            assert_eq!(icmp_error(&mut out[..40], LINK, router, about, IcmpError::NoRoute), None);
        }
    }

    /// Found by the hostile-bytes property: the answer would have been one that everybody refuses.
    #[test]
    fn packets_too_short_to_be_recognised_cause_no_error() {
        let mut out = [0u8; 2048];
        for (router, src, dst) in families() {
            for (payload_len, answered) in [(0, false), (7, false), (8, true)] {
                let frame = Frame::ip(src, dst, Proto(2)).payload_len(payload_len).bytes();
                let said = icmp_error(&mut out, LINK, router, (&frame, &desc(&frame)), IcmpError::NoRoute);
                assert_eq!(said.is_some(), answered);
            }
        }
    }

    #[test]
    fn s_26_an_echo_request_is_one_that_is_answered() {
        for (own, peer, _) in families() {
            let proto = icmp_proto(own);
            let key = FlowKey::new(own, peer, proto, 7, 0).unwrap();
            let mut out = [0xee; 128];
            let len = echo_request(&mut out, LINK, &key, 64, 9).unwrap();
            let parsed = desc(&out[..len]);
            assert_eq!((parsed.kind, parsed.key), (Kind::EchoRequest, key));
            assert!(is_intact(&out[..len]));
            let answered = echo_reply_in_place(&mut out[..len], &parsed).unwrap();
            let reply = desc(&out[..answered]);
            assert_eq!((reply.kind, reply.key.dport()), (Kind::EchoReply, 7));
            assert!(is_intact(&out[..answered]));
            assert_eq!(echo_request(&mut out[..len - 1], LINK, &key, 64, 9), None, "no room");
            let udp = FlowKey::new(own, peer, Proto::UDP, 7, 0).unwrap();
            assert_eq!(echo_request(&mut out, LINK, &udp, 64, 9), None);
        }
    }

    #[test]
    fn echo_is_answered_in_place() {
        for (own, src, _) in families() {
            let request = Frame::echo_request(src, own, 7, 9).payload_len(57).ttl(3).eth(PEER, OWN);
            let mut frame = request.clone().pad_to(200).bytes();
            let parsed = desc(&frame);
            let len = echo_reply_in_place(&mut frame, &parsed).unwrap();
            let expected = Frame::echo_reply(own, src, 7, 9).payload_len(57).eth(OWN, PEER).bytes();
            assert_eq!(frame[..len], expected);

            let mut reply = Frame::echo_reply(src, own, 7, 9).bytes();
            let parsed = desc(&reply);
            assert_eq!(echo_reply_in_place(&mut reply, &parsed), None);
            let mut wrong = request.bad_l4_checksum().bytes();
            let parsed = desc(&wrong);
            assert_eq!(echo_reply_in_place(&mut wrong, &parsed), Some(wrong.len()));
            assert!(!is_intact(&wrong));
        }
        // The second found by the hostile-bytes property: the reply's sender would have been a group.
        let mut smurf = Frame::echo_request(SRC, ROUTER, 7, 9).eth(PEER, MacAddr::BROADCAST).bytes();
        let parsed = desc(&smurf);
        assert_eq!(echo_reply_in_place(&mut smurf, &parsed), None);
        let mut smurf = Frame::echo_request(SRC, [255; 4], 7, 9).bytes();
        let parsed = desc(&smurf);
        assert_eq!(echo_reply_in_place(&mut smurf, &parsed), None);
    }

    #[test]
    fn resets_carry_the_numbers_of_rfc_9293() {
        let mut out = [0u8; 128];
        for (_, src, dst) in families() {
            let segment = Frame::tcp(src, dst, 40_000, 80).seq(1_000).ack(5_000).payload_len(10);
            for (flags, seq, ack, answer_flags) in
                [(ACK, 5_000, 0, RST), (SYN | ACK, 5_000, 0, RST), (SYN, 0, 1_011, RST | ACK)]
            {
                let frame = segment.clone().flags(flags).bytes();
                let len = tcp_reset(&mut out, LINK, &desc(&frame)).unwrap();
                assert!(is_intact(&out[..len]));
                let answer = desc(&out[..len]);
                assert_eq!(answer.key, segment.key().reversed());
                assert_eq!((answer.tcp.seq, answer.tcp.ack, answer.tcp.flags), (seq, ack, answer_flags));
            }
            let reset = segment.clone().flags(RST).bytes();
            assert_eq!(tcp_reset(&mut out, LINK, &desc(&reset)), None);
            let udp = Frame::udp(src, dst, 1, 2).bytes();
            assert_eq!(tcp_reset(&mut out, LINK, &desc(&udp)), None);
            let frame = segment.bytes();
            assert_eq!(tcp_reset(&mut out[..53], LINK, &desc(&frame)), None);
        }
    }

    #[test]
    fn segments_to_groups_are_not_reset() {
        let mut out = [0u8; 128];
        // Found by the hostile-bytes property: the answer's sender would have been a group.
        for to_group in
            [Frame::tcp(SRC, [224, 0, 0, 1], 1, 2).bytes(), Frame::tcp(SRC6, nd::ALL_NODES, 1, 2).bytes()]
        {
            assert_eq!(tcp_reset(&mut out, LINK, &desc(&to_group)), None);
        }
    }
}
