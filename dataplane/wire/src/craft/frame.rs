//! A fluent builder of whole frames, for tests, benches and tools: it allocates, and it asserts where its
//! caller mixes address families. The packet path uses the functions of [`super`] instead.
//!
//! ```
//! use wire::{craft::Frame, tcp_flags::{ACK, SYN}};
//! let frame = Frame::tcp([10, 1, 0, 10], [10, 2, 0, 10], 40_000, 80).seq(1_000).flags(SYN).bytes();
//! let desc = wire::parse(&frame, frame.len()).unwrap();
//! assert_eq!((desc.tcp.seq, desc.tcp.flags & ACK), (1_000, 0));
//! ```

use crate::buf::HeapBuf;
use crate::checksum::Sum;
use crate::desc::tcp_flags;
use crate::key::{Addr, FlowKey, MacAddr, Proto, echo_ports};

/// Default link-layer sender.
pub const SRC_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
/// Default link-layer receiver.
pub const DST_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x02]);

/// A frame under construction. Methods that do not fit its protocol change nothing.
#[derive(Debug, Clone)]
pub struct Frame {
    src_mac: MacAddr,
    dst_mac: MacAddr,
    vlan: Option<u16>,
    body: Body,
    payload: Vec<u8>,
    pad_to: usize,
}

#[derive(Debug, Clone)]
enum Body {
    Ip(Box<Ip>),
    /// Anything else, by its ethertype; the payload is all of it.
    Link(u16),
}

#[derive(Debug, Clone)]
struct Ip {
    src: Addr,
    dst: Addr,
    proto: Proto,
    ttl: u8,
    traffic_class: u8,
    id: u32,
    dont_fragment: bool,
    fragment: Option<(u16, bool)>,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    upper: Upper,
    bad_ip_checksum: bool,
    bad_l4_checksum: bool,
}

#[derive(Debug, Clone)]
enum Upper {
    Tcp { ports: (u16, u16), seq: u32, ack: u32, flags: u8, window: u16, options: Vec<u8> },
    Udp { ports: (u16, u16), checksum: bool },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Raw,
}

impl Frame {
    /// TCP: ACK, sequence and acknowledgement number 1, window 65,535, no payload.
    pub fn tcp(src: impl Into<Addr>, dst: impl Into<Addr>, sport: u16, dport: u16) -> Self {
        let upper = Upper::Tcp {
            ports: (sport, dport),
            seq: 1,
            ack: 1,
            flags: tcp_flags::ACK,
            window: 65_535,
            options: Vec::new(),
        };
        Self::over_ip(src.into(), dst.into(), Proto::TCP, upper)
    }

    /// UDP without payload.
    pub fn udp(src: impl Into<Addr>, dst: impl Into<Addr>, sport: u16, dport: u16) -> Self {
        let upper = Upper::Udp { ports: (sport, dport), checksum: true };
        Self::over_ip(src.into(), dst.into(), Proto::UDP, upper)
    }

    /// An ICMP or ICMPv6 echo request.
    pub fn echo_request(src: impl Into<Addr>, dst: impl Into<Addr>, id: u16, seq: u16) -> Self {
        let src = src.into();
        let kind = if matches!(src, Addr::V4(_)) { 8 } else { 128 };
        Self::icmp(src, dst, kind, 0, echo_rest(id, seq))
    }

    /// An ICMP or ICMPv6 echo reply.
    pub fn echo_reply(src: impl Into<Addr>, dst: impl Into<Addr>, id: u16, seq: u16) -> Self {
        let src = src.into();
        let kind = if matches!(src, Addr::V4(_)) { 0 } else { 129 };
        Self::icmp(src, dst, kind, 0, echo_rest(id, seq))
    }

    /// Any ICMP message (ICMPv6 between IPv6 addresses); `rest` are bytes 4 to 8 of its header.
    pub fn icmp(src: impl Into<Addr>, dst: impl Into<Addr>, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let src = src.into();
        let proto = if matches!(src, Addr::V4(_)) { Proto::ICMP } else { Proto::ICMP6 };
        Self::over_ip(src, dst.into(), proto, Upper::Icmp { kind, code, rest })
    }

