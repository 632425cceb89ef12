//! The network around the firewall under test: three ports, three zones, a router on two of the links.
//!
//! ```text
//!   far ── router ─┐                              ┌─ gateway ── inner
//!                  ├─ WAN (port 1) ── fw ── LAN (port 0) ─┤
//!   server ────────┘                │             └─ client, second
//!                              DMZ (port 2) ── dmz
//! ```

use crate::ids::{GroupId, PortId, RuleId, ZoneId};
use crate::policy::{Action, Rule, Service, ZoneSet};
use crate::routes::{Gateway, Route};
use crate::snapshot::PortView;
use wire::craft::Frame;
use wire::tcp_flags::{ACK, SYN};
use wire::{Addr, MacAddr, Proto};

pub const LAN: PortId = PortId(0);
pub const WAN: PortId = PortId(1);
pub const DMZ: PortId = PortId(2);
/// All ports, in order. A port's zone has the port's number.
pub const PORTS: [PortId; 3] = [LAN, WAN, DMZ];

/// The zone behind a port.
pub fn zone(port: PortId) -> ZoneId {
    ZoneId(port.0)
}

/// The hosts of one family.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    pub v6: bool,
    /// On the LAN's link.
    pub client: Addr,
    /// Another host there.
    pub second: Addr,
    /// Behind `gateway`, a router on the LAN's link.
    pub inner: Addr,
    pub gateway: Addr,
    /// On the WAN's link.
    pub server: Addr,
    /// Behind `router`, on the WAN's link.
    pub far: Addr,
    pub router: Addr,
    /// On the DMZ's link.
    pub dmz: Addr,
    /// Nowhere: no route leads there.
    pub nowhere: Addr,
}

/// Both families.
pub fn nets() -> [Net; 2] {
    [net(false), net(true)]
}

pub fn net(v6: bool) -> Net {
    Net {
        v6,
        client: host(v6, 1, 10),
        second: host(v6, 1, 11),
        inner: host(v6, 9, 5),
        gateway: host(v6, 1, 254),
        server: host(v6, 2, 10),
        far: if v6 { Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]) } else { Addr::from([198, 51, 100, 7]) },
        router: host(v6, 2, 254),
        dmz: host(v6, 3, 10),
        nowhere: if v6 { Addr::from([0x2a00, 1, 0, 0, 0, 0, 0, 1]) } else { Addr::from([203, 0, 113, 1]) },
    }
}

impl Net {
    /// The firewall's own address on a port.
    pub fn own(&self, port: PortId) -> Addr {
        host(self.v6, port.0 + 1, 1)
    }
}

/// A host of a network: 10.N.0.H or fd00:N::H.
pub fn host(v6: bool, net: u8, host: u8) -> Addr {
    if v6 {
        Addr::from([0xfd00, u16::from(net), 0, 0, 0, 0, 0, u16::from(host)])
    } else {
        Addr::from([10, net, 0, host])
    }
}

/// The firewall's link-local address, the same on every port.
pub fn link_local() -> Addr {
    Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])
}

/// A neighbour's MAC address.
pub fn mac_of(addr: Addr) -> MacAddr {
    match addr {
        Addr::V4([_, net, _, host]) => MacAddr([2, 4, 0, 0, net, host]),
        Addr::V6([.., host]) if addr == link_local() => MacAddr([2, 6, 0xfe, 0x80, 0, host]),
        Addr::V6([_, _, a, b, .., c, d]) => MacAddr([2, 6, a, b, c, d]),
    }
}

/// The firewall's MAC address on a port.
pub fn port_mac(port: PortId) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0xf0, port.0])
}

/// The neighbour through which packets from or to `addr` go, by the picture above.
pub fn neighbour_of(addr: Addr) -> Addr {
    let all = nets();
    let net = &all[usize::from(matches!(addr, Addr::V6(_)))];
    let behind = |prefix: Addr, bytes: usize| match (addr, prefix) {
        (Addr::V4(a), Addr::V4(b)) => a[..bytes.min(4)] == b[..bytes.min(4)],
        (Addr::V6(a), Addr::V6(b)) => a[..bytes] == b[..bytes],
        _ => false,
    };
    match if net.v6 { 4 } else { 2 } {
        n if behind(net.inner, n) => net.gateway,
        n if behind(net.far, n) => net.router,
        _ => addr,
    }
}

pub fn ports() -> Vec<PortView> {
    let view = |port: PortId| PortView {
        zone: zone(port),
        mac: port_mac(port),
        mtu: 1_500,
        addresses: vec![net(false).own(port), link_local(), net(true).own(port)],
        broadcasts: vec![Addr::from([10, port.0 + 1, 0, 255])],
        virtual_mac: None,
        node_address: Vec::new(),
        partner_address: Vec::new(),
    };
    PORTS.map(view).to_vec()
}

