//! One pass over a frame's headers, which leaves a flat [`Desc`].
//!
//! This is the first thing that touches a packet, so its shape is set by the common packet, which
//! [`common`] accepts without asking what else it could be. Everything that it does not accept is parsed
//! here from the start.
//!
//! What is refused here no host would send, or no router may forward: RFC 791, RFC 1812 §5.2.2 and
//! §5.3.7, RFC 6890 (addresses), RFC 8200 §4 (extension headers), RFC 9293 §3.1, RFC 768, RFC 792,
//! RFC 4443, RFC 4861 §7.1, RFC 826. What only a *policy* would refuse (multicast, redirects, port 0)
//! passes: the engine decides.

mod common;

use crate::desc::{Desc, Kind, TcpFields};
use crate::ipv6::{AUTHENTICATION, DEST_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
use crate::key::{FlowKey, Proto, echo_ports};
pub use crate::parse_error::ParseError;

/// Length of an untagged Ethernet header: where the IP or ARP header starts.
pub const ETHERNET_LEN: usize = 14;

/// An IPv6 packet may carry at most this many extension headers.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// And they may take at most this many bytes together.
pub const MAX_EXTENSION_BYTES: usize = 512;

const L3: usize = ETHERNET_LEN;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Describes the frame of `frame_len` bytes whose first segment is `bytes`.
#[inline]
pub fn parse(bytes: &[u8], frame_len: usize) -> Result<Desc, ParseError> {
    parse_with(bytes, frame_len, false)
}

/// The same, where the port may already have found the IPv4 header's checksum right.
#[inline]
pub fn parse_with(bytes: &[u8], frame_len: usize, ip_checksum_known_good: bool) -> Result<Desc, ParseError> {
    let mut desc = Desc::EMPTY;
    parse_into(&mut desc, bytes, frame_len, ip_checksum_known_good)?;
    Ok(desc)
}

/// The same, into a place of the caller's: a burst's descriptors are written once, where they stay. A
/// descriptor returned by value would be copied right behind its many narrow stores, which stalls a
/// processor for longer than parsing takes. After an error `desc` is unspecified.
#[inline(always)]
pub fn parse_into(
    desc: &mut Desc,
    bytes: &[u8],
    frame_len: usize,
    ip_checksum_known_good: bool,
) -> Result<(), ParseError> {
    if common::parse(desc, bytes, frame_len, ip_checksum_known_good) {
        return Ok(());
    }
    parse_any(desc, bytes, frame_len, ip_checksum_known_good)
}

/// Every frame: the one that says what is wrong with it, too.
#[inline(never)]
fn parse_any(
    desc: &mut Desc,
    bytes: &[u8],
    frame_len: usize,
    ip_checksum_known_good: bool,
) -> Result<(), ParseError> {
    // Room for an IPv4 header; ARP and IPv6 are longer.
    let Some(head) = bytes.first_chunk::<{ L3 + IPV4_LEN }>() else {
        return Err(too_short(bytes, frame_len));
    };
    if head[6] & 1 != 0 {
        return Err(ParseError::BadSourceMac);
    }
    desc.kind = match be16(head, 12) {
        0x0800 if head[L3] == 0x45 => ipv4(desc, bytes, head, frame_len, ip_checksum_known_good),
        0x86dd => ipv6(desc, bytes, frame_len),
        _ => uncommon(desc, bytes, head, frame_len, ip_checksum_known_good),
    }?;
    Ok(())
}

/// IPv4 without options.
fn ipv4(
    desc: &mut Desc,
    bytes: &[u8],
    head: &[u8; L3 + IPV4_LEN],
    frame_len: usize,
    checksum_known_good: bool,
) -> Result<Kind, ParseError> {
    let ip_len = be16(head, L3 + 2);
    let end = L3 + usize::from(ip_len);
    if usize::from(ip_len) < IPV4_LEN || end > frame_len {
        return Err(ParseError::BadIpLen);
    }
    if !checksum_known_good && !header_sum_is_valid(head) {
        return Err(ParseError::BadIpChecksum);
    }
    let (src, dst) = ipv4_addresses(head)?;
    let proto = Proto(head[L3 + 9]);
    let packet = Packet { bytes, l4: L3 + IPV4_LEN, end };
    *desc = Desc {
        key: FlowKey::v4(src, dst, proto, 0, 0),
        tcp: TcpFields::default(),
        l3: L3 as u16,
        l4: (L3 + IPV4_LEN) as u16,
        ip_len,
        kind: Kind::OtherIp,
        ttl: head[L3 + 8],
        has_options: false,
    };
    let fragment = be16(head, L3 + 6);
    if fragment & 0x3fff != 0 {
        return ipv4_fragment(&packet, fragment);
    }
    match proto {
        Proto::TCP => tcp(&packet, desc),
        Proto::UDP => udp(&packet, desc),
        _ => upper(&packet, desc),
    }
}

/// IPv6.
fn ipv6(desc: &mut Desc, bytes: &[u8], frame_len: usize) -> Result<Kind, ParseError> {
    let Some(head) = bytes.first_chunk::<{ L3 + IPV6_LEN }>() else {
        return Err(split_or(bytes, frame_len, L3 + IPV6_LEN, ParseError::TooShort));
    };
    if head[L3] >> 4 != 6 {
        return Err(ParseError::BadIpVersion);
    }
    let ip_len = IPV6_LEN + usize::from(be16(head, L3 + 4));
    let end = L3 + ip_len;
    // A jumbogram (RFC 2675) has length 0 here and fails behind its hop-by-hop header.
    if end > frame_len || ip_len > usize::from(u16::MAX) {
        return Err(ParseError::BadIpLen);
    }
    let src: [u8; 16] = array(head, L3 + 8);
    let dst: [u8; 16] = array(head, L3 + 24);
    let proto = Proto(head[L3 + 6]);
    // One test for everything out of the ordinary: multicast, and whatever begins with four zero bytes.
    let special = |a: &[u8; 16]| a[0] == 0xff || a[..4] == [0; 4];
    if special(&src) || special(&dst) {
        ipv6_special_addresses(&src, &dst, proto)?;
    }
    if src == dst {
        return Err(ParseError::LandAttack);
    }
    let packet = Packet { bytes, l4: L3 + IPV6_LEN, end };
    *desc = Desc {
        key: FlowKey::v6(src, dst, proto, 0, 0),
        tcp: TcpFields::default(),
        l3: L3 as u16,
        l4: (L3 + IPV6_LEN) as u16,
        ip_len: ip_len as u16,
        kind: Kind::OtherIp,
        ttl: head[L3 + 7],
        has_options: false,
    };
    match proto {
        Proto::TCP => tcp(&packet, desc),
        Proto::UDP => udp(&packet, desc),
        _ => ipv6_rest(packet, desc),
    }
}

/// Where a packet's transport part lies: `bytes[l4..end]` as far as `bytes` reaches.
#[derive(Clone, Copy)]
struct Packet<'a> {
    bytes: &'a [u8],
    l4: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    /// Length of the transport part.
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.l4
    }

    /// The first `N` bytes of the transport part; the packet is known to be long enough.
    #[inline(always)]
    fn header<const N: usize>(&self) -> Result<&'a [u8; N], ParseError> {
        self.bytes.get(self.l4..).and_then(|b| b.first_chunk::<N>()).ok_or(ParseError::HeadersSplit)
    }

    /// The whole transport part, if it lies in the first segment.
    fn whole(&self) -> Result<&'a [u8], ParseError> {
        self.bytes.get(self.l4..self.end).ok_or(ParseError::HeadersSplit)
    }
}

