//! What surrounds every firewall under test: two zones, a policy, routes, neighbours that are there.

use crate::flows::{FIREWALL, NEIGHBOUR};
use engine::neighbour::{Adjacency, AdjacencyState, NeighbourTable, NextHop};
use engine::policy::generate::generate;
use engine::policy::{Action, Policy, Rule, RuleSlots, ZoneSet};
use engine::routes::{Gateway, Route, Routes};
use engine::track::Timeouts;
use engine::{PortId, PortView, RuleId, Snapshot, Steering, ZoneId};
use std::sync::Arc;
use wire::Addr;

/// The port of the initiators.
pub const LAN: PortId = PortId(0);
/// The port of the responders.
pub const WAN: PortId = PortId(1);

const LAN_GATEWAY: Addr = Addr::V4([192, 0, 2, 2]);
const WAN_GATEWAY: Addr = Addr::V4([198, 51, 100, 2]);
const LAN_GATEWAY6: Addr = Addr::V6([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
const WAN_GATEWAY6: Addr = Addr::V6([0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

/// The snapshot of a policy with so many rules, the last of which admits the traffic.
pub fn snapshot(rules: usize, timeouts: Timeouts) -> Result<Snapshot, Box<dyn std::error::Error>> {
    snapshot_for(1, rules, timeouts)
}

/// The same for so many workers.
pub fn snapshot_for(
    workers: u8,
    rules: usize,
    timeouts: Timeouts,
) -> Result<Snapshot, Box<dyn std::error::Error>> {
    let (lan, wan) = (ZoneId(0), ZoneId(1));
    let mut list = generate(7, rules.saturating_sub(1), 8);
    // The generated rules are asked like any others; those that match the bench's own traffic admit it.
    list.iter_mut().for_each(|rule| rule.action = Action::Allow);
    list.push(Rule {
        name: "bench".into(),
        id: RuleId::from_name("bench"),
        from: ZoneSet::from(lan),
        to: ZoneSet::from(wan),
        source: Vec::new(),
        destination: Vec::new(),
        services: Vec::new(),
        action: Action::Allow,
        log: false,
        replicate: true,
        sync_after_s: 0,
        group: engine::GroupId(0),
    });
    let policy = Policy::compile(&list, &mut RuleSlots::new())?;
    let route = |prefix: &str, port, gateway| -> Result<Route, Box<dyn std::error::Error>> {
        Ok(Route { prefix: prefix.parse()?, port, gateway: Gateway::Via(gateway) })
    };
    let routes = Routes::build(&[
        route("10.0.0.0/8", LAN, LAN_GATEWAY)?,
        route("0.0.0.0/0", WAN, WAN_GATEWAY)?,
        route("fd00:a::/32", LAN, LAN_GATEWAY6)?,
        route("::/0", WAN, WAN_GATEWAY6)?,
    ])?;
    let hop = |port| Adjacency::new(port, 1_500, FIREWALL, NEIGHBOUR, AdjacencyState::Resolved, 0);
    let neighbours = NeighbourTable::new(
        1,
        vec![hop(LAN), hop(WAN)],
        [(LAN, LAN_GATEWAY, 0), (WAN, WAN_GATEWAY, 1), (LAN, LAN_GATEWAY6, 0), (WAN, WAN_GATEWAY6, 1)]
            .map(|(port, addr, place)| (port, addr, NextHop::new(place, 0))),
    );
    let port = |zone| PortView {
        zone,
        mac: FIREWALL,
        mtu: 1_500,
        addresses: Vec::new(),
        broadcasts: Vec::new(),
        virtual_mac: None,
        node_address: Vec::new(),
        partner_address: Vec::new(),
    };
    Ok(Snapshot {
        generation: 1,
        ports: vec![port(lan), port(wan)].into(),
        policy: Arc::new(policy),
        routes: Arc::new(routes),
        neighbours: Arc::new(neighbours),
        timeouts,
        steering: steering(workers)?,
        pair: engine::snapshot::PairView::default(),
    })
}

/// Which worker a session belongs to.
pub fn steering(workers: u8) -> Result<Steering, Box<dyn std::error::Error>> {
    Ok(Steering::new(wire::ToeplitzKey::new(0x6d5a).ok_or("a key with bits")?, workers))
}
