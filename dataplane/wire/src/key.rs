//! Addresses and the flow key.
//!
//! A key is five machine words for both families: comparing and hashing it are a few plain moves. Address
//! words hold the bytes as they lie on the wire (`from_ne_bytes`), ports are numbers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A 48-bit link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// True if the group bit is set (multicast and broadcast).
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP protocol number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP for IPv4.
    pub const ICMP: Proto = Proto(1);
    /// TCP.
    pub const TCP: Proto = Proto(6);
    /// UDP.
    pub const UDP: Proto = Proto(17);
    /// Generic routing encapsulation.
    pub const GRE: Proto = Proto(47);
    /// Encapsulating security payload.
    pub const ESP: Proto = Proto(50);
    /// ICMP for IPv6.
    pub const ICMP6: Proto = Proto(58);
    /// SCTP.
    pub const SCTP: Proto = Proto(132);
}

/// An address as the key holds it: IPv4 in the first four bytes of `words[0]`, IPv6 in both words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addr {
    /// Four bytes as on the wire.
    V4([u8; 4]),
    /// Sixteen bytes as on the wire.
    V6([u8; 16]),
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> IpAddr {
        match addr {
            Addr::V4(b) => IpAddr::V4(Ipv4Addr::from(b)),
            Addr::V6(b) => IpAddr::V6(Ipv6Addr::from(b)),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(addr: IpAddr) -> Addr {
        match addr {
            IpAddr::V4(a) => Addr::V4(a.octets()),
            IpAddr::V6(a) => Addr::V6(a.octets()),
        }
    }
}

impl From<[u8; 4]> for Addr {
    fn from(addr: [u8; 4]) -> Addr {
        Addr::V4(addr)
    }
}

impl From<[u8; 16]> for Addr {
    fn from(addr: [u8; 16]) -> Addr {
        Addr::V6(addr)
    }
}

impl From<[u16; 8]> for Addr {
    /// Segments as in the written form: `[0xfd00, 1, 0, 0, 0, 0, 0, 0x10]` is fd00:1::10.
    fn from(segments: [u16; 8]) -> Addr {
        Addr::V6(Ipv6Addr::from(segments).octets())
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(addr: Ipv4Addr) -> Addr {
        Addr::V4(addr.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(addr: Ipv6Addr) -> Addr {
        Addr::V6(addr.octets())
    }
}

/// What names a flow in one direction: family, VRF, protocol, both addresses, both ports (for ICMP echo see
/// [`echo_ports`]; 0 for protocols without ports).
///
/// Layout: IPv4 `a[0] = source | destination << 32`, `a[1..4] = 0`; IPv6 `a[0..2]` source, `a[2..4]`
/// destination; `tail = sport | dport << 16 | proto << 32 | vrf << 40 | v6 << 48`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    /// Both addresses.
    pub a: [u64; 4],
    /// Ports, protocol, VRF and family.
    pub tail: u64,
}

/// Set in [`FlowKey::tail`] for IPv6.
pub const TAIL_V6: u64 = 1 << 48;
/// The bits of [`FlowKey::tail`] that are in use.
pub const TAIL_MASK: u64 = (1 << 49) - 1;

impl FlowKey {
    /// An IPv4 key from wire-order addresses and host-order ports.
    #[inline(always)]
    pub fn v4(src: [u8; 4], dst: [u8; 4], proto: Proto, sport: u16, dport: u16) -> Self {
        let pair = u64::from(u32::from_ne_bytes(src)) | u64::from(u32::from_ne_bytes(dst)) << 32;
        Self { a: [pair, 0, 0, 0], tail: tail(proto, sport, dport) }
    }

    /// An IPv6 key from wire-order addresses and host-order ports.
    #[inline(always)]
    pub fn v6(src: [u8; 16], dst: [u8; 16], proto: Proto, sport: u16, dport: u16) -> Self {
        let [s0, s1] = halves(src);
        let [d0, d1] = halves(dst);
        Self { a: [s0, s1, d0, d1], tail: tail(proto, sport, dport) | TAIL_V6 }
    }

    /// A key of either family; `None` if the two addresses differ in family.
    pub fn new(src: Addr, dst: Addr, proto: Proto, sport: u16, dport: u16) -> Option<Self> {
        match (src, dst) {
            (Addr::V4(s), Addr::V4(d)) => Some(Self::v4(s, d, proto, sport, dport)),
            (Addr::V6(s), Addr::V6(d)) => Some(Self::v6(s, d, proto, sport, dport)),
            _ => None,
        }
    }

    /// The same flow seen from the other end.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        let ports = (self.tail & 0xffff) << 16 | (self.tail >> 16 & 0xffff);
        let tail = self.tail & !0xffff_ffff | ports;
        let a = if self.is_v6() {
            [self.a[2], self.a[3], self.a[0], self.a[1]]
        } else {
            [self.a[0].rotate_left(32), 0, 0, 0]
        };
        Self { a, tail }
    }

    /// True for IPv6.
    #[inline(always)]
    pub fn is_v6(&self) -> bool {
        self.tail & TAIL_V6 != 0
    }

    /// The protocol number.
    #[inline(always)]
    pub fn proto(&self) -> Proto {
        Proto((self.tail >> 32) as u8)
    }

    /// The routing domain (VRF).
    pub fn vrf(&self) -> u8 {
        (self.tail >> 40) as u8
    }

    /// The same key in another routing domain.
    pub fn with_vrf(mut self, vrf: u8) -> Self {
        self.tail = self.tail & !(0xff << 40) | u64::from(vrf) << 40;
        self
    }

    /// The sender's port or id.
    #[inline(always)]
    pub fn sport(&self) -> u16 {
        self.tail as u16
    }

    /// The receiver's port or id.
    #[inline(always)]
    pub fn dport(&self) -> u16 {
        (self.tail >> 16) as u16
    }

    /// The sender's address.
    #[inline(always)]
    pub fn src(&self) -> Addr {
        if self.is_v6() {
            Addr::V6(join(self.a[0], self.a[1]))
        } else {
            Addr::V4((self.a[0] as u32).to_ne_bytes())
        }
    }

    /// The receiver's address.
    #[inline(always)]
    pub fn dst(&self) -> Addr {
        if self.is_v6() {
            Addr::V6(join(self.a[2], self.a[3]))
        } else {
            Addr::V4(((self.a[0] >> 32) as u32).to_ne_bytes())
        }
    }
}

/// The ports of an ICMP echo message's key: the identifier is the port of the end that asks, and the end
/// that answers has port 0. So a request's key reversed is its reply's, and two hosts that ping each other
/// with the same identifier have two flows (unless that identifier is 0).
#[inline(always)]
pub fn echo_ports(is_request: bool, id: u16) -> (u16, u16) {
    if is_request { (id, 0) } else { (0, id) }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (IpAddr::from(self.src()), IpAddr::from(self.dst()));
        write!(f, "proto {} {src}#{} > {dst}#{}", self.proto().0, self.sport(), self.dport())?;
        if self.vrf() != 0 {
            write!(f, " vrf {}", self.vrf())?;
        }
        Ok(())
    }
}

#[inline(always)]
fn tail(proto: Proto, sport: u16, dport: u16) -> u64 {
    u64::from(sport) | u64::from(dport) << 16 | u64::from(proto.0) << 32
}

#[inline(always)]
fn halves(addr: [u8; 16]) -> [u64; 2] {
    let word = u128::from_ne_bytes(addr);
    // Little-endian machines only reach here (see the baseline in .cargo/config.toml).
    [word as u64, (word >> 64) as u64]
}

#[inline(always)]
fn join(low: u64, high: u64) -> [u8; 16] {
    (u128::from(low) | u128::from(high) << 64).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_back_what_they_were_made_of() {
        let k = FlowKey::v4([10, 1, 0, 10], [10, 2, 0, 10], Proto::TCP, 40_000, 80);
        assert_eq!(k.src(), Addr::V4([10, 1, 0, 10]));
        assert_eq!(k.dst(), Addr::V4([10, 2, 0, 10]));
        assert_eq!((k.sport(), k.dport(), k.proto(), k.is_v6()), (40_000, 80, Proto::TCP, false));
        assert_eq!(k.reversed(), FlowKey::v4([10, 2, 0, 10], [10, 1, 0, 10], Proto::TCP, 80, 40_000));
        assert_eq!(k.reversed().reversed(), k);

        let (s, d) = ([0xfd; 16], [0x20; 16]);
        let k = FlowKey::v6(s, d, Proto::UDP, 1, 2).with_vrf(7);
        assert_eq!((k.src(), k.dst(), k.vrf(), k.is_v6()), (Addr::V6(s), Addr::V6(d), 7, true));
        assert_eq!(k.reversed(), FlowKey::v6(d, s, Proto::UDP, 2, 1).with_vrf(7));
    }

    #[test]
    fn families_do_not_mix() {
        assert_eq!(FlowKey::new(Addr::V4([1; 4]), Addr::V6([1; 16]), Proto::UDP, 1, 2), None);
    }
}
