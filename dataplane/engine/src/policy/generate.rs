//! Rule sets and questions for benches and tests: the same ones for the same seed, everywhere.
//!
//! Figures about a classifier mean nothing without the rules that they were taken with (decision 9). This
//! is the distribution, fixed; a change makes older figures incomparable.
//!
//! | part | distribution |
//! | --- | --- |
//! | from, to | 85 % one zone, 10 % two, 5 % any zone but the firewall; `to` is the firewall itself in 5 % |
//! | family | 65 % IPv4, 30 % IPv6, 5 % both (no prefixes on either side) |
//! | source | 30 % any, else 1 prefix (70 %) or 2 to 6 |
//! | destination | 15 % any, else the same |
//! | IPv4 prefix | 80 % in 10.0.0.0/8, clustered in 16 sites of /16, 5 % in 192.168.0.0/16, 15 % anywhere |
//! | its length | /8 4 %, /16 16 %, /20 to /23 10 %, /24 35 %, /25 to /31 10 %, /32 25 % |
//! | IPv6 prefix | 70 % under 2001:db8:site::/48 in 16 sites, 15 % fd00::/8, 15 % 2000::/3 |
//! | its length | /32 5 %, /48 20 %, /56 10 %, /64 40 %, /128 25 % |
//! | services | 12 % any, but none if more than one of the four above is; else 1 (60 %) or 2 to 4 |
//! | a service | 45 % a TCP port, 20 % a UDP port, 15 % a TCP range, 8 % a UDP range, 2 % SCTP, 5 % echo, 5 % a protocol |
//! | ports | half of them among 16 well-known ones, half anywhere; ranges span 2 to 1,024 |
//! | action | 75 % allow, 20 % drop, 5 % reject |
//!
//! Questions: three in four are made to satisfy one of the rules, drawn evenly (an earlier one may still
//! decide), one in four is drawn like the rules' own values, and mostly ends at default deny.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use wire::{FlowKey, Proto};

use super::rule::{Action, Query, Rule, Service, ZoneSet};
use crate::ids::{GroupId, RuleId, ZoneId};

const WELL_KNOWN: [u16; 16] = [22, 25, 53, 80, 110, 123, 143, 161, 389, 443, 445, 514, 993, 3306, 3389, 8080];
const PORTLESS: [Proto; 5] = [Proto::ICMP, Proto::ICMP6, Proto::GRE, Proto::ESP, Proto(89)];
const SITES: u32 = 16;

/// A small generator of pseudo-random numbers (splitmix64): same seed, same numbers, on every machine.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The generator that starts with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// The place at which a throw of 100 falls among these shares, which add up to 100 at most; their
    /// count if behind them.
    fn share(&mut self, shares: &[u32]) -> usize {
        let throw = self.below(100);
        let mut end = 0;
        shares
            .iter()
            .position(|share| {
                end += share;
                throw < end
            })
            .unwrap_or(shares.len())
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }
}

/// `rules` rules among `zones` zones (1 to 255), named `r0`, `r1`, ….
pub fn generate(seed: u64, rules: usize, zones: u8) -> Vec<Rule> {
    let mut rng = SplitMix::new(seed);
    (0..rules).map(|number| rule(&mut rng, format!("r{number}"), zones.clamp(1, 255))).collect()
}

/// `count` questions for `rules`, which are among `zones` zones.
pub fn queries(seed: u64, rules: &[Rule], zones: u8, count: usize) -> Vec<Query> {
    let mut rng = SplitMix::new(seed ^ 0x51);
    let zones = zones.clamp(1, 255);
    (0..count)
        .map(|_| {
            let aimed = !rules.is_empty() && rng.below(4) != 0;
            let rule = if aimed {
                rules[rng.below(rules.len() as u32) as usize].clone()
            } else {
                rule(&mut rng, String::new(), zones)
            };
            query_for(&mut rng, &rule, zones)
        })
        .collect()
}

