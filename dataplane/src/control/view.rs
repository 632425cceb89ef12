//! From the daemon's insides to the control protocol's types.
//!
//! Figures of several workers are added up here, at the moment of the question; nothing is kept twice.

use super::core::{Core, DataPort, WorkerLink};
use super::names::DEFAULT_DENY;
use super::pair_view;
use crate::config::{action_text, service_text};
use engine::counters::{DropReason, Event, Refusal};
use engine::neighbour::AdjacencyState;
use engine::policy::Rule;
use engine::routes::Gateway;
use engine::track::Why;
use engine::{PortId, RuleId};
use ipnet::IpNet;
use std::time::Instant;

pub(super) fn status(core: &mut Core) -> proto::Status {
    let now = Instant::now();
    let ports = ports(core);
    proto::Status {
        node: core.config.node.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: pair_view::role(core),
        uptime_ms: now.duration_since(core.facts.started).as_millis() as u64,
        policy: proto::Policy {
            epoch: core.generation,
            rules: core.config.rules.len() as u32,
            last_reload: core.last_reload.clone(),
        },
        memory: proto::Memory { page_bytes: core.facts.page_bytes, table_bytes: core.facts.table_bytes },
        eal: proto::Eal { huge_pages: core.facts.eal_huge_pages },
        warnings: core.warnings(),
        workers: workers(core),
        ports,
        sessions: sessions(core),
        mbufs: proto::MbufUsage { in_use: core.pool.in_use().into(), total: core.pool.capacity().into() },
        pair: pair_view::pair(core),
    }
}

fn workers(core: &Core) -> Vec<proto::Worker> {
    let describe = |(id, worker): (usize, &WorkerLink)| proto::Worker {
        id: id as u32,
        cpu: worker.cpu.map(u32::from),
        polling: core.config.workers.polling.as_str().to_owned(),
        busy_permille: worker.busy.permille(),
        bursts: worker.stats.bursts(),
        packets: worker.stats.packets(),
        sessions: worker.counters.sessions().iter().sum(),
    };
    core.workers.iter().enumerate().map(describe).collect()
}

fn ports(core: &Core) -> Vec<proto::Port> {
    let describe = |((id, settings), data): ((PortId, &crate::config::Port), &DataPort)| {
        let stats = data.stats();
        let not_sent: u64 = core.workers.iter().map(|worker| worker.stats.not_sent(id)).sum();
        proto::Port {
            name: settings.name.clone(),
            device: settings.device.to_string(),
            zone: core.names.zone(settings.zone).to_owned(),
            mac: data.mac.to_string(),
            mtu: data.mtu.into(),
            link: data.link_up,
            addresses: settings.addresses.iter().map(IpNet::to_string).collect(),
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            rx_missed: stats.rx_missed + stats.rx_no_mbuf,
            tx_dropped: stats.tx_errors + not_sent,
        }
    };
    core.config.numbered_ports().zip(&core.ports).map(describe).collect()
}

fn sessions(core: &Core) -> proto::SessionUsage {
    let classes = core.workers.iter().fold([0; 4], |sum: [u64; 4], worker| {
        let now = worker.counters.sessions();
        std::array::from_fn(|class| sum[class] + now[class])
    });
    let [tcp, udp, icmp, other] = classes;
    proto::SessionUsage {
        in_use: classes.iter().sum(),
        capacity: core.shards.iter().map(|shard| u64::from(shard.slots())).sum(),
        half_open: core.workers.iter().map(|worker| worker.counters.half_open()).sum(),
        tcp,
        udp,
        icmp,
        other,
        relaxed: core.workers.iter().map(|worker| worker.counters.relaxed()).sum(),
        created_total: event(core, Event::Created),
        expired_total: event(core, Event::Expired),
        refused_full_total: dropped(core, Refusal::TableFull.into()),
    }
}

pub(super) fn event(core: &Core, event: Event) -> u64 {
    core.workers.iter().map(|worker| worker.counters.event(event)).sum()
}

fn dropped(core: &Core, reason: DropReason) -> u64 {
    let counted: u64 = core.workers.iter().map(|worker| worker.counters.drops(reason)).sum();
    // What a transmit queue did not take is the worker loop's to count, not the engine's.
    let unsent = if reason == DropReason::Engine(Refusal::TransmitFull) {
        core.workers.iter().map(|worker| worker.stats.not_sent_total()).sum()
    } else {
        0
    };
    counted + unsent
}