/// TCP (RFC 9293 §3.1).
fn tcp(packet: &Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    let len = packet.len();
    if len < 20 {
        return Err(ParseError::BadTcpHeader);
    }
    let h = packet.header::<20>()?;
    let header_len = usize::from(h[12] >> 4) * 4;
    if header_len < 20 || header_len > len {
        return Err(ParseError::BadTcpHeader);
    }
    if packet.l4 + header_len > packet.bytes.len() {
        return Err(ParseError::HeadersSplit);
    }
    let flags = h[13] & 0x3f;
    if VALID_TCP_FLAGS >> flags & 1 == 0 {
        return Err(ParseError::BadTcpFlags);
    }
    desc.key.tail |= ports(h);
    desc.tcp = tcp_fields(h, flags, header_len, len);
    Ok(Kind::Tcp)
}

/// UDP (RFC 768). Bytes behind the UDP length are RFC 9868's surplus and allowed.
fn udp(packet: &Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    let len = packet.len();
    if len < 8 {
        return Err(ParseError::BadUdpLen);
    }
    let h = packet.header::<8>()?;
    let udp_len = usize::from(be16(h, 4));
    if udp_len < 8 || udp_len > len {
        return Err(ParseError::BadUdpLen);
    }
    desc.key.tail |= ports(h);
    Ok(Kind::Udp)
}

