//! The nodes' datagrams as they lie in frames: taken apart, changed, and put together again. IPv4 only, as
//! on the lab's first sync link and its LAN.

use std::net::Ipv4Addr;

use lab::{checksum, frames::SeenFrame};

/// A datagram between the nodes, with what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Destination MAC.
    pub to_mac: [u8; 6],
    /// Source MAC.
    pub from_mac: [u8; 6],
    /// Source address.
    pub from: Ipv4Addr,
    /// Destination address.
    pub to: Ipv4Addr,
    /// Port of both sides.
    pub port: u16,
    /// What is sealed.
    pub payload: Vec<u8>,
}

const HEADERS: usize = 14 + 20 + 8;

impl Datagram {
    /// Of a frame, if it is UDP over IPv4 without options.
    pub fn of(frame: &SeenFrame) -> Option<Self> {
        let bytes = &frame.bytes;
        let good = frame.ether_type() == 0x0800 && *bytes.get(14)? == 0x45 && *bytes.get(23)? == 17;
        let length = usize::from(u16::from_be_bytes([*bytes.get(38)?, *bytes.get(39)?])).checked_sub(8)?;
        let address = |at: usize| -> Option<Ipv4Addr> {
            bytes.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
        };
        good.then_some(Self {
            to_mac: *bytes.first_chunk()?,
            from_mac: *bytes.get(6..)?.first_chunk()?,
            from: address(26)?,
            to: address(30)?,
            port: u16::from_be_bytes([*bytes.get(36)?, *bytes.get(37)?]),
            payload: bytes.get(HEADERS..HEADERS + length)?.to_vec(),
        })
    }

    /// As a frame. The datagram is authenticated, so UDP has no checksum; the TTL says that no router was
    /// in between.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADERS + self.payload.len());
        frame.extend(self.to_mac);
        frame.extend(self.from_mac);
        frame.extend([0x08, 0x00]);
        let udp_length = 8 + self.payload.len() as u16;
        let mut ip = [0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 255, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        ip[2..4].copy_from_slice(&(20 + udp_length).to_be_bytes());
        ip[12..16].copy_from_slice(&self.from.octets());
        ip[16..20].copy_from_slice(&self.to.octets());
        let checksum = checksum::of(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
        frame.extend(self.port.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(udp_length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend_from_slice(&self.payload);
        frame
    }

    /// With another payload.
    #[must_use]
    pub fn with(&self, payload: Vec<u8>) -> Self {
        Self { payload, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_the_datagram_that_it_was_made_of() {
        let datagram = Datagram {
            to_mac: [0xff; 6],
            from_mac: [2, 0, 0, 0, 0, 1],
            from: Ipv4Addr::new(169, 254, 77, 1),
            to: Ipv4Addr::new(169, 254, 77, 2),
            port: 689,
            payload: b"uS and more".to_vec(),
        };
        let frame = SeenFrame { at: std::time::Instant::now(), bytes: datagram.to_frame() };
        assert_eq!(Datagram::of(&frame), Some(datagram));
        let cut = SeenFrame { bytes: frame.bytes[..44].to_vec(), ..frame };
        assert_eq!(Datagram::of(&cut), None);
    }
}
