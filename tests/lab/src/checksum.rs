//! The Internet checksum (RFC 1071) of what the lab makes by hand: headers, segments, echo requests. It is
//! kept apart from the dataplane's on purpose: a fault shared by both would not show.

use std::net::IpAddr;

/// The checksum of bytes from an even place on. Over bytes that hold their own it is 0.
pub fn of(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The same with the pseudo header of TCP and UDP before them (RFC 9293, section 3.1; RFC 8200, section
/// 8.1). IPv4's has its fields in other places, which makes no difference to the sum.
pub fn of_segment(protocol: u8, from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let mut bytes = [octets(from), octets(to)].concat();
    bytes.extend((segment.len() as u32).to_be_bytes());
    bytes.extend(u32::from(protocol).to_be_bytes());
    bytes.extend_from_slice(segment);
    of(&bytes)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_rfc() {
        // RFC 1071, section 3: the sum is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(&bytes), !0xddf2);
        assert_eq!(of(&[&bytes[..], &(!0xddf2_u16).to_be_bytes()].concat()), 0, "over its own");
        // A last byte without a partner counts as if a zero followed it.
        assert_eq!(of(&bytes[..7]), of(&[&bytes[..7], &[0]].concat()));
        assert_eq!((of(&[]), of(&[0xff; 65_536])), (0xffff, 0));
    }

    #[test]
    fn a_segment_is_summed_with_its_addresses_protocol_and_length() {
        // By hand: 0a01 + 000a + 0a02 + 000a + 0006 + 0003 + 6162 + 6300 = d882.
        let [from, to] = [[10, 1, 0, 10], [10, 2, 0, 10]].map(IpAddr::from);
        assert_eq!(of_segment(6, from, to, b"abc"), !0xd882);
        // 2001 + 0db8 + 1, 2001 + 0db8 + 2, 0011 + 0002 + 0102 = 5c8a.
        let ends = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        assert_eq!(of_segment(17, ends[0], ends[1], &[1, 2]), !0x5c8a);
    }
}
