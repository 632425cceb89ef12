//! Frames with a time stamp at the beginning of their payload, and what is known of one that came back.

use super::Side;
use crate::flows::{Traffic, number};
use wire::ether::{self, EtherHeader, Link};
use wire::ipv4::{Ipv4Fields, Ipv4Header};
use wire::ipv6::Ipv6Header;
use wire::tcp::{Control, TcpHeader};
use wire::udp::UdpHeader;
use wire::{Addr, Desc, FlowKey, craft};

/// The shortest frame, without check sequence.
pub const SHORTEST: usize = 60;
/// Bytes of the time stamp: what a TCP frame of 64 bytes has room for.
pub const STAMP: usize = 6;
const TTL: u8 = 64;

/// Bytes of all headers.
pub const fn headers(traffic: Traffic) -> usize {
    ether::HEADER_LEN
        + match traffic {
            Traffic::Tcp4 => 20 + 20,
            Traffic::Udp4 => 20 + 8,
            Traffic::Tcp6 => 40 + 20,
            Traffic::Udp6 => 40 + 8,
        }
}

/// A packet to be written.
pub struct Packet<'a> {
    /// From whom to whom.
    pub key: &'a FlowKey,
    /// MAC addresses.
    pub link: Link,
    /// For TCP.
    pub control: Control,
    /// Bytes of payload.
    pub payload: usize,
    /// When it is sent; zero for a packet whose way is not timed.
    pub stamp: u64,
}

/// Writes a frame with all checksums right; returns its length, at least [`SHORTEST`]. `None` if there is no
/// room.
pub fn write(out: &mut [u8], packet: &Packet<'_>) -> Option<usize> {
    let Packet { key, link, .. } = packet;
    let is_tcp = key.proto() == wire::Proto::TCP;
    let segment_len = if is_tcp { 20 } else { 8 } + packet.payload;
    let at = match (key.src(), key.dst()) {
        (Addr::V4(src), Addr::V4(dst)) => {
            let at = EtherHeader::emit(out, *link, ether::ETHERTYPE_IPV4)?;
            let fields = Ipv4Fields { src, dst, proto: key.proto(), ttl: TTL, traffic_class: 0 };
            at + Ipv4Header::emit(out.get_mut(at..)?, &fields, segment_len)?
        }
        (Addr::V6(src), Addr::V6(dst)) => {
            let at = EtherHeader::emit(out, *link, ether::ETHERTYPE_IPV6)?;
            at + Ipv6Header::emit(out.get_mut(at..)?, src, dst, (key.proto(), TTL), segment_len)?
        }
        _ => return None,
    };
    let segment = out.get_mut(at..at + segment_len)?;
    let ports = (key.sport(), key.dport());
    let header = if is_tcp {
        TcpHeader::emit(segment, ports, &packet.control)?
    } else {
        UdpHeader::emit(segment, ports.0, ports.1, packet.payload)?
    };
    let payload = segment.get_mut(header..)?;
    payload.fill(0);
    if let Some(place) = payload.first_chunk_mut::<STAMP>() {
        let [_, _, stamp @ ..] = packet.stamp.to_be_bytes();
        *place = stamp;
    }
    craft::seal(segment, key)?;
    let end = at + segment_len;
    if end < SHORTEST {
        out.get_mut(end..SHORTEST)?.fill(0);
    }
    Some(end.max(SHORTEST))
}

/// A frame of ours that came out of the other side.
pub struct Heard {
    /// Its flow.
    pub flow: u32,
    /// The initiator's port: it tells the flow's lives apart.
    pub port: u16,
    /// What the frame says.
    pub desc: Desc,
    /// When it was sent, in the 48 bits that fit; zero if its way is not timed.
    pub stamp: u64,
}

/// Reads a frame that came out on `side`. `None` if it is none of ours.
pub fn read(frame: &[u8], side: Side) -> Option<Heard> {
    let desc = wire::parse(frame, frame.len()).ok()?;
    let (initiator, port) = match side {
        Side::Wan => (desc.key.src(), desc.key.sport()),
        Side::Lan => (desc.key.dst(), desc.key.dport()),
    };
    let flow = number(initiator)?;
    let (start, len) = match desc.kind {
        wire::Kind::Tcp => {
            (usize::from(desc.l4) + usize::from(desc.tcp.header_len), usize::from(desc.tcp.payload_len))
        }
        wire::Kind::Udp => (usize::from(desc.l4) + 8, STAMP),
        _ => return None,
    };
    let stamp = match frame.get(start..start + STAMP) {
        Some(&[a, b, c, d, e, f]) if len >= STAMP => u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        _ => 0,
    };
    Some(Heard { flow, port, desc, stamp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{FIREWALL, NEIGHBOUR, key};
    use wire::tcp_flags;

    #[test]
    fn what_is_written_is_read_and_its_checksums_are_right() {
        let link = Link { src: NEIGHBOUR, dst: FIREWALL };
        for traffic in Traffic::ALL {
            for payload in [0, STAMP, 18, 546, 1_440] {
                let key = key(traffic, 70_007, 3);
                let control = Control { seq: 9, ack: 8, flags: tcp_flags::ACK, window: 7 };
                let packet = Packet { key: &key, link, control, payload, stamp: 0x1234_5678_9abc };
                let mut out = [0xee; 1_600];
                let len = write(&mut out, &packet).unwrap();
                let (frame, case) = (&out[..len], format!("{traffic:?} {payload}"));
                assert!(craft::is_intact(frame), "{case}");
                assert_eq!(len, (headers(traffic) + payload).max(SHORTEST), "{case}");
                let heard = read(frame, Side::Wan).unwrap();
                assert_eq!((heard.flow, heard.port, heard.desc.key), (70_007, key.sport(), key), "{case}");
                let stamp = if payload >= STAMP { 0x1234_5678_9abc } else { 0 };
                assert_eq!(heard.stamp, stamp, "{case}");
                assert!(read(frame, Side::Lan).is_none(), "no initiator at the other end: {case}");
            }
        }
    }
}