fn rule(rng: &mut SplitMix, name: String, zones: u8) -> Rule {
    let family = rng.share(&[65, 30]);
    let mut side = |any: u32| {
        if family == 2 || rng.below(100) < any {
            return Vec::new();
        }
        let count = if rng.below(100) < 70 { 1 } else { 2 + rng.below(5) };
        (0..count).map(|_| if family == 0 { prefix_v4(rng) } else { prefix_v6(rng) }).collect()
    };
    let (source, destination) = (side(30), side(15));
    let from = zone_set(rng, zones);
    let to = if rng.below(100) < 5 { ZoneId::SELF.into() } else { zone_set(rng, zones) };
    let open = [from == ZoneSet::TRANSIT, to == ZoneSet::TRANSIT, source.is_empty(), destination.is_empty()];
    let open = open.into_iter().filter(|&any| any).count();
    let services = match rng.below(100) {
        0..12 if open < 2 => Vec::new(),
        0..65 => vec![service(rng)],
        _ => (0..2 + rng.below(3)).map(|_| service(rng)).collect(),
    };
    Rule {
        id: RuleId::from_name(&name),
        name,
        from,
        to,
        source,
        destination,
        services,
        action: [Action::Allow, Action::Drop, Action::Reject][rng.share(&[75, 20])],
        log: rng.below(10) == 0,
        replicate: rng.below(10) != 0,
        sync_after_s: if rng.below(10) == 0 { 5 } else { 0 },
        group: GroupId(0),
    }
}

fn zone_set(rng: &mut SplitMix, zones: u8) -> ZoneSet {
    let mut zone = || ZoneId(rng.below(u32::from(zones)) as u8);
    let (first, second) = (zone(), zone());
    match rng.share(&[85, 10]) {
        0 => first.into(),
        1 => ZoneSet::from(first).with(second),
        _ => ZoneSet::TRANSIT,
    }
}

fn prefix_v4(rng: &mut SplitMix) -> IpNet {
    let bits = rng.bits() as u32;
    let address = match rng.share(&[80, 5]) {
        0 => 0x0a00_0000 | rng.below(SITES) << 16 | bits & 0xffff,
        1 => 0xc0a8_0000 | bits & 0xffff,
        _ => bits,
    };
    let len = match rng.share(&[4, 16, 10, 35, 10]) {
        0 => 8,
        1 => 16,
        2 => 20 + rng.below(4) as u8,
        3 => 24,
        4 => 25 + rng.below(7) as u8,
        _ => 32,
    };
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(address), len)).trunc()
}

fn prefix_v6(rng: &mut SplitMix) -> IpNet {
    let subnet = u128::from(rng.below(256)) << 64;
    let host = u128::from(rng.bits());
    let address = match rng.share(&[70, 15]) {
        0 => 0x2001_0db8_u128 << 96 | u128::from(rng.below(SITES)) << 80 | subnet | host & 0xffff,
        1 => 0xfd_u128 << 120 | u128::from(rng.bits() & 0xff_ffff_ffff) << 80 | subnet | host,
        _ => 1_u128 << 125 | u128::from(rng.bits() >> 3) << 64 | host,
    };
    let len = [32, 48, 56, 64, 128][rng.share(&[5, 20, 10, 40])];
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), len)).trunc()
}

fn service(rng: &mut SplitMix) -> Service {
    let single = |rng: &mut SplitMix, proto| {
        let port = port(rng);
        Service::Ports { proto, low: port, high: port }
    };
    let range = |rng: &mut SplitMix, proto| {
        let low = port(rng);
        Service::Ports { proto, low, high: low.saturating_add(1 + rng.below(1023) as u16) }
    };
    match rng.share(&[45, 20, 15, 8, 2, 5]) {
        0 => single(rng, Proto::TCP),
        1 => single(rng, Proto::UDP),
        2 => range(rng, Proto::TCP),
        3 => range(rng, Proto::UDP),
        4 => single(rng, Proto::SCTP),
        5 => Service::IcmpEcho,
        _ => Service::Proto(rng.pick(&PORTLESS)),
    }
}

