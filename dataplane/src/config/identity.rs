//! What must be equal on both nodes of a pair, as numbers that heartbeats can carry.
//!
//! Sessions are bound by rule, zone and port: a node with other rules would let through what the partner
//! refused, one with swapped ports would install sessions into the wrong zones. So both nodes hash the
//! part of the configuration that gives sessions their meaning, compare it continuously, and a standby
//! whose hash differs is not ready. There is a hash for each [`Area`], so that an alarm can name what
//! differs, and one over all of them.
//!
//! # The serialisation
//! Numbers are eight bytes, big-endian. A text is its length as a number, then its UTF-8 bytes. A list is
//! its length as a number, then its items. Each area begins with the text `understudy 1 ` and its name;
//! its fields follow in the order in which [`Config::pair_areas`] writes them. Lists whose order means
//! nothing (prefixes and services of a rule, routes) are sorted. The hash is the first eight bytes of the
//! SHA-256 digest, big-endian. Whatever changes here must change the `1`.
//!
//! Not hashed is what may differ: `[node]`, `[log]`, `[eal]`, `[workers]`, `[sessions]`, devices (network
//! cards may be of different models), keys, the nodes' own addresses, sync links, and the settings of
//! `[pair]` that steer one node's decisions, for a rolling restart has to be able to change them.

use super::{Config, PairSettings, action_text, service_text};
use engine::policy::Rule;
use engine::track::Timeouts;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use sync::heartbeat::{Areas, MAX_AREAS};

/// A part of what must be equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Area {
    /// `[[rule]]`, in order.
    Rules = 0,
    /// The zone of each port.
    Zones = 1,
    /// Names, shared addresses and MTU of the ports, in order.
    Ports = 2,
    /// `[[route]]`.
    Routes = 3,
    /// `[timeouts]`.
    Timeouts = 4,
    /// Pair id, steering key, heartbeat times.
    Pair = 5,
}

impl Area {
    /// All of them.
    pub const ALL: [Area; 6] =
        [Area::Rules, Area::Zones, Area::Ports, Area::Routes, Area::Timeouts, Area::Pair];

    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Area::Rules => "rules",
            Area::Zones => "zones",
            Area::Ports => "ports",
            Area::Routes => "routes",
            Area::Timeouts => "timeouts",
            Area::Pair => "pair",
        }
    }

    /// Those of a difference between the nodes that this release knows.
    pub fn of(areas: Areas) -> impl Iterator<Item = Area> {
        Area::ALL.into_iter().filter(move |area| areas.contains(*area as u8))
    }

    /// Whether a session of the partner would be installed into a zone that means something else here.
    pub fn changes_zones(areas: Areas) -> bool {
        Area::of(areas).any(|area| matches!(area, Area::Zones | Area::Ports))
    }
}

const _: () = assert!(Area::ALL.len() <= MAX_AREAS);

/// A hash for each area, in the order of [`Area::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AreaHashes(pub [u64; Area::ALL.len()]);

impl AreaHashes {
    /// One hash over all of them.
    pub fn all(&self) -> u64 {
        let mut canon = Canon::new("all");
        self.0.iter().for_each(|hash| canon.number(*hash));
        canon.finish()
    }

    /// As heartbeats carry them: half of each hash is enough to name what differs.
    pub fn short(&self) -> sync::heartbeat::AreaHashes {
        sync::heartbeat::AreaHashes::new(&self.0.map(|hash| (hash >> 32) as u32)).unwrap_or_default()
    }
}

impl Config {
    /// The hash over all that must be equal on both nodes.
    pub fn pair_hash(&self) -> u64 {
        self.pair_areas().all()
    }

    /// The same for each area.
    pub fn pair_areas(&self) -> AreaHashes {
        AreaHashes(Area::ALL.map(|area| {
            let mut canon = Canon::new(area.name());
            match area {
                Area::Rules => canon.list(&self.rules, |canon, rule| self.write_rule(canon, rule)),
                Area::Zones => canon.list(&self.ports, |canon, port| canon.text(self.zone_name(port.zone))),
                Area::Ports => canon.list(&self.ports, |canon, port| {
                    canon.text(&port.name);
                    canon.list(&port.addresses, |canon, address| canon.text(&address.to_string()));
                    canon.number(port.mtu.into());
                }),
                Area::Routes => self.write_routes(&mut canon),
                Area::Timeouts => write_timeouts(&mut canon, &self.timeouts),
                Area::Pair => canon.list(self.pair.as_slice(), write_pair),
            }
            canon.finish()
        }))
    }

    fn write_rule(&self, canon: &mut Canon, rule: &Rule) {
        canon.text(&rule.name);
        for zones in [rule.from, rule.to] {
            canon.sorted(self.zone_names(zones));
        }
        for prefixes in [&rule.source, &rule.destination] {
            canon.sorted(prefixes.iter().map(IpNet::to_string).collect());
        }
        canon.sorted(rule.services.iter().map(service_text).collect());
        canon.text(action_text(rule.action));
        canon.number(rule.log.into());
        canon.number(rule.replicate.into());
        canon.number(rule.sync_after_s.into());
        canon.number(rule.group.0.into());
    }

    fn write_routes(&self, canon: &mut Canon) {
        let text = |route: &super::StaticRoute| {
            let port = self.ports.get(usize::from(route.port.0)).map_or("?", |port| &port.name);
            format!("{} via {} on {port}", route.to, route.via)
        };
        canon.sorted(self.static_routes.iter().map(text).collect());
    }
}

fn write_timeouts(canon: &mut Canon, timeouts: &Timeouts) {
    let Timeouts {
        tcp_syn_ms,
        tcp_established_ms,
        tcp_closing_ms,
        tcp_time_wait_ms,
        tcp_close_ms,
        udp_new_ms,
        udp_ms,
        icmp_ms,
        other_new_ms,
        other_ms,
    } = *timeouts;
    let all = [
        tcp_syn_ms,
        tcp_established_ms,
        tcp_closing_ms,
        tcp_time_wait_ms,
        tcp_close_ms,
        udp_new_ms,
        udp_ms,
        icmp_ms,
        other_new_ms,
        other_ms,
    ];
    all.into_iter().for_each(|ms| canon.number(ms.into()));
}

fn write_pair(canon: &mut Canon, pair: &PairSettings) {
    canon.number(pair.id.0.into());
    canon.number(pair.steering_key.into());
    canon.number(pair.heartbeat.interval_ms.into());
    canon.number(pair.heartbeat.misses.into());
}

/// Writes the serialisation straight into the hash.
struct Canon(Sha256);

impl Canon {
    fn new(area: &str) -> Self {
        let mut canon = Self(Sha256::new());
        canon.text(&format!("understudy 1 {area}"));
        canon
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }

    fn sorted(&mut self, mut texts: Vec<String>) {
        texts.sort_unstable();
        self.list(&texts, |canon, text| canon.text(text));
    }

    fn finish(self) -> u64 {
        let digest = self.0.finalize();
        digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }
}
