//! Generators of frames that a real host could send.

use proptest::prelude::*;
use wire::craft::Frame;
use wire::{Addr, Proto, tcp_flags};

/// Source and destination of one family, both unicast, different.
pub fn address_pair() -> impl Strategy<Value = (Addr, Addr)> {
    let host4 = || {
        (1u8..=223, any::<[u8; 3]>()).prop_map(|(first, rest)| {
            let [b, c, d] = rest;
            [if first == 127 { 10 } else { first }, b, c, d]
        })
    };
    let host6 = || {
        any::<[u16; 8]>().prop_map(|mut a| {
            a[0] = 0x2000 | a[0] & 0x1fff;
            a
        })
    };
    prop_oneof![
        (host4(), host4()).prop_map(|(s, d)| (Addr::from(s), Addr::from(d))),
        (host6(), host6()).prop_map(|(s, d)| (Addr::from(s), Addr::from(d))),
    ]
    .prop_filter("two hosts", |(s, d)| s != d)
}

/// A combination of flags that TCP sends.
pub fn flags() -> impl Strategy<Value = u8> {
    use tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
    proptest::sample::select(vec![
        SYN,
        SYN | ACK,
        ACK,
        ACK | PSH,
        ACK | URG,
        FIN | ACK,
        FIN | ACK | PSH,
        RST,
        RST | ACK,
    ])
}

/// TCP options as bytes: some well-formed, some not.
pub fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        Just(vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 2, 1, 3, 3, 7]),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

/// What a plain frame carries over IP.
#[derive(Debug, Clone)]
enum Upper {
    Tcp { flags: u8, numbers: (u32, u32, u16), options: Vec<u8> },
    Udp { checksum: bool },
    EchoRequest,
    EchoReply,
}

impl Upper {
    fn frame(&self, src: Addr, dst: Addr, sport: u16, dport: u16) -> Frame {
        match self {
            Upper::Tcp { flags, numbers: (seq, ack, window), options } => {
                let frame = Frame::tcp(src, dst, sport, dport).flags(*flags).options(options);
                frame.seq(*seq).ack(*ack).window(*window)
            }
            // Only IPv4 allows a datagram without a checksum.
            Upper::Udp { checksum: false } if matches!(src, Addr::V4(_)) => {
                Frame::udp(src, dst, sport, dport).no_checksum()
            }
            Upper::Udp { .. } => Frame::udp(src, dst, sport, dport),
            Upper::EchoRequest => Frame::echo_request(src, dst, sport, dport),
            Upper::EchoReply => Frame::echo_reply(src, dst, sport, dport),
        }
    }
}

/// A valid frame that is no fragment, has no IPv4 options and no extension headers.
pub fn plain_frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![0usize..64, 0usize..1400];
    let tcp = (flags(), any::<(u32, u32, u16)>(), tcp_options())
        .prop_map(|(flags, numbers, options)| Upper::Tcp { flags, numbers, options });
    let udp = any::<bool>().prop_map(|checksum| Upper::Udp { checksum });
    let upper = prop_oneof![2 => tcp, 2 => udp, 1 => Just(Upper::EchoRequest), 1 => Just(Upper::EchoReply)];
    (address_pair(), any::<(u16, u16)>(), upper, payload, 1u8..=255, any::<(u8, u16)>()).prop_map(
        |((src, dst), (sport, dport), upper, payload_len, ttl, (class, id))| {
            let frame = upper.frame(src, dst, sport, dport).payload_len(payload_len).pad_to(60);
            frame.ttl(ttl).traffic_class(class).id(u32::from(id))
        },
    )
}

/// Any frame of the kinds that the parser knows, with options, extension headers, fragments and errors.
pub fn any_frame() -> impl Strategy<Value = Frame> {
    let body = || proptest::collection::vec(any::<u8>(), 0..24);
    let header = (proptest::sample::select(vec![0u8, 43, 51, 60]), body());
    let plain = plain_frame().boxed();
    let decorated = (plain_frame(), body(), proptest::collection::vec(header, 0..4)).prop_map(
        |(frame, options, extensions)| {
            let frame = frame.ip_options(&options);
            extensions.iter().fold(frame, |frame, (kind, body)| frame.extension(*kind, body))
        },
    );
    let fragment = (plain_frame(), 0u16..0x1fff, any::<bool>())
        .prop_map(|(frame, offset, more)| frame.fragment(offset * 8, more));
    let error = (plain_frame(), address_pair(), any::<(u8, u8)>(), 0usize..200).prop_map(
        |(about, (src, dst), (kind, code), quoted_len)| {
            let kind = if matches!(src, Addr::V4(_)) { [3, 4, 5, 11, 12] } else { [1, 2, 3, 4, 137] }
                [usize::from(kind % 5)];
            Frame::icmp_error(src, dst, kind, code, &about, quoted_len)
        },
    );
    let discovery = (any::<[u16; 8]>(), any::<[u16; 8]>(), 133u8..138, body(), 254u8..).prop_map(
        |(src, dst, kind, body, ttl)| Frame::icmp(src, dst, kind, 0, [0; 4]).payload(&body).ttl(ttl),
    );
    let other = (address_pair(), any::<u8>(), body())
        .prop_map(|((src, dst), proto, body)| Frame::ip(src, dst, Proto(proto)).payload(&body));
    let arp = any::<([u8; 4], [u8; 4])>()
        .prop_map(|(sender, target)| Frame::arp_request(wire::craft::SRC_MAC, sender, target));
    prop_oneof![3 => plain, 2 => decorated, 1 => fragment, 2 => error, 1 => discovery, 1 => other, 1 => arp]
}