fn port(rng: &mut SplitMix) -> u16 {
    if rng.below(2) == 0 { rng.pick(&WELL_KNOWN) } else { rng.below(1 << 16) as u16 }
}

/// A question that `rule` matches.
fn query_for(rng: &mut SplitMix, rule: &Rule, zones: u8) -> Query {
    let sided =
        |list: &[IpNet], v6: bool| list.is_empty() || list.iter().any(|p| matches!(p, IpNet::V6(_)) == v6);
    let possible = |v6| sided(&rule.source, v6) && sided(&rule.destination, v6);
    let v6 = match (possible(false), possible(true)) {
        (true, true) => rng.below(4) == 0,
        (_, v6) => v6,
    };
    let (source, destination) = (address(rng, &rule.source, v6), address(rng, &rule.destination, v6));
    let (proto, dport, echo) = match rule.services.get(rng.below(rule.services.len().max(1) as u32) as usize)
    {
        Some(&Service::Ports { proto, low, high }) => {
            let span = u32::from(high.saturating_sub(low)) + 1;
            (proto, low.saturating_add(rng.below(span) as u16), false)
        }
        Some(&Service::Proto(proto)) => (proto, 0, false),
        Some(Service::IcmpEcho) => (if v6 { Proto::ICMP6 } else { Proto::ICMP }, 0, true),
        Some(Service::Any) | None => {
            (if rng.below(4) == 0 { Proto::UDP } else { Proto::TCP }, port(rng), false)
        }
    };
    let sport = if echo { 0 } else { rng.below(1 << 16) as u16 };
    let key = if v6 {
        FlowKey::v6(source.to_be_bytes(), destination.to_be_bytes(), proto, sport, dport)
    } else {
        let octets = |address: u128| ((address >> 96) as u32).to_be_bytes();
        FlowKey::v4(octets(source), octets(destination), proto, sport, dport)
    };
    Query { from: zone_in(rng, rule.from, zones), to: zone_in(rng, rule.to, zones), key, echo }
}

/// An address of the list, in the upper bits for IPv4.
fn address(rng: &mut SplitMix, list: &[IpNet], v6: bool) -> u128 {
    let of_family: Vec<&IpNet> = list.iter().filter(|p| matches!(p, IpNet::V6(_)) == v6).collect();
    let prefix = match of_family.is_empty() {
        true if v6 => prefix_v6(rng),
        true => prefix_v4(rng),
        false => *rng.pick(&of_family),
    };
    let entry = crate::routes::entry(&prefix, 0);
    let noise = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
    entry.left | noise.checked_shr(entry.len).unwrap_or(0)
}

fn zone_in(rng: &mut SplitMix, set: ZoneSet, zones: u8) -> ZoneId {
    if set.contains(ZoneId::SELF) && !set.contains(ZoneId(0)) {
        return ZoneId::SELF;
    }
    let start = rng.below(u32::from(zones));
    let candidates = (start..u32::from(zones)).chain(0..start).map(|zone| ZoneId(zone as u8));
    candidates.into_iter().find(|&zone| set.contains(zone)).unwrap_or(ZoneId::SELF)
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rules() {
        assert_eq!(generate(7, 50, 8), generate(7, 50, 8));
        assert_ne!(generate(7, 50, 8), generate(8, 50, 8));
        // splitmix64 as published: the first number of seed 0.
        assert_eq!(SplitMix::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn most_questions_meet_a_rule() {
        let rules = generate(1, 200, 8);
        let queries = queries(2, &rules, 8, 4000);
        let met = queries.iter().filter(|q| oracle::first_match(&rules, q).is_some()).count();
        assert!((3000..4000).contains(&met), "{met}");
        let v6 = queries.iter().filter(|q| q.key.is_v6()).count();
        assert!((600..1600).contains(&v6), "{v6}");
    }
}