/// The pair's MAC address: pair 7.
pub const VIRTUAL: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 7]);

/// The ports of a pair's node, 0 or 1: its own addresses end in 2 or 3, the partner's in the other one.
pub fn pair_ports(node: u8) -> Vec<PortView> {
    let of = |node: u8, port: usize| [false, true].map(|v6| host(v6, port as u8 + 1, 2 + node)).to_vec();
    let with_partner = |(at, view): (usize, PortView)| PortView {
        virtual_mac: Some(VIRTUAL),
        node_address: of(node, at),
        partner_address: of(1 - node, at),
        ..view
    };
    ports().into_iter().enumerate().map(with_partner).collect()
}

pub fn routes() -> Vec<Route> {
    let on_link = PORTS.into_iter().flat_map(|port| {
        let net = port.0 + 1;
        [format!("10.{net}.0.0/24"), format!("fd00:{net}::/64")].map(|prefix| Route {
            prefix: prefix.parse().unwrap(),
            port,
            gateway: Gateway::OnLink,
        })
    });
    let via = |prefix: &str, port, gateway| route(prefix, port, gateway);
    let [n4, n6] = nets();
    on_link
        .chain([
            via("198.51.100.0/24", WAN, n4.router),
            via("2001:db8::/32", WAN, n6.router),
            via("10.9.0.0/16", LAN, n4.gateway),
            via("fd00:9::/32", LAN, n6.gateway),
        ])
        .collect()
}

pub fn route(prefix: &str, port: PortId, gateway: Addr) -> Route {
    Route { prefix: prefix.parse().unwrap(), port, gateway: Gateway::Via(gateway) }
}

/// A rule between two zones that admits these services.
pub fn allow(name: &str, from: PortId, to: PortId, services: &[Service]) -> Rule {
    Rule {
        name: name.to_owned(),
        id: RuleId::from_name(name),
        from: zone(from).into(),
        to: zone(to).into(),
        source: Vec::new(),
        destination: Vec::new(),
        services: services.to_vec(),
        action: Action::Allow,
        log: false,
        replicate: true,
        sync_after_s: 0,
        group: GroupId(0),
    }
}

/// A rule from a zone to the firewall itself.
pub fn allow_self(name: &str, from: PortId, services: &[Service]) -> Rule {
    Rule { to: ZoneSet::from(ZoneId::SELF), ..allow(name, from, LAN, services) }
}

/// One port of TCP or UDP.
pub fn port(proto: Proto, port: u16) -> Service {
    Service::Ports { proto, low: port, high: port }
}

/// The lab's policy: what the LAN may open, and nothing the other way.
pub fn lab_rules() -> Vec<Rule> {
    let services = [
        Service::Proto(Proto::TCP),
        Service::Proto(Proto::UDP),
        Service::IcmpEcho,
        Service::Proto(Proto::GRE),
        Service::Proto(Proto(89)),
    ];
    vec![allow("lan-to-wan", LAN, WAN, &services)]
}

/// A pair of ports between two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub a: Addr,
    pub b: Addr,
    pub ports: (u16, u16),
}

impl Flow {
    /// From the client to the server of `net`, ports 40000 and 80.
    pub fn of(net: &Net) -> Self {
        Self::between(net.client, net.server, 40_000, 80)
    }

    pub fn between(a: Addr, b: Addr, sport: u16, dport: u16) -> Self {
        Self { a, b, ports: (sport, dport) }
    }

    /// The other end's view.
    pub fn reversed(self) -> Self {
        Self { a: self.b, b: self.a, ports: (self.ports.1, self.ports.0) }
    }

    /// A TCP segment from `a` to `b`.
    pub fn out(&self, flags: u8, seq: u32, ack: u32) -> Frame {
        Frame::tcp(self.a, self.b, self.ports.0, self.ports.1).flags(flags).seq(seq).ack(ack)
    }

    /// A TCP segment from `b` to `a`.
    pub fn back(&self, flags: u8, seq: u32, ack: u32) -> Frame {
        self.reversed().out(flags, seq, ack)
    }

    /// The first segment.
    pub fn syn(&self, seq: u32) -> Frame {
        self.out(SYN, seq, 0)
    }

    /// Its answer.
    pub fn syn_ack(&self, seq: u32, ack: u32) -> Frame {
        self.back(SYN | ACK, seq, ack)
    }

    /// A datagram from `a` to `b`.
    pub fn datagram(&self) -> Frame {
        Frame::udp(self.a, self.b, self.ports.0, self.ports.1).payload_len(100)
    }
}