/// The six low flag bits that a TCP may send together, as a set of 64: SYN, SYN+ACK, RST, RST+ACK,
/// FIN+ACK and ACK, with PSH where it may be and URG where data may be. Everything else is a scan:
/// no flags, FIN or URG or PSH alone, SYN+FIN, SYN+RST, FIN+RST, all.
const VALID_TCP_FLAGS: u64 = {
    use crate::desc::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
    let good = [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG];
    let mut set = 0u64;
    let mut i = 0;
    while i < good.len() {
        set |= 1 << good[i] | 1 << (good[i] | PSH);
        i += 1;
    }
    set
};

/// Everything that is not UDP or TCP: ICMP of the family, or a protocol that we do not look into.
#[inline(never)]
fn upper(packet: &Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    match (desc.key.proto(), desc.key.is_v6()) {
        (Proto::TCP, _) => tcp(packet, desc),
        (Proto::UDP, _) => udp(packet, desc),
        (Proto::ICMP, false) => icmp4(packet, desc),
        (Proto::ICMP6, true) => icmp6(packet, desc),
        _ => Ok(Kind::OtherIp),
    }
}

/// ICMP (RFC 792). Redirects and source quenches (RFC 6633) quote a packet, too, but no router forwards
/// them: they count as other messages.
fn icmp4(packet: &Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    if packet.len() < 8 {
        return Err(ParseError::BadIcmp);
    }
    let h = packet.header::<8>()?;
    match (h[0], h[1]) {
        (8, 0) => echo(desc, Kind::EchoRequest, h),
        (0, 0) => echo(desc, Kind::EchoReply, h),
        (3 | 11 | 12, _) => {
            let quoted = &packet.whole()?[8..];
            let Some(first) = quoted.first() else { return Err(ParseError::BadIcmp) };
            let header_len = usize::from(first & 0xf) * 4;
            if first >> 4 != 4 || header_len < IPV4_LEN || quoted.len() < header_len + 8 {
                return Err(ParseError::BadIcmp);
            }
            Ok(Kind::IcmpError)
        }
        _ => Ok(Kind::IcmpOther),
    }
}

/// ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861 §6.1 and §7.1).
fn icmp6(packet: &Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    if packet.len() < 8 {
        return Err(ParseError::BadIcmp);
    }
    let h = packet.header::<8>()?;
    match (h[0], h[1]) {
        (128, 0) => echo(desc, Kind::EchoRequest, h),
        (129, 0) => echo(desc, Kind::EchoReply, h),
        (1..=4, _) => {
            let quoted = &packet.whole()?[8..];
            if quoted.len() < IPV6_LEN + 8 || quoted[0] >> 4 != 6 {
                return Err(ParseError::BadIcmp);
            }
            Ok(Kind::IcmpError)
        }
        (kind @ 133..=137, code) => {
            let fixed_len = match kind {
                133 => 8,
                134 => 16,
                137 => 40,
                _ => 24,
            };
            let message = packet.whole()?;
            let options = message.get(fixed_len..).ok_or(ParseError::BadNeighbourDiscovery)?;
            if desc.ttl != 255 || code != 0 || !nd_options_fit(options) {
                return Err(ParseError::BadNeighbourDiscovery);
            }
            let kind = if kind == 135 || kind == 136 { Kind::NeighbourDiscovery } else { Kind::IcmpOther };
            Ok(kind)
        }
        _ => Ok(Kind::IcmpOther),
    }
}

