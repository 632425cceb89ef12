//! ARP for IPv4 over Ethernet (RFC 826), with probes and announcements (RFC 5227).

use crate::desc::{Desc, Kind};
use crate::key::MacAddr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the packet behind the Ethernet header.
pub const PACKET_LEN: usize = 28;

/// The packet as it lies behind the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    /// Hardware type: 1, Ethernet.
    pub hardware: U16,
    /// Protocol type: IPv4's ethertype.
    pub protocol: U16,
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// 1 request, 2 reply.
    pub operation: U16,
    /// Sender's link-layer address.
    pub sender_mac: [u8; 6],
    /// Sender's IPv4 address; 0 in a probe.
    pub sender: [u8; 4],
    /// Target's link-layer address; meaningless in a request.
    pub target_mac: [u8; 6],
    /// Target's IPv4 address.
    pub target: [u8; 4],
}

/// What an ARP packet asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender address is at the sender's link-layer address.
    Reply = 2,
}

impl ArpPacket {
    /// The packet that `desc` found; `None` if it is no ARP.
    pub fn view<'a>(frame: &'a [u8], desc: &Desc) -> Option<&'a Self> {
        if desc.kind != Kind::Arp {
            return None;
        }
        Self::ref_from_prefix(frame.get(usize::from(desc.l3)..)?).ok().map(|(packet, _)| packet)
    }

    /// Request or reply; `None` for anything else, which [`crate::parse()`] refuses.
    pub fn operation(&self) -> Option<Operation> {
        match self.operation.get() {
            1 => Some(Operation::Request),
            2 => Some(Operation::Reply),
            _ => None,
        }
    }

    /// The sender's link-layer address.
    pub fn sender_mac(&self) -> MacAddr {
        MacAddr(self.sender_mac)
    }

    /// A probe asks for an address before its sender uses it: it teaches nothing (RFC 5227 §2.1).
    pub fn is_probe(&self) -> bool {
        self.sender == [0; 4]
    }

    /// An announcement, also called gratuitous: sender and target address are the same (RFC 5227 §2.3).
    pub fn is_announcement(&self) -> bool {
        self.sender == self.target
    }

    /// Writes a packet behind the Ethernet header; `None` if there is no room.
    pub fn emit(
        body: &mut [u8],
        operation: Operation,
        sender: (MacAddr, [u8; 4]),
        target: (MacAddr, [u8; 4]),
    ) -> Option<usize> {
        let packet = Self {
            hardware: U16::new(1),
            protocol: U16::new(crate::ether::ETHERTYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation as u16),
            sender_mac: sender.0.0,
            sender: sender.1,
            target_mac: target.0.0,
            target: target.1,
        };
        packet.write_to_prefix(body).ok()?;
        Some(PACKET_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::{ParseError, parse};

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn request_and_reply_are_read_back() {
        let frame = Frame::arp_request(MAC, [10, 1, 0, 10], [10, 1, 0, 1]).bytes();
        let packet = ArpPacket::view(&frame, &parse(&frame, frame.len()).unwrap()).unwrap();
        assert_eq!(packet.operation(), Some(Operation::Request));
        assert_eq!((packet.sender_mac(), packet.sender, packet.target), (MAC, [10, 1, 0, 10], [10, 1, 0, 1]));
        assert!(!packet.is_probe() && !packet.is_announcement());

        let frame = Frame::arp_reply(MAC, [10, 1, 0, 10], MAC, [10, 1, 0, 1]).pad_to(60).bytes();
        let packet = ArpPacket::view(&frame, &parse(&frame, frame.len()).unwrap()).unwrap();
        assert_eq!(packet.operation(), Some(Operation::Reply));
    }

    #[test]
    fn probes_and_announcements_are_told_apart() {
        let probe = Frame::arp_request(MAC, [0; 4], [10, 1, 0, 1]).bytes();
        assert!(ArpPacket::view(&probe, &parse(&probe, probe.len()).unwrap()).unwrap().is_probe());
        let announcement = Frame::arp_request(MAC, [10, 1, 0, 1], [10, 1, 0, 1]).bytes();
        let desc = parse(&announcement, announcement.len()).unwrap();
        assert!(ArpPacket::view(&announcement, &desc).unwrap().is_announcement());
    }

    #[test]
    fn what_is_not_ipv4_over_ethernet_is_refused() {
        let good = Frame::arp_request(MAC, [10, 1, 0, 10], [10, 1, 0, 1]).bytes();
        // hardware type, protocol type, both lengths, operation, group sender MAC, broadcast sender
        for (at, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (21, 3), (22, 0x33), (28, 255)] {
            let mut frame = good.clone();
            frame[at] = value;
            assert_eq!(parse(&frame, frame.len()).unwrap_err(), ParseError::BadArp, "byte {at}");
        }
        assert_eq!(parse(&good[..41], 41).unwrap_err(), ParseError::TooShort);
    }
}