    /// An ICMP error that quotes `quoted`'s IP packet, cut to `quoted_len` bytes.
    pub fn icmp_error(
        src: impl Into<Addr>,
        dst: impl Into<Addr>,
        kind: u8,
        code: u8,
        quoted: &Frame,
        quoted_len: usize,
    ) -> Self {
        let mut packet = quoted.ip_packet();
        packet.truncate(quoted_len);
        Self::icmp(src, dst, kind, code, [0; 4]).payload(&packet)
    }

    /// A neighbour solicitation for `target` with its source link-layer address option.
    pub fn neighbour_solicitation(src_mac: MacAddr, src: [u8; 16], target: [u8; 16]) -> Self {
        let mut group = [0u8; 16];
        group[..2].copy_from_slice(&[0xff, 0x02]);
        group[11] = 1;
        group[12] = 0xff;
        group[13..].copy_from_slice(&target[13..]);
        let mut body = target.to_vec();
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&src_mac.0);
        let dst_mac = MacAddr([0x33, 0x33, group[12], group[13], group[14], group[15]]);
        Self::icmp(src, group, 135, 0, [0; 4]).eth(src_mac, dst_mac).ttl(255).payload(&body)
    }

    /// A neighbour advertisement (solicited, override) of `src` with its target link-layer address option.
    pub fn neighbour_advertisement(src_mac: MacAddr, src: [u8; 16], dst: [u8; 16]) -> Self {
        let mut body = src.to_vec();
        body.extend_from_slice(&[2, 1]);
        body.extend_from_slice(&src_mac.0);
        Self::icmp(src, dst, 136, 0, [0x60, 0, 0, 0]).eth(src_mac, DST_MAC).ttl(255).payload(&body)
    }

    /// An ARP request, broadcast.
    pub fn arp_request(sender_mac: MacAddr, sender: [u8; 4], target: [u8; 4]) -> Self {
        let body = arp_body(1, sender_mac, sender, MacAddr([0; 6]), target);
        Self::link(0x0806, &body).eth(sender_mac, MacAddr::BROADCAST)
    }

    /// An ARP reply.
    pub fn arp_reply(sender_mac: MacAddr, sender: [u8; 4], target_mac: MacAddr, target: [u8; 4]) -> Self {
        let body = arp_body(2, sender_mac, sender, target_mac, target);
        Self::link(0x0806, &body).eth(sender_mac, target_mac)
    }

    /// Any other IP protocol.
    pub fn ip(src: impl Into<Addr>, dst: impl Into<Addr>, proto: Proto) -> Self {
        Self::over_ip(src.into(), dst.into(), proto, Upper::Raw)
    }

    /// Any other ethertype.
    pub fn link(ethertype: u16, payload: &[u8]) -> Self {
        Self {
            src_mac: SRC_MAC,
            dst_mac: DST_MAC,
            vlan: None,
            body: Body::Link(ethertype),
            payload: payload.to_vec(),
            pad_to: 0,
        }
    }

    fn over_ip(src: Addr, dst: Addr, proto: Proto, upper: Upper) -> Self {
        let same_family = matches!((src, dst), (Addr::V4(_), Addr::V4(_)) | (Addr::V6(_), Addr::V6(_)));
        assert!(same_family, "a frame's two addresses are of one family");
        let ip = Ip {
            src,
            dst,
            proto,
            ttl: 64,
            traffic_class: 0,
            id: 0,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            upper,
            bad_ip_checksum: false,
            bad_l4_checksum: false,
        };
        Self { body: Body::Ip(Box::new(ip)), ..Self::link(0, &[]) }
    }
}