pub(super) fn counters(core: &Core) -> proto::Counters {
    let drops = DropReason::all()
        .map(|reason| proto::DropCounter {
            name: reason.name().to_owned(),
            meaning: reason.meaning().to_owned(),
            packets: dropped(core, reason),
        })
        .collect();
    let counter = |name: &str, meaning: &str, value| proto::Counter {
        name: name.to_owned(),
        meaning: meaning.to_owned(),
        value,
    };
    let events = Event::ALL.iter().map(|e| counter(e.name(), e.meaning(), event(core, *e)));
    let unlearned = Why::ALL.iter().map(|why| {
        let value = core.workers.iter().map(|worker| worker.counters.unlearned(*why)).sum();
        let meaning = format!("Passed without being learnt from: {}", why.meaning());
        counter(&format!("passed-{}", why.name()), &meaning, value)
    });
    let pending = core.workers.iter().map(|worker| worker.counters.pending()).sum();
    let mail_lost: u64 = core.workers.iter().map(|worker| worker.stats.lost_mail()).sum();
    let own = [
        counter("packets-pending", "Packets that wait for a neighbour's MAC address now.", pending),
        counter(
            "neighbours-refused",
            "Neighbours not remembered because there are too many.",
            core.neighbourhood.refused(),
        ),
        counter(
            "neighbour-questions-lost",
            "Questions for neighbours that could not be sent.",
            core.neighbourhood.unasked() + mail_lost,
        ),
        counter(
            "log-suppressed",
            "Session events left out of the log because there were too many.",
            core.events.suppressed_total(),
        ),
    ];
    let pair = core.partner.iter().flat_map(|partner| partner.counters());
    let pair = pair.map(|(name, meaning, value)| counter(name, meaning, value));
    proto::Counters { drops, other: events.chain(unlearned).chain(own).chain(pair).collect() }
}

pub(super) fn rules(core: &Core) -> proto::Rules {
    let mut rules: Vec<proto::Rule> = core.config.rules.iter().map(|rule| configured(core, rule)).collect();
    rules.push(default_deny(core));
    proto::Rules { epoch: core.generation, rules }
}

fn configured(core: &Core, rule: &Rule) -> proto::Rule {
    let hits = core.rule_hits(rule.id);
    let prefixes = |list: &[IpNet]| list.iter().map(IpNet::to_string).collect();
    proto::Rule {
        name: rule.name.clone(),
        id: rule.id.0,
        from: core.config.zone_names(rule.from),
        to: core.config.zone_names(rule.to),
        source: prefixes(&rule.source),
        destination: prefixes(&rule.destination),
        services: rule.services.iter().map(service_text).collect(),
        action: action_text(rule.action).to_owned(),
        log: rule.log,
        transparent_failover: rule.replicate,
        sync_after_s: rule.sync_after_s.into(),
        sessions_created: hits.sessions,
        packets_denied: hits.refused,
        last_hit_ms: hits.last_ms,
    }
}

fn default_deny(core: &Core) -> proto::Rule {
    let hits = core.rule_hits(RuleId::DEFAULT_DENY);
    proto::Rule {
        name: DEFAULT_DENY.to_owned(),
        id: RuleId::DEFAULT_DENY.0,
        from: Vec::new(),
        to: Vec::new(),
        source: Vec::new(),
        destination: Vec::new(),
        services: Vec::new(),
        action: "drop".to_owned(),
        log: false,
        transparent_failover: false,
        sync_after_s: 0,
        sessions_created: hits.sessions,
        packets_denied: hits.refused,
        last_hit_ms: hits.last_ms,
    }
}

pub(super) fn neighbours(core: &Core) -> proto::Neighbours {
    let now = core.clock.ticks(dpdk::cycles());
    let describe = |(port, addr, adjacency): (PortId, wire::Addr, &engine::neighbour::Adjacency)| {
        let known = adjacency.state == AdjacencyState::Resolved;
        proto::Neighbour {
            address: addr.into(),
            port: core.names.port(port).to_owned(),
            mac: known.then(|| adjacency.mac().to_string()),
            state: match adjacency.state {
                AdjacencyState::Incomplete => "incomplete",
                AdjacencyState::Resolved => "reachable",
                AdjacencyState::Failed => "failed",
            }
            .to_owned(),
            age_ms: core.neighbourhood.confirmed(port, addr).map(|when| now.since(when).into()),
        }
    };
    let mut neighbours: Vec<_> = core.snapshot.neighbours.iter().map(describe).collect();
    neighbours.sort_by(|a, b| (&a.port, a.address).cmp(&(&b.port, b.address)));
    proto::Neighbours { neighbours }
}

pub(super) fn routes(core: &Core) -> proto::Routes {
    let describe = |route: &engine::routes::Route| {
        let (via, source) = match route.gateway {
            Gateway::OnLink => (None, proto::RouteSource::Connected),
            Gateway::Via(gateway) => (Some(gateway.into()), proto::RouteSource::Static),
        };
        proto::Route {
            to: route.prefix.to_string(),
            via,
            port: core.names.port(route.port).to_owned(),
            source,
        }
    };
    proto::Routes { routes: core.snapshot.routes.iter().map(describe).collect() }
}
