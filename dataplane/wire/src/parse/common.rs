//! The common packet: untagged Ethernet, IPv4 without options or IPv6 without extension headers, TCP or
//! UDP, nothing wrong with it. One check for each header's length, then loads at fixed offsets and a
//! descriptor that is written once.
//!
//! It answers yes or "ask [`super::parse_any`]", which knows every case and every error; what both accept,
//! both describe alike.

use super::{
    IPV4_LEN, IPV6_LEN, L3, VALID_TCP_FLAGS, array, be16, header_sum_is_valid, is_martian_source, ports,
    tcp_fields,
};
use crate::desc::{Desc, Kind, TcpFields};
use crate::key::{FlowKey, Proto, TAIL_V6};

const L4_OF_V4: usize = L3 + IPV4_LEN;
const L4_OF_V6: usize = L3 + IPV6_LEN;
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;

/// EtherType, version and header length, as the frame's bytes 12 to 14 are read; the type of service
/// follows.
const IPV4: u32 = 0x45_0008;
/// The same for IPv6, where half a byte belongs to the traffic class.
const IPV6: u32 = 0x60_dd86;

/// True if `desc` describes the frame now.
#[inline(always)]
pub(super) fn parse(desc: &mut Desc, bytes: &[u8], frame_len: usize, checksum_known_good: bool) -> bool {
    // The shortest UDP packet of IPv4; that of IPv6 is longer.
    let Some(head) = bytes.first_chunk::<{ L4_OF_V4 + UDP_LEN }>() else { return false };
    let start = u32::from_le_bytes(array(head, 12));
    if head[6] & 1 != 0 {
        return false;
    }
    if start & 0xff_ffff == IPV4 {
        ipv4(desc, bytes, head, frame_len, checksum_known_good)
    } else if start & 0xf0_ffff == IPV6 {
        ipv6(desc, bytes, frame_len)
    } else {
        false
    }
}

#[inline(always)]
fn ipv4(
    desc: &mut Desc,
    bytes: &[u8],
    head: &[u8; L4_OF_V4 + UDP_LEN],
    frame_len: usize,
    checksum_known_good: bool,
) -> bool {
    let ip_len = be16(head, L3 + 2);
    if L3 + usize::from(ip_len) > frame_len {
        return false;
    }
    if !checksum_known_good && !header_sum_is_valid(array_at(head, 0)) {
        return false;
    }
    // Fragment offset and "more fragments" in the lower half, TTL and protocol in the upper one.
    let middle = u32::from_le_bytes(array(head, L3 + 6));
    let pair = u64::from_le_bytes(array(head, L3 + 12));
    let (src, dst) = (pair as u32, (pair >> 32) as u32);
    let first_of_dst = dst as u8;
    if middle & 0xff3f != 0
        || is_martian_source(src.to_le_bytes())
        || first_of_dst == 0
        || first_of_dst == 127
        || src == dst
    {
        return false;
    }
    let proto = Proto((middle >> 24) as u8);
    let place = Place { l4: L4_OF_V4, ip_len, ttl: (middle >> 16) as u8 };
    let len = usize::from(ip_len).saturating_sub(IPV4_LEN);
    match proto {
        Proto::TCP => match bytes.first_chunk::<{ L4_OF_V4 + TCP_LEN }>() {
            Some(head) => tcp(desc, array_at(head, L4_OF_V4), (len, bytes.len()), place, [pair, 0, 0, 0], 0),
            None => false,
        },
        Proto::UDP => udp(desc, array_at(head, L4_OF_V4), len, place, [pair, 0, 0, 0], 0),
        _ => false,
    }
}

#[inline(always)]
fn ipv6(desc: &mut Desc, bytes: &[u8], frame_len: usize) -> bool {
    let Some(head) = bytes.first_chunk::<{ L4_OF_V6 + UDP_LEN }>() else { return false };
    let len = be16(head, L3 + 4);
    let ip_len = IPV6_LEN + usize::from(len);
    if L3 + ip_len > frame_len || ip_len > usize::from(u16::MAX) {
        return false;
    }
    let word = |at| u64::from_le_bytes(array(head, at));
    let a = [word(L3 + 8), word(L3 + 16), word(L3 + 24), word(L3 + 32)];
    // Multicast, and whatever begins with four zero bytes.
    let is_special = |first: u64| first as u8 == 0xff || first as u32 == 0;
    if is_special(a[0]) || is_special(a[2]) || (a[0] == a[2] && a[1] == a[3]) {
        return false;
    }
    let place = Place { l4: L4_OF_V6, ip_len: ip_len as u16, ttl: head[L3 + 7] };
    match Proto(head[L3 + 6]) {
        Proto::TCP => match bytes.first_chunk::<{ L4_OF_V6 + TCP_LEN }>() {
            Some(head) => tcp(desc, array_at(head, L4_OF_V6), (len.into(), bytes.len()), place, a, TAIL_V6),
            None => false,
        },
        Proto::UDP => udp(desc, array_at(head, L4_OF_V6), len.into(), place, a, TAIL_V6),
        _ => false,
    }
}

/// What is known in front of the transport header.
#[derive(Clone, Copy)]
struct Place {
    l4: usize,
    ip_len: u16,
    ttl: u8,
}

