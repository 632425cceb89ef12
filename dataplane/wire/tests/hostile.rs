//! Whatever bytes arrive, nothing panics, and what is accepted holds together.

mod support;

use proptest::prelude::*;
use support::any_frame;
use wire::craft::{self, IcmpError};
use wire::icmp::quoted;
use wire::tcp::TcpOptions;
use wire::{Addr, Desc, Kind, Link, MacAddr, ParseError, checksum, parse, parse_with};

const LINK: Link = Link { src: MacAddr([2; 6]), dst: MacAddr([4; 6]) };
const OWN4: Addr = Addr::V4([10, 0, 0, 1]);
const OWN6: Addr = Addr::V6([0xfd; 16]);

/// Invariants of an accepted frame, and every function that takes one.
fn exercise(bytes: &[u8], frame_len: usize, desc: &Desc) -> Result<(), TestCaseError> {
    let (l3, l4, end) = (usize::from(desc.l3), usize::from(desc.l4), usize::from(desc.l3 + desc.ip_len));
    prop_assert!(l3 == 14 && l3 < l4 && l4 <= end && end <= frame_len && l4 <= bytes.len());
    if desc.kind == Kind::Tcp {
        let header = usize::from(desc.tcp.header_len);
        prop_assert!(header >= 20 && l4 + header <= bytes.len());
        prop_assert_eq!(l4 + header + usize::from(desc.tcp.payload_len), end);
    }
    let whole = bytes.len() >= end;
    prop_assert!(whole || desc.kind != Kind::NeighbourDiscovery && desc.kind != Kind::IcmpError);

    let options = TcpOptions::of(bytes, desc);
    prop_assert!(options.sack_blocks().len() <= 4 && options.window_scale.unwrap_or(0) <= 14);
    if let Some(quoted) = quoted(bytes, desc) {
        prop_assert_eq!(quoted.key.is_v6(), desc.key.is_v6());
        prop_assert!(usize::from(quoted.l4) + 8 <= end && quoted.l3 < quoted.l4);
        prop_assert_eq!(quoted.key.proto(), quoted.proto);
    }
    let _ = wire::nd::Neighbour::read(bytes, desc);
    let _ = checksum::verify_transport(bytes, desc);
    let place = wire::ipv4::fragment(bytes, desc).or(wire::ipv6::fragment(bytes, desc));
    prop_assert_eq!(place.is_some(), desc.kind == Kind::Fragment);
    prop_assert_eq!(wire::arp::ArpPacket::view(bytes, desc).is_some(), desc.kind == Kind::Arp);

    let mut out = [0u8; 1600];
    for own in [OWN4, OWN6] {
        for error in [IcmpError::TimeExceeded, IcmpError::PacketTooBig { mtu: 1280 }] {
            if let Some(len) = craft::icmp_error(&mut out, LINK, own, (bytes, desc), error) {
                let answer = parse(&out[..len], len);
                // An answer to an own address that is also the sender's is a land attack; all else is well.
                prop_assert!(answer.is_ok() || desc.key.src() == own, "{answer:?}");
                prop_assert!(craft::is_intact(&out[..len]) || desc.key.src() == own);
            }
        }
    }
    if let Some(len) = craft::tcp_reset(&mut out, LINK, desc) {
        prop_assert!(craft::is_intact(&out[..len]));
    }
    if whole {
        let mut copy = bytes.to_vec();
        let read = wire::udp::parse_udp_to(bytes, &[desc.key.dst()], &[desc.key.dport()]);
        if let Some(datagram) = read {
            prop_assert_eq!((datagram.src, datagram.sport), (desc.key.src(), desc.key.sport()));
            prop_assert!(datagram.payload.end <= l3 + usize::from(desc.ip_len));
        }
        if let Some(len) = craft::echo_reply_in_place(&mut copy, desc) {
            let reply = parse(&copy[..len], len);
            prop_assert_eq!(reply.map(|d| (d.kind, d.key)), Ok((Kind::EchoReply, desc.key.reversed())));
        }
        // Forwarding keeps a frame as right or as wrong as it was.
        let mut copy = bytes.to_vec();
        let forwarded = match desc.kind {
            Kind::Arp => false,
            _ if desc.key.is_v6() => checksum::ipv6_decrement_hop_limit(&mut copy[l3..]),
            _ => checksum::ipv4_decrement_ttl(&mut copy[l3..]),
        };
        prop_assert_eq!(forwarded, desc.kind != Kind::Arp && desc.ttl > 1);
        let before = parse(bytes, frame_len);
        let after = parse(&copy, frame_len);
        match (forwarded, before, after) {
            // Neighbour discovery never leaves its link.
            (true, Ok(_), Err(error)) => prop_assert_eq!(error, ParseError::BadNeighbourDiscovery),
            (true, Ok(before), Ok(after)) => prop_assert_eq!(after.ttl + 1, before.ttl),
            (_, before, after) => prop_assert_eq!(before.map(summary), after.map(summary)),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_are_described_or_refused(
        ethertype in proptest::sample::select(vec![[8u8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [0, 46]]),
        tail in proptest::collection::vec(any::<u8>(), 0..160),
        known_good in any::<bool>(),
        missing in 0usize..64,
    ) {
        let mut bytes = vec![2u8; 12];
        bytes.extend_from_slice(&ethertype);
        bytes.extend_from_slice(&tail);
        if let Ok(desc) = parse_with(&bytes, bytes.len() + missing, known_good) {
            exercise(&bytes, bytes.len() + missing, &desc)?;
        }
    }

    #[test]
    fn mutated_frames_are_described_or_refused(
        frame in any_frame(),
        mutations in proptest::collection::vec((0usize..200, any::<u8>()), 0..6),
        cut in 0usize..120,
    ) {
        let mut bytes = frame.bytes();
        let len = bytes.len();
        for (at, value) in mutations {
            bytes[at % len] = value;
        }
        if let Ok(desc) = parse_with(&bytes, len, true) {
            exercise(&bytes, len, &desc)?;
        }
        // Cut short on the wire, and split over segments.
        let first = &bytes[..len - cut.min(len)];
        if let Ok(desc) = parse_with(first, first.len(), true) {
            exercise(first, first.len(), &desc)?;
        }
        if let Ok(desc) = parse_with(first, len, true) {
            exercise(first, len, &desc)?;
        }
    }

    /// A split frame is told apart from a broken one: the first segment alone either says the same as the
    /// whole frame, or asks for it.
    #[test]
    fn a_first_segment_agrees_with_the_frame_or_asks_for_it(frame in any_frame(), cut in 1usize..200) {
        let bytes = frame.bytes();
        let first = &bytes[..bytes.len() - cut.min(bytes.len())];
        let whole = parse(&bytes, bytes.len()).map(summary);
        match parse(first, bytes.len()).map(summary) {
            Err(ParseError::HeadersSplit) => {}
            said => prop_assert_eq!(said, whole),
        }
    }
}

/// What two descriptions of one frame must share: all of it.
fn summary(desc: Desc) -> String {
    format!("{desc:?}")
}

/// Views and helpers that take bare bytes, at every length.
#[test]
fn short_bytes_have_no_view() {
    let mut bytes = [0x45u8; 64];
    for len in 0..bytes.len() {
        let slice = &mut bytes[..len];
        assert_eq!(wire::ether::EtherHeader::view(slice).is_some(), len >= 14);
        assert_eq!(wire::ipv4::Ipv4Header::view(slice).is_some(), len >= 20);
        assert!(wire::ipv6::Ipv6Header::view(slice).is_none());
        assert!(!checksum::verify_udp(&slice[..len.min(7)], &Default::default()));
        let _ = checksum::ipv6_decrement_hop_limit(slice);
        let _ = TcpOptions::read(slice);
        let mac = MacAddr([2; 6]);
        assert_eq!(craft::arp_request(slice, (mac, [10; 4]), [11; 4], None).is_some(), len >= 42);
        assert!(craft::neighbour_solicitation(slice, (mac, [0xfd; 16]), [0xfe; 16], None).is_none());
        slice.fill(0x45);
    }
}
