//! Routes: which port a packet leaves by, and whose link-layer address it needs.
//!
//! Longest-prefix match as of RFC 1812 §5.2.4.3, both families, built once per snapshot (decision 7) and
//! read on the new-session path: no allocation, a few cache lines. Whether a gateway can be reached is the
//! configuration's question.

pub(crate) mod lpm;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use wire::Addr;

use crate::ids::PortId;
use lpm::{Entry, Lpm4, Lpm6, PREFIXES_MAX};

/// Who gets the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gateway {
    /// The destination itself: it is on this port's link.
    OnLink,
    /// A router on this port's link.
    Via(Addr),
}

/// A route as it was configured, or as it follows from a port's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The destinations. Bits behind the prefix length are ignored.
    pub prefix: IpNet,
    /// The port to leave by.
    pub port: PortId,
    /// Who gets the frame.
    pub gateway: Gateway,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteHit {
    /// The port to leave by.
    pub port: PortId,
    /// The address to resolve: the gateway, or the destination itself.
    pub next_hop: Addr,
}

/// Why the routes cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RouteError {
    /// The same prefix twice.
    #[error("two routes to {prefix}: one {first}, the other {second}; remove one of them")]
    Duplicate {
        /// The prefix.
        prefix: IpNet,
        /// Where the first one leads, in words.
        first: String,
        /// Where the second one leads, in words.
        second: String,
    },
    /// An IPv6 gateway for an IPv4 prefix or the other way round.
    #[error(
        "route to {prefix} has the gateway {gateway}, which is of the other family; name a gateway of the prefix's family"
    )]
    GatewayFamily {
        /// The prefix.
        prefix: IpNet,
        /// The gateway.
        gateway: IpAddr,
    },
    /// More routes than the table numbers.
    #[error("{count} routes, at most {max} are possible; summarise prefixes", max = MAX_ROUTES)]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// The largest number of routes, both families together.
pub const MAX_ROUTES: usize = 1 << 20;

/// What the table's values point to; 0 means "no route" and has no hop.
///
/// The next hop is the destination where `keep` has ones and the gateway elsewhere: whether there is a
/// gateway differs from packet to packet, and a branch on it would often be guessed wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Hop {
    gateway: u128,
    keep: u128,
    port: PortId,
}

impl Hop {
    fn new(route: &Route) -> Self {
        let (gateway, keep) = match route.gateway {
            Gateway::OnLink => (0, u128::MAX),
            Gateway::Via(Addr::V4(octets)) => (u128::from(u32::from_ne_bytes(octets)), 0),
            Gateway::Via(Addr::V6(octets)) => (u128::from_ne_bytes(octets), 0),
        };
        Self { gateway, keep, port: route.port }
    }
}

/// The routing table of one snapshot.
#[derive(Clone, Debug)]
pub struct Routes {
    v4: Lpm4,
    v6: Lpm6,
    hops: Vec<Hop>,
    routes: Vec<Route>,
}

impl Routes {
    /// The table of these routes, in any order.
    pub fn build(routes: &[Route]) -> Result<Routes, RouteError> {
        if routes.len() > MAX_ROUTES {
            return Err(RouteError::TooMany { count: routes.len() });
        }
        let mut sorted: Vec<Route> =
            routes.iter().map(|r| Route { prefix: r.prefix.trunc(), ..*r }).collect();
        sorted.sort_by_key(|r| r.prefix);
        check(&sorted)?;

        let mut hops =
            Hops { list: vec![Hop { gateway: 0, keep: 0, port: PortId(0) }], places: HashMap::new() };
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for route in &sorted {
            let value = hops.place(route);
            match route.prefix {
                IpNet::V4(_) => v4.push(entry(&route.prefix, value)),
                IpNet::V6(_) => v6.push(entry(&route.prefix, value)),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Ok(Routes { v4: Lpm4::build(&v4, 0), v6: Lpm6::build(&v6, 0), hops: hops.list, routes: sorted })
    }

    /// Where packets for `dst` go; `None` if no prefix covers it.
    pub fn lookup(&self, dst: Addr) -> Option<RouteHit> {
        self.find(dst)
    }

    /// The same in line, for the path of new sessions.
    #[inline(always)]
    pub(crate) fn find(&self, dst: Addr) -> Option<RouteHit> {
        match dst {
            Addr::V4(octets) => {
                let hop = self.hop(self.v4.lookup(u32::from_be_bytes(octets)))?;
                let next_hop = hop.gateway as u32 | u32::from_ne_bytes(octets) & hop.keep as u32;
                Some(RouteHit { port: hop.port, next_hop: Addr::V4(next_hop.to_ne_bytes()) })
            }
            Addr::V6(octets) => {
                let hop = self.hop(self.v6.lookup(u128::from_be_bytes(octets)))?;
                let next_hop = hop.gateway | u128::from_ne_bytes(octets) & hop.keep;
                Some(RouteHit { port: hop.port, next_hop: Addr::V6(next_hop.to_ne_bytes()) })
            }
        }
    }

    #[inline(always)]
    fn hop(&self, value: u32) -> Option<&Hop> {
        if value == 0 { None } else { self.hops.get(value as usize) }
    }

    /// All routes, by prefix.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Route> {
        self.routes.iter()
    }

    /// What lookups read, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes() + size_of_val(self.hops.as_slice())
    }
}

