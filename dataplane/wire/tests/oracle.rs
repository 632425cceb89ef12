//! The parser, the builder and the checksums against etherparse, which was written by others.

mod support;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use support::{address_pair, any_frame, flags, plain_frame};
use wire::checksum::{self, Change};
use wire::{Addr, Desc, Kind, parse, tcp_flags};

/// The fields of a TCP or UDP packet that both parsers must agree on.
#[derive(Debug, PartialEq)]
struct Fields {
    ports: (u16, u16),
    tcp: Option<(u32, u32, u16, u8, u8)>,
    payload_len: usize,
}

fn ours(frame: &[u8], desc: &Desc) -> Option<Fields> {
    let ports = (desc.key.sport(), desc.key.dport());
    let tcp = &desc.tcp;
    match desc.kind {
        Kind::Tcp => Some(Fields {
            ports,
            tcp: Some((tcp.seq, tcp.ack, tcp.window, tcp.flags, tcp.header_len)),
            payload_len: usize::from(tcp.payload_len),
        }),
        Kind::Udp => {
            let header = wire::udp::UdpHeader::view(frame, desc)?;
            Some(Fields { ports, tcp: None, payload_len: usize::from(header.len.get()) - 8 })
        }
        _ => None,
    }
}

fn theirs(packet: &SlicedPacket<'_>) -> Option<Fields> {
    match packet.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => {
            let bits = [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg()];
            let flags = bits.iter().enumerate().fold(0, |all, (i, bit)| all | u8::from(*bit) << i);
            let (seq, ack) = (tcp.sequence_number(), tcp.acknowledgment_number());
            Some(Fields {
                ports: (tcp.source_port(), tcp.destination_port()),
                tcp: Some((seq, ack, tcp.window_size(), flags, tcp.data_offset() * 4)),
                payload_len: tcp.payload().len(),
            })
        }
        TransportSlice::Udp(udp) => Some(Fields {
            ports: (udp.source_port(), udp.destination_port()),
            tcp: None,
            payload_len: udp.payload().len(),
        }),
        _ => None,
    }
}