/// Each option has a length, not zero, and ends inside the message (RFC 4861 §4.6).
fn nd_options_fit(mut options: &[u8]) -> bool {
    while let [_, units, ..] = options {
        let len = usize::from(*units) * 8;
        match options.get(len..) {
            Some(rest) if len > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

fn echo(desc: &mut Desc, kind: Kind, h: &[u8; 8]) -> Result<Kind, ParseError> {
    let (sport, dport) = echo_ports(kind == Kind::EchoRequest, u16::from_be_bytes([h[4], h[5]]));
    desc.key.tail |= u64::from(sport) | u64::from(dport) << 16;
    Ok(kind)
}

/// IPv6 behind the fixed header, when it is neither TCP nor UDP: walks extension headers (RFC 8200 §4).
#[inline(never)]
fn ipv6_rest(mut packet: Packet<'_>, desc: &mut Desc) -> Result<Kind, ParseError> {
    let mut next = desc.key.proto().0;
    let mut seen_routing = false;
    let start = packet.l4;
    let mut count = 0;
    while matches!(next, HOP_BY_HOP | DEST_OPTIONS | ROUTING | FRAGMENT | AUTHENTICATION) {
        count += 1;
        let packet_has_eight = packet.len() >= 8;
        if count > MAX_EXTENSION_HEADERS || !packet_has_eight || (next == HOP_BY_HOP && count > 1) {
            return Err(ParseError::BadExtensionHeaders);
        }
        let h = packet.header::<8>()?;
        let len = match next {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(h[1]) + 2) * 4,
            _ => (usize::from(h[1]) + 1) * 8,
        };
        // RFC 4302 §2: SPI and sequence number are always there.
        let cut_short = next == AUTHENTICATION && len < 12;
        if cut_short || len > packet.len() || packet.l4 - start + len > MAX_EXTENSION_BYTES {
            return Err(ParseError::BadExtensionHeaders);
        }
        if packet.l4 + len > packet.bytes.len() {
            return Err(ParseError::HeadersSplit);
        }
        desc.has_options = true;
        packet.l4 += len;
        desc.l4 = packet.l4 as u16;
        let this = std::mem::replace(&mut next, h[0]);
        desc.key.tail = desc.key.tail & !(0xff << 32) | u64::from(next) << 32;
        match this {
            // Type 0 lets a sender bounce packets to and fro; of the others only used-up ones pass.
            ROUTING if seen_routing || h[2] == 0 => return Err(ParseError::BadExtensionHeaders),
            ROUTING if h[3] != 0 => return Err(ParseError::SourceRouted),
            ROUTING => seen_routing = true,
            FRAGMENT => {
                let offset = be16(h, 2);
                // Offset 0 and no more to come: an atomic fragment is a whole packet (RFC 6946).
                if offset & 0xfff9 != 0 {
                    return fragment(&packet, usize::from(offset & 0xfff8), offset & 1 == 1);
                }
            }
            _ => {}
        }
    }
    // The router alert let an unspecified source come this far; only discovery may have one.
    if desc.key.a[..2] == [0; 2] && desc.key.proto() != Proto::ICMP6 {
        return Err(ParseError::SourceAddress);
    }
    upper(&packet, desc)
}

#[cold]
#[inline(never)]
fn ipv4_fragment(packet: &Packet<'_>, field: u16) -> Result<Kind, ParseError> {
    fragment(packet, usize::from(field & 0x1fff) * 8, field & 0x2000 != 0)
}

/// A fragment of either family. `desc.l4` is where its payload starts.
fn fragment(packet: &Packet<'_>, offset: usize, more: bool) -> Result<Kind, ParseError> {
    let len = packet.len();
    if len == 0 || offset + len > usize::from(u16::MAX) || (more && !len.is_multiple_of(8)) {
        return Err(ParseError::BadFragment);
    }
    Ok(Kind::Fragment)
}

/// IPv4 with options, ARP, and everything that is refused by its ethertype.
#[cold]
#[inline(never)]
fn uncommon(
    desc: &mut Desc,
    bytes: &[u8],
    head: &[u8; L3 + IPV4_LEN],
    frame_len: usize,
    checksum_known_good: bool,
) -> Result<Kind, ParseError> {
    match be16(head, 12) {
        0x0800 => ipv4_with_options(desc, bytes, head, frame_len, checksum_known_good),
        0x0806 => arp(desc, bytes, frame_len),
        _ => Err(refused_ethertype(head)),
    }
}

fn refused_ethertype(head: &[u8]) -> ParseError {
    match head.get(12..14) {
        Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]) => ParseError::VlanTagged,
        Some([0x08, 0x00] | [0x08, 0x06] | [0x86, 0xdd]) | None => ParseError::TooShort,
        Some(_) => ParseError::NotIpOrArp,
    }
}

#[cold]
#[inline(never)]
fn too_short(bytes: &[u8], frame_len: usize) -> ParseError {
    match refused_ethertype(bytes) {
        ParseError::TooShort => split_or(bytes, frame_len, L3 + IPV4_LEN, ParseError::TooShort),
        refused => refused,
    }
}

