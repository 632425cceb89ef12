//! Neighbour discovery for IPv6 (RFC 4861): solicitations and advertisements, with the validation of
//! §7.1.1 and §7.1.2, and duplicate address detection (RFC 4862 §5.4).
//!
//! [`crate::parse()`] has checked hop limit, code and lengths; what costs a walk over the message (its
//! checksum, its options) is checked here, for those few packets that a neighbour table reads.

use crate::checksum;
use crate::desc::{Desc, Kind};
use crate::key::{Addr, MacAddr};
use crate::parse_error::ParseError;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Type of a neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// All nodes on the link.
pub const ALL_NODES: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Both messages without their options, as they lie in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NdMessage {
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    /// Zero.
    pub code: u8,
    /// ICMPv6 checksum.
    pub check: U16,
    /// An advertisement's flags in the upper three bits; zero in a solicitation.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The address that is asked for or spoken of.
    pub target: [u8; 16],
}

/// The sender is a router.
pub const FLAG_ROUTER: u8 = 0x80;
/// The advertisement answers a solicitation.
pub const FLAG_SOLICITED: u8 = 0x40;
/// The advertisement replaces what is cached.
pub const FLAG_OVERRIDE: u8 = 0x20;

/// A validated message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Who has `target`?
    Solicitation {
        /// Who asks; `None` for duplicate address detection.
        source: Option<[u8; 16]>,
        /// The address asked for.
        target: [u8; 16],
        /// The asker's link-layer address, if told.
        link: Option<MacAddr>,
    },
    /// `target` is at `link`.
    Advertisement {
        /// The address spoken of.
        target: [u8; 16],
        /// Its link-layer address, if told.
        link: Option<MacAddr>,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation of ours.
        solicited: bool,
        /// It replaces what is cached.
        replace: bool,
    },
}

impl Neighbour {
    /// Reads and validates the message that `desc` found.
    pub fn read(frame: &[u8], desc: &Desc) -> Result<Self, ParseError> {
        Self::validated(frame, desc).ok_or(ParseError::BadNeighbourDiscovery)
    }

    fn validated(frame: &[u8], desc: &Desc) -> Option<Self> {
        let (Addr::V6(source), Addr::V6(dst)) = (desc.key.src(), desc.key.dst()) else { return None };
        if desc.kind != Kind::NeighbourDiscovery || !checksum::verify_transport(frame, desc) {
            return None;
        }
        let end = usize::from(desc.l3) + usize::from(desc.ip_len);
        let (message, options) = NdMessage::ref_from_prefix(frame.get(usize::from(desc.l4)..end)?).ok()?;
        let target = message.target;
        if target[0] == 0xff || target == [0; 16] {
            return None;
        }
        if message.kind == SOLICITATION {
            let link = link_option(options, 1);
            let detection = source == [0; 16];
            // §7.1.1: without a source it goes to the solicited-node group and tells no link address.
            if detection && (dst != solicited_node(target) || link.is_some()) {
                return None;
            }
            return Some(Neighbour::Solicitation { source: (!detection).then_some(source), target, link });
        }
        let solicited = message.flags & FLAG_SOLICITED != 0;
        // §7.1.2; and an unspecified source advertises nothing (§4.4).
        if (dst[0] == 0xff && solicited) || source == [0; 16] {
            return None;
        }
        Some(Neighbour::Advertisement {
            target,
            link: link_option(options, 2),
            router: message.flags & FLAG_ROUTER != 0,
            solicited,
            replace: message.flags & FLAG_OVERRIDE != 0,
        })
    }
}

impl NdMessage {
    /// Length without options.
    pub const LEN: usize = 24;
    /// Length of a link-layer address option.
    pub const OPTION_LEN: usize = 8;

    /// Writes a message with its link-layer address option (source for a solicitation, target for an
    /// advertisement); the checksum is left to [`crate::checksum`]. `None` if there is no room.
    pub fn emit(
        body: &mut [u8],
        kind: u8,
        flags: u8,
        target: [u8; 16],
        link: Option<MacAddr>,
    ) -> Option<usize> {
        let message = Self { kind, code: 0, check: U16::ZERO, flags, reserved: [0; 3], target };
        message.write_to_prefix(body).ok()?;
        let Some(MacAddr([a, b, c, d, e, f])) = link else { return Some(Self::LEN) };
        let option = [if kind == SOLICITATION { 1 } else { 2 }, 1, a, b, c, d, e, f];
        *body.get_mut(Self::LEN..)?.first_chunk_mut()? = option;
        Some(Self::LEN + Self::OPTION_LEN)
    }
}

