//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the pseudo-headers of TCP,
//! UDP and ICMPv6 (RFC 9293 §3.1, RFC 8200 §8.1).
//!
//! Sums run over machine words as they lie in memory: a ones' complement sum does not depend on byte
//! order (RFC 1071 §2 B), so only its two ends are swapped. Every value that this module takes or gives
//! is in host order.

use crate::desc::{Desc, Kind};
use crate::key::{FlowKey, Proto};

/// A running ones' complement sum. Pieces must start at even offsets of the summed data, so only the
/// last piece may have an odd length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

/// Shorter data are summed word by word, longer ones in many lanes at a time.
const SHORT: usize = 64;

impl Sum {
    /// An empty sum.
    pub const fn new() -> Self {
        Sum(0)
    }

    /// Adds bytes, an odd last one padded with zero.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        if bytes.len() < SHORT {
            return self.short(bytes);
        }
        let (chunks, tail) = bytes.as_chunks::<8>();
        // Two 32-bit halves into 64 bits: no carry to catch below 16 GiB, and it vectorises.
        let mut acc = chunks.iter().fold(0u64, |acc, chunk| {
            let word = u64::from_ne_bytes(*chunk);
            acc + (word & 0xffff_ffff) + (word >> 32)
        });
        let (pairs, odd) = tail.as_chunks::<2>();
        for pair in pairs {
            acc += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            acc += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        self.join(acc)
    }

    /// A few words: a carry to catch for each costs less than two halves of each.
    #[inline]
    fn short(self, bytes: &[u8]) -> Self {
        let (chunks, tail) = bytes.as_chunks::<8>();
        let sum = chunks.iter().fold(self, |sum, chunk| sum.join(u64::from_ne_bytes(*chunk)));
        match (bytes.last_chunk::<8>(), tail.len() as u32) {
            (_, 0) => sum,
            // What was summed before is shifted out; so the tail is in front, zeros behind it.
            (Some(last), left) => sum.join(u64::from_le_bytes(*last) >> (64 - 8 * left)),
            (None, _) => {
                let mut word = [0; 8];
                word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
                sum.join(u64::from_ne_bytes(word))
            }
        }
    }

    /// Adds one 16-bit word.
    #[inline]
    pub fn u16(self, word: u16) -> Self {
        self.join(u64::from(word.to_be()))
    }

    /// Adds one 32-bit word.
    #[inline]
    pub fn u32(self, word: u32) -> Self {
        self.join(u64::from(word.to_be()))
    }

    /// Adds the pseudo-header of a segment of `len` bytes between the key's addresses.
    #[inline]
    pub fn pseudo(self, key: &FlowKey, proto: Proto, len: usize) -> Self {
        // The key's address words hold the bytes as on the wire. IPv4's upper words are zero.
        let [first, rest @ ..] = key.a;
        let mut sum = self.join(first);
        if key.is_v6() {
            sum = rest.into_iter().fold(sum, Sum::join);
        }
        sum.join(u64::from(u16::from(proto.0).to_be()) + u64::from((len as u32).to_be()))
    }

    /// The sum folded to 16 bits.
    #[inline]
    pub fn fold(self) -> u16 {
        let s = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32);
        let s = (s & 0xffff) + (s >> 16);
        let s = (s & 0xffff) + (s >> 16);
        u16::from_be(s as u16)
    }

    /// The checksum to write: the folded sum's complement.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// The same for UDP, where zero on the wire means "no checksum" (RFC 768).
    #[inline]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }

    /// True if data that include their checksum are intact.
    #[inline]
    pub fn is_valid(self) -> bool {
        // Folding is taking the rest of a division by 0xffff, but 0xffff comes out where that is 0, unless
        // all was zero.
        self.0 != 0 && self.0.is_multiple_of(0xffff)
    }

    /// Ones' complement addition of two 64-bit accumulators: a carry out wraps around.
    #[inline(always)]
    fn join(self, other: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(other);
        Sum(sum + u64::from(carry))
    }
}

/// What a rewrite changes in a checksum (RFC 1624 eqn. 3): collected once, applied to each checksum that
/// covers the rewritten fields.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change(Sum);

impl Change {
    /// No change.
    pub const fn new() -> Self {
        Change(Sum::new())
    }

    /// A 16-bit field at an even offset.
    #[inline]
    pub fn u16(self, old: u16, new: u16) -> Self {
        Change(self.0.u16(!old).u16(new))
    }

    /// A 32-bit field at an even offset.
    #[inline]
    pub fn u32(self, old: u32, new: u32) -> Self {
        Change(self.0.u32(!old).u32(new))
    }