/// `HeadersSplit` if the frame has the bytes that its first segment lacks, else `error`.
#[cold]
fn split_or(bytes: &[u8], frame_len: usize, needed: usize, error: ParseError) -> ParseError {
    if bytes.len() < needed && frame_len >= needed { ParseError::HeadersSplit } else { error }
}

fn ipv4_with_options(
    desc: &mut Desc,
    bytes: &[u8],
    head: &[u8; L3 + IPV4_LEN],
    frame_len: usize,
    checksum_known_good: bool,
) -> Result<Kind, ParseError> {
    if head[L3] >> 4 != 4 {
        return Err(ParseError::BadIpVersion);
    }
    let header_len = usize::from(head[L3] & 0xf) * 4;
    let ip_len = be16(head, L3 + 2);
    let end = L3 + usize::from(ip_len);
    if header_len < IPV4_LEN {
        return Err(ParseError::BadIpHeaderLen);
    }
    if end > frame_len || usize::from(ip_len) < IPV4_LEN {
        return Err(ParseError::BadIpLen);
    }
    if header_len > usize::from(ip_len) {
        return Err(ParseError::BadIpHeaderLen);
    }
    let Some(header) = bytes.get(L3..L3 + header_len) else { return Err(ParseError::HeadersSplit) };
    if !checksum_known_good && crate::checksum::ipv4_header(header) != 0 {
        return Err(ParseError::BadIpChecksum);
    }
    let (src, dst) = ipv4_addresses(head)?;
    walk_ipv4_options(&header[IPV4_LEN..])?;
    let l4 = L3 + header_len;
    let packet = Packet { bytes, l4, end };
    *desc = Desc {
        key: FlowKey::v4(src, dst, Proto(head[L3 + 9]), 0, 0),
        tcp: TcpFields::default(),
        l3: L3 as u16,
        l4: l4 as u16,
        ip_len,
        kind: Kind::OtherIp,
        ttl: head[L3 + 8],
        has_options: true,
    };
    let fragment = be16(head, L3 + 6);
    if fragment & 0x3fff != 0 { ipv4_fragment(&packet, fragment) } else { upper(&packet, desc) }
}

/// RFC 791 §3.1: single-byte options 0 and 1, all others with a length.
fn walk_ipv4_options(mut options: &[u8]) -> Result<(), ParseError> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    loop {
        options = match options {
            [] | [END, ..] => return Ok(()),
            [NO_OPERATION, rest @ ..] => rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(ParseError::SourceRouted),
            [_, len @ 2..=u8::MAX, ..] => options.get(usize::from(*len)..).ok_or(ParseError::BadIpOptions)?,
            _ => return Err(ParseError::BadIpOptions),
        };
    }
}

/// ARP for IPv4 over Ethernet (RFC 826). A probe's sender address is unspecified (RFC 5227 §2.1.1).
fn arp(desc: &mut Desc, bytes: &[u8], frame_len: usize) -> Result<Kind, ParseError> {
    const ARP_LEN: usize = 28;
    let Some(head) = bytes.first_chunk::<{ L3 + ARP_LEN }>() else {
        return Err(split_or(bytes, frame_len, L3 + ARP_LEN, ParseError::TooShort));
    };
    let operation = be16(head, L3 + 6);
    let sender: [u8; 4] = array(head, L3 + 14);
    let sender_is_group = head[L3 + 8] & 1 != 0;
    let fixed_part_fits = head[L3..L3 + 6] == [0, 1, 0x08, 0, 6, 4] && matches!(operation, 1 | 2);
    if !fixed_part_fits || sender_is_group || (sender != [0; 4] && is_martian_source(sender)) {
        return Err(ParseError::BadArp);
    }
    let (l3, l4, ip_len) = (L3 as u16, (L3 + ARP_LEN) as u16, ARP_LEN as u16);
    *desc = Desc { l3, l4, ip_len, ..Desc::EMPTY };
    Ok(Kind::Arp)
}

#[inline(always)]
fn ipv4_addresses(head: &[u8; L3 + IPV4_LEN]) -> Result<([u8; 4], [u8; 4]), ParseError> {
    let src: [u8; 4] = array(head, L3 + 12);
    let dst: [u8; 4] = array(head, L3 + 16);
    if is_martian_source(src) {
        return Err(ParseError::SourceAddress);
    }
    if dst[0] == 0 || dst[0] == 127 {
        return Err(ParseError::DestinationAddress);
    }
    if src == dst {
        return Err(ParseError::LandAttack);
    }
    Ok((src, dst))
}