/// The prefix as the longest-prefix match wants it.
pub(crate) fn entry(prefix: &IpNet, value: u32) -> Entry {
    let left = match prefix.network() {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    };
    Entry { left, len: u32::from(prefix.prefix_len()), value }
}

fn check(sorted: &[Route]) -> Result<(), RouteError> {
    for route in sorted {
        if let Gateway::Via(gateway) = route.gateway {
            let gateway = IpAddr::from(gateway);
            if gateway.is_ipv4() != route.prefix.network().is_ipv4() {
                return Err(RouteError::GatewayFamily { prefix: route.prefix, gateway });
            }
        }
    }
    match sorted.windows(2).find(|pair| pair[0].prefix == pair[1].prefix) {
        Some([first, second]) => Err(RouteError::Duplicate {
            prefix: first.prefix,
            first: describe(first),
            second: describe(second),
        }),
        _ => Ok(()),
    }
}

fn describe(route: &Route) -> String {
    match route.gateway {
        Gateway::OnLink => format!("on the link of port {}", route.port.0),
        Gateway::Via(gateway) => format!("via {} on port {}", IpAddr::from(gateway), route.port.0),
    }
}

/// Routes with the same port and gateway share a number, so that neighbouring ones merge.
struct Hops {
    list: Vec<Hop>,
    places: HashMap<Hop, u32>,
}

impl Hops {
    fn place(&mut self, route: &Route) -> u32 {
        let hop = Hop::new(route);
        let list = &mut self.list;
        *self.places.entry(hop).or_insert_with(|| {
            list.push(hop);
            (list.len() - 1) as u32
        })
    }
}