/// What both levels share.
impl Frame {
    /// Link-layer addresses.
    pub fn eth(mut self, src: MacAddr, dst: MacAddr) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// An 802.1Q tag.
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// The payload behind all headers.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// A payload of `len` counting bytes.
    pub fn payload_len(mut self, len: usize) -> Self {
        self.payload = (0..len).map(|i| i as u8).collect();
        self
    }

    /// Link padding up to a frame length (60 without the frame check sequence).
    pub fn pad_to(mut self, frame_len: usize) -> Self {
        self.pad_to = frame_len;
        self
    }
}

/// IP fields.
impl Frame {
    /// TTL or hop limit (default 64).
    pub fn ttl(self, ttl: u8) -> Self {
        self.with_ip(|ip| ip.ttl = ttl)
    }

    /// Type of service or traffic class.
    pub fn traffic_class(self, class: u8) -> Self {
        self.with_ip(|ip| ip.traffic_class = class)
    }

    /// Identification: 16 bits over IPv4, 32 in an IPv6 fragment header.
    pub fn id(self, id: u32) -> Self {
        self.with_ip(|ip| ip.id = id)
    }

    /// The "don't fragment" bit (default set).
    pub fn dont_fragment(self, on: bool) -> Self {
        self.with_ip(|ip| ip.dont_fragment = on)
    }

    /// Makes it a fragment at a byte offset (a multiple of 8).
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.with_ip(|ip| (ip.fragment, ip.dont_fragment) = (Some((offset, more)), false))
    }

    /// IPv4 options, padded to a multiple of 4.
    pub fn ip_options(self, options: &[u8]) -> Self {
        self.with_ip(|ip| ip.options = padded(options, 4))
    }

    /// Appends an IPv6 extension header of type `kind`. `body` is what follows its first two bytes; it
    /// is padded to a multiple of 8 (4 for AH, kind 51).
    pub fn extension(self, kind: u8, body: &[u8]) -> Self {
        self.with_ip(|ip| ip.extensions.push((kind, body.to_vec())))
    }

    /// Spoils the IPv4 header checksum.
    pub fn bad_ip_checksum(self) -> Self {
        self.with_ip(|ip| ip.bad_ip_checksum = true)
    }

    /// Spoils the transport checksum.
    pub fn bad_l4_checksum(self) -> Self {
        self.with_ip(|ip| ip.bad_l4_checksum = true)
    }

    fn with_ip(mut self, f: impl FnOnce(&mut Ip)) -> Self {
        if let Body::Ip(ip) = &mut self.body {
            f(ip);
        }
        self
    }
}

/// TCP and UDP fields.
impl Frame {
    /// Sequence number.
    pub fn seq(self, value: u32) -> Self {
        self.with_upper(|upper| {
            if let Upper::Tcp { seq, .. } = upper {
                *seq = value;
            }
        })
    }

    /// Acknowledgement number; does not set the flag.
    pub fn ack(self, value: u32) -> Self {
        self.with_upper(|upper| {
            if let Upper::Tcp { ack, .. } = upper {
                *ack = value;
            }
        })
    }

    /// Flags, see [`tcp_flags`].
    pub fn flags(self, value: u8) -> Self {
        self.with_upper(|upper| {
            if let Upper::Tcp { flags, .. } = upper {
                *flags = value;
            }
        })
    }

    /// Window as it stands in the header.
    pub fn window(self, value: u16) -> Self {
        self.with_upper(|upper| {
            if let Upper::Tcp { window, .. } = upper {
                *window = value;
            }
        })
    }

    /// TCP options, padded to a multiple of 4 with "end of options".
    pub fn options(self, value: &[u8]) -> Self {
        self.with_upper(|upper| {
            if let Upper::Tcp { options, .. } = upper {
                *options = padded(value, 4);
            }
        })
    }

    /// UDP without a checksum.
    pub fn no_checksum(self) -> Self {
        self.with_upper(|upper| {
            if let Upper::Udp { checksum, .. } = upper {
                *checksum = false;
            }
        })
    }