/// 0/8, 127/8, and everything from 224/4 up: multicast, reserved, broadcast (RFC 6890).
#[inline(always)]
fn is_martian_source(src: [u8; 4]) -> bool {
    src[0].wrapping_sub(1) >= 223 || src[0] == 127
}

/// RFC 4291 §2.5.2, §2.5.3, §2.7, and RFC 6890 for mapped addresses.
#[cold]
#[inline(never)]
fn ipv6_special_addresses(src: &[u8; 16], dst: &[u8; 16], proto: Proto) -> Result<(), ParseError> {
    let loopback_or_mapped = |a: &[u8; 16]| {
        let a = u128::from_be_bytes(*a);
        a == 1 || a >> 32 == 0xffff
    };
    let unspecified = |a: &[u8; 16]| *a == [0; 16];
    if src[0] == 0xff || loopback_or_mapped(src) {
        return Err(ParseError::SourceAddress);
    }
    // A host without an address yet speaks neighbour and listener discovery to link-local groups only;
    // a hop-by-hop header with the router alert may come first (RFC 3810 §5).
    let discovery = matches!(proto.0, 58 | HOP_BY_HOP) && dst[0] == 0xff && dst[1] & 0xf == 2;
    if unspecified(src) && !discovery {
        return Err(ParseError::SourceAddress);
    }
    if unspecified(dst) || loopback_or_mapped(dst) || (dst[0] == 0xff && dst[1] & 0xf <= 1) {
        return Err(ParseError::DestinationAddress);
    }
    Ok(())
}

/// The ones' complement sum is arithmetic modulo 0xffff: an intact header, which is not all zero, sums to
/// a multiple of it, whatever the byte order. That is one multiplication instead of a chain of folds.
#[inline(always)]
fn header_sum_is_valid(head: &[u8; L3 + IPV4_LEN]) -> bool {
    let a = u64::from_ne_bytes(array(head, L3));
    let b = u64::from_ne_bytes(array(head, L3 + 8));
    let c = u32::from_ne_bytes(array(head, L3 + 16));
    let low = 0xffff_ffff;
    ((a & low) + (a >> 32) + (b & low) + (b >> 32) + u64::from(c)).is_multiple_of(0xffff)
}

/// Both ports of a transport header as the key's tail holds them.
#[inline(always)]
fn ports<const N: usize>(header: &[u8; N]) -> u64 {
    be32(header, 0).rotate_left(16).into()
}

/// What tracking needs of a TCP header whose lengths and flags are good; `len` is that of header and payload.
#[inline(always)]
fn tcp_fields(header: &[u8; 20], flags: u8, header_len: usize, len: usize) -> TcpFields {
    TcpFields {
        seq: be32(header, 4),
        ack: be32(header, 8),
        window: be16(header, 14),
        flags,
        header_len: header_len as u8,
        payload_len: (len - header_len) as u16,
    }
}

// Loads at offsets that are constant where these are inlined: no check is left.

