//! Why a frame was refused: one variant a reason, so that a counter can name it (a firewall must say
//! *why*). The engine maps each to a drop reason.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident, $name:literal, $meaning:literal;)*) => {
        /// Why a frame cannot be described.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ParseError {
            $(#[doc = $meaning] $variant,)*
        }

        impl ParseError {
            /// Every reason, in order: `ALL[e as usize] == e`.
            pub const ALL: &'static [ParseError] = &[$(ParseError::$variant,)*];

            /// A stable name for counters.
            pub const fn name(self) -> &'static str {
                match self { $(ParseError::$variant => $name,)* }
            }

            /// What the reason means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(ParseError::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    TooShort, "too-short", "The frame ends before the headers that its type needs.";
    BadSourceMac, "bad-source-mac", "The link-layer source is a group address (IEEE 802.3 §3.2.3).";
    VlanTagged, "vlan-tagged", "The frame carries a VLAN tag on a port that expects none.";
    NotIpOrArp, "not-ip-or-arp", "The ethertype is neither IPv4, IPv6 nor ARP.";
    BadArp, "bad-arp", "ARP for something else than IPv4 over Ethernet, or an impossible sender (RFC 826).";
    BadIpVersion, "bad-ip-version", "The IP version contradicts the ethertype.";
    BadIpHeaderLen, "bad-ip-header-len", "The IPv4 header length is below 20 or beyond the packet (RFC 791 §3.1).";
    BadIpLen, "bad-ip-len", "The IP length is beyond the frame (truncated on the way) or below its own header.";
    BadIpChecksum, "bad-ip-checksum", "The IPv4 header checksum is wrong (RFC 1812 §5.2.2).";
    BadIpOptions, "bad-ip-options", "IPv4 options run beyond the header (RFC 791 §3.1).";
    SourceRouted, "source-routed", "Source route: an IPv4 LSRR or SSRR option (RFC 7126 §4.3), or an IPv6 routing header with segments left.";
    SourceAddress, "source-address", "No host may send from this address: multicast, broadcast, loopback, unspecified or reserved (RFC 1812 §5.3.7, RFC 6890).";
    DestinationAddress, "destination-address", "The destination may not appear on a link: loopback, unspecified, IPv4-mapped or interface-local (RFC 6890, RFC 4291 §2.7).";
    LandAttack, "land-attack", "Source and destination address are the same.";
    BadFragment, "bad-fragment", "A fragment that is empty, ends beyond 65,535 bytes, or whose length is no multiple of 8 though more follow (RFC 791 §3.2, RFC 8200 §4.5).";
    BadExtensionHeaders, "bad-extension-headers", "IPv6 extension headers: too many, too long, out of order, beyond the packet, or a routing header of type 0 (RFC 8200 §4, RFC 5095).";
    HeadersSplit, "headers-split", "The headers do not lie in the first segment: linearise and parse again.";
    BadTcpHeader, "bad-tcp-header", "The TCP data offset is below 20 bytes or beyond the packet (RFC 9293 §3.1).";
    BadTcpFlags, "bad-tcp-flags", "No TCP sends this combination of flags: none, SYN+FIN, SYN+RST, FIN without ACK and the like.";
    BadUdpLen, "bad-udp-len", "The UDP length is below 8 or beyond the packet (RFC 768).";
    BadIcmp, "bad-icmp", "The ICMP message is shorter than its type needs, or an error quotes too little (RFC 792, RFC 4443 §3).";
    BadNeighbourDiscovery, "bad-neighbour-discovery", "A neighbour discovery message came from another link or has an impossible length (RFC 4861 §7.1).";
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_names_and_index_themselves() {
        for (i, e) in ParseError::ALL.iter().enumerate() {
            assert_eq!(*e as usize, i);
            assert!(ParseError::ALL.iter().filter(|o| o.name() == e.name()).count() == 1, "{}", e.name());
        }
    }
}
