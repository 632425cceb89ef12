//! The UDP datagram around what the pair's machine writes, on one path.
//!
//! There is no address resolution between the nodes: a frame goes to everybody on the link until an
//! authentic datagram of the partner has shown its MAC address. Stream and heartbeats differ by port.

use std::net::IpAddr;
use std::ops::Range;
use sync::datagram::Kind;
use wire::checksum::Sum;
use wire::ether::{self, EtherHeader, Link};
use wire::ipv4::{self, Ipv4Fields, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};
use wire::udp::{self, UdpHeader};
use wire::{MacAddr, Proto};
use zerocopy::FromBytes;

/// Where the kind of a datagram lies (sync::datagram).
const KIND: usize = 4;
/// Generalised TTL security (RFC 5082): whatever comes through a router is not from the partner.
const TTL: u8 = 255;
const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// The two UDP ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpPorts {
    /// Of the stream.
    pub stream: u16,
    /// Of the heartbeats.
    pub heartbeat: u16,
}

/// Who is at the two ends of a path.
#[derive(Clone, Debug)]
pub struct Envelope {
    own: IpAddr,
    partner: IpAddr,
    ports: UdpPorts,
    mac: MacAddr,
    partner_mac: Option<MacAddr>,
}

impl Envelope {
    /// Between two addresses of one family; `mac` is the port's own.
    pub fn new(own: IpAddr, partner: IpAddr, ports: UdpPorts, mac: MacAddr) -> Self {
        Self { own, partner, ports, mac, partner_mac: None }
    }

    /// Bytes in front of a datagram.
    pub fn head(&self) -> usize {
        ether::HEADER_LEN + ip_header(self.own) + udp::HEADER_LEN
    }

    /// An authentic datagram came from there. True if that is news.
    pub fn heard(&mut self, mac: MacAddr) -> bool {
        self.partner_mac.replace(mac) != Some(mac)
    }

    /// Writes a whole frame and returns its length; `None` if it does not fit.
    pub fn seal(&self, frame: &mut [u8], datagram: &[u8]) -> Option<usize> {
        let head = self.head();
        let end = head + datagram.len();
        frame.get_mut(head..end)?.copy_from_slice(datagram);
        let link = Link { src: self.mac, dst: self.partner_mac.unwrap_or(BROADCAST) };
        let heartbeat = datagram.get(KIND).is_some_and(|kind| *kind == Kind::Heartbeat as u8);
        let port = if heartbeat { self.ports.heartbeat } else { self.ports.stream };
        let segment = udp::HEADER_LEN + datagram.len();
        match (self.own, self.partner) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let at = EtherHeader::emit(frame, link, ether::ETHERTYPE_IPV4)?;
                let fields = Ipv4Fields {
                    src: src.octets(),
                    dst: dst.octets(),
                    proto: Proto::UDP,
                    ttl: TTL,
                    // Network control (RFC 4594 §3.1): heartbeats are to pass where queues are full.
                    traffic_class: 48 << 2,
                };
                let udp_at = at + Ipv4Header::emit(frame.get_mut(at..)?, &fields, segment)?;
                // The datagram is authenticated: IPv4 needs no checksum besides.
                UdpHeader::emit(frame.get_mut(udp_at..)?, port, port, datagram.len())?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let at = EtherHeader::emit(frame, link, ether::ETHERTYPE_IPV6)?;
                let (src, dst) = (src.octets(), dst.octets());
                let udp_at =
                    at + Ipv6Header::emit(frame.get_mut(at..)?, src, dst, (Proto::UDP, TTL), segment)?;
                UdpHeader::emit(frame.get_mut(udp_at..)?, port, port, datagram.len())?;
                let sum = Sum::new().bytes(&src).bytes(&dst).u32(segment as u32).u16(Proto::UDP.0.into());
                let check = sum.bytes(frame.get(udp_at..end)?).finish_udp();
                frame.get_mut(udp_at + 6..udp_at + 8)?.copy_from_slice(&check.to_be_bytes());
            }
            _ => return None,
        }
        Some(end)
    }

    /// Where the datagram lies in a frame from the partner, and from which MAC address it came. `None` for
    /// every other frame.
    pub fn open(&self, frame: &[u8]) -> Option<(MacAddr, Range<usize>)> {
        let ethernet = EtherHeader::view(frame)?;
        let ip = frame.get(ether::HEADER_LEN..)?;
        let header = match (self.own, self.partner, ethernet.ethertype.get()) {
            (IpAddr::V4(own), IpAddr::V4(partner), ether::ETHERTYPE_IPV4) => {
                let header = Ipv4Header::view(ip)?;
                let ours = header.src == partner.octets() && header.dst == own.octets();
                (ours && header.proto == Proto::UDP.0 && header.ttl == TTL).then_some(header.header_len())?
            }
            (IpAddr::V6(own), IpAddr::V6(partner), ether::ETHERTYPE_IPV6) => {
                let header = Ipv6Header::view(ip)?;
                let ours = header.src == partner.octets() && header.dst == own.octets();
                (ours && header.next_header == Proto::UDP.0 && header.hop_limit == TTL)
                    .then_some(ipv6::HEADER_LEN)?
            }
            _ => return None,
        };
        let at = ether::HEADER_LEN + header;
        let (udp, _) = UdpHeader::ref_from_prefix(frame.get(at..)?).ok()?;
        let port = udp.dport.get();
        let end = at + usize::from(udp.len.get());
        let whole = port == self.ports.stream || port == self.ports.heartbeat;
        let start = at + udp::HEADER_LEN;
        (whole && start <= end && end <= frame.len()).then_some((ethernet.src(), start..end))
    }
}