#[inline(always)]
fn array<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[inline(always)]
fn be16<const M: usize>(bytes: &[u8; M], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

#[inline(always)]
fn be32<const M: usize>(bytes: &[u8; M], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::desc::tcp_flags::{ACK, PSH, SYN};
    use crate::key::{Addr, MacAddr};

    const CLIENT: [u8; 4] = [10, 1, 0, 10];
    const SERVER: [u8; 4] = [10, 2, 0, 10];
    const CLIENT6: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 0x10];
    const SERVER6: [u16; 8] = [0xfd00, 2, 0, 0, 0, 0, 0, 0x10];

    fn desc(frame: &Frame) -> Desc {
        let bytes = frame.bytes();
        parse(&bytes, bytes.len()).unwrap()
    }

    fn error(frame: &Frame) -> ParseError {
        let bytes = frame.bytes();
        parse(&bytes, bytes.len()).unwrap_err()
    }

    #[test]
    fn tcp_fields_come_out_in_both_families() {
        let v4 = Frame::tcp(CLIENT, SERVER, 40_000, 80);
        let v6 = Frame::tcp(CLIENT6, SERVER6, 40_000, 80);
        for (frame, l4) in [(v4, 34), (v6, 54)] {
            let frame = frame.seq(7).ack(8).window(9).flags(ACK | PSH).options(&[1, 1, 1]).payload(b"hello");
            let frame = frame.pad_to(60).ttl(17);
            let d = desc(&frame);
            assert_eq!(d.key, frame.key());
            let tcp =
                TcpFields { seq: 7, ack: 8, window: 9, flags: ACK | PSH, header_len: 24, payload_len: 5 };
            assert_eq!(d.tcp, tcp);
            assert_eq!((d.kind, d.l3, d.l4, d.ttl, d.has_options), (Kind::Tcp, 14, l4, 17, false));
            assert_eq!(d.ip_len, l4 - 14 + 24 + 5);
        }
    }

    #[test]
    fn udp_echo_arp_and_neighbour_discovery_come_out() {
        for frame in [Frame::udp(CLIENT, SERVER, 53, 1024), Frame::udp(CLIENT6, SERVER6, 53, 1024)] {
            let d = desc(&frame.payload(b"x"));
            assert_eq!((d.kind, d.key.sport(), d.key.dport()), (Kind::Udp, 53, 1024));
        }
        let pairs = [(Addr::from(CLIENT), Addr::from(SERVER)), (Addr::from(CLIENT6), Addr::from(SERVER6))];
        for (a, b) in pairs {
            let d = desc(&Frame::echo_request(a, b, 77, 1));
            assert_eq!((d.kind, d.key.sport(), d.key.dport()), (Kind::EchoRequest, 77, 0));
            let d = desc(&Frame::echo_reply(a, b, 77, 1));
            assert_eq!((d.kind, d.key.sport(), d.key.dport()), (Kind::EchoReply, 0, 77));
        }
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let d = desc(&Frame::arp_request(mac, CLIENT, SERVER).pad_to(60));
        assert_eq!((d.kind, d.l3, d.key), (Kind::Arp, 14, FlowKey::default()));
        let target = std::net::Ipv6Addr::from(SERVER6).octets();
        let source = std::net::Ipv6Addr::from(CLIENT6).octets();
        let solicit = Frame::neighbour_solicitation(mac, source, target);
        assert_eq!(desc(&solicit).kind, Kind::NeighbourDiscovery);
        assert_eq!(error(&solicit.ttl(254)), ParseError::BadNeighbourDiscovery);
    }

    #[test]
    fn wrong_checksums_and_flags_are_named() {
        let syn = Frame::tcp(CLIENT, SERVER, 1, 2).flags(SYN);
        assert_eq!(error(&syn.clone().bad_ip_checksum()), ParseError::BadIpChecksum);
        let bytes = syn.clone().bad_ip_checksum().bytes();
        assert!(parse_with(&bytes, bytes.len(), true).is_ok());
        assert_eq!(error(&syn.flags(0)), ParseError::BadTcpFlags);
    }

    #[test]
    fn link_layer_refusals_are_named() {
        let frame = || Frame::tcp(CLIENT, SERVER, 1, 2);
        assert_eq!(error(&frame().vlan(7)), ParseError::VlanTagged);
        assert_eq!(error(&Frame::link(0x88a8, &[0; 46])), ParseError::VlanTagged);
        assert_eq!(error(&Frame::link(0x88cc, &[0; 4])), ParseError::NotIpOrArp);
        // An 802.3 length, as spanning tree sends it
        assert_eq!(error(&Frame::link(0x0026, &[0; 46])), ParseError::NotIpOrArp);
        assert_eq!(error(&frame().eth(MacAddr([3; 6]), MacAddr([2; 6]))), ParseError::BadSourceMac);
        let bytes = frame().bytes();
        for len in 0..34 {
            assert_eq!(parse(&bytes[..len], len).unwrap_err(), ParseError::TooShort);
            assert_eq!(parse(&bytes[..len], 60).unwrap_err(), ParseError::HeadersSplit, "{len} bytes");
        }
    }

    #[test]
    fn what_only_a_policy_refuses_passes() {
        assert_eq!(desc(&Frame::udp(CLIENT, [224, 0, 0, 251], 5353, 5353)).kind, Kind::Udp);
        assert_eq!(desc(&Frame::udp(CLIENT, [255; 4], 68, 67)).kind, Kind::Udp);
        assert_eq!(desc(&Frame::tcp(CLIENT, SERVER, 0, 0)).kind, Kind::Tcp);
        assert_eq!(desc(&Frame::ip(CLIENT, SERVER, Proto::ESP)).kind, Kind::OtherIp);
    }
}