/// The group that everybody with this address listens to (RFC 4291 §2.7.1).
pub fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let [.., a, b, c] = target;
    [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// The link-layer address of an IPv6 group (RFC 2464 §7).
pub fn group_mac(group: [u8; 16]) -> MacAddr {
    let [.., a, b, c, d] = group;
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The first link-layer address option of this type; each turn consumes at least eight bytes. A group
/// address there is no one's: it is passed over.
fn link_option(mut options: &[u8], wanted: u8) -> Option<MacAddr> {
    while let [kind, units @ 1..=u8::MAX, rest @ ..] = options {
        if let (true, Some(mac)) = (*kind == wanted && *units == 1, rest.first_chunk::<6>()) {
            return Some(MacAddr(*mac)).filter(|mac| !mac.is_group());
        }
        options = options.get(usize::from(*units) * 8..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::parse;
    use std::net::Ipv6Addr;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn host(last: u16) -> [u8; 16] {
        Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0x12, last]).octets()
    }

    fn read(frame: &Frame) -> Result<Neighbour, ParseError> {
        let bytes = frame.bytes();
        Neighbour::read(&bytes, &parse(&bytes, bytes.len())?)
    }

    fn message(src: [u8; 16], dst: [u8; 16], kind: u8, flags: u8, target: [u8; 16], options: &[u8]) -> Frame {
        Frame::icmp(src, dst, kind, 0, [flags, 0, 0, 0]).ttl(255).payload(&[&target[..], options].concat())
    }

    #[test]
    fn solicitation_and_advertisement_are_read() {
        let asked = read(&Frame::neighbour_solicitation(MAC, host(1), host(2)));
        let expected = Neighbour::Solicitation { source: Some(host(1)), target: host(2), link: Some(MAC) };
        assert_eq!(asked, Ok(expected));
        let told = read(&Frame::neighbour_advertisement(MAC, host(2), host(1)));
        let expected = Neighbour::Advertisement {
            target: host(2),
            link: Some(MAC),
            router: false,
            solicited: true,
            replace: true,
        };
        assert_eq!(told, Ok(expected));
    }

    #[test]
    fn duplicate_address_detection_has_no_source() {
        let group = solicited_node(host(2));
        assert_eq!(
            read(&message([0; 16], group, SOLICITATION, 0, host(2), &[])),
            Ok(Neighbour::Solicitation { source: None, target: host(2), link: None })
        );
        let with_link = message([0; 16], group, SOLICITATION, 0, host(2), &[1, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(read(&with_link), Err(ParseError::BadNeighbourDiscovery));
        let elsewhere = message([0; 16], ALL_NODES, SOLICITATION, 0, host(2), &[]);
        assert_eq!(read(&elsewhere), Err(ParseError::BadNeighbourDiscovery));
    }

    #[test]
    fn forged_and_malformed_messages_are_refused() {
        let bad = Err(ParseError::BadNeighbourDiscovery);
        let solicit = || Frame::neighbour_solicitation(MAC, host(1), host(2));
        assert_eq!(read(&solicit().ttl(64)), bad);
        assert_eq!(read(&solicit().bad_l4_checksum()), bad);
        assert_eq!(read(&message(host(1), host(2), SOLICITATION, 0, ALL_NODES, &[])), bad);
        assert_eq!(read(&message(host(1), ALL_NODES, ADVERTISEMENT, FLAG_SOLICITED, host(1), &[])), bad);
        // An option of length 0, one that runs over, and a byte that is none
        for options in [&[1, 0, 2, 0, 0, 0, 0, 9][..], &[1, 2, 2, 0, 0, 0, 0, 9], &[1]] {
            assert_eq!(read(&message(host(1), host(2), SOLICITATION, 0, host(2), options)), bad);
        }
        let short = Frame::icmp(host(1), host(2), SOLICITATION, 0, [0; 4]).ttl(255).payload_len(15);
        assert_eq!(read(&short), bad);
    }

    #[test]
    fn unknown_options_are_skipped_and_group_addresses_teach_nothing() {
        let options = [14, 1, 1, 2, 3, 4, 5, 6, 2, 1, 2, 0, 0, 0, 0, 9];
        let told = read(&message(host(1), ALL_NODES, ADVERTISEMENT, FLAG_OVERRIDE, host(1), &options));
        assert!(matches!(told, Ok(Neighbour::Advertisement { link: Some(MAC), solicited: false, .. })));
        let options = [2, 1, 0x33, 0x33, 0, 0, 0, 1];
        let told = read(&message(host(1), ALL_NODES, ADVERTISEMENT, FLAG_OVERRIDE, host(1), &options));
        assert!(matches!(told, Ok(Neighbour::Advertisement { link: None, .. })));
    }
}