fn ip_header(address: IpAddr) -> usize {
    if address.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
    const PORTS: UdpPorts = UdpPorts { stream: 689, heartbeat: 801 };

    fn ends(a: &str, b: &str) -> [Envelope; 2] {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        [Envelope::new(a, b, PORTS, MACS[0]), Envelope::new(b, a, PORTS, MACS[1])]
    }

    fn datagram(kind: Kind) -> Vec<u8> {
        let mut bytes = b"uS\x01\x01\x00 and so on, 41 bytes of it in all, odd".to_vec();
        bytes[KIND] = kind as u8;
        bytes
    }

    #[test]
    fn b_17_what_one_end_seals_the_other_opens() {
        for ends in [ends("169.254.77.1", "169.254.77.2"), ends("fd00::1", "fd00::2")] {
            for (kind, port) in [(Kind::Data, 689), (Kind::Heartbeat, 801)] {
                let (mut frame, datagram) = ([0; 1514], datagram(kind));
                let length = ends[0].seal(&mut frame, &datagram).unwrap();
                let frame = &frame[..length];
                assert_eq!(frame[..6], [0xff; 6]);
                let desc = wire::parse(frame, frame.len()).unwrap();
                assert_eq!((desc.key.sport(), desc.key.dport()), (port, port));
                assert!(wire::checksum::verify_transport(frame, &desc));
                let (mac, range) = ends[1].open(frame).unwrap();
                assert_eq!((mac, &frame[range]), (MACS[0], &datagram[..]));
                assert_eq!(ends[0].open(frame), None, "reflected");
            }
        }
    }

    #[test]
    fn once_heard_the_partner_alone_is_addressed() {
        let [mut a, _] = ends("169.254.77.1", "169.254.77.2");
        assert!(a.heard(MACS[1]) && !a.heard(MACS[1]));
        let mut frame = [0; 1514];
        a.seal(&mut frame, &datagram(Kind::Data)).unwrap();
        assert_eq!(frame[..6], MACS[1].0);
        assert_eq!(a.seal(&mut frame[..60], &datagram(Kind::Data)), None);
    }

    #[test]
    fn cut_and_foreign_frames_hold_no_datagram() {
        for ends in [ends("169.254.77.1", "169.254.77.2"), ends("fd00::1", "fd00::2")] {
            let mut frame = [0; 1514];
            let length = ends[0].seal(&mut frame, &datagram(Kind::Data)).unwrap();
            for cut in 0..length {
                assert_eq!(ends[1].open(&frame[..cut]), None, "{cut}");
            }
            for at in (12..ends[0].head()).filter(|at| (12..14).contains(at) || frame[*at] == 255) {
                let mut other = frame;
                other[at] ^= 1;
                assert_eq!(ends[1].open(&other[..length]), None, "byte {at}");
            }
        }
    }
}
