//! The little that a generator needs of address resolution (RFC 826, RFC 4861): it answers for every
//! address that it is asked about, and learns where the firewall is by asking once.

use super::Side;
use wire::arp::{ArpPacket, Operation};
use wire::nd::Neighbour;
use wire::{Kind, MacAddr, craft};

/// Both sides' neighbours.
pub struct Neighbours {
    /// The generator's own MAC addresses.
    own: [MacAddr; 2],
    /// The firewall's addresses that are asked for, with the address that asks.
    gateways: [Option<([u8; 4], [u8; 4])>; 2],
    /// Where the firewall is.
    found: [Option<MacAddr>; 2],
}

impl Neighbours {
    /// With the firewall's IPv4 addresses and one of ours in the same network, by side; where there is none
    /// the firewall's MAC address must be known otherwise.
    pub fn new(own: [MacAddr; 2], gateways: [Option<([u8; 4], [u8; 4])>; 2]) -> Self {
        Self { own, gateways, found: [None; 2] }
    }

    /// Where the firewall is on a side, once it has answered.
    pub fn found(&self, side: Side) -> Option<MacAddr> {
        self.found[side as usize]
    }

    /// The question for it; `None` if it is answered, or there is nobody to ask for.
    pub fn ask(&self, side: Side, out: &mut [u8]) -> Option<usize> {
        let at = side as usize;
        let (gateway, own) = self.gateways[at].filter(|_| self.found[at].is_none())?;
        craft::arp_request(out, (self.own[at], own), gateway, None)
    }

    /// Learns from a frame that came in, and writes the answer if it asks something.
    pub fn hear(&mut self, side: Side, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        let desc = wire::parse(frame, frame.len()).ok()?;
        let own = self.own[side as usize];
        match desc.kind {
            Kind::Arp => {
                let packet = ArpPacket::view(frame, &desc)?;
                if self.gateways[side as usize].is_some_and(|(gateway, _)| gateway == packet.sender) {
                    self.found[side as usize] = Some(packet.sender_mac());
                }
                let asks = packet.operation() == Some(Operation::Request);
                // An announcement asks for its own address.
                let asks = asks && packet.target != packet.sender && !packet.is_probe();
                let to = (packet.sender_mac(), packet.sender);
                if asks { craft::arp_reply(out, (own, packet.target), to) } else { None }
            }
            Kind::NeighbourDiscovery => match Neighbour::read(frame, &desc).ok()? {
                Neighbour::Solicitation { source: Some(asker), target, link: Some(mac) } => {
                    craft::neighbour_advertisement(out, (own, target), Some((mac, asker)))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::craft::Frame;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const FIREWALL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

    #[test]
    fn it_answers_for_everybody_and_finds_the_firewall() {
        let gateways = [Some(([192, 0, 2, 1], [192, 0, 2, 2])), None];
        let mut neighbours = Neighbours::new([OWN; 2], gateways);
        let mut out = [0; 128];
        let len = neighbours.ask(Side::Lan, &mut out).unwrap();
        assert_eq!(out[..len], Frame::arp_request(OWN, [192, 0, 2, 2], [192, 0, 2, 1]).bytes()[..len]);
        assert_eq!(neighbours.ask(Side::Wan, &mut out), None, "nobody to ask for");

        let reply = Frame::arp_reply(FIREWALL, [192, 0, 2, 1], OWN, [192, 0, 2, 2]).bytes();
        assert_eq!(neighbours.hear(Side::Lan, &reply, &mut out), None);
        assert_eq!(neighbours.found(Side::Lan), Some(FIREWALL));
        assert_eq!(neighbours.ask(Side::Lan, &mut out), None);

        let asked = Frame::arp_request(FIREWALL, [192, 0, 2, 1], [192, 0, 2, 77]).bytes();
        let len = neighbours.hear(Side::Lan, &asked, &mut out).unwrap();
        let expected = Frame::arp_reply(OWN, [192, 0, 2, 77], FIREWALL, [192, 0, 2, 1]).bytes();
        assert_eq!(out[..len], expected[..len]);

        let (host, asker) = ([0xfd; 16], [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let asked = Frame::neighbour_solicitation(FIREWALL, asker, host).bytes();
        let len = neighbours.hear(Side::Wan, &asked, &mut out).unwrap();
        let desc = wire::parse(&out[..len], len).unwrap();
        let answer = Neighbour::read(&out[..len], &desc);
        assert!(
            matches!(answer, Ok(Neighbour::Advertisement { target, link: Some(OWN), .. }) if target == host),
            "{answer:?}"
        );
    }
}