impl Place {
    #[inline(always)]
    fn desc(self, kind: Kind, key: FlowKey, tcp: TcpFields) -> Desc {
        let Place { l4, ip_len, ttl } = self;
        Desc { key, tcp, l3: L3 as u16, l4: l4 as u16, ip_len, kind, ttl, has_options: false }
    }
}

/// RFC 9293 §3.1: `len` bytes by the IP header, of which the frame's first segment ends at `bytes`.
#[inline(always)]
fn tcp(
    desc: &mut Desc,
    h: &[u8; TCP_LEN],
    (len, bytes): (usize, usize),
    place: Place,
    a: [u64; 4],
    family: u64,
) -> bool {
    let header_len = usize::from(h[12] >> 2) & 0x3c;
    let flags = h[13] & 0x3f;
    if header_len < TCP_LEN
        || header_len > len
        || place.l4 + header_len > bytes
        || VALID_TCP_FLAGS >> flags & 1 == 0
    {
        return false;
    }
    let fields = tcp_fields(h, flags, header_len, len);
    let key = FlowKey { a, tail: ports(h) | u64::from(Proto::TCP.0) << 32 | family };
    *desc = place.desc(Kind::Tcp, key, fields);
    true
}

/// RFC 768; bytes behind the UDP length are RFC 9868's surplus.
#[inline(always)]
fn udp(desc: &mut Desc, h: &[u8; UDP_LEN], len: usize, place: Place, a: [u64; 4], family: u64) -> bool {
    let udp_len = usize::from(be16(h, 4));
    if udp_len < UDP_LEN || udp_len > len {
        return false;
    }
    let key = FlowKey { a, tail: ports(h) | u64::from(Proto::UDP.0) << 32 | family };
    *desc = place.desc(Kind::Udp, key, TcpFields::default());
    true
}

/// A header at an offset that is constant where this is inlined.
#[inline(always)]
fn array_at<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> &[u8; N] {
    const { assert!(N <= M) };
    match bytes[at..].first_chunk() {
        Some(header) => header,
        // Not reached: `at + N` is at most `M` wherever this is used.
        None => &[0; N],
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_any;
    use super::*;
    use crate::craft::Frame;
    use crate::desc::tcp_flags::{ACK, FIN, PSH, SYN};

    fn seeds() -> Vec<Vec<u8>> {
        let (a4, b4) = ([10, 1, 0, 10], [10, 2, 0, 10]);
        let (a6, b6) = ([0xfd00, 1, 0, 0, 0, 0, 0, 0x10_u16], [0xfd00, 2, 0, 0, 0, 0, 0, 0x10]);
        [
            Frame::tcp(a4, b4, 40_000, 80).flags(ACK | PSH).payload(b"hello"),
            Frame::tcp(a4, b4, 40_000, 80).flags(SYN).options(&[2, 4, 5, 180]),
            Frame::tcp(a6, b6, 40_000, 80).flags(ACK | FIN).pad_to(90),
            Frame::tcp(a6, b6, 40_000, 80).flags(ACK).options(&[1; 8]).payload(b"x"),
            Frame::udp(a4, b4, 53, 1_024).payload(b""),
            Frame::udp(a4, b4, 53, 1_024).payload(b"0123456789abcdef"),
            Frame::udp(a6, b6, 53, 1_024).payload(b"yes"),
        ]
        .map(|frame| frame.bytes())
        .to_vec()
    }

    /// Both ways through a frame: what is accepted here is accepted there, and described alike. True if it
    /// was accepted here.
    fn compare(bytes: &[u8], frame_len: usize, good: bool) -> bool {
        let (mut here, mut there) = (Desc::EMPTY, Desc::EMPTY);
        let is_common = parse(&mut here, bytes, frame_len, good);
        let result = parse_any(&mut there, bytes, frame_len, good);
        if is_common {
            assert_eq!(result, Ok(()), "{bytes:02x?}");
            assert_eq!(format!("{here:?}"), format!("{there:?}"), "{bytes:02x?}");
        }
        is_common
    }

    #[test]
    fn common_packets_take_the_short_way() {
        for frame in seeds() {
            assert!(compare(&frame, frame.len(), false), "{frame:02x?}");
            assert!(compare(&frame, frame.len() + 1_000, true), "more segments: {frame:02x?}");
        }
    }

    #[test]
    fn whatever_a_byte_becomes_both_ways_agree() {
        for frame in seeds() {
            for at in 0..frame.len() {
                for value in 0..=u8::MAX {
                    let mut frame = frame.clone();
                    frame[at] = value;
                    compare(&frame, frame.len(), true);
                    compare(&frame, frame.len(), false);
                }
            }
        }
    }

    #[test]
    fn wherever_a_frame_is_cut_both_ways_agree() {
        for frame in seeds() {
            for len in 0..=frame.len() {
                for frame_len in [len, frame.len(), 70_000] {
                    compare(&frame[..len], frame_len, false);
                }
            }
        }
    }

    #[test]
    fn headers_of_random_words_are_read_alike() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut accepted = 0;
        for frame in seeds().iter().cycle().take(200_000) {
            let mut frame = frame.clone();
            for _ in 0..1 + random() % 3 {
                let at = 12 + random() as usize % (frame.len() - 12);
                frame[at] = random() as u8;
            }
            let cut = frame.len() + 4 - random() as usize % 8;
            accepted += u32::from(compare(&frame, cut, random() & 1 == 0));
        }
        assert!(accepted > 1_000, "{accepted} frames were common");
    }
}