    /// An IPv4 address.
    #[inline]
    pub fn addr4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        self.u32(u32::from_be_bytes(old), u32::from_be_bytes(new))
    }

    /// An IPv6 address.
    #[inline]
    pub fn addr6(self, old: [u8; 16], new: [u8; 16]) -> Self {
        Change(self.0.bytes(&old.map(|b| !b)).bytes(&new))
    }

    /// A checksum after the change.
    #[inline]
    pub fn apply(self, check: u16) -> u16 {
        self.0.u16(!check).finish()
    }

    /// A UDP checksum after the change: "none" stays none, and the result is never "none".
    #[inline]
    pub fn apply_udp(self, check: u16) -> u16 {
        if check == 0 { 0 } else { self.0.u16(!check).finish_udp() }
    }
}

/// The IPv4 header checksum over a header whose checksum field is zero, or taken as it stands: zero then
/// means valid.
#[inline]
pub fn ipv4_header(header: &[u8]) -> u16 {
    Sum::new().bytes(header).finish()
}

/// Takes one off the TTL of the IPv4 header at the start of `ip` and mends the checksum. False, with
/// nothing written, if the header is cut short or the TTL would reach zero (RFC 1812 §5.3.1).
#[inline(always)]
pub fn ipv4_decrement_ttl(ip: &mut [u8]) -> bool {
    let Some(header) = ip.first_chunk_mut::<20>() else { return false };
    let ttl = header[8];
    if ttl <= 1 {
        return false;
    }
    header[8] = ttl - 1;
    // RFC 1624 with m' = m - 0x0100: the sum of everything else grows by 0x0100, which is 1 in the order
    // of these machines, and the carry goes around. It never becomes 0xffff, as RFC 1141 would have it.
    let check = u32::from(u16::from_le_bytes([header[10], header[11]])) + 1;
    let check = check + u32::from(check >= 0xffff);
    [header[10], header[11]] = (check as u16).to_le_bytes();
    true
}

/// Takes one off the hop limit of the IPv6 header at the start of `ip`. False, with nothing written, if
/// the header is cut short or the hop limit would reach zero (RFC 8200 §3).
#[inline]
pub fn ipv6_decrement_hop_limit(ip: &mut [u8]) -> bool {
    match ip.get_mut(7) {
        Some(hops) if *hops > 1 => {
            *hops -= 1;
            true
        }
        _ => false,
    }
}

/// True if the transport checksum of a TCP, UDP, ICMP or ICMPv6 packet is right. The whole packet must
/// lie in `frame`. UDP over IPv4 without a checksum is right; over IPv6 it is not (RFC 8200 §8.1).
/// Kinds without a checksum that we know of are right, too.
#[inline]
pub fn verify_transport(frame: &[u8], desc: &Desc) -> bool {
    let Some(segment) = transport(frame, desc) else { return false };
    match desc.kind {
        Kind::Tcp => verify_tcp(segment, &desc.key),
        Kind::Udp => verify_udp(segment, &desc.key),
        Kind::OtherIp | Kind::Fragment | Kind::Arp => true,
        _ if desc.key.is_v6() => verify_icmp6(segment, &desc.key),
        _ => verify_icmp(segment),
    }
}

/// True if a whole TCP segment's checksum is right; of the key only the addresses count.
#[inline]
pub fn verify_tcp(segment: &[u8], key: &FlowKey) -> bool {
    Sum::new().pseudo(key, Proto::TCP, segment.len()).bytes(segment).is_valid()
}

