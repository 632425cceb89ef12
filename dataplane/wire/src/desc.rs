//! The parse-once descriptor that travels beside a packet through the engine's stages.

use crate::key::FlowKey;

/// What a frame is, as far as the engine treats it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP with a whole header in the first segment.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo request; the key's source port is the identifier, the other one 0.
    EchoRequest,
    /// ICMP or ICMPv6 echo reply; the key's destination port is the identifier, the other one 0.
    EchoReply,
    /// ICMP or ICMPv6 error that quotes a packet: `key` is the outer packet's (ports 0), the quoted
    /// packet is read by `icmp::quoted`.
    IcmpError,
    /// ICMPv6 neighbour solicitation or advertisement, hop limit 255 checked.
    NeighbourDiscovery,
    /// Any other ICMP or ICMPv6 message.
    IcmpOther,
    /// Any other IP protocol; the key has no ports.
    OtherIp,
    /// A fragment, first or later (RFC 791, RFC 8200 §4.5); the key has no ports.
    Fragment,
    /// ARP for IPv4 over Ethernet.
    Arp,
}

/// The TCP fields that tracking needs (host order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFields {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number (meaningless without ACK).
    pub ack: u32,
    /// Window as it stands in the header, unscaled.
    pub window: u16,
    /// Flag bits as in [`tcp_flags`].
    pub flags: u8,
    /// Header length in bytes, options included: 20..=60.
    pub header_len: u8,
    /// Payload length in bytes.
    pub payload_len: u16,
}

/// TCP flag bits (RFC 9293 §3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// Urgent pointer.
    pub const URG: u8 = 0x20;
}

/// A parsed frame: where everything is, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Desc {
    /// The flow, from the packet's sender to its receiver, VRF 0; all zero for ARP.
    pub key: FlowKey,
    /// TCP fields; all zero unless `kind` is [`Kind::Tcp`].
    pub tcp: TcpFields,
    /// Offset of the IP (or ARP) header from the frame's start.
    pub l3: u16,
    /// Offset of the transport header (behind IPv6 extension headers).
    pub l4: u16,
    /// Length of the IP packet by its own header, link padding excluded.
    pub ip_len: u16,
    /// What it is.
    pub kind: Kind,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Something that the fast lane does not do: IPv4 options or IPv6 extension headers present.
    pub has_options: bool,
}

impl Desc {
    /// A descriptor of nothing, to fill.
    pub const EMPTY: Desc = Desc {
        key: FlowKey { a: [0; 4], tail: 0 },
        tcp: TcpFields { seq: 0, ack: 0, window: 0, flags: 0, header_len: 0, payload_len: 0 },
        l3: 0,
        l4: 0,
        ip_len: 0,
        kind: Kind::OtherIp,
        ttl: 0,
        has_options: false,
    };
}
