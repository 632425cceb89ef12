//! The UDP datagram around what the pair's machine writes, on one path.
//!
//! There is no address resolution between the nodes: a frame goes to everybody on the link until an
//! authentic datagram of the partner has shown its MAC address. Stream and heartbeats differ by port.

use engine::snapshot::ControlPorts;
use std::net::IpAddr;
use std::ops::Range;
use sync::datagram;
use wire::desc::Kind;
use wire::ether::Link;
use wire::{Addr, FlowKey, MacAddr, Proto, craft, udp};

/// Where the kind of a datagram lies (sync::datagram).
const KIND: usize = 4;
/// Generalised TTL security (RFC 5082): whatever comes through a router is not from the partner.
const TTL: u8 = 255;

/// Who is at the two ends of a path.
#[derive(Clone, Debug)]
pub struct Envelope {
    own: Addr,
    partner: Addr,
    ports: ControlPorts,
    mac: MacAddr,
    partner_mac: Option<MacAddr>,
}

impl Envelope {
    /// Between two addresses of one family; `mac` is the port's own.
    pub fn new(own: IpAddr, partner: IpAddr, ports: ControlPorts, mac: MacAddr) -> Self {
        Self { own: own.into(), partner: partner.into(), ports, mac, partner_mac: None }
    }

    /// Bytes of the frame around `datagram`; `None` if the two addresses are of two families.
    pub fn frame_len(&self, datagram: &[u8]) -> Option<usize> {
        Some(craft::udp_payload(&self.key(datagram)?)? + datagram.len())
    }

    /// An authentic datagram came from there. True if that is news.
    pub fn heard(&mut self, mac: MacAddr) -> bool {
        self.partner_mac.replace(mac) != Some(mac)
    }

    /// Writes a whole frame and returns its length; `None` if it does not fit.
    pub fn seal(&self, frame: &mut [u8], datagram: &[u8]) -> Option<usize> {
        let key = self.key(datagram)?;
        let at = craft::udp_payload(&key)?;
        frame.get_mut(at..at + datagram.len())?.copy_from_slice(datagram);
        let link = Link { src: self.mac, dst: self.partner_mac.unwrap_or(MacAddr::BROADCAST) };
        craft::udp_around(frame, link, &key, TTL, datagram.len())
    }

    /// Where the datagram lies in a frame from the partner, and from which MAC address it came. `None` for
    /// every other frame.
    pub fn open(&self, frame: &[u8]) -> Option<(MacAddr, Range<usize>)> {
        let ports = [self.ports.stream, self.ports.heartbeat];
        let read = udp::parse_udp_to(frame, &[self.own], &ports)?;
        (read.src == self.partner && read.ttl == TTL).then_some((read.link.src, read.payload))
    }

    /// Writes an echo request to the partner's address and returns its length.
    pub fn ask(&self, frame: &mut [u8], id: u16, sequence: u16) -> Option<usize> {
        let proto = match self.own {
            Addr::V4(_) => Proto::ICMP,
            Addr::V6(_) => Proto::ICMP6,
        };
        let key = FlowKey::new(self.own, self.partner, proto, id, 0)?;
        let link = Link { src: self.mac, dst: self.partner_mac? };
        craft::echo_request(frame, link, &key, TTL, sequence)
    }

    /// Whether a frame is the partner's answer to that.
    pub fn is_answer(&self, frame: &[u8], id: u16) -> bool {
        let Ok(desc) = wire::parse(frame, frame.len()) else { return false };
        let key = &desc.key;
        desc.kind == Kind::EchoReply
            && (key.src(), key.dst(), key.dport()) == (self.partner, self.own, id)
            && craft::is_intact(frame)
    }

    /// The flow of a datagram: heartbeats have a port of their own.
    fn key(&self, datagram: &[u8]) -> Option<FlowKey> {
        let heartbeat = datagram.get(KIND).is_some_and(|kind| *kind == datagram::Kind::Heartbeat as u8);
        let port = if heartbeat { self.ports.heartbeat } else { self.ports.stream };
        FlowKey::new(self.own, self.partner, Proto::UDP, port, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync::datagram::Kind;

    const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
    const PORTS: ControlPorts = ControlPorts { stream: 689, heartbeat: 801 };

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
    fn s_26_the_partner_answers_a_ping_and_nobody_in_its_place() {
        for [mut a, b] in [ends("10.1.0.2", "10.1.0.3"), ends("fd00:1::2", "fd00:1::3")] {
            let mut frame = [0; 128];
            assert_eq!(a.ask(&mut frame, 7, 1), None, "its MAC address is not known");
            a.heard(MACS[1]);
            let length = a.ask(&mut frame, 7, 1).unwrap();
            let frame = &mut frame[..length];
            assert!(!a.is_answer(frame, 7), "the question itself");
            let desc = wire::parse(frame, length).unwrap();
            assert_eq!(craft::echo_reply_in_place(frame, &desc), Some(length));
            assert!(a.is_answer(frame, 7));
            assert!(!a.is_answer(frame, 8) && !b.is_answer(frame, 7));
            for at in 0..length {
                assert!(!a.is_answer(&frame[..at], 7), "cut at {at}");
            }
            // What the checksums cover.
            for at in length - 8..length {
                let mut flipped = frame.to_vec();
                flipped[at] ^= 0x10;
                assert!(!a.is_answer(&flipped, 7), "byte {at}");
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
            let head = length - datagram(Kind::Data).len();
            for at in (12..head).filter(|at| (12..14).contains(at) || frame[*at] == 255) {
                let mut other = frame;
                other[at] ^= 1;
                assert_eq!(ends[1].open(&other[..length]), None, "byte {at}");
            }
        }
    }
}