/// True if a whole UDP datagram's checksum is right, or absent over IPv4. Bytes behind the UDP length
/// (RFC 9868's surplus) are not covered.
pub fn verify_udp(datagram: &[u8], key: &FlowKey) -> bool {
    let Some(header) = datagram.first_chunk::<8>() else { return false };
    if header[6..8] == [0, 0] {
        return !key.is_v6();
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let Some(covered) = datagram.get(..len) else { return false };
    Sum::new().pseudo(key, Proto::UDP, len).bytes(covered).is_valid()
}

/// True if a whole ICMP message's checksum is right.
pub fn verify_icmp(message: &[u8]) -> bool {
    Sum::new().bytes(message).is_valid()
}

/// True if a whole ICMPv6 message's checksum is right; of the key only the addresses count.
pub fn verify_icmp6(message: &[u8], key: &FlowKey) -> bool {
    Sum::new().pseudo(key, Proto::ICMP6, message.len()).bytes(message).is_valid()
}

/// The transport segment of a packet that lies whole in `frame`, link padding excluded.
fn transport<'a>(frame: &'a [u8], desc: &Desc) -> Option<&'a [u8]> {
    frame.get(usize::from(desc.l4)..usize::from(desc.l3) + usize::from(desc.ip_len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::Frame;
    use crate::parse;

    const SRC: [u8; 4] = [10, 1, 0, 10];
    const DST: [u8; 4] = [10, 2, 0, 10];
    const SRC6: [u16; 8] = [0xfd00, 1, 0, 0, 0, 0, 0, 0x10];
    const DST6: [u16; 8] = [0xfd00, 2, 0, 0, 0, 0, 0, 0x10];

    #[test]
    fn published_examples_sum_to_their_printed_values() {
        // RFC 1071 §3
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().bytes(&data).fold(), 0xddf2);
        // RFC 1624 §4: 0xdd2f with 0x5555 -> 0x3285 is zero; RFC 1141's formula gave 0xffff.
        assert_eq!(Change::new().u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
        // An IPv4 header as printed in many textbooks: 192.168.0.1 > 192.168.0.199, UDP, 115 bytes.
        let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 192, 168, 0, 1, 192, 168, 0, 199];
        assert_eq!(ipv4_header(&header), 0xb861);
    }

    #[test]
    fn odd_and_empty_data_are_padded_with_zero() {
        assert_eq!(Sum::new().fold(), 0);
        assert_eq!(Sum::new().bytes(&[0xab]).fold(), 0xab00);
        assert_eq!(Sum::new().bytes(&[1; 15]).fold(), Sum::new().bytes(&[1; 14]).bytes(&[1]).fold());
        assert_eq!(Sum::new().bytes(&[0xff; 65_535]).fold(), 0xff00);
    }

    #[test]
    fn ttl_counts_down_to_one_and_every_checksum_on_the_way_is_valid() {
        // Every checksum wraps somewhere on the way: 64 identifications move it through its range.
        for id in (0..0x1_0000).step_by(1024) {
            let mut frame = Frame::udp(SRC, DST, 1, 2).id(id).ttl(255).bytes();
            for ttl in (1..255).rev() {
                assert!(ipv4_decrement_ttl(&mut frame[14..]));
                assert_eq!(parse(&frame, frame.len()).unwrap().ttl, ttl);
            }
            let at_one = frame.clone();
            assert!(!ipv4_decrement_ttl(&mut frame[14..]));
            assert_eq!(frame, at_one);
        }
        assert!(!ipv4_decrement_ttl(&mut [0x45; 19]));
    }

    #[test]
    fn hop_limit_stops_at_one() {
        let mut frame = Frame::udp(SRC6, DST6, 1, 2).ttl(2).bytes();
        assert!(ipv6_decrement_hop_limit(&mut frame[14..]));
        assert!(!ipv6_decrement_hop_limit(&mut frame[14..]));
        assert_eq!(parse(&frame, frame.len()).unwrap().ttl, 1);
        assert!(!ipv6_decrement_hop_limit(&mut [0; 7]));
    }

    #[test]
    fn transport_checksums_are_verified_in_both_families() {
        let frames = [
            Frame::tcp(SRC, DST, 1, 2).payload_len(101),
            Frame::tcp(SRC6, DST6, 1, 2).payload_len(101),
            Frame::udp(SRC, DST, 1, 2).payload_len(33),
            Frame::udp(SRC6, DST6, 1, 2).payload_len(33),
            Frame::echo_request(SRC, DST, 1, 2).payload_len(56),
            Frame::echo_request(SRC6, DST6, 1, 2).payload_len(56),
        ];
        for frame in frames {
            let verdict = |frame: Frame| {
                let bytes = frame.pad_to(200).bytes();
                verify_transport(&bytes, &parse(&bytes, bytes.len()).unwrap())
            };
            assert!(verdict(frame.clone()), "{frame:?}");
            assert!(!verdict(frame.clone().bad_l4_checksum()), "{frame:?}");
        }
    }

    #[test]
    fn udp_without_checksum_is_right_over_ipv4_only() {
        for (frame, right) in [(Frame::udp(SRC, DST, 1, 2), true), (Frame::udp(SRC6, DST6, 1, 2), false)] {
            let bytes = frame.no_checksum().bytes();
            assert_eq!(verify_transport(&bytes, &parse(&bytes, bytes.len()).unwrap()), right);
        }
        // "None" survives a rewrite, and no rewrite makes a checksum "none".
        assert_eq!(Change::new().u16(1, 2).apply_udp(0), 0);
        assert_eq!(Change::new().u16(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
    }

    #[test]
    fn rewriting_addresses_and_ports_mends_both_checksums() {
        let new = [203, 0, 113, 7];
        let rewritten = Frame::tcp(new, DST, 61_000, 80).payload_len(9).bytes();
        let mut frame = Frame::tcp(SRC, DST, 40_000, 80).payload_len(9).bytes();
        let change = Change::new().addr4(SRC, new);
        let read = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (ip, tcp) = (read(&frame, 24), read(&frame, 50));
        frame[24..26].copy_from_slice(&change.apply(ip).to_be_bytes());
        frame[50..52].copy_from_slice(&change.u16(40_000, 61_000).apply(tcp).to_be_bytes());
        frame[26..30].copy_from_slice(&new);
        frame[34..36].copy_from_slice(&61_000u16.to_be_bytes());
        assert_eq!(frame, rewritten);
    }
}