    fn with_upper(self, f: impl FnOnce(&mut Upper)) -> Self {
        self.with_ip(|ip| f(&mut ip.upper))
    }
}

/// The outcome.
impl Frame {
    /// The frame's bytes, all checksums right unless spoiled.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.payload.len());
        out.extend_from_slice(&self.dst_mac.0);
        out.extend_from_slice(&self.src_mac.0);
        if let Some(id) = self.vlan {
            out.extend_from_slice(&[0x81, 0x00]);
            out.extend_from_slice(&id.to_be_bytes());
        }
        match &self.body {
            Body::Link(ethertype) => {
                out.extend_from_slice(&ethertype.to_be_bytes());
                out.extend_from_slice(&self.payload);
            }
            Body::Ip(ip) => {
                let ethertype: u16 = if matches!(ip.src, Addr::V4(_)) { 0x0800 } else { 0x86dd };
                out.extend_from_slice(&ethertype.to_be_bytes());
                out.extend_from_slice(&ip.packet(&self.payload));
            }
        }
        out.resize(out.len().max(self.pad_to), 0);
        out
    }

    /// The IP packet alone, for quoting; empty for other frames.
    pub fn ip_packet(&self) -> Vec<u8> {
        match &self.body {
            Body::Ip(ip) => ip.packet(&self.payload),
            Body::Link(_) => Vec::new(),
        }
    }

    /// The frame in a heap buffer.
    pub fn buf(&self) -> HeapBuf {
        HeapBuf::from_bytes(&self.bytes())
    }

    /// The flow key that [`crate::parse()`] will find if this is no fragment; the default key for ARP.
    pub fn key(&self) -> FlowKey {
        let Body::Ip(ip) = &self.body else { return FlowKey::default() };
        let (sport, dport) = match &ip.upper {
            Upper::Tcp { ports, .. } | Upper::Udp { ports, .. } => *ports,
            Upper::Icmp { kind: kind @ (0 | 8 | 128 | 129), rest: [hi, lo, ..], .. } => {
                echo_ports(matches!(kind, 8 | 128), u16::from_be_bytes([*hi, *lo]))
            }
            _ => (0, 0),
        };
        FlowKey::new(ip.src, ip.dst, ip.proto, sport, dport).unwrap_or_default()
    }
}