const _: () = assert!(MAX_ROUTES <= PREFIXES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn on_link(prefix: &str, port: u8) -> Route {
        Route { prefix: prefix.parse().unwrap(), port: PortId(port), gateway: Gateway::OnLink }
    }

    fn via(prefix: &str, port: u8, gateway: &str) -> Route {
        Route { gateway: Gateway::Via(addr(gateway)), ..on_link(prefix, port) }
    }

    fn lab() -> Vec<Route> {
        vec![
            on_link("10.1.0.1/24", 0),
            on_link("fd00:1::1/64", 0),
            on_link("10.2.0.0/24", 1),
            on_link("fd00:2::/64", 1),
            via("0.0.0.0/0", 1, "10.2.0.254"),
            via("10.3.0.0/16", 0, "10.1.0.9"),
            via("::/0", 1, "fd00:2::fe"),
        ]
    }

    #[test]
    fn the_longest_prefix_decides() {
        let routes = Routes::build(&lab()).unwrap();
        let cases = [
            ("10.1.0.10", 0, "10.1.0.10"),
            ("10.2.0.10", 1, "10.2.0.10"),
            ("10.3.7.1", 0, "10.1.0.9"),
            ("192.0.2.1", 1, "10.2.0.254"),
            ("fd00:1::10", 0, "fd00:1::10"),
            ("fd00:2::10", 1, "fd00:2::10"),
            ("fd00:1:0:1::1", 1, "fd00:2::fe"),
            ("2001:db8::1", 1, "fd00:2::fe"),
        ];
        for (dst, port, next_hop) in cases {
            let hit = RouteHit { port: PortId(port), next_hop: addr(next_hop) };
            assert_eq!(routes.lookup(addr(dst)), Some(hit), "{dst}");
        }
        assert_eq!(routes.iter().len(), 7);
    }

    #[test]
    fn without_a_default_route_there_is_no_way() {
        let routes = Routes::build(&lab()[..4]).unwrap();
        for dst in ["10.1.1.0", "10.0.255.255", "fd00:1:0:1::", "::", "255.255.255.255"] {
            assert_eq!(routes.lookup(addr(dst)), None, "{dst}");
        }
        assert_eq!(Routes::build(&[]).unwrap().lookup(addr("10.1.0.1")), None);
    }

    #[test]
    fn a_prefix_twice_is_an_error_that_names_both() {
        let mut routes = lab();
        routes.push(via("10.3.9.9/16", 1, "10.2.0.9"));
        let error = Routes::build(&routes).unwrap_err().to_string();
        let expected = "two routes to 10.3.0.0/16: one via 10.1.0.9 on port 0, the other via 10.2.0.9 on port 1; \
                        remove one of them";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_gateway_is_of_its_prefixes_family() {
        let error = Routes::build(&[via("10.0.0.0/8", 0, "fd00::1")]).unwrap_err();
        assert!(matches!(error, RouteError::GatewayFamily { .. }), "{error}");
    }

    /// Prefixes that crowd together, so that they nest and touch.
    fn prefixes() -> impl Strategy<Value = IpNet> {
        let v4 = (prop_oneof![Just(0x0a01_0000_u32), Just(0), any::<u32>()], any::<u32>(), 0_u8..=32);
        let v6 = (
            prop_oneof![
                Just(0x2001_0db8_u128 << 96),
                Just(0xfd00_0001_0000_0002_u128 << 64),
                Just(0),
                any::<u128>()
            ],
            any::<u128>(),
            0_u32..=128,
            0_u8..=128,
        );
        prop_oneof![
            v4.prop_map(|(base, noise, len)| {
                let bits = base ^ (noise & 0x0000_0303);
                IpNet::new(Ipv4Addr::from_bits(bits).into(), len).unwrap().trunc()
            }),
            v6.prop_map(|(base, noise, at, len)| {
                let bits = base ^ (noise & 0b101_u128.checked_shl(at).unwrap_or(0));
                IpNet::new(Ipv6Addr::from_bits(bits).into(), len).unwrap().trunc()
            }),
        ]
    }

    fn around(prefix: &IpNet) -> [Addr; 4] {
        match (prefix.network(), prefix.broadcast()) {
            (IpAddr::V4(low), IpAddr::V4(high)) => {
                let (low, high) = (low.to_bits(), high.to_bits());
                [low, high, low.wrapping_sub(1), high.wrapping_add(1)].map(|a| Addr::V4(a.to_be_bytes()))
            }
            (IpAddr::V6(low), IpAddr::V6(high)) => {
                let (low, high) = (low.to_bits(), high.to_bits());
                [low, high, low.wrapping_sub(1), high.wrapping_add(1)].map(|a| Addr::V6(a.to_be_bytes()))
            }
            _ => unreachable!("both ends of a prefix are of one family"),
        }
    }

    fn linear(routes: &[Route], dst: Addr) -> Option<RouteHit> {
        let covering = routes.iter().filter(|r| r.prefix.contains(&IpAddr::from(dst)));
        let longest = covering.max_by_key(|r| r.prefix.prefix_len())?;
        let next_hop = match longest.gateway {
            Gateway::OnLink => dst,
            Gateway::Via(gateway) => gateway,
        };
        Some(RouteHit { port: longest.port, next_hop })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn lookups_equal_a_linear_search(
            list in prop::collection::hash_set(prefixes(), 0..60),
            any4 in prop::collection::vec(any::<[u8; 4]>(), 16),
            any6 in prop::collection::vec(any::<[u8; 16]>(), 16),
        ) {
            let routes: Vec<Route> = list.iter().enumerate().map(|(i, &prefix)| {
                let gateway = match (i % 3, prefix) {
                    (0, _) => Gateway::OnLink,
                    (_, IpNet::V4(_)) => Gateway::Via(Addr::V4([10, 0, 0, i as u8])),
                    (_, IpNet::V6(_)) => Gateway::Via(Addr::V6([i as u8; 16])),
                };
                Route { prefix, port: PortId(i as u8 % 5), gateway }
            }).collect();
            let table = Routes::build(&routes).unwrap();
            let edges = list.iter().flat_map(around);
            let random = any4.into_iter().map(Addr::V4).chain(any6.into_iter().map(Addr::V6));
            for dst in edges.chain(random) {
                prop_assert_eq!(table.lookup(dst), linear(&routes, dst), "{:?}", dst);
            }
        }
    }
}