/// Makes a mutated IPv4 header's checksum right, so that mutations reach what lies behind.
fn mend(frame: &mut [u8]) {
    if frame.len() < 34 || frame[12..14] != [0x08, 0x00] {
        return;
    }
    let end = (14 + usize::from(frame[14] & 0xf) * 4).clamp(34, frame.len());
    frame[24..26].fill(0);
    let check = checksum::ipv4_header(&frame[14..end]);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn frames_that_we_build_are_read_alike(frame in plain_frame()) {
        let bytes = frame.bytes();
        let desc = parse(&bytes, bytes.len()).unwrap();
        let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
        prop_assert_eq!(desc.key, frame.key());
        prop_assert!(checksum::verify_transport(&bytes, &desc));
        prop_assert_eq!(ours(&bytes, &desc), theirs(&packet));
        // Their arithmetic finds the checksum that ours wrote.
        if let (Some(TransportSlice::Tcp(tcp)), Addr::V4(src), Addr::V4(dst)) =
            (&packet.transport, desc.key.src(), desc.key.dst())
        {
            prop_assert_eq!(tcp.calc_checksum_ipv4(src, dst).unwrap(), tcp.checksum());
        }
        if let (Some(TransportSlice::Tcp(tcp)), Addr::V6(src), Addr::V6(dst)) =
            (&packet.transport, desc.key.src(), desc.key.dst())
        {
            prop_assert_eq!(tcp.calc_checksum_ipv6(src, dst).unwrap(), tcp.checksum());
        }
    }

    #[test]
    fn frames_that_they_build_are_read_and_intact(
        (src, dst) in address_pair(),
        (sport, dport, numbers) in any::<(u16, u16, (u32, u32, u16))>(),
        flags in flags(),
        kind in 0..4,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let start = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match (src, dst) {
            (Addr::V4(s), Addr::V4(d)) => start.ipv4(s, d, 9),
            (Addr::V6(s), Addr::V6(d)) => start.ipv6(s, d, 9),
            _ => unreachable!("pairs are of one family"),
        };
        let mut frame = Vec::new();
        let v6 = matches!(src, Addr::V6(_));
        let expected = match kind {
            0 => {
                let mut tcp = etherparse::TcpHeader::new(sport, dport, numbers.0, numbers.2);
                tcp.acknowledgment_number = numbers.1;
                tcp.ack = flags & tcp_flags::ACK != 0;
                tcp.syn = flags & tcp_flags::SYN != 0;
                tcp.fin = flags & tcp_flags::FIN != 0;
                tcp.rst = flags & tcp_flags::RST != 0;
                tcp.psh = flags & tcp_flags::PSH != 0;
                tcp.urg = flags & tcp_flags::URG != 0;
                ip.tcp_header(tcp).write(&mut frame, &payload).unwrap();
                Kind::Tcp
            }
            1 => {
                ip.udp(sport, dport).write(&mut frame, &payload).unwrap();
                Kind::Udp
            }
            2 if v6 => {
                ip.icmpv6_echo_request(sport, dport).write(&mut frame, &payload).unwrap();
                Kind::EchoRequest
            }
            2 => {
                ip.icmpv4_echo_request(sport, dport).write(&mut frame, &payload).unwrap();
                Kind::EchoRequest
            }
            _ if v6 => {
                ip.icmpv6_echo_reply(sport, dport).write(&mut frame, &payload).unwrap();
                Kind::EchoReply
            }
            _ => {
                ip.icmpv4_echo_reply(sport, dport).write(&mut frame, &payload).unwrap();
                Kind::EchoReply
            }
        };
        let desc = parse(&frame, frame.len()).unwrap();
        prop_assert_eq!((desc.kind, desc.ttl, desc.key.src(), desc.key.dst()), (expected, 9, src, dst));
        prop_assert!(checksum::verify_transport(&frame, &desc));
        let ports = match expected {
            Kind::EchoRequest => (sport, 0),
            Kind::EchoReply => (0, sport),
            _ => (sport, dport),
        };
        prop_assert_eq!((desc.key.sport(), desc.key.dport()), ports);
        if expected == Kind::Tcp {
            prop_assert_eq!((desc.tcp.seq, desc.tcp.ack, desc.tcp.window), numbers);
            prop_assert_eq!((desc.tcp.flags, usize::from(desc.tcp.payload_len)), (flags, payload.len()));
        }
    }

    /// What we accept as TCP or UDP after any mutation, they read with the same fields.
    #[test]
    fn mutated_frames_are_read_alike_if_accepted(
        frame in any_frame(),
        mutations in proptest::collection::vec((0usize..100, any::<u8>()), 0..4),
    ) {
        let mut bytes = frame.bytes();
        for (at, value) in mutations {
            // Leave the link layer: the question is what lies behind it.
            let at = 14 + at % bytes.len().saturating_sub(14).max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        mend(&mut bytes);
        if let Ok(desc) = parse(&bytes, bytes.len())
            && let Some(fields) = ours(&bytes, &desc)
        {
            let packet = SlicedPacket::from_ethernet(&bytes);
            prop_assert!(packet.is_ok(), "{:?}", packet);
            prop_assert_eq!(Some(fields), packet.ok().as_ref().and_then(theirs));
        }
    }

    /// RFC 1624: the incremental update gives the checksum of the rewritten data.
    #[test]
    fn incremental_updates_equal_a_new_sum(
        data in proptest::collection::vec(any::<u8>(), 8..64),
        word in any::<u32>(),
    ) {
        // A nonzero word outside the rewritten field: all-zero data have two sums.
        let mut data = data;
        data[4] |= 1;
        let old = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
        let before = checksum::Sum::new().bytes(&data).finish();
        data[..4].copy_from_slice(&word.to_be_bytes());
        let after = checksum::Sum::new().bytes(&data).finish();
        prop_assert_eq!(Change::new().u32(old, word).apply(before), after);
        let halves = Change::new()
            .u16((old >> 16) as u16, (word >> 16) as u16)
            .u16(old as u16, word as u16);
        prop_assert_eq!(halves.apply(before), after);
    }

    /// The fast sum equals sixteen bits at a time.
    #[test]
    fn sums_equal_the_definition(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        prop_assert_eq!(checksum::Sum::new().bytes(&data).fold(), sum as u16);
    }

    #[test]
    fn address_rewrites_of_either_family_mend_the_transport(
        frame in plain_frame(),
        (new4, new6) in any::<([u8; 4], [u8; 16])>(),
    ) {
        let mut bytes = frame.bytes();
        let desc = parse(&bytes, bytes.len()).unwrap();
        let (change, at, new) = match desc.key.src() {
            Addr::V4(old) => (Change::new().addr4(old, new4), 26, &new4[..]),
            Addr::V6(old) => (Change::new().addr6(old, new6), 22, &new6[..]),
        };
        let check_at = usize::from(desc.l4) + match desc.kind {
            Kind::Tcp => 16,
            Kind::Udp => 6,
            // ICMP's checksum does not cover addresses.
            _ => return Ok(()),
        };
        let check = u16::from_be_bytes([bytes[check_at], bytes[check_at + 1]]);
        let check = if desc.kind == Kind::Udp { change.apply_udp(check) } else { change.apply(check) };
        bytes[check_at..check_at + 2].copy_from_slice(&check.to_be_bytes());
        bytes[at..at + new.len()].copy_from_slice(new);
        let key = match (desc.key.src(), desc.key.dst()) {
            (Addr::V4(_), Addr::V4(dst)) => wire::FlowKey::v4(new4, dst, desc.key.proto(), 0, 0),
            (Addr::V6(_), Addr::V6(dst)) => wire::FlowKey::v6(new6, dst, desc.key.proto(), 0, 0),
            _ => unreachable!("pairs are of one family"),
        };
        let rewritten = Desc { key, ..desc };
        prop_assert!(checksum::verify_transport(&bytes, &rewritten));
    }
}