impl Ip {
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let segment = self.segment(payload);
        match (self.src, self.dst) {
            (Addr::V4(src), Addr::V4(dst)) => self.packet_v4(src, dst, &segment),
            (Addr::V6(src), Addr::V6(dst)) => self.packet_v6(src, dst, &segment),
            _ => Vec::new(),
        }
    }

    fn packet_v4(&self, src: [u8; 4], dst: [u8; 4], segment: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut out = vec![0x40 | (header_len / 4) as u8, self.traffic_class];
        out.extend_from_slice(&((header_len + segment.len()) as u16).to_be_bytes());
        out.extend_from_slice(&(self.id as u16).to_be_bytes());
        let (offset, more) = self.fragment.unwrap_or((0, false));
        let fragment = (offset / 8) | (u16::from(more) << 13) | (u16::from(self.dont_fragment) << 14);
        out.extend_from_slice(&fragment.to_be_bytes());
        out.extend_from_slice(&[self.ttl, self.proto.0, 0, 0]);
        out.extend_from_slice(&src);
        out.extend_from_slice(&dst);
        out.extend_from_slice(&self.options);
        let check = Sum::new().bytes(&out).finish() ^ spoil(self.bad_ip_checksum);
        out[10..12].copy_from_slice(&check.to_be_bytes());
        out.extend_from_slice(segment);
        out
    }

    fn packet_v6(&self, src: [u8; 16], dst: [u8; 16], segment: &[u8]) -> Vec<u8> {
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        for (kind, body) in &self.extensions {
            let unit = if *kind == 51 { 4 } else { 8 };
            let mut header = vec![0, 0];
            header.extend_from_slice(body);
            let header = padded(&header, unit);
            let header = if header.len() < 8 { padded(&header, 8) } else { header };
            chain.push((*kind, header));
        }
        if let Some((offset, more)) = self.fragment {
            let mut header = vec![0, 0];
            header.extend_from_slice(&(offset & 0xfff8 | u16::from(more)).to_be_bytes());
            header.extend_from_slice(&self.id.to_be_bytes());
            chain.push((44, header));
        }
        let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([self.proto.0]).collect();
        for (i, (kind, header)) in chain.iter_mut().enumerate() {
            header[0] = kinds[i + 1];
            header[1] = match kind {
                44 => 0,
                51 => (header.len() / 4 - 2) as u8,
                _ => (header.len() / 8 - 1) as u8,
            };
        }
        let extensions_len: usize = chain.iter().map(|(_, header)| header.len()).sum();
        let class = self.traffic_class;
        let mut out = vec![0x60 | class >> 4, class << 4, 0, 0];
        out.extend_from_slice(&((extensions_len + segment.len()) as u16).to_be_bytes());
        out.extend_from_slice(&[kinds[0], self.ttl]);
        out.extend_from_slice(&src);
        out.extend_from_slice(&dst);
        for (_, header) in &chain {
            out.extend_from_slice(header);
        }
        out.extend_from_slice(segment);
        out
    }

    /// Transport header and payload.
    fn segment(&self, payload: &[u8]) -> Vec<u8> {
        let (mut out, check_at) = self.upper.header(payload.len());
        out.extend_from_slice(payload);
        let Some(at) = check_at else { return out };
        let key = FlowKey::new(self.src, self.dst, self.proto, 0, 0).unwrap_or_default();
        let sum = match self.proto {
            Proto::ICMP => Sum::new(),
            proto => Sum::new().pseudo(&key, proto, out.len()),
        };
        let check = match self.proto {
            Proto::UDP => sum.bytes(&out).finish_udp(),
            _ => sum.bytes(&out).finish(),
        };
        let check = check ^ spoil(self.bad_l4_checksum);
        out[at..at + 2].copy_from_slice(&check.to_be_bytes());
        out
    }
}

impl Upper {
    /// The header with a zero checksum, and where that checksum is.
    fn header(&self, payload_len: usize) -> (Vec<u8>, Option<usize>) {
        match self {
            Upper::Tcp { ports, seq, ack, flags, window, options } => {
                let mut out = port_bytes(*ports);
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&ack.to_be_bytes());
                out.extend_from_slice(&[(((20 + options.len()) / 4) << 4) as u8, *flags]);
                out.extend_from_slice(&window.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(options);
                (out, Some(16))
            }
            Upper::Udp { ports, checksum } => {
                let mut out = port_bytes(*ports);
                out.extend_from_slice(&((8 + payload_len) as u16).to_be_bytes());
                out.extend_from_slice(&[0; 2]);
                (out, checksum.then_some(6))
            }
            Upper::Icmp { kind, code, rest } => {
                let mut out = vec![*kind, *code, 0, 0];
                out.extend_from_slice(rest);
                (out, Some(2))
            }
            Upper::Raw => (Vec::new(), None),
        }
    }
}

fn port_bytes((sport, dport): (u16, u16)) -> Vec<u8> {
    [sport.to_be_bytes(), dport.to_be_bytes()].concat()
}

fn echo_rest(id: u16, seq: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
    [a, b, c, d]
}

fn arp_body(op: u8, sha: MacAddr, spa: [u8; 4], tha: MacAddr, tpa: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 0x08, 0, 6, 4, 0, op];
    body.extend_from_slice(&sha.0);
    body.extend_from_slice(&spa);
    body.extend_from_slice(&tha.0);
    body.extend_from_slice(&tpa);
    body
}

fn padded(bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().next_multiple_of(unit), 0);
    out
}

/// Flips one bit if asked to.
fn spoil(on: bool) -> u16 {
    u16::from(on) << 7
}
